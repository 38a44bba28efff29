"""The compile check: a scenario's models against the profiles of their units, before anything runs.

Torch is imported only where a plan has to be made; one that was made before is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hilsim.compiler.plan import UNCHECKED, GraphPlan, Plan
from hilsim.compiler.plan_cache import cached, digest_of
from hilsim.compiler.scenario_times import with_pass_times
from hilsim.describe.catalogue import is_file
from hilsim.describe.digest import digest
from hilsim.describe.load import load_setup
from hilsim.describe.profile import Profile, Switch, load_profile
from hilsim.describe.scenario import Compile
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.errors import CompileError, Fault, InputError
from hilsim.places import DATA
from hilsim.progress import Notify, silent

if TYPE_CHECKING:
    from hilsim.compiler.site import CompileSite

P = TypeVar("P", bound=Placed | PlacedNetwork)


@cache
def no_rules() -> Profile:
    """What a unit without a profile is held against."""
    anything = Switch(value=True, evidence="assumed", source="no rules apply")
    return Profile(
        name=UNCHECKED,
        title="no rules: nothing is checked",
        units=("cpu", "gpu", "npu"),
        column="qnn_htp_2025",
        elsewhere="nowhere",
        integers="native",
        dynamic_shapes=anything,
        shared_calls=anything,
        shared_context=anything,
    )


def load_compiled(file: Path, overrides: Sequence[str] = (), notify: Notify = silent) -> Setup:
    """Load a scenario and check that its models compile. Raises `InputError` or `CompileError`."""
    return compiled(load_setup(file, overrides), notify)


def compiled(setup: Setup, notify: Notify = silent) -> Setup:
    """The setup with what compiling its models costs. Raises `CompileError` where one is refused."""
    plans = plans_of(setup, notify)
    require(setup, plans)
    return with_plans(setup, plans)


def require(setup: Setup, plans: dict[int, Plan], ways: Sequence[object] = (), *, reasons: bool = True) -> None:
    """Raises `CompileError` where a plan is refused, with remedies; no `reasons` where they are printed already."""
    refused = [refusal(setup, plan, reasons) for plan in plans.values() if plan.outcome == "refused"]
    if refused:
        remedies = ["Cheapest remedies:", *(f"  {way}" for way in ways)] if ways else []
        raise CompileError([*refused, *remedies])


def refusal(setup: Setup, plan: Plan, reasons: bool) -> str:
    """That a model does not get onto its unit, and why."""
    start = f"{setup.file}: {plan.subject} does not compile for {plan.unit} under {plan.profile}"
    return start + ":" + "".join(f"\n  {reason}" for reason in plan.refusals) if reasons else start


def with_plans(setup: Setup, plans: dict[int, Plan]) -> Setup:
    """The setup with plans in numbers; `plans` by place among the setup's parts."""
    parts = [with_plan(setup, part, plans.get(index)) for index, part in enumerate(setup.parts)]
    roles = [part for part in parts if isinstance(part, Placed)]
    networks = tuple(part for part in parts if isinstance(part, PlacedNetwork))
    changed = replace(setup, target=roles[0], draft=roles[1] if len(roles) > 1 else None, networks=networks)
    return replace(changed, digest=digest(changed))


def with_plan(setup: Setup, part: P, plan: Plan | None) -> P:
    """One part with its plan in numbers, and with what leaving its unit costs where only the profile says so."""
    if plan is None:
        return part
    profile = profile_of(setup, part)
    unit = part.unit
    if profile is not None and unit.fallback is None and profile.fallback is not None:
        unit = unit.model_copy(update={"fallback": profile.fallback})
    return replace(part, compiled=plan.compiled(), unit=unit)


def plans_of(setup: Setup, notify: Notify = silent) -> dict[int, Plan]:
    """The plan of every part whose unit has a profile, and of every network. Raises `InputError`.

    What passengers and background tasks ask of units is held against what these can do, for all that compiles.
    """
    check_names(setup)
    found: dict[int, Plan] = {}
    faults = overloads(setup)
    for index, part in enumerate(setup.parts):
        profile = profile_of(setup, part)
        context, talkers = setup.scenario.context_tokens, setup.scenario.sessions
        allowed, folder = setup.scenario.compile, Path(setup.file).parent
        try:
            if isinstance(part, PlacedNetwork):
                found[index] = network_plan(part, profile, allowed, folder, notify)
            elif profile is not None:
                made = plan_of(part, profile, allowed, context=context, talkers=talkers, notify=notify)
                found[index] = with_pass_times(made, with_plan(setup, part, made), context)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return found


def overloads(setup: Setup) -> list[Fault]:
    """Units that are asked for more than they can do."""
    scenario = setup.scenario
    if not scenario.passengers and not scenario.background:
        return []
    from hilsim.cost.offered_load import load_faults  # most set-ups offer none
    from hilsim.sources.lengths import usual_answer

    return list(load_faults(setup, usual_answer(setup) if scenario.passengers else None))


def profile_of(setup: Setup, part: Placed | PlacedNetwork) -> Profile | None:
    """The profile that a part is held against: the pinned one where its unit lists it, else the unit's first."""
    listed, pinned, file = part.unit.profiles, setup.scenario.compile.profile, Path(setup.file)
    if pinned is not None and (pinned in listed or (is_file(pinned) and load_profile(pinned, file).suits(part.unit))):
        return load_profile(pinned, file)
    return load_profile(listed[0], file) if listed else None


def plan_of(
    part: Placed, profile: Profile, allowed: Compile, *, context: int, talkers: int = 1, notify: Notify = silent
) -> Plan:
    """A language model's plan, cached or made."""
    config = "" if part.stand_in is None else text_of(part.stand_in / "config.json")
    placement, typed = part.placement, str(part.placement.timer is not None)
    own = (part.role, part.model.model_dump_json(), repr(part.head), part.head_note, config, str(context))
    shared = shared_key(part, profile, allowed)

    def make() -> Plan:
        from hilsim.compiler.planner import decoder_graph, plan_decoder

        site, alike = site_of(part, profile, allowed), placement.model_dump_json(exclude={"timer", "widths"})

        def graph_of(name: str, rows: int) -> GraphPlan:
            key = (*shared, *own, alike, name, str(rows))
            return cached(key, lambda: lone(decoder_graph(part, site, context, name, rows, notify))).graphs[0]

        return plan_decoder(part, site, context, talkers, graph_of)

    return cached((*shared, *own, placement.model_dump_json(exclude={"timer"}), typed, str(talkers)), make)


def lone(graph: GraphPlan) -> Plan:
    """One graph to be kept by itself: models compiled at other widths share it."""
    return Plan(graph.name, "", "", "", "", "", "", "", (graph,))


def network_plan(
    part: PlacedNetwork, profile: Profile | None, allowed: Compile, folder: Path, notify: Notify = silent
) -> Plan:
    """A network's plan, cached or made. Without a profile it is measured all the same: it takes time and memory."""
    name = f"network {part.placement.name}"

    def make() -> Plan:
        from hilsim.compiler.planner import measured, plan_module
        from hilsim.compiler.program import subject_of

        subject = replace(subject_of(part.placement.module, folder), name=name)
        site = site_of(part, profile or no_rules(), allowed)
        given = {"role": "network", "unit": part.track, "precision": part.precision}
        return (
            measured(subject, site, notify, **given)
            if profile is None
            else plan_module(subject, site, notify, **given)[0]
        )

    # What a user's own module depends on is unknown, so only ours are cached.
    if not part.placement.module.startswith("hilsim."):
        return make()
    own = (part.placement.model_dump_json(), part.track, part.precision, digest_of(DATA / "models/intent"))
    return cached((*shared_key(part, profile or no_rules(), allowed), *own), make)


def shared_key(part: Placed | PlacedNetwork, profile: Profile, allowed: Compile) -> tuple[str, ...]:
    """What every plan depends on."""
    return profile.model_dump_json(), part.unit.model_dump_json(), allowed.model_dump_json(), part.chip.name


def site_of(part: Placed | PlacedNetwork, profile: Profile, allowed: Compile) -> CompileSite:
    """Where a part's graphs go."""
    from hilsim.compiler.site import CompileSite

    return CompileSite(part.unit, part.unit.precisions[part.precision], profile, allowed)


def text_of(file: Path) -> str:
    """A file's text, or nothing; who needs it says what is wrong with it."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def check_names(setup: Setup) -> None:
    """Raises `InputError` where a scenario names rewrites that are not there."""
    chosen = setup.scenario.compile
    names = [("compile.avoid", name) for name in chosen.avoid]
    names += [("compile.rewrites", name) for name in chosen.rewrites] if isinstance(chosen.rewrites, tuple) else []
    if not names:
        return
    from hilsim.compiler.rewrite.axes import MERGED
    from hilsim.compiler.rewrite.formats import PASSES
    from hilsim.compiler.rewrite.registry import REWRITES
    from hilsim.compiler.slow.registry import PATTERNS
    from hilsim.compiler.unshare_calls import WAYS

    passes = [MERGED, *(entry.name for entry in PASSES), *(pattern.name for pattern in PATTERNS if pattern.applies)]
    known = [*(rewrite.name for rewrite in REWRITES), *WAYS, *passes, "fixed_widths", "int64_to_int32"]
    if wrong := [(place, name) for place, name in names if name not in known]:
        expected = f"rewrites: {', '.join(known)}"
        raise InputError([Fault(setup.file, place, repr(name), expected) for place, name in wrong])
