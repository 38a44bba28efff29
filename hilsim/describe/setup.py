"""A scenario with everything it names looked up: the one input of a check and of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hilsim.describe.acceptance import Typed
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.backend import SIMULATED, Backend
from hilsim.describe.chip import Chip, FasterExport, Unit
from hilsim.describe.compiled import Compiled
from hilsim.describe.conversation import Conversation
from hilsim.describe.decoding import Guarantee, guarantee_of
from hilsim.describe.drafting import HeadKind, head_model, layers_or_usual, states_read
from hilsim.describe.head import LOGITS, Head
from hilsim.describe.link import Link
from hilsim.describe.model import Model
from hilsim.describe.placement import HeadPlacement, NetworkPlacement, Placement
from hilsim.describe.scenario import Scenario, Synthetic
from hilsim.shown import Shown


@dataclass(frozen=True)
class StepFactors:
    """How many times as long as the cost model has it steps take, by kind: other than 1 in draws of error bars alone.

    `decode` is also a draft's, `verify` that of several rows.
    """

    decode: float = 1.0
    prompt: float = 1.0
    verify: float = 1.0


AS_PREDICTED = StepFactors()


@dataclass(frozen=True)
class Placed:
    """A role with every name looked up."""

    role: str
    placement: Placement
    model: Model
    chip: Chip
    unit: Unit
    stand_in: Path | None
    head: Head = LOGITS  # what the graph ends in; `head_note` says why that is not what was asked for
    head_note: str = ""
    compiled: Compiled | None = None  # what the compile check found; None where it did not run, or has no rules
    with_target: bool = False  # a draft head on its target's own unit, in one runtime with it
    factors: StepFactors = AS_PREDICTED
    batch: int = 1  # sessions whose steps its unit computes as one, where there is company

    def __str__(self) -> str:
        return f"{self.model.name} on {self.track}, {self.precision}"

    @property
    def unit_name(self) -> str:
        """Its unit's name on the chip."""
        return self.placement.unit

    @property
    def precision(self) -> str:
        """The number format it is held in."""
        return self.placement.precision

    @property
    def track(self) -> str:
        """The unit it takes turns on."""
        return f"{self.chip.name}.{self.placement.unit}"

    @property
    def head_kind(self) -> HeadKind | None:
        """Which kind of draft head it is; None of a whole model."""
        return self.placement.head_kind if isinstance(self.placement, HeadPlacement) else None

    @property
    def states_read(self) -> int:
        """Hidden states of the target that it reads of a token: none where it is a whole model."""
        placement = self.placement
        if not isinstance(placement, HeadPlacement):
            return 0
        return states_read(placement.head_kind, layers_or_usual(placement.head_kind, placement.layers))

    @property
    def widths(self) -> tuple[int, ...] | None:
        """The compiled widths in use, or None where any width runs."""
        if self.unit.widths is None:
            return None
        return self.placement.widths or self.unit.widths.value

    @property
    def faster_exports(self) -> tuple[FasterExport, ...]:
        """Those listed for its precision; none where its step times are typed in."""
        if self.placement.timer is not None:
            return ()
        return tuple(export for export in self.unit.faster_exports if export.of == self.precision)


@dataclass(frozen=True)
class PlacedNetwork:
    """A network beside the language model with every name looked up."""

    placement: NetworkPlacement
    chip: Chip
    unit_name: str
    unit: Unit
    precision: str
    compiled: Compiled | None = None
    factor: float = 1.0  # as `StepFactors`, of a pass

    @property
    def track(self) -> str:
        """The unit it takes turns on."""
        return f"{self.chip.name}.{self.unit_name}"


@dataclass(frozen=True)
class PlacedLink:
    """A link between two chips: `name` is that of its tracks."""

    name: str
    link: Link
    chips: tuple[str, str]

    def joins(self, one: str, other: str) -> bool:
        """Whether it leads from one chip to the other; it does both ways."""
        return {one, other} == set(self.chips)


@dataclass(frozen=True, repr=False)
class Setup(Shown):
    """A scenario with everything it names: the one input of check and run.

    `file` and `overrides` (PATH=VALUE) are what it was loaded from: a changed version is loaded with further overrides.
    `allow_code` is whether the user allows what it names to run, wherever that comes from (`trust`).
    """

    file: str
    scenario: Scenario
    target: Placed
    draft: Placed | None
    link: Link | None
    application: str
    conversations: tuple[Conversation, ...]
    digest: str
    networks: tuple[PlacedNetwork, ...] = ()
    profile: AcceptanceProfile | None = None  # of logits that are accepted as of a real pair
    further_chips: tuple[Chip, ...] = ()  # of stages and background tasks alone
    further_links: tuple[PlacedLink, ...] = ()
    overrides: tuple[str, ...] = field(default=(), compare=False)
    levels: Mapping[str, tuple[Chip, ...]] = field(default_factory=dict)  # with a climate: by governor level
    allow_code: bool = field(default=False, compare=False)

    @property
    def title(self) -> str:
        """The scenario's name and file."""
        return f"Setup {self.scenario.name} ({self.file})"

    @property
    def facts(self) -> dict[str, str]:
        """Where both models run, over which link, under which policy, and what was changed."""
        found = {placed.role: str(placed) for placed in self.roles.values()}
        if self.link is not None:
            found["link"] = self.link.name
        policy = self.scenario.policy.model_dump(exclude_none=True, exclude={"name"})
        found["policy"] = ", ".join([self.scenario.policy.name, *(f"{key} {value}" for key, value in policy.items())])
        whose = "" if self.profile is None else f" as of {self.profile.name}"
        found["logits"] = f"{self.scenario.logits.source}{whose}"
        return found | ({"overrides": " ".join(self.overrides)} if self.overrides else {})

    @property
    def acceptance(self) -> float | Typed | None:
        """What drafts are accepted by, where that is no model's choice."""
        logits = self.scenario.logits
        if isinstance(logits, Synthetic):
            return logits.acceptance
        return None if self.profile is None or not logits.by_chance else self.profile.acceptance

    @property
    def guarantee(self) -> Guarantee:
        """What the scenario's rules guarantee against the target alone."""
        scenario = self.scenario
        if scenario.logits.by_chance:
            return Guarantee(
                "text", f"the {scenario.logits.source} source accepts by chance and never applies the rule"
            )
        if self.draft is None:  # proposals are drawn from no distribution, so every rule emits the target's own draw
            return Guarantee("text", "every token is the target's own, by noise that only the position decides")
        head = self.draft.head_kind is not None
        return guarantee_of(scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at, head=head)

    @property
    def fails(self) -> bool:
        """Whether the scenario injects faults into its hardware."""
        return self.scenario.faults is not None and bool(self.scenario.faults.inject)

    @property
    def without_faults(self) -> Setup:
        """The same on hardware that never fails; comparing rows costs time there as well."""
        faults = self.scenario.faults
        kept = faults.model_copy(update={"inject": ()}) if faults is not None and self.compares_rows else None
        return replace(self, scenario=self.scenario.model_copy(update={"faults": kept}))

    @property
    def compares_rows(self) -> bool:
        """Whether the target computes each pass twice and compares, whether anything fails or not."""
        return self.scenario.faults is not None and self.scenario.faults.reaction.compare_rows

    @property
    def chips(self) -> dict[str, Chip]:
        """Every chip that takes part, by name, the target's first."""
        roles = [self.target] if self.draft is None else [self.target, self.draft]
        return {role.chip.name: role.chip for role in roles} | {chip.name: chip for chip in self.further_chips}

    @property
    def links(self) -> tuple[PlacedLink, ...]:
        """Every link between two chips, that of draft and target first."""
        return (*link_between(self.target, self.draft, self.link), *self.further_links)

    @property
    def roles(self) -> dict[str, Placed]:
        """Target and draft, where there is one."""
        return {placed.role: placed for placed in (self.target, self.draft) if placed is not None}

    @property
    def backends(self) -> dict[str, Backend]:
        """The backend of each unit that is not simulated, by track."""
        found = {placed.track: behind(self.scenario.units, placed) for placed in self.roles.values()}
        return {track: backend for track, backend in found.items() if backend is not None}

    @property
    def parts(self) -> tuple[Placed | PlacedNetwork, ...]:
        """Everything that is compiled: both roles, then the networks beside them."""
        return (self.target, *(() if self.draft is None else (self.draft,)), *self.networks)


def deployed_head(placement: HeadPlacement, target: Model) -> Model:
    """The shape of a draft head beside its target."""
    return head_model(target, placement.head_kind, placement.layers, placement.head_entries, placement.positions or 1)


def link_between(target: Placed, draft: Placed | None, link: Link | None) -> tuple[PlacedLink, ...]:
    """The link of draft and target as one between their chips; none where they share a chip."""
    if link is None or link.on_chip or draft is None:
        return ()
    return (PlacedLink(link.name, link, (target.chip.name, draft.chip.name)),)


def behind(units: Mapping[str, Backend], placed: Placed) -> Backend | None:
    """What a scenario puts behind a role's unit, named UNIT or CHIP/UNIT; None where the chip model does it."""
    names = (f"{placed.chip.name}/{placed.placement.unit}", placed.placement.unit)
    found = next((units[name] for name in names if name in units), None)
    return None if found is None or found.backend == SIMULATED else found
