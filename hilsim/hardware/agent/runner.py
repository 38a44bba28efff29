"""One model on the board: its engine, and the tokens that the engine's cache holds."""

from __future__ import annotations

import contextlib
import gc
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import index

from hilsim.hardware.agent.engine import Engine, EngineFacts, Output
from hilsim.hardware.agent.notes import note, note_exception, one_line
from hilsim.hardware.agent.output import EngineFault, checked_ns, named_tensor
from hilsim.hardware.agent.sensors import Sensors
from hilsim.hardware.wire.frames import Tensor, limits_fault

READING = ("prefill", "draft prefill")  # phases that read a prompt


@dataclass(frozen=True)
class RequestedStep:
    """A step request: all tokens up to the step's end, of which `cached` are there before it."""

    phase: str
    tokens: array[int]
    cached: int
    wanted: int
    want: str


@dataclass(frozen=True)
class Done:
    """The result of a step."""

    duration_ns: int
    prepared_rows: int
    prepare_ns: int
    energy_mj: float | None
    tensors: dict[str, Tensor]


class Runner:
    """Runs steps on an engine. It alone knows which tokens the cache holds."""

    def __init__(self, name: str, make: Callable[[], Engine]):
        self.name, self.make = name, make
        self.engine = make()
        self.facts: EngineFacts | None = None
        self._broken = False  # an engine that failed to load is made anew
        self._held: array[int] | None = array("i")  # None after a failure, when it is unknown

    def load(self) -> EngineFacts:
        """Make the model ready, once. Raises `EngineFault`."""
        if self.facts is None:
            with engine_faults(self.name):
                if self._broken:
                    self.engine = self.make()
                self._broken = True
                self.facts = checked_facts(self.engine.load())
                self._broken, self._held = False, array("i")
        return self.facts

    def reset(self) -> None:
        """Empty the cache."""
        with engine_faults(self.name):
            self._rewind(0)

    def step(self, step: RequestedStep, sensors: Sensors) -> Done:
        """Bring the cache to what the step starts from, then time the step alone. Raises `EngineFault`."""
        assert self.facts is not None
        with engine_faults(self.name):
            start_ns = time.perf_counter_ns()
            prepared_rows = self._prepare(step.tokens[: step.cached])
            prepare_ns = time.perf_counter_ns() - start_ns
            self._held = None  # known again only when all has gone well
            before = sensors.before()
            output, took_ns = self._timed(step)
            energy_mj = sensors.energy_mj(before, took_ns)
            duration_ns = checked_ns(output, took_ns)
            tensors = named_tensor(output, step.wanted, step.want, self.facts)
            self._held = step.tokens
        return Done(duration_ns, prepared_rows, prepare_ns, energy_mj, tensors)

    def _timed(self, step: RequestedStep) -> tuple[Output, int]:
        """One pass of the engine and how long it took.

        Python's collector of cycles is held back meanwhile: it runs after so many allocations, in whatever thread, and
        a run of it in one step of a hundred would look like a slow chip.
        """
        engine, rows = self.engine, step.tokens[step.cached :].tolist()
        reading = step.cached == 0 and step.phase in READING and step.wanted == 1
        collects = gc.isenabled()
        gc.disable()
        try:
            if reading:
                start_ns = time.perf_counter_ns()
                output = engine.prefill(rows)
                took_ns = time.perf_counter_ns() - start_ns
            else:
                start_ns = time.perf_counter_ns()
                output = engine.step(rows, step.wanted)
                took_ns = time.perf_counter_ns() - start_ns
        finally:
            if collects:
                gc.enable()
        if not isinstance(output, Output):
            raise EngineFault(f"a {type(output).__name__} from the engine; expected an Output")
        return output, took_ns

    def _prepare(self, tokens: array[int]) -> int:
        """Have exactly these tokens in the cache; how many had to be read for it."""
        if self._held is None:
            self._rewind(0)
        assert self._held is not None
        shared = shared_prefix(self._held, tokens)
        if shared < len(self._held):
            self._rewind(shared)
        missing = tokens[shared:].tolist()
        if missing:
            self._held = None
            if shared == 0:
                self.engine.prefill(missing)
            else:
                self.engine.step(missing, 1)
            self._held = tokens
        return len(missing)

    def _rewind(self, length: int) -> None:
        held, self._held = self._held, None
        self.engine.rewind(length)
        self._held = array("i") if held is None else held[:length]

    def close(self) -> None:
        """Release the device; failures are only noted on standard error."""
        with contextlib.suppress(EngineFault), engine_faults(self.name):
            self.engine.close()


@contextlib.contextmanager
def engine_faults(name: str) -> Iterator[None]:
    """Turn whatever the engine raises into `EngineFault`; the traceback goes to standard error.

    Output that is invalid, such as logits that are not finite, is one line there.
    """
    try:
        yield
    except EngineFault as fault:
        note(f"engine of {name}: {one_line(fault)}")
        raise
    except (Exception, SystemExit) as error:
        note_exception()
        message = one_line(error)
        raise EngineFault(f"{type(error).__name__}: {message}" if message else type(error).__name__) from error


def checked_facts(facts: EngineFacts) -> EngineFacts:
    """Facts in plain Python numbers. Refuses those that nothing could be computed with."""
    if not isinstance(facts, EngineFacts):
        raise EngineFault(f"a {type(facts).__name__} from load; expected EngineFacts")
    try:
        vocabulary, context = index(facts.vocabulary), index(facts.context)
        widths = None if facts.widths is None else tuple(index(width) for width in facts.widths)
    except TypeError as error:
        found = f"a vocabulary of {facts.vocabulary!r:.50}, a context of {facts.context!r:.50}, widths"
        raise EngineFault(f"{found} {facts.widths!r:.100}; expected whole numbers ({error})") from None
    if fault := limits_fault(vocabulary, context, widths):
        raise EngineFault(f"{fault.found}, expected {fault.expected}")
    for digest in (facts.tokenizer, facts.digest):
        if digest is not None and (not isinstance(digest, str) or len(digest) > 200):
            raise EngineFault(f"a digest {digest!r:.100}; expected a short text or None")
    return replace(facts, vocabulary=vocabulary, context=context, widths=widths, logits=bool(facts.logits))


def shared_prefix(held: array[int], tokens: array[int]) -> int:
    """How many tokens two sequences have in common at their start; whole stretches are compared at a time."""
    most = min(len(held), len(tokens))
    if held[:most] == tokens[:most]:
        return most
    low, high = 0, most  # the first difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if held[low:middle] == tokens[low:middle]:
            low = middle
        else:
            high = middle
    return low
