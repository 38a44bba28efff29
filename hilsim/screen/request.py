"""A request in compiled loops: the clock, the wires and caches, and how it is opened, delivered and accounted for.

The instants are those of `sim/steps.py`; what `sim` waits for is here the larger of two numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.cost import between as rule
from hilsim.cost.between import FAR, Between
from hilsim.screen.compiled import compiled
from hilsim.screen.costs import ALWAYS, REJECTED, StepCosts
from hilsim.screen.tokens import Answers

Ints = npt.NDArray[np.int64]
waking_ns, switching_ns = compiled(rule.waking_ns), compiled(rule.switching_ns)

# The state of a run, one number each: the clock, since when each way of the link is free, tokens cached by the target
# and the draft, tokens that the draft's chip has received, tokens of the conversation, when the target knows the
# result of the last round, and what a loop could not continue without. Then of two units, the target's and the draft's
# where that is another one: the graph run last (-1: none), and since when it has no work. Last, where the next entry of
# the tape goes, 0 where none is recorded: it follows the state in the same array.
NOW, UP, DOWN, TARGET, DRAFT, RECEIVED, LENGTH, SETTLED, TROUBLE, NEEDED = range(10)
GRAPH, IDLE, TAPE, STATE = 10, 12, 14, 15
# Troubles: tables too small for a lag or for rows, drafts deeper than recorded, a tape that is too short.
NONE, SHORT_OF_LAGS, SHORT_OF_TARGET_ROWS, SHORT_OF_DRAFT_ROWS, TOO_DEEP, SHORT_OF_TAPE = range(6)
# Entries of the tape, each of a kind and two numbers: how far the caches of target and draft lag behind when a request
# is opened; tokens that the draft's chip gets then, or before a draft; rows of a step and tokens cached; drafted tokens
# sent up; rows of a verdict and whether all drafts were accepted (-1: nothing was drafted); whether tokens delivered
# complete the first clause, and the answer.
LAGGED, ASKED, INFORMED, TARGET_STEP, DRAFT_STEP, SENT, VERDICT, DELIVERED = range(1, 9)
ENTRY = 3  # numbers of an entry
# What is recorded of a request: instants, occupied nanoseconds within it, bytes, and counts of rounds and drafts.
(
    ARRIVED, FIRST, CLAUSE, FINISHED, TARGET_BUSY, DRAFT_BUSY, UP_BUSY, DOWN_BUSY, UP_BYTES, DOWN_BYTES, ROUNDS, DRAFTS,
    DRAFTED, ACCEPTED, FIELDS,
) = range(15)  # fmt: skip


@compiled
def occupied(out: Ints, field: int, start: int, end: int, final: int) -> None:
    """Count a span of a unit or a link, in ns, up to the end of the request."""
    out[field] += max(0, min(end, final) - start)


@compiled
def trouble(state: Ints, kind: int, needed: int) -> int:
    """Note what is missing; the run is discarded and repeated with it."""
    if state[TROUBLE] == NONE:
        state[TROUBLE], state[NEEDED] = kind, needed
    return 1


@compiled
def noted(state: Ints, kind: int, one: int, other: int) -> None:
    """Write an entry to the tape, where one is recorded."""
    at = state[TAPE]
    if at == 0:
        return
    if at + ENTRY > state.shape[0]:
        trouble(state, SHORT_OF_TAPE, at)
        return
    state[at], state[at + 1], state[at + 2] = kind, one, other
    state[TAPE] = at + ENTRY


@compiled
def step_ns(table: Ints, rows: int, cached: int, state: Ints, kind: int) -> int:
    """A step's time in ns, from its table."""
    if rows >= table.shape[0]:
        return trouble(state, kind, rows)
    return int(table[rows, cached if table.shape[1] > 1 else 0])


@compiled
def target_ns(costs: StepCosts, rows: int, cached: int, state: Ints) -> int:
    """A step of the target that reads no prompt."""
    return step_ns(costs.target_step, rows, cached, state, SHORT_OF_TARGET_ROWS)


@compiled
def draft_ns(costs: StepCosts, rows: int, cached: int, state: Ints) -> int:
    """A step of the draft that reads no prompt."""
    return step_ns(costs.draft_step, rows, cached, state, SHORT_OF_DRAFT_ROWS)


@compiled
def ended(between: Between, graphs: Ints, state: Ints, unit: int, start: int, took: int) -> int:
    """When a step ends that gets a unit at `start`: it wakes up, changes the graph, and runs (`Occupant.prepare`)."""
    if not between.switch_ns and not between.wake_ns:
        return start + took
    first, last, changes = graphs[0], graphs[1], graphs[2]
    end = int(start + waking_ns(between, start - state[IDLE + unit]) + took)
    if last >= 0:
        end += switching_ns(between, changes + (first != state[GRAPH + unit]))
        state[GRAPH + unit] = last
    state[IDLE + unit] = end
    return end


@compiled
def target_end(costs: StepCosts, rows: int, cached: int, state: Ints, start: int) -> int:
    """When a step of the target that begins at `start` ends."""
    took = target_ns(costs, rows, cached, state)
    noted(state, TARGET_STEP, rows, cached)
    if state[TROUBLE] != NONE:
        return start + took
    return ended(costs.target_between, costs.graphs[0, rows], state, 0, start, took)


@compiled
def draft_end(costs: StepCosts, rows: int, cached: int, state: Ints, start: int) -> int:
    """When a step of the draft that begins at `start` ends."""
    took = draft_ns(costs, rows, cached, state)
    noted(state, DRAFT_STEP, rows, cached)
    if state[TROUBLE] != NONE:
        return start + took
    return ended(costs.draft_between, costs.graphs[1, rows], state, 1 - costs.same_unit, start, took)


@compiled
def read_ns(table: Ints, request: int, lag: int, state: Ints) -> int:
    """Time in ns of reading a question, with `lag` earlier tokens that the cache lacks."""
    if lag >= table.shape[1]:
        return trouble(state, SHORT_OF_LAGS, lag)
    return int(table[request, lag])


@compiled
def taken(state: Ints, way: int, asked: int, wire_ns: int) -> int:
    """Queue a message for one direction of the link; returns the instant in ns at which it begins."""
    start = int(max(asked, state[way]))
    state[way] = start + wire_ns
    return start


@compiled
def delivered(answers: Answers, state: Ints, out: Ints, request: int, before: int, after: int, instant: int) -> None:
    """The application has tokens `before` to `after` of the conversation at this instant."""
    first, answered = before - answers.asked[request], after - answers.asked[request]
    clause, whole = first < answers.clause[request] <= answered, answered == answers.length[request]
    if clause:
        out[CLAUSE] = instant
    if whole:
        out[FINISHED] = instant
    out[ROUNDS] += 1
    noted(state, DELIVERED, int(clause), int(whole))


@compiled
def opened(answers: Answers, costs: StepCosts, state: Ints, out: Ints, request: int, drafting: bool) -> None:
    """Both chips read the question, or the target alone; its first token is delivered."""
    if answers.first[request]:
        state[TARGET] = state[DRAFT] = state[RECEIVED] = 0
    carried, prompt, asked = answers.carried[request], answers.prompt[request], answers.asked[request]
    for cache in (TARGET, DRAFT, RECEIVED):  # earlier turns that have changed are read again
        state[cache] = min(state[cache], carried)
    state[NOW] += costs.pause_ns
    out[ARRIVED] = state[NOW]
    begin = state[NOW] + costs.networks_ns

    read_from = begin
    if costs.elsewhere:
        read_from = taken(state, UP, begin, costs.prompt_ns[prompt]) + costs.prompt_ns[prompt] + costs.propagation_ns
        out[UP_BYTES] += costs.prompt_bytes[prompt]
        out[UP_BUSY] += costs.prompt_ns[prompt]
    lag = carried - state[TARGET]
    noted(state, LAGGED, lag, carried - state[DRAFT])
    noted(state, ASKED, asked - state[RECEIVED], 0)
    read = read_from + read_ns(costs.target_read, request, lag, state)
    if state[TROUBLE] == NONE:
        graphs = costs.graphs[0, prompt + lag]
        read = ended(costs.target_between, graphs, state, 0, read_from, read - read_from)
    out[TARGET_BUSY] += read - read_from

    known = informed_at = read
    unknown = asked - state[RECEIVED]
    asking = drafting_from = begin
    if drafting:
        if costs.draft_far:
            asking = taken(state, DOWN, begin, costs.prompt_ns[unknown])
            drafting_from = asking + costs.prompt_ns[unknown] + costs.propagation_ns
            out[DOWN_BYTES] += costs.prompt_bytes[unknown]
        if costs.same_unit or costs.head:
            drafting_from = max(drafting_from, read)  # the target asked first, and a head reads its hidden states
        lag = carried - state[DRAFT]
        known = drafting_from + read_ns(costs.draft_read, request, lag, state)
        if state[TROUBLE] == NONE:
            graphs, unit = costs.graphs[1, prompt + lag], 1 - costs.same_unit
            known = ended(costs.draft_between, graphs, state, unit, drafting_from, known - drafting_from)
    if drafting or costs.elsewhere:
        sent = taken(state, DOWN, read, costs.verdict_ns)
        informed_at = sent + costs.verdict_ns + costs.propagation_ns
        out[DOWN_BYTES] += costs.verdict_bytes
    out[FIRST] = informed_at if costs.elsewhere else read
    final = out[FIRST] if answers.length[request] == 1 else FAR
    if drafting or costs.elsewhere:
        occupied(out, DOWN_BUSY, sent, sent + costs.verdict_ns, final)
    if drafting:
        if costs.draft_far:
            occupied(out, DOWN_BUSY, asking, asking + costs.prompt_ns[unknown], final)
        occupied(out, DRAFT_BUSY, drafting_from, known, final)
        state[DRAFT], state[RECEIVED] = asked, asked + 1
    state[TARGET], state[LENGTH] = asked, asked + 1
    state[NOW] = max(informed_at, known)
    state[SETTLED] = 0
    delivered(answers, state, out, request, asked, asked + 1, out[FIRST])


@compiled
def plain(answers: Answers, costs: StepCosts, state: Ints, out: Ints, request: int) -> None:
    """One decode step of the target alone, which delivers one token."""
    before, start = state[LENGTH], max(state[NOW], state[SETTLED])
    end = target_end(costs, before - state[TARGET], state[TARGET], state, start)
    out[TARGET_BUSY] += end - start
    state[TARGET], state[LENGTH] = before, before + 1
    if costs.elsewhere:
        sent = taken(state, DOWN, end, costs.verdict_ns)
        out[DOWN_BYTES] += costs.verdict_bytes
        out[DOWN_BUSY] += costs.verdict_ns
        end = sent + costs.verdict_ns + costs.propagation_ns
        state[RECEIVED] = before + 1
    state[NOW] = end
    delivered(answers, state, out, request, before, before + 1, end)


@compiled
def draft_decides(costs: StepCosts, drafted: int, accepted: int) -> bool:
    """Whether the draft's chip decides how a round ends (`cost.payload.draft_decides`)."""
    if drafted == 0:
        return False
    return costs.draft_decides == ALWAYS or (costs.draft_decides == REJECTED and accepted < drafted)


@compiled
def answer_ns(costs: StepCosts, drafted: int, accepted: int, rows: int) -> int:
    """Time in ns for which a verdict occupies the link."""
    return int(costs.down_ns[rows, int(accepted == drafted)]) if drafted else costs.verdict_ns


@compiled
def answer_size(costs: StepCosts, drafted: int, accepted: int, rows: int) -> int:
    """Bytes of a verdict."""
    return int(costs.down_bytes[rows, int(accepted == drafted)]) if drafted else costs.verdict_bytes


@compiled
def announced(
    answers: Answers,
    costs: StepCosts,
    state: Ints,
    out: Ints,
    request: int,
    before: int,
    decided: int,
    drafted: int,
    accepted: int,
    rows: int,
) -> tuple[int, int]:
    """The verdict of instant `decided` on its way down, and the draft chip's result where that decides the round.

    Returns the instants at which the draft's chip has the verdict, and at which the round is closed.
    """
    done = state[LENGTH] == answers.asked[request] + answers.length[request]
    down_ns, decides = answer_ns(costs, drafted, accepted, rows), draft_decides(costs, drafted, accepted)
    sent = taken(state, DOWN, decided, down_ns)
    received = sent + down_ns + costs.propagation_ns
    concluded = received
    noted(state, VERDICT, rows, int(accepted == drafted) if drafted else -1)
    if decides:
        answered = taken(state, UP, received, costs.verdict_ns)
        concluded = answered + costs.verdict_ns + costs.propagation_ns
    instant = received if costs.elsewhere else concluded if decides else decided
    final = instant if done else FAR
    occupied(out, DOWN_BUSY, sent, sent + down_ns, final)
    out[DOWN_BYTES] += answer_size(costs, drafted, accepted, rows)
    if decides:
        occupied(out, UP_BUSY, answered, answered + costs.verdict_ns, final)
        out[UP_BYTES] += costs.verdict_bytes
        state[SETTLED] = concluded
    state[RECEIVED] = max(state[RECEIVED], state[LENGTH])
    out[DRAFTS] += drafted > 0
    out[DRAFTED] += drafted
    out[ACCEPTED] += accepted
    delivered(answers, state, out, request, before, state[LENGTH], instant)
    return received, concluded
