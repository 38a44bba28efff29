"""A tool call within a turn: the model says the call, the tool takes its time, its result is read as a prompt is.

The draft takes no part in the call; it reads call and result with the question. What is said and read is known by its
length alone, as the stand-ins see neither.
"""

from __future__ import annotations

from hilsim.cost.payload import prompt_bytes
from hilsim.cost.step import Phase
from hilsim.describe.cockpit import Tools
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Beside, Request
from hilsim.sim.steps import prefill_target
from hilsim.units import ns

TOOL_CALL = "tool call"  # a span's kind


def call_tool(context: RunContext, request: Request, tools: Tools) -> Process:
    """Read the question, say the call, wait for the tool; the result is read as the answer begins.

    The question's last row is the first token of the call, and its last token is read with the result.
    """
    yield from prefill_target(context, request)
    target, length = context.board.target, len(request.tokens)
    for said in range(tools.call_tokens - 1):
        if request.done:
            return
        step = target.step(Phase.DECODE, 1, length + said)._replace(kind=TOOL_CALL)
        yield from target.work(step, request.cause)
    if context.elsewhere:
        yield from context.down.send(TOOL_CALL, prompt_bytes(tools.call_tokens), request.cause)
    if request.done:
        return
    yield context.board.env.timeout(ns(tools.ms / 1000))
    request.to_send = tools.result_tokens
    request.target_beside = Beside(tools.result_tokens + 1, 1 - tools.call_tokens)
    rows, missing = request.draft_beside
    request.draft_beside = Beside(rows + tools.call_tokens + tools.result_tokens, missing)
    request.passages += tools.call_tokens + tools.result_tokens
