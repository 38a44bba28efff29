"""What trtexec writes as JSON (NVIDIA/TensorRT samples/common/sampleReporting.cpp).

| file            | layout                                                     | here: network, latency_ms          |
| --exportTimes   | [{"startComputeMs", ..., "computeMs", "latencyMs"}, ...]   | median of computeMs                |
| --exportProfile | [{"count"}, {"name", "timeMs", "averageMs", "percentage"}] | sum of the layers' averageMs       |

Times of inputs and outputs (h2dMs, d2hMs) are no part of the row. A profile times every layer by itself, which takes
somewhat longer than the whole.
"""

from __future__ import annotations

from statistics import median

from hilsim.describe.json_text import CUT
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log

WHOLE_PERCENT = (99.0, 101.0)


def is_times(contents: Contents) -> bool:
    """Whether it is a list of inferences."""
    return {"startComputeMs", "endComputeMs"} <= set(contents.first)


def is_profile(contents: Contents) -> bool:
    """Whether it is a count and a list of layers."""
    if set(contents.first) != {"count"}:
        return False
    return len(contents.objects) < 2 or "averageMs" in contents.objects[1][1]


def read_times(log: Log) -> None:
    """One row: the median of the inferences."""
    computes, latencies = [], []
    for line, record in log.contents.objects:
        place = f"line {line}"
        start, end = (log.number(record, key, place, zero=True) for key in ("startComputeMs", "endComputeMs"))
        stated = log.number(record, "computeMs", place, needed=False)
        latency = log.number(record, "latencyMs", place, needed=False)
        if start is None or end is None:
            continue
        if end <= start:
            log.fault(place, f"startComputeMs {start:g} and endComputeMs {end:g}", "an end after the start")
            continue
        computes.append(stated or end - start)
        latencies += [latency] if latency else []
        # Instants have six digits, which is coarse late in a long run.
        if stated and end - start > end * 1e-4:
            log.agree(f"{place}, computeMs", stated, end - start)
    if computes:
        note = f"with inputs and outputs {median(latencies):.4g} ms" if latencies else ""
        log.add_passes(log.contents.objects[0][0], computes, "trtexec GPU compute time", note)


def read_profile(log: Log) -> None:
    """One row: the sum of the layers."""
    ((line, head), *layers) = log.contents.objects
    count = log.number(head, "count", f"line {line}")
    if not layers:
        log.fault("", "no layer", "at least one", CUT)
    averages, share = [], 0.0
    for at, layer in layers:
        place = f"line {at}"
        average = log.number(layer, "averageMs", place, zero=True)
        total = log.number(layer, "timeMs", place, zero=True)
        share += log.number(layer, "percentage", place, zero=True) or 0.0
        if average and total and count:
            log.agree(f"{place}, averageMs", average, total / count)
        averages.append(average or 0.0)
    if layers and not log.faults and not WHOLE_PERCENT[0] <= share <= WHOLE_PERCENT[1]:
        log.fault("percentage", f"{share:.1f} over all layers", "100", "Are layers missing?")
    if sum(averages):
        log.add_passes(line, [sum(averages)], f"trtexec, sum of {len(layers)} layers over {count or 0:g} passes")
