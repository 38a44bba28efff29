"""Times of steps on the terminal: a board's profile, and a chip that was calibrated from such a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.fidelity.steps import OVERHEADS, RATES, StepCalibration
from hilsim.hardware.measured.profile import TimedShape
from hilsim.hardware.measured.quality import WIDE, QualityWarning
from hilsim.show.fidelity import calibration_table, percent
from hilsim.show.numbers import clean
from hilsim.units import ms

DOUBTS_SHOWN = 6


def print_profile(
    console: Console,
    device: Mapping[str, Any],
    found: Sequence[TimedShape],
    doubted: Sequence[QualityWarning],
    unknown: str,
    file: str,
) -> None:
    """A table a model, rows down and cached positions across, then what is doubtful and what cannot be judged."""
    facts = ", ".join(f"{key} {value}" for key, value in device.items() if value is not None)
    console.print(Text(clean(f"{file}: {facts}"), style="bold"))
    for model in dict.fromkeys(one.shape.model for one in found):
        console.print(Text(clean(model), style="bold"), "median ms; interquartile range over the median")
        console.print(times_table([one for one in found if one.shape.model == model]))
    for doubt in doubted[:DOUBTS_SHOWN]:
        console.print(Text(clean(f"{doubt.kind}: {doubt.sentence}"), style="yellow"))
    if len(doubted) > DOUBTS_SHOWN:
        console.print(Text(f"and {len(doubted) - DOUBTS_SHOWN} more of the kind", style="yellow"))
    if unknown:
        console.print(Text(unknown, style="yellow"))
    elif not doubted:
        console.print("No warnings about these times.")


def times_table(found: Sequence[TimedShape]) -> Table:
    """The shapes of one model; a cell a shape."""
    fills = sorted({one.shape.cached for one in found})
    made = Table(box=None, pad_edge=False)
    made.add_column("rows \\ cached", no_wrap=True)
    for fill in fills:
        made.add_column(f"{fill}", justify="right", no_wrap=True)
    cells = {one.shape[1:]: cell(one) for one in found}
    for reading, rows in sorted({one.shape[1:3] for one in found}):
        made.add_row(
            f"prompt of {rows}" if reading else f"{rows}", *(cells.get((reading, rows, at), "") for at in fills)
        )
    return made


def cell(one: TimedShape) -> Text:
    """Median and scatter of a shape."""
    style = "yellow" if one.scatter > WIDE else "dim"
    return Text.assemble(f"{ms(one.median_ns):.3g}", (f"{one.scatter:>5.0%}", style))


def print_calibration(console: Console, found: StepCalibration, torn: str | None, out: Path | None) -> None:
    """What was fitted, what was not, and how well the chip now predicts the steps."""
    if torn is not None:
        console.print(Text(clean(torn), style="yellow"))
    console.print(calibration_table(found.record.title, found.figures), Text(""))
    if left := [name for name in (*OVERHEADS, *RATES) if name in found.undetermined]:
        console.print(f"Left as in the file, as these steps do not determine them: {', '.join(left)}.")
    if not any(name.startswith("operation_rate") for name in found.figures):
        console.print("Left as in the file: all operation rates. Steps of more rows would determine them.")
    console.print(errors_table(found))
    console.print("Farthest off, predicted against measured:")
    for step, error in found.worst:
        console.print(Text.assemble(f"  {step}: {1000 * step.seconds:.3g} ms", percent(error)))
    console.print(f"\n{found.residuals}")
    if found.far_off:
        warning = "No constants fit these steps. Check the models, unit and precision, and whether the board was busy."
        console.print(Text(warning, style="red"))
    console.print(f"Written: {out}" if out is not None else "Nothing was written (no --out).")


def errors_table(found: StepCalibration) -> Table:
    """Errors by model and kind of step: their mean size, the worst, and the mean with its sign."""
    made = Table(box=None, pad_edge=False)
    made.add_column("predicted against measured")
    for name in ("shapes", "mean error", "worst", "bias"):
        made.add_column(name, justify="right")
    for (model, kind), errors in found.by_kind.items():
        sizes = [abs(error) for error in errors]
        numbers = (Text(f"{fmean(sizes):.1%}"), Text(f"{max(sizes):.0%}"), Text(f"{fmean(errors):+.1%}"))
        made.add_row(f"{model}, {kind}", str(len(errors)), *numbers)
    return made
