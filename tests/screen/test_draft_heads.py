"""Draft heads that are screened: equal to the nanosecond on the target's chip, refused where something crosses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilsim.describe.policy import Adaptive, Sync
from hilsim.describe.scenario import Lengths, Synthetic
from hilsim.describe.setup import Setup
from hilsim.screen import screening
from hilsim.screen.costs import Tables
from hilsim.screen.screening import refusal
from hilsim.screen.tokens import synthetic_answers
from hilsim.sources.luck import luck_of
from hilsim.sources.synthetic import SyntheticSource
from tests.scenes import between_passes, shipped
from tests.screened import differences

GPU = ("target.chip=agx-orin-64gb", "target.unit=gpu", "target.precision=w4")
SETUPS = {
    "fixed graphs": shipped("eagle_8775"),
    "eagle3 on a GPU": shipped("eagle_8775", *GPU, "draft.head_kind=eagle3"),
    "mtp of two layers": shipped("eagle_8775", *GPU, "draft={head_kind: mtp, layers: 2}"),
    "on the CPU beside": shipped("eagle_8775", *GPU, "draft={head_kind: eagle, unit: cpu}"),
    "a draft model": shipped(
        "eagle_8775", *GPU, "draft={model: draft-68m-llama3, chip: agx-orin-64gb, unit: gpu, precision: w4}"
    ),
}


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(list(SETUPS)),
    policy=st.one_of(
        st.builds(Sync, name=st.just("sync"), draft_tokens=st.integers(1, 9)),
        st.builds(
            Adaptive, name=st.just("adaptive"), rule=st.just("schedule"), draft_tokens=st.integers(1, 9),
            most=st.integers(9, 20),
        ),
    ),
    chance=st.floats(0, 1),
    talk=st.builds(
        Lengths, requests=st.integers(1, 3), prompt_tokens=st.integers(1, 60), output_tokens=st.integers(1, 40),
        pause_ms=st.sampled_from([0.0, 3.0, 500.0]),
    ),
    between=st.none() | st.tuples(st.sampled_from([0, 0.3, 86]), st.sampled_from([0, 17]), st.sampled_from([0, 400])),
)  # fmt: skip
def test_screening_a_head_is_the_event_simulation(name, policy, chance, talk, between) -> None:
    setup = with_talk(SETUPS[name], policy, chance, talk)
    setup = setup if between is None else between_passes(setup, *between)
    assert refusal(setup, policy) == ""
    source = SyntheticSource(luck_of(setup), talk)
    assert differences(setup, synthetic_answers(setup), source, Tables()) == []


def with_talk(setup: Setup, policy: Sync | Adaptive, chance: float, talk: Lengths) -> Setup:
    """The setup with another policy, acceptance and workload."""
    logits = Synthetic(source="synthetic", acceptance=chance)
    update = {"policy": policy, "logits": logits, "workload": talk, "seed": 1}
    return replace(setup, scenario=setup.scenario.model_copy(update=update))


@pytest.mark.parametrize("name", ["fixed graphs", "on the CPU beside"])
def test_a_head_that_is_screened_as_a_model_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a model keeps what it was fed of accepted drafts, and reads a prompt beside the target."""
    talk = Lengths(requests=2, prompt_tokens=20, output_tokens=30)
    setup = with_talk(SETUPS[name], Sync(name="sync", draft_tokens=4), 0.8, talk)
    source = SyntheticSource(luck_of(setup), talk)
    assert differences(setup, synthetic_answers(setup), source, Tables()) == []
    right = screening.costs_of
    monkeypatch.setattr(screening, "costs_of", lambda *a, **k: right(*a, **k)._replace(head=False))
    assert differences(setup, synthetic_answers(setup), source, Tables())


def test_heads_that_need_events_are_refused_with_the_reason() -> None:
    far, policy = shipped("eagle_far"), Sync(name="sync", draft_tokens=3)
    assert refusal(far, policy) == "a draft head, whose hidden states cross 1000base-t1"
    medusa = shipped("eagle_8775", "draft={head_kind: medusa, positions: 3}")
    assert refusal(medusa, policy) == "a medusa head, which proposes a round's tokens in one pass"
    assert refusal(far, shipped("target_alone").scenario.policy) == ""  # the target alone is as without a head
