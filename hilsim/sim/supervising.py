"""What a session asks where hardware may fail: an answer, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request

if TYPE_CHECKING:
    from hilsim.sim.steps import RunContext


class Supervising(Protocol):
    """What keeps a request going on hardware that fails."""

    def answer(
        self,
        request: Request,
        opening: Callable[[RunContext, Request], Process],
        policy: Callable[[RunContext, Request], Process],
    ) -> Process:
        """Read the question as `opening` does, and go on with `policy`, whatever fails."""
        ...
