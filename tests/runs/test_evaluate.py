"""One variant evaluated: its numbers, however they are come by, or why it has none, with the faults as data."""

from __future__ import annotations

import pytest

from hilsim.errors import PlacementError
from hilsim.places import CODE as PROJECT
from hilsim.runs.evaluate import Refused, evaluate, load_variant, run_variant
from hilsim.runs.run import Sources

PAPER = PROJECT / "scenarios/paper_table.yaml"
FEW = ["workload.requests=4"]


def test_numbers_are_the_same_by_fast_timing_by_events_and_from_given_sources() -> None:
    setup = load_variant(PAPER, FEW)
    assert not isinstance(setup, Refused)
    quick, every, given = evaluate(setup), evaluate(setup, every=True), evaluate(setup, sources=Sources(setup))
    assert isinstance(quick, dict)
    assert isinstance(every, dict)
    assert every == given
    assert set(quick) < set(every)
    for name, value in quick.items():
        assert value == pytest.approx(every[name], rel=1e-12), name


def test_a_faulty_value_is_refused_with_its_faults() -> None:
    found = load_variant(PAPER, ["policy.draft_tokens=none"])
    assert isinstance(found, Refused)
    assert [fault.place for fault in found.faults] == ["policy.draft_tokens"]
    assert found.found == found.faults[0].found
    assert found.reason.startswith(f"policy.draft_tokens: {found.found}; expected ")
    assert evaluate(found) is found
    assert run_variant(found) is found


def test_what_does_not_fit_is_refused_in_one_line_unless_fitting_is_of_no_account() -> None:
    alone = ["draft=null", "link=null", "policy={name: target_only}"]
    large = [*alone, "target.model=llama-3.1-8b", "context_tokens=131072", "workload.talkers=64"]
    found = load_variant(PAPER, large)
    assert isinstance(found, Refused)
    assert isinstance(found.error, PlacementError)
    assert found.faults == ()
    assert "too large" in found.reason
    assert str(PAPER) not in found.reason
    assert not isinstance(load_variant(PAPER, large, fitting=False), Refused)
