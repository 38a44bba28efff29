#!/usr/bin/env python3
"""Does the ranking survive what the chips' figures leave open? Contenders replayed under the same draws of them.

python scripts/ranking.py [SCENARIO] [--set PATH=VALUE]... [--contender "KEY=VALUE ..."]... [--draws N] [--seed N]
                          [--plot FILE] [--csv FILE]

Every figure with a range is drawn, below its value as often as above it; each draw holds for all contenders.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.app_replay import forget_prices, numbers_of
from hilsim.cli import guarded
from hilsim.errors import Fault, ScenarioError
from hilsim.show.comparison import plain
from hilsim.show.curves import BLACK_AND, finished, level_line, sheet
from hilsim.show.inputs import one, question
from hilsim.show.outputs import require_outputs, write_outputs
from hilsim.show.progress import counting
from hilsim.show.sweeps import plain_table, print_refused, telling, terminal, times, write_csv
from hilsim.show.words import percent
from hilsim.study.contest import Contest, drawn_for, standings
from hilsim.study.sweeps import Point, drafting, loaded, point

CONTENDERS = (
    "policy={name: sync, draft_tokens: 3}",
    "policy={name: sync, draft_tokens: 5}",
    "policy={name: sync, draft_tokens: 7}",
    "policy={name: sync, draft_tokens: 10}",
    "policy={name: adaptive, rule: expected}",
    "policy={name: async, min_batch: 4}",
    "policy={name: pearl, draft_tokens: 4}",
    "policy={name: pipelined, draft_tokens: 4}",
)
SURE = 0.9  # of the draws: then the ranking is said to hold


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument(
        "--contender", type=settings, action="append", metavar="KEY=VALUE ...",
        help="values of --set, quoted together; repeatable (default: a handful of policies)",
    )  # fmt: skip
    parser.add_argument("--draws", type=one(2, 10**5), default="200", help="sets of figures (default 200)")
    parser.add_argument("--seed", type=one(0, 2**32), default="1", help="of the draws (default 1)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    drafting(options.scenario, options.set)
    contenders = options.contender or [(text,) for text in CONTENDERS]
    say = telling("recording what the scenario's models say")
    nominal = [
        point({"contender": named(sets)}, loaded(options.scenario, [*options.set, *sets]), lambda s: numbers_of(s, say))
        for sets in contenders
    ]
    ran = sorted((each for each in nominal if not each.why), key=lambda each: -each.speedup)
    if len(ran) < 2:
        reasons = "; ".join(each.why for each in nominal if each.why)
        found = f"{len(ran)} contenders that run" + (f" ({reasons})" if reasons else "")
        raise ScenarioError([Fault(str(options.scenario), "--contender", found, "two at least")])
    setups = [each.setup for each in ran if each.setup is not None]
    drawn, speeds = drawn_for(setups, options.draws, options.seed), []
    for changed in counting("draws", drawn.setups(), options.draws):
        speeds.append([numbers_of(setup)["speedup"] or 0.0 for setup in changed])
        forget_prices()
    contest = standings(np.array(speeds))
    console = terminal()
    console.print(table_of(ran, contest))
    console.print(
        f"{options.draws} draws of {len(drawn.ranged)} figures with a range; interval: 5 % to 95 % of them; "
        "beats next: in how\nmany draws",
        style="dim",
    )
    print_refused(console, nominal, ("contender",))
    console.print(f"\n{verdict(ran, contest)}")
    points = [
        each.adding(
            low=contest.low[place],
            median=contest.median[place],
            high=contest.high[place],
            first=contest.ranks[place, 0],
        )
        for place, each in enumerate(ran)
    ]
    title = f"does the ranking survive the error bars? ({options.draws} draws of {len(drawn.ranged)} figures)"
    write_outputs(
        options,
        lambda path, kind: draw(ran, contest, title, path, kind),
        lambda file: write_csv(
            [*points, *(each for each in nominal if each.why)], file, "low", "median", "high", "first"
        ),
    )
    return 0


def settings(text: str) -> tuple[str, ...]:
    """Values of --set in one argument; braces and brackets hold a value together."""
    try:
        found = tuple(joined(shlex.split(text)))
    except ValueError:
        found = ()
    if not found or not all("=" in part.split("{")[0] for part in found):
        expected = "KEY=VALUE ..., such as 'policy.draft_tokens=7 link=1000base-t1'"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return found


def joined(words: Sequence[str]) -> list[str]:
    """Words put together again until their brackets are closed."""
    found: list[str] = []
    for word in words:
        opened = bool(found) and sum(found[-1].count(o) - found[-1].count(c) for o, c in ("{}", "[]")) > 0
        if opened:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def named(sets: Sequence[str]) -> str:
    """A contender's name: a policy without its key and braces, anything else as it was typed."""
    parts = []
    for text in sets:
        key, _, value = text.partition("=")
        inside = value.strip("{} ").removeprefix("name: ").replace("draft_tokens: ", "").replace(": ", " ")
        parts.append(inside.replace(",", "") if key == "policy" and value.startswith("{") else text)
    return " ".join(parts)


def table_of(ran: Sequence[Point], contest: Contest) -> Table:
    """A row a contender, in the order of the figures as they stand."""
    table = plain_table("contender", "rank", "speed-up", "interval", "first", "mean rank", "beats next")
    for place, each in enumerate(ran):
        beats = "-" if place == len(ran) - 1 else percent(float(contest.beats[place, place + 1]))
        table.add_row(
            str(each.place["contender"]), str(place + 1), times(each.speedup),
            f"{contest.low[place]:.2f} to {contest.high[place]:.2f}", percent(float(contest.ranks[place, 0])),
            f"{contest.mean_rank(place):.1f}", beats,
        )  # fmt: skip
    return table


def verdict(ran: Sequence[Point], contest: Contest) -> str:
    """Whether the first stays first, and how much of the order holds."""
    first = float(contest.ranks[0, 0])
    leader = str(ran[0].place["contender"])
    sure = sum(float(contest.beats[place, place + 1]) >= SURE for place in range(len(ran) - 1))
    held = f"{sure} of {len(ran) - 1} neighbours keep their order in {SURE:.0%} of the draws"
    if first >= SURE:
        return f"The ranking's head survives: {leader} is first in {first:.0%} of the draws; {held}."
    other = max(range(1, len(ran)), key=lambda place: float(contest.ranks[place, 0]))
    rival = f"{ran[other].place['contender']} in {float(contest.ranks[other, 0]):.0%}"
    return f"The ranking's head is open: {leader} is first in {first:.0%} of the draws, {rival}; {held}."


def draw(ran: Sequence[Point], contest: Contest, title: str, path: Path, kind: str) -> None:
    """Left the intervals, right how often each has which rank."""
    names = [str(each.place["contender"]) for each in ran]
    figure, panels = sheet(1, 2, 13, 1.6 + 0.42 * len(ran))
    left, right = panels[0]
    rows = range(len(ran))
    left.hlines(rows, contest.low, contest.high, color="0.6", linewidth=5)
    left.plot(contest.median, rows, "|", color="black", markersize=12, label="median of the draws")
    left.plot(
        [each.speedup for each in ran], rows, "D", color=BLACK_AND[2], markeredgecolor="black", label="as described"
    )
    left.set_yticks(rows, names, fontsize=9)
    left.invert_yaxis()
    left.set_xlabel("speed-up over the target alone; grey: 5 % to 95 % of the draws")
    plain(left, "x")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    right.imshow(contest.ranks, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, rank), share in np.ndenumerate(contest.ranks):
        if share > 0:
            right.text(rank, row, percent(float(share)), ha="center", va="center", fontsize=8,
                       color="white" if share > 0.5 else "black")  # fmt: skip
    right.set_yticks(rows, [""] * len(ran))
    right.set_xticks(rows, [str(rank + 1) for rank in rows])
    right.set_xlabel("rank; share of the draws")
    level_line(right, -0.5)
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
