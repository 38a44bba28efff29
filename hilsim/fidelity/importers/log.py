"""One log while it is read: what the user states of it, and the rows, notes and faults that were found in it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from hilsim.errors import Fault
from hilsim.fidelity.importers.contents import Contents

# Two figures of one measurement that a file states may differ by rounding and scatter; by more is a mistake.
AGREE = 1.3
FLOATS = ("fp16", "f16", "bf16", "float", "float16", "half")
# Bits of weights and activations by the beginning of llama.cpp's names; it multiplies Q8_0 with activations in 8 bits.
QUANTISED = {
    "Q4": ("4", "fp16"), "IQ4": ("4", "fp16"), "Q8_0": ("8", "8"), "F16": ("fp16", "fp16"), "BF16": ("fp16", "fp16"),
}  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What the user states of a log; None where nothing is stated.

    `kind` is what a file of one network's passes measures: a network, or a step or a prompt of a language model.
    `context` is in tokens, `prompt_width` the rows of the compiled prompt graph, `gmacs` and `params_b` in billions.
    """

    device: str | None = None
    model: str | None = None
    precision: str | None = None
    runtime: str | None = None
    unit: str | None = None
    kind: str | None = None
    context: int | None = None
    prompt_width: int | None = None
    params_b: float | None = None
    gmacs: float | None = None


@dataclass
class Log:
    """A file, what is stated of it, and what its reader finds; a row is its line and its cells by column.

    The cell `forbidden` is the reason why a row is left out; `hardware` what the tool calls the processor.
    """

    contents: Contents
    given: Given
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unread: tuple[str, ...] = ()

    def fault(self, place: str, found: str, expected: str, remedy: str = "") -> None:
        """Something is wrong at a place in the file."""
        self.faults.append(Fault(self.contents.file, place, found, expected, remedy))

    def add(self, line: int, **cells: object) -> None:
        """A row; cells that are None or "" stay empty, and numbers keep six digits."""
        self.rows.append((line, {name: cell_text(cell) for name, cell in cells.items() if cell not in (None, "")}))

    def number(
        self, record: Mapping[str, Any], key: str, place: str = "", *, needed: bool = True, zero: bool = False
    ) -> float | None:
        """A number above 0 of a record, as JSON or as text; None where there is none, which is a fault if `needed`."""
        value = record.get(key)
        where = f"{place}.{key}" if place else key
        if value is None or value == "":
            if needed:
                self.fault(where, "nothing", "a number")
            return None
        found = number_in(value)
        if found is None or found < 0 or (found == 0 and not zero):
            self.fault(where, repr(value)[:40], f"a finite number {'from' if zero else 'above'} 0")
            return None
        return found

    def agree(self, place: str, *readings: float | None) -> None:
        """Refuse two figures of one quantity that contradict each other."""
        known = [one for one in readings if one]
        if known and max(known) > AGREE * min(known):
            found = " and ".join(f"{one:.4g}" for one in known)
            self.fault(place, f"{found} for one quantity", "figures that agree", "Is the file cut, edited or mixed?")

    def add_passes(self, line: int, milliseconds: Sequence[float], what: str, note: str = "") -> None:
        """The row of a file of one network's passes: their median, as what the user says that they are."""
        kind = self.given.kind or "network"
        count = f"median of {len(milliseconds)}" if len(milliseconds) > 1 else ""
        width = f"{self.given.prompt_width}-token prompt" if kind == "llm_prefill" and self.given.prompt_width else ""
        self.add(
            line, kind=kind, metric="ttft_ms" if kind == "llm_prefill" else "latency_ms", value=median(milliseconds),
            context_len=self.given.context, note="; ".join(filter(None, (what, count, width, note))),
        )  # fmt: skip


def cell_text(cell: object) -> str:
    """A cell as it is written: numbers with six digits, whole ones as such."""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and cell < 1e15 else f"{cell:.6g}"
    return str(cell)


def number_in(value: object) -> float | None:
    """A JSON number, or a text that is one; None for anything else, as for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value if not isinstance(value, str) else value.replace("_", " "))
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def object_in(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object under a key; empty where there is none."""
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def list_in(record: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list under a key; empty where there is none."""
    found = record.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def quantised(name: str) -> tuple[str, str] | None:
    """The bits of one of llama.cpp's quantisations: Q4_K_M is 4/fp16; None of those that are not modelled."""
    stored = name.upper()
    return next((bits for start, bits in QUANTISED.items() if stored == start or stored.startswith(f"{start}_")), None)


def bits_of(precision: str) -> tuple[str, str]:
    """Bits of weights and activations as people write them: w4a16, 16a4w, int4, Q4_0, fp16; w4 has fp16 activations."""
    text = precision.casefold().strip()
    if text in FLOATS:
        return "fp16", "fp16"
    if (found := quantised(text)) is not None:
        return found
    if named := re.fullmatch(r"int ?(\d+)( awq| gptq)?", text):
        return named[1], "fp16"
    if named := re.fullmatch(r"(\d+)a(\d+)w", text):  # as ExecuTorch writes it
        return named[2], named[1]
    weights, _, activations = text.removeprefix("w").partition("a")
    return weights, activations or "fp16"
