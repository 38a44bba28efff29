"""A run that really happens: agents behind both units, the ends of a real link between them, against its prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from hilsim.describe.address import TCP, Address
from hilsim.describe.setup import Setup
from hilsim.errors import ChipLost, Fault, InputError, ScenarioError
from hilsim.hardware.distributed.boards import require_real
from hilsim.hardware.distributed.link_wires import End, LinkEnds
from hilsim.hardware.distributed.measured_run import tried
from hilsim.hardware.measured.rig import MENDING, Rig, token_of
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.show.distributed import distributed
from hilsim.sources.source import LogitsSource

ENDS = "--link-ends"


def link_end_faults(setup: Setup, realtime: float | None) -> Iterator[Fault]:
    """What keeps a scenario from being really run."""
    if realtime != 1:
        found = "no --realtime" if realtime is None else f"--realtime {realtime:g}"
        yield Fault(setup.file, ENDS, found, "--realtime 1: what really happens has a pace of its own")
    for role, placed in setup.roles.items():
        backend = setup.backends.get(placed.track)
        if backend is None or backend.address is None:
            behind = "simulated" if backend is None else backend.backend
            found = f"{role} on {placed.track}, which is {behind}"
            yield Fault(setup.file, ENDS, found, f"an agent, {TCP}HOST:PORT, behind both units")
    if setup.draft is None or setup.link is None:
        yield Fault(setup.file, ENDS, "no draft on another chip", "two chips with a link between them")
    try:
        require_real(setup)
    except ScenarioError as error:
        yield from error.faults


@contextmanager
def opened_ends(setup: Setup, addresses: Mapping[str, str] | None) -> Iterator[dict[str, End]]:
    """Both ends of the link, by role; none where none are wanted. Raises `InputError` where one cannot be had."""
    with ExitStack() as stack:
        opened: dict[str, End] = {}
        for role, address in (addresses or {}).items():
            backend = setup.backends[setup.roles[role].track]
            try:
                opened[role] = End(Address.parse(address), token_of(backend, setup, ENDS))
            except AgentFault as fault:
                found, remedy = f"{address}, {fault}", MENDING[fault.kind].format(place=ENDS)
                raise InputError([Fault(setup.file, ENDS, found, "a link end that answers", remedy)]) from None
            stack.callback(opened[role].close)
        yield opened


def really_run(setup: Setup, rig: Rig, ends: Mapping[str, End], source: Callable[[], LogitsSource]) -> dict[str, Any]:
    """One trial over the words that `source` has at hand, as the document tells it, or what was lost on the way."""
    try:
        return distributed(setup, [tried(setup, rig, LinkEnds(ends), source)], "")
    except ChipLost as lost:
        return {"lost": str(lost)}
