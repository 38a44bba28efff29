"""Imported logs on the terminal: rows that were written, rows that were not and why, and what `validate` will do."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from hilsim.fidelity.imported import Imported
from hilsim.show.fidelity import left_out_lines


def print_imported(console: Console, found: Imported, out: Path | None) -> None:
    """A line a file, its unused rows by reason, its notes; then what the CSV is good for."""
    written = sum(len(one.used) for one in found.files)
    for one in found.files:
        console.print(Text(f"{one.file}: {one.title}: {len(one.used)} rows", style="bold"))
        if one.unused:
            console.print(left_out_lines(one.unused))
        for note in one.notes:
            console.print(Text(f"Note: {note}"))
    where = "" if out is None else f" to {out}"
    console.print(Text(f"Written{where}: {written} rows, of which validate compares {found.compared}"))
    if found.uncompared:
        console.print(left_out_lines(found.uncompared))
    if found.refused:
        console.print(Text("Validate refuses some of them (--skip-bad skips such rows):", style="yellow"))
    for fault in found.refused:
        console.print(Text(f"  {Path(fault.file).name}: {fault.place}: {fault.found}", style="yellow"))
