"""Records that are written as plain tuples and read as named ones."""

from __future__ import annotations

import gc
from typing import NamedTuple

from hilsim.sim.kept import Kept
from hilsim.sim.trace import Sample, Span, Trace


class Pair(NamedTuple):
    name: str
    number: int


def test_what_is_read_is_what_was_written_whenever_it_is_read() -> None:
    kept, expected = Kept(Pair), []
    add = kept.add  # as those hold it who write
    for number in range(20):
        add(("a", number))
        expected.append(Pair("a", number))
        if number % 7 == 3:
            assert kept.records == expected
    assert kept.records == expected
    assert all(type(one) is Pair for one in kept.records)
    other = Kept(Pair)
    other.add(("a", 0))
    assert kept != other
    for one in expected[1:]:
        other.add(one)  # a named one is a tuple of its fields
    assert kept == other


def test_nothing_is_written_after_the_end() -> None:
    kept = Kept(Pair)
    add = kept.add
    add(("a", 1))
    kept.close()
    add(("b", 2))
    assert kept.records == [Pair("a", 1)]
    trace = Trace("test", (), (), ())
    held = trace.add_span, trace.add_sample
    trace.close(end_ns=5)
    for add in (*held, trace.add_span, trace.add_sample):
        add(Span("npu", "draft", 0, 1, 0, 0, 0, 1))
    assert (trace.spans, trace.samples, trace.end_ns, trace.over) == ([], [], 5, True)


def test_the_collector_of_garbage_looks_at_plain_rows_once() -> None:
    """So a run that keeps all is not slowed down by what it has kept already; records would be looked at each time."""
    trace = Trace("test", (), (), ())
    trace.add_span(("npu", "draft", *range(11), ()))
    trace.add_sample(("chip", 0, "power", "", 1.5))
    gc.collect()
    assert not any(map(gc.is_tracked, (*trace.kept_spans.rows, *trace.kept_samples.rows)))
    read = [*trace.spans, *trace.samples]
    gc.collect()
    assert all(map(gc.is_tracked, read))
    assert [type(one) for one in read] == [Span, Sample]
