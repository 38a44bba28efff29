"""How long a chip takes to load its models again after a reset, and what of its memory they give up meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from hilsim.cost.memory import ledgers
from hilsim.cost.start_up import flash_bytes, start_up
from hilsim.describe.faults import MemoryPressure, Reloading
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.units import MEGA, ns


def roles_on(setup: Setup, where: str) -> list[Placed]:
    """The roles on the chip that a fault names: by the role that is there, or by its own name."""
    named = setup.roles.get(where)
    chip = where if named is None else named.chip.name
    return [placed for placed in setup.roles.values() if placed.chip.name == chip]


def reload_ns(setup: Setup, fault: Reloading, where: str) -> int | None:
    """Nanoseconds until the chip is back after a reset; None where neither the fault nor the chip says."""
    if fault.reload_ms is not None:
        return ns(fault.reload_ms / 1000)
    roles = roles_on(setup, where)
    start = start_up(roles[0].chip, roles)
    if start is None:
        return None
    return ns((start.cold_s if fault.load == "cold" else start.warm_s).value)


def evicted_role(setup: Setup, fault: MemoryPressure) -> Placed:
    """The model that is evicted: the role that is named, or the draft where it is on the chip that is."""
    return setup.roles.get(fault.where) or roles_on(setup, fault.where)[-1]


def require_known(setup: Setup) -> None:
    """Refuse faults of which a chip's description does not say what they do. Raises `ScenarioError`."""
    found = list(unknown(setup))
    if found:
        raise ScenarioError(found)


def unknown(setup: Setup) -> Iterator[Fault]:
    """What is missing for the faults of a scenario."""
    faults = setup.scenario.faults
    for number, fault in enumerate(() if faults is None else faults.inject):
        place = f"faults.inject[{number}]"
        if isinstance(fault, Reloading) and reload_ns(setup, fault, fault.where) is None:
            chip = roles_on(setup, fault.where)[0].chip.name
            found = f"{fault.kind} without reload_ms, and {chip} without figures of its start"
            yield Fault(setup.file, place, found, "reload_ms, or flash_rate and start_up in the chip's file")
        if isinstance(fault, MemoryPressure):
            placed = evicted_role(setup, fault)
            ledger = ledgers(setup)[placed.chip.name]
            most = ledger.cap_bytes - ledger.used_bytes + flash_bytes(placed)
            if fault.megabytes * MEGA > most:
                expected = f"at most {most / MEGA:.0f}, what is free there without the {placed.role}"
                yield Fault(setup.file, f"{place}.megabytes", f"{fault.megabytes:g}", expected)
