"""Measured figures: the rows of a CSV or of a tool's log, each checked; nothing doubtful is used without a message.

Columns: device, model, kind, metric and value must be there; case_id, params_b, weight_bits and act_bits or precision
(w4a16), context_len, batch, runtime, power_mode, source, source_date, gmacs, layers_npu, layers_gpu, layers_cpu,
primary_unit, gpu_layers (of a language model, those that ran there; all where it is empty) and note may.

| kind        | metric             | context_len is                                                                  |
| llm_decode  | tok_s, latency_ms  | tokens in the cache; on units of fixed graphs the compiled context               |
| llm_prefill | ttft_ms, tok_s     | tokens of the prompt; on units of fixed graphs the compiled context, where the   |
|             |                    | prompt is 128 tokens or the "N-token" of the note                               |
| spec_decode | tok_s, round_ms    | as llm_decode; the note names tokens per verify step and the vanilla rate; a     |
|             |                    | round's time stands alone where no rate is published                             |
| vision, speech, text, network | latency_ms | not used                                                             |
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.errors import Fault, ScenarioError
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.formats import TITLES, Format, format_of, read_log
from hilsim.fidelity.importers.log import Given, bits_of
from hilsim.fidelity.recognise import FIGURES, require_kind
from hilsim.fidelity.table import (
    DECIMAL_COMMA,
    POINTED_THOUSANDS,
    SYNONYMS,
    THOUSANDS,
    decimal_commas,
    doubtful_points,
    gathered,
    plain,
)
from hilsim.files import read_text
from hilsim.places import DATA

MEASUREMENTS = DATA / "chips" / "measurements"
SHIPPED = MEASUREMENTS / "measured.csv"
NETWORK_KINDS = ("vision", "speech", "text", "network")
METRICS = {
    "llm_decode": ("tok_s", "latency_ms"),
    "llm_prefill": ("ttft_ms", "tok_s"),
    "spec_decode": ("tok_s", "round_ms"),
} | dict.fromkeys(NETWORK_KINDS, ("latency_ms",))
NEEDED = ("device", "model", "kind", "metric", "value")
# Largest numbers that can be meant: beyond, a column or a unit was mistaken.
NUMBERS = {
    "value": 1e9,
    "params_b": 2000,
    "context_len": 1e8,
    "batch": 1e5,
    "gmacs": 1e7,
    "layers_npu": 1e7,
    "layers_gpu": 1e7,
    "layers_cpu": 1e7,
    "gpu_layers": 1e4,
}
# Whole numbers: a point or comma there can only stand for thousands, or is a slip.
WHOLE = ("context_len", "batch", "gpu_layers")
FRACTIONS = tuple(column for column in NUMBERS if column not in WHOLE)
# Columns that name things: digits alone, right behind a number that may be split, are the decimals of that number.
SPLIT = ("value", "params_b", "gmacs", "context_len")
NAMES = ("runtime", "power_mode", "source", "note", "model", "device", "kind", "metric", "primary_unit")
COLUMNS = (*SYNONYMS, *NUMBERS, "primary_unit", "precision", "chip_family", "value_max", "peak_mem_mb")
KIND_NAMES = dict.fromkeys(("decode", "decoding", "generation", "tg", "llm_generation"), "llm_decode") | dict.fromkeys(
    ("prefill", "prompt", "pp", "llm_prompt", "ttft"), "llm_prefill"
)
METRIC_NAMES = dict.fromkeys(("tok/s", "tokens/s", "token/s", "t/s", "toks/s", "tps", "tokens_per_second"), "tok_s")
MILLISECONDS = dict.fromkeys(("ms", "milliseconds", "ms_token", "ms_per_token", "ms_tok"), "latency_ms")
METRIC_HINTS = dict.fromkeys(
    ("s", "latency_s", "ttft_s", "seconds"), "Multiply by 1000 and call it ms."
) | dict.fromkeys(("us", "latency_us", "ttft_us", "microseconds"), "Divide by 1000 and call it ms.")
SMALLEST = 1e-9
MAY_BE_ZERO = ("layers_npu", "layers_gpu", "layers_cpu")
# Two figures of one case further apart than this contradict each other.
SAME = 0.01
# What the note of a speculative row gives; a number with a comma is taken whole, and refused.
SPECULATION = {
    "vanilla rate": re.compile(r"vanilla (\d[\d.,]*\d|\d)"),
    "tokens per verify step": re.compile(r"tokens per verify step (\d[\d.,]*\d|\d)"),
}
NOT_PLAIN = "by its note the model is no plain decoder, and it is not described"
# What a note may contain that takes a row out of every fit and comparison.
FORBIDDING = (
    (r"SUSPECT", "its note calls it suspect"),
    (r"ANOMALY", "its note calls it an anomaly"),
    (r"do not calibrate|do not use", "its note forbids it"),
    (r"expanded export", "its export copies the key/value heads, which takes most of its time"),
    # The first four hold for every kind.
    (r"use ratios", "its note allows ratios only"),
    (r"poor fit for a plain roofline|hybrid|mixture of experts|\bMoE\b", NOT_PLAIN),
    (r"FALLBACK|fallback", "it left its unit for another (fallback)"),
    (r"padded to the longest", "its prompts are padded to the longest, whose length is not stated"),
    (r"extrapolat\w+ row", "by its note it is extrapolated"),
)


@dataclass(frozen=True)
class Measurement:
    """One row as it was published: `value` in the unit that `metric` names; "" or None where a column is empty.

    `unit_kind` is "npu", "gpu" or "cpu" where the row states it, and `forbidden` why it may not be used, or "".
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
    origin: str = ""  # the program whose output it was, where the file is no table of our own
    hardware: str = ""  # what that program calls the device
    gpu_layers: int | None = None  # of the model's layers, those that ran there; None for all

    @property
    def shipped(self) -> bool:
        """Whether it is one of the shipped published figures, rather than of a user's own file."""
        return self.file == str(SHIPPED)

    @property
    def is_network(self) -> bool:
        return self.kind in NETWORK_KINDS

    @property
    def prompt_tokens(self) -> int:
        """Tokens of one prompt pass on fixed graphs: the "N-token" or "AR-N" of name or note, or 128."""
        return prompt_tokens(self.model, self.note)

    def noted(self, what: str) -> float | None:
        """A number of a speculative row that its note gives (a key of SPECULATION), or None."""
        found = SPECULATION[what].search(self.note)
        return None if found is None else number_in(found.group(1))


@dataclass(frozen=True)
class MeasuredFigures:
    """The rows of a file, its columns that mean nothing here, notes on it, and whether its rows name the device."""

    rows: tuple[Measurement, ...]
    unread: tuple[str, ...]
    name_their_device: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadRows:
    """What a file holds before its rows are checked: cells by column with their lines, and the faults so far.

    `german`: points may separate thousands in this table.
    """

    rows: tuple[tuple[int, dict[str, str]], ...]
    unread: tuple[str, ...]
    name_their_device: bool
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    german: bool = False


def read_measurements(file: Path, chip: str | None = None) -> list[Measurement]:
    """Every row of a file. Raises `ScenarioError` with all faults by line: nothing is used if anything is wrong."""
    return list(read_figures(file, chip).rows)


def read_figures(file: Path, chip: str | None = None, mode: str | None = None) -> MeasuredFigures:
    """The rows of a CSV, or of a log that states what a row needs, and the columns that were not read.

    `chip` is the device of rows that do not name one, as those of llama-bench, which knows only what the GPU is called;
    `mode` the power mode of rows that name none.
    """
    require_kind(file, FIGURES, *TITLES)
    contents = Contents(str(file), read_text(file))
    found = format_of(contents)
    if found is None:
        read = rows_of_figures(contents, {} if chip is None else {"device": chip})
    else:
        read = rows_of_log(contents, found, Given(device=chip), whole=False)
    if mode is not None:
        rows = ((line, {**cells, "power_mode": cells.get("power_mode") or mode}) for line, cells in read.rows)
        read = replace(read, rows=tuple(rows))
    return checked(contents.file, read)


def checked(file: str, read: ReadRows) -> MeasuredFigures:
    """The rows as measurements. Raises `ScenarioError` with all faults: nothing is used if anything is wrong."""
    faults, here = list(read.faults), list[Fault]()
    found = [measurement(cells, file, line, here, read.german) for line, cells in read.rows]
    rows = [row for row in found if row is not None]
    faults += [*here, *contradictions(rows, file)]
    if not read.rows and not faults:
        faults.append(Fault(file, "", "no rows", "at least one measurement below the header"))
    if faults:
        raise ScenarioError(gathered(faults))
    return MeasuredFigures(tuple(rows), read.unread, read.name_their_device, read.notes)


def rows_of_log(contents: Contents, found: Format, given: Given, *, whole: bool = True) -> ReadRows:
    """The rows of a tool's log; `whole` demands that every row has a device, a model and a precision."""
    log = read_log(contents, found, given, whole=whole)
    rows = tuple(
        (line, cells | {"device": cells.get("device") or cells.get("hardware", "")})
        for line, cells in (() if log.faults else log.rows)
    )
    return ReadRows(rows, log.unread, name_their_device=False, notes=tuple(log.notes), faults=tuple(log.faults))


def rows_of_figures(contents: Contents, stated: Mapping[str, str]) -> ReadRows:
    """The rows of a table in our own columns; those of `stated` may be missing and have its cells then."""
    needed = [column for column in NEEDED if column not in stated]
    table = contents.table(needed, COLUMNS)
    absent = {column: cell for column, cell in stated.items() if column not in table.columns}
    raw, german = [(row.line, normalised(row.cells | absent)) for row in table.rows], False
    unread = tuple(column for column in table.columns if column not in COLUMNS)
    numbers = [cells.get(column, "") for _, cells in raw for column in FRACTIONS]
    if decimal_commas(numbers, table.separator):
        raw = [(line, with_points(cells)) for line, cells in raw]
    else:
        german = doubtful_points(numbers, table.separator)
    return ReadRows(tuple(raw), unread, "device" in table.columns, german=german)


def normalised(cells: Mapping[str, str]) -> dict[str, str]:
    """Cells of our columns with kind, metric and number formats as they are written here."""
    found = {column: cell for column, cell in cells.items() if column in COLUMNS}
    kind = plain(found.get("kind", ""))
    found["kind"] = KIND_NAMES.get(kind, kind)
    metric = re.sub(r"\s", "", found.get("metric", "").casefold())
    metric = METRIC_NAMES.get(metric, plain(metric))
    # Milliseconds are a token's where tokens are made and the prompt's where it is read.
    found["metric"] = (
        "ttft_ms" if metric in MILLISECONDS and found["kind"] == "llm_prefill" else MILLISECONDS.get(metric, metric)
    )
    if (precision := found.pop("precision", "")) and not found.get("weight_bits"):
        found["weight_bits"], found["act_bits"] = bits_of(precision)
    for column in ("weight_bits", "act_bits"):
        found[column] = re.sub(r"^int ?(?=\d)|[- ]?bits?$", "", found.get(column, "").casefold())
    return found


def with_points(cells: Mapping[str, str]) -> dict[str, str]:
    """Numbers with decimal commas, written with points; whole numbers stay, for their check."""
    return {
        column: cell.replace(",", ".") if column in FRACTIONS and DECIMAL_COMMA.fullmatch(cell) else cell
        for column, cell in cells.items()
    }


def measurement(
    text: Mapping[str, str], file: str, line: int, faults: list[Fault], german: bool = False
) -> Measurement | None:
    """One row checked; its faults are appended to `faults`, and then there is no row.

    `german`: points may separate thousands in this table.
    """
    before = len(faults)

    def fault(column: str, found: str, expected: str, remedy: str = "") -> None:
        faults.append(Fault(file, f"line {line}, {column}", found, expected, remedy))

    for column in NEEDED:
        if not text.get(column):
            fault(column, "nothing", "a value")
    numbers: dict[str, float | None] = dict.fromkeys(NUMBERS)
    for column in NUMBERS:
        if not text.get(column):
            continue
        if column in WHOLE and re.search(r"[.,]", text[column]):
            fault(column, repr(text[column]), "a whole number", "Write its digits alone, without point or comma.")
            continue
        if german and POINTED_THOUSANDS.fullmatch(text[column]):
            both = f"which may be {text[column]} or {text[column].replace('.', '')}"
            remedy = "Write thousands without points; if points are decimal, separate the cells by commas."
            fault(column, f"{text[column]!r}, {both}", "a number", remedy)
            continue
        try:
            number = float(text[column].replace("_", " "))  # Python would read 3_8 as 38
        except ValueError:
            cell = text[column]
            both = f", which may be {cell.replace(',', '.')} or {cell.replace(',', '')}"
            remedy = "Write a decimal point, and nothing between thousands." if "," in cell else ""
            fault(column, f"{cell!r}{both if THOUSANDS.fullmatch(cell) else ''}", "a number", remedy)
            continue
        if not math.isfinite(number) or number < 0 or (number == 0 and column not in MAY_BE_ZERO):
            fault(column, text[column], "a finite number above 0")
            continue
        if number > NUMBERS[column] or 0 < number < SMALLEST:
            remedy = "Write billions of parameters." if column == "params_b" else "Is it the unit?"
            fault(column, text[column], f"a number from {SMALLEST:g} to {NUMBERS[column]:g}", remedy)
            continue
        numbers[column] = number
    for column, after in itertools.pairwise(text):
        # 38,1 in a row that is separated by commas: the decimals slip into the next column.
        if column in SPLIT and after in NAMES and text[column].isdecimal() and text[after].isdecimal():
            found = f"{text[after]!r} right behind {column} {text[column]!r}"
            remedy = (
                f"If {text[column]}.{text[after]} is meant, write it with a point; if not, add text such as a unit."
            )
            fault(after, found, "a name", remedy)
    for column in WHOLE:
        whole = numbers[column]
        if whole is not None and whole != int(whole):
            fault(column, text[column], "a whole number")
    kind, metric = text.get("kind", ""), text.get("metric", "")
    if kind and kind not in METRICS:
        fault("kind", repr(kind), f"one of {', '.join(METRICS)}")
    elif kind and metric and metric not in METRICS[kind]:
        remedy = (
            METRIC_HINTS.get(metric, "") or "The metric carries the unit."
            if metric not in {m for some in METRICS.values() for m in some}
            else ""
        )
        fault("metric", repr(metric), f"for {kind} {' or '.join(METRICS[kind])}", remedy)
    if text.get("primary_unit", "").lower() not in ("", "npu", "gpu", "cpu"):
        fault("primary_unit", repr(text["primary_unit"]), "NPU, GPU, CPU or nothing")
    if prompt_tokens(text.get("model", ""), text.get("note", "")) == 0:
        fault("note", "a prompt of 0 tokens", "at least 1")
    if kind == "spec_decode":
        for what, pattern in SPECULATION.items():
            stated = pattern.search(text.get("note", ""))
            if stated is not None and not 0 < number_in(stated.group(1)) < 1e6:
                remedy = "Write a decimal point, and nothing between thousands." if "," in stated.group(1) else ""
                fault("note", f"{what} {stated.group(1)}", "a number above 0", remedy)
    if len(faults) > before:
        return None
    layers = tuple(int(numbers[column] or 0) for column in MAY_BE_ZERO)
    note = text.get("note", "")
    # A speculative row is compared as a ratio, and by the time of its steps: only doubt about itself forbids it, or
    # plain steps that are slow for a reason that a verify does not share.
    forbidding = FORBIDDING[:4] if kind == "spec_decode" else FORBIDDING
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
        forbidden=text.get("forbidden", "") or forbidden,
        origin=text.get("origin", ""),
        hardware=text.get("hardware", ""),
        gpu_layers=int(text["gpu_layers"]) if text.get("gpu_layers") else None,
    )


def prompt_tokens(model: str, note: str) -> int:
    """The "N-token" or "AR-N" in a name or note, at most 10^8, or 128."""
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

    Mixed ones are named after the row; "w4a?" has activations that are not stated.
    """
    if weight_bits == act_bits and not weight_bits.isdigit():
        return weight_bits or "?"
    if act_bits in ("n/s", ""):
        return f"w{weight_bits}a?"
    return f"w{weight_bits}" if act_bits == "fp16" else f"w{weight_bits}a{act_bits}"


def contradictions(rows: Sequence[Measurement], file: str) -> list[Fault]:
    """Pairs of rows that contradict each other about one case: same id, or same everything but the value."""
    faults: list[Fault] = []
    seen: dict[object, Measurement] = {}
    for row in rows:
        key = (
            row.device, row.model, row.precision, row.kind, row.context, row.batch, row.metric, row.runtime,
            row.power_mode, row.source, row.note, row.unit_kind,
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
                        "Keep the right one, or distinguish them by runtime, power_mode, source or note.",
                    )
                )
                break
    return faults
