"""The gate: a scenario's models against the profiles of their units, before anything runs.

Torch is imported only where a plan has to be made; one that was made before is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.compiler.kept import kept
from hilsim.compiler.plan import Plan
from hilsim.describe.catalogue import PROJECT
from hilsim.describe.load import Placed, PlacedNetwork, Setup, digest, load_setup
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.errors import CompileError, Fault, InputError

if TYPE_CHECKING:
    from hilsim.compiler.choose import Place

Say = Callable[[str], None]
INTENT = PROJECT / "models/intent/config.json"  # the sizes of the one module of ours that is loaded from a file


def silent(text: str) -> None:
    """Where nobody watches."""


def load_compiled(file: Path, overrides: Sequence[str] = (), say: Say = silent) -> Setup:
    """Load a scenario and put it through the gate. Raises `InputError` or `CompileError`."""
    return compiled(load_setup(file, overrides), say)


def compiled(setup: Setup, say: Say = silent) -> Setup:
    """The setup with what compiling its models costs. Raises `CompileError` where one is refused."""
    plans = plans_of(setup, say)
    require(setup, plans)
    return with_plans(setup, plans)


def require(setup: Setup, plans: dict[int, Plan], ways: Sequence[object] = ()) -> None:
    """Raises `CompileError` where a plan is refused; `ways` out are told with it."""
    refused = [refusal(setup, plan) for plan in plans.values() if plan.outcome == "refused"]
    if refused:
        remedies = ["Cheapest ways out:", *(f"  {way}" for way in ways)] if ways else []
        raise CompileError([*refused, *remedies])


def refusal(setup: Setup, plan: Plan) -> str:
    """Why a model does not get onto its unit."""
    reasons = "\n".join(f"  {reason}" for reason in plan.refusals)
    return f"{setup.file}: {plan.subject} does not compile for {plan.unit} under {plan.profile}:\n{reasons}"


def with_plans(setup: Setup, plans: dict[int, Plan]) -> Setup:
    """The setup with plans in numbers; `plans` by place among the setup's parts."""
    parts = [
        part if index not in plans else replace(part, compiled=plans[index].compiled())
        for index, part in enumerate(setup.parts)
    ]
    roles = [part for part in parts if isinstance(part, Placed)]
    networks = tuple(part for part in parts if isinstance(part, PlacedNetwork))
    changed = replace(setup, target=roles[0], draft=roles[1] if len(roles) > 1 else None, networks=networks)
    return replace(changed, digest=digest(changed))


def plans_of(setup: Setup, say: Say = silent) -> dict[int, Plan]:
    """The plan of every part whose unit has a profile, by its place among the parts. Raises `InputError`."""
    check_names(setup)
    found: dict[int, Plan] = {}
    faults: list[Fault] = []
    for index, part in enumerate(setup.parts):
        profile = profile_of(setup, part)
        if profile is None:
            continue
        try:
            context, talkers = setup.scenario.context_tokens, setup.scenario.workload.talkers
            allowed = setup.scenario.compile
            found[index] = plan_of(part, profile, allowed, context=context, talkers=talkers, say=say)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return found


def profile_of(setup: Setup, part: Placed | PlacedNetwork) -> Profile | None:
    """The profile that a part is held against: the pinned one where its unit lists it, else the unit's first."""
    listed, pinned = part.unit.profiles, setup.scenario.compile.profile
    name = pinned if pinned in listed else next(iter(listed), None)
    return None if name is None else load_profile(name, Path(setup.file))


def plan_of(
    part: Placed | PlacedNetwork,
    profile: Profile,
    allowed: Compile,
    *,
    context: int,
    talkers: int = 1,
    say: Say = silent,
) -> Plan:
    """One part's plan, kept or made; `context` and `talkers` count for a language model alone."""
    common = (profile.model_dump_json(), part.unit.model_dump_json(), allowed.model_dump_json(), part.chip.name)
    if isinstance(part, Placed):
        config = "" if part.stand_in is None else text_of(part.stand_in / "config.json")
        placement = part.placement.model_dump_json(exclude={"timer"})
        own = (part.role, part.model.model_dump_json(), placement, repr(part.head), config)

        def decoder() -> Plan:
            from hilsim.compiler.planner import plan_decoder

            return plan_decoder(part, place_of(part, profile, allowed), context, talkers, say)

        return kept((*common, *own, str(context), str(talkers)), decoder)
    network = part

    def module() -> Plan:
        from hilsim.compiler.planner import plan_module
        from hilsim.compiler.program import subject_of

        subject = replace(subject_of(network.placement.module), name=f"network {network.placement.name}")
        place, precision = place_of(network, profile, allowed), network.precision
        plan, _ = plan_module(subject, place, say, role="network", unit=network.track, precision=precision)
        return plan

    # Nobody knows what a module of somebody's own depends on, so only ours are kept.
    if not network.placement.module.startswith("hilsim."):
        return module()
    return kept(
        (*common, network.placement.model_dump_json(), network.track, network.precision, text_of(INTENT)), module
    )


def place_of(part: Placed | PlacedNetwork, profile: Profile, allowed: Compile) -> Place:
    """Where a part's graphs go."""
    from hilsim.compiler.choose import Place

    return Place(part.unit, part.unit.precisions[part.precision], profile, allowed)


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
    from hilsim.compiler.calls_apart import WAYS
    from hilsim.compiler.rewrite.registry import REWRITES

    known = [*(rewrite.name for rewrite in REWRITES), *WAYS, "fixed_widths", "int64_to_int32"]
    if wrong := [(place, name) for place, name in names if name not in known]:
        expected = f"rewrites: {', '.join(known)}"
        raise InputError([Fault(setup.file, place, repr(name), expected) for place, name in wrong])
