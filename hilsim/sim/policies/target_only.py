"""The target alone: read the question, then one token a step. The yardstick of every speed-up."""

from __future__ import annotations

from hilsim.sim.board import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import Desk, decode, deliver, prefill_target, send_verdict


def target_only(desk: Desk, request: Request) -> Process:
    """Prefill, whose last row is the first token, then plain decoding until the request is answered."""
    start = desk.now
    token, margin = desk.source.next_token(request)
    yield from prefill_target(desk, request)
    if desk.elsewhere:
        yield from send_verdict(desk, request)
    deliver(desk, request, start, (token,), (margin,))
    while not request.done:
        yield from decode(desk, request)
