"""The answer of a campaign, for those who compute on: every run as a table, the groups as a document, the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilsim.describe.campaign import Campaign
from hilsim.errors import InputError
from hilsim.files import place_faults, written
from hilsim.measure.injected import INJECTED
from hilsim.show.campaign import document, verdict
from hilsim.show.frames import as_frame
from hilsim.show.numbers import counted, duration
from hilsim.show.results import points_table, write_points
from hilsim.shown import Shown
from hilsim.study.campaign import CampaignResult, Group


@dataclass(frozen=True, repr=False, eq=False)
class Campaigned(Shown):
    """Every fault at every instant under every policy: what was survived and what it cost.

    `tolerance_ms` is the fault-tolerant time interval that detection and reaction were held against.
    """

    campaign: Campaign
    found: CampaignResult
    tolerance_ms: float

    @property
    def verdict(self) -> str:
        """What was survived, what was not, what it cost and which policy stands it best."""
        return verdict(self.found)

    @property
    def runs(self) -> Any:
        """A row a run: its policy, fault and instant, its seed, state and measures, and what was lost or not hit."""
        return as_frame(points_table(self.found.rows, self.found.grid, list(INJECTED)))

    @property
    def report(self) -> dict[str, Any]:
        """The verdict, the groups by fault and policy, the phases hit: the document of `hilsim campaign --json`."""
        return document(self.campaign, self.found, self.tolerance_ms)

    def plot(self, file: str | Path) -> Path:
        """Draw the added latency by fault and policy (PNG, SVG or PDF). Raises `InputError`."""
        file = Path(file)
        if faults := place_faults(file, "plot"):
            raise InputError(faults)
        draw(self.campaign, self.found, file)
        return file

    @property
    def title(self) -> str:
        """How many runs there are, and how many of them were hit."""
        hit = len(self.found.whole.hit)
        return f"Campaign {self.campaign.name}: {counted(len(self.found.rows), 'run')}, {hit} of them hit"

    @property
    def facts(self) -> dict[str, str]:
        """The verdict, then what the worst fault costs and how each policy stands the faults."""
        found = {"verdict": self.verdict}
        found |= {group.policy: cost_in_words(group) for group in self.found.policies}
        return found


def cost_in_words(group: Group) -> str:
    """How many runs of a group were survived with the target's own text, and what an answer took longer."""
    added = group.percentile("added_ms", "p99")
    late = "" if added is None else f", an answer {duration(added)} later at p99"
    return f"{group.good} of {counted(len(group.hit), 'hit')} survived with the target's own text{late}"


def export(
    campaign: Campaign, found: CampaignResult, *, csv: Path | None, parquet: Path | None, plot: Path | None
) -> None:
    """Write the requested files, each whole or not at all."""
    write_points(found.rows, found.grid, list(INJECTED), csv=csv, parquet=parquet)
    if plot is not None:
        draw(campaign, found, plot)


def draw(campaign: Campaign, found: CampaignResult, file: Path) -> None:
    """Draw the added latency by fault and policy."""
    from hilsim.show.plots.campaign import draw_campaign

    with written(file) as path:
        draw_campaign(found, campaign.question or campaign.name, path, file.suffix[1:])
