#!/usr/bin/env python3
"""Does a run that is really distributed take what the simulation says? Two agents, one shaped link, predicted and run.

python scripts/two_agents.py [SCENARIO] [--set PATH=VALUE]... [--policy sync] [--rate MBIT/S] [--delay MS] [--trials 3]
                             [--no-namespaces] [--json] [--plot FILE] [--csv FILE]

Each chip is an agent in a network namespace of its own, and their link is shaped; where namespaces are not allowed all
runs on loopback and nothing is shaped. First the agents' own step times go through the simulation, then the same policy
really has every step executed and every message sent.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.boards import require_real
from hilsim.hardware.distributed.measured_run import measure_run
from hilsim.hardware.measured.rig import Rig
from hilsim.progress import saying
from hilsim.runs.transcripts import transcript_for
from hilsim.show.distributed import distributed, draw_distributed, sentences, table_of, write_distributed
from hilsim.show.grid_tables import terminal
from hilsim.sources.transcript import TranscriptSource, load
from hilsim.study.sweeps import drafting
from hilsim.text.tokenizer import load_tokenizer
from scripts.arguments import numbers, one, question
from scripts.loopback.namespaces import Shape, refusal
from scripts.loopback.testbed import settings, venue

OWN = {
    "target_only": "",
    "sync": ", draft_tokens: 4",
    "adaptive": ", draft_tokens: 4",
    "async": ", min_batch: 2, max_ahead: 8",
    "pipelined": ", draft_tokens: 4",
    "prompt_lookup": ", draft_tokens: 4",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "two_agents")
    parser.add_argument("--policy", choices=OWN, help="instead of the scenario's own")
    parser.add_argument("--rate", type=between(0.01, 1e5), metavar="MBIT/S", default=100.0, help="of the link (100)")
    parser.add_argument("--delay", type=between(0, 1e4), metavar="MS", default=1.0, help="of the link, one way (1)")
    parser.add_argument("--trials", type=one(1, 100), metavar="N", default=3, help="of which the medians count (3)")
    parser.add_argument("--no-namespaces", action="store_true", help="all on loopback, and nothing shaped")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(arguments)
    require_outputs(options)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is tidied up
    policy = [] if options.policy is None else [f"policy={{name: {options.policy}{OWN[options.policy]}}}"]
    sets = [*options.set, *policy]
    setup = drafting(options.scenario, sets)
    require_real(setup)
    source = words_of(setup)
    with venue(stand_ins(setup), shape_of(options)) as place:
        there = load_compiled(options.scenario, [*sets, *settings(place, setup)])
        with Rig.open(there) as rig:
            trials = [measure_run(there, rig, place.ends, source) for _ in range(options.trials)]
        found = distributed(there, trials, place.shaped_by)
    if options.json:
        print(json.dumps({"distributed": found}, indent=2, allow_nan=False))
    else:
        console = terminal()
        console.print(table_of(found))
        for sentence in sentences(found):
            console.print(f"\n{sentence}")
    title = f"{setup.scenario.name}, {setup.scenario.policy.name}: predicted, and really run"
    write_outputs(
        options,
        lambda path, kind: draw_distributed(there, trials[-1], title, path, kind),
        lambda file: write_distributed(found, file),
    )
    return 1 if found["words"]["mismatches"] else 0


def between(low: float, high: float) -> Callable[[str], float]:
    """A single number."""
    several = numbers(low, high)

    def read(text: str) -> float:
        found = several(text)
        if len(found) > 1:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected one number")
        return found[0]

    return read


def shape_of(options: argparse.Namespace) -> Shape | None:
    """What the link is to be, or None where it cannot be anything but loopback."""
    if options.no_namespaces:
        return None
    if why := refusal():
        print(f"no namespaces here ({why}): all on loopback, and nothing is shaped", file=sys.stderr)
        return None
    return Shape(1e6 * options.rate, options.delay / 1e3)


def stand_ins(setup: Setup) -> dict[str, Path]:
    """What each agent runs."""
    return {role: placed.stand_in for role, placed in setup.roles.items() if placed.stand_in is not None}


def words_of(setup: Setup) -> Callable[[], TranscriptSource]:
    """Sources that have all words at hand: a distributed run has no time to look for them."""
    with saying("recording") as say:
        transcript = load(transcript_for(setup, say))
    folder = setup.target.stand_in
    assert folder is not None, "live words without a stand-in"
    tokenizer = load_tokenizer(folder)
    return lambda: TranscriptSource(transcript, tokenizer)


if __name__ == "__main__":
    sys.exit(guarded(main))
