"""Two models that do not fit together: whichever is needed is loaded in place of the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import simpy

from hilsim.cost.start_up import swap_loads
from hilsim.describe.cockpit import Swap
from hilsim.sim.board import Board
from hilsim.sim.device_slot import NO_REQUEST, Process, RequestTag
from hilsim.sim.loading import LOAD

TARGET = "target"


class Waiting(NamedTuple):
    """Who waits for its model, since before those behind it; `wanted` says whether it still does."""

    model: str
    admitted: simpy.Event
    wanted: Callable[[], bool]


class SharedRoom:
    """The place in memory that the target and a stage's network share: one of them is in it, and any number use that.

    What needs the other waits until this one is not in use, and all behind it wait as well. Then the other is loaded,
    which holds the unit it runs on. Caches stay. The target is there at the start.
    """

    def __init__(self, board: Board, swap: Swap):
        self.board, self.env = board, board.env
        self.loads = swap_loads(board.setup, swap)
        speech, target = board.setup.scenario.speech, board.setup.target
        assert speech is not None, "a swap is of a stage of speech"
        stage = getattr(speech, swap.stage)
        self.units = {TARGET: target.unit_name, swap.stage: stage.unit}
        self.chip = target.chip
        self.loaded, self.users, self.loading = TARGET, 0, False
        self.waiting: deque[Waiting] = deque()

    def enter(self, model: str, wanted: Callable[[], bool]) -> Process:
        """Wait for a model and use it; returns whether it is there, which it is not where it is wanted no more.

        Models that share nothing are always there.
        """
        if model not in self.units or (model == self.loaded and not self.waiting and not self.loading):
            self.users += model in self.units
            return True
        one = Waiting(model, self.env.event(), wanted)
        self.waiting.append(one)
        self.serve()
        admitted: bool = yield one.admitted
        return admitted

    def leave(self, model: str) -> None:
        """A use is over."""
        self.users -= model in self.units
        self.serve()

    def serve(self) -> None:
        """Admit those who wait for what is loaded; load what the first of the others waits for, once it can be.

        Those who want nothing any more wait no longer.
        """
        for one in [one for one in self.waiting if not one.wanted()]:
            self.waiting.remove(one)
            one.admitted.succeed(False)
        while self.waiting and not self.loading:
            first = self.waiting[0]
            if first.model != self.loaded:
                if not self.users:
                    self.loading = True
                    self.env.process(self.load(first.model))
                return
            self.waiting.popleft()
            self.users += 1
            first.admitted.succeed(True)

    def load(self, model: str) -> Process:
        """Read a model into the place of the other."""
        took_ns, nbytes = self.loads[model]
        unit = self.units[model]
        work = self.board.outside(self.chip).work if unit is None else self.board.place(self.chip, unit).work
        yield from work(LOAD, took_ns, RequestTag(NO_REQUEST, 0), nbytes)
        self.loaded, self.loading = model, False
        self.serve()
