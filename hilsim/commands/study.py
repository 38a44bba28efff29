"""`study`: Run a grid of variants of one scenario, or search it, on all cores or a cluster; store every point."""

from __future__ import annotations

import argparse
from pathlib import Path

from hilsim.commands.arguments import Commands, add_allow_code, add_set, place, study, whole
from hilsim.commands.outputs import require_outputs, require_place


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "study", help="run a grid of variants of one scenario, or search it; every point is stored at once"
    )
    parser.add_argument(
        "study", metavar="STUDY", type=study, help="a study, e.g. scenarios/studies/draft_length.yaml, or its name"
    )
    parser.add_argument("--out", metavar="DIR", type=place, help="where study.sqlite is stored (default: out/NAME)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=whole(1, 1024), help="processes (default: one per core; 1: this process only)"
    )
    where.add_argument("--cluster", metavar="ADDRESS", help="a running Dask scheduler, tcp://HOST:PORT")
    parser.add_argument("--yes", action="store_true", help="run thousands of points without asking")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--search", action="store_true", help="search for the best points instead of running all")
    which.add_argument("--grid", action="store_true", help="run all points even if the file has a `search`")
    parser.add_argument("--retry-failed", action="store_true", help="run points again that failed")
    add_set(parser)
    add_allow_code(parser)
    parser.add_argument("--csv", metavar="FILE", type=place, help="also all points as a CSV")
    parser.add_argument("--parquet", metavar="FILE", type=place, help="also all points as a Parquet file")
    parser.add_argument("--plot", metavar="FILE", type=place, help="also a picture (PNG, SVG or PDF)")


def run(options: argparse.Namespace) -> int:
    """Run what is left of a study and show all of it. Returns 1 where a point failed that should not have."""
    from hilsim.study.threads import single_threaded

    single_threaded()  # before NumPy is imported: processes are the parallel part
    from hilsim.describe.study_load import load_study
    from hilsim.errors import Fault, InputError
    from hilsim.files import folder_faults, read_text
    from hilsim.measure.measures import HEADLINE, MEASURES
    from hilsim.show.numbers import counted
    from hilsim.show.sentences import outside_sentence
    from hilsim.show.study import export, show
    from hilsim.study import execution
    from hilsim.study.points import grid_of
    from hilsim.study.store import Store
    from hilsim.study.study_run import StudyRun, bytes_digest
    from hilsim.study.worker import digest_of, facts_of
    from hilsim.versions import require_package

    require_outputs(options)
    if options.parquet is not None:
        require_package("pyarrow", "--parquet", ", or use --csv")
        require_place(options.parquet, "--parquet")
    described = load_study(options.study, options.set, list(MEASURES))
    study = described.study
    how = execution.search_of(study, requested=options.search, grid=options.grid)
    goals = [] if how is None else execution.goals_of(how, study, options.study)
    facts = facts_of(described.scenario, described.base)
    grid = grid_of(described, ground=digest_of(facts))
    if how is None and len(grid) > study.most_points:
        found = f"{len(grid)} points ({grid.cells} combinations, each with {counted(grid.repeats, 'seed')})"
        remedy = "Raise most_points, take fewer values, or --search."
        raise InputError([Fault(str(options.study), "axes", found, f"at most {study.most_points}", remedy)])
    out = options.out or Path("out") / study.name
    if faults := folder_faults(out, "--out"):
        raise InputError(faults)
    places = {"workers": options.workers, "cluster": options.cluster}
    with Store(out / "study.sqlite", facts, read_text(options.study), execution.machine()) as store:
        if options.retry_failed:
            store.forget_failed()
        scenario = described.scenario.resolve()
        study_run = StudyRun(grid, store, scenario, described.base, bytes_digest(scenario), facts)
        try:
            if not options.yes:
                execution.require_few(study_run, how, options.study, **places)
            searched = execution.run_study(study_run, how, goals, **places)
        except KeyboardInterrupt:
            stored = f"interrupted; {counted(len(store), 'point')} stored in {store.file}"
            raise KeyboardInterrupt(f"{stored}. The same command goes on from there.") from None
        rows = execution.rows_of(study_run, searched)
    metrics = list(dict.fromkeys([*(name for name, _ in goals), *(study.metrics or HEADLINE)]))
    if outside := execution.outside_roles(described, grid):
        print(outside_sentence(outside))
    show(study, rows, grid, metrics, searched, (described.scenario, described.base))
    export(study, rows, grid, metrics, csv=options.csv, parquet=options.parquet, plot=options.plot)
    return 1 if any(row.outcome.state == "failed" for row in rows) else 0
