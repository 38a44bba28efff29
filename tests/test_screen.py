"""Screening against the event simulation: thousands of random configurations, equal to the nanosecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilsim.app import Sources
from hilsim.describe.decoding import FullRows, Ratio, Sampling, Scalar, TokenIds, TopK
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Adaptive, Async, Pearl, Pipelined, Sync, TargetOnly
from hilsim.describe.scenario import Lengths, MarkovAcceptance, Synthetic
from hilsim.logits.synthetic import SyntheticSource
from hilsim.screen.prices import Tables
from hilsim.screen.screening import Unscreenable, refusal
from hilsim.screen.words import recorded_words, synthetic_words, with_lookup
from tests.screened import differences

ROOT = Path(__file__).resolve().parents[1]
TRANSCRIPT = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"
TALK = ("workload.count=3", "workload.max_turns=4")

lengths = st.integers(1, 9)
policies = st.one_of(
    st.just(TargetOnly(name="target_only")),
    st.builds(Sync, name=st.just("sync"), draft_tokens=lengths),
    st.builds(
        Adaptive, name=st.just("adaptive"), rule=st.just("schedule"), draft_tokens=lengths, most=st.integers(9, 20)
    ),
    st.builds(Pearl, name=st.just("pearl"), draft_tokens=lengths),
    st.builds(
        Async,
        name=st.just("async"),
        min_batch=st.integers(0, 4),
        max_ahead=st.integers(4, 20),
        handshake_ms=st.sampled_from([0.0, 0.3, 2.0]),
    ),
    st.builds(
        Pipelined,
        name=st.just("pipelined"),
        draft_tokens=lengths,
        blocks_in_flight=st.integers(1, 4),
        pre_verify=st.booleans(),
    ),
)
acceptances = st.one_of(
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=1, max_size=5).map(tuple),
    st.builds(MarkovAcceptance, **{name: st.floats(0, 1) for name in ("easy", "hard", "stay_easy", "stay_hard")}),
)
payloads = st.one_of(
    st.just((TokenIds(), "target", Sampling())),
    st.just((FullRows(), "target", Sampling(temperature=0.7))),
    st.just((Scalar(), "target", Sampling(temperature=0.7))),
    st.just((Scalar(down="support"), "target", Sampling(temperature=0.7, top_k=40))),
    st.just((TopK(k=64), "draft", Sampling(temperature=0.7, top_k=40))),
)
# Figures of links over six orders of magnitude, and none at all, where instants coincide.
times = st.sampled_from([0.0, 0.1, 1.0, 25.0, 400.0, 6000.0])
rates = st.sampled_from([1e15, 3.3e9, 1.1e8, 1e6])
"""Bases: roofs (a fixed-width NPU with a GPU that minds its cache; two GPUs; one chip) and tables of round numbers."""
BASES = ("orin_8295", "swapped", "one_chip", "paper_table")


def base(name: str):
    """A scenario with synthetic logits in place of live ones."""
    given = [] if name == "paper_table" else ["logits={source: synthetic, acceptance: 0.5}"]
    given += (
        [] if name == "paper_table" else ["workload={requests: 1, prompt_tokens: 9, output_tokens: 9}", "networks=[]"]
    )
    return load_setup(ROOT / f"scenarios/{name}.yaml", given)


SETUPS = {name: base(name) for name in BASES}
TABLES = Tables()


@settings(max_examples=2500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(BASES),
    policy=policies,
    acceptance=acceptances,
    rules=payloads,
    link=st.tuples(times, times, rates),
    talk=st.builds(
        Lengths,
        requests=st.integers(1, 4),
        prompt_tokens=st.integers(1, 60),
        output_tokens=st.integers(1, 40),
        clause_tokens=st.integers(1, 12),
        pause_ms=st.sampled_from([0.0, 1.0, 500.0]),
    ),
    elsewhere=st.booleans(),
)
def test_screening_is_the_event_simulation(name, policy, acceptance, rules, link, talk, elsewhere) -> None:
    setup = SETUPS[name]
    payload, verify_at, sampling = rules
    overhead, propagation, rate = link
    logits = Synthetic(source="synthetic", acceptance=acceptance)
    accept = Ratio() if sampling.temperature else setup.scenario.accept
    scenario = setup.scenario.model_copy(
        update={
            "policy": policy, "logits": logits, "workload": talk, "payload": payload, "verify_at": verify_at,
            "sampling": sampling, "accept": accept, "seed": 1,
        }
    )  # fmt: skip
    figures = {"message_overhead": (overhead, "us"), "propagation": (propagation, "us"), "rate": (rate, "B/s")}
    changed = {
        key: getattr(setup.link, key).model_copy(update={"value": value, "unit": unit, "range": None})
        for key, (value, unit) in figures.items()
    }
    assert setup.link is not None
    assert setup.draft is not None
    application = setup.draft.chip.name if elsewhere else setup.target.chip.name
    setup = replace(
        setup,
        scenario=scenario,
        link=setup.link.model_copy(update={**changed, "jitter": None}),
        application=application,
    )
    words = synthetic_words(setup)
    try:
        assert differences(setup, words, SyntheticSource(logits, talk, 1), Tables()) == []
    except Unscreenable:
        assert refusal(setup, policy) or policy.name in ("async", "pipelined")
