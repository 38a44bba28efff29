"""The commands about boards: `profile` times a board's steps, `calibrate` with a recording makes a chip file of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.address import Address
from hilsim.errors import ChipLost, Fault, InputError
from hilsim.files import read_text
from hilsim.hardware.client import Agent
from hilsim.hardware.exchange import AgentFault, ModelFacts
from hilsim.hardware.profile import Grid, asks, swept, taken
from hilsim.hardware.recorder import Recorder
from hilsim.hardware.recording import read_recording
from hilsim.hardware.steadiness import Doubt, Sample, doubts, sample_of
from hilsim.show.outputs import require_place
from hilsim.show.progress import progressing

START = "Start one on the board: python -m hilsim agent --model NAME=FOLDER."


@dataclass(frozen=True)
class ProfileOptions:
    """What `profile` was asked for; no models are all of them."""

    address: str
    out: Path
    models: Sequence[str] = ()
    grid: Grid = Grid()
    warm_up: int = 3
    repeats: int = 7
    token_file: Path | None = None


def profile(options: ProfileOptions) -> int:
    """`python -m hilsim profile`: the times of many shapes of steps into a recording."""
    try:
        address = Address.parse(options.address)
    except ValueError as error:
        found, _, expected = str(error).partition("; ")
        raise InputError([Fault("profile", "", found, expected)]) from None
    token = None if options.token_file is None else read_text(options.token_file).strip()
    require_place(options.out, "--out")
    with closing(Agent(address, token)) as agent:
        doubted = steps_into(options, agent, models_of(options, agent))
    show_profile(options.out, doubted)
    return 0


def models_of(options: ProfileOptions, agent: Agent) -> list[ModelFacts]:
    """The models to profile, loaded. Raises `InputError` where the agent cannot be had or lacks one."""
    try:
        known = agent.facts.models
        if strangers := [name for name in options.models if name not in known]:
            expected = f"a model that {options.address} has: {', '.join(known) or 'none'}"
            raise InputError([Fault("--model", "", repr(name), expected) for name in strangers])
        return [agent.load(name) for name in dict.fromkeys(options.models or known)]
    except AgentFault as fault:
        remedy = START if fault.kind == "unreachable" else ""
        raise InputError([Fault(options.address, "", str(fault), "an agent that answers", remedy)]) from None


def steps_into(options: ProfileOptions, agent: Agent, models: Sequence[ModelFacts]) -> list[Doubt]:
    """The whole sweep, written down step by step; what is doubtful about it.

    Raises `KeyboardInterrupt` and `ChipLost` with where the steps are that were taken by then.
    """
    one_round = asks(models, options.grid)
    if not one_round:
        contexts = ", ".join(f"{facts.name} {facts.context}" for facts in models)
        raise InputError([Fault("profile", "", "no step that fits", f"some within the context ({contexts})")])
    settings = {"warm_up": options.warm_up, "repeats": options.repeats}
    samples: list[Sample] = []
    rounds = options.warm_up + options.repeats
    with (
        Recorder(
            options.out,
            unit="profile",
            scenario=None,
            address=str(agent.address),
            facts=agent.facts,
            models={facts.name: facts for facts in models},
            settings=settings,
        ) as recorder,
        progressing(rounds * len(one_round), "steps") as count,
    ):
        try:
            for use, ask, answer in swept(agent, one_round, warm_up=options.warm_up, repeats=options.repeats):
                recorder.add(None, ask, answer, use)
                if isinstance(answer, AgentFault):
                    raise ChipLost(options.address, answer.kind, answer.found, kept(recorder))
                if use == "profile":
                    samples.append(sample_of(ask, answer))
                count.ended("done")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {kept(recorder)}") from None
    return doubts(samples)


def kept(recorder: Recorder) -> str:
    """Where the steps are that were taken before something happened."""
    return f"{recorder.entries} steps are kept in {recorder.file}."


def show_profile(file: Path, doubted: Sequence[Doubt]) -> None:
    """The last session of a recording as a table, and its doubts."""
    from rich.console import Console

    from hilsim.show.step_times import print_profile

    session = read_recording(file).sessions[-1]
    print_profile(Console(), session.header.device, taken(session.entries), doubted, str(file))
