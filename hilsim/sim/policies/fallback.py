"""A policy that watches itself: where speculation does not pay, the target goes on alone for a while, then tries again.

The watch survives from one request to the next, so short answers learn from each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hilsim.cost.payload import prompt_bytes
from hilsim.describe.policy import Fallback
from hilsim.sim.board import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import Desk, cause_of, decode

PolicyFunction = Callable[[Desk, Request], Process]


def with_fallback(policy: PolicyFunction, fallback: Fallback) -> PolicyFunction:
    """`policy` until its last rounds were slower than plain steps, then the target alone, then `policy` again."""
    gains: deque[tuple[int, int]] = deque(maxlen=fallback.window)  # plain time of a round's tokens, time it took

    def watched(desk: Desk, request: Request) -> Process:
        since = desk.now

        def watch(emitted: int, single_ns: int) -> None:
            nonlocal since
            gains.append((emitted * single_ns, desk.now - since))
            since = desk.now
            plain, took = (sum(column) for column in zip(*gains, strict=True))
            request.resting = len(gains) == fallback.window and plain < fallback.margin * took

        while not request.done:
            request.watch = watch
            since = desk.now
            yield from policy(desk, request)
            request.watch = None
            gains.clear()
            alone = 0
            while not request.done and alone < fallback.rest_tokens:
                yield from decode(desk, request)
                alone += 1
            request.resting = False
            if alone and desk.board.draft is not None and not desk.elsewhere and not request.done:
                # The draft's chip has not heard what was said meanwhile; elsewhere it was told word by word.
                yield from desk.down.send("prompt", prompt_bytes(alone), cause_of(request))

    return watched
