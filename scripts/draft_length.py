#!/usr/bin/env python3
"""How many tokens should be drafted, over which link? A grid over one scenario, one table.

python scripts/draft_length.py [SCENARIO] [--set PATH=VALUE]... [--links pcie-gen3-x4,1000base-t1] [--lengths 1:7:1]
                               [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of
from hilsim.show.grid_tables import print_cautions, print_refused, shown, telling, terminal, times, write_csv
from hilsim.show.plots.curves import finished, level_line, lines, sheet
from hilsim.study.sweeps import Point, drafting, loaded, over_lengths, with_own_length
from scripts.arguments import names, question, whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--links", type=names, default="pcie-gen3-x4,1000base-t1")
    parser.add_argument("--lengths", type=whole(1, 64), default="1:7:1", help="drafted tokens: FROM:TO:STEP or a list")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    say = telling("recording what the scenario's models say")
    rows = {
        link: over_lengths(
            {"link": link}, loaded(options.scenario, [*options.set, f"link={link}"]), options.lengths,
            lambda made: numbers_of(made, say), with_own_length,
        )
        for link in counting("links", options.links, len(options.links))
    }  # fmt: skip
    points = [point for row in rows.values() for point in row]
    console = terminal()
    console.print(table_of(rows, options.lengths))
    print_cautions(console, points)
    print_refused(console, points, ("link",))
    title = f"{setup.scenario.name}: how many tokens should be drafted, over which link?"
    write_outputs(
        options,
        lambda path, kind: draw(rows, options.lengths, title, path, kind),
        lambda file: write_csv(points, file),
    )
    return 0


def table_of(rows: dict[str, list[Point]], lengths: Sequence[int]) -> Table:
    """A row a length; what is said does not depend on the link, so it is the first one's that runs."""
    table = Table("draft_tokens", *(f"speedup, {link}" for link in rows), "tokens a round", "wasted drafts")
    said = next((row for row in rows.values() if not row[0].why), next(iter(rows.values())))
    for place, length in enumerate(lengths):
        found = said[place]
        wasted = "-" if found.why else f"{1 - found.number('draft_acceptance_rate'):.0%}"
        speeds = (times(row[place].speedup) for row in rows.values())
        table.add_row(str(length), *speeds, shown(found.numbers, "tokens_per_round", ".2f"), wasted)
    return table


def draw(rows: dict[str, list[Point]], lengths: Sequence[int], title: str, path: Path, kind: str) -> None:
    """A line a link."""
    figure, panels = sheet(1, 1, 7.5, 4.4)
    axes = panels[0][0]
    lines(axes, lengths, {link: [point.speedup for point in row] for link, row in rows.items()})
    level_line(axes, 1.0)
    axes.set(xlabel="drafted tokens a round", ylabel="speed-up over the target alone", xticks=lengths)
    axes.legend(frameon=False, fontsize=9)
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
