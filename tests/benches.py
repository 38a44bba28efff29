"""Measurements made from constants that are known: what a fit, a comparison or a left-out device is checked against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hilsim.describe.catalogue import load_record
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.describe.figures import with_figures
from hilsim.describe.model import Model
from hilsim.fidelity.cases import Case
from hilsim.places import CODE as PROJECT
from tests.tiny import chip, family, figure, measured, member

NAMES = ("qwen3-0.6b", "llama-3.2-1b", "qwen3-1.7b", "llama-3.2-3b", "qwen3-4b", "llama-3.1-8b", "qwen3-8b")
MODELS = {name: load_record(Model, PROJECT / "models" / f"{name}.yaml") for name in NAMES}
DECODE, PROMPT = ("llm_decode", 1024), ("llm_prefill", 512)
KINDS = (("llm_decode", 256), ("llm_decode", 4096), ("llm_prefill", 128), ("llm_prefill", 1024))
# The family that made the measurements, its constants, and a family that knows none of them.
TRUE = family(layer_overhead=figure(0.4, "Mcycles", "fitted"))
KNOWN = {"precisions.p.memory": 0.8, "precisions.p.operations": 0.25, "layer_overhead": 0.4}
WRONG = with_figures(
    TRUE,
    {
        "precisions.p.memory": figure(0.5, "share", "fitted"),
        "precisions.p.operations": figure(0.1, "share", "fitted"),
        "layer_overhead": figure(3, "Mcycles", "fitted"),
    },
)
ORIN = chip({"u": member()})


def made(
    chips: Sequence[Chip],
    truth: Family = TRUE,
    noise: float = 0.0,
    seed: int = 0,
    models: Sequence[str] = NAMES,
    kinds: Sequence[tuple[str, int]] = KINDS,
) -> list[Case]:
    """Measurements of every model and kind on every chip as `truth` has them, times lognormal noise."""
    chance = np.random.default_rng(seed)
    found: list[Case] = []
    for on in chips:
        for name in models:
            for kind, context in kinds:
                row = measured(kind, context, 1.0, len(found) + 2)
                case = Case(row, on, "u", "p", MODELS[name], None, None)
                factor = math.exp(noise * float(chance.standard_normal()))
                found.append(times(case, 1000 * factor * case.seconds(case.unit({truth.name: truth}))))
    return found


def times(case: Case, factor: float) -> Case:
    """The same measurement with another value."""
    return replace(case, measurement=replace(case.measurement, value=case.measurement.value * factor))
