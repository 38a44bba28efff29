"""Records small enough to reckon with by hand: a model of 1,152 + 80 weights, units of round rates, families, chips.

The model: 2 layers of hidden 8, intermediate 16, 2 heads of 4 on one key/value head, 10 words. So a layer has
2 x 8 x 8 + 2 x 8 x 4 + 3 x 8 x 16 = 576 weights, a token caches 2 x 2 x 4 = 16 numbers, and one row that sees one
position takes 4 x 2 x 2 x 4 = 64 operations of attention.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilsim.describe.chip import Chip, Precision, Unit
from hilsim.describe.family import Family
from hilsim.describe.figure import Figure
from hilsim.describe.model import Architecture, Model, Vocabulary
from hilsim.fidelity.measurements import Measurement

BODY, HEAD, CACHED, ATTENTION = 1152, 80, 16, 64
Range = tuple[float, float] | None


def figure(value: float, unit: str, kind: str = "assumed", range: Range = None) -> Figure:
    """A figure of a test's own making."""
    return Figure(value=value, unit=unit, kind=kind, source="a test's own", range=range)  # type: ignore[arg-type]


def operations_per_s(rate: float) -> Figure:
    """A rate in plain operations a second."""
    return figure(rate / 1e9, "GFLOPS")


def model(**shape: Any) -> Model:
    """The model above, some numbers of its shape changed."""
    given = {
        "layers": 2, "hidden": 8, "intermediate": 16, "heads": 2, "kv_heads": 1, "head_dim": 4, "tied_head": False,
        "context": 100_000,
    } | shape  # fmt: skip
    architecture = Architecture(kind="assumed", source="a test's own", **given)
    return Model(name="tiny", title="Tiny", vocabulary=Vocabulary(name="tiny", entries=10), architecture=architecture)


def precision(**given: Any) -> Precision:
    """4-bit layers, 8-bit head, 16-bit cache; 100 B/s and 1,000,000 operations/s unless said otherwise."""
    bits = {name: figure(n, "bits") for name, n in (("weight_bits", 4), ("head_bits", 8), ("kv_bits", 16))}
    rates = {"memory_rate": figure(100, "B/s"), "operation_rates": curve((1, 1e6))}
    return Precision(activations="fp16", **(bits | rates | given))


def curve(*points: tuple[int, float]) -> Any:
    """Operation rates as pairs of rows and operations a second."""
    return tuple({"rows": rows, "rate": operations_per_s(rate)} for rows, rate in points)


def unit(widths: tuple[int, ...] | None = None, number_format: Precision | None = None, **given: Any) -> Unit:
    """A unit without any overhead; with `widths` one of fixed graphs. Its precision is called p."""
    base = {
        "graph_overhead": figure(0, "s"),
        "step_overhead": figure(0, "s"),
        "reserve": figure(1000, "B"),
        "active_power": figure(1, "W"),
    }
    if widths is not None:
        base["widths"] = {"value": widths, "kind": "assumed", "source": "a test's own"}  # type: ignore[assignment]
    return Unit(kind="gpu", **(base | {"precisions": {"p": number_format or precision()}} | given))


def chip(units: dict[str, Unit], name: str = "tiny-chip", **given: Any) -> Chip:
    """A chip of 100 GB/s and 1 MB, 10,000 bytes of it the system's."""
    base = {
        "memory": figure(1, "MB"),
        "reserve": figure(10_000, "B"),
        "peak_memory_rate": figure(100, "GB/s", "datasheet"),
        "idle_power": figure(1, "W"),
    }
    return Chip(name=name, title=name, units=units, **(base | given))


def member(**given: Any) -> Unit:
    """A unit that leaves its rates to family `silicon`: 50 TOPS and 2 GHz by its datasheet."""
    base = {
        "family": "silicon",
        "peak_operation_rate": figure(50, "TOPS", "datasheet"),
        "clock": figure(2, "GHz", "datasheet"),
        "reserve": figure(1000, "B"),
        "active_power": figure(1, "W"),
    }
    return Unit(kind="gpu", **(base | given))


def family(measured_on: tuple[str, ...] = (), number_format: dict[str, Any] | None = None, **given: Any) -> Family:
    """A family of shares: 0.8 of the bandwidth, 0.25 of the operations, a layer in 0.1 Mcycles; all fitted."""
    p = {
        "activations": "fp16",
        "weight_bits": figure(4, "bits"),
        "head_bits": figure(8, "bits"),
        "kv_bits": figure(16, "bits"),
        "memory": figure(0.8, "share", "fitted"),
        "operations": figure(0.25, "share", "fitted"),
    } | (number_format or {})
    base = {
        "graph_overhead": figure(0, "s"),
        "step_overhead": figure(1, "ms"),
        "layer_overhead": figure(0.1, "Mcycles", "fitted"),
    }
    return Family(name="silicon", title="Silicon", kind="gpu", measured_on=measured_on, precisions={"p": p},
                  **(base | given))  # type: ignore[arg-type]  # fmt: skip


ROW = {
    "case_id": "", "device": "orin-nx-16gb", "model": "our-own", "params_b": "3", "weight_bits": "4",
    "act_bits": "fp16", "kind": "llm_decode", "context_len": "1024", "batch": "1", "metric": "tok_s", "value": "30",
    "runtime": "", "power_mode": "", "source": "", "gmacs": "", "layers_npu": "", "layers_gpu": "", "layers_cpu": "",
    "note": "",
}  # fmt: skip


def csv_file(folder: Path, *rows: dict[str, str], without: str = "") -> Path:
    """Measurements as a file: each row is ROW with some values changed. A model and device that no fit has seen."""
    columns = [column for column in ROW if column != without]
    file = folder / "measured.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
    return file


def measured(kind: str, context: int, value: float, number: int, metric: str = "", **given: Any) -> Measurement:
    """One row as it would come from a file; milliseconds unless another metric is named."""
    plain = Measurement(
        file="x.csv", line=number, case_id=str(number), device="", model="", kind=kind, value=value,
        metric=metric or ("ttft_ms" if kind == "llm_prefill" else "latency_ms"), precision="p", params_b=None,
        context=context, batch=1, runtime="", gmacs=None, layers=(0, 0, 0), unit_kind="", power_mode="", note="",
        source="", forbidden="",
    )  # fmt: skip
    return replace(plain, **given)
