"""What faults of a scenario can be injected into agents and link ends, and the doors of those that let it happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from hilsim.describe.faults import BitErrors, ClockJump, Lost, MemoryPressure, Reloading, WrongRow
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.hardware.distributed.injected_agent import RETURN_S, AgentDoor
from hilsim.hardware.distributed.link_wires import LinkEnds
from hilsim.hardware.measured.rig import Rig, token_of
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.sim.faults.reload import roles_on
from hilsim.units import NS_PER_S

# What the run could not have happen to a device, or would not see.
IMPOSSIBLE = {
    MemoryPressure: "an agent keeps its models loaded",
    ClockJump: "the run takes its time-outs from its own clock alone",
    WrongRow: "the tokens are known before a run on devices",
}


def impossible_faults(setup: Setup) -> Iterator[Fault]:
    """What a scenario would inject that cannot be injected into devices."""
    faults = setup.scenario.faults
    if faults is None:
        return
    for number, fault in enumerate(faults.inject):
        if (why := IMPOSSIBLE.get(type(fault))) is not None:
            expected = "faults that can happen to devices: those of the link, hang, slow, reset, lost"
            yield Fault(setup.file, f"faults.inject[{number}].kind", f"{fault.kind} ({why})", expected)
        if isinstance(fault, Lost) and fault.where == "target":
            yield Fault(setup.file, f"faults.inject[{number}].where", "target", "draft, without which a run can go on")
    if not faults.reaction.checksum and any(isinstance(fault, BitErrors) for fault in faults.inject):
        found, expected = "false, with bit_errors", "true: messages on the link have no tokens that could be others"
        yield Fault(setup.file, "faults.reaction.checksum", found, expected)
    if faults.reaction.compare_rows:
        expected = "false: devices compute each pass once, and their tokens are checked"
        yield Fault(setup.file, "faults.reaction.compare_rows", "true", expected)


@contextmanager
def opened_doors(setup: Setup, rig: Rig, link: LinkEnds) -> Iterator[dict[str, AgentDoor]]:
    """Doors by role, of the agents that faults are injected into; none without faults.

    Raises `ScenarioError` where a fault cannot be injected, or where that was not allowed.
    """
    faults = list(impossible_faults(setup))
    doors: dict[str, AgentDoor] = {}
    with ExitStack() as stack:
        inject = () if setup.scenario.faults is None else setup.scenario.faults.inject
        chips = {placed.role for fault in inject if fault.scope == "chip" for placed in roles_on(setup, fault.where)}
        for role in sorted(chips):
            backend = setup.backends[setup.roles[role].track]
            chip = rig.places[setup.roles[role].track].chip
            place = f"units.{rig.places[setup.roles[role].track].name}"
            assert isinstance(chip, Agent), "a run on devices has agents"
            try:
                door = AgentDoor.of(chip, token_of(backend, setup, place))
            except AgentFault as fault:
                faults.append(Fault(setup.file, place, f"{backend.backend}, {fault}", "an agent that takes faults"))
                continue
            if door is None:
                found, expected = (
                    f"{backend.backend}, which takes no faults",
                    "an agent started with --inject HOST:PORT",
                )
                faults.append(Fault(setup.file, place, found, expected, "Start it so, or leave out its faults."))
            else:
                stack.callback(door.close)
                doors[role] = door
        if any(fault.scope == "link" for fault in inject):
            for role, end in link.ends.items():
                if not end.injects:
                    found = f"the end of {role} at {end.agent.address}, which takes no faults"
                    remedy = "Start both ends so, or leave out the link's faults."
                    faults.append(Fault(setup.file, "link", found, "link ends started with --inject", remedy))
        if faults:
            raise ScenarioError(faults)
        yield doors


def measure_restarts(setup: Setup, rig: Rig, doors: Mapping[str, AgentDoor]) -> dict[str, int]:
    """Have every agent begin anew that the scenario may reset, once; nanoseconds until it is back, by role.

    Raises `InputError` where one does not come back.
    """
    faults = setup.scenario.faults
    resets = () if faults is None else [fault for fault in faults.inject if isinstance(fault, Reloading)]
    found = {}
    for role in sorted({placed.role for fault in resets for placed in roles_on(setup, fault.where)}):
        place = rig.places[setup.roles[role].track]
        began = time.monotonic_ns()
        try:
            doors[role].reset()
            doors[role].await_return(place.unit.lines[role].facts.name, RETURN_S)
        except AgentFault as fault:
            expected = "an agent that comes back when it is reset"
            raise InputError([Fault(setup.file, f"units.{place.name}", str(fault), expected)]) from None
        found[role] = time.monotonic_ns() - began
    return found


def with_restarts(setup: Setup, restarts_ns: Mapping[str, int]) -> Setup:
    """The scenario with what devices take to be back in place of what chips would."""
    faults = setup.scenario.faults
    if faults is None or not restarts_ns:
        return setup
    inject = []
    for fault in faults.inject:
        if isinstance(fault, Reloading):
            took_ns = max(restarts_ns[placed.role] for placed in roles_on(setup, fault.where))
            fault = fault.model_copy(update={"reload_ms": 1e3 * took_ns / NS_PER_S})
        inject.append(fault)
    changed = faults.model_copy(update={"inject": tuple(inject)})
    return replace(setup, scenario=setup.scenario.model_copy(update={"faults": changed}))
