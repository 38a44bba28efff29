"""A measured run: one workload predicted, then executed on devices, by the same policy over the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.boards import Devices, DeviceStep
from hilsim.hardware.distributed.expected import TokenCheck
from hilsim.hardware.distributed.fault_doors import (
    measure_restarts,
    opened_doors,
    with_restarts,
)
from hilsim.hardware.distributed.faulty_boards import faulty_boards
from hilsim.hardware.distributed.link_wires import LinkEnds
from hilsim.hardware.distributed.overhead import (
    Overhead,
    measure_overhead,
    with_link_overhead,
    with_overhead,
    with_step_overhead,
)
from hilsim.hardware.measured.rig import Rig
from hilsim.sim.board import Boards
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.source import LogitsSource


@dataclass(frozen=True)
class MeasuredRun:
    """Three traces of one workload: devices and link predicted, the same with command overhead, and as measured."""

    predicted: Trace
    with_commands: Trace
    measured: Trace
    overhead: Overhead
    executed: dict[str, list[DeviceStep]]  # by role, in the measured run
    checks: dict[str, TokenCheck]  # by role
    counted: dict[str, int]  # bytes that arrived in the measured run, by direction, as the link's ends counted them
    carried: dict[str, int] | None  # the same with headers and acknowledgements, as the devices counted them


def measure_run(setup: Setup, rig: Rig, link: LinkEnds, source: Callable[[], LogitsSource]) -> MeasuredRun:
    """Predict a run and execute it. Raises `ChipLost`, or `ScenarioError` for faults that cannot be injected.

    Predictions run in real time, so that chips are asked for their times as seldom as in the measured run: one that has
    just computed the same is quicker. Of a scenario with faults all three runs have them, and in the last one they
    really happen.
    """
    chips = {
        role: (rig.places[placed.track].chip, rig.places[placed.track].unit.lines[role].facts)
        for role, placed in setup.roles.items()
    }
    with opened_doors(setup, rig, link) as doors:
        devices = Devices(chips, link.wires)
        try:
            restarts_ns = measure_restarts(setup, rig, doors)
            known = with_restarts(setup, restarts_ns)
            predicted = whole(simulate(known, rig.begin(source()), timers=rig.timers, realtime=1.0))
            overhead = measure_overhead(setup.without_faults, devices, source())
            if setup.fails:
                boards = faulty_boards(devices, link.wires, doors)
                slower = with_link_overhead(known, overhead)
                timers = with_step_overhead(rig.timers, overhead)
                with_commands = whole(simulate(slower, rig.begin(source()), timers=timers, realtime=1.0))
            else:
                boards = devices.board
                with_commands = run_on(with_overhead(rig.timers, overhead), setup, rig.begin(source()))
            counted, carried = link.counted(), link.carried and link.carried()
            measured = run_on(boards, known, devices.source(source()))
            return MeasuredRun(
                predicted,
                with_commands,
                measured,
                overhead,
                {role: device.done for role, device in devices.by_role.items()},
                {role: device.check for role, device in devices.by_role.items()},
                since(counted, link.counted()),
                since(carried, link.carried()) if link.carried and carried else None,
            )
        finally:
            devices.close()


def run_on(boards: Boards, setup: Setup, source: LogitsSource) -> Trace:
    """A run on such a board, to its end."""
    return whole(simulate(setup, source, boards=boards))


def whole(trace: Trace) -> Trace:
    """The trace of a run that ended as planned. Raises `ChipLost`."""
    if trace.lost is not None:
        raise trace.lost
    return trace


def since(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What has been added to counts."""
    return {way: count - before[way] for way, count in now.items()}
