"""Closed forms against what papers printed and against grids worked out apart from this code.

`tests/data/theory_grid.csv` (synchronous, synchronous with a link and the best draft length, PEARL) was computed for
this project before its code was written: Theorem 3.8 of arXiv 2211.17192, E / (g c + 1 + l) over g = 0 to 60, and a
renewal model of PEARL's released code that was checked by Monte Carlo. Its figures have five or six digits.
"""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.describe.acceptance import tokens_a_round
from hilsim.places import CODE
from hilsim.study.closed_forms import (
    acceptance_needed,
    best_draft_tokens,
    break_even_acceptance,
    ceiling,
    pearl_slot,
    pearl_speedup,
    pearl_tokens_a_slot,
    pipelined_speedup,
    sync_operations,
    sync_round,
    sync_speedup,
    tokens_accepted,
)

with (CODE / "tests" / "data" / "theory_grid.csv").open(encoding="utf-8", newline="") as file:
    GRID = [
        {key: value if key == "kind" else float(value) for key, value in row.items()}
        for row in csv.DictReader(file)
        if row["kind"] != "async"  # no closed form: tests/screen/test_async_grid.py
    ]


def grid(kind: str) -> list[dict[str, float]]:
    return [row for row in GRID if row["kind"] == kind]


@pytest.mark.parametrize(
    ("acceptance", "drafted", "operations", "speed"),
    [(0.6, 2, 1.53, 1.96), (0.7, 3, 1.58, 2.53), (0.8, 2, 1.23, 2.44), (0.8, 5, 1.63, 3.69), (0.9, 2, 1.11, 2.71),
     (0.9, 10, 1.60, 6.86)],
)  # fmt: skip
def test_leviathans_table_1_to_the_printed_digit(
    acceptance: float, drafted: int, operations: float, speed: float
) -> None:
    assert round(sync_speedup(acceptance, drafted, 0.0), 2) == speed
    assert round(sync_operations(acceptance, drafted, 0.0), 2) == operations


def test_leviathans_bigram_draft() -> None:
    """Section 3.6: acceptance .2 and 3 drafted tokens that cost nothing bring 1.25X."""
    assert round(sync_speedup(0.2, 3, 0.0), 2) == 1.25


@pytest.mark.parametrize(
    ("acceptance", "drafted", "ratio", "printed", "recomputed"),
    # Table 4. Acceptance and ratio are rounded in print, so some printed speeds lie a rounding step off Theorem 3.8.
    [(0.75, 7, 0.02, 3.2, 3.157), (0.80, 7, 0.04, 3.3, 3.251), (0.82, 7, 0.11, 2.5, 2.497),
     (0.62, 7, 0.02, 2.3, 2.258), (0.68, 5, 0.04, 2.4, 2.347), (0.71, 3, 0.11, 2.0, 1.934),
     (0.65, 5, 0.02, 2.4, 2.402), (0.73, 5, 0.04, 2.6, 2.619), (0.74, 3, 0.11, 2.0, 2.025),
     (0.53, 5, 0.02, 1.9, 1.891), (0.55, 3, 0.04, 1.8, 1.803), (0.56, 3, 0.11, 1.6, 1.541)],
)  # fmt: skip
def test_leviathans_table_4(acceptance: float, drafted: int, ratio: float, printed: float, recomputed: float) -> None:
    speed = sync_speedup(acceptance, drafted, ratio)
    assert speed == pytest.approx(recomputed, abs=6e-4)
    assert speed == pytest.approx(printed, abs=0.1)


@pytest.mark.parametrize(
    ("acceptance", "printed"), [(0.75, 3.3), (0.80, 3.9), (0.87, 4.9)], ids=["l=1", "l=0.3", "l=0.1"]
)
def test_leviathans_lenient_greedy_speeds(acceptance: float, printed: float) -> None:
    """Appendix A.5, 8 drafted tokens at c = .015. The rule is lossy, the arithmetic of its speed is the same."""
    assert round(sync_speedup(acceptance, 8, 0.015), 1) == printed


BEST = {
    0.5: ["5, 1.88", "4, 1.79", "3, 1.63", "2, 1.46", "2, 1.35", "2, 1.25", "1, 1.15"],
    0.6: ["7, 2.30", "6, 2.17", "4, 1.92", "3, 1.67", "2, 1.51", "2, 1.40", "1, 1.23"],
    0.7: ["9, 2.97", "8, 2.76", "6, 2.35", "4, 1.98", "3, 1.75", "3, 1.58", "2, 1.37"],
    0.8: ["14, 4.23", "11, 3.82", "8, 3.09", "6, 2.47", "5, 2.11", "4, 1.87", "3, 1.55"],
    0.9: ["24, 7.49", "19, 6.37", "13, 4.67", "10, 3.43", "8, 2.78", "7, 2.37", "5, 1.87"],
}


@pytest.mark.parametrize("acceptance", BEST)
def test_best_draft_length(acceptance: float) -> None:
    """Leviathan's Figure 3 as numbers: best draft length and its speed-up, by the draft's cost."""
    for ratio, cell in zip((0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30), BEST[acceptance], strict=True):
        drafted, printed = cell.split(", ")
        best, speed = best_draft_tokens(acceptance, ratio)
        assert f"{speed:.2f}" == printed, ratio
        # One or two tokens are exactly as fast at .5 and .20: 1.5 / 1.2 = 1.75 / 1.4.
        assert f"{best}" == drafted or sync_speedup(acceptance, int(drafted), ratio) == pytest.approx(speed, rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "drafted", "needed"),
    [(0.02, 7, [0.662, 0.679, 0.694, 0.733, 0.779]), (0.05, 6, [0.725, 0.740, 0.753, 0.785, 0.824]),
     (0.10, 6, [0.805, 0.816, 0.826, 0.850, 0.878]), (0.15, 6, [0.867, 0.875, 0.882, 0.899, 0.919]),
     (0.20, 7, [0.916, 0.921, 0.926, 0.937, 0.950])],
)  # fmt: skip
def test_acceptance_that_two_and_a_half_times_needs(ratio: float, drafted: int, needed: list[float]) -> None:
    """By the link's round trip; `drafted` is the best draft length without a link."""
    for link, acceptance in zip((0, 0.05, 0.10, 0.25, 0.50), needed, strict=True):
        assert acceptance_needed(2.5, ratio, link) == pytest.approx(acceptance, abs=6e-4)
    assert best_draft_tokens(needed[0], ratio)[0] == drafted


def test_what_no_acceptance_reaches() -> None:
    assert acceptance_needed(2.5, 1.0) is None
    assert break_even_acceptance(0.9, link=0.2) is None


@given(st.floats(0, 0.6), st.floats(0, 0.3), st.floats(1, 1.1))
def test_break_even_with_one_drafted_token_is_what_it_costs(draft: float, link: float, verify: float) -> None:
    """One drafted token brings 1 + a tokens in c + v + l."""
    assert break_even_acceptance(draft, link, verify) == pytest.approx(draft + link + verify - 1, abs=1e-9)


def test_the_synchronous_grid() -> None:
    assert len(grid("sync")) == 175
    for row in grid("sync"):
        drafted = int(row["gamma"])
        assert tokens_a_round(row["alpha"], drafted) == pytest.approx(row["tau"], abs=6e-5)
        assert sync_speedup(row["alpha"], drafted, row["c"]) == pytest.approx(row["speedup"], abs=6e-6)


def test_the_grid_of_best_lengths_over_a_link() -> None:
    assert len(grid("synclink")) == 51
    for row in grid("synclink"):
        best, speed = best_draft_tokens(row["alpha"], row["c"], row["l"])
        assert speed == pytest.approx(row["speedup"], abs=6e-6)
        assert best == row["gamma"]


def test_the_pearl_grid() -> None:
    assert len(grid("pearl")) == 178
    for row in grid("pearl"):
        drafted = int(row["gamma"])
        assert pearl_tokens_a_slot(row["alpha"], drafted) == pytest.approx(row["tau"], abs=6e-5)
        assert pearl_speedup(row["alpha"], drafted, row["c"]) == pytest.approx(row["speedup"], abs=6e-6)


@pytest.mark.parametrize(("ratio", "acceptance"), [(0.05, 0.775), (0.10, 0.785), (0.20, 0.832), (0.25, 0.865)])
def test_acceptance_that_pearl_needs_for_two_and_a_half_times(ratio: float, acceptance: float) -> None:
    """At PEARL's own window, 1 / c."""
    drafted = round(1 / ratio)
    assert pearl_speedup(acceptance - 6e-4, drafted, ratio) < 2.5 < pearl_speedup(acceptance + 6e-4, drafted, ratio)


@pytest.mark.parametrize(("ratio", "acceptance"), [(0.02, 0.952), (0.05, 0.875), (0.10, 0.728), (0.15, 0.653)])
def test_with_a_cheap_draft_overlap_pays_only_above_a_crossover(ratio: float, acceptance: float) -> None:
    drafted = round(1 / ratio)
    for offset, pays in ((-6e-3, False), (6e-3, True)):
        overlapping = pearl_speedup(acceptance + offset, drafted, ratio)
        assert (overlapping > best_draft_tokens(acceptance + offset, ratio)[1]) == pays


def test_a_draft_that_is_always_right() -> None:
    """Synchronous: g + 1 tokens a round. PEARL and blocks in flight: g tokens, drafted in the target's time."""
    assert tokens_a_round(1.0, 4) == 5
    assert tokens_accepted(1.0, 4) == 4
    assert sync_speedup(1.0, 4, 0.1, 0.2, 1.4) == pytest.approx(5 / 2)
    assert pearl_tokens_a_slot(1.0, 4) == 4
    assert pearl_speedup(1.0, 4, 0.25) == 4
    assert pipelined_speedup(1.0, 4, 0.25) == 4
    assert ceiling(1.0, 0.25) == 4


def test_a_draft_that_is_never_right() -> None:
    """One token a round or slot, whatever it costs; blocks in flight are all thrown away."""
    assert sync_speedup(0.0, 4, 0.1) == pytest.approx(1 / 1.4)
    assert pearl_speedup(0.0, 4, 0.1) == 1
    assert pipelined_speedup(0.0, 4, 0.1, 0.2) == pytest.approx(1 / 1.6)
    assert ceiling(0.0, 0.1) == 1


def test_pearls_slots_are_as_long_as_the_slower_chip() -> None:
    """At 1/2 and one drafted token both kinds are as frequent. The target does not wait for its own verdict."""
    assert pearl_slot(0.5, 1, 0.1, verify=1.2) == pytest.approx((1 + 1.2) / 2)
    assert pearl_slot(0.5, 1, 0.9, link=0.2, verify=1.2) == pytest.approx((1.1 + 1.2) / 2)
    assert pearl_slot(0.5, 1, 0.9, link=0.5, verify=1.2) == pytest.approx(1.4)


def test_catching_up_costs_as_often_as_a_draft_stands_whole() -> None:
    assert sync_round(0.5, 2, 0.1, catch_up=0.1) == pytest.approx(1.2 + 0.25 * 0.1)


@given(st.floats(0.1, 0.95), st.floats(0.01, 1), st.integers(1, 40))
def test_no_schedule_passes_the_ceiling(acceptance: float, draft: float, drafted: int) -> None:
    top = ceiling(acceptance, draft) * (1 + 1e-9)
    for speed in (sync_speedup, pearl_speedup, pipelined_speedup):
        assert speed(acceptance, drafted, draft) <= top, speed.__name__
