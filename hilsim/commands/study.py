"""`study`: Run a grid of variants of one scenario, or search it, on all cores or a cluster; store every point."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, study
from hilsim.commands.outputs import add_html, require_html
from hilsim.commands.stored import add_running, require_files, require_points, run_stored


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "study", help="run a grid of variants of one scenario, or search it; every point is stored at once"
    )
    parser.add_argument(
        "study", metavar="STUDY", type=study, help="a study, e.g. scenarios/studies/draft_length.yaml, or its name"
    )
    add_running(parser, "study")
    add_html(parser, "every point over its axes, the best of them, what was refused and why")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--search", action="store_true", help="search for the best points instead of running all")
    which.add_argument("--grid", action="store_true", help="run all points even if the file has a `search`")


def run(options: argparse.Namespace) -> int:
    """Run what is left of a study and show all of it. Returns 1 where a point failed that should not have."""
    from hilsim.describe.study_load import load_study
    from hilsim.files import read_text
    from hilsim.measure.measures import HEADLINE, MEASURES
    from hilsim.show.sentences import outside_sentence
    from hilsim.show.study import StudyAnswer, export, show
    from hilsim.study import execution
    from hilsim.study.stored import StoredGrid
    from hilsim.study.worker import work_of

    require_files(options)
    require_html(options)
    described = load_study(options.study, options.set, list(MEASURES))
    study = described.study
    how = execution.search_of(study, requested=options.search, grid=options.grid)
    goals = [] if how is None else execution.goals_of(how, study, options.study)
    execution.require_timed(study, goals, options.study)
    stored = StoredGrid.of(described, read_text(options.study), work_of(study))
    if how is None:
        require_points(stored, options.study, "axes", "Raise most_points, take fewer values, or --search.")
    rows, searched = run_stored(options, stored, options.study, how, goals)
    grid = stored.grid
    metrics = list(dict.fromkeys([*(name for name, _ in goals), *(study.metrics or HEADLINE)]))
    if outside := execution.outside_roles(described, grid):
        print(outside_sentence(outside))
    answer = StudyAnswer(described, grid, rows, metrics, searched)
    show(answer)
    export(answer, csv=options.csv, parquet=options.parquet, plot=options.plot)
    if options.html is not None:
        from hilsim.show.page.frame import write_page
        from hilsim.show.page.study import page_of

        write_page(options.html, page_of(answer, read_text(options.study), options.typed))
    return 1 if any(row.outcome.state == "failed" for row in rows) else 0
