"""Shared by all question scripts: their options, and their answers as tables, a sentence, a picture and a CSV."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hilsim.commands.arguments import add_set, source
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs
from hilsim.describe.setup import Setup
from hilsim.places import DATA
from hilsim.show.grid_tables import MEASURES, points_table, print_cautions, print_refused
from hilsim.show.plots.curves import draw_series
from hilsim.show.table import Table, terminal
from hilsim.study.budget import MISSES
from hilsim.study.sweeps import SweepPoint, crossing
from hilsim.study.trips import TRIP_MEASURES

MOST = 200  # values in a list
Draw = Callable[[str, Path, str], None]  # title, file, kind


def question(text: str | None, scenario: str, **defaults: str | int | None) -> argparse.ArgumentParser:
    """A parser with SCENARIO, --set, --plot, --csv, and those of `OPTIONS` that have a default here."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = DATA / "scenarios" / f"{scenario}.yaml"
    parser.add_argument("scenario", nargs="?", type=source, default=default, help=f"default: scenarios/{scenario}.yaml")
    add_set(parser)
    add_outputs(parser)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", default=value, **OPTIONS[name])
    return parser


def asked(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; files that could not be written are refused before the work."""
    options = parser.parse_args(arguments)
    require_outputs(options)
    options.title = (parser.description or "").partition("?")[0]
    return options


def answer(
    options: argparse.Namespace,
    name: str,
    shown: Sequence[Table | str],
    points: Sequence[SweepPoint],
    sentence: str,
    draw: Draw,
    *,
    cautions: Sequence[SweepPoint] | None = None,
    refused: Sequence[SweepPoint] | None = None,
    by: Sequence[str] = (),
    more: Sequence[str] = (),
    usual: Sequence[str] = MEASURES,
    note: str = "",
) -> int:
    """Print tables and remarks, what cannot run (places named `by` these axes) and the answer; write picture and CSV.

    `name` is the scenario's, `note` ends the title, `more` are measures that the CSV has besides the `usual` ones.
    `cautions` and `refused` are the points that warnings and refusals are about, where not all.
    """
    console = terminal()
    for part in shown:
        part.print(console) if isinstance(part, Table) else console.print(part, style="dim", soft_wrap=True)
    print_cautions(console, points if cautions is None else cautions)
    print_refused(console, points if refused is None else refused, by)
    if sentence:
        console.print(f"\n{sentence}")
    title = f"{name}: {options.title[:1].lower()}{options.title[1:]}?{note}"
    write_outputs(
        options,
        lambda path, kind: draw(title, path, kind),
        lambda file: points_table(points, *more, usual=usual).write_csv(file, 6),
    )
    return 0


def curves(
    options: argparse.Namespace, setup: Setup, points: Sequence[SweepPoint], across: str, by: str, label: str
) -> int:
    """Answer with the first audio over one axis of the points, a curve for each value of another, and where each passes
    --limit: a table, a sentence, the picture and the CSV.
    """
    measure = f"first_audio_ms.p{options.percentile}"
    places = list(dict.fromkeys(float(point.place[across]) for point in points))
    lines = {
        f"{by} {value:g}" if isinstance(value, float) else f"{by} {value}": [
            one for one in points if one.place[by] == value
        ]
        for value in dict.fromkeys(point.place[by] for point in points)
    }
    series = {name: [one.number(measure) for one in line] for name, line in lines.items()}
    cells = [[f"{place:g}", *row] for place, *row in zip(places, *series.values(), strict=True)]
    sentences = []
    for name, line in lines.items():
        audio = crossing(places, series[name], options.limit)
        blind = crossing(places, [one.number("missed") for one in line], MISSES)
        until = "nowhere here" if audio is None else f"from {across} {audio:.3g} on"
        deadlines = "no" if blind is None else f"from {blind:.3g} on a"
        sentences.append(
            f"{name}: longer than {options.limit:g} ms {until}; {deadlines} background task misses over {MISSES:.0%} "
            "of its deadlines"
        )
    draw = partial(draw_series, places, series, label, up=f"first audio p{options.percentile}, ms", level=options.limit)
    return answer(
        options, setup.scenario.name, [Table([across, *series], cells), f"first audio p{options.percentile} in ms"],
        points, "\n".join(sentences), draw, by=[by], more=TRIP_MEASURES, usual=(),
    )  # fmt: skip


def numbers(low: float, high: float) -> Callable[[str], tuple[float, ...]]:
    """Rising numbers between two bounds: a list `0.3,0.5`, or `FROM:TO:STEP`."""

    def read(text: str) -> tuple[float, ...]:
        try:
            found = stepped(text) if ":" in text else tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if not 0 < len(found) <= MOST or list(found) != sorted(set(found)) or not low <= found[0] <= found[-1] <= high:
            expected = f"rising numbers from {low:g} to {high:g} as 0.5,1 or FROM:TO:STEP, {MOST} at most"
            raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
        return found

    return read


def stepped(text: str) -> tuple[float, ...]:
    """FROM:TO:STEP, its end included; raises `ValueError`."""
    begin, end, step = (float(part) for part in text.split(":"))
    if not step > 0 or not (end - begin) / step <= MOST:
        raise ValueError(text)
    return tuple(round(begin + place * step, 10) for place in range(int((end - begin) / step + 1e-9) + 1))


def whole(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    """Rising whole numbers between two bounds: `1,2,5`, or `1:10:1`."""
    within = numbers(low, high)

    def read(text: str) -> tuple[int, ...]:
        found = within(text)
        if any(value != int(value) for value in found):
            raise argparse.ArgumentTypeError(f"found {text!r}; expected whole numbers from {low} to {high}")
        return tuple(map(int, found))

    return read


def one(low: int, high: int) -> Callable[[str], int]:
    """A single whole number."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number from {low} to {high}")
        return int(text)

    return read


def single(low: float, high: float) -> Callable[[str], float]:
    """A single number."""
    several = numbers(low, high)

    def read(text: str) -> float:
        found = several(text)
        if len(found) > 1:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected one number")
        return found[0]

    return read


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected names, each once, with commas between them")
    return found


def width_sets(text: str) -> tuple[tuple[int, ...], ...]:
    """Sets of compiled widths: `1-8-128,1-128`."""
    rising = whole(1, 4096)
    return tuple(rising(part.replace("-", ",")) for part in names(text))


def draft_pair(text: str) -> tuple[str, str]:
    """A draft model and the stand-in whose tokens it gets."""
    model, _, stand_in = text.partition(":")
    if not model or not stand_in:
        expected = "MODEL:STAND_IN, such as draft-68m-llama3:models/draft-0.8m"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return model, stand_in


def together(text: str) -> tuple[str, ...]:
    """Values of --set in one argument; braces and brackets hold a value together."""
    found: list[str] = []
    try:
        for part in shlex.split(text):
            if found and sum(found[-1].count(begin) - found[-1].count(end) for begin, end in ("{}", "[]")) > 0:
                found[-1] += f" {part}"
            else:
                found.append(part)
    except ValueError:
        found = []
    if not found or not all("=" in part.split("{")[0] for part in found):
        expected = "KEY=VALUE ..., such as 'policy.draft_tokens=7 link=1000base-t1'"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return tuple(found)


# Options that several questions have, with the type and help of each; their defaults are the question's.
OPTIONS: dict[str, dict[str, Any]] = {
    "acceptances": {
        "type": numbers(0, 1),
        "help": "chances that a drafted token is accepted once all before it in its round were: FROM:TO:STEP or a list",
    },
    "lengths": {"type": whole(1, 16), "help": "drafted tokens a round (default %(default)s)"},
    "requests": {"type": one(1, 5000), "help": "requests simulated at each point (default %(default)s)"},
    "answer": {"type": one(1, 10**4), "metavar": "TOKENS", "help": "length of every answer (default: as recorded)"},
    "precisions": {"type": names, "help": "number formats of the draft (default %(default)s)"},
    "widths": {"type": width_sets, "help": "sets of graph widths that the target is compiled for, such as 1-8-128"},
    "links": {"type": names, "help": "links compared (default %(default)s)"},
    "limit": {"type": single(1, 1e6), "metavar": "MS", "help": "the longest first audio, in ms (default %(default)s)"},
    "percentile": {"type": int, "choices": (50, 90, 99), "help": "of the turns that keep it (default %(default)s)"},
}
