#!/usr/bin/env python3
"""Where does 2.5x come from? Speed-up over acceptance and draft length, by target, compiled widths and link.

python scripts/where_2_5.py [SCENARIO] [--set PATH=VALUE]... [--targets MODEL,...] [--widths 1-128,1-8-128,...]
                            [--links LINK[:PAYLOAD],...] [--acceptances 0.05:1:0.05] [--lengths 1:10:1] [--plot FILE]

Drafted tokens stand by chance; the draft, its place and the length of answers are the scenario's (--answer has longer
ones). A link's payload is token_ids, or full_rows, whose distributions cross it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.replay import Talk, numbers_of, talk_of
from hilsim.show.grid_tables import (
    crossing,
    plain_table,
    print_cautions,
    print_refused,
    telling,
    terminal,
    times,
    write_csv,
)
from hilsim.show.plots.curves import LEVELS, STYLES, colour_bar, contours, empty, finished, heat_map, sheet
from hilsim.study.sweeps import (
    LENGTH,
    Point,
    best,
    drafting,
    loaded,
    over_lengths,
    with_acceptance,
)
from scripts.arguments import names, numbers, one, question, whole, width_sets

WANTED, EVEN = 2.5, 1.0
ROWS = ("accept=ratio", "sampling={temperature: 1.0}")


@dataclass(frozen=True)
class Way:
    """A target compiled for a set of widths, and what crosses which link."""

    target: str
    widths: str
    link: str
    setup: Setup | str

    @property
    def place(self) -> dict[str, str | int | float]:
        """Where its points lie."""
        return {"target": self.target, "widths": self.widths, "link": self.link}


Rows = list[list[Point]]  # acceptances by lengths


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--targets", type=names, default="llama-3.2-1b,llama-3.2-3b,llama-3.1-8b", help="target models")
    parser.add_argument(
        "--widths", type=width_sets, default="1-128,1-8,1-8-128", help="sets the target is compiled for"
    )
    parser.add_argument("--links", type=names, default="pcie-gen3-x4,1000base-t1,1000base-t1:full_rows")
    parser.add_argument(
        "--acceptances", type=numbers(0, 1), default="0.05:1:0.05",
        help="chances of a draft once all before it in its round were accepted: FROM:TO:STEP or a list",
    )  # fmt: skip
    parser.add_argument("--lengths", type=whole(1, 16), default="1,2,3,4,5,6,7,8,10", help="drafted tokens a round")
    parser.add_argument("--requests", type=one(1, 5000), default="200", help="more of them, less chance (default 200)")
    parser.add_argument("--answer", type=one(1, 10**4), metavar="TOKENS", help="of every answer (default: as recorded)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    talk = talk_of(setup, options.requests, telling("recording what the scenario's models say"))
    talk = Talk(talk.requests, talk.prompt, options.answer or talk.answer)
    ways = [
        way(options.scenario, [*options.set, *talk.overrides()], target, widths, link)
        for target in options.targets
        for widths in options.widths
        for link in options.links
    ]
    rows: list[Rows] = [[] for _ in ways]
    # Acceptance by acceptance, as what is said depends on it alone and is made once for all ways.
    for acceptance in counting("acceptances", options.acceptances, len(options.acceptances)):
        for each, found in zip(ways, rows, strict=True):
            changed = each.setup if isinstance(each.setup, str) else with_acceptance(each.setup, acceptance)
            found.append(over_lengths({**each.place, "acceptance": acceptance}, changed, options.lengths, numbers_of))
    maps = list(zip(ways, rows, strict=True))
    points = [point for found in rows for row in found for point in row]
    console = terminal()
    console.print(table_of(maps, options.acceptances))
    console.print(
        f"the least acceptance that reaches so much at the best length; questions of {talk.prompt} tokens, answers of "
        f"{talk.answer}", style="dim",
    )  # fmt: skip
    print_cautions(console, points)
    print_refused(console, points, ("target", "widths"))
    for sentence in answer(maps, options.acceptances):
        console.print(f"\n{sentence}")
    title = f"{setup.scenario.name}: where does {WANTED:g}x come from? (answers of {talk.answer} tokens)"
    write_outputs(
        options,
        lambda path, kind: draw(maps, options.acceptances, options.lengths, title, path, kind),
        lambda file: write_csv(points, file),
    )
    return 0


def way(file: Path, overrides: Sequence[str], target: str, widths: tuple[int, ...], link: str) -> Way:
    """One way, loaded; or why it cannot be."""
    name, _, payload = link.partition(":")
    changes = [f"target.model={target}", f"target.widths={list(widths)}", f"link={name}"]
    if payload:
        changes += [f"payload={payload}", *(ROWS if payload not in ("token_ids", "one_hot") else ())]
    return Way(target, " ".join(map(str, widths)), link, loaded(file, [*overrides, *changes]))


def peaks(rows: Rows) -> list[float]:
    """The best speed-up at each acceptance."""
    return [best(row).speedup for row in rows]


def needed(rows: Rows, acceptances: Sequence[float], level: float) -> tuple[float, int] | None:
    """The least acceptance that reaches a level, and the draft length that does there."""
    found = crossing(acceptances, peaks(rows), level)
    if found is None:
        return None
    first = next(row for row, acceptance in zip(rows, acceptances, strict=True) if acceptance >= found - 1e-12)
    return found, int(best(first).place[LENGTH])


def spelled(found: tuple[float, int] | None, lowest: float) -> str:
    """An acceptance and its draft length; at the lowest tried it may well be less."""
    return "never" if found is None else f"{'<= ' if found[0] == lowest else ''}{found[0]:.2f} by {found[1]}"


def table_of(maps: Sequence[tuple[Way, Rows]], acceptances: Sequence[float]) -> Table:
    """A row a way: what 1x and 2.5x need, and what the best acceptance tried brings."""
    table = plain_table("target", "widths", "link", "1x needs", "2.5x needs", "most", "by", left=3)
    for each, rows in maps:
        told = each.target, each.widths, each.link
        if isinstance(each.setup, str):
            table.add_row(*told, "not here", "not here", "-", "-")
            continue
        top = best(point for row in rows for point in row)
        cells = (spelled(needed(rows, acceptances, level), acceptances[0]) for level in (EVEN, WANTED))
        table.add_row(*told, *cells, times(top.speedup), str(top.place[LENGTH]))
    return table


def answer(maps: Sequence[tuple[Way, Rows]], acceptances: Sequence[float]) -> list[str]:
    """The easiest ways to 2.5x, by target; and what loses."""
    told = []
    for target in dict.fromkeys(each.target for each, _ in maps):
        mine = [(each, needed(rows, acceptances, WANTED)) for each, rows in maps if each.target == target]
        reached = [(each, found) for each, found in mine if found is not None]
        if not reached:
            told.append(f"{target} never")
            continue
        each, found = min(reached, key=lambda pair: round(pair[1][0], 2))
        told.append(
            f"{target} from acceptance {found[0]:.2f} by {found[1]} drafted tokens (widths {each.widths}, {each.link})"
        )
    ran = [(each, rows) for each, rows in maps if not isinstance(each.setup, str)]
    least = [
        (each, point)
        for each, rows in ran
        for point in (best(row) for row in rows)
        if point.speedup < EVEN
    ]  # fmt: skip
    sentences = [f"{WANTED:g}x is reached at the easiest: {'; '.join(told)}."]
    if least:
        each, worst = max(least, key=lambda pair: float(pair[1].place["acceptance"]))
        sentences.append(
            f"Below 1x at its best length falls {each.target} with widths {each.widths} over {each.link}, up to "
            f"acceptance {float(worst.place['acceptance']):.2f} ({worst.speedup:.2f}x)."
        )
    return sentences


def draw(
    maps: Sequence[tuple[Way, Rows]], acceptances: Sequence[float], lengths: Sequence[int], title: str, path: Path,
    kind: str,
) -> None:  # fmt: skip
    """A row a target, a column a set of widths: the map over the first link, contour lines of all."""
    targets = list(dict.fromkeys(each.target for each, _ in maps))
    sets = list(dict.fromkeys(each.widths for each, _ in maps))
    links = list(dict.fromkeys(each.link for each, _ in maps))
    figure, panels = sheet(len(targets), len(sets), 4.1 * len(sets) + 1.2, 2.9 * len(targets) + 1)
    finite = [point.speedup for _, rows in maps for row in rows for point in row if not np.isnan(point.speedup)]
    limits = (min(finite, default=0.0), max(finite, default=1.0))
    image = None
    for each, rows in maps:
        axes = panels[targets.index(each.target)][sets.index(each.widths)]
        axes.set_title(f"{each.target}, widths {each.widths}", fontsize=9.5)
        values = np.array([[point.speedup for point in row] for row in rows]).T
        if not np.isfinite(values).any():
            if each.link == links[0]:
                empty(axes, rows[0][0].why)
        elif each.link == links[0]:
            image = heat_map(axes, acceptances, lengths, values, limits)
            axes.set_yticks(lengths)
        else:
            style = STYLES[links.index(each.link) % len(STYLES)]
            contours(axes, acceptances, lengths, values, (EVEN, WANTED), style=style, label=False)
    for axes in panels[:, 0]:
        axes.set_ylabel("drafted tokens (sync)")
    for axes in panels[-1]:
        axes.set_xlabel("acceptance")
    if image is not None:
        colour_bar(figure, image, panels, f"speed-up over each panel's own target alone, over {links[0]}")
    handles = [
        panels[0][0].plot([], [], color="0.3", linestyle=STYLES[place % len(STYLES)], label=said)[0]
        for place, said in enumerate(
            [
                f"{links[0]}: {', '.join(f'{level:g}x' for level in LEVELS)}",
                *(f"{link}: 1x, 2.5x" for link in links[1:]),
            ]
        )
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9)
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
