"""Predicted against measured on the terminal: every row, sums by class and device, speculation, what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hilsim.fidelity.calibrate import Calibration
from hilsim.fidelity.cases import LeftOut
from hilsim.fidelity.speculation import SpeedUp
from hilsim.fidelity.validate import COLUMNS, Comparison, Summary, summary

GOOD, FAIR = 0.10, 0.25


def percent(error: float, *, sign: bool = True) -> Text:
    """An error as a coloured percentage: within 10 %, within 25 %, beyond."""
    style = "green" if abs(error) <= GOOD else "yellow" if abs(error) <= FAIR else "red"
    return Text(f"{error:+.0%}" if sign else f"{error:.0%}", style=style)


def table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """A table with text columns first and number columns after them."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in left:
        made.add_column(name, overflow="fold")
    for name in right:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def rows_table(rows: Sequence[Comparison]) -> Table:
    """Every compared row: what it is, measured and predicted time, error by column."""
    made = table(
        "Every row (milliseconds of one step, prompt or pass)",
        ("chip", "model", "what"),
        ("measured", "predicted", *COLUMNS),
    )
    for row in sorted(rows, key=lambda row: (row.case.label, row.case.device, row.case.model_group)):
        case = row.case
        star = "*" if case.estimated else ""
        made.add_row(
            case.device,
            case.model_group.split(" / ")[-1] + star,
            what(row),
            f"{case.measured * 1000:.4g}",
            f"{row.predicted[0] * 1000:.4g}",
            *(percent(error) for error in row.errors),
        )
    return made


def what(row: Comparison) -> str:
    """Kind, precision and size of what was timed."""
    case, measured = row.case, row.case.measurement
    if case.kind == "network":
        return f"{measured.precision} network"
    tokens = f" of {case.prompt_rows}" if case.kind == "prefill" else ""
    batch = f", batch {measured.batch}" if measured.batch > 1 else ""
    context = f", context {measured.context}" if measured.context else ""
    return f"{measured.precision} {case.kind}{tokens}{context}{batch}"


def summary_table(rows: Sequence[Comparison]) -> Table:
    """Mean, median and worst absolute error and bias of every class and device, in three columns."""
    made = table(
        "Absolute error: mean / median / worst, bias",
        ("class", "device"),
        ("rows", *COLUMNS),
    )
    for label in sorted({row.case.label for row in rows}):
        inside = [row for row in rows if row.case.label == label]
        made.add_row(Text(label, style="bold"), "all", *cells(inside))
        devices = sorted({row.case.device for row in inside})
        for device in devices if len(devices) > 1 else ():
            made.add_row("", device, *cells([row for row in inside if row.case.device == device]))
    return made


def cells(rows: Sequence[Comparison]) -> list[RenderableType]:
    """Number of rows and one summary a column."""
    by_column = zip(*(row.errors for row in rows), strict=True)
    return [str(len(rows)), *(summed(summary(list(errors))) for errors in by_column)]


def summed(of: Summary) -> Text:
    """A summary as mean / median / worst, bias."""
    return Text.assemble(percent(of.mean, sign=False), f" / {of.median:.0%} / {of.worst:.0%}, {of.bias:+.0%}")


def speculation_table(rows: Sequence[SpeedUp]) -> Table:
    """Published speed-ups against those that the chip's own step times make."""
    made = table(
        "Speculation on measured chips: tokens a step x t(1) / (t(n) + draft)",
        ("chip", "target", "method"),
        ("t(1) ms", "t(n) ms", "draft ms", "tokens/step", "published", "predicted", "error"),
    )
    for row in rows:
        predicted = row.predicted
        made.add_row(
            row.case.device,
            row.case.model_group + ("*" if row.case.estimated else ""),
            row.method.name if row.method is not None else "",
            f"{row.one_row_s * 1000:.1f}",
            f"{row.verify_s * 1000:.1f}",
            f"{row.draft_s * 1000:.1f}",
            f"{row.tokens_per_step:.2f}" if row.tokens_per_step is not None else f"needs {row.needed:.1f}",
            f"{row.published:.2f}x",
            "not stated" if predicted is None else f"{predicted:.2f}x",
            "" if predicted is None else percent(predicted / row.published - 1),
        )
    return made


def calibration_table(found: Calibration) -> Table:
    """Fitted constants with their ranges, two standard deviations of the logarithm either way."""
    made = table(f"{found.record.title}: fitted constants", ("constant",), ("value", "range", "unit"))
    for path, figure in found.figures.items():
        low, high = figure.range or (figure.value, figure.value)
        made.add_row(path, f"{figure.value:.4g}", f"{low:.4g} to {high:.4g}", figure.unit)
    return made


def left_out_table(left: Sequence[LeftOut]) -> Table:
    """Rows that took no part, by reason, with their lines in the file."""
    made = table(f"Left out: {len(left)} rows", ("why", "lines"), ("rows",))
    for reason in sorted({row.reason for row in left}):
        lines = [row.measurement.line for row in left if row.reason == reason]
        made.add_row(reason, ranges(lines), str(len(lines)))
    return made


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers with runs drawn together: 3-5, 9."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in parts)


def estimates(rows: Sequence[Comparison]) -> Text:
    """What was assumed for rows marked with a star."""
    notes = sorted({f"{row.case.model_group}: {row.case.estimated}" for row in rows if row.case.estimated})
    return Text("* " + "; ".join(notes), style="dim") if notes else Text("")


def print_validation(
    console: Console, rows: Sequence[Comparison], speculation: Sequence[SpeedUp], left: Sequence[LeftOut], file: str
) -> None:
    """The whole answer of `python -m hilsim validate`, the summary last where the eye is."""
    parts: list[RenderableType] = []
    if rows:
        parts += [rows_table(rows), estimates(rows), Text("")]
    if left:
        parts += [left_out_table(left), Text("")]
    if speculation:
        parts += [speculation_table(speculation), Text("")]
    if rows:
        parts += [summary_table(rows)]
    console.print(Text(f"{file}: {len(rows)} rows compared, {len(left)} left out", style="bold"), Text(""))
    console.print(Group(*parts))


def as_json(rows: Sequence[Comparison], speculation: Sequence[SpeedUp], left: Sequence[LeftOut]) -> dict[str, object]:
    """The same as one document."""
    return {
        "rows": [
            {
                "case": row.case.measurement.case_id,
                "class": row.case.label,
                "device": row.case.device,
                "model": row.case.model_group,
                "measured_ms": row.case.measured * 1000,
                "predicted_ms": [seconds * 1000 for seconds in row.predicted],
                "errors": list(row.errors),
                "assumed": row.case.estimated,
            }
            for row in rows
        ],
        "columns": list(COLUMNS),
        "summaries": {
            f"{label}": [
                vars(summary(list(errors)))
                for errors in zip(*(row.errors for row in rows if row.case.label == label), strict=True)
            ]
            for label in sorted({row.case.label for row in rows})
        },
        "speculation": [
            {
                "case": row.case.measurement.case_id,
                "published": row.published,
                "predicted": row.predicted,
                "tokens_per_step": row.tokens_per_step,
                "tokens_needed": row.needed,
            }
            for row in speculation
        ],
        "left_out": [{"line": row.measurement.line, "reason": row.reason} for row in left],
    }
