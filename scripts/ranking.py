#!/usr/bin/env python3
"""Does the ranking survive what the chips' figures leave open? Contenders replayed under the same draws of them.

python scripts/ranking.py [SCENARIO] [--set PATH=VALUE]... [--contender "KEY=VALUE ..."]... [--objective NAME]
                          [--draws N] [--seed N] [--plot FILE] [--csv FILE]

Every figure with a range is drawn, below its value as often as above it; each draw holds for all contenders. They are
ranked by one of the explorer's objectives, never by speed-up: each one's is over its own target alone.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from textwrap import fill

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.replay import forget_prices, numbers_of
from hilsim.show.comparison import plain
from hilsim.show.explore import number
from hilsim.show.grid_tables import (
    MEASURES,
    plain_table,
    print_cautions,
    print_refused,
    telling,
    terminal,
    times,
    write_csv,
)
from hilsim.show.numbers import percent
from hilsim.show.plots.curves import BLACK_AND, finished, level_line, sheet
from hilsim.study.rank_stability import Contest, drawn_for, standings
from hilsim.study.ranking import OBJECTIVES, Objective, objective
from hilsim.study.sweeps import Numbers, Point, loaded, placed, point
from scripts.arguments import one, question

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
LONGEST = 40  # characters of a name in the table
SURE = 0.9  # of the draws: then the ranking is said to hold


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument(
        "--contender", type=settings, action="append", metavar="KEY=VALUE ...",
        help="values of --set, quoted together; repeatable (default: a handful of policies)",
    )  # fmt: skip
    parser.add_argument(
        "--objective", default="request_latency", metavar="NAME", help=f"{', '.join(OBJECTIVES)} (as in explore)"
    )
    parser.add_argument("--draws", type=one(2, 10**5), default="200", help="sets of figures (default 200)")
    parser.add_argument("--seed", type=one(0, 2**32), default="1", help="of the draws (default 1)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    wanted = objective(options.objective)
    placed(options.scenario, options.set)
    contenders = options.contender or [(text,) for text in CONTENDERS]
    say = telling("recording what the scenario's models say")
    nominal = [
        point(
            {"contender": named(distinct(sets, contenders))},
            loaded(options.scenario, [*options.set, *sets]),
            lambda s: numbers_of(s, say),
        )
        for sets in contenders
    ]
    ran = sorted((each for each in nominal if not each.why), key=lambda each: cost(wanted, each.numbers))
    if len(ran) < 2:
        reasons = "; ".join(each.why for each in nominal if each.why)
        found = f"{len(ran)} contenders that run" + (f" ({reasons})" if reasons else "")
        raise ScenarioError([Fault(str(options.scenario), "--contender", found, "two at least")])
    setups = [each.setup for each in ran if each.setup is not None]
    drawn, costs = drawn_for(setups, options.draws, options.seed), []
    for changed in counting("draws", drawn.setups(), options.draws):
        costs.append([cost(wanted, numbers_of(setup)) for setup in changed])
        forget_prices()
    contest = standings(np.array(costs))
    console = terminal()
    names = short_names(ran)
    console.print(table_of(ran, names, contest, wanted))
    console.print(
        f"{options.draws} draws of {len(drawn.ranged)} figures with a range; interval: 5 % to 95 % of them; "
        "beats next: in how\nmany draws; x own: over the contender's own target alone, which is another for each",
        style="dim",
    )
    for name, each in zip(names, ran, strict=True):
        if name != each.place["contender"]:
            console.print(f"{name}: {each.place['contender']}", soft_wrap=True)
    print_cautions(console, ran)
    print_refused(console, nominal, ("contender",))
    console.print(f"\n{verdict(names, contest)}")
    points = [
        each.adding(
            low=ends(contest, place, wanted)[0],
            median=abs(contest.median[place]),
            high=ends(contest, place, wanted)[1],
            first=contest.ranks[place, 0],
        )
        for place, each in enumerate(ran)
    ]
    title = f"does the ranking by {wanted.name} survive the error bars? "
    title += f"({options.draws} draws of {len(drawn.ranged)} figures)"
    write_outputs(
        options,
        lambda path, kind: draw(ran, contest, wanted, title, path, kind),
        lambda file: write_csv(
            [*points, *(each for each in nominal if each.why)],
            file,
            *(() if wanted.measure in MEASURES else (wanted.measure,)),
            "low",
            "median",
            "high",
            "first",
        ),
    )
    return 0


def cost(wanted: Objective, numbers: Numbers) -> float:
    """What an objective comes to, less being better; what has no such number comes last."""
    value = numbers.get(wanted.measure)
    return math.inf if value is None else float(wanted.cost(np.array(value)))


def ends(contest: Contest, place: int, wanted: Objective) -> tuple[float, float]:
    """The interval of a contender in the objective's own sense, the smaller number first."""
    low, high = sorted(float(wanted.cost(np.array(end[place]))) for end in (contest.low, contest.high))
    return low, high


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


def distinct(sets: Sequence[str], contenders: Sequence[Sequence[str]]) -> Sequence[str]:
    """What a contender changes and not every other does; all of it where that is nothing."""
    return [text for text in sets if not all(text in other for other in contenders)] or sets


def named(sets: Sequence[str]) -> str:
    """A contender's name: a policy without its key and braces, anything else as it was typed."""
    parts = []
    for text in sets:
        key, _, value = text.partition("=")
        inside = value.strip("{} ").removeprefix("name: ").replace("draft_tokens: ", "").replace(": ", " ")
        parts.append(inside.replace(",", "") if key == "policy" and value.startswith("{") else text)
    return " ".join(parts)


def short_names(ran: Sequence[Point]) -> list[str]:
    """Contenders by their names, or by letters where a name is longer than a column."""
    names = [str(each.place["contender"]) for each in ran]
    letters = (f"{letter}{number or ''}" for number in count() for letter in ascii_uppercase)
    return [name if len(name) <= LONGEST else next(letters) for name in names]


def table_of(ran: Sequence[Point], names: Sequence[str], contest: Contest, wanted: Objective) -> Table:
    """A row a contender, in the order of the figures as they stand."""
    head = f"{wanted.name}, {wanted.unit}"
    table = plain_table("contender", "rank", head, "interval", "first", "mean rank", "beats next", "x own")
    for place, each in enumerate(ran):
        beats = "-" if place == len(ran) - 1 else percent(float(contest.beats[place, place + 1]))
        low, high = (number(wanted, end) for end in ends(contest, place, wanted))
        table.add_row(
            names[place], str(place + 1), number(wanted, each.number(wanted.measure)),
            f"{low} to {high}", percent(float(contest.ranks[place, 0])), f"{contest.mean_rank(place):.1f}", beats,
            times(each.speedup),
        )  # fmt: skip
    return table


def verdict(names: Sequence[str], contest: Contest) -> str:
    """Whether the first stays first, and how much of the order holds."""
    first = float(contest.ranks[0, 0])
    leader = names[0]
    sure = sum(float(contest.beats[place, place + 1]) >= SURE for place in range(len(names) - 1))
    held = f"{sure} of {len(names) - 1} neighbours keep their order in {SURE:.0%} of the draws"
    if first >= SURE:
        return f"The ranking's head survives: {leader} is first in {first:.0%} of the draws; {held}."
    other = max(range(1, len(names)), key=lambda place: float(contest.ranks[place, 0]))
    rival = f"{names[other]} in {float(contest.ranks[other, 0]):.0%}"
    return f"The ranking's head is open: {leader} is first in {first:.0%} of the draws, {rival}; {held}."


def draw(ran: Sequence[Point], contest: Contest, wanted: Objective, title: str, path: Path, kind: str) -> None:
    """Left the intervals, right how often each has which rank."""
    names = [fill(str(each.place["contender"]), 60) for each in ran]
    lines = sum(name.count("\n") + 1 for name in names)
    figure, panels = sheet(1, 2, 15, 1.6 + 0.26 * len(ran) + 0.15 * lines)
    left, right = panels[0]
    rows = range(len(ran))
    low, high = zip(*(ends(contest, place, wanted) for place in rows), strict=True)
    left.hlines(
        rows, [end / wanted.scale for end in low], [end / wanted.scale for end in high], color="0.6", linewidth=5
    )
    medians = [abs(float(value)) / wanted.scale for value in contest.median]
    left.plot(medians, rows, "|", color="black", markersize=12, label="median of the draws")
    nominal = [each.number(wanted.measure) / wanted.scale for each in ran]
    left.plot(nominal, rows, "D", color=BLACK_AND[2], markeredgecolor="black", label="as described")
    left.set_yticks(rows, names, fontsize=9 if lines == len(ran) else 7)
    left.invert_yaxis()
    left.set_xlabel(f"{wanted.name}, {wanted.unit}; grey: 5 % to 95 % of the draws")
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
