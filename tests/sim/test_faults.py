"""Faults of the simulated car: timelines by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.cost.memory import ledgers
from hilsim.cost.start_up import flash_bytes
from hilsim.sources.synthetic import RIGHT
from tests.scenes import MS
from tests.sim.faulty import calm, fault, only, run, text_is_right, with_faults
from tests.sim.test_policies import check_tracks

# The table scenario, in ms: the question takes 103 (read 100, the first token is sent to the draft in 3). A round is
# 4 drafts of 5, 3 up, 60 to verify, 3 down: round 1 drafts from 103 to 123, is up from 123 to 126, verified until 186,
# down at 189; round 2 at 275. The first token and two rounds of five tokens are the whole answer.
UP_MS, ROUND_MS = 123, 86


def test_the_undisturbed_run_is_as_said(tmp_path: Path) -> None:
    trace = calm(with_faults(tmp_path, fault("hang", "at_ms: 0")))
    assert trace.end_ns == (103 + 2 * ROUND_MS) * MS
    drafts = [span for span in trace.spans if span.kind == "drafts"]
    assert drafts[0].start_ns == UP_MS * MS


def test_a_lost_message_costs_its_time_out_and_the_back_off(tmp_path: Path) -> None:
    """The time-out counts from the first byte, beyond the 3 ms that a message takes."""
    setup = with_faults(
        tmp_path, fault("link_drop", "on: {phase: up, round: 1}", for_ms=1), reaction="{timeout_ms: 20, backoff_ms: 5}"
    )
    trace, record = run(setup), None
    record = only(trace)
    assert record.began_ns == record.hit_ns == UP_MS * MS
    assert record.detected_ns == (UP_MS + 3 + 20) * MS
    assert record.reacted_ns == record.detected_ns + 5 * MS
    assert record.recovered_ns == record.reacted_ns + 3 * MS
    assert (record.by, record.phase, record.request, record.round) == ("time-out", "up", 0, 1)
    assert (record.resent_messages, record.hits) == (1, 1)
    assert trace.end_ns == calm(setup).end_ns + (3 + 20 + 5) * MS


def test_back_off_grows_with_each_try(tmp_path: Path) -> None:
    """Tries at 0, 28 and 61 ms after the first; the drop ends after 60."""
    setup = with_faults(
        tmp_path,
        fault("link_drop", "on: {phase: up, round: 1}", for_ms=60),
        reaction="{timeout_ms: 20, backoff_ms: 5, backoff_factor: 2, retries: 2}",
    )
    trace = run(setup)
    assert trace.end_ns == calm(setup).end_ns + (23 + 5 + 23 + 10) * MS
    assert only(trace).resent_messages == 2
    assert only(trace).dropped_tokens == 0


def test_after_the_last_try_the_target_goes_on_alone_until_a_probe_comes_back(tmp_path: Path) -> None:
    """The round is given up at its time-out, decoding takes 50 ms a token, and the probe goes down and up in 6 ms.

    The probe after 100 ms is lost (the drop lasts 200), and noticed 23 later; the second is sent after another 100 and
    back at 126 + 20 + 100 + 23 + 100 + 6 of the round; then decoding, of 50 ms a token, is at its fifth token.
    """
    setup = with_faults(
        tmp_path,
        fault("link_drop", "on: {phase: up, round: 1}", for_ms=200),
        "workload.output_tokens=20",
        reaction="{timeout_ms: 20, retries: 0, probe_ms: 100}",
    )
    trace = run(setup)
    record = only(trace)
    given_up = (UP_MS + 23) * MS
    assert record.detected_ns == record.reacted_ns == given_up
    assert record.served_ns == given_up + 50 * MS
    probes = [span for span in trace.spans if span.request < 0 and span.track.startswith("test-link")]
    assert [(span.kind, span.start_ns - given_up) for span in probes] == [
        ("fault", 100 * MS),
        ("probe", (100 + 2 + 23 + 100) * MS),
        ("probe", (100 + 2 + 23 + 100 + 3) * MS),
    ]
    assert record.recovered_ns == given_up + 250 * MS
    decodes = [span for span in trace.spans if span.kind == "decode"]
    assert len([span for span in decodes if span.start_ns < record.recovered_ns]) == 5
    assert record.dropped_tokens == 4


def test_without_resumption_the_target_answers_alone_to_the_end(tmp_path: Path) -> None:
    setup = with_faults(
        tmp_path,
        fault("link_drop", "on: {phase: up, round: 1}"),
        reaction="{timeout_ms: 20, retries: 0, resume: false}",
    )
    trace = run(setup)
    assert trace.end_ns == (UP_MS + 23 + 10 * 50) * MS
    assert only(trace).recovered_ns == -1
    assert only(trace).survived


def test_a_hang_is_noticed_by_the_watchdog_and_costs_the_reload(tmp_path: Path) -> None:
    """The target hangs as it begins to verify: 40 ms of silence, 70 to load, 100 to read again; then the round anew."""
    setup = with_faults(
        tmp_path, fault("hang", "on: {phase: verify, round: 1}", chip="target"), reaction="{watchdog_ms: 40}"
    )
    trace = run(setup)
    record = only(trace)
    begun = (UP_MS + 3) * MS
    assert (record.began_ns, record.by) == (begun, "watchdog")
    assert record.detected_ns == record.reacted_ns == begun + 40 * MS
    assert record.recovered_ns == record.detected_ns + (70 + 100) * MS
    assert record.recomputed_tokens == 10
    assert trace.end_ns == record.recovered_ns + 2 * ROUND_MS * MS
    (loading,) = [span for span in trace.spans if span.kind == "load"]
    assert (loading.start_ns, loading.end_ns) == (begun + 40 * MS, begun + 110 * MS)


def test_a_hang_that_is_over_before_the_watchdog_barks_costs_its_duration(tmp_path: Path) -> None:
    when = "on: {phase: verify, round: 1}, for_ms: 30"
    setup = with_faults(tmp_path, fault("hang", when, chip="target"), reaction="{watchdog_ms: 40}")
    trace = run(setup)
    assert trace.end_ns == calm(setup).end_ns + 30 * MS
    assert (only(trace).caught, only(trace).hits) == (False, 1)


def test_a_reset_is_noticed_by_the_restart_where_that_is_sooner(tmp_path: Path) -> None:
    setup = with_faults(tmp_path, fault("reset", "on: {phase: verify, round: 1}", chip="target"))
    trace = run(setup)
    record = only(trace)
    assert (record.by, record.detected_ns) == ("restart", record.began_ns + 70 * MS)
    assert record.recovered_ns == record.detected_ns + 100 * MS


@pytest.mark.parametrize("instants", ["[5, 10]", "[10, 10]", "[5, 7, 10]"])
def test_a_chip_that_is_reset_while_it_loads_starts_over(tmp_path: Path, instants: str) -> None:
    """What loads at 10 ms is back at 80, however often it began before; then the question is read in its 103 ms."""
    setup = with_faults(tmp_path, fault("reset", f"at_ms: {instants}", chip="target"))
    trace = run(setup)
    first, *others = trace.faults
    assert [record.hit_ns for record in trace.faults] == [record.began_ns for record in trace.faults]
    assert others[-1].detected_ns == others[-1].ended_ns == (10 + 70) * MS
    assert others[-1].recovered_ns == first.recovered_ns == (80 + 100) * MS
    assert first.ended_ns == others[0].began_ns
    assert trace.end_ns == (80 + 103 + 2 * ROUND_MS) * MS
    loads = [(span.start_ns, span.end_ns) for span in trace.spans if span.kind == "load"]
    assert loads[-1] == (10 * MS, 80 * MS)
    assert [end for _, end in loads[:-1]] == [start for start, _ in loads[1:]]
    check_tracks(trace)


def test_a_draft_that_is_lost_leaves_the_target_alone(tmp_path: Path) -> None:
    """It is lost as it begins round 2, at 189 ms; the watchdog waits 40 ms, and five tokens are left."""
    setup = with_faults(tmp_path, fault("lost", "on: {phase: draft, round: 2}"), reaction="{watchdog_ms: 40}")
    trace = run(setup)
    assert trace.end_ns == (103 + ROUND_MS + 40 + 5 * 50) * MS
    assert only(trace).survived


def test_a_slow_chip_takes_its_factor(tmp_path: Path) -> None:
    """A third of the speed for 30 ms of a verify step: 10 ms of work done in 30."""
    setup = with_faults(tmp_path, fault("slow", "on: {phase: verify, round: 1}", for_ms=30, chip="target"))
    assert run(setup).end_ns == calm(setup).end_ns + 20 * MS


def test_part_of_the_rate_stretches_what_holds_the_wire(tmp_path: Path) -> None:
    """A tenth of the rate: 2 ms on the wire become 20, which a time-out of 20 beyond 3 does not notice."""
    setup = with_faults(tmp_path, fault("partial_outage", "on: {phase: up, round: 1}", for_ms=1))
    assert run(setup).end_ns == calm(setup).end_ns + 18 * MS


def test_a_message_that_a_slow_wire_holds_beyond_its_time_out_is_taken_off_and_sent_again(tmp_path: Path) -> None:
    """A share of 1e-5 makes 200 s of its 2 ms; the outage is over before the copy, 28 ms later, is sent."""
    up = fault("partial_outage", "on: {phase: up, round: 1}", for_ms=27).replace("0.1", "1.0e-5")
    setup = with_faults(tmp_path, up)
    trace = run(setup)
    record = only(trace)
    assert (record.by, record.resent_messages) == ("time-out", 1)
    assert record.detected_ns == (UP_MS + 3 + 20) * MS
    assert record.recovered_ns == (UP_MS + 23 + 5 + 3) * MS
    assert trace.end_ns == calm(setup).end_ns + (3 + 20 + 5) * MS
    check_tracks(trace)


def test_a_wire_that_stays_slow_leaves_the_target_alone(tmp_path: Path) -> None:
    up = fault("partial_outage", "on: {phase: up, round: 1}", for_ms=3000).replace("0.1", "1.0e-5")
    trace = run(with_faults(tmp_path, up, reaction="{retries: 1}"))
    assert trace.end_ns == (UP_MS + 23 + 5 + 23 + 10 * 50) * MS
    assert only(trace).dropped_tokens == 4


def test_a_late_message_costs_what_it_is_late(tmp_path: Path) -> None:
    setup = with_faults(tmp_path, "{kind: late, delay_ms: 15, on: {phase: up, round: 1}}", reaction="{timeout_ms: 20}")
    assert run(setup).end_ns == calm(setup).end_ns + 15 * MS


def test_a_message_later_than_its_time_out_is_sent_again_and_the_copy_counts(tmp_path: Path) -> None:
    setup = with_faults(
        tmp_path, "{kind: link_delay, delay_ms: 500, for_ms: 1, on: {phase: up, round: 1}}", reaction="{timeout_ms: 20}"
    )
    trace = run(setup)
    # In order, the copy waits for nothing: it is the same message.
    assert only(trace).resent_messages == 1
    assert trace.end_ns == calm(setup).end_ns + (3 + 20 + 5) * MS


def test_a_checksum_has_a_damaged_message_sent_again_at_once(tmp_path: Path) -> None:
    """A round trip of the link's delay later: the receiver has to say so."""
    setup = with_faults(tmp_path, "{kind: bit_errors, rate: 0.9, for_ms: 1, on: {phase: up, round: 1}}")
    trace = run(setup)
    record = only(trace)
    assert (record.by, record.detected_ns) == ("checksum", (UP_MS + 3) * MS)
    assert trace.end_ns == calm(setup).end_ns + (3 + 1) * MS


def test_a_duplicate_costs_the_wire_and_nothing_else(tmp_path: Path) -> None:
    setup = with_faults(tmp_path, fault("duplicate", "on: {phase: up, round: 1}"))
    trace = run(setup)
    assert trace.end_ns == calm(setup).end_ns
    assert only(trace).by == "sequence number"


def test_damaged_drafts_without_a_checksum_cost_acceptance_alone(tmp_path: Path) -> None:
    setup = with_faults(
        tmp_path, "{kind: bit_errors, rate: 0.9, for_ms: 1, on: {phase: up, round: 1}}", reaction="{checksum: false}"
    )
    trace = run(setup)
    assert trace.rounds[1].accepted < calm(setup).rounds[1].accepted
    assert only(trace).silent
    assert text_is_right(trace)


def test_a_damaged_verdict_without_a_checksum_is_a_wrong_token_where_the_application_reads_it(tmp_path: Path) -> None:
    damage = "{kind: bit_errors, rate: 0.9, for_ms: 1, on: {phase: down, round: 1}}"
    for application, corrupted in (("paper-draft", 1), ("paper-target", 0)):
        setup = with_faults(tmp_path, damage, f"application={application}", reaction="{checksum: false}")
        record = only(run(setup))
        assert len(record.corrupted) == corrupted
        assert record.within(10**9) is (False if corrupted else None)


@pytest.mark.parametrize("phase", ["prefill", "verify"])
def test_a_wrong_row_of_the_target_changes_one_token_and_is_named(tmp_path: Path, phase: str) -> None:
    setup = with_faults(tmp_path, f"{{kind: wrong_row, where: target, on: {{phase: {phase}}}}}")
    trace = run(setup)
    record = only(trace)
    (corrupted,) = record.corrupted
    answer = [token for closed in trace.rounds for token in closed.tokens]
    assert answer[corrupted.place] == corrupted.delivered != corrupted.token == RIGHT
    assert [place for place, token in enumerate(answer) if token != RIGHT] == [corrupted.place]
    assert record.silent


def test_comparing_rows_catches_it_and_costs_every_pass_twice(tmp_path: Path) -> None:
    """Of 320 ms of passes the answer takes 220 more, and the one that differs 60 again."""
    row = "{kind: wrong_row, where: target, on: {phase: verify, round: 1}}"
    setup = with_faults(tmp_path, row, reaction="{compare_rows: true}")
    trace = run(setup)
    assert text_is_right(trace)
    assert (only(trace).by, only(trace).corrupted) == ("comparison", [])
    assert trace.end_ns == calm(setup).end_ns + 60 * MS
    plain = calm(with_faults(tmp_path, row))
    assert calm(setup).end_ns == plain.end_ns + (100 + 60 + 60) * MS
    assert only(trace).recovered_ns - only(trace).detected_ns == 60 * MS


def test_a_wrong_row_of_the_draft_costs_acceptance_alone(tmp_path: Path) -> None:
    setup = with_faults(tmp_path, "{kind: wrong_row, where: draft, on: {phase: draft, round: 1}}")
    trace = run(setup)
    assert text_is_right(trace)
    assert trace.rounds[1].accepted < 4


def test_memory_that_is_free_costs_nothing_and_more_evicts_the_model(tmp_path: Path) -> None:
    """What is free is taken and given back. A megabyte more, and the draft goes until 70 ms after the 80 are over."""
    setup = with_faults(tmp_path, fault("memory", "on: {phase: draft, round: 1}"))
    free = run(setup)
    assert free.end_ns == calm(setup).end_ns
    assert only(free).hits == 0
    ledger = ledgers(setup)["paper-draft"]
    room = (ledger.cap_bytes - ledger.used_bytes) / 1e6
    more = fault("memory", "on: {phase: draft, round: 1}").replace("megabytes: 1", f"megabytes: {room + 1}")
    setup = with_faults(tmp_path, more, "workload.output_tokens=30", reaction="{watchdog_ms: 40}")
    trace = run(setup)
    record = only(trace)
    (loading,) = [span for span in trace.spans if span.kind == "load"]
    assert (loading.start_ns, loading.end_ns) == (record.began_ns + 80 * MS, record.began_ns + 150 * MS)
    assert (record.by, record.detected_ns) == ("watchdog", record.began_ns + 40 * MS)
    assert record.recovered_ns > loading.end_ns
    weights = flash_bytes(setup.roles["draft"])
    levels = [level.used_bytes for level in trace.levels if level.chip == "paper-draft"]
    taken = round((room + 1) * 1e6)
    steps = [after - before for before, after in pairwise(levels)]
    assert steps[-5:-1] == [-weights, taken, -taken, weights]  # the last is the conversation's end


def test_a_clock_that_jumps_has_a_message_sent_for_nothing(tmp_path: Path) -> None:
    """The sender's clock is 30 ms ahead during the message: its time-out of 20 seems over."""
    jump = "{kind: clock_jump, where: draft, jump_ms: 30, reload_ms: 70, at_ms: 124}"
    setup = with_faults(tmp_path, jump)
    trace = run(setup)
    assert (only(trace).by, only(trace).resent_messages) == ("time-out", 1)
    assert trace.end_ns == calm(setup).end_ns
    unmoved = with_faults(tmp_path, jump, reaction="{clock: monotonic}")
    assert only(run(unmoved)).hits == 0


def test_a_clock_that_jumps_makes_the_watchdog_bark(tmp_path: Path) -> None:
    jump = "{kind: clock_jump, where: target, jump_ms: 300, reload_ms: 70, at_ms: 150}"
    record = only(run(with_faults(tmp_path, jump)))
    assert (record.by, record.detected_ns) == ("watchdog", 150 * MS)


def test_a_clock_that_goes_back_has_the_time_out_later(tmp_path: Path) -> None:
    drop = fault("link_drop", "on: {phase: up, round: 1}", for_ms=1)
    jump = "{kind: clock_jump, where: draft, jump_ms: -50, reload_ms: 70, at_ms: 130}"
    trace = run(with_faults(tmp_path, f"{drop}, {jump}"))
    assert trace.faults[0].detected_ns == (UP_MS + 3 + 20 + 50) * MS


def test_a_target_that_is_gone_is_not_survived_and_the_run_ends(tmp_path: Path) -> None:
    setup = with_faults(tmp_path, "{kind: lost, where: target, on: {phase: verify}}", reaction="{give_up_ms: 1000}")
    trace = run(setup)
    assert trace.lost is not None
    assert not only(trace).survived


@pytest.mark.parametrize("fallback", ["target", "none"])
@pytest.mark.parametrize(
    "failing",
    [
        "{kind: slow, where: target, factor: 1000, at_ms: 150, for_ms: null}",
        "{kind: hang, where: target, reload_ms: 100000, at_ms: 150}",
        "{kind: lost, where: target, at_ms: 150}",
        "{kind: link_delay, delay_ms: 5000, at_ms: 120, for_ms: null}",
    ],
)
def test_a_run_without_progress_ends_when_it_is_given_up(tmp_path: Path, failing: str, fallback: str) -> None:
    """The question takes 103 ms; no further token comes, for whatever reason, and 1000 ms later the run is over."""
    reaction = f"{{give_up_ms: 1000, timeout_ms: 9000, fallback: {fallback}}}"
    trace = run(with_faults(tmp_path, failing, reaction=reaction))
    assert trace.lost is not None
    assert trace.end_ns == (103 + 1000) * MS
    assert not only(trace).survived
    patient = with_faults(tmp_path, failing, "workload.output_tokens=2", reaction=reaction.replace("1000", "200000"))
    assert (run(patient).lost is None) is ("lost" not in failing)


def test_progress_starts_the_time_until_giving_up_anew(tmp_path: Path) -> None:
    """Each step is three times as long, 300 ms to read and rounds of 206: the whole answer takes longer than 400."""
    slow = "{kind: slow, where: target, factor: 3, at_ms: 0, for_ms: null}"
    trace = run(with_faults(tmp_path, slow, reaction="{give_up_ms: 400}"))
    assert trace.lost is None
    assert trace.end_ns > 700 * MS
