"""The answer of an exploration, for those who compute on: the finalists as setups, every configuration as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.files import folder_faults, place_faults, written
from hilsim.show.explore import as_json, configurations, draw, listed, number, scenario_file, write_finalists
from hilsim.show.frames import as_frame
from hilsim.show.table import Table
from hilsim.shown import Shown
from hilsim.study.explorer import Exploration
from hilsim.versions import require_package


@dataclass(frozen=True, repr=False, eq=False)
class Explored(Shown):
    """The best placements of all, confirmed event by event."""

    found: Exploration

    def setup(self, rank: int = 1) -> Setup:
        """A finalist as a setup to simulate, the best first. Raises `InputError` where there is none of that rank."""
        finalists, question = self.found.finalists, self.found.question
        if not 1 <= rank <= len(finalists):
            expected = f"one of {len(finalists)} finalists"
            raise InputError([Fault("rank", "", str(rank), expected, "Loosen the limits, or raise finalists.")])
        return load_setup(question.file, [*question.overrides, *finalists[rank - 1].overrides])

    @property
    def configurations(self) -> Any:
        """A row a screened configuration, best first: its choices, whether it meets the limits, its measures."""
        return as_frame(Table.of(configurations(self.found.answer)))

    @property
    def report(self) -> dict[str, Any]:
        """The finalists with everything that they rest on: the document that `save` writes."""
        return as_json(self.found)

    def save(self, folder: str | Path) -> list[Path]:
        """Write a scenario file for each finalist, and explore.json; returns what was written. Raises `InputError`."""
        folder = Path(folder)
        if faults := folder_faults(folder, "save"):
            raise InputError(faults)
        write_finalists(self.found, folder)
        ranks = range(1, len(self.found.finalists) + 1)
        return [*(scenario_file(self.found, folder, rank) for rank in ranks), folder / "explore.json"]

    def plot(self, file: str | Path) -> Path:
        """Draw every configuration by the first two objectives (PNG, SVG or PDF). Raises `InputError`."""
        file = Path(file)
        if faults := place_faults(file, "plot"):
            raise InputError(faults)
        with written(file) as path:
            draw(path, self.found, file.suffix[1:])
        return file

    def html(self, file: str | Path, command: str = "") -> Path:
        """Write one self-contained page: every configuration, the best, what they rest on; `command` reproduces it.

        Raises `InputError` where it cannot be written or Bokeh is missing.
        """
        require_package("bokeh", "html")
        from hilsim.show.page.explore import page_of
        from hilsim.show.page.frame import write_page

        return write_page(file, page_of(self.found, command))

    @property
    def title(self) -> str:
        """How many configurations there are, and how many of them meet the limits."""
        answer = self.found.answer
        total = answer.found.left_out.total() + len(answer.found)
        name = self.found.question.base.scenario.name
        return f"Exploration of {name}: {len(answer.ranked):,} of {total:,} configurations run within the limits"

    @property
    def facts(self) -> dict[str, str]:
        """The finalists with their objective, and the unchanged scenario."""
        answer = self.found.answer
        one = answer.objective
        found = {
            f"{rank}.": f"{one.name} {number(one, each.screened)} {one.unit}: {listed(answer.named(each.place))}"
            for rank, each in enumerate(self.found.finalists, 1)
        }
        if self.found.own is not None:
            better = f"{self.found.better:,} configurations are better"
            found["unchanged"] = f"{one.name} {number(one, self.found.own)} {one.unit}; {better}"
        return found
