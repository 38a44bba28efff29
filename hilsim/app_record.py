"""`python -m hilsim record`: let the real models speak once, and write down what they say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilsim.app import Sources
from hilsim.describe.load import Setup, load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.errors import Fault, InputError
from hilsim.files import place_faults
from hilsim.logits.ahead import drafted_ahead
from hilsim.logits.live import LiveSource
from hilsim.logits.recording import Listener, transcript_of
from hilsim.logits.transcript import Transcript, recorded_with, save
from hilsim.show.document import versions
from hilsim.show.progress import saying
from hilsim.sim.run import simulate

DEPTH = 16


def record(file: Path, overrides: Sequence[str], out: Path, depth: int = DEPTH) -> int:
    """Write the transcript of a scenario. Raises `InputError` for one whose words hang on more than the position."""
    if faults := place_faults(out, "--out"):
        raise InputError(faults)
    setup = load_setup(file, overrides)
    require_recordable(setup)
    began = time.perf_counter()
    with saying("recording") as say:
        transcript = recorded(setup, depth, say)
    save(transcript, out)
    took = time.perf_counter() - began
    print(
        f"{out}: {int((transcript.index >= 0).sum())} answers, {len(transcript.answer)} tokens, drafts {depth} deep, "
        f"{out.stat().st_size / 2**10:.0f} KiB, {took:.1f} s"
    )
    return 0


def require_recordable(setup: Setup) -> None:
    """Raises `InputError` where there is nothing to record, or no position alone decides what is said."""
    scenario = setup.scenario
    if scenario.logits.source != "live":
        found = f"{scenario.logits.source} logits"
        raise InputError([Fault(setup.file, "logits.source", found, "live ones, which can be recorded")])
    if setup.draft is None:
        raise InputError([Fault(setup.file, "draft", "none", "a draft, whose continuations are recorded")])
    if setup.claim.level != "text":
        found = f"{scenario.accept.rule} with {scenario.payload.scheme}: {setup.claim.why}"
        expected = "a rule under which every token depends on its position alone"
        raise InputError([Fault(setup.file, "accept", found, expected, "Run such rules live.")])


def recorded(setup: Setup, depth: int, say: Any = lambda words: None) -> Transcript:
    """The transcript of a scenario of live logits, conversation after conversation whatever its talkers."""
    alone = setup.scenario.workload.model_copy(update={"talkers": 1})
    plain = replace(setup, scenario=setup.scenario.model_copy(update={"workload": alone}))
    sources = Sources(plain)
    listener = Listener(sources.fresh())
    simulate(plain, listener, TargetOnly(name="target_only"))
    header = {
        "scenario": setup.scenario.name,
        "recorded_with": recorded_with(setup),
        "versions": versions(),
        "dtype": getattr(setup.scenario.logits, "dtype", ""),
        "end_tokens": sorted(sources.stand_ins.tokenizer.end_tokens),
    }
    answers = len(listener.heard)
    source, context = sources.fresh(), setup.scenario.context_tokens
    assert isinstance(source, LiveSource)
    return transcript_of(
        listener.heard,
        source,
        lambda talk: drafted_ahead(source, talk, depth, context),
        depth,
        context,
        header,
        lambda done: say(f"{done} of {answers} answers"),
    )
