"""Every shipped model against every compiler: each on the first chip that lists the profile, with the same head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hilsim.compiler.compile_check import network_plan, plan_of
from hilsim.compiler.plan import Plan
from hilsim.describe.catalogue import FOLDERS, described, load_chip
from hilsim.describe.chip import Chip, Unit, Widths
from hilsim.describe.head import Head
from hilsim.describe.model import Model
from hilsim.describe.placement import NetworkPlacement, Placement
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.describe.setup import Placed, PlacedNetwork
from hilsim.places import DATA

# From then to now, NPU before GPU before what no language model runs on.
PROFILES = ("sa8295_2023", "sa8295_today", "hexagon_v73", "orin_trt_8_6", "orin_trt_10", "orin_dla")
CHIPS = {
    "sa8295_2023": "sa8295p",
    "sa8295_today": "sa8295p",
    "hexagon_v73": "sa8775p",
    "orin_trt_8_6": "drive-orin-x",
    "orin_trt_10": "drive-orin-x",
    "orin_dla": "drive-orin-x",
}
NETWORKS = ("hilsim.networks.intent:matcher", "hilsim.networks.intent:matcher_22m")
ROWS = Widths(value=(8,), kind="assumed", source="one graph a model shows what its compiler accepts")
CONTEXT = 1024
HERE = DATA / FOLDERS["profile"] / "x.yaml"


@dataclass(frozen=True)
class CompileResult:
    """One model under one profile."""

    model: str
    profile: str
    chip: str
    plan: Plan

    @property
    def more_ms(self) -> float:
        """What the widest graph pays: a decoder beyond its plain pass, a network for its rewrites and way out."""
        graph = self.plan.graphs[-1]
        return 1000 * self.plan.more_seconds(graph)


def subjects() -> list[str]:
    """Every shipped model, then the networks beside them."""
    return [*(model.name for model in models()), *NETWORKS]


def models() -> list[Model]:
    """Shipped plain decoders, which graphs are made of; those that only stand for a paper's figures are none."""
    return [model for model in described("model", Model) if model.plain and not model.name.startswith("paper")]


def cells(names: Sequence[str], profiles: Sequence[str], head: Head) -> Iterator[CompileResult]:
    """The table, model by model."""
    by_name = {model.name: model for model in models()}
    for name in names:
        for profile_name in profiles:
            profile = load_profile(profile_name, HERE)
            chip = load_chip(CHIPS[profile_name], HERE)
            unit_name, unit = unit_for(chip, profile)
            part = placed(name, by_name.get(name), chip, unit_name, unit, head)
            if isinstance(part, Placed):
                plan = plan_of(part, profile, Compile(), context=CONTEXT)
            else:
                plan = network_plan(part, profile, Compile(), DATA)
            yield CompileResult(name, profile_name, chip.name, plan)


def unit_for(chip: Chip, profile: Profile) -> tuple[str, Unit]:
    """The chip's unit that a profile is about."""
    return next((name, unit) for name, unit in chip.units.items() if unit.kind in profile.units)


def placed(
    name: str, model: Model | None, chip: Chip, unit_name: str, unit: Unit, head: Head
) -> Placed | PlacedNetwork:
    """A model, or a network, on a unit: in 4 bits a model, in 8 a network where the unit has them."""
    if model is None:
        precision = unit.of_networks
        placement = NetworkPlacement(name="network", module=name)
        return PlacedNetwork(placement, chip, unit_name, unit, precision)
    precision = next(known for known in ("w4", "w4a16", *unit.precisions) if unit.refusal(known) is None)
    unit = unit.model_copy(update={"widths": ROWS})
    own = Placement(
        model=model.name,
        chip=chip.name,
        unit=unit_name,
        precision=precision,
        head=head,
    )
    return Placed("target", own, model, chip, unit, None, head)
