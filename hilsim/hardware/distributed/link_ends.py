"""The two ends of a real link, and what a scenario needs to be executed over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from hilsim.describe.address import TCP, Address
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.hardware.distributed.boards import require_real
from hilsim.hardware.distributed.fault_doors import impossible_faults
from hilsim.hardware.distributed.link_wires import End
from hilsim.hardware.measured.rig import REMEDIES, token_of
from hilsim.hardware.wire.exchange import AgentFault

ENDS = "--link-ends"


def link_end_faults(setup: Setup, realtime: float | None) -> Iterator[Fault]:
    """What keeps a scenario from being executed on its boards."""
    if realtime != 1:
        found = "no --realtime" if realtime is None else f"--realtime {realtime:g}"
        yield Fault(setup.file, ENDS, found, "--realtime 1, as boards and link run at their own pace")
    for role, placed in setup.roles.items():
        backend = setup.backends.get(placed.track)
        if backend is None or backend.address is None:
            behind = "simulated" if backend is None else backend.backend
            found = f"{role} on {placed.track}, which is {behind}"
            yield Fault(setup.file, ENDS, found, f"an agent, {TCP}HOST:PORT, behind both units")
    if setup.draft is None or setup.link is None:
        yield Fault(setup.file, ENDS, "no draft on another chip", "two chips with a link between them")
    yield from impossible_faults(setup)
    try:
        require_real(setup)
    except ScenarioError as error:
        yield from error.faults


@contextmanager
def opened_ends(setup: Setup, addresses: Mapping[str, str] | None) -> Iterator[dict[str, End]]:
    """Connections to both ends of the link, by role; none without addresses. Raises `InputError` where one fails."""
    with ExitStack() as stack:
        opened: dict[str, End] = {}
        for role, address in (addresses or {}).items():
            backend = setup.backends[setup.roles[role].track]
            try:
                opened[role] = End(Address.parse(address), token_of(backend, setup, ENDS))
            except AgentFault as fault:
                found, remedy = f"{address}, {fault}", REMEDIES[fault.kind].format(place=ENDS)
                raise InputError([Fault(setup.file, ENDS, found, "a link end that answers", remedy)]) from None
            stack.callback(opened[role].close)
        yield opened
