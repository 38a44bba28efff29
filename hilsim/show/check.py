"""What `check` found, and its document: plans, ledgers, the longest context, caveats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hilsim.compiler.compile_check import load_compiled, require, with_plans
from hilsim.compiler.fallback_options import FallbackOption
from hilsim.compiler.plan import UNCHECKED, Plan
from hilsim.cost.fit import whole
from hilsim.cost.verdict import PlacementVerdict
from hilsim.cost.verdict import check as verdict_on
from hilsim.describe.known_quality import quality_record
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.describe.write import typed
from hilsim.runs.plans import plan
from hilsim.show.memory import memory_in_full, notes_of
from hilsim.shown import Shown
from hilsim.sim.faults.reload import require_known
from hilsim.units import gib

if TYPE_CHECKING:
    from hilsim.cost.largest_context import Largest


@dataclass(frozen=True, repr=False, eq=False)
class Checked(Shown):
    """The plans of a scenario or a module; of a scenario its verdict, and fallback options where it is refused."""

    subject: str
    plans: Mapping[int, Plan]  # by place among the scenario's parts
    unchecked: Sequence[str] = ()
    verdict: PlacementVerdict | None = None
    fallback_options: Sequence[FallbackOption] = ()
    longest: Largest | None = None

    @property
    def compiles(self) -> bool:
        """Whether no plan is refused."""
        return all(plan.outcome != "refused" for plan in self.plans.values())

    @property
    def fits(self) -> bool:
        """Whether every chip has the memory; True of a module, which is held against none."""
        return self.verdict is None or self.verdict.fits

    @property
    def ok(self) -> bool:
        """Whether it can run."""
        return self.compiles and self.fits

    @property
    def setup(self) -> Setup:
        """The scenario with what compiling it costs."""
        assert self.verdict is not None, "a module has no setup"
        return self.verdict.setup

    @property
    def report(self) -> dict[str, Any]:
        """The document of `hilsim check --json`."""
        return as_json(self)

    def require(self, *, reasons: bool = True) -> None:
        """Raise `CompileError` or `PlacementError` unless it can run; without `reasons` where they were shown."""
        require(self.setup, dict(self.plans), self.fallback_options, reasons=reasons)
        if self.verdict is not None:
            self.verdict.require()

    @property
    def title(self) -> str:
        """Whether it can run."""
        found = "can run" if self.ok else "does not compile" if not self.compiles else "does not fit"
        subject = self.subject if self.verdict is None else self.setup.scenario.name
        return f"Check of {subject}: {found}"

    @property
    def facts(self) -> dict[str, str]:
        """Memory by chip, each compiler's findings, and remedies."""
        found = {}
        for chip, ledger in () if self.verdict is None else self.verdict.ledgers.items():
            needed = f"{gib(ledger.needed_bytes):.2f} of {gib(ledger.cap_bytes):.2f} GiB"
            found[chip] = f"{needed}, {self.verdict.by_chip[chip].verdict}" if self.verdict else needed
        found |= {plan.subject: f"{plan.outcome} on {plan.unit} ({plan.profile})" for plan in self.plans.values()}
        helps = [*self.fallback_options, *(() if self.verdict is None else self.verdict.remedies)]
        return found | ({"would help": "; ".join(map(str, helps))} if helps else {})

    def __str__(self) -> str:
        """The whole answer as text."""
        from hilsim.show.check_report import as_text

        return as_text(self)


def checked(setup: Setup, *, longest: bool = False) -> Checked:
    """Plans and ledgers of a scenario, with `longest` also the longest context that still fits.

    Raises `ScenarioError` for injected faults that the chips do not describe.
    """
    plans, fallback_options = plan(setup, setup.overrides)
    compiled = with_plans(setup, plans)
    require_known(compiled)
    verdict = verdict_on(compiled, setup.overrides, load_compiled)
    most: Largest | None = None
    if longest:
        from hilsim.cost.largest_context import largest_context

        most = largest_context(compiled)
    return Checked(setup.file, plans, units_unchecked(setup, plans), verdict, fallback_options, most)


def units_unchecked(setup: Setup, plans: dict[int, Plan]) -> list[str]:
    """Units without a profile, where nothing could be checked."""
    tracks = [
        part.track for index, part in enumerate(setup.parts) if index not in plans or plans[index].profile == UNCHECKED
    ]
    return [f"{track}: no rule profile, so nothing was checked there" for track in dict.fromkeys(tracks)]


def as_json(found: Checked) -> dict[str, Any]:
    """The document of `check --json`."""
    from hilsim.cost.start_up import start_ups  # a run's document has neither its start nor lists
    from hilsim.show.compile_lists import lists_as_json

    verdict = found.verdict
    document: dict[str, Any] = {
        "checked": found.subject,
        "compiles": found.compiles,
        "fits": None if verdict is None else verdict.fits,
        "fit": None if verdict is None else whole(verdict.by_chip),
        "plans": [plan.as_json() for plan in found.plans.values()],
        **lists_as_json(found.plans.values()),
        "unchecked": list(found.unchecked),
        "ways_out": [
            {"set": typed(way.changes).removeprefix("--set "), "why": way.why, "step_ms": way.step_ms}
            for way in found.fallback_options
        ],
        "memory": {} if verdict is None else memory_in_full(verdict.ledgers, verdict.by_chip),
        "caveats": [] if verdict is None else [vars(caveat) for caveat in verdict.caveats],
        "chip_notes": {} if verdict is None else notes_of(verdict.setup),
        "quality": {} if verdict is None else {name: quality_record(one) for name, one in verdict.setup.roles.items()},
        "talk_leaves_car": [] if verdict is None else list(outside_car(verdict.setup)),
    }
    if verdict is not None and (started := start_ups(verdict.setup)):
        document["start_up"] = [asdict(one) for one in started]
    return document if found.longest is None else document | {"largest_context": vars(found.longest)}
