"""Predicted against measured on the terminal: every row, sums by class and device, speculation, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hilsim.comparison import summary
from hilsim.describe.figure import Figure
from hilsim.fidelity.cases import Case, LeftOut
from hilsim.fidelity.confidence import LEVELS, Interval, classes, coverage, interval, interval_of
from hilsim.fidelity.from_file import Validation
from hilsim.fidelity.kept_errors import COLUMNS
from hilsim.fidelity.ratios import BatchRatio
from hilsim.fidelity.speculation import SpeedUp
from hilsim.fidelity.table import ranges
from hilsim.fidelity.validate import ComparedCase

GOOD, FAIR = 0.10, 0.25
SHORT = ("in", "-model", "-dev.")
COLUMNS_HEAD = ("in-sample", "without model", "without device")


def percent(error: float | None, width: int = 7) -> Text:
    """An error as a coloured percentage: within 10 %, within 25 %, beyond; a dash where there is none."""
    if error is None:
        return Text(f"{'-':>{width}}", style="dim")
    style = "green" if abs(error) <= GOOD else "yellow" if abs(error) <= FAIR else "red"
    return Text(f"{error:>+{width}.0%}", style=style)


def sure(case: Case) -> Interval | None:
    """The factors of a case's predicted time between which eight of ten measured ones lie."""
    return interval_of(case.unit_kind, case.kind, case.device, case.model_group)


def rows_table(rows: Sequence[ComparedCase]) -> Group:
    """Every compared row under its class and device: measured and predicted time, its interval, error by column."""
    lines: list[Text] = [Text("Every row: milliseconds of one step, prompt or pass", style="bold")]
    names = "".join(f"{name:>5}" for name in SHORT[:1]) + "".join(f"{name:>7}" for name in SHORT[1:])
    lines.append(Text(f"{'':<29}{'measured':>9}{'predicted':>10}{'80 % within':>13}{names}", style="dim"))
    heading = ""
    order = sorted(rows, key=lambda row: (row.case.label, row.case.device, row.case.model_group, what(row)))
    for row in order:
        case = row.case
        if heading != (heading := f"{case.label}, {case.device}"):
            lines.append(Text(heading, style="bold"))
        name = f"{case.model_group.split(' / ')[-1]}{'*' if case.estimated else ''}"
        predicted_ms, of = row.predicted[0] * 1000, sure(case)
        within = "" if of is None else f"{in_few(predicted_ms * of.low)} to {in_few(predicted_ms * of.high)}"
        lines.append(
            Text.assemble(
                f"  {name[:12]:<13}{what(row)[:14]:<15}"[:29],
                f"{row.measured * 1000:>9.4g}{predicted_ms:>10.4g}{within:>13}",
                *(percent(error, width) for error, width in zip(row.errors, (5, 7, 7), strict=True)),
            )
        )
    return Group(*lines)


def in_few(value: float) -> str:
    """A number in few characters, and none of them an exponent's."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def what(row: ComparedCase) -> str:
    """Precision and size of what was timed."""
    case, measured = row.case, row.case.measurement
    if case.kind == "network":
        return f"{case.precision} {measured.runtime.split()[0]}" if measured.runtime else case.precision
    batch = f" batch {measured.batch}" if measured.batch > 1 else ""
    if case.kind == "prefill":
        return f"{case.precision} {case.prompt_rows} tokens{batch}"
    context = f" at {measured.context}" if measured.context else ""
    return f"{case.precision}{context}{batch}"


def summary_table(rows: Sequence[ComparedCase]) -> Group:
    """Mean, median and worst absolute error and bias of every class and device, in three columns."""
    lines = [
        Text("Absolute error: mean, median, worst; then the mean with its sign; in %", style="bold"),
        Text(f"{'':<22}{'rows':>5}" + "".join(f"{name:>17}" for name in COLUMNS_HEAD), style="dim"),
    ]
    for label in sorted({row.case.label for row in rows}):
        groups = grouped(rows, label)
        lines.append(Text(label, style="bold"))
        # A class of one device needs no line for all.
        shown = groups if len(groups) > 2 else dict(list(groups.items())[1:])
        lines += [summary_line(name, inside) for name, inside in shown.items()]
    return Group(*lines)


def summary_line(name: str, rows: Sequence[ComparedCase]) -> Text:
    """One class or device: rows, then a summary a column; dashes where nothing was fitted without the rows."""
    line = Text(f"  {name[:20]:<20}{len(rows):>5}")
    for column in range(len(COLUMNS)):
        errors = [error for row in rows if (error := row.errors[column]) is not None]
        if not errors:
            line.append(f"{'-':>17}", "dim")
            continue
        of = summary(errors)
        line.append("  ").append(f"{100 * of.mean:>3.0f}", percent(of.mean).style)
        line.append(f"{100 * of.median:>3.0f}{100 * of.worst:>4.0f}{100 * of.bias:>+5.0f}")
    return line


def round_lines(rounds: Sequence[ComparedCase], speculation: Sequence[SpeedUp]) -> Group:
    """What a round of speculation costs in plain steps, by batch, and how often gain or loss is predicted as published.

    Acceptance has no part in it: tokens a round are the published ones on both sides.
    """
    lines = [Text("A round of speculation in plain steps: absolute error, as above", style="bold")]
    for name, inside in by_batch(rounds).items():
        lines.append(summary_line(name, inside))
    signs = [same for row in speculation if (same := row.same_sign) is not None]
    if signs:
        lines.append(Text(f"  gain or loss predicted as published: {sum(signs)} of {len(signs)} rows"))
    return Group(*lines)


def by_batch(rounds: Sequence[ComparedCase]) -> dict[str, list[ComparedCase]]:
    """Rounds by the number of sequences together."""
    batches = sorted({row.case.measurement.batch for row in rounds})
    found = {f"batch {batch}": [row for row in rounds if row.case.measurement.batch == batch] for batch in batches}
    return found if len(found) < 2 else {"all": list(rounds)} | found


def coverage_lines() -> Group:
    """Factors of a predicted time between which 80 % lie, and what share of the rows that it left out each holds."""
    lines = [
        Text("80 % of measured over predicted lie between (and hold so many rows that were left out)", style="bold"),
        Text(f"{'':<20}" + "".join(f"{level:>20}" for level in LEVELS), style="dim"),
    ]
    for unit, kind in classes():
        cells = ""
        for level in LEVELS:
            of, share = interval(unit, kind, level), coverage(unit, kind, level)
            cells += f"{'-' if of is None else f'{of.low:.2f} to {of.high:.2f} ({share:.0%})':>20}"
        lines.append(Text(f"  {f'{kind}, {unit.upper()}':<18}{cells}"))
    return Group(*lines)


def speculation_lines(rows: Sequence[SpeedUp]) -> Group:
    """Published speed-ups against those that the chip's own step times make; two lines a row."""
    lines = [Text("Speculation: (t(n) + drafting) / t(1), milliseconds", style="bold")]
    for row in rows:
        star, batch = "*" if row.case.estimated else "", row.case.measurement.batch
        where = f"{row.case.device}, {row.case.model_group}{star}, {row.case.precision}"
        lines.append(Text(f"{where}, {row.method.name}{f', batch {batch}' if batch > 1 else ''}"))
        times = f"  ({row.verify_s * 1000:.1f} + {row.draft_s * 1000:.1f}) / {row.one_row_s * 1000:.1f}"
        steps = f" = {row.round_steps:.2f} steps"
        answer = Text(steps)
        if row.published_round_steps is not None:
            answer.append(f", published {row.published_round_steps:.2f}").append_text(percent(row.round_error, 6))
        if row.predicted is not None:
            answer.append(
                f"; with {row.tokens_per_step:.2f} tokens {row.predicted:.2f}x, published {row.published:.2f}x"
            )
            answer.append("" if row.same_sign else " (sign)", "red")
        elif row.needed is not None:
            answer.append(f"; published {row.published:.2f}x, takes {row.needed:.1f} tokens a step (not stated)")
        lines.append(Text(times).append_text(answer))
    return Group(*lines)


def ratio_lines(rows: Sequence[BatchRatio]) -> Group:
    """What a step of several sequences costs over a step of one, where only ratios may be compared."""
    lines = [Text("Batching as ratios: a step of several sequences over a step of one", style="bold")]
    for row in rows:
        where = f"  {row.case.device[:16]:<17}{row.case.model_group[:14]:<15}{row.batch} over 1"
        numbers = f"  measured {row.measured:.2f}, predicted {row.predicted:.2f}"
        lines.append(Text.assemble(where, numbers, percent(row.error)))
    return Group(*lines)


def calibration_table(title: str, figures: Mapping[str, Figure]) -> Table:
    """Fitted constants with their ranges, two standard deviations of the logarithm either way."""
    made = Table(title=f"{title}: fitted constants", title_justify="left", box=None, pad_edge=False)
    made.add_column("constant", overflow="fold")
    made.add_column("value", justify="right")
    made.add_column("range", justify="right")
    made.add_column("unit")
    for path, figure in figures.items():
        low, high = figure.range or (figure.value, figure.value)
        made.add_row(path, f"{figure.value:.4g}", f"{low:.4g} to {high:.4g}", figure.unit)
    return made


def left_out_lines(left: Sequence[LeftOut]) -> Group:
    """Rows that took no part, by reason, with their lines in the file."""
    lines = [Text(f"Left out: {len(left)} rows", style="bold")]
    for reason in sorted({row.reason for row in left}):
        numbers = [row.measurement.line for row in left if row.reason == reason]
        lines.append(Text(f"  {len(numbers):>3} {reason}: lines {ranges(numbers)}"))
    return Group(*lines)


def remark_lines(doubts: Sequence[str], notes: Sequence[str]) -> list[Text]:
    """Warnings about doubtful rows, highlighted, and notes on the others."""
    found = [Text("Doubtful: these figures are more likely mistaken than measured", style="bold red")] if doubts else []
    return [*found, *(Text(f"  {doubt}", style="red") for doubt in doubts), *(Text(f"Note: {note}") for note in notes)]


def estimates(rows: Sequence[ComparedCase]) -> Text:
    """What was assumed for rows marked with a star."""
    notes = sorted({f"{row.case.model_group}: {row.case.estimated}" for row in rows if row.case.estimated})
    return Text("* " + "; ".join(notes), style="dim") if notes else Text("")


def print_validation(console: Console, found: Validation, file: str, *, summary_alone: bool = False) -> None:
    """The whole answer of `python -m hilsim validate`, with summary, warnings and notes last."""
    parts: list[RenderableType] = []
    if not summary_alone:
        if found.rows:
            parts += [rows_table(found.rows), estimates(found.rows), Text("")]
        if found.left_out:
            parts += [left_out_lines(found.left_out), Text("")]
        if found.ratios:
            parts += [ratio_lines(found.ratios), Text("")]
        if found.speculation:
            parts += [speculation_lines(found.speculation), Text("")]
    if found.rows:
        parts += [summary_table(found.rows), Text("")]
    if found.rounds:
        parts += [round_lines(found.rounds, found.speculation), Text("")]
    parts += [coverage_lines()]
    if lines := remark_lines([str(doubt) for doubt in found.doubts], found.notes):
        parts += [Text(""), *lines]
    compared = len(found.rows) + len(found.rounds)
    console.print(Text(f"{file}: {compared} rows compared, {len(found.left_out)} left out", style="bold"), Text(""))
    console.print(Group(*parts))


def grouped(rows: Sequence[ComparedCase], label: str) -> dict[str, list[ComparedCase]]:
    """The rows of a class: all of them, then those of each device."""
    inside = [row for row in rows if row.case.label == label]
    devices = sorted({row.case.device for row in inside})
    return {"all": inside} | {device: [row for row in inside if row.case.device == device] for device in devices}


def sums(rows: Sequence[ComparedCase]) -> list[dict[str, float] | None]:
    """One summary a column; None where nothing was fitted without the rows."""
    columns = [
        [error for error in errors if error is not None] for errors in zip(*(row.errors for row in rows), strict=True)
    ]
    return [vars(summary(errors)) if errors else None for errors in columns]


def in_ms(seconds: float | None) -> float | None:
    """Seconds as milliseconds."""
    return None if seconds is None else seconds * 1000


def as_json(found: Validation) -> dict[str, object]:
    """The same as one document."""
    rows, speculation = found.rows, found.speculation
    return {
        "rows": [
            {
                "case": row.case.measurement.case_id,
                "class": row.case.label,
                "device": row.case.device,
                "model": row.case.model_group,
                "measured_ms": row.measured * 1000,
                "predicted_ms": [in_ms(seconds) for seconds in row.predicted],
                "low_ms": None if (of := sure(row.case)) is None else row.predicted[0] * 1000 * of.low,
                "high_ms": None if of is None else row.predicted[0] * 1000 * of.high,
                "errors": list(row.errors),
                "assumed": row.case.estimated,
            }
            for row in rows
        ],
        "columns": list(COLUMNS),
        "summaries": {
            label: {name: sums(inside) for name, inside in grouped(rows, label).items()}
            for label in sorted({row.case.label for row in rows})
        },
        "speculation": [
            {
                "case": row.case.measurement.case_id,
                "published": row.published,
                "predicted": row.predicted,
                "tokens_per_step": row.tokens_per_step,
                "tokens_needed": row.needed,
                "batch": row.case.measurement.batch,
                "round_steps": row.round_steps,
                "published_round_steps": row.published_round_steps,
                "same_sign": row.same_sign,
            }
            for row in speculation
        ],
        "rounds": {name: sums(inside) for name, inside in by_batch(found.rounds).items()},
        "batch_ratios": [
            {
                "case": row.case.measurement.case_id,
                "batch": row.batch,
                "measured": row.measured,
                "predicted": row.predicted,
            }
            for row in found.ratios
        ],
        "left_out": [{"line": row.measurement.line, "reason": row.reason} for row in found.left_out],
    }
