"""`train`: Train tokenizer, target and drafts from the corpus, or forecast tokens alone."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import MOST_SEED, Commands, folder, place, whole


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("train", help="train tokenizer, target and drafts from the corpus")
    parser.add_argument("--out", metavar="DIR", type=place, required=True, help="where the checkpoint folders go")
    parser.add_argument(
        "--corpus", metavar="DIR", type=folder, default="models/corpus", help="the dialogues (models/corpus)"
    )
    parser.add_argument("--work", metavar="DIR", type=place, help="where unfinished work is stored (default: OUT/work)")
    parser.add_argument("--seed", metavar="N", type=whole(0, MOST_SEED), default=1, help="seed of all draws (1)")
    parser.add_argument("--quick", action="store_true", help="train only a few steps, to test that it runs")
    parser.add_argument(
        "--forecasts", action="store_true", help="train only the forecast tokens of policy ssd, for the target in DIR"
    )
    parser.add_argument("--float32", action="store_true", help="for processors without bfloat16; about twice the time")


def run(options: argparse.Namespace) -> int:
    """Train; stops at Ctrl-C and goes on from there."""
    from dataclasses import replace

    from hilsim.training import forecasts, recipe

    work = options.work or options.out / "work"
    if options.forecasts:
        steps = forecasts.QUICK if options.quick else forecasts.FULL
        forecasts.train_forecasts(options.corpus, options.out, work, seed=options.seed, recipe=steps, notify=print)
        return 0
    chosen = recipe.QUICK if options.quick else recipe.FULL
    chosen = replace(chosen, bfloat16=False) if options.float32 else chosen
    recipe.train(options.corpus, options.out, work, seed=options.seed, recipe=chosen, notify=print)
    return 0
