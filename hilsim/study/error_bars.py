"""Error bars of one answer: its timing replayed with other figures, other requests and other pairs' acceptance."""

from __future__ import annotations

from hilsim.describe.setup import Setup
from hilsim.runs.run import Sources
from hilsim.study.uncertainty import FitChance, Uncertainty, chance_of_fitting, uncertainty


def error_bars(setup: Setup, sources: Sources, draws: int) -> tuple[Uncertainty, FitChance]:
    """All intervals, and how often it fits; tokens come from the caches of `sources`."""
    seed = setup.scenario.seed
    return uncertainty(setup, sources, draws, seed), chance_of_fitting(setup, seed)
