"""Evaluates one variant of a scenario, from overrides to measures; one that cannot run is refused with its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, HilsimError, InputError, first_line
from hilsim.measure.measures import measured
from hilsim.runs.replay import numbers_of, run_of
from hilsim.runs.run import Sources, run_both
from hilsim.sim.trace import Trace

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Refused:
    """Why a variant has no numbers."""

    error: HilsimError
    file: str  # of the scenario

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Everything that is wrong with the input; none where a compiler or a memory refuses it."""
        return self.error.faults if isinstance(self.error, InputError) else ()

    @property
    def found(self) -> str:
        """The first fault, without its place and remedy."""
        return self.faults[0].found if self.faults else first_line(self.error)

    @property
    def reason(self) -> str:
        """One line, without the name of the scenario, which all variants share."""
        if self.faults:
            texts = [f"{fault.place}: {fault.found}; expected {fault.expected}" for fault in self.faults]
            return "; ".join(text.removeprefix(": ") for text in texts)
        lines = [line.strip().removeprefix(f"{self.file}: ") for line in str(self.error).splitlines()]
        overfull = [line for line in lines if "too large" in line]
        return overfull[0] if overfull else " ".join(lines[:2])


def load_fitting(file: Path, overrides: Sequence[str]) -> Setup:
    """A scenario that compiles and fits. Raises `HilsimError`, without the remedies that `check` looks for."""
    setup = load_compiled(file, overrides)
    require_fit(setup)
    return setup


def require_fit(setup: Setup) -> None:
    """Raises `PlacementError` where something does not fit, without remedies, which take longer to find than a run."""
    PlacementVerdict(setup, ledgers(setup), ()).require()


def load_variant(file: Path, overrides: Sequence[str], *, fitting: bool = True) -> Setup | Refused:
    """A scenario that compiles and, if `fitting`, fits into memory; or why it does not."""
    try:
        return load_fitting(file, overrides) if fitting else load_compiled(file, overrides)
    except HilsimError as error:
        return Refused(error, str(file))


def evaluate(variant: Setup | Refused, *, sources: Sources | None = None, every: bool = False) -> Numbers | Refused:
    """The measures of a variant's run by name; `every` one of them, else those that fast timing has where it can run.

    With `sources`, tokens come from there and their caches; else live logits are recorded once and replayed.
    """
    if isinstance(variant, Refused):
        return variant
    try:
        if sources is None and not every:
            return numbers_of(variant)
        return measured(variant, ledgers(variant), *traces_of(variant, sources))
    except HilsimError as error:
        return Refused(error, variant.file)


def run_variant(variant: Setup | Refused) -> tuple[Trace, Trace] | Refused:
    """The traces of the target alone and of a variant's policy."""
    if isinstance(variant, Refused):
        return variant
    try:
        return run_of(variant)
    except HilsimError as error:
        return Refused(error, variant.file)


def traces_of(setup: Setup, sources: Sources | None) -> tuple[Trace, Trace]:
    """Traces of the target alone and of the policy, the same trace where the policy is `target_only`."""
    if sources is None:
        return run_of(setup)
    outcome = run_both(setup, sources.replaying(setup))
    return outcome.baseline, outcome.speculative or outcome.baseline
