"""Faults of the simulated car: shares and lengths of chance, and what must hold whatever fails when."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilsim.describe.faults import KINDS
from hilsim.describe.policy import TargetOnly
from hilsim.measure.metrics import compare_texts
from hilsim.measure.parts import requests_in_parts
from hilsim.runs.run import Sources
from hilsim.sim.faults.supervisor import Supervisor
from hilsim.sim.request import Request
from hilsim.sim.run import simulate
from tests.scenes import shipped, synthetic
from tests.sim.faulty import FAULTS, WHENS, calm, check_records, fault, only, run, text_is_right, with_faults
from tests.sim.test_policies import CHAINS, LOOKUPS, TREES, check_tracks


def test_every_kind_is_tested() -> None:
    assert set(FAULTS) == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_the_mean_number_of_repetitions_follows_from_the_loss(tmp_path: Path, rate: float) -> None:
    """p / (1 - p) a message (the tries are geometric); a standard error of sqrt(p / n) / (1 - p) of the mean."""
    setup = with_faults(
        tmp_path, f"{{kind: loss, rate: {rate}, at_ms: 0, for_ms: null}}", "workload.output_tokens=4000",
        "context_tokens=100000", "target.timer.prefill={\"512\": 1}", "draft.timer.prefill={\"512\": 1}",
        reaction="{retries: 1000, timeout_ms: 1, backoff_ms: 0, backoff_factor: 1}",
    )  # fmt: skip
    trace = run(setup)
    messages = sum(span.kind in ("drafts", "verdict", "prompt") for span in trace.spans)
    error = (rate / messages) ** 0.5 / (1 - rate)
    assert messages > 1500
    assert only(trace).resent_messages / messages == pytest.approx(rate / (1 - rate), abs=4 * error)


@pytest.mark.slow
def test_bursts_are_as_long_as_stated(tmp_path: Path) -> None:
    """The share of copies lost is the rate, and the mean run of losses the burst's length."""
    rate, burst = 0.3, 4.0
    setup = with_faults(
        tmp_path, f"{{kind: loss, where: up, rate: {rate}, burst: {burst}, at_ms: 0, for_ms: null}}",
        "workload.output_tokens=20000", "context_tokens=100000",
        "target.timer.prefill={\"512\": 1}", "draft.timer.prefill={\"512\": 1}",
        reaction="{retries: 1000, timeout_ms: 1, backoff_ms: 0, backoff_factor: 1}",
    )  # fmt: skip
    copies = [span.kind == "fault" for span in run(setup).spans if span.track.endswith(".up")]
    ends = sum(before and not after for before, after in pairwise(copies))
    lost = sum(copies)
    assert len(copies) > 5000
    # Neighbours depend on each other: the effective number of copies is smaller by 2 x burst or so.
    error = (rate * (1 - rate) * 2 * burst / len(copies)) ** 0.5
    assert lost / len(copies) == pytest.approx(rate, abs=4 * error)
    assert lost / ends == pytest.approx(burst, abs=4 * burst / ends**0.5)


CHECKED = [*CHAINS, *TREES]


@pytest.mark.parametrize("policy", CHECKED)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3),
    whens=st.lists(st.sampled_from(WHENS), min_size=3, max_size=3),
    for_ms=st.sampled_from([1, 40, 300, 2500]),
    chip=st.sampled_from(["target", "draft", "paper-target"]),
    acceptance=st.sampled_from([0.0, 0.7, 1.0]),
    elsewhere=st.booleans(),
    reaction=st.sampled_from(["{}", "{retries: 0}", "{fallback: none}", "{resume: false}", "{timeout_factor: 1.5}"]),
    sessions=st.sampled_from([1, 2]),
)
def test_whatever_fails_answers_are_whole_and_right(
    tmp_path: Path,
    policy: str,
    kinds: list[str],
    whens: list[str],
    for_ms: float,
    chip: str,
    acceptance: float,
    elsewhere: bool,
    reaction: str,
    sessions: int,
) -> None:
    """Every run ends; its text is the target's; records are in order; tracks hold one thing at a time."""
    faults = ", ".join(fault(kind, when, for_ms=for_ms, chip=chip) for kind, when in zip(kinds, whens, strict=False))
    setup = with_faults(
        tmp_path, faults, f"policy={policy}", f"logits.acceptance={acceptance}", "workload.requests=3",
        'target.timer={prefill: {"512": 60}, decode: 50, verify: {"512": 60}, source: round numbers}',
        'draft.timer={prefill: {"512": 20}, decode: 5, verify: {"512": 5}, source: round numbers}',
        f"application={'paper-draft' if elsewhere else 'paper-target'}", "context_tokens=100000",
        f"workload.talkers={sessions}", reaction=reaction.replace("{", "{give_up_ms: 20000, ").replace(", }", "}"),
    )  # fmt: skip
    trace = run(setup)
    check_records(trace)
    check_tracks(trace)
    assert text_is_right(trace)
    if trace.lost is not None:
        # What is not survived here: a chip that is gone with the application, or without a fallback; endless faults.
        assert "lost" in kinds or "per_hour: 20000" in whens
        assert any(not record.survived for record in trace.faults)
        return
    assert [request.output_tokens for request in sorted(trace.requests)] == [11] * 3
    for record, rounds in requests_in_parts(trace):
        assert sum(parts.total for _, parts in rounds) == record.finished_ns - record.arrived_ns
    levels = {level.chip: level.used_bytes for level in trace.levels}
    undisturbed = {level.chip: level.used_bytes for level in calm(setup).levels}
    if not {"memory"} & set(kinds):
        assert levels == undisturbed
    if not trace.faults:
        assert trace.spans == calm(setup).spans


@pytest.mark.parametrize("policy", CHECKED)
def test_faults_that_never_begin_change_nothing(tmp_path: Path, policy: str) -> None:
    faults = ", ".join(
        fault(kind, when) for kind in FAULTS for when in ("at_ms: 1000000", "on: {phase: verify, request: 77}")
    )
    setup = with_faults(
        tmp_path, faults, f"policy={policy}", "workload.requests=3", "logits.acceptance=0.7", "workload.talkers=2",
        'target.timer.verify={"512": 60}', 'draft.timer.verify={"512": 5}',
    )  # fmt: skip
    assert run(setup) == calm(setup)


TRANSCRIPT = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"


@pytest.mark.parametrize("policy", [*LOOKUPS, "{name: pearl, draft_tokens: 3}", "{name: target_only}"])
def test_real_text_stays_the_targets_own_whatever_fails(policy: str) -> None:
    """What lookups propose depends on the text: recorded answers, with a target, a draft and a link that fail."""
    faults = ", ".join(
        [
            "{kind: reset, where: target, reload_ms: 300, on: {phase: verify, request: 1, round: 2}}",
            "{kind: hang, where: draft, reload_ms: 300, on: {phase: draft, request: 0}}",
            "{kind: loss, rate: 0.3, at_ms: 0, for_ms: null}",
            "{kind: bit_errors, rate: 0.001, at_ms: 0, for_ms: null}",
        ]
    )
    setup = shipped(
        "orin_8295_greedy", TRANSCRIPT, "networks=[]", f"policy={policy}", f"faults={{inject: [{faults}]}}",
        "workload.count=2",
    )  # fmt: skip
    sources = Sources(setup)
    alone = simulate(setup.without_faults, sources.fresh(), TargetOnly(name="target_only"))
    ours = simulate(setup, sources.fresh())
    assert [one.answer for one in ours.requests] == [one.answer for one in alone.requests]
    assert compare_texts(alone, ours)["divergences"] == []
    assert next(record for record in ours.faults if record.kind == "reset").recovered_ns > 0
    check_records(ours)
    check_tracks(ours)


def test_in_real_time_the_trace_is_the_same_and_waits_for_nothing(tmp_path: Path) -> None:
    """What nothing waits for any more, such as the patience of 60 s with the target, is not slept through."""
    setup = with_faults(tmp_path, fault("hang", "on: {phase: verify, round: 1}", chip="target"))
    paced = simulate(setup, synthetic(setup), realtime=0.05)
    assert paced == run(setup)
    assert paced.pace is not None
    assert paced.pace.simulated_s < 1


def test_the_same_seed_gives_the_same_trace(tmp_path: Path) -> None:
    faults = ", ".join(fault(kind, "per_hour: 30000") for kind in ("loss", "bit_errors", "hang", "late"))
    setup = with_faults(tmp_path, faults, "workload.output_tokens=200", "workload.requests=3")
    first = run(setup)
    assert len(first.faults) > 3
    assert first == run(setup)
    other = run(with_faults(tmp_path, faults, "workload.output_tokens=200", "workload.requests=3", "seed=2"))
    assert [record.began_ns for record in other.faults] != [record.began_ns for record in first.faults]


def test_keeping_what_is_uncommitted_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a supervisor that takes the drafts of a round that was given up for part of the answer."""
    setup = with_faults(
        tmp_path, fault("link_drop", "on: {phase: up, round: 1}"), "logits.acceptance=0", reaction="{retries: 0}"
    )
    assert text_is_right(run(setup))
    give_up: Callable[..., None] = Supervisor.give_up
    source = synthetic(setup)

    def keeping(self: Supervisor, one: object, failure: object) -> None:
        give_up(self, one, failure)
        request: Request = one.request  # type: ignore[attr-defined]
        self.context.commit(request, 0, source.draft(request, 4).tokens, (0.0,) * 4)

    monkeypatch.setattr(Supervisor, "give_up", keeping)
    assert not text_is_right(run(setup))
