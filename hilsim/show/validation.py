"""The answers about trust: predicted against measured figures, and constants fitted to measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hilsim.describe.chip import Chip
from hilsim.errors import Fault
from hilsim.fidelity.chip_file import as_file, require_chip_file, write_chip
from hilsim.fidelity.from_file import Fit, Validation
from hilsim.show.fidelity import as_json
from hilsim.show.frames import as_frame
from hilsim.show.table import Table
from hilsim.shown import Shown
from hilsim.versions import require_package


@dataclass(frozen=True, repr=False, eq=False)
class Validated(Shown):
    """Predicted against measured figures; `doubts` are warnings about rows that are more likely mistaken than measured.

    `skipped` are rows at fault that were left out.
    """

    file: str
    found: Validation
    skipped: tuple[Fault, ...] = ()

    @property
    def doubts(self) -> tuple[Fault, ...]:
        """Rows that are more likely mistaken than measured."""
        return tuple(self.found.doubts)

    @property
    def report(self) -> dict[str, Any]:
        """The document of `hilsim validate --json`."""
        found = self.found
        return {**as_json(found), "doubts": list(map(str, found.doubts)), "notes": list(found.notes)}

    @property
    def rows(self) -> Any:
        """A row a comparison: measured and predicted milliseconds, and the three relative errors."""
        keys = ("case", "class", "device", "model", "measured_ms", "low_ms", "high_ms")
        return as_frame(
            Table.of(
                {key: row[key] for key in keys}
                | dict(zip(PREDICTED, row["predicted_ms"], strict=True))
                | dict(zip(ERRORS, row["errors"], strict=True))
                for row in self.report["rows"]
            )
        )

    def html(self, file: str | Path, command: str = "") -> Path:
        """Write one self-contained page: misses first, every row as a dot, errors by class; `command` reproduces it.

        Raises `InputError` where it cannot be written or Bokeh is missing.
        """
        require_package("bokeh", "html")
        from hilsim.show.page.frame import write_page
        from hilsim.show.page.validate import page_of

        return write_page(file, page_of(self.found, self.file, command))

    @property
    def title(self) -> str:
        """How many rows of which file were compared."""
        return f"Validation of {self.file}: {len(self.found.rows)} rows compared, {len(self.found.left_out)} left out"

    @property
    def facts(self) -> dict[str, str]:
        """The mean absolute error by class of rows, and what is doubtful."""
        errors: dict[str, list[float]] = {}
        for row in self.report["rows"]:
            errors.setdefault(row["class"], []).append(abs(row["errors"][0]))
        found = {label: f"{len(these)} rows, mean error {fmean(these):.1%}" for label, these in sorted(errors.items())}
        return found | {f"doubtful {number}": str(doubt) for number, doubt in enumerate(self.doubts, 1)}


COLUMNS = ("", "_without_model", "_without_device")
PREDICTED = tuple(f"predicted{suffix}_ms" for suffix in COLUMNS)
ERRORS = tuple(f"error{suffix}" for suffix in COLUMNS)


@dataclass(frozen=True, repr=False, eq=False)
class Calibrated(Shown):
    """A chip's or a family's constants fitted to measurements."""

    fit: Fit
    skipped: tuple[Fault, ...] = ()

    @property
    def doubts(self) -> tuple[Fault, ...]:
        """Rows that are more likely mistaken than measured."""
        return tuple(self.fit.doubts)

    @property
    def figures(self) -> Any:
        """A row a fitted constant: its value, its range (two standard deviations either way) and its unit."""
        rows = [
            (name, figure.value, *(figure.range or (figure.value, figure.value)), figure.unit)
            for name, figure in self.fit.calibration.figures.items()
        ]
        return as_frame(Table(("constant", "value", "low", "high", "unit"), rows))

    def save(self, file: str | Path) -> Path:
        """Write the fitted file, NAME.yaml; a chip is called NAME then. Raises `InputError` where it cannot be."""
        file, record = Path(file), self.fit.calibration.record
        require_chip_file(file)
        write_chip(as_file(record, file.stem) if isinstance(record, Chip) else self.fit.text, file)
        return file

    @property
    def title(self) -> str:
        """What was fitted, and how well it predicts."""
        return f"Calibration of {self.fit.calibration.record.title}: {self.fit.calibration.residuals}"

    @property
    def facts(self) -> dict[str, str]:
        """The fitted constants, and what is doubtful."""
        figures = self.fit.calibration.figures
        found = {name: f"{figure.value:.4g} {figure.unit}" for name, figure in figures.items()}
        return found | {f"doubtful {number}": str(doubt) for number, doubt in enumerate(self.doubts, 1)}
