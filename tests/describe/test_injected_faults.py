"""The section `faults` of a scenario: its spellings, and everything that is wrong with it in one reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.describe.faults import KINDS, Faults, Loss, Reaction
from hilsim.errors import InputError, ScenarioError
from hilsim.sim.run import simulate
from tests.scenes import shipped, synthetic, table_setup


def complaints(folder: Path, *overrides: str) -> list[str]:
    """The messages about a table scenario with faults."""
    with pytest.raises(InputError) as raised:
        table_setup(folder, *overrides)
    return [str(fault) for fault in raised.value.faults]


def inject(*faults: str, reaction: str = "{}") -> str:
    return f"faults={{inject: [{', '.join(faults)}], reaction: {reaction}}}"


def test_places_and_chips_are_known_in_any_usual_spelling(tmp_path: Path) -> None:
    setup = table_setup(
        tmp_path,
        inject(
            "{kind: link_drop, where: UP, at_ms: 5, for_ms: 1}",
            "{kind: hang, where: Paper_Draft, at_ms: [5, 6.5], reload_ms: 3}",
            "{kind: hang, where: Target, on: {phase: verify}, reload_ms: 3}",
        ),
    )
    assert setup.scenario.faults is not None
    assert [fault.where for fault in setup.scenario.faults.inject] == ["up", "paper-draft", "target"]
    assert setup.scenario.faults.inject[0].at_ms == (5,)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = complaints(
        tmp_path,
        inject(
            "{kind: link_drop, at_ms: 5}",
            "{kind: hang, where: up, at_ms: 5}",
            "{kind: slow, where: target, at_ms: 5, per_hour: 3, factor: 2, for_ms: 3}",
            "{kind: freeze, where: target, at_ms: 5}",
            "{kind: late, delay_ms: 4, at_ms: 1, for_ms: 3}",
            "{kind: clock_jump, where: target, jump_ms: 0, at_ms: 1}",
            "{kind: loss, rate: 0.9, burst: 2, at_ms: 1, for_ms: null}",
            "{kind: hang, where: target}",
            reaction="{timeout_ms: 3, timeout_factor: 2}",
        ),
    )
    text = "\n".join(found)
    for words in (
        "link_drop without for_ms", "where 'up' of hang", "at_ms and per_hour, of which one is enough",
        "Did you mean 'hang'?", "for_ms of late", "jump_ms 0", "rate 0.9 in bursts of 2", "no instant",
        "timeout_ms and timeout_factor",
    ):  # fmt: skip
        assert words in text, words
    assert len(found) == 9


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([inject("{kind: hang, where: nowhere, at_ms: 1, reload_ms: 3}")], "a chip in use: paper-draft, paper-target"),
        ([inject("{kind: link_drop, at_ms: 1, for_ms: 2}"), "policy={name: target_only}", "draft=null", "link=null"],
         "no link between chips"),
        ([inject("{kind: lost, at_ms: 1}"), "policy={name: target_only}", "draft=null", "link=null"],
         "draft, and the scenario has none"),
        ([inject("{kind: hang, where: draft, at_ms: 1}"), "target.batch=4"], "target.batch beside injected faults"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    assert any(words in complaint for complaint in complaints(tmp_path, *overrides))


def test_a_chip_with_a_network_cannot_fail() -> None:
    with pytest.raises(ScenarioError, match="runs intent as well"):
        shipped("orin_8295_greedy", inject("{kind: reset, where: target, at_ms: 1}"))
    shipped("orin_8295_greedy", inject("{kind: reset, where: draft, at_ms: 1, reload_ms: 3}"))


def test_a_reset_needs_a_time_to_load(tmp_path: Path) -> None:
    """The test's chips describe no start; it is refused before anything runs."""
    setup = table_setup(tmp_path, inject("{kind: reset, where: target, at_ms: 1}"))
    with pytest.raises(ScenarioError, match=r"faults.inject\[0\]: found reset without reload_ms"):
        simulate(setup, synthetic(setup))


def test_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    setup = table_setup(
        tmp_path, inject("{kind: memory, where: draft, megabytes: 9000000, reload_ms: 1, at_ms: 1, for_ms: 2}")
    )
    with pytest.raises(ScenarioError, match="megabytes: found 9e"):
        simulate(setup, synthetic(setup))


def test_the_digest_depends_on_the_faults_where_there_are_some(tmp_path: Path) -> None:
    plain, with_some = table_setup(tmp_path), table_setup(tmp_path, inject("{kind: lost, at_ms: 1}"))
    assert plain.digest != with_some.digest
    assert "faults" not in plain.scenario.model_dump()


def test_the_chance_to_enter_a_burst_is_one() -> None:
    """rate / (burst (1 - rate)) <= 1 up to rate = burst / (burst + 1)."""
    Loss(kind="loss", rate=2 / 3 - 1e-9, burst=2, at_ms=(0,), for_ms=None)


def test_kinds_are_listed_and_defaults_are_assumed() -> None:
    assert len(set(KINDS)) == 14
    assert Reaction().source == "assumed"
    assert Faults().inject == ()


def test_comparing_rows_without_a_fault_is_refused_beside_passengers() -> None:
    with pytest.raises(ScenarioError) as raised:
        shipped("trip", inject(reaction="{compare_rows: true}"))
    assert any("beside faults.reaction.compare_rows" in str(fault) for fault in raised.value.faults)
    assert shipped("trip", inject()).without_faults.scenario.faults is None


def test_more_than_a_hundred_faults_a_second_are_refused(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, inject("{kind: reset, where: target, per_hour: 10000000, reload_ms: 5}"))
    assert "per_hour" in found
    assert "360000" in found
