"""How far acceptance carries from one kind of text to another: each kind left out in turn, one's own pair included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from hilsim.describe.acceptance import over_places, tokens_of
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.scenario import Lengths
from hilsim.errors import Fault, InputError
from hilsim.measure.accepted import accepted_lists, require_exportable, whole_rounds
from hilsim.runs.evaluate import load_fitting
from hilsim.runs.replay import run_of
from hilsim.study.sweeps import with_length

OWN_DRAFTS = 8  # drafts up to which the acceptance of the stand-ins is shown
KINDS_OF_TEXT = ("shift", "in", "commands")  # scenarios/conversations, all kept out of training


def own_profile(file: Path, overrides: Sequence[str] = ()) -> AcceptanceProfile:
    """The acceptance of a scenario's own models under `sync`, over its workload."""
    setup = with_length(load_fitting(file, overrides), OWN_DRAFTS)
    require_exportable(setup)
    _, trace = run_of(setup)
    whole = whole_rounds(accepted_lists(trace), OWN_DRAFTS)
    return AcceptanceProfile(
        name=setup.scenario.name,
        title=" with ".join(str(placed.placement.stand_in) for placed in setup.roles.values()),
        drafter="model",
        text=str(getattr(setup.scenario.workload, "conversations", "its workload")),
        acceptance=whole,
        temperature=setup.scenario.sampling.temperature,
        rounds=whole.rounds,
        kind="measured",
        source=f"a run of {setup.scenario.name} under sync with {OWN_DRAFTS} drafts",
    )


@dataclass(frozen=True)
class Transfer:
    """Tokens a round of a pair over one kind of text: measured, and as the pair's other kinds of text would have it."""

    profile: AcceptanceProfile
    others: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1


def left_out(profiles: Iterable[AcceptanceProfile], drafted: int) -> list[Transfer]:
    """Each kind of text left out in turn, its chances by place predicted by the mean of the pair's others.

    Only kinds of text at one temperature are held against each other, and published measurements alone: what was
    reckoned back rests on an assumption that all of a pair's kinds of text share.
    """

    def pair(one: AcceptanceProfile) -> tuple[str, float]:
        return one.title, -1.0 if one.temperature is None else one.temperature

    found = []
    for _, some in groupby(sorted((one for one in profiles if one.kind == "measured"), key=pair), key=pair):
        group = list(some)
        for one in group if len(group) > 1 else ():
            others = [over_places(other.conditional, drafted) for other in group if other is not one]
            predicted = tuple(map(fmean, zip(*others, strict=True)))
            measured = tokens_of(one.conditional, drafted)
            found.append(Transfer(one, len(others), measured, tokens_of(predicted, drafted)))
    return found


def over_kinds_of_text(file: Path, overrides: Sequence[str]) -> list[AcceptanceProfile]:
    """The acceptance of a scenario's own models over each kind of text that its stand-ins were not trained on.

    Raises `InputError` for a scenario without text.
    """
    if isinstance(load_fitting(file, overrides).scenario.workload, Lengths):
        expected = "conversations, as kinds of text are compared"
        raise InputError([Fault(str(file), "workload", "lengths alone", expected, "Choose a scenario with stand-ins.")])
    whole = ("workload.count=null", "workload.max_turns=null")
    return [
        own_profile(file, [*overrides, *whole, f"workload.conversations=conversations/{kind}.jsonl"])
        for kind in KINDS_OF_TEXT
    ]
