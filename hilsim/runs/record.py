"""`hilsim record`: runs the stand-in models once over a workload and writes their tokens to a transcript."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.load import load_setup
from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.files import place_faults
from hilsim.progress import Notify, silent, status_line
from hilsim.sampling.choices import Choices, Rules
from hilsim.sim.run import turns_of
from hilsim.sources.columns import Transcript
from hilsim.sources.recorded_with import recorded_with
from hilsim.sources.recording import OpenConversation, TargetAnswer, transcript_of
from hilsim.sources.transcript import save
from hilsim.text.tokenizer import ChatTokenizer
from hilsim.versions import versions

if TYPE_CHECKING:
    from hilsim.sources.live import StandIns

DEPTH = 16
AT_ONCE = 24  # conversations in lockstep: more would win little and take memory


def record(file: Path, overrides: Sequence[str], out: Path, depth: int = DEPTH) -> int:
    """Write the transcript of a scenario. Raises `InputError` where its tokens depend on more than their position."""
    if faults := place_faults(out, "--out"):
        raise InputError(faults)
    setup = load_setup(file, overrides)
    require_recordable(setup)
    began = time.perf_counter()
    with status_line("recording") as notify:
        transcript = recorded(setup, depth, notify)
    save(transcript, out)
    took = time.perf_counter() - began
    print(
        f"{out}: {int((transcript.index >= 0).sum())} answers, {len(transcript.answer)} tokens, drafts {depth} deep, "
        f"{out.stat().st_size / 2**10:.0f} KiB, {took:.1f} s"
    )
    return 0


def require_recordable(setup: Setup) -> None:
    """Raises `InputError` where there is nothing to record, or tokens depend on more than their position."""
    require_by_position(setup)
    if setup.draft is None:
        raise InputError([Fault(setup.file, "draft", "none", "a draft, as its continuations are recorded")])


def require_by_position(setup: Setup) -> None:
    """Raises `InputError` where tokens are not those of live models, or depend on more than their position."""
    require_simulated(setup, "record")
    scenario = setup.scenario
    if scenario.logits.source != "live":
        found = f"{scenario.logits.source} logits"
        raise InputError([Fault(setup.file, "logits.source", found, "live logits, which can be recorded")])
    if setup.draft is not None and setup.draft.head_kind is not None:
        expected = "a draft model: what a head proposes depends on how much is verified, not on its position alone"
        raise InputError([Fault(setup.file, "draft", "a draft head", expected, "Run heads live.")])
    if setup.guarantee.level != "text":
        found = f"{scenario.accept.rule} with {scenario.payload.scheme}: {setup.guarantee.why}"
        expected = "an accept rule under which every token depends on its position alone"
        raise InputError([Fault(setup.file, "accept", found, expected, "Run such rules live.")])


def recorded(setup: Setup, depth: int, notify: Notify = silent) -> Transcript:
    """The transcript of a scenario with live logits; it does not depend on policy and number of sessions."""
    from hilsim.sources.live import load_stand_ins

    stand_ins = load_stand_ins(setup)
    for note in stand_ins.notes:
        notify(note)
    return record_stand_ins(setup, stand_ins, depth, notify)


def record_stand_ins(setup: Setup, stand_ins: StandIns, depth: int, notify: Notify = silent) -> Transcript:
    """The transcript of loaded stand-ins, some conversations at once: answers first, then the draft's continuations.

    Without a draft there are none: that of the target alone serves those who need its answers.
    """
    from hilsim.networks.packed import packed
    from hilsim.networks.panels import in_panels
    from hilsim.sources.ahead import drafted_ahead
    from hilsim.sources.answers import Answering, Limits
    from hilsim.sources.recording import DraftedColumns

    scenario, ends = setup.scenario, stand_ins.tokenizer.end_tokens
    assert isinstance(scenario.workload, Conversations)
    rules = Rules(scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at)
    choices = Choices(rules, scenario.seed, cached_positions=None)  # drafts from many places come by a position
    limits = Limits(scenario.context_tokens, scenario.workload.max_new_tokens, ends)
    target, draft = (
        None if network is None else in_panels(packed(network, scenario.context_tokens, depth, stand_ins.columns[role]))
        for role, network in (("target", stand_ins.target), ("draft", stand_ins.draft))
    )
    assert target is not None
    networks = [target] if draft is None or not choices.tests_the_draft else [target, draft]
    conversations, ways = conversations_of(setup, stand_ins.tokenizer), []
    count = AnswerCount(sum(len(conversation.waiting) for conversation in conversations), notify)
    for some in (conversations[start : start + AT_ONCE] for start in range(0, len(conversations), AT_ONCE)):
        answering = Answering(networks, choices, some, limits)
        answering.answer(count.one_more)
        answering.go_on()
        stretches = [piece for conversation in some for piece in conversation.segments()]
        if draft is None:
            answered = sum(len(one.answer) for piece in stretches for one in piece.answered)
            ways.append(DraftedColumns.unknown(answered, depth))
        else:
            ways.append(drafted_ahead(draft, choices, stretches, depth, limits))
    header = {
        "scenario": scenario.name,
        "recorded_with": recorded_with(setup),
        "versions": versions(),
        "dtype": getattr(scenario.logits, "dtype", ""),
        "end_tokens": sorted(ends),
    }
    return transcript_of([one for conversation in conversations for one in conversation.asked], ways, header)


@dataclass
class AnswerCount:
    """Reports how many questions are answered."""

    questions: int
    notify: Notify
    done: int = 0

    def one_more(self) -> None:
        self.done += 1
        self.notify(f"{self.done} of {self.questions} answers")


def conversations_of(setup: Setup, tokenizer: ChatTokenizer) -> list[OpenConversation]:
    """The workload as conversations of questions."""
    return [
        OpenConversation(
            [TargetAnswer(turn.index, turn.conversation, turn.number, turn.user) for turn in turns],
            tokenizer.open(conversation.system).ask,
        )
        for conversation, turns in zip(setup.conversations, turns_of(setup), strict=True)
    ]
