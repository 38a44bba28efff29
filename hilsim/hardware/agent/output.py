"""Checks an engine's output and converts it to the tensors that the client asked for. NumPy is optional, and faster."""

from __future__ import annotations

import math
import sys
from array import array
from operator import index
from typing import Any

from hilsim.hardware.agent.engine import EngineFacts, Output
from hilsim.hardware.wire.frames import Tensor

ROUNDING_NS = 100_000  # by so much two clocks of one board may differ over a pass


class EngineFault(Exception):
    """An engine that failed, or returned invalid output."""


def named_tensor(output: Output, wanted: int, want: str, facts: EngineFacts) -> dict[str, Tensor]:
    """The tensor of a `done`: logits, ids, or none."""
    if want == "nothing":
        if output.logits is not None:  # a time is worth nothing where what was computed is none
            float_rows(output, wanted, facts.vocabulary)
        return {}
    if want == "tokens":
        ids = likeliest(output, wanted, facts.vocabulary)
        return {"ids": Tensor("i4", (wanted,), little(array("i", ids)).tobytes())}
    rows = float_rows(output, wanted, facts.vocabulary)
    if sys.byteorder == "big":
        rows = memoryview(little(array("f", rows)))
    return {"logits": Tensor("f4", (wanted, facts.vocabulary), rows.cast("B"))}


def likeliest(output: Output, wanted: int, vocabulary: int) -> list[int]:
    """The likeliest token of each row, the first of equals; as the engine returns it, else found in its logits."""
    if output.ids is None:
        return argmax(float_rows(output, wanted, vocabulary), wanted, vocabulary)
    try:
        ids = [index(token) for token in output.ids]
    except TypeError:
        raise EngineFault(f"ids that are no whole numbers: {output.ids!r:.100}") from None
    if len(ids) != wanted:
        raise EngineFault(f"{len(ids)} ids for {wanted} wanted rows")
    if not all(0 <= token < vocabulary for token in ids):
        raise EngineFault(f"ids outside a vocabulary of {vocabulary}: {ids!r:.100}")
    return ids


def float_rows(output: Output, wanted: int, vocabulary: int) -> memoryview[float]:
    """The logits as a flat view of float32."""
    if output.logits is None:
        raise EngineFault("no logits")
    try:
        view = memoryview(output.logits)
    except TypeError:
        kind = type(output.logits).__name__
        raise EngineFault(f"logits that are no buffer but a {kind}; give NumPy arrays or array.array") from None
    if view.format not in ("f", "<f", "=f", "@f") or not view.c_contiguous:
        raise EngineFault(f"logits of format {view.format!r} or with gaps; expected float32 in C order")
    if view.nbytes != 4 * wanted * vocabulary or (view.ndim > 1 and view.shape != (wanted, vocabulary)):
        raise EngineFault(f"logits of shape {view.shape}; expected ({wanted}, {vocabulary})")
    rows = view.cast("B").cast("f")
    if not all_finite(rows):
        raise EngineFault("logits that are not finite")
    return rows


def all_finite(rows: memoryview[float]) -> bool:
    """Whether every logit is a number. NumPy is used where the engine has imported it, and never imported for this."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        return bool(numpy.isfinite(numpy.frombuffer(rows, dtype=numpy.float32)).all())
    return math.isfinite(sum(rows))  # one that is not makes the sum so; float32 is too small to do it otherwise


def argmax(rows: memoryview[float], wanted: int, vocabulary: int) -> list[int]:
    """The largest of each row."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        ids: list[int] = numpy.frombuffer(rows, dtype=numpy.float32).reshape(wanted, vocabulary).argmax(1).tolist()
        return ids
    found = [rows[row * vocabulary : (row + 1) * vocabulary].tolist() for row in range(wanted)]
    return [values.index(max(values)) for values in found]


def checked_ns(output: Output, took_ns: int) -> int:
    """The engine's own measurement of a pass where it has one, else the agent's."""
    if output.duration_ns is None:
        return took_ns
    try:
        own = index(output.duration_ns)
    except TypeError:
        own = 0
    if own < 1:
        raise EngineFault(f"a duration of {output.duration_ns!r:.50} ns; expected a whole number above 0")
    if own > took_ns + took_ns // 100 + ROUNDING_NS:
        raise EngineFault(f"a duration of {own} ns within a call of {took_ns} ns; is the unit right?")
    return own


def little(values: array[Any]) -> array[Any]:
    """The same numbers, least significant byte first, as they lie on the wire; or back."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values


def tokens_of(tensor: Tensor) -> array[int]:
    """The ids that a tensor i4 holds."""
    found = array("i")
    found.frombytes(tensor.data)
    return little(found)
