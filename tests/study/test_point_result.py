"""Metrics of a point packed: what comes out is what went in, kinds of numbers among it."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.study.point_result import Metrics, layout_of
from hilsim.study.points import Grid
from tests.study.test_study import column

VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=12))
def test_metrics_come_out_as_they_went_in(values: dict[str, float | None]) -> None:
    packed = Metrics.of(values)
    for found in (packed, pickle.loads(pickle.dumps(packed)), Metrics.of(packed)):
        assert dict(found) == values
        assert [repr(found[name]) for name in found] == [repr(value) for value in values.values()]  # 2 is not 2.0
        assert found.get("none of these names") is None
    assert pickle.loads(pickle.dumps(packed)).layout is packed.layout


def test_numbers_that_are_none_and_bytes_of_another_length_are_refused() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite: b"):
            Metrics.of({"a": 1.0, "b": wrong})
    layout = Metrics.of({"a": 1.0, "b": None}).layout
    assert dict(Metrics(layout, b"\0" * 8)) == {"a": 0.0, "b": None}
    with pytest.raises(ValueError, match="7 bytes of metrics where 8"):
        Metrics(layout, b"\0" * 7)
    for kinds in ("dd", "x"):
        with pytest.raises(ValueError, match="no kinds of 1 metrics"):
            layout_of(("a",), kinds)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 2), st.integers(0, 10**6))
def test_the_text_of_a_key_is_the_json_of_all_that_a_point_rests_on(sizes: list[int], repeats: int, seed: int) -> None:

    grid = Grid('a "ground"', tuple(column(number, size) for number, size in enumerate(sizes)), repeats, seed)
    for point in grid.points():
        chosen = [
            [key, value, one.digests[place]]
            for one, place in zip(grid.columns, point.places, strict=True)
            for key, value in zip(one.keys, one.rows[place], strict=True)
        ]
        meaning = json.dumps([grid.ground, sorted(chosen, key=lambda part: part[0]), point.seed])
        assert point.key == hashlib.sha256(meaning.encode()).hexdigest()
