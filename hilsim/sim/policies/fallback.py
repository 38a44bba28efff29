"""The fallback of a policy: where speculation is slower, the target decodes alone for a while, then it is tried again.

The measurements carry over from one request to the next, so short answers count together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hilsim.describe.policy import SpeculationPause
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import decode

PolicyFunction = Callable[[RunContext, Request], Process]


def with_fallback(policy: PolicyFunction, fallback: SpeculationPause) -> PolicyFunction:
    """`policy` until its last rounds were slower than plain steps, then the target alone, then `policy` again.

    A round is compared with plain steps without the time it queued for a unit, as plain steps would queue as well.
    """
    gains: deque[tuple[int, int]] = deque(maxlen=fallback.window)  # plain time of a round's tokens, time it took
    rest = 0  # tokens that the target still decodes alone, in this request or the next

    def watched(context: RunContext, request: Request) -> Process:
        nonlocal rest
        since = 0

        def clock() -> int:
            return context.now - context.board.queued_ns(request.index)

        def watch(emitted: int, single_ns: int) -> None:
            nonlocal since
            gains.append((emitted * single_ns, clock() - since))
            since = clock()
            plain, took = (sum(column) for column in zip(*gains, strict=True))
            request.paused = len(gains) == fallback.window and plain < fallback.margin * took

        while not request.done:
            if rest <= 0:
                request.watch, since = watch, clock()
                yield from policy(context, request)
                request.watch = None
                if request.paused:
                    rest, request.paused = fallback.rest_tokens, False
                    gains.clear()
            while rest > 0 and not request.done:
                rest -= 1  # before the step: concurrent requests count down the same rest
                yield from decode(context, request)

    return watched
