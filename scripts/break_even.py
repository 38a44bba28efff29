#!/usr/bin/env python3
"""How good must a draft be to lose nothing? The acceptance at which speculation equals the target alone.

python scripts/break_even.py [SCENARIO] [--set PATH=VALUE]... [--ratios 0.01,0.02,...] [--lengths 1,2,4,7]
                             [--acceptances 0.02:1:0.02] [--requests N] [--answer TOKENS] [--plot FILE] [--csv FILE]

Against the ratio of a draft step to a target step, made artificially; without a link, with the scenario's and with a
slow one. Where real drafts lie is marked. The closed form beside it has this verify and link, and neither a question
nor an end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.describe.acceptance import least
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.replay import Talk, numbers_of, talk_of
from hilsim.show.comparison import plain
from hilsim.show.grid_tables import crossing, plain_table, print_cautions, print_refused, telling, terminal, write_csv
from hilsim.show.plots.curves import BLACK_AND, MARKS, finished, sheet
from hilsim.study.space import drafts_for
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import (
    LENGTH,
    Place,
    Point,
    draft_places,
    drafting,
    loaded,
    over_lengths,
    placed,
    with_acceptance,
    with_draft_step,
    with_link,
)
from scripts.arguments import numbers, one, question, whole

RATIOS = "0.01,0.02,0.05,0.1,0.2,0.3,0.5,0.7"
NO_LINK = "no link"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument(
        "--ratios", type=numbers(0.0001, 10), default=RATIOS, help=f"draft step over target step, {RATIOS}"
    )
    parser.add_argument("--lengths", type=whole(1, 16), default="1,2,4,7", help="drafted tokens a round")
    parser.add_argument(
        "--acceptances", type=numbers(0, 1), default="0.02:1:0.02",
        help="chances of a draft once all before it in its round were accepted: FROM:TO:STEP or a list",
    )  # fmt: skip
    parser.add_argument("--requests", type=one(1, 5000), default="200", help="more of them, less chance (default 200)")
    parser.add_argument(
        "--latency", type=numbers(0, 1e5), default="20", metavar="MS", help="of a slow link (default 20)"
    )
    parser.add_argument("--answer", type=one(1, 10**4), metavar="TOKENS", help="of every answer (default: as recorded)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    talk = talk_of(setup, options.requests, telling("recording what the scenario's models say"))
    talk = Talk(talk.requests, talk.prompt, options.answer or talk.answer)
    chance = placed(options.scenario, [*options.set, *talk.overrides()])
    assert chance.link is not None
    slow = with_link(chance, chance.link.rate.si, options.latency[0] / 1000)
    setups: dict[str, Setup | str] = {chance.link.name: chance, f"{options.latency[0]:g} ms a message": slow}
    if not chance.link.on_chip:
        setups = {NO_LINK: loaded(options.scenario, [*options.set, *talk.overrides(), "link=ideal"]), **setups}
    found = [
        *counting(
            "acceptances", tried(setups, options.acceptances, options.ratios, options.lengths), len(options.acceptances)
        )
    ]
    points = [
        even(link, ratio, length, setups[link], [row[link, ratio, length] for row in found], options.acceptances)
        for link in setups
        for ratio in options.ratios
        for length in options.lengths
    ]
    real = real_drafts(setup, options.scenario, options.set)
    console = terminal()
    console.print(table_of(points, options.ratios, options.lengths, list(setups)))
    console.print(
        "acceptance at which nothing is won or lost, simulated (closed form); - not by a draft that is always right",
        style="dim",
    )
    print_cautions(console, points)
    print_refused(console, [point for point in points if point.why], ("link",))
    for name, ratio in sorted(real.items(), key=lambda item: item[1]):
        console.print(f"c {ratio:.3f}  {name}", style="dim")
    console.print(f"\n{answer(points, setup, options, chance.link.name)}")
    title = f"{setup.scenario.name}: how good must a draft be to lose nothing? (answers of {talk.answer} tokens)"
    write_outputs(
        options,
        lambda path, kind: draw(points, options.ratios, options.lengths, list(setups), real, title, path, kind),
        lambda file: write_csv(points, file, "break_even", "closed_form"),
    )
    return 0


def tried(
    setups: dict[str, Setup | str], acceptances: Sequence[float], ratios: Sequence[float], lengths: Sequence[int]
) -> Iterator[dict[tuple[str, float, int], Point]]:
    """Of every acceptance all points, by link, ratio and length; what is said is made once an acceptance."""
    for acceptance in acceptances:
        row: dict[tuple[str, float, int], Point] = {}
        for link, setup in setups.items():
            for ratio in ratios:
                changed = setup if isinstance(setup, str) else with_acceptance(slowed(setup, ratio), acceptance)
                for point in over_lengths({}, changed, lengths, numbers_of):
                    row[link, ratio, int(point.place[LENGTH])] = point
        yield row


def slowed(setup: Setup, ratio: float) -> Setup:
    """The set-up with a draft whose step is so much of a target step."""
    return with_draft_step(setup, ratio * steps_of(setup, 1).target_ms)


def even(
    link: str, ratio: float, length: int, setup: Setup | str, row: list[Point], acceptances: Sequence[float]
) -> Point:
    """Where the speed-up crosses 1, and where the closed form does."""
    place: Place = {"link": link, "ratio": ratio, LENGTH: length}
    if isinstance(setup, str):
        return Point(place, {}, setup)
    steps = steps_of(slowed(setup, ratio), length)
    simulated = crossing(acceptances, [point.speedup for point in row], 1.0)
    return Point(place, {"break_even": simulated, "closed_form": least(steps.speedup, 1.0)}, setup=setup)


def real_drafts(setup: Setup, file: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Ratios of drafts that there are, in w4 on the scenario's units."""
    found = {}
    for place in draft_places(setup, drafts_for(setup), ("w4",)):
        made = loaded(file, [*overrides, *place.overrides])
        if not isinstance(made, str):
            found[f"{place.model} on {place.unit}"] = steps_of(made, 1).ratio
    return found


def chosen(points: Sequence[Point], link: str, length: int) -> list[Point]:
    """The points of a link and length, the quickest draft first."""
    return [point for point in points if point.place["link"] == link and point.place[LENGTH] == length]


def both(point: Point) -> str:
    """Simulated, and by the closed form."""
    simulated, closed = point.numbers.get("break_even"), point.numbers.get("closed_form")
    return f"{'-' if simulated is None else f'{simulated:.2f}'} ({'-' if closed is None else f'{closed:.2f}'})"


def table_of(points: Sequence[Point], ratios: Sequence[float], lengths: Sequence[int], links: Sequence[str]) -> Table:
    """A row a ratio and link, a column a length."""
    table = plain_table("link", "c", *(f"{length} drafted" for length in lengths))
    for link in links:
        for place, ratio in enumerate(ratios):
            cells = [both(chosen(points, link, length)[place]) for length in lengths]
            table.add_row(link if not place else "", f"{ratio:g}", *cells)
    return table


def answer(points: Sequence[Point], setup: Setup, options: argparse.Namespace, link: str) -> str:
    """What the scenario's own draft needs, by the next slower ratio that was tried."""
    own = steps_of(setup, 1).ratio
    ratio = next((ratio for ratio in options.ratios if ratio >= own), None)
    told = f"The scenario's draft step is {own:.3f} of a target step"
    if ratio is None:
        return f"{told}, more than was tried."
    parts = []
    for length in options.lengths:
        (found,) = (each for each in chosen(points, link, length) if each.place["ratio"] == ratio)
        value = found.numbers.get("break_even")
        parts.append(f"{length} drafted tokens {'never' if value is None else f'from {value:.2f}'}")
    return f"{told}: over {link} nothing is lost with {', '.join(parts)} on (at {ratio:g})."


def draw(
    points: Sequence[Point], ratios: Sequence[float], lengths: Sequence[int], links: Sequence[str],
    real: dict[str, float], title: str, path: Path, kind: str,
) -> None:  # fmt: skip
    """A panel a link: marks are simulated, lines the closed form; real drafts along the bottom."""
    figure, panels = sheet(1, len(links), 4.6 * len(links) + 2, 5)
    for axes, link in zip(panels[0], links, strict=True):
        for number, length in enumerate(lengths):
            row, colour = chosen(points, link, length), BLACK_AND[number % len(BLACK_AND)]
            axes.plot(ratios, [point.number("closed_form") for point in row], color=colour, linewidth=1.2)
            axes.plot(ratios, [point.number("break_even") for point in row], MARKS[number % len(MARKS)], color=colour,
                      label=f"{length} drafted", markersize=6, linestyle="")  # fmt: skip
        axes.plot([], [], color="0.4", label="closed form")
        low, high = min([*ratios, *real.values()]), max([*ratios, *real.values()])
        units = list(dict.fromkeys(name.split(" on ")[1] for name in real))
        for name, ratio in real.items():
            place = units.index(name.split(" on ")[1])
            axes.plot([ratio], [-0.04 - 0.05 * place], "|", color="black", markersize=9, markeredgewidth=2)
        for place, unit in enumerate(units):
            spot = (1.0, -0.04 - 0.05 * place)
            axes.annotate(unit, spot, (-3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          fontsize=7.5, ha="right", va="center")  # fmt: skip
        axes.set(
            xscale="log",
            xlim=(low / 1.5, high * 1.5),
            ylim=(-0.04 - 0.05 * len(units), 1.02),
            yticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0],
            xlabel="draft step over target step",
        )
        axes.set_title(link, fontsize=10)
        plain(axes, "both")
    panels[0][0].set_ylabel("break-even acceptance; below it drafts in w4, by unit")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
