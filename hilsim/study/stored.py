"""A grid of runs with its store: what is left of it runs, and all that is stored of it comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.study import FAST, Search
from hilsim.describe.study_load import Described
from hilsim.study import execution
from hilsim.study.execution import Goals, Report, Row, unreported
from hilsim.study.points import Grid, grid_of
from hilsim.study.search import SearchResult
from hilsim.study.store import Store
from hilsim.study.study_run import StudyRun, bytes_digest
from hilsim.study.worker import digest_of, facts_of
from hilsim.study.workers import Work


@dataclass(frozen=True)
class StoredGrid:
    """The points of a study or a campaign, what they rest on, and what runs one of them.

    `text` is stored beside the points as a note: what the study or campaign was.
    """

    described: Described
    text: str
    grid: Grid
    facts: dict[str, str]
    work: Work

    @staticmethod
    def of(described: Described, text: str, work: Work) -> StoredGrid:
        """The points of what was loaded."""
        facts = facts_of(described.scenario, described.base)
        # Points timed in another way have other measures, so they are other points.
        ground = digest_of({**facts, "timing": FAST} if described.study.timing == FAST else facts)
        return StoredGrid(described, text, grid_of(described, ground), facts, work)

    def run(
        self,
        store_file: Path,
        *,
        how: Search | None = None,
        goals: Goals = (),
        workers: int | None = None,
        cluster: str | None = None,
        retry_failed: bool = False,
        few_of: Path | None = None,
        resumable: bool = True,
        report: Report = unreported,
    ) -> tuple[list[Row], SearchResult | None]:
        """Run what is left, or search; all that is stored then, and what a search found.

        Raises `InputError` for a store of something else and, with `few_of`, the file that describes them, for
        thousands of points. `KeyboardInterrupt` says how many are stored where the call is `resumable`. `report` gets
        what the points took, where some have run.
        """
        scenario = self.described.scenario.resolve()
        with Store(store_file, self.facts, self.text, execution.machine()) as store:
            if retry_failed:
                store.forget_failed()
            digest = bytes_digest(scenario)
            study_run = StudyRun(self.grid, store, scenario, self.described.base, digest, self.facts, self.work)
            try:
                if few_of is not None:
                    execution.require_few(study_run, how, few_of, workers=workers, cluster=cluster)
                searched = execution.run_study(study_run, how, goals, workers=workers, cluster=cluster, report=report)
            except KeyboardInterrupt:
                if not resumable:
                    raise
                points = "1 point" if len(store) == 1 else f"{len(store)} points"
                stored = f"interrupted; {points} stored in {store.file}"
                raise KeyboardInterrupt(f"{stored}. The same command goes on from there.") from None
            return execution.rows_of(study_run, searched), searched
