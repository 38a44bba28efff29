"""The files of a run: traces, tables, the report and pictures, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.describe.setup import Setup
from hilsim.files import written
from hilsim.runs.run import RunPair
from hilsim.show.document import as_json
from hilsim.versions import how_to_install

if TYPE_CHECKING:
    from hilsim.show.terminal.dashboard import Dashboard


def save_traces(files: Iterable[Path], setup: Setup, outcome: RunPair) -> None:
    """Write both runs as a trace that Perfetto opens, to every file."""
    from hilsim.show.perfetto import write_trace

    traces = {run.policy: run for run in (outcome.baseline, outcome.speculative) if run is not None}
    for file in files:
        with written(file) as path:
            write_trace(path, setup, traces)


def save_report(folder: Path, setup: Setup, outcome: RunPair, document: dict[str, Any]) -> None:
    """Write report.json, trace.json, and the tables of rounds, requests and turns."""
    from hilsim.show.tables import requests_table, rounds_table, turns_table

    save_traces([folder / "trace.json"], setup, outcome)
    with written(folder / "report.json") as path:
        path.write_text(as_json(document), encoding="utf-8")
    tables = {"rounds.csv": rounds_table, "requests.csv": requests_table}
    if outcome.baseline.turns:
        tables["turns.csv"] = turns_table
    for name, table_of in tables.items():
        with written(folder / name) as path, path.open("w", encoding="utf-8", newline="") as file:
            table_of(outcome.baseline, outcome.speculative).write_csv(file)


def save_pictures(folder: Path, setup: Setup, outcome: RunPair, dashboard: Dashboard | None) -> str:
    """Write dashboard.svg where there is a dashboard, timeline.png, and of a scenario with company turns.png and
    trip.png; returns what was left out and why.
    """
    if dashboard is not None:
        from hilsim.show.terminal.dashboard import snapshot

        with written(folder / "dashboard.svg") as path:
            snapshot(dashboard, path)
    try:
        from hilsim.show.plots.timeline import draw

        with written(folder / "timeline.png") as path:
            draw(path, outcome.baseline, outcome.speculative, setup)
        if setup.scenario.company:
            from hilsim.show.plots import trip, turns

            trace = outcome.speculative or outcome.baseline
            for name, picture in (("turns.png", turns.draw), ("trip.png", trip.draw)):
                with written(folder / name) as path:
                    picture(path, trace, setup)
    except ModuleNotFoundError as error:
        return f"pictures: left out, {error.name} is not installed. Run {how_to_install('matplotlib')}."
    return ""
