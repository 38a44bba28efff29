"""QNN's profiling events as CSV: `qnn-profile-viewer`, and ONNX Runtime's QNN provider (`profiling_file_path`).

The header is "Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier"
(microsoft/onnxruntime, core/providers/qnn/builder/qnn_profile_serializer.cc). Of the events that time a whole
execution the first of these is taken, its median over all executions, and the accelerator's own time noted:

| event (root level, US)              | what it times                                  |
| QNN (execute) time; EXECUTE, NetRun | the call, with the way to the accelerator (RPC) |
| QNN accelerator (execute) time      | the accelerator with its waiting               |
| Accelerator (execute) time          | the accelerator's work                         |

The row is a network's latency_ms; --kind llm_decode or llm_prefill where the graph is a language model's.
"""

from __future__ import annotations

from statistics import median

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log

NEEDED = ("message", "time", "unit_of_measurement", "event_level", "event_identifier")
CALLS = ("QNN (execute) time", "NetRun", "EXECUTE", "QNN accelerator (execute) time", "Accelerator (execute) time")
MICROSECONDS = ("us", "microsec", "microseconds")
# One graph's executions scatter by less; further apart, several graphs are in one file.
SEVERAL_GRAPHS = 5.0


def is_qnn(contents: Contents) -> bool:
    """Whether its header is that of QNN's events."""
    return set(NEEDED) <= set(contents.headers)


def read(log: Log) -> None:
    """One row: the median of the executions."""
    table = log.contents.whole_table(NEEDED)
    found: dict[str, list[tuple[int, float]]] = {}
    others = 0
    for row in table.rows:
        cells = row.cells
        name = cells.get("event_identifier", "").strip('"')
        name = name if name not in ("NULL", "") else cells.get("message", "")
        if name not in CALLS or cells["unit_of_measurement"].casefold() not in MICROSECONDS:
            others += 1
        elif (value := log.number(cells, "time", f"line {row.line}")) is not None:
            found.setdefault(name, []).append((row.line, value / 1e3))
    call = next((name for name in CALLS if name in found), None)
    if call is None:
        if not log.faults:
            expected = f"one of {', '.join(CALLS)}, in US"
            log.fault("Event Identifier", "no event that times an execution", expected, "Profile an execution.")
        return
    line, times = found[call][0][0], [value for _, value in found[call]]
    own = found.get("Accelerator (execute) time", [])
    note = f"accelerator {median([value for _, value in own]):.4g} ms" if own and call != CALLS[-1] else ""
    log.add_passes(line, times, call, note)
    steady = times[1:] or times
    if max(steady) > SEVERAL_GRAPHS * min(steady):
        reason = f"executions of {min(steady):.4g} to {max(steady):.4g} ms are of several graphs"
        log.rows[-1][1]["forbidden"] = reason
    if others:
        log.notes.append(f"{others} events of operators, cycles and loading are parts of no row")
