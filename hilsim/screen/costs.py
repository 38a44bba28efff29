"""Costs of steps and messages of one scenario, as arrays that the compiled loops of fast timing look up.

Every entry comes from the functions that the event simulation calls (`cost/timer.py`, `cost/payload.py`), so both agree
to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.cost.between import Between, Graph
from hilsim.cost.payload import answer_bytes, draft_bytes, prompt_bytes, verdict_bytes
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, between_steps, durations_ns, graphs_of, network_ns, timer_for
from hilsim.cost.wire import wire_ns, wires_ns
from hilsim.describe.chip import Unit
from hilsim.describe.link import Link
from hilsim.describe.policy import Policy
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, Setup
from hilsim.screen.tokens import Answers
from hilsim.units import ns

Ints = npt.NDArray[np.int64]
NEVER, ALWAYS, REJECTED = 0, 1, 2  # when the draft's chip decides a round
LAGS, ROWS = 3, 16  # first sizes of the tables; a loop that needs more reports it


class StepCosts(NamedTuple):
    """Nanoseconds and bytes of one scenario.

    `target_read`, `draft_read` (requests, lag): reading a question with so many earlier tokens not cached yet.
    `target_step`, `draft_step` (rows, cached), or (rows, 1) where the fill of the cache does not matter. Messages by
    their tokens: `up_ns`, `up_bytes` (drafted tokens), `prompt_ns`, `prompt_bytes` (tokens), `down_ns`, `down_bytes`
    (rows of the target, all drafts accepted), `verdict_ns`, `verdict_bytes`. `elsewhere`: the application runs on
    another chip than the target's; `draft_far`: on another than the draft's. `head`: the draft is a head.

    `graphs` (2, rows, 3), of the target and of the draft: the first graph that a step of so many rows runs, the last,
    and how often it changes in between; -1 where a unit has no graphs. `target_between`, `draft_between`: what their
    units take between passes. Every array costs the same to hand to a compiled loop as some hundred rounds in it, so
    there are few.
    """

    target_read: Ints
    draft_read: Ints
    target_step: Ints
    draft_step: Ints
    up_ns: Ints
    up_bytes: Ints
    prompt_ns: Ints
    prompt_bytes: Ints
    down_ns: Ints
    down_bytes: Ints
    verdict_ns: int
    verdict_bytes: int
    propagation_ns: int
    pause_ns: int
    networks_ns: int
    draft_decides: int
    elsewhere: bool
    draft_far: bool
    same_unit: bool
    head: bool
    graphs: Ints
    target_between: Between
    draft_between: Between


class Tables:
    """Cost tables by what they depend on, cached while many configurations of one workload are timed."""

    def __init__(self) -> None:
        self.known: dict[object, Ints] = {}
        self.sent: dict[object, MessageCosts] = {}
        self.units: list[Unit] = []
        self.graphs: dict[Graph, int] = {}
        self.last: tuple[Setup, dict[object, StepCosts]] | None = None

    def shared_by(self, setup: Setup) -> dict[object, StepCosts]:
        """The costs made for this very setup, empty at first: the explorer times many policies of one after another."""
        if self.last is None or self.last[0] is not setup:
            self.last = setup, {}
        return self.last[1]

    def timed_by(self, placed: Placed, context: int) -> tuple[object, ...]:
        """Everything that a role's step times depend on."""
        unit = next((place for place, known in enumerate(self.units) if known is placed.unit), len(self.units))
        if unit == len(self.units):
            self.units.append(placed.unit)
        timer = placed.placement.timer
        typed = None if timer is None else timer.model_dump_json()
        extras = () if placed.compiled is None else placed.compiled.extras
        factors = placed.factors
        export = placed.placement.precision, placed.placement.expanded_kv
        return placed.model.name, unit, export, placed.widths, extras, typed, factors, context

    def reading(self, key: object, timer: StepTimer, phase: Phase, answers: Answers, lags: int) -> Ints:
        """Nanoseconds (requests, lags) of reading each question."""
        key = ("read", key, phase, lags)
        if key not in self.known:
            self.known[key] = np.array(
                [
                    [
                        timer.duration_ns(Step(phase, prompt + lag, carried - lag)) if lag <= carried else 0
                        for lag in range(lags)
                    ]
                    for prompt, carried in zip(answers.prompt.tolist(), answers.carried.tolist(), strict=True)
                ],
                dtype=np.int64,
            ).reshape(answers.requests, lags)
        return self.known[key]

    def nothing(self, answers: Answers, lags: int) -> tuple[Ints, Ints]:
        """The tables of a role that takes no part."""
        for what, shape in (("no questions", (answers.requests, lags)), ("no steps", (2, 1))):
            self.known.setdefault((what, shape), np.zeros(shape, np.int64))
        return self.known["no questions", (answers.requests, lags)], self.known["no steps", (2, 1)]

    def steps(self, key: object, timer: StepTimer, phase: Phase, rows: int, longest: int) -> Ints:
        """Nanoseconds (rows + 1, longest) of steps that read no prompt; row 0 is zeros."""
        key = ("step", key, phase, rows, longest)
        if key not in self.known:
            cached = np.arange(longest, dtype=np.int64)
            table = [
                np.zeros_like(cached),
                *(durations_ns(timer, phase, count, cached) for count in range(1, rows + 1)),
            ]
            found = np.stack(table)
            flat = bool((found == found[:, :1]).all())
            self.known[key] = np.ascontiguousarray(found[:, :1] if flat else found)
        return self.known[key]

    def run(self, timer: StepTimer, step: Step) -> tuple[int, int, int]:
        """The first graph of a step, the last, and the changes in between."""
        found = [self.graphs.setdefault(graph, len(self.graphs)) for graph in graphs_of(timer, step)]
        return (found[0], found[-1], len(found) - 1) if found else (-1, -1, 0)

    def graphs_run(
        self, roles: Sequence[tuple[object, StepTimer] | None], answers: Answers, lags: int, rows: int
    ) -> Ints:
        """The graphs (roles, rows + 1, 3) of steps by their rows: those that read no prompt, and of every prompt."""
        key = ("graphs", *(None if role is None else role[0] for role in roles), lags, rows)
        if key not in self.known:
            reading = {prompt + lag for prompt in answers.prompt.tolist() for lag in range(lags)}
            wanted = sorted(reading.union(range(1, rows + 1)))
            found = np.full((len(roles), wanted[-1] + 1, 3), (-1, -1, 0), dtype=np.int64)
            for place, role in enumerate(roles):
                if role is not None:
                    found[place, wanted] = [self.run(role[1], Step(Phase.VERIFY, count, 0)) for count in wanted]
            self.known[key] = found
        return self.known[key]

    def messages(self, scenario: Scenario, link: Link | None, vocabulary: int, rows: int, longest: int) -> MessageCosts:
        """All messages of one scenario's rules over one link."""
        key = (scenario.payload, scenario.verify_at, scenario.sampling.top_k, link, vocabulary, rows, longest)
        if key not in self.sent:
            self.sent[key] = messages_of(scenario, link, vocabulary, rows, longest)
        return self.sent[key]


class MessageCosts(NamedTuple):
    """Nanoseconds on the wire and bytes of every message, by tokens or rows; as in `StepCosts`."""

    up_ns: Ints
    up_bytes: Ints
    prompt_ns: Ints
    prompt_bytes: Ints
    down_ns: Ints
    down_bytes: Ints
    verdict_ns: int


def messages_of(scenario: Scenario, link: Link | None, vocabulary: int, rows: int, longest: int) -> MessageCosts:
    """Messages of up to `rows` drafted tokens or rows of the target, and prompts of up to `longest` tokens."""
    payload, where = scenario.payload, scenario.verify_at
    up = [draft_bytes(payload, count, vocabulary, where) for count in range(rows + 1)]
    down = [
        [answer_bytes(payload, scenario.sampling, where, 1, int(whole), count, vocabulary) for whole in (False, True)]
        for count in range(rows + 1)
    ]
    sizes = [np.array(some, np.int64) for some in (up, [prompt_bytes(count) for count in range(longest + 1)], down)]
    if link is None:  # nothing crosses
        sizes = [np.zeros_like(some) for some in sizes]
    held = [np.zeros_like(some) if link is None else wires_ns(link, some) for some in sizes]
    verdict = 0 if link is None else wire_ns(link, verdict_bytes())
    return MessageCosts(held[0], sizes[0], held[1], sizes[1], held[2], sizes[2], verdict)


def costs_of(
    setup: Setup,
    policy: Policy,
    answers: Answers,
    tables: Tables,
    *,
    lags: int = LAGS,
    target_rows: int,
    draft_rows: int,
) -> StepCosts:
    """The costs of a scenario under a policy, with tables of the given numbers of rows."""
    shared, key = tables.shared_by(setup), (policy.needs_draft, lags, target_rows, draft_rows)
    if key in shared:
        return shared[key]
    scenario, link, context = setup.scenario, setup.link, setup.scenario.context_tokens
    draft = setup.draft if policy.needs_draft else None

    def timed(placed: Placed | None) -> tuple[object, StepTimer] | None:
        return None if placed is None else (tables.timed_by(placed, context), timer_for(placed, context))

    roles = timed(setup.target), timed(draft)
    (target_read, target_step), (draft_read, draft_step) = (
        tables.nothing(answers, lags)
        if role is None
        else (tables.reading(*role, reads, answers, lags), tables.steps(*role, runs, rows, answers.longest))
        for role, (reads, runs, rows) in zip(
            roles,
            ((Phase.PREFILL, Phase.VERIFY, target_rows), (Phase.DRAFT_PREFILL, Phase.DRAFT, draft_rows)),
            strict=True,
        )
    )
    messages = tables.messages(scenario, link, setup.target.model.vocabulary.entries, target_rows, answers.longest)
    decided = ALWAYS if scenario.verify_at == "draft" else REJECTED if scenario.payload.scheme == "scalar" else NEVER
    shared[key] = StepCosts(
        target_read,
        draft_read,
        target_step,
        draft_step,
        *messages,
        0 if link is None else verdict_bytes(),
        0 if link is None else ns(link.propagation.si),
        ns(scenario.workload.pause_ms / 1000),
        sum(network_ns(network) for network in setup.networks),
        decided,
        setup.application != setup.target.chip.name,
        draft is not None and setup.application != draft.chip.name,
        draft is not None and draft.track == setup.target.track,
        draft is not None and draft.head_kind is not None,
        tables.graphs_run(roles, answers, lags, max(target_rows, draft_rows)),
        *(Between() if role is None else between_steps(role[1]) for role in roles),
    )
    return shared[key]
