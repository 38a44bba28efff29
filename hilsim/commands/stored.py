"""What `study` and `campaign` share: the options of where and how points run, and running those that are not stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.commands.arguments import add_allow_code, add_set, place, whole
from hilsim.commands.outputs import require_outputs, require_place

if TYPE_CHECKING:
    from hilsim.describe.study import Search
    from hilsim.study.execution import Goals, Row
    from hilsim.study.search import SearchResult
    from hilsim.study.stored import StoredGrid


def add_running(parser: argparse.ArgumentParser, what: str) -> None:
    """Where the points of `what` are stored, what runs them, and the files beside the table."""
    parser.add_argument("--out", metavar="DIR", type=place, help=f"where {what}.sqlite is stored (default: out/NAME)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=whole(1, 1024), help="processes (default: one per core; 1: this process only)"
    )
    where.add_argument("--cluster", metavar="ADDRESS", help="a running Dask scheduler, tcp://HOST:PORT")
    parser.add_argument("--yes", action="store_true", help="run thousands of points without asking")
    parser.add_argument("--retry-failed", action="store_true", help="run points again that failed")
    add_set(parser)
    add_allow_code(parser)
    parser.add_argument("--csv", metavar="FILE", type=place, help="also all points as a CSV")
    parser.add_argument("--parquet", metavar="FILE", type=place, help="also all points as a Parquet file")
    parser.add_argument("--plot", metavar="FILE", type=place, help="also a picture (PNG, SVG or PDF)")


def require_files(options: argparse.Namespace) -> None:
    """Refuse files beside the table that could not be written."""
    from hilsim.versions import require_package

    require_outputs(options)
    if options.parquet is not None:
        require_package("pyarrow", "--parquet", ", or use --csv")
        require_place(options.parquet, "--parquet")


def require_points(stored: StoredGrid, file: Path, place: str, remedy: str) -> None:
    """Raises `InputError` for more points than most_points; `place` of `file` makes them, `remedy` makes them fewer."""
    from hilsim.errors import Fault, InputError
    from hilsim.show.numbers import counted

    grid, most = stored.grid, stored.described.study.most_points
    if len(grid) > most:
        found = f"{len(grid)} points ({grid.cells} combinations, each with {counted(grid.repeats, 'seed')})"
        raise InputError([Fault(str(file), place, found, f"at most {most}", remedy)])


def run_stored(
    options: argparse.Namespace, stored: StoredGrid, file: Path, how: Search | None = None, goals: Goals = ()
) -> tuple[list[Row], SearchResult | None]:
    """Run what is left of the points of `file`, or search; all that is stored then, and what a search found.

    What running took is shown on standard error. Raises `InputError` for a place that cannot hold the points, and
    `KeyboardInterrupt` with how many are stored.
    """
    from hilsim.errors import InputError
    from hilsim.files import folder_faults
    from hilsim.progress import announce
    from hilsim.show.sentences import usage_sentence

    out = options.out or Path("out") / stored.described.study.name
    if faults := folder_faults(out, "--out"):
        raise InputError(faults)
    return stored.run(
        out / f"{options.command}.sqlite",
        how=how,
        goals=goals,
        workers=options.workers,
        cluster=options.cluster,
        retry_failed=options.retry_failed,
        few_of=None if options.yes else file,
        report=lambda usage: announce(usage_sentence(usage)),
    )
