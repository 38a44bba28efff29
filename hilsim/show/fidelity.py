"""Predicted against measured on the terminal: every row, sums by class and device, speculation, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hilsim.comparison import summary
from hilsim.describe.figure import Figure
from hilsim.fidelity.cases import LeftOut
from hilsim.fidelity.ratios import BatchRatio
from hilsim.fidelity.speculation import SpeedUp
from hilsim.fidelity.table import ranges
from hilsim.fidelity.validate import COLUMNS, ComparedCase

GOOD, FAIR = 0.10, 0.25
SHORT = ("in", "-model", "-device")
COLUMNS_HEAD = ("in-sample", "without model", "without device")


def percent(error: float, width: int = 7) -> Text:
    """An error as a coloured percentage: within 10 %, within 25 %, beyond."""
    style = "green" if abs(error) <= GOOD else "yellow" if abs(error) <= FAIR else "red"
    return Text(f"{error:>+{width}.0%}", style=style)


def rows_table(rows: Sequence[ComparedCase]) -> Group:
    """Every compared row under its class and device: measured and predicted time, error by column."""
    lines: list[Text] = [Text("Every row: milliseconds of one step, prompt or pass", style="bold")]
    names = "".join(f"{name:>7}" for name in SHORT)
    lines.append(Text(f"{'':<39}{'measured':>9}{'predicted':>10}{names}", style="dim"))
    heading = ""
    order = sorted(rows, key=lambda row: (row.case.label, row.case.device, row.case.model_group, what(row)))
    for row in order:
        case = row.case
        if heading != (heading := f"{case.label}, {case.device}"):
            lines.append(Text(heading, style="bold"))
        name = f"{case.model_group.split(' / ')[-1]}{'*' if case.estimated else ''}"
        lines.append(
            Text.assemble(
                f"  {name[:18]:<19}{what(row)[:17]:<18}",
                f"{case.measured * 1000:>9.4g}{row.predicted[0] * 1000:>10.4g}",
                *(percent(error) for error in row.errors),
            )
        )
    return Group(*lines)


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
    """One class or device: rows, then a summary a column."""
    line = Text(f"  {name[:20]:<20}{len(rows):>5}")
    for errors in zip(*(row.errors for row in rows), strict=True):
        of = summary(list(errors))
        line.append("  ").append(f"{100 * of.mean:>3.0f}", percent(of.mean).style)
        line.append(f"{100 * of.median:>3.0f}{100 * of.worst:>4.0f}{100 * of.bias:>+5.0f}")
    return line


def speculation_lines(rows: Sequence[SpeedUp]) -> Group:
    """Published speed-ups against those that the chip's own step times make; two lines a row."""
    lines = [Text("Speculation: t(1) / (t(n) + drafting) x tokens a step, milliseconds", style="bold")]
    for row in rows:
        star = "*" if row.case.estimated else ""
        lines.append(Text(f"{row.case.device}, {row.case.model_group}{star}, {row.method.name}"))
        times = f"  {row.one_row_s * 1000:.1f} / ({row.verify_s * 1000:.1f} + {row.draft_s * 1000:.1f})"
        if row.predicted is None:
            answer = Text(f"; published {row.published:.2f}x, takes {row.needed:.1f} tokens a step (not stated)")
        else:
            answer = Text.assemble(
                f" x {row.tokens_per_step:.2f} = {row.predicted:.2f}x, published {row.published:.2f}x",
                percent(row.predicted / row.published - 1, 6),
            )
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


def print_validation(
    console: Console,
    rows: Sequence[ComparedCase],
    speculation: Sequence[SpeedUp],
    ratios: Sequence[BatchRatio],
    left: Sequence[LeftOut],
    file: str,
    remarks: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> None:
    """The whole answer of `python -m hilsim validate`, with summary, warnings and notes last."""
    parts: list[RenderableType] = []
    if rows:
        parts += [rows_table(rows), estimates(rows), Text("")]
    if left:
        parts += [left_out_lines(left), Text("")]
    if ratios:
        parts += [ratio_lines(ratios), Text("")]
    if speculation:
        parts += [speculation_lines(speculation), Text("")]
    if rows:
        parts += [summary_table(rows)]
    if lines := remark_lines(*remarks):
        parts += [Text(""), *lines]
    console.print(Text(f"{file}: {len(rows)} rows compared, {len(left)} left out", style="bold"), Text(""))
    console.print(Group(*parts))


def grouped(rows: Sequence[ComparedCase], label: str) -> dict[str, list[ComparedCase]]:
    """The rows of a class: all of them, then those of each device."""
    inside = [row for row in rows if row.case.label == label]
    devices = sorted({row.case.device for row in inside})
    return {"all": inside} | {device: [row for row in inside if row.case.device == device] for device in devices}


def sums(rows: Sequence[ComparedCase]) -> list[dict[str, float]]:
    """One summary a column."""
    return [vars(summary(list(errors))) for errors in zip(*(row.errors for row in rows), strict=True)]


def as_json(
    rows: Sequence[ComparedCase], speculation: Sequence[SpeedUp], ratios: Sequence[BatchRatio], left: Sequence[LeftOut]
) -> dict[str, object]:
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
            }
            for row in speculation
        ],
        "batch_ratios": [
            {
                "case": row.case.measurement.case_id,
                "batch": row.batch,
                "measured": row.measured,
                "predicted": row.predicted,
            }
            for row in ratios
        ],
        "left_out": [{"line": row.measurement.line, "reason": row.reason} for row in left],
    }
