"""One conversation as a run goes through it: its tokens, what the caches hold of them, how a question is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.sim.clauses import clause_tokens
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.fallback import PolicyFunction
from hilsim.sim.prefix import Preface
from hilsim.sim.request import Beside, Request
from hilsim.sim.steps import await_acknowledgement, open_both, open_target
from hilsim.sim.tools import call_tool
from hilsim.sim.trace import RequestRecord, Round
from hilsim.text.prompt import Prompt, without_end


@dataclass(frozen=True)
class Turn:
    """One question in the workload; `index` counts over all conversations and keys the noise."""

    index: int
    conversation: int
    number: int
    user: str
    max_new_tokens: int


@dataclass
class Session:
    """A conversation under way. `begun` says whether its caches hold the system prompt and the tools."""

    context: RunContext
    policy: PolicyFunction
    setup: Setup
    preface: Preface | None = None
    tokens: list[int] = field(default_factory=list)
    target_cached: int = 0
    draft_cached: int = 0
    draft_received: int = 0
    begun: bool = False

    def prompt(self, turn: Turn) -> Prompt | None:
        """The prompt of the next turn; None where the context is too short for it."""
        prompt = self.context.source.prompt(turn.conversation, turn.number, self.tokens)
        return None if prompt.prefix_length + len(prompt.tokens) >= self.room else prompt

    @property
    def room(self) -> int:
        """Tokens that a conversation may have: what the prompt's other parts leave of the context."""
        return self.setup.scenario.conversation_tokens

    def ask(self, turn: Turn, prompt: Prompt, delivered: Callable[[Round], None] | None = None) -> Request:
        """Put a question to the language model; `delivered` is called as the application gets tokens of the answer."""
        standing = without_end(self.tokens, self.context.source.ends)
        if prompt.prefix_length < standing:
            self.context.board.trace.reread.append(standing - prompt.prefix_length)
        self.tokens[prompt.prefix_length :] = prompt.tokens
        return Request(
            turn.index,
            turn.conversation,
            turn.number,
            turn.user,
            self.tokens,
            turn.max_new_tokens,
            self.room,
            prompt_tokens=len(prompt.tokens),
            target_cached=min(self.target_cached, prompt.prefix_length),
            draft_cached=min(self.draft_cached, prompt.prefix_length),
            draft_received=min(self.draft_received, prompt.prefix_length),
            arrived_ns=self.context.now,
            delivered=delivered,
        )

    def answer(self, request: Request) -> Process:
        """From the question's arrival to the last token of the answer."""
        context = self.context
        if context.board.trace.observer is not None:
            context.board.trace.observer.asked(request.index, request.conversation, request.user, context.now)
        for network in context.board.networks:
            yield from network.work(request.cause)
        if self.preface is not None:
            yield from self.read_preface(request, self.preface)
        opening = open_target if context.board.draft is None else open_both
        if context.supervisor is None:
            yield from opening(context, request)
            yield from self.policy(context, request)
            yield from await_acknowledgement(request)
        else:
            yield from context.supervisor.answer(request, opening, self.policy)
        self.carry_over(request)
        if request.rounds:
            context.board.trace.add_request(record_of(context, request, self.setup))

    def read_preface(self, request: Request, preface: Preface) -> Process:
        """Note what is read with the question beside its own tokens, and have a tool called where the turn does."""
        if not self.begun and preface.copied():
            self.begun = True
        rows = preface.retrieved + (0 if self.begun else preface.standing)
        request.passages, request.to_send = preface.retrieved, request.prompt_tokens + preface.retrieved
        request.target_beside = request.draft_beside = Beside(rows, rows)
        if preface.tools is not None and preface.calls(request.index):
            yield from call_tool(self.context, request, preface.tools)

    def carry_over(self, request: Request) -> None:
        """Take over what the caches hold; a question that was cancelled unread leaves them as they were."""
        if not request.rounds:
            return
        self.target_cached, self.draft_cached = request.target_cached, request.draft_cached
        self.draft_received = request.draft_received
        if self.preface is not None and not self.begun:
            self.begun = True
            self.preface.keep()

    def leave_unanswered(self, prompt: Prompt) -> None:
        """A question that was given up before the language model's turn: it stands in the conversation, unread."""
        self.tokens[prompt.prefix_length :] = prompt.tokens
        self.target_cached = min(self.target_cached, prompt.prefix_length)
        self.draft_cached = min(self.draft_cached, prompt.prefix_length)
        self.draft_received = min(self.draft_received, prompt.prefix_length)

    def cut(self, request: Request, heard: int, *, lost: bool = False) -> None:
        """Forget what follows the first `heard` tokens of an answer, in the conversation and in both caches.

        `lost`: the caches hold nothing any more, nor does the kept prefix.
        """
        length, begins = len(self.tokens) - len(request.answer) + heard, request.begins
        del self.tokens[length:]
        read = length if request.rounds else begins  # a question that was cancelled before an answer is unread
        self.target_cached = 0 if lost else min(self.target_cached, read)
        self.draft_cached = 0 if lost else min(self.draft_cached, read)
        self.draft_received = min(self.draft_received, read)
        if lost and self.preface is not None:
            self.begun = False
            self.preface.drop()


def record_of(context: RunContext, request: Request, setup: Setup) -> RequestRecord:
    """The record of a request that is over."""
    assert request.finish is not None
    workload = setup.scenario.workload
    text = context.source.text(request.answer)
    if isinstance(workload, Conversations):
        clause = clause_tokens(context.source, request.answer, text)
    else:
        clause = min(workload.clause_tokens, len(request.answer))
    return RequestRecord(
        request.index,
        request.conversation,
        request.turn,
        request.user,
        text,
        request.arrived_ns,
        request.delivered_ns,
        request.prompt_tokens,
        len(request.answer),
        clause,
        request.finish,
    )
