"""Error bars: replays that ask nothing twice, draws that keep their median, intervals and movers done on paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.describe.figure import Figure
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.runs.run import Sources, run_both
from hilsim.study.uncertainty import draw, hull, in_use, uncertainty, with_values
from tests.scenes import LINK, TABLE, shipped

RANGED = LINK.replace("value: 2, unit: ms,", "value: 2, unit: ms, range: [1, 6],")


def table_with_a_ranged_link(folder: Path) -> Setup:
    """The table scenario, where the link's message overhead, 2 ms, may lie between 1 and 6 ms."""
    (folder / "link.yaml").write_text(RANGED)
    (folder / "table.yaml").write_text(TABLE.replace("LINK", "link.yaml"))
    return load_setup(folder / "table.yaml")


def test_a_draw_keeps_its_median_and_its_range() -> None:
    figure = Figure(value=2, unit="ms", kind="assumed", source="a test", range=(1, 10))
    chance = np.random.Generator(np.random.Philox(1))
    drawn = np.array([draw(figure, chance) for _ in range(4000)])
    assert drawn.min() >= 1
    assert drawn.max() <= 10
    # Below the value as often as above: 2000 of 4000, within four standard deviations of a fair coin (4 x 31.6).
    assert abs((drawn < 2).sum() - 2000) < 127
    # Evenly on either side: means 1.5 and 6, within four standard errors (0.29 and 2.31 over about 2000 draws).
    assert drawn[drawn < 2].mean() == pytest.approx(1.5, abs=4 * 0.289 / 44)
    assert drawn[drawn > 2].mean() == pytest.approx(6.0, abs=4 * 2.31 / 44)


def test_one_ranged_figure_moves_the_answer_as_on_paper(tmp_path: Path) -> None:
    """Ten tokens after the first at 5 a round: two rounds, each with a message up and one down.

    First token: 100 ms to read and one message up and down around it do not belong to a round. So a request takes
    constant + m x overhead, and what m is follows from two runs; at the ends, 1 and 6 ms, it must be on that line.
    """
    setup = table_with_a_ranged_link(tmp_path)
    found = uncertainty(setup, Sources(setup, remember=True), draws=200, seed=3)
    latency = found.intervals["request_latency_ms p50"]
    assert found.ranged == ("link/message_overhead",)
    (mover,) = latency.movers
    slope = (mover.at_high - mover.at_low) / 5  # messages a request
    assert slope == pytest.approx(round(slope), abs=1e-9)
    assert slope >= 4
    assert latency.nominal == pytest.approx(mover.at_low + slope * 1)
    # Of the drawn overhead 5 % lie below 1.1 ms, half below 2 and 95 % below 5.6; latency is a line over it.
    assert latency.low == pytest.approx(mover.at_low + slope * 0.1, abs=slope * 0.15)
    assert latency.high == pytest.approx(mover.at_low + slope * 4.6, abs=slope * 0.6)
    assert latency.low < latency.median < latency.high
    assert found.intervals["speedup"].movers[0].at_low > found.intervals["speedup"].movers[0].at_high


def test_without_ranges_nothing_moves(tmp_path: Path) -> None:
    """The negative control: the same scenario, the range taken away."""
    (tmp_path / "link.yaml").write_text(LINK)
    (tmp_path / "table.yaml").write_text(TABLE.replace("LINK", "link.yaml"))
    setup = load_setup(tmp_path / "table.yaml")
    found = uncertainty(setup, Sources(setup, remember=True), draws=20, seed=3)
    assert found.ranged == ()
    assert all(one.low == one.nominal == one.high and not one.movers for one in found.intervals.values())


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not(tmp_path: Path) -> None:
    setup = table_with_a_ranged_link(tmp_path)
    sources = Sources(setup, remember=True)
    first, again, other = (uncertainty(setup, sources, draws=30, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def few(name: str) -> Setup:
    return shipped(name, "workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=12")


def test_replays_cost_no_forward_pass_and_say_the_same() -> None:
    setup = few("orin_8295_greedy")
    sources = Sources(setup, remember=True)
    plain = run_both(setup, Sources(setup))
    first = run_both(setup, sources)
    assert sources.memories is not None
    memories = list(sources.memories.values())
    asked, spent = [memory.asked for memory in memories], sources.forward_seconds
    assert len(asked) == 2
    assert min(asked) > 0
    slower = {path: (figure, figure.range[0]) for path, figure in in_use(setup).items() if figure.range is not None}
    second = run_both(with_values(setup, slower), sources)
    assert ([memory.asked for memory in memories], sources.forward_seconds) == (asked, spent)
    for one, other in ((plain.baseline, first.baseline), (plain.speculative, first.speculative)):
        assert one is not None
        assert other is not None
        assert one.spans == other.spans
    assert second.speculative is not None
    assert first.speculative is not None
    assert [r.answer for r in second.speculative.requests] == [r.answer for r in first.speculative.requests]
    assert second.speculative.spans != first.speculative.spans


def test_both_roles_on_one_chip_see_the_same_drawn_figure() -> None:
    setup = few("one_chip")
    power = next(path for path in in_use(setup) if path.endswith("idle_power"))
    figure = in_use(setup)[power]
    changed = with_values(setup, {power: (figure, 1.5)})
    assert changed.draft is not None
    assert changed.target.chip is changed.draft.chip
    assert changed.target.chip.idle_power.value == 1.5
    assert replace(changed, target=setup.target, draft=setup.draft) == setup


def test_only_figures_in_use_are_drawn() -> None:
    paths = in_use(shipped("orin_8295_greedy"))
    assert any("precisions.w4.weight_rate" in path for path in paths)
    assert not [path for path in paths if "precisions.fp16" in path or "/units.cpu" in path or "/memory" in path]


def test_a_hull_is_the_smallest_interval_around_all() -> None:
    assert hull({"a": (2, 5), "b": (0, 1)}, {"a": (3, 7), "b": (0.2, 0.4)}) == {"a": (2, 7), "b": (0, 1)}
