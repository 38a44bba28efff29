"""A simulated board whose hardware fails as a scenario says, and a run on it from its first event to its last."""

from __future__ import annotations

import simpy

from hilsim.cost.timer import timer_for
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.sim.board import Board, Direction, Timers
from hilsim.sim.device_slot import DeviceSlot
from hilsim.sim.faults.direction import FaultyDirection
from hilsim.sim.faults.groups import Grouping, PacedGrouping
from hilsim.sim.faults.injector import Injector
from hilsim.sim.faults.reload import require_known
from hilsim.sim.faults.slot import FaultySlot
from hilsim.sim.faults.source import FaultySource
from hilsim.sim.faults.state import FaultState
from hilsim.sim.faults.supervisor import SupervisedContext, Supervisor
from hilsim.sim.trace import Trace
from hilsim.sources.cached import CachedSource
from hilsim.sources.source import LogitsSource


class FaultyBoard(Board):
    """A board with the faults of a scenario. Raises `ScenarioError` for faults that its chips do not describe."""

    def __init__(self, env: Grouping, setup: Setup, trace: Trace, *, with_draft: bool, timers: Timers = timer_for):
        require_known(setup)
        faults = setup.scenario.faults
        assert faults is not None, "a scenario without faults has a plain board"
        self.grouping = env
        self.state = FaultState(env, faults.reaction, trace, setup.scenario.seed)
        self.ways: dict[str, FaultyDirection] = {}
        super().__init__(env, setup, trace, with_draft=with_draft, timers=timers)
        self.injector = Injector(self.state, setup, self.ways, self.turns, self.memories)

    def slot(self, placed: Placed) -> DeviceSlot:
        timer = self.timers(placed, self.setup.scenario.context_tokens)
        name, track = placed.chip.name, placed.track
        passes = 1 + (self.state.reaction.compare_rows and placed.role == "target")
        health = self.state.health(placed.role, name)
        return FaultySlot(self.state, health, name, track, self.turn(track), timer, self.trace, passes)

    def direction(self, link: Link, way: str) -> Direction:
        setup, state = self.setup, self.state
        away = setup.target if setup.draft is None else setup.draft
        sender = away.chip.name if way == "up" else setup.target.chip.name
        ends = tuple(state.healths.values())
        made = FaultyDirection(state, way, link, setup.scenario.seed, self.trace, state.clock(sender), ends)
        self.ways[way] = made
        return made

    def context(self, source: LogitsSource, application: str) -> SupervisedContext:
        """What policies work with on this board."""
        scenario, vocabulary = self.setup.scenario, self.setup.target.model.vocabulary.entries
        assert isinstance(self.target, FaultySlot), "all slots of this board may fail"
        replays = scenario.logits.source != "live" or isinstance(source, CachedSource)
        faulty = FaultySource(source, self.state, self.injector, self.target, vocabulary, replays=replays)
        supervisor = self.supervisor = Supervisor(self.state)
        context = SupervisedContext(self, faulty, scenario, vocabulary, application, supervisor)
        supervisor.context = context
        return context

    def run(self, sessions: list[simpy.Event]) -> int:
        """Run until all sessions are over and nothing is under way; returns the instant of the last event.

        What faults would still do after that does not count.
        """
        self.injector.start()
        self.env.run(until=self.env.all_of(sessions))
        self.injector.stop()
        self.supervisor.stop()
        grouping = self.grouping
        return grouping.drain(grouping.injected | grouping.vain if self.trace.faults else grouping.injected)


def faulty_board(
    setup: Setup, trace: Trace, realtime: float | None, timers: Timers, *, with_draft: bool
) -> FaultyBoard:
    """A board with faults, in real time where that is asked for."""
    env = Grouping() if realtime is None else PacedGrouping(realtime)
    return FaultyBoard(env, setup, trace, with_draft=with_draft, timers=timers)
