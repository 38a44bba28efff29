"""Measured figures: the rows of a CSV, each checked; nothing doubtful is used in silence.

Columns: device, model, kind, metric and value must be there; case_id, params_b, weight_bits, act_bits, context_len,
batch, runtime, power_mode, source, source_date, gmacs, layers_npu, layers_gpu, layers_cpu, primary_unit and note may.

| kind        | metric             | context_len is                                                                  |
| llm_decode  | tok_s, latency_ms  | tokens in the cache; on units of fixed graphs the compiled context               |
| llm_prefill | ttft_ms, tok_s     | tokens of the prompt; on units of fixed graphs the compiled context, where the   |
|             |                    | prompt is 128 tokens or the "N-token" of the note                               |
| spec_decode | tok_s              | as llm_decode; the note names tokens per verify step and the vanilla rate        |
| vision, speech, text, network | latency_ms | not used                                                             |
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.errors import Fault, ScenarioError
from hilsim.files import read_text

NETWORK_KINDS = ("vision", "speech", "text", "network")
METRICS = {
    "llm_decode": ("tok_s", "latency_ms"),
    "llm_prefill": ("ttft_ms", "tok_s"),
    "spec_decode": ("tok_s",),
} | dict.fromkeys(NETWORK_KINDS, ("latency_ms",))
NEEDED = ("device", "model", "kind", "metric", "value")
# Largest numbers that can be meant: beyond, a column or a unit was mistaken.
NUMBERS = {
    "value": 1e9,
    "params_b": 1e4,
    "context_len": 1e8,
    "batch": 1e5,
    "gmacs": 1e7,
    "layers_npu": 1e7,
    "layers_gpu": 1e7,
    "layers_cpu": 1e7,
}
SMALLEST = 1e-9
MAY_BE_ZERO = ("layers_npu", "layers_gpu", "layers_cpu")
# Two figures of one case further apart than this contradict each other.
SAME = 0.01
# What the note of a speculative row tells.
SPECULATION = {
    "vanilla rate": re.compile(r"vanilla (\d[\d.]*\d|\d)"),
    "tokens per verify step": re.compile(r"tokens per verify step (\d[\d.]*\d|\d)"),
}
# What a note may say that takes a row out of every fit and comparison.
FORBIDDING = (
    (r"SUSPECT", "its note calls it suspect"),
    (r"ANOMALY", "its note calls it an anomaly"),
    (r"do not calibrate|do not use", "its note forbids it"),
    # The first three hold for every kind.
    (r"use ratios", "its note allows ratios only"),
    (r"poor fit for a plain roofline|hybrid|mixture of experts|\bMoE\b", "its note says the model is no plain decoder"),
    (r"FALLBACK|fallback", "it left its unit for another (fallback)"),
    (r"extrapolat\w+ row", "its note says it is extrapolated"),
)


@dataclass(frozen=True)
class Measurement:
    """One row as it was published: `value` in the unit that `metric` names; "" or None where a column is empty.

    `unit_kind` is "npu", "gpu" or "cpu" where the row says, and `forbidden` why it may not be used, or "".
    """

    file: str
    line: int
    case_id: str
    device: str
    model: str
    kind: str
    value: float
    metric: str
    precision: str
    params_b: float | None
    context: int | None
    batch: int
    runtime: str
    gmacs: float | None
    layers: tuple[int, int, int]
    unit_kind: str
    power_mode: str
    note: str
    source: str
    forbidden: str

    @property
    def is_network(self) -> bool:
        return self.kind in NETWORK_KINDS

    @property
    def prompt_tokens(self) -> int:
        """Tokens of one prompt pass on fixed graphs: the "N-token" or "AR-N" of name or note, or 128."""
        return prompt_tokens(self.model, self.note)

    def noted(self, what: str) -> float | None:
        """A number of a speculative row that its note tells (a key of SPECULATION), or None."""
        found = SPECULATION[what].search(self.note)
        return None if found is None else number_in(found.group(1))


def read_measurements(file: Path) -> list[Measurement]:
    """Every row of a CSV file. Raises `ScenarioError` with all faults by line: nothing is used if anything is wrong."""
    text, name = read_text(file).removeprefix("\ufeff"), str(file)
    reader = csv.DictReader(io.StringIO(text), restkey="beyond", strict=True)
    try:
        columns = reader.fieldnames or []
        if missing := [column for column in NEEDED if column not in columns]:
            found = f"columns {', '.join(columns[:8]) or 'none'}"
            raise ScenarioError([Fault(name, "line 1", found, f"also {', '.join(missing)}")])
        if twice := sorted({column for column in columns if columns.count(column) > 1}):
            found = f"{', '.join(map(repr, twice))} more than once"
            raise ScenarioError([Fault(name, "line 1", found, "every column once")])
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ScenarioError([Fault(name, f"line {reader.line_num}", str(error), "comma-separated values")]) from None
    faults: list[Fault] = []
    found_rows = [row for line, raw in rows if (row := measurement(raw, name, line, faults)) is not None]
    faults += contradictions(found_rows, name)
    if not rows:
        faults.append(Fault(name, "", "no rows", "at least one measurement below the header"))
    if faults:
        raise ScenarioError(faults)
    return found_rows


def measurement(row: dict[str, str], file: str, line: int, faults: list[Fault]) -> Measurement | None:
    """One row checked; its faults are appended to `faults`, and then there is no row."""
    before = len(faults)

    def fault(column: str, found: str, expected: str, remedy: str = "") -> None:
        faults.append(Fault(file, f"line {line}, {column}", found, expected, remedy))

    text = {key: (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
    if "beyond" in row:
        fault("end of line", "more values than columns", "one value a column", "Quote values that hold commas.")
    for column in NEEDED:
        if not text.get(column):
            fault(column, "nothing", "a value")
    numbers: dict[str, float | None] = dict.fromkeys(NUMBERS)
    for column in NUMBERS:
        if not text.get(column):
            continue
        try:
            number = float(text[column])
        except ValueError:
            fault(column, repr(text[column]), "a number")
            continue
        if not math.isfinite(number) or number < 0 or (number == 0 and column not in MAY_BE_ZERO):
            fault(column, text[column], "a finite number above 0")
            continue
        if number > NUMBERS[column] or 0 < number < SMALLEST:
            fault(column, text[column], f"a number from {SMALLEST:g} to {NUMBERS[column]:g}", "Is it the unit?")
            continue
        numbers[column] = number
    for column in ("context_len", "batch"):
        whole = numbers[column]
        if whole is not None and whole != int(whole):
            fault(column, text[column], "a whole number")
    kind, metric = text.get("kind", ""), text.get("metric", "")
    if kind and kind not in METRICS:
        fault("kind", repr(kind), f"one of {', '.join(METRICS)}")
    elif kind and metric and metric not in METRICS[kind]:
        remedy = "The metric carries the unit." if metric not in {m for some in METRICS.values() for m in some} else ""
        fault("metric", repr(metric), f"for {kind} {' or '.join(METRICS[kind])}", remedy)
    if text.get("primary_unit", "").lower() not in ("", "npu", "gpu", "cpu"):
        fault("primary_unit", repr(text["primary_unit"]), "NPU, GPU, CPU or nothing")
    if prompt_tokens(text.get("model", ""), text.get("note", "")) == 0:
        fault("note", "a prompt of 0 tokens", "at least 1")
    if kind == "spec_decode":
        for what, pattern in SPECULATION.items():
            said = pattern.search(text.get("note", ""))
            if said is not None and not 0 < number_in(said.group(1)) < 1e6:
                fault("note", f"{what} {said.group(1)}", "a number above 0")
    if len(faults) > before:
        return None
    layers = tuple(int(numbers[column] or 0) for column in MAY_BE_ZERO)
    note = text.get("note", "")
    # A speculative row is compared as a ratio, and by the time of its steps: only doubt about itself forbids it.
    forbidding = FORBIDDING[:3] if kind == "spec_decode" else FORBIDDING
    forbidden = next((reason for pattern, reason in forbidding if re.search(pattern, note)), "")
    if not forbidden and layers[0] and (layers[1] or layers[2]):
        forbidden = "it left its unit for another (fallback)"
    return Measurement(
        file=file,
        line=line,
        case_id=text.get("case_id", "") or f"line {line}",
        device=text["device"],
        model=text["model"],
        kind=kind,
        value=float(text["value"]),
        metric=metric,
        precision=precision_name(text.get("weight_bits", ""), text.get("act_bits", "")),
        params_b=numbers["params_b"],
        context=None if numbers["context_len"] is None else int(numbers["context_len"]),
        batch=int(numbers["batch"] or 1),
        runtime=text.get("runtime", ""),
        gmacs=numbers["gmacs"],
        layers=(layers[0], layers[1], layers[2]),
        unit_kind=text.get("primary_unit", "").lower(),
        power_mode=text.get("power_mode", ""),
        note=note,
        source=text.get("source", ""),
        forbidden=forbidden,
    )


def prompt_tokens(model: str, note: str) -> int:
    """The "N-token" or "AR-N" that a name or note tells of, at most 10^8, or 128."""
    found = re.search(r"\b(\d{1,8})-token|AR-(\d{1,8})\b", f"{model} {note}")
    return int(found.group(1) or found.group(2)) if found else 128


def number_in(text: str) -> float:
    """A number in a note, or 0 where it is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def precision_name(weight_bits: str, act_bits: str) -> str:
    """The name a chip file uses: 4/fp16 is w4, 4/16 w4a16, 8/8 w8a8, 8/16 w8a16, fp16/fp16 fp16.

    Mixed ones are called by what the row says; "w4a?" has activations that are not stated.
    """
    if weight_bits == act_bits and not weight_bits.isdigit():
        return weight_bits or "?"
    if act_bits in ("n/s", ""):
        return f"w{weight_bits}a?"
    return f"w{weight_bits}" if act_bits == "fp16" else f"w{weight_bits}a{act_bits}"


def contradictions(rows: Sequence[Measurement], file: str) -> list[Fault]:
    """Pairs of rows that say two things about one case: same id, or same everything but the value."""
    faults: list[Fault] = []
    seen: dict[object, Measurement] = {}
    for row in rows:
        key = (
            row.device, row.model, row.precision, row.kind, row.context, row.batch, row.metric, row.runtime,
            row.power_mode, row.source, row.note,
        )  # fmt: skip
        for mark in (key, row.case_id):
            other = seen.setdefault(mark, row)
            if other is not row and abs(other.value - row.value) > SAME * min(other.value, row.value):
                faults.append(
                    Fault(
                        file,
                        f"line {row.line}",
                        f"{row.value:g} {row.metric} for the same case as line {other.line}, which has {other.value:g}",
                        "one value a case",
                        "Keep the right one, or tell them apart by runtime, power_mode, source or note.",
                    )
                )
                break
    return faults
