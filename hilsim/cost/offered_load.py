"""How busy units will be before anything runs: the load that passengers and background tasks offer.

    utilisation of a unit = questions per second x seconds of one's work there + work / period of each background task
    utilisation of a memory = bytes per second of stages, tasks and streams / what it gives

From 1 on the work that arrives is more than the unit can do, and waits grow without end. Seconds are the least that can
be: units in full clocks with the whole memory rate, sessions in full batches, drafts accepted as far as is known and
otherwise all of them, an answer of unknown length of one token. So a load of 1 or more certainly cannot be served.
Questions that are refused or given up where too many wait, or that wait for the last answer, are no offered load. A
passenger has one turn after another, and can offer no more than that either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from hilsim.cost.demand import priced, stream_demand, streamed_bytes
from hilsim.cost.sharing import capacity
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.acceptance import chances_of, tokens_of
from hilsim.describe.cockpit import AtTimes, Demand, Passenger, Poisson, PromptAssembly, Speech, Stage
from hilsim.describe.policy import PromptLookup, Suffix, Sync, most_drafted
from hilsim.describe.scenario import Lengths, Scenario
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import Fault
from hilsim.units import MEGA, NS_PER_MS, NS_PER_S

Loads = dict[str, dict[str, float]]  # by unit: the utilisation, by what offers it


@dataclass(frozen=True)
class Question:
    """Tokens of a usual question and of its answer, and what is read before it."""

    asked: float
    answered: float
    before: int = 0

    @property
    def middle(self) -> int:
        """Positions in the cache in the middle of the answer."""
        return round(self.before + self.asked + self.answered / 2)


@dataclass
class Work:
    """Nanoseconds of one turn's work by unit, and of moving its stages' bytes through a memory with nothing else."""

    ns: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def of_bytes(self, setup: Setup, stage: Stage, nbytes: float) -> None:
        """Bytes of a stage."""
        if nbytes and stage.chip is not None:
            self.ns[memory_of(stage.chip)] += nbytes * NS_PER_S / capacity(setup.chips[stage.chip])

    def of_demand(self, setup: Setup, stage: Stage, demand: Demand | None, times: float = 1.0) -> None:
        """Executions on a stage's unit; one on hardware outside the model occupies none, but moves bytes."""
        if demand is None or stage.chip is None:
            return
        if stage.unit is None:
            self.of_bytes(setup, stage, times * demand.megabytes * MEGA)
            return
        took_ns, nbytes = priced(demand, setup.chips[stage.chip].units[stage.unit])
        self.ns[f"{stage.chip}.{stage.unit}"] += times * took_ns
        self.of_bytes(setup, stage, times * (nbytes + streamed_bytes(stage.megabytes_per_s, took_ns)))

    def of_speech(self, setup: Setup, stage: Stage, seconds: float, fixed_ms: float) -> None:
        """So much time on a stage's unit, and the bytes that move meanwhile."""
        took_ns = seconds * NS_PER_S + fixed_ms * NS_PER_MS
        if stage.chip is not None and stage.unit is not None:
            self.ns[f"{stage.chip}.{stage.unit}"] += took_ns
        self.of_bytes(setup, stage, streamed_bytes(stage.megabytes_per_s, round(took_ns)))


def load_faults(setup: Setup, answer_tokens: float | None) -> Iterator[Fault]:
    """Units that are offered more than they can do; else passengers who ask sooner than one of their turns can be over.

    `answer_tokens` are those of a usual answer, where known.
    """
    yield from deadline_faults(setup)
    tasks = {task.name for task in setup.scenario.background}
    loads = offered_load(setup, answer_tokens)
    over = {track: offered for track, offered in loads.items() if sum(offered.values()) >= 1}
    for track, offered in over.items():
        whole = sum(offered.values())
        parts = ", ".join(f"{name} {share:.2f}" for name, share in sorted(offered.items(), key=lambda one: -one[1]))
        alone = sum(share for name, share in offered.items() if name in tasks) >= 1
        remedy = "Lower the work, or ask for it less often."
        if not alone:
            remedy = "Ask less often, or give passengers a queue_limit or patience_s, with which questions are lost."
        found = f"a utilisation of {whole:.2f} of {track}, which cannot be served ({parts})"
        yield Fault(setup.file, "background" if alone else "passengers", found, "less than 1", remedy)
    if not over and setup.scenario.passengers:
        turn_s = turn_seconds(setup, usual_question(setup, answer_tokens))
        for place, passenger in enumerate(setup.scenario.passengers):
            if (whole := turn_s * questions_per_s(passenger, setup.scenario)) >= 1:
                found = f"a utilisation of {whole:.2f} of {passenger.name}, whose turns take {turn_s:.3g} s at least"
                yield Fault(setup.file, f"passengers[{place}].arrivals", found, "less than 1", "Ask less often.")


def deadline_faults(setup: Setup) -> Iterator[Fault]:
    """Deadlines that a task misses even alone on its unit."""
    for place, task in enumerate(setup.scenario.background):
        if task.work is None or task.chip is None or task.unit is None or task.deadline_ms is None:
            continue
        ns, _ = priced(task.work, setup.chips[task.chip].units[task.unit])
        if ns > task.deadline_ms * NS_PER_MS:
            found = f"{task.deadline_ms:g} ms, and {task.name} takes {ns / NS_PER_MS:.4g} ms alone"
            expected = f"at least its own time on {task.chip}.{task.unit}"
            yield Fault(setup.file, f"background[{place}].deadline_ms", found, expected)


def offered_load(setup: Setup, answer_tokens: float | None) -> Loads:
    """The utilisation of each unit that passengers and background tasks ask for, by their names."""
    found: Loads = defaultdict(dict)
    for task in setup.scenario.background:
        if task.chip is None:
            continue
        chip, period_ns = setup.chips[task.chip], task.period_ms * NS_PER_MS
        if task.work is not None and task.unit is not None:
            ns, nbytes = priced(task.work, chip.units[task.unit])
            found[f"{task.chip}.{task.unit}"][task.name] = ns / period_ns
        else:
            _, nbytes = stream_demand(task)
        if nbytes:
            found[memory_of(task.chip)][task.name] = nbytes * NS_PER_S / period_ns / capacity(chip)
    rates = {one.name: questions_per_s(one, setup.scenario) for one in setup.scenario.passengers}
    rates = {name: rate for name, rate in rates.items() if rate}
    if rates:
        work = work_of_a_turn(setup, usual_question(setup, answer_tokens))
        for track, took_ns in work.ns.items():
            for name, rate in rates.items():
                found[track][name] = found[track].get(name, 0.0) + rate * took_ns / NS_PER_S
    return dict(found)


def memory_of(chip: str) -> str:
    """The name of a chip's memory among its units."""
    return f"{chip}.memory"


def questions_per_s(passenger: Passenger, scenario: Scenario) -> float:
    """Questions a second that come whatever is waiting; listed instants are a rate over a trip alone."""
    arrivals = passenger.arrivals
    if passenger.queue_limit is not None or passenger.patience_s is not None:
        return 0.0
    if isinstance(arrivals, Poisson):
        return arrivals.per_hour / 3600
    if isinstance(arrivals, AtTimes) and scenario.trip is not None:
        return len(arrivals.at_s) / max([scenario.trip.minutes * 60, *arrivals.at_s])
    return 0.0


def usual_question(setup: Setup, answer_tokens: float | None) -> Question:
    """The mean question: a word is a token at least. Of an answer that is interrupted nothing is counted."""
    workload, speech = setup.scenario.workload, setup.scenario.speech
    prompt = PromptAssembly() if speech is None else speech.prompt
    before, read = prompt.system_tokens + prompt.tool_tokens, prompt.retrieved_tokens
    heard = 1.0 if speech is None or speech.barge_in is None else 1 - speech.barge_in.share
    if isinstance(workload, Lengths):
        answered = workload.answer_tokens(setup.scenario.context_tokens)
        return Question(workload.prompt_tokens + read, max(1.0, heard * answered), before)
    words = [len(turn.split()) for conversation in setup.conversations for turn in conversation.turns]
    return Question(fmean(words or [1]) + read, max(1.0, heard * (answer_tokens or 1.0)), before)


def work_of_a_turn(setup: Setup, question: Question) -> Work:
    """The least work of one question on every unit."""
    work = Work()
    sessions = min(setup.target.batch, len(setup.scenario.passengers))
    of_target(work, setup, question, sessions)
    if setup.scenario.speech is not None:
        of_speech(work, setup, setup.scenario.speech, question)
    return work


def turn_seconds(setup: Setup, question: Question) -> float:
    """The least time of a turn: the question, then the answer, as it is made or as it is heard."""
    alone = Work()
    of_target(alone, setup, question, 1)
    made_s, speech = alone.ns[setup.target.track] / NS_PER_S, setup.scenario.speech
    if speech is None:
        return made_s
    question_s, answer_s = spoken(setup, speech, question)
    return question_s + speech.end_of_speech.wait_ms / 1000 + max(made_s, answer_s)


def of_target(work: Work, setup: Setup, question: Question, sessions: int) -> None:
    """Reading a question and making its answer on the target's unit, and drafting where a round's drafts are known."""
    target, policy = setup.target, setup.scenario.policy
    timer = timer_for(target, setup.scenario.context_tokens)

    def each_ns(phase: Phase, rows: int) -> float:
        return least_ns(timer, phase, rows, question.middle, sessions)

    work.ns[target.track] += least_ns(timer, Phase.PREFILL, max(1, round(question.asked)), question.before, sessions)
    later, drafted = question.answered - 1, most_drafted(policy)
    if not drafted or not isinstance(policy, Sync | PromptLookup | Suffix):
        rows = range(1, drafted + 2)  # a token is cheapest with so many rows, all of which are accepted
        work.ns[target.track] += later * min(each_ns(phase_of(count), count) / count for count in rows)
        return
    known = setup.acceptance
    tokens = drafted + 1.0 if known is None else tokens_of(chances_of(known), drafted)
    plain, rounds_ns = later * each_ns(Phase.DECODE, 1), later / tokens * each_ns(Phase.VERIFY, drafted + 1)
    if setup.draft is None or not isinstance(policy, Sync):  # rounds that find nothing are plain steps
        work.ns[target.track] += min(plain, rounds_ns)
        return
    work.ns[target.track] += rounds_ns
    work.ns[setup.draft.track] += of_draft(setup, setup.draft, question, later / tokens * drafted)


def phase_of(rows: int) -> Phase:
    """The phase of a step of the target that makes tokens."""
    return Phase.DECODE if rows == 1 else Phase.VERIFY


def of_draft(setup: Setup, draft: Placed, question: Question, steps: float) -> float:
    """Nanoseconds of reading a question and drafting in so many steps; nothing of a head, which may read none."""
    if draft.head_kind is not None:
        return 0.0
    timer = timer_for(draft, setup.scenario.context_tokens)
    sessions = min(draft.batch, len(setup.scenario.passengers))
    reading = least_ns(timer, Phase.DRAFT_PREFILL, max(1, round(question.asked)), question.before, sessions)
    return reading + steps * least_ns(timer, Phase.DRAFT, 1, question.middle, sessions)


def least_ns(timer: StepTimer, phase: Phase, rows: int, cached: int, sessions: int) -> float:
    """Nanoseconds of a step for each session, alone or as part of the largest batch."""
    alone = timer.duration_ns(Step(phase, rows, cached))
    return alone if sessions == 1 else min(alone, timer.duration_ns(Step(phase, rows, cached, sessions)) / sessions)


def of_speech(work: Work, setup: Setup, speech: Speech, question: Question) -> None:
    """The stages around the language model: every second of speech is recognised, or made."""
    hears, speaks = speech.recognition, speech.synthesis
    question_s, answer_s = spoken(setup, speech, question)
    work.of_demand(setup, hears, speech.wake_word)
    work.of_demand(setup, speech.end_of_speech, speech.end_of_speech.model)
    if hears.model is None:
        work.of_speech(setup, hears, hears.real_time_factor * question_s, hears.fixed_ms)
    else:
        work.of_demand(setup, hears, hears.model, max(1.0, 1000 * question_s / hears.chunk_ms))
    work.of_speech(setup, speaks, speaks.real_time_factor * answer_s, speaks.fixed_ms)


def spoken(setup: Setup, speech: Speech, question: Question) -> tuple[float, float]:
    """Seconds of the question's speech and of the answer's."""
    say, words = speech.playback, question.asked - speech.prompt.retrieved_tokens
    if isinstance(setup.scenario.workload, Lengths):
        words /= say.tokens_per_word
    return words / say.words_per_s, question.answered / say.tokens_per_word / say.words_per_s
