"""Published speculation against its prediction: one table on the terminal, as JSON and as CSV."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from hilsim.fidelity.speculation import SpeedUp
from hilsim.fidelity.speculation_table import SpeculationTable, is_blind
from hilsim.show.fidelity import left_out_lines, percent
from hilsim.show.table import Table

KEYS = (
    "case", "device", "model", "precision", "method", "batch", "round_steps", "published_round_steps", "round_error",
    "tokens_per_step", "predicted", "published", "same_sign", "tokens_needed", "blind", "source",
)  # fmt: skip


def record(row: SpeedUp) -> dict[str, Any]:
    """One row under `KEYS`; rounds in plain steps, speed-ups in times."""
    case = row.case
    return dict(
        zip(
            KEYS,
            (
                case.measurement.case_id, case.device, case.model_group, case.precision, row.method.name,
                case.measurement.batch, row.round_steps, row.published_round_steps, row.round_error,
                row.tokens_per_step, row.predicted, row.published, row.same_sign, row.needed,
                is_blind(case.measurement), case.measurement.source,
            ),
            strict=True,
        )
    )  # fmt: skip


def as_json(found: SpeculationTable) -> dict[str, Any]:
    """The table as one document; errors are fractions."""
    return {
        "rows": [record(row) for row in found.rows],
        "rounds": {name: vars(errors) for name, errors in found.round_errors().items()},
        "signs": {"right": sum(found.signs()), "of": len(found.signs())},
        "blind": {
            "rows": len(found.blind().rows),
            "rounds": {name: vars(errors) for name, errors in found.blind().round_errors().items()},
            "signs": {"right": sum(found.blind().signs()), "of": len(found.blind().signs())},
        },
        "left_out": [
            {"case": left.measurement.case_id, "line": left.measurement.line, "reason": left.reason}
            for left in found.left_out
        ],
    }


def write_csv(file: TextIO, found: SpeculationTable) -> None:
    """A row a line; those that are not predicted come last, with their reason."""
    columns = (*KEYS, "reason")
    rows: list[list[Any]] = [[*record(row).values(), None] for row in found.rows]
    for left in found.left_out:
        row = left.measurement
        known = {
            "case": row.case_id, "device": row.device, "model": row.model, "precision": row.precision,
            "batch": row.batch, "tokens_per_step": row.noted("tokens per verify step"), "blind": is_blind(row),
            "source": row.source, "reason": left.reason,
        }  # fmt: skip
        rows.append([known.get(column) for column in columns])
    Table(columns, rows).write_csv(file, digits=4)


NAMES = ("device", "model", "format", "method, rows")
KNOWN = (*NAMES, "batch", "round", "publ.", "error", "tokens", "speed-up", "publ.", "sign")
OPEN = (*NAMES, "even at", "publ.", "error", "speed-up", "takes")


def print_speculation(console: Console, found: SpeculationTable, *, summary_alone: bool = False) -> None:
    """The rows whose tokens a round are published, those that lack them, those not predicted, and the summary."""
    known = [known_cells(row) for row in found.rows if row.predicted is not None]
    without = [open_cells(row) for row in found.rows if row.predicted is None]
    if known and not summary_alone:
        console.print(Text("A round in plain steps and the speed-up that it makes: predicted, and as published"))
        Table(KNOWN, known, left=4).print(console)
        console.print()
    if without and not summary_alone:
        console.print(
            Text("Tokens a round not published: how many break even, and how many the published speed-up takes")
        )
        Table(OPEN, without, left=4).print(console)
        console.print()
    if found.left_out and not summary_alone:
        console.print(left_out_lines(found.left_out), Text(""))
    for line in summary_lines(found):
        console.print(Text(line))


def labels(row: SpeedUp) -> tuple[str, str, str, str]:
    """Device, model (with a star where its shape is assumed), format and method."""
    case, method = row.case, row.method.name.replace("tree of ", "").replace("block of ", "")
    return case.device, f"{case.model_group}{'*' if case.estimated else ''}", case.precision, method


def known_cells(row: SpeedUp) -> list[Any]:
    """A row with published tokens a round."""
    sign = "-" if row.same_sign is None else "right" if row.same_sign else "wrong"
    rounds = (row.round_steps, row.published_round_steps, percent(row.round_error, 4))
    speed_ups = (row.predicted, row.published, Text(sign, "red" if sign == "wrong" else ""))
    return [*labels(row), row.case.measurement.batch, *rounds, row.tokens_per_step, *speed_ups]


def open_cells(row: SpeedUp) -> list[Any]:
    """A row without them."""
    rounds = (row.round_steps, row.published_round_steps, percent(row.round_error, 4))
    return [*labels(row), *rounds, row.published, row.needed]


def summary_lines(found: SpeculationTable) -> list[str]:
    """Median error of the round cost by batch, signs, and how much of it is blind."""
    lines = [
        f"Round cost, {name}: median error {errors.median:.0%}, largest {errors.worst:.0%}, {errors.rows} rows"
        for name, errors in found.round_errors().items()
    ]
    if signs := found.signs():
        lines.append(f"Gain or loss predicted as published: {sum(signs)} of {len(signs)} rows")
    blind = found.blind()
    line = f"Added after the constants were fixed: {len(blind.rows)} of {len(found.rows)} rows"
    if blind.signs():
        line += f", {sum(blind.signs())} of {len(blind.signs())} signs"
    return [*lines, line]
