"""ExecuTorch's ETDump as a table: `Inspector(etdump_path=...).save_data_to_tsv(file)` (pytorch/executorch devtools).

Columns are event_block_name, event_name, "p50 (ms)" and other percentiles, op_types, is_delegated_op. The row is the
median of the event Method::execute, a network's latency_ms, or with --kind a step or a prompt of a language model. The
Inspector's own events (operators, delegates, loading) are its parts, or lie outside of it.
"""

from __future__ import annotations

import re

from hilsim.describe.json_text import CUT
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log

NEEDED = ("event_block_name", "event_name")
WHOLE = "Method::execute"
MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def is_etdump(contents: Contents) -> bool:
    """Whether its header is the Inspector's."""
    return set(NEEDED) <= set(contents.headers)


def read(log: Log) -> None:
    """A row for every Method::execute."""
    table = log.contents.whole_table(NEEDED)
    column = next((name for name in table.columns if re.match(r"(p50|avg)(_|$)", name)), None)
    unit = (column or "").partition("_")[2]
    if unit not in MILLISECONDS:
        found = f"the column {column!r}" if column else f"columns {', '.join(table.columns)[:60]}"
        remedy = "Write it with include_units=True, and times in ms, not cycles."
        log.fault("line 1", found, "p50 (ms), or in s, us or ns", remedy)
        return
    for row in table.rows:
        if row.cells.get("event_name") != WHOLE:
            continue
        assert column is not None
        if (value := log.number(row.cells, column, f"line {row.line}")) is not None:
            log.add_passes(row.line, [value * MILLISECONDS[unit]], f"ExecuTorch {WHOLE}, {column[:3]}")
    if not log.rows and not log.faults:
        remedy = f"{CUT} Or is it of a program that was loaded and not run?"
        log.fault("event_name", "no event Method::execute", "at least one", remedy)
    if others := len(table.rows) - len(log.rows):
        log.notes.append(f"{others} events of operators, delegates and loading are parts of no row")
