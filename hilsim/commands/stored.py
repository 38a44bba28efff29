"""What `study` and `campaign` share: the options of where and how points run, and running those that are not stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.commands.arguments import add_set, place, whole
from hilsim.commands.outputs import require_outputs, require_place

if TYPE_CHECKING:
    from hilsim.describe.study import Search
    from hilsim.describe.study_load import Described
    from hilsim.study.execution import Goals, Row
    from hilsim.study.points import Grid
    from hilsim.study.search import SearchResult
    from hilsim.study.workers import Work


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


def grid_from(described: Described, file: Path, place: str, remedy: str) -> tuple[Grid, dict[str, str]]:
    """All points of what `file` describes, and what they rest on. Raises `InputError` for more than its most_points.

    `place` and `remedy` say where there are too many and what to do about it.
    """
    from hilsim.errors import Fault, InputError
    from hilsim.show.numbers import counted
    from hilsim.study.points import grid_of
    from hilsim.study.worker import digest_of, facts_of

    facts = facts_of(described.scenario, described.base)
    grid = grid_of(described, ground=digest_of(facts))
    if remedy and len(grid) > described.study.most_points:
        found = f"{len(grid)} points ({grid.cells} combinations, each with {counted(grid.repeats, 'seed')})"
        raise InputError([Fault(str(file), place, found, f"at most {described.study.most_points}", remedy)])
    return grid, facts


def run_stored(
    options: argparse.Namespace, file: Path, described: Described, grid: Grid, facts: dict[str, str], work: Work,
    how: Search | None = None, goals: Goals = (), *, stored_as: str,
) -> tuple[list[Row], SearchResult | None]:  # fmt: skip
    """Run what is left of a grid, or search it; all that is stored of it then, and what a search found.

    Raises `InputError` for a place that cannot hold the points, and `KeyboardInterrupt` with how many are stored.
    """
    from hilsim.errors import InputError
    from hilsim.files import folder_faults, read_text
    from hilsim.show.numbers import counted
    from hilsim.study import execution
    from hilsim.study.store import Store
    from hilsim.study.study_run import StudyRun, bytes_digest

    out = options.out or Path("out") / described.study.name
    if faults := folder_faults(out, "--out"):
        raise InputError(faults)
    places = {"workers": options.workers, "cluster": options.cluster}
    with Store(out / f"{stored_as}.sqlite", facts, read_text(file), execution.machine()) as store:
        if options.retry_failed:
            store.forget_failed()
        scenario = described.scenario.resolve()
        study_run = StudyRun(grid, store, scenario, described.base, bytes_digest(scenario), facts, work)
        try:
            if not options.yes:
                execution.require_few(study_run, how, file, **places)
            searched = execution.run_study(study_run, how, goals, **places)
        except KeyboardInterrupt:
            stored = f"interrupted; {counted(len(store), 'point')} stored in {store.file}"
            raise KeyboardInterrupt(f"{stored}. The same command goes on from there.") from None
        return execution.rows_of(study_run, searched), searched
