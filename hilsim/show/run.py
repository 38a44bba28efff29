"""The answer of a simulation: its document, its tables, its pictures and its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.compiler.plan import Plan
from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.setup import Setup
from hilsim.errors import ChipLost, Fault, InputError
from hilsim.files import folder_faults, place_faults
from hilsim.progress import status_line
from hilsim.runs.run import RunPair, Sources, run_both
from hilsim.show.check import Checked
from hilsim.show.document import document
from hilsim.show.saved import save_pictures, save_report, save_traces
from hilsim.show.sentences import answer
from hilsim.shown import Shown
from hilsim.sim.policies.registry import policy_function
from hilsim.sim.trace import Observer, Trace
from hilsim.versions import require_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from hilsim.hardware.distributed.link_wires import End
    from hilsim.hardware.measured.rig import Rig
    from hilsim.show.table import Table

WIDTH = 110  # of the report as text
RECORDINGS = Path("recordings")  # where steps of boards are recorded, unless a scenario names another folder
Watch = Callable[[Setup, PlacementVerdict, Callable[[Sequence[int]], str]], AbstractContextManager[Observer | None]]


@dataclass(frozen=True)
class RunOptions:
    """How a scenario is run: see `hilsim.simulate`, which has the same arguments."""

    realtime: float | None = None
    uncertainty: int = 0
    shadow: bool = False
    link_ends: Mapping[str, str] | None = None
    recordings: Path = RECORDINGS
    watch: Watch | None = None


@dataclass(frozen=True, repr=False, eq=False)
class Run(Shown):
    """One simulated scenario: the target alone and, where the policy drafts, speculation over the same requests.

    `report` is the document of `hilsim simulate --json`, with the same keys; `text_of` is the text of tokens; `plans`
    are how its parts compile.
    """

    setup: Setup
    outcome: RunPair
    report: dict[str, Any]
    text_of: Callable[[Sequence[int]], str]
    plans: tuple[Plan, ...] = ()

    @property
    def baseline(self) -> Trace:
        """The run of the target alone."""
        return self.outcome.baseline

    @property
    def speculative(self) -> Trace | None:
        """The run of the scenario's policy; None where the target is alone."""
        return self.outcome.speculative

    @property
    def lost(self) -> bool:
        """Whether a board was lost, or a fault not survived, so that the run ended before its time."""
        return "lost" in self.report

    @property
    def speedup(self) -> float | None:
        """Request time of the target alone over that of speculation; 1.0 where the target is alone, None where lost."""
        return self.report.get("speedup")

    @cached_property
    def requests(self) -> Any:
        """A row a request and run: when it arrived and was answered, and where its time went, in milliseconds."""
        from hilsim.show.tables import requests_table

        return self._frame(requests_table)

    @cached_property
    def rounds(self) -> Any:
        """A row a round and run: drafted, accepted and emitted tokens, and where its time went, in milliseconds."""
        from hilsim.show.tables import rounds_table

        return self._frame(rounds_table)

    @cached_property
    def spans(self) -> Any:
        """A row a span and run: what occupied which unit or direction of the link, and when, in milliseconds."""
        from hilsim.show.tables import spans_table

        return self._frame(spans_table)

    @cached_property
    def turns(self) -> Any:
        """A row a passenger's turn and run: its instants in milliseconds, its outcome, and gaps of its playback."""
        from hilsim.show.tables import turns_table

        return self._frame(turns_table)

    def _frame(self, table: Callable[..., Table]) -> Any:
        """A table of both runs for those who compute on."""
        from hilsim.show.frames import as_frame  # the command itself makes no table

        return as_frame(table(self.baseline, self.speculative))

    def timeline(self) -> Figure:
        """One request on one time axis, as a matplotlib figure. Raises `InputError` where matplotlib is missing."""
        require_package("matplotlib", "timeline")
        from hilsim.show.plots.timeline import timeline

        return timeline(self.baseline, self.speculative, self.setup)

    def trace(self, file: str | Path) -> Path:
        """Write a trace that Perfetto (ui.perfetto.dev) opens. Raises `InputError` where it cannot be written."""
        file = Path(file)
        if faults := place_faults(file, "trace"):
            raise InputError(faults)
        save_traces([file], self.setup, self.outcome)
        return file

    def save(self, folder: str | Path) -> list[Path]:
        """Write report.json, trace.json, rounds.csv, requests.csv and timeline.png; returns what is in the folder.

        With company also turns.csv, turns.png and trip.png. Pictures are left out where matplotlib is not installed,
        and after a lost board. Raises `InputError`.
        """
        folder = Path(folder)
        if faults := folder_faults(folder, "save"):
            raise InputError(faults)
        save_report(folder, self.setup, self.outcome, self.report)
        if not self.lost:
            save_pictures(folder, self.setup, self.outcome, None)
        return sorted(folder.iterdir())

    def html(self, file: str | Path, command: str = "") -> Path:
        """Write one self-contained page: the answer, the conversation, an interactive timeline, what it rests on.

        `command` is what reproduces it. Raises `InputError` where it cannot be written or Bokeh is missing.
        """
        require_package("bokeh", "html")
        from hilsim.show.page.frame import write_page
        from hilsim.show.page.run import page_of

        return write_page(file, page_of(self, command))

    def render(self, console: Console) -> None:
        """Print the report."""
        if self.lost:
            from hilsim.show.hardware import render_lost_run

            render_lost_run(self.report, console)
        else:
            from hilsim.show.report import render

            render(self.report, console)

    @property
    def title(self) -> str:
        """The answer in a sentence or two."""
        return f"Run of {self.report['scenario']}: it ended early" if self.lost else f"Run of {answer(self.report)}"

    @property
    def facts(self) -> dict[str, str]:
        """Requests, acceptance, whether it is lossless, and what is held against it."""
        ours, lossless = self.report.get("speculative"), self.report.get("lossless")
        found = {"requests": f"{len(self.baseline.requests)}"}
        if ours is not None:
            accepted = f"{ours['num_accepted_tokens']} of {ours['num_draft_tokens']} drafted tokens"
            found["accepted"] = f"{accepted}, mean acceptance length {ours['mean_acceptance_length']:.2f}"
        if lossless is not None:
            found["lossless"] = f"rule {lossless['rule']}, {lossless['mismatches']} mismatches"
        if doubts := self.report.get("caveats"):
            found["caveats"] = "; ".join(f"{caveat['kind']}: {caveat['about']}" for caveat in doubts)
        return found

    def __str__(self) -> str:
        """The whole report as text."""
        from rich.console import Console

        text = StringIO()
        self.render(Console(file=text, width=WIDTH, force_terminal=False))
        return text.getvalue().strip()


def wanted_faults(setup: Setup, wanted: RunOptions) -> list[Fault]:
    """Faults of options that do not apply to this scenario."""
    faults = []
    if wanted.shadow and not setup.backends:
        sentence = "compares the chip model with a board, but every unit here is simulated."
        faults.append(Fault("--shadow", "", sentence, "", "Set units.NAME.backend."))
    if wanted.link_ends is not None:
        from hilsim.hardware.distributed.link_ends import link_end_faults

        faults += link_end_faults(setup, wanted.realtime)
    elif setup.fails and setup.backends:
        found, expected = (
            ", ".join(setup.backends),
            "--link-ends, so that faults of the link happen as well",
        )
        faults.append(Fault(setup.file, "faults", f"measured units alone ({found})", expected, "See docs/boards.md."))
    if wanted.uncertainty and setup.backends:
        sentence = f"draws the figures of simulated units, but these are measured: {', '.join(setup.backends)}."
        faults.append(Fault("--uncertainty", "", sentence, "", "A board's times have no range to draw from."))
    return faults


def run_checked(checked: Checked, wanted: RunOptions) -> Run:
    """Run a scenario that was checked and can run. Raises `InputError` for boards that cannot be reached."""
    setup = checked.setup
    with ExitStack() as stack:
        rig, ends = None, {}
        if setup.backends:
            from hilsim.hardware.distributed.link_ends import opened_ends
            from hilsim.hardware.measured.rig import Rig

            with status_line("connecting to") as notify:
                rig = stack.enter_context(Rig.open(setup, wanted.recordings, notify))
            ends = stack.enter_context(opened_ends(setup, wanted.link_ends))
        try:
            return run_on(checked, wanted, rig, ends)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("" if rig is None else rig.interruption()) from None


def run_on(checked: Checked, wanted: RunOptions, rig: Rig | None, ends: Mapping[str, End]) -> Run:
    """Run it on simulated units and the rig's."""
    setup, verdict, plans = checked.setup, checked.verdict, tuple(checked.plans.values())
    assert verdict is not None, "a module does not run"
    # A board executes a step again even where its tokens are known, as its time differs each time; but a run executed
    # over a real link has no time to compute tokens.
    live = setup.scenario.logits.source == "live" or wanted.uncertainty > 0
    sources = Sources(setup, remember=wanted.link_ends is not None or (rig is None and live), rig=rig)
    policy_function(setup.scenario.policy, setup.file)  # a faulty policy file is refused before the first run
    text_of = sources.fresh().text
    watching = nullcontext() if wanted.watch is None else wanted.watch(setup, verdict, text_of)
    with watching as observer:
        outcome = run_both(setup, sources, observer, wanted.realtime)
    lost = next((one for one in (outcome.baseline, outcome.speculative) if one is not None and one.lost), None)
    found: dict[str, Any]
    if lost is not None:
        from hilsim.show import hardware

        assert rig is not None or setup.fails, "only boards are lost, and what faults are injected into"
        about = {"scenario": setup.scenario.name, "digest": setup.digest, "seed": setup.scenario.seed}
        found = {**about, "lost": hardware.lost(lost)}
    else:
        found = document(setup, verdict.ledgers, outcome.baseline, outcome.speculative, plans)
        found["notes"] += sources.notes
    if setup.fails:
        from hilsim.show.faults import assumed_reaction, injected

        found["faults"] = injected(setup, outcome)
        found["assumptions"] = [*found.get("assumptions", []), *assumed_reaction(setup)]
    if rig is not None:
        from hilsim.show import hardware

        found["hardware"] = hardware.hardware(rig)
        if wanted.shadow:
            found["shadow"] = hardware.shadow(rig)
        if lost is None and ends:
            found["distributed"] = executed(setup, rig, ends, sources)
    elif lost is not None or setup.fails:
        pass  # what would make it faster is asked of hardware that works
    elif setup.scenario.company:
        found |= budget_remedy(setup, outcome, sources)
    elif outcome.speculative is not None and found["speedup"] < 1:
        found["remedy"] = remedy(setup, sources)
    if lost is None:
        # What passengers ask and hear depends on the times: no replay with another speed has the same answers.
        found |= held_against(
            setup, outcome, sources if rig is None and not outcome.baseline.turns and not setup.fails else None
        )
    if lost is None and wanted.uncertainty:
        from hilsim.show.uncertainty import as_json as bars_as_json
        from hilsim.study.error_bars import error_bars

        found["uncertainty"] = bars_as_json(*error_bars(setup, sources, wanted.uncertainty))
    if lost is None:
        found["wall"] = {"run_s": outcome.run_seconds, "forward_s": outcome.forward_seconds}
    return Run(setup, outcome, found, text_of, plans)


def executed(setup: Setup, rig: Rig, ends: Mapping[str, End], sources: Sources) -> dict[str, Any]:
    """The same run executed on the boards over the real link, for the document; or the board that was lost."""
    from hilsim.hardware.distributed.link_wires import LinkEnds
    from hilsim.hardware.distributed.measured_run import measure_run
    from hilsim.show.distributed import distributed

    try:
        return distributed(setup, [measure_run(setup, rig, LinkEnds(ends), lambda: sources.bare("policy"))], "")
    except ChipLost as lost:
        return {"lost": str(lost)}


def held_against(setup: Setup, outcome: RunPair, sources: Sources | None) -> dict[str, Any]:
    """What the speed-up owes to the link, what a wanted one takes, and what a faster export of the target leaves of it:
    as far as a scenario has these. Without `sources`, as where boards were measured, nothing is replayed.
    """
    from hilsim.study import rows_over_link, wanted

    rows = rows_over_link.rows_over_link(setup, outcome, sources)
    aim = None if sources is None else wanted.wanted(setup, outcome, sources)
    exports = [] if sources is None else wanted.over_faster_exports(setup, outcome, sources)
    found: dict[str, Any] = {
        "rows_over_link": rows and asdict(rows),
        "wanted": aim and asdict(aim),
        "faster_exports": [asdict(export) for export in exports],
    }
    return {name: value for name, value in found.items() if value}


def remedy(setup: Setup, sources: Sources) -> dict[str, Any]:
    """The cheapest change with which a losing speculation wins, found by replays."""
    from hilsim.study.remedies import as_json, cheapest_remedy

    return as_json(cheapest_remedy(setup, setup.overrides, sources))


def budget_remedy(setup: Setup, outcome: RunPair, sources: Sources) -> dict[str, Any]:
    """The cheapest changes with which a broken budget holds, found by runs; nothing where it holds."""
    from hilsim.study.budget import as_json, keep_budget

    found = keep_budget(setup, outcome.speculative or outcome.baseline, sources)
    return {} if found is None else {"budget_remedy": as_json(found)}
