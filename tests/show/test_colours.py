"""Colours that mean different things stay apart for readers who see red and green alike."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest

from hilsim.show.kinds import CAUSES, DRAFT, KINDS, PARTS, STAGE_KINDS, TARGET
from hilsim.show.plots.curves import BLACK_AND
from hilsim.show.profiles import COLOURS as OUTCOMES

# Machado, Oliveira and Fernandes 2009, at full severity, over linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
LEAST = 12  # CIE 1976; about 2 is just seen side by side
SETS: dict[str, Iterable[str]] = {
    "parts of a memory": PARTS.values(),
    "causes of time": CAUSES.values(),
    "outcomes of a compile check": OUTCOMES.values(),
    "stages of a spoken turn": [kind.colour for kind in STAGE_KINDS.values()],
    "on a unit": [KINDS[name].colour for name in ("prefill", "network", "verify", "decode", "wake", "switch", "fault")],
    "on a draft's unit": [KINDS[name].colour for name in ("draft prefill", "draft", "wake", "switch", "fault")],
    "on a link": [KINDS[name].colour for name in ("prompt", "drafts", "verdict", "hidden states")],
    "lines": BLACK_AND,
}


def lab(colour: str, sight: str) -> np.ndarray:
    """A colour as seen, in CIE L*a*b*."""
    given = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(SIGHT[sight] @ linear, 0, 1) / WHITE
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def apart(one: str, other: str) -> float:
    """How far two colours are from each other for whoever sees them least apart."""
    return min(float(np.linalg.norm(lab(one, sight) - lab(other, sight))) for sight in SIGHT)


@pytest.mark.parametrize("name", SETS)
def test_colours_of_one_picture_stay_apart(name: str) -> None:
    near = {(one, other): round(apart(one, other), 1) for one, other in combinations(SETS[name], 2)}
    assert {pair: value for pair, value in near.items() if value < LEAST} == {}
    assert len(near) > 1


def test_colours_that_are_alike_would_be_found() -> None:
    assert apart("#009e73", "#7f7f7f") < LEAST, "a green and a grey"
    assert apart("#9a86d8", TARGET) < LEAST, "the purple that prompts once had"
    assert apart(DRAFT, TARGET) > 60
    assert np.allclose(lab("#ffffff", "all cones"), [100, 0, 0], atol=0.05)
