"""Waiting, fairness and utilisation of passengers, from traces whose times can be done on paper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.measure.fairness import fairness, jain, shares, spent_by_request, utilisation, waiting
from hilsim.measure.parts import Parts
from hilsim.sim.trace import Fellow, RequestRecord, Round, Span, Trace, TurnRecord

MS = 1_000_000


def trace_of(*spans: Span) -> Trace:
    """Two answers of one token each, by two passengers who both ask at 0; the first is there at 100 ms."""
    found = Trace("target_only", ("c.gpu",), ("c.gpu",), (), end_ns=400 * MS)
    found.spans.extend(spans)
    for number, end in ((0, 100), (1, 200)):
        tokens = ((7,), (1.0,))
        found.rounds.append(Round(number, 0, 0, end * MS, end * MS, 0, 0, 1, 0, *tokens, single_ns=0))
        found.requests.append(RequestRecord(number, number, 0, "", "", 0, end * MS, 4, 1, 1, "length"))
        at = (end * MS,) * 6
        found.turns.append(TurnRecord(number, ("Ann", "Bob")[number], number, 0, 0, 0, 0, 0, *at[:5]))
    return found


def prefill(request: int, start: int, end: int, *fellows: Fellow) -> Span:
    """A span that reads a question."""
    return Span("c.gpu", "prefill", start * MS, end * MS, request, 0, 0, end * MS, 4, 4, fellows=fellows)


def test_turns_on_one_unit_by_hand() -> None:
    trace = trace_of(prefill(0, 0, 100), prefill(1, 100, 200))
    ann, bob = shares(trace)
    assert (ann.passenger, ann.turns, ann.answered, ann.refused) == ("Ann", 1, 1, 0)
    assert ann.wait_ms is not None
    assert bob.wait_ms is not None
    assert (ann.wait_ms.mean, bob.wait_ms.mean, bob.wait_ms.most) == (0, 100, 100)
    assert (ann.served_share, bob.served_share) == (1.0, 0.5)
    assert fairness([ann, bob]) == pytest.approx(1.5**2 / (2 * 1.25))
    assert utilisation(trace) == {"c.gpu": {"prefill": 0.5}}


def test_a_batched_step_is_each_sessions_own_in_full() -> None:
    """One span for both: neither waits while it runs, and the parts of each request add up to its time."""
    together = prefill(0, 0, 100, Fellow(1, 0, 0, 4, 4, 0, -1))
    trace = trace_of(together)
    spent = spent_by_request(trace)
    assert spent[0] == Parts(reading=100 * MS)
    assert spent[1] == Parts(reading=100 * MS, wait=100 * MS)
    # Without the fellow, the second has waited all the time: what the field is for.
    assert spent_by_request(trace_of(prefill(0, 0, 100)))[1] == Parts(wait=200 * MS)


def test_each_session_of_a_batch_sees_its_own_rows_and_the_others() -> None:
    span = prefill(0, 0, 1, Fellow(1, 3, 5, 2, 2, 9, 11), Fellow(2, 4, 6, 1, 1, 8, 12))
    first, second, third = span.each
    assert first == span
    assert (second.request, second.round, second.asked_ns, second.rows, second.cached) == (1, 3, 5, 2, 9)
    assert [fellow.request for fellow in second.fellows] == [0, 2]
    assert [fellow.request for fellow in third.fellows] == [0, 1]
    assert {one.start_ns for one in span.each} == {0}
    assert {one.width + sum(fellow.width for fellow in one.fellows) for one in span.each} == {7}


def test_without_an_answer_nothing_is_made_up() -> None:
    trace = trace_of(prefill(0, 0, 100), prefill(1, 100, 200))
    lost = trace.turns[1]._replace(number=2, passenger="Cem", request=-1, outcome="refused")
    trace.turns.append(lost)
    cem = shares(trace)[-1]
    assert (cem.turns, cem.answered, cem.refused, cem.wait_ms, cem.served_share) == (1, 0, 1, None, None)
    assert fairness([cem]) is None
    assert waiting([]) is None


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=9), st.floats(0.1, 10))
def test_jains_index_has_its_bounds_and_no_scale(values: list[float], scale: float) -> None:
    found = jain(values)
    assert found is not None
    assert 1 / len(values) - 1e-9 <= found <= 1 + 1e-9
    assert jain([scale * value for value in values]) == pytest.approx(found)
    assert jain([values[0]] * len(values)) == pytest.approx(1)
    assert jain([*values, 0.0]) == pytest.approx(found * len(values) / (len(values) + 1))


def test_a_step_in_pieces_is_one_step() -> None:
    """A verify of 5 rows that gave its unit up in between, with 2 of 4 drafts kept, and a draft step in two pieces.

    Beyond a plain step of 20 ms it took 20 ms, half of which went to rows that were not needed.
    """
    piece = {"request": 0, "round": 1, "asked_ns": 0, "done_ns": 0, "cached": 9}
    verify = [
        Span("c.npu", "verify", 60 * MS, 85 * MS, **piece),
        Span("c.npu", "verify", 85 * MS, 100 * MS, rows=5, width=5, **piece),
    ]
    draft = [
        Span("c.npu", "draft", 20 * MS, 30 * MS, position=10, **piece),
        Span("c.npu", "draft", 40 * MS, 50 * MS, rows=1, width=1, position=10, **piece),
    ]
    trace = Trace("sync", ("c.npu",), ("c.npu",), (), end_ns=100 * MS)
    trace.spans.extend((*draft, *verify))
    kept = (7, 7, 7), (1.0,) * 3
    trace.rounds.append(Round(0, 1, 0, 100 * MS, 100 * MS, 4, 2, 3, 2, *kept, single_ns=20 * MS, position=10))
    trace.requests.append(RequestRecord(0, 0, 0, "", "", 0, 100 * MS, 4, 3, 1, "length"))
    assert spent_by_request(trace)[0] == Parts(verifying=30 * MS, unused_rows=10 * MS, drafting=20 * MS, wait=40 * MS)
