"""Recordings for tests: steps that take what a described chip says, and some noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.chip import Unit
from hilsim.describe.model import Model
from hilsim.hardware.measured.profile import ProfileGrid, asks
from hilsim.hardware.recordings.recorder import Recorder
from hilsim.hardware.wire.exchange import ModelFacts, StepRequest, StepResult
from hilsim.places import CODE as PROJECT
from tests.hardware_fakes import BOARD

HERE = PROJECT / "scenarios" / "x.yaml"
SMALL = ProfileGrid(rows=(1, 2, 4, 8, 16, 64), cached=(0, 128, 512), prompts=(32, 128))
Took = Callable[[StepRequest], float]  # nanoseconds


def unit_of(chip: str, unit: str) -> Unit:
    """A shipped chip's unit with all its figures."""
    return load_chip(chip, HERE).units[unit]


def facts_of(name: str, context: int = 1024, widths: tuple[int, ...] | None = None) -> ModelFacts:
    """A described model as an agent would tell of it."""
    described = load_named("model", Model, name, HERE)
    return ModelFacts(name, described.vocabulary.entries, context, widths, ("logits", "tokens"))


def as_the_chip(unit: Unit, precision: str, facts: Sequence[ModelFacts], described: Mapping[str, str] = {}) -> Took:
    """What each step takes on a unit: what the simulator would charge."""
    timers = {
        one.name: Roofline(
            load_named("model", Model, described.get(one.name, one.name), HERE),
            unit,
            precision,
            one.widths,
            one.context,
        )
        for one in facts
    }
    return lambda ask: timers[ask.model].duration_ns(Step(Phase(ask.phase), ask.rows, ask.cached))


def recorded(
    file: Path,
    facts: Sequence[ModelFacts],
    took: Took,
    *,
    grid: ProfileGrid = SMALL,
    repeats: int = 3,
    noise: float = 0.0,
) -> Path:
    """A profile of a board on which steps take so long, with noise of a lognormal law."""
    rng = np.random.default_rng(7)
    with Recorder(
        file, unit="profile", scenario=None, address="tcp://127.0.0.1:1", facts=BOARD,
        models={one.name: one for one in facts}, settings={"warm_up": 1, "repeats": repeats},
    ) as recorder:  # fmt: skip
        for number in range(1 + repeats):
            for ask in asks(facts, grid):
                factor = 10 if number == 0 else float(np.exp(rng.normal(0, noise)))  # warm-up must not count
                recorder.add(None, ask, StepResult(round(took(ask) * factor)), "warm-up" if number == 0 else "profile")
    return file
