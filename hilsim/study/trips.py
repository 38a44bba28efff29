"""Trips of a changed scenario: how long until the first audio, and how many deadlines other work misses.

Only the scenario's own policy runs, and nothing but turns, requests and tasks is kept of a run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hilsim.describe.cockpit import UNHEARD
from hilsim.describe.figure import Record
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, HilsimError, ScenarioError
from hilsim.measure.turns import percentile_of, waits
from hilsim.runs.evaluate import Refused, load_fitting, load_variant
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.sweeps import Place, SweepPoint

PERCENTILES = (50, 90, 99)
TRIP_MEASURES = (*(f"first_audio_ms.p{share}" for share in PERCENTILES), "turns", "unheard", "missed", "throttled")


def load_trip(file: Path, overrides: Sequence[str]) -> Setup:
    """A scenario with spoken turns that compiles and fits. Raises `HilsimError`."""
    setup = load_fitting(file, overrides)
    if setup.scenario.speech is None or not setup.scenario.passengers:
        found = "no speech" if setup.scenario.speech is None else "no passengers"
        raise ScenarioError(
            [Fault(str(file), "speech", found, "spoken turns of passengers, such as scenarios/trip.yaml")]
        )
    return setup


def trip_at(place: Place, setup: Setup, changes: Sequence[str], sources: Sources) -> SweepPoint:
    """One point: the setup with further changes; `sources` have the tokens of the setup."""
    variant = load_variant(Path(setup.file), [*setup.overrides, *changes])
    if isinstance(variant, Refused):
        return SweepPoint(place, {}, variant.reason)
    try:
        trace = simulate(variant, sources.replaying(variant).fresh("policy"), keep=False)
    except HilsimError as error:
        return SweepPoint(place, {}, Refused(error, variant.file).reason)
    return SweepPoint(place, numbers(trace), setup=variant)


def numbers(trace: Trace) -> dict[str, float | None]:
    """A trip's measures: infinite where the percentile falls on a turn without an answer.

    `unheard` are turns that were refused or given up, `missed` is the largest share of deadlines that a background task
    missed, `throttled` the largest share of the time that a chip was below full speed.
    """
    first = waits(trace.turns)["first_audio"]
    found: dict[str, float | None] = {}
    for share in PERCENTILES:
        value = percentile_of(first, share)
        found[f"first_audio_ms.p{share}"] = math.inf if value is None and first else value
    tasks = [task for task in trace.tasks.values() if task.released]
    shares = [tally.throttled_ns / sum(tally.level_ns) for tally in trace.heat.values() if sum(tally.level_ns)]
    found["turns"] = len(trace.turns)
    found["unheard"] = sum(turn.outcome in UNHEARD for turn in trace.turns)
    found["missed"] = max((task.missed / task.released for task in tasks), default=0.0)
    found["throttled"] = max(shares, default=0.0)
    return found


def listed(key: str, records: Sequence[Record | dict[str, Any]]) -> str:
    """A list of records as one value of --set."""
    plain = [one.model_dump(mode="json", exclude_none=True) if isinstance(one, Record) else one for one in records]
    return f"{key}={json.dumps(plain)}"
