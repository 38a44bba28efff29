"""A trial: a run predicted, then really run, by the same policy over the same words with the same agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.boards import Executed, Stage
from hilsim.hardware.distributed.expected import Words
from hilsim.hardware.distributed.link_wires import LinkEnds
from hilsim.hardware.distributed.overhead import Costs, commanded, rehearsed
from hilsim.hardware.measured.rig import Rig
from hilsim.sim.board import Boards
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.source import LogitsSource


@dataclass(frozen=True)
class Trial:
    """Three traces of one workload: chips and link alone, these with the commands' costs, and what really happened."""

    predicted: Trace
    with_commands: Trace
    measured: Trace
    costs: Costs
    executed: dict[str, list[Executed]]  # by role, in the real run
    words: dict[str, Words]  # by role
    counted: dict[str, int]  # bytes that arrived in the real run, by direction, as the link's ends counted them
    carried: dict[str, int] | None  # the same with headers and acknowledgements, as the devices counted them


def tried(setup: Setup, rig: Rig, link: LinkEnds, source: Callable[[], LogitsSource]) -> Trial:
    """One trial. Raises `ChipLost`.

    Predictions keep the wall's pace, so that chips are asked for their times as seldom as in the real run: one that has
    just computed the same is quicker.
    """
    predicted = whole(simulate(setup, rig.begin(source()), timers=rig.timers, realtime=1.0))
    chips = {
        role: (rig.places[placed.track].chip, rig.places[placed.track].unit.lines[role].facts)
        for role, placed in setup.roles.items()
    }
    stage = Stage(chips, link.wires)
    try:
        costs = rehearsed(setup, stage, source())
        with_commands = run_on(commanded(rig.timers, costs), setup, rig.begin(source()))
        counted, carried = link.counted(), link.carried and link.carried()
        measured = run_on(stage.board, setup, stage.source(source()))
        return Trial(
            predicted,
            with_commands,
            measured,
            costs,
            {role: player.done for role, player in stage.players.items()},
            {role: player.words for role, player in stage.players.items()},
            since(counted, link.counted()),
            since(carried, link.carried()) if link.carried and carried else None,
        )
    finally:
        stage.close()


def run_on(boards: Boards, setup: Setup, source: LogitsSource) -> Trace:
    """A run on a board of its own kind."""
    return whole(simulate(setup, source, boards=boards))


def whole(trace: Trace) -> Trace:
    """A trace that came to its end. Raises `ChipLost`."""
    if trace.lost is not None:
        raise trace.lost
    return trace


def since(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What has been added to counts."""
    return {way: count - before[way] for way, count in now.items()}
