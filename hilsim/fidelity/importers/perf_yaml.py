"""AI Hub's `perf.yaml` of a model (qualcomm/ai-hub-models, qai_hub_models/models/MODEL/perf.yaml).

| under precisions.P.components.MODEL.performance_metrics.DEVICE.RUNTIME   | here                               |
| llm_metrics: tokens_per_second at context_length                        | llm_decode, tok_s                  |
| llm_metrics: time_to_first_token_range_milliseconds.min                 | llm_prefill, ttft_ms, 128-token    |
| inference_time_milliseconds, layer_counts, primary_compute_unit         | network, latency_ms, layers_*      |

The least time to the first token is one pass of 128 tokens; the longest is that times context_length / 128, not
measured, and not read. prefill_tokens_per_second comes without the length of its prompts and is not read either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hilsim.describe.json_text import CUT
from hilsim.describe.strict_yaml import Document, parse
from hilsim.errors import InputError
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log, list_in, object_in

PASS = 128  # rows of the prompt graph that AI Hub exports
RUNTIMES = {
    "genie": "genie/QNN",
    "qnn_dlc": "QNN (dlc)",
    "qnn_context_binary": "QNN context binary",
    "tflite": "TFLite + QNN delegate",
}


def is_perf_yaml(contents: Contents) -> bool:
    """Whether keys of a perf.yaml begin lines of it."""
    keys = set(re.findall(r"^[ -]*([A-Za-z_]+):(?:\s|$)", contents.text, flags=re.MULTILINE))
    return not contents.is_json and bool({"performance_metrics", "supported_chipsets"} & keys)


def read(log: Log) -> None:
    """Rows of every precision, component, device and runtime."""
    try:
        document = parse(log.contents.text, log.contents.file)
    except InputError as error:
        log.faults += error.faults
        return
    data = document.data if isinstance(document.data, dict) else {}
    if "precisions" not in data:
        remedy = CUT if "models" not in data else "It has the layout of 2024; take the file of a later release."
        log.fault("", f"keys {', '.join(map(str, data)) or 'none'}", "precisions", remedy)
    failed = 0
    for path, metrics in runs_in(data):
        place = ".".join(path)
        line = line_of(document, path)
        if "llm_metrics" in metrics:
            if not list_in(metrics, "llm_metrics"):
                log.fault(f"{place}.llm_metrics", "nothing", "metrics at a context", CUT)
            for number, at_context in enumerate(list_in(metrics, "llm_metrics")):
                read_llm(log, line, f"{place}.llm_metrics[{number}]", path, at_context)
        elif "inference_time_milliseconds" in metrics:
            read_network(log, line, place, path, metrics)
        elif metrics.get("job_status", "Failed") == "Failed":
            failed += 1
        else:
            log.fault(place, f"keys {', '.join(map(str, metrics)) or 'none'}", "llm_metrics or a time", CUT)
    if failed:
        log.notes.append(f"jobs that failed and have no time: {failed}")


def runs_in(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The metrics of every run with their path."""
    for precision, of_precision in object_in(data, "precisions").items():
        components = object_in(of_precision, "components") if isinstance(of_precision, dict) else {}
        for component, of_component in components.items():
            metrics = object_in(of_component, "performance_metrics") if isinstance(of_component, dict) else {}
            for device, runs in metrics.items():
                for runtime, run in (runs if isinstance(runs, dict) else {}).items():
                    path = ("precisions", precision, "components", component, "performance_metrics", device, runtime)
                    yield tuple(map(str, path)), run if isinstance(run, dict) else {}


def line_of(document: Document, path: tuple[str, ...]) -> int:
    """The line of a run."""
    return document.lines.get(path, 1)


def named(log: Log, path: tuple[str, ...], *, network: bool) -> dict[str, object]:
    """Device, model, precision and runtime of a run: a network is known by its folder's name and its own."""
    _, precision, _, component, _, device, runtime = path
    folder = Path(log.contents.file).resolve().parent.name
    model = f"{folder} / {component}" if network and re.fullmatch(r"[a-z0-9_]+", folder) else component
    return {
        "device": device, "model": model, "precision": precision, "runtime": RUNTIMES.get(runtime, runtime),
        "source": "AI Hub perf.yaml",
    }  # fmt: skip


def read_llm(log: Log, line: int, place: str, path: tuple[str, ...], metrics: Mapping[str, Any]) -> None:
    """A language model at one context: its rate and one pass over a prompt."""
    context = log.number(metrics, "context_length", place)
    rate = log.number(metrics, "tokens_per_second", place)
    least = log.number(object_in(metrics, "time_to_first_token_range_milliseconds"), "min", place)
    unit = metrics.get("desired_compute_unit") or ""
    common = named(log, path, network=False) | {"context_len": context, "primary_unit": unit}
    # One run may hold the same figures of several units.
    where = f"on the {unit}" if unit else ""
    if context and rate:
        log.add(line, kind="llm_decode", metric="tok_s", value=rate, note=where, **common)
    if context and least:
        note = "; ".join(filter(None, (f"one {PASS}-token pass", where)))
        log.add(line, kind="llm_prefill", metric="ttft_ms", value=least, note=note, **common)


def read_network(log: Log, line: int, place: str, path: tuple[str, ...], metrics: Mapping[str, Any]) -> None:
    """A network: its latency and where its layers ran."""
    value = log.number(metrics, "inference_time_milliseconds", place)
    layers = object_in(metrics, "layer_counts")
    units = {f"layers_{unit}": layers.get(unit) for unit in ("npu", "gpu", "cpu")}
    if layers.get("total") != sum(count for count in units.values() if isinstance(count, int)):
        found = (
            f"total {layers.get('total')} of {', '.join(f'{name} {count}' for name, count in units.items() if count)}"
        )
        log.fault(f"{place}.layer_counts", found, "the sum of its units", CUT)
    elif value:
        log.add(
            line, kind="network", metric="latency_ms", value=value, primary_unit=metrics.get("primary_compute_unit"),
            **named(log, path, network=True), **units,
        )  # fmt: skip
