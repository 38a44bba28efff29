"""Every policy: the text of the target alone, whole answers whatever the timing, and the closed forms of its papers."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import compare_texts, speedup
from hilsim.measure.parts import requests_in_parts
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.scenes import LINK, MS, both, shipped, synthetic, table_setup

CHAINS = [
    "{name: sync, draft_tokens: 4}",
    "{name: adaptive, rule: schedule, draft_tokens: 3}",
    "{name: adaptive, rule: confidence, most: 6}",
    "{name: adaptive, rule: entropy, most: 6}",
    "{name: adaptive, rule: expected, most: 9}",
    "{name: pearl, draft_tokens: 4}",
    "{name: async}",
    "{name: async, min_batch: 0, max_ahead: 5, handshake_ms: 3}",
    "{name: async, min_batch: 1, max_ahead: 1}",
    "{name: async, min_batch: 3, pre_verify: true}",
    "{name: pipelined, draft_tokens: 3}",
    "{name: pipelined, draft_tokens: 1, blocks_in_flight: 3}",
    "{name: pipelined, draft_tokens: 4, blocks_in_flight: 2, pre_verify: false}",
    "{name: sync, draft_tokens: 4, fallback: {window: 2, rest_tokens: 3}}",
    "{name: async, fallback: {window: 1, rest_tokens: 1, margin: 2.0}}",
    "{name: pipelined, draft_tokens: 2, fallback: {window: 2, rest_tokens: 2, margin: 1.5}}",
    "{name: pearl, draft_tokens: 2, fallback: {window: 2, rest_tokens: 2, margin: 1.5}}",
]
LOOKUPS = [
    "{name: prompt_lookup, draft_tokens: 4}",
    "{name: suffix, draft_tokens: 6, factor: 4}",
    "{name: suffix, draft_tokens: 3, longest_match: 2, fallback: {window: 2, rest_tokens: 2}}",
    "{name: cascade, draft_tokens: 3}",
    "{name: cascade, draft_tokens: 2, least: 3}",
]
TREES = [
    "{name: tree, branches: [3, 2]}",
    "{name: tree, nodes: 9, top: 3, depth: 4}",
    "{name: lookahead, window: 4, ngram: 4, guesses: 3}",
    "{name: lookahead, window: 1, ngram: 2, guesses: 2, fallback: {window: 2, rest_tokens: 2, margin: 2.0}}",
    "{name: ssd, branches: [3, 2], forecasts: models/ssd}",
]
POLICIES = [*CHAINS, *TREES]  # that chance has an acceptance for


def timed(folder: Path, policy: str, acceptance: float, ratio: float, link_ms: float, *overrides: str) -> Setup:
    """Target steps of 50 ms at any width, draft steps of `ratio` times that, a link of `link_ms` a message."""
    link = folder / "timed-link.yaml"
    link.write_text(
        LINK.replace("value: 2, unit: ms", f"value: {link_ms}, unit: ms").replace("value: 1, unit", "value: 0, unit")
    )
    step = 50 * ratio
    return table_setup(
        folder,
        f"policy={policy}",
        f"logits.acceptance={acceptance}",
        'target.timer={prefill: {"512": 0}, decode: 50, verify: {"512": 50}, source: round numbers}',
        f'draft.timer={{prefill: {{"512": 0}}, decode: {step}, verify: {{"512": {step}}}, source: round numbers}}',
        f"link={link}",
        "context_tokens=100000",
        *overrides,
    )


def rate(trace: Trace) -> float:
    """Tokens in the time of one target step, first tokens left out: their prefill costs nothing here."""
    took = sum(request.finished_ns - request.arrived_ns for request in trace.requests)
    return sum(request.output_tokens - 1 for request in trace.requests) * 50 * MS / took


def check_tracks(trace: Trace) -> None:
    """Spans of one track never overlap."""
    by_track = defaultdict(list)
    for span in trace.spans:
        by_track[span.track].append(span)
    for spans in by_track.values():
        spans.sort(key=lambda span: span.start_ns)
        for before, after in pairwise(spans):
            assert before.end_ns <= after.start_ns


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acceptance=st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0]),
    ratio=st.sampled_from([0.02, 0.1, 0.25, 1.0, 1.7]),
    link_ms=st.sampled_from([0.0, 0.5, 7.0, 120.0]),
    output=st.integers(1, 24),
    seed=st.integers(0, 50),
    elsewhere=st.booleans(),
)
def test_answers_are_whole_whatever_the_timing(
    tmp_path: Path,
    policy: str,
    acceptance: float,
    ratio: float,
    link_ms: float,
    output: int,
    seed: int,
    elsewhere: bool,
) -> None:
    """No deadlock, no token too many, words in order, and the account of the time adds up to it exactly."""
    setup = timed(
        tmp_path, policy, acceptance, ratio, link_ms, f"workload.output_tokens={output}", "workload.requests=3",
        f"seed={seed}", f"application={'paper-draft' if elsewhere else 'paper-target'}",
    )  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    assert [request.output_tokens for request in trace.requests] == [output] * 3
    for request in trace.requests:
        rounds = [closed for closed in trace.rounds if closed.request == request.number]
        assert [closed.number for closed in rounds] == list(range(len(rounds)))
        assert sum(closed.emitted for closed in rounds) == output
        delivered = [closed.delivered_ns for closed in rounds]
        assert delivered == sorted(delivered)
        assert request.arrived_ns <= delivered[0]
        assert request.finished_ns == delivered[-1]
    for record, rounds in requests_in_parts(trace):
        assert sum(parts.total for _, parts in rounds) == record.finished_ns - record.arrived_ns
        assert all(min(parts) >= 0 for _, parts in rounds)
    check_tracks(trace)


@pytest.mark.parametrize("policy", [*CHAINS, *LOOKUPS])
def test_every_policy_emits_what_the_target_alone_emits(policy: str) -> None:
    setup = shipped("orin_8295_greedy", f"policy={policy}", "workload.count=1", "workload.max_turns=3",
                    "workload.max_new_tokens=20", "logits.dtype=float64")  # fmt: skip
    from hilsim.runs.run import Sources

    sources = Sources(setup)
    alone = simulate(setup, sources.fresh(), TargetOnly(name="target_only"))
    ours = simulate(setup, sources.fresh())
    found = compare_texts(alone, ours)
    assert found["mismatches"] == found["numerical_ties"] == 0
    assert found["checked_tokens"] == sum(request.output_tokens for request in alone.requests)
    assert speedup(alone, ours) > 0.2


# Tokens in a target step. Each runs 20,000 rounds or more; the spread of a round's tokens is below 2, so that the mean
# of 20,000 has a standard error under 0.5 %.


@pytest.mark.parametrize(("acceptance", "ratio", "drafted", "link"), [(0.8, 0.1, 5, 0.2), (0.5, 0.05, 2, 0.5)])
def test_sync_over_a_link_follows_its_closed_form(
    tmp_path: Path, acceptance: float, ratio: float, drafted: int, link: float
) -> None:
    tokens = (1 - acceptance ** (drafted + 1)) / (1 - acceptance)
    trace = long_run(tmp_path, f"{{name: sync, draft_tokens: {drafted}}}", acceptance, ratio, link, tokens)
    assert rate(trace) == pytest.approx(tokens / (drafted * ratio + 1 + link), rel=0.01)


@pytest.mark.parametrize(("acceptance", "ratio", "drafted"), [(0.8, 0.2, 5), (0.6, 0.3, 2)])
def test_pearl_follows_its_renewal_form(tmp_path: Path, acceptance: float, ratio: float, drafted: int) -> None:
    whole = acceptance**drafted
    tokens = (1 - whole) / ((1 - acceptance) * (1 + acceptance - whole))
    trace = long_run(tmp_path, f"{{name: pearl, draft_tokens: {drafted}}}", acceptance, ratio, 0.0, tokens)
    assert rate(trace) == pytest.approx(tokens / max(drafted * ratio, 1), rel=0.01)


@pytest.mark.parametrize(("acceptance", "ratio", "drafted", "link"), [(0.8, 0.1, 5, 0.2), (0.6, 0.4, 4, 0.1)])
@pytest.mark.slow
def test_pipelined_blocks_follow_their_closed_form(
    tmp_path: Path, acceptance: float, ratio: float, drafted: int, link: float
) -> None:
    """PicoSpec: a hit costs the longer of drafting and round trip with verify, a miss the sum of both."""
    hit = acceptance**drafted
    tokens, drafting, answering = (1 - hit) / (1 - acceptance), drafted * ratio, 1 + link
    policy = f"{{name: pipelined, draft_tokens: {drafted}, pre_verify: false}}"
    trace = long_run(tmp_path, policy, acceptance, ratio, link, tokens)
    slot = hit * max(drafting, answering) + (1 - hit) * (drafting + answering)
    assert rate(trace) == pytest.approx(tokens / slot, rel=0.01)


def long_run(folder: Path, policy: str, acceptance: float, ratio: float, link: float, tokens: float) -> Trace:
    """20,000 rounds, in answers of 1,000 tokens."""
    requests = math.ceil(20 * tokens * 1.02) + 1
    setup = timed(
        folder, policy, acceptance, ratio, 50 * link / 2, "workload.output_tokens=1001", f"workload.requests={requests}"
    )
    trace = simulate(setup, synthetic(setup))
    assert len(trace.rounds) >= 20_000
    return trace


@pytest.mark.parametrize("policy", CHAINS)
@pytest.mark.parametrize(("acceptance", "ratio"), [(0.5, 0.1), (0.8, 0.05), (0.9, 0.5)])
def test_no_policy_beats_the_general_bound(tmp_path: Path, policy: str, acceptance: float, ratio: float) -> None:
    """Every rejection costs a target step in sequence, every accepted draft a draft step: 1 / ((1 - a) + c a)."""
    setup = timed(tmp_path, policy, acceptance, ratio, 0.0, "workload.output_tokens=501", "workload.requests=4")
    # 3 %: four standard errors of the mean run between two rejections over 2,000 tokens at an acceptance of 0.9.
    assert rate(simulate(setup, synthetic(setup))) <= 1.03 / (1 - acceptance + ratio * acceptance)


def test_overlap_hides_the_draft_only_where_it_is_slow(tmp_path: Path) -> None:
    """At acceptance .9 and c = .3 overlapping wins, at .5 and c = .02 waiting wins (facts: PEARL's crossover)."""
    for acceptance, ratio, drafted, overlap_wins in ((0.9, 0.3, 3, True), (0.5, 0.02, 6, False)):
        rates = {}
        for name in ("sync", "pearl"):
            policy = f"{{name: {name}, draft_tokens: {drafted}}}"
            setup = timed(tmp_path, policy, acceptance, ratio, 0.0, "workload.output_tokens=801", "workload.requests=6")
            rates[name] = rate(simulate(setup, synthetic(setup)))
        assert (rates["pearl"] > rates["sync"]) == overlap_wins


def test_drafts_that_wait_for_the_wire_go_together(tmp_path: Path) -> None:
    """A message takes 20 ms of the wire, a draft 5: after the first token four go at a time, and no queue grows."""
    setup = timed(tmp_path, "{name: async, max_ahead: 64}", 1.0, 0.1, 20.0, "workload.output_tokens=200",
                  "workload.requests=1")  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    messages = [span for span in trace.spans if span.kind == "drafts"]
    tokens = [(span.nbytes - 16) // 4 for span in messages]
    assert tokens[0] == 1
    assert set(tokens[1:-2]) <= {3, 4, 5}
    assert max(span.start_ns - span.asked_ns for span in messages) == 0


def test_with_pre_verify_the_target_does_not_wait_for_a_draft_that_starts_again(tmp_path: Path) -> None:
    """Drafts of 5 ms that never stand: a target step a token. Without, every token waits for two new drafts as well."""
    for pre_verify in (True, False):
        policy = f"{{name: async, pre_verify: {str(pre_verify).lower()}}}"
        setup = timed(tmp_path, policy, 0.0, 0.1, 0.0, "workload.output_tokens=100", "workload.requests=1")
        trace = simulate(setup, synthetic(setup))
        assert all(closed.emitted == 1 for closed in trace.rounds)
        assert (rate(trace) > 0.97) == pre_verify
        alone = [closed for closed in trace.rounds if closed.number > 0 and not closed.drafted]
        assert bool(alone[:-1]) == pre_verify  # the last token of an answer is always a row by itself


def test_a_losing_draft_is_given_up_and_tried_again(tmp_path: Path) -> None:
    """Drafts that never stand: with a fallback the time lies near the target alone's, without it far above."""
    loss = {}
    for extra in ("", ", fallback: {window: 3, rest_tokens: 30}"):
        policy = f"{{name: sync, draft_tokens: 4{extra}}}"
        setup = timed(tmp_path, policy, 0.0, 0.2, 5.0, "workload.output_tokens=200", "workload.requests=2")
        loss[bool(extra)] = speedup(*both(setup))
    # Without: 0.8 + 0.2 + 1 steps a token. With: 3 rounds of 2 steps, 30 of 1.
    assert loss[False] == pytest.approx(0.5, rel=0.02)
    assert loss[True] == pytest.approx(33 / 36, rel=0.03)


def test_expected_value_stops_at_the_staircase(tmp_path: Path) -> None:
    """Verifies of 8 rows cost a plain step, wider ones ten: no draft is longer than 7, few are much shorter."""
    setup = timed(
        tmp_path, "{name: adaptive, rule: expected, most: 20}", 0.95, 0.01, 0.0, "workload.output_tokens=400",
        'target.timer={prefill: {"512": 0}, decode: 50, verify: {"8": 50, "512": 500}, source: a staircase}',
    )  # fmt: skip
    lengths = [closed.drafted for closed in simulate(setup, synthetic(setup)).rounds if closed.drafted]
    assert max(lengths) == 7
    assert sum(lengths) / len(lengths) > 6


def test_a_fallback_learns_over_many_short_answers(tmp_path: Path) -> None:
    """Six tokens an answer, a window of six rounds: the watch and the rest go on from one answer to the next."""
    speeds = []
    for extra in ("", ", fallback: {window: 6, rest_tokens: 200}"):
        policy = f"{{name: sync, draft_tokens: 4{extra}}}"
        setup = timed(tmp_path, policy, 0.0, 0.2, 5.0, "workload.output_tokens=6", "workload.requests=200")
        speeds.append(speedup(*both(setup)))
    assert speeds[0] < 0.65
    assert speeds[1] > 0.9


def test_a_fallback_does_not_take_a_queue_for_a_loss(tmp_path: Path) -> None:
    """Four talkers queue for one target; speculation wins for all of them, and stays on."""
    speeds = []
    for extra in ("", ", fallback: {}"):
        policy = f"{{name: sync, draft_tokens: 4{extra}}}"
        setup = timed(tmp_path, policy, 0.9, 0.1, 1.0, "workload.output_tokens=100", "workload.requests=8",
                      "workload.talkers=4")  # fmt: skip
        speeds.append(speedup(*both(setup)))
    assert speeds[1] == pytest.approx(speeds[0], rel=0.02)


def test_expected_value_tries_again_after_giving_up(tmp_path: Path) -> None:
    """A draft that is always right and costs three quarters of a step: what is thought of it at first forbids it."""
    setup = timed(tmp_path, "{name: adaptive, rule: expected, most: 8}", 1.0, 0.75, 0.5, "workload.output_tokens=300",
                  "workload.requests=1")  # fmt: skip
    alone, ours = both(setup)
    assert any(closed.drafted for closed in ours.rounds)
    assert speedup(alone, ours) > 1.1


def test_the_drafts_chip_is_sent_tokens_that_the_target_decoded_alone(tmp_path: Path) -> None:
    """After every rest a message brings the tokens, and no draft step begins before it has arrived."""
    policy = "{name: sync, draft_tokens: 2, fallback: {window: 1, rest_tokens: 3, margin: 9}}"
    setup = timed(tmp_path, policy, 0.5, 0.1, 4.0, "workload.output_tokens=20", "workload.requests=1")
    trace = simulate(setup, synthetic(setup))
    told = [span for span in trace.spans if span.kind == "prompt"][1:]
    assert told
    assert {(span.nbytes - 16) // 4 for span in told} == {3}
    first = {span.round: span.start_ns for span in reversed(trace.spans) if span.kind == "draft"}
    for span in told:
        assert first[span.round] == span.done_ns


def test_an_answer_starts_before_a_slow_draft_has_read_the_question(tmp_path: Path) -> None:
    """Heard and spoken on the draft's chip: 3 ms up, 100 to read, 3 down; the draft reads for 500."""
    setup = table_setup(tmp_path, "application=paper-draft", 'draft.timer.prefill={"64": 500}')
    trace = simulate(setup, synthetic(setup))
    assert trace.rounds[0].delivered_ns == 106 * MS
