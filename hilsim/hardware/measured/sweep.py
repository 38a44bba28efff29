"""Runs the steps of a profile on a board, records them one by one, and checks the quality of their times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hilsim.errors import ChipLost, Fault, InputError
from hilsim.hardware.measured.profile import ProfileGrid, asks, swept
from hilsim.hardware.measured.quality import QualityWarning, Sample, quality_warnings, sample_of, unjudged
from hilsim.hardware.recordings.recorder import Recorder
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts
from hilsim.progress import Notify, progressing, silent

START = "Start one on the board: python -m hilsim agent --model NAME=FOLDER."


def load_models(agent: Agent, names: Sequence[str] = ()) -> list[ModelFacts]:
    """The models to profile, all without names, loaded. Raises `InputError` where the agent does not answer or lacks
    one.
    """
    try:
        known = agent.facts.models
        if missing := [name for name in names if name not in known]:
            expected = f"a model that {agent.address} has: {', '.join(known) or 'none'}"
            raise InputError([Fault("--model", "", repr(name), expected) for name in missing])
        return [agent.load(name) for name in dict.fromkeys(names or known)]
    except AgentFault as fault:
        remedy = START if fault.kind == "unreachable" else ""
        raise InputError([Fault(str(agent.address), "", str(fault), "an agent that answers", remedy)]) from None


def record_steps(
    agent: Agent,
    models: Sequence[ModelFacts],
    file: Path,
    grid: ProfileGrid,
    *,
    warm_up: int,
    repeats: int,
    notify: Notify = silent,
) -> tuple[list[QualityWarning], str]:
    """The whole sweep, written step by step. Returns the warnings about it, and a sentence on what cannot be judged.

    Raises `KeyboardInterrupt` and `ChipLost`, whose text names the file of the steps recorded by then.
    """
    one_round = asks(models, grid)
    if not one_round:
        contexts = ", ".join(f"{facts.name} {facts.context}" for facts in models)
        raise InputError([Fault("profile", "", "no step that fits", f"some within the context ({contexts})")])
    samples: list[Sample] = []
    recorder = Recorder(
        file,
        unit="profile",
        scenario=None,
        address=str(agent.address),
        facts=agent.facts,
        models={facts.name: facts for facts in models},
        settings={"warm_up": warm_up, "repeats": repeats},
    )
    with recorder, progressing((warm_up + repeats) * len(one_round), "steps") as count:
        for note in recorder.notes:
            notify(note)
        try:
            for use, ask, answer in swept(agent, one_round, warm_up=warm_up, repeats=repeats):
                recorder.add(None, ask, answer, use)
                if isinstance(answer, AgentFault):
                    raise ChipLost(str(agent.address), answer.kind, answer.found, recorded_so_far(recorder))
                if use == "profile":
                    samples.append(sample_of(ask, answer, exact=True))
                count.ended("done")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {recorded_so_far(recorder)}") from None
    return sorted(quality_warnings(samples), key=by_weight), unjudged(samples)


def by_weight(warning: QualityWarning) -> float:
    """Sort key: the warning that is farthest beyond its limit comes first."""
    return -abs(warning.figure) / warning.limit if warning.limit else -math.inf


def recorded_so_far(recorder: Recorder) -> str:
    """The sentence that names the file of the steps recorded so far."""
    return f"{recorder.entries} steps are saved in {recorder.file}."
