"""A profile: how long steps of many shapes take on a board, asked for one by one in an order that does not favour any.

Rounds go over the whole grid again and again, so that a board that warms up, or another's program, does not fall on one
shape alone. The fill of the cache falls within a round, so that next to nothing has to be read again; rows go to and
fro, so that a step follows on one of about its size; and models take turns, as they do in speculation, so that none
finds its weights in a cache that the other would have emptied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np

from hilsim.cost.step import Phase
from hilsim.hardware.recordings.entries import Entry, Use
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepExecutor, StepRequest, StepResult

ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128)
PROMPTS = (16, 32, 64, 128, 256, 512)
# Of the context.
FILLS = (0, 1 / 16, 1 / 4, 3 / 4)
LONGEST = 2**17  # positions; what a context beyond it would take a board is asked for by --cached alone
SEED = 1
READING = tuple(phase.value for phase in Phase if phase.reads)


class Shape(NamedTuple):
    """Steps that should take one time: `rows` positions after `cached`, a prompt's or others."""

    model: str
    reading: bool
    rows: int
    cached: int


@dataclass(frozen=True)
class ProfileGrid:
    """What is asked of every model; what is None follows from its context and its compiled widths."""

    rows: tuple[int, ...] | None = None
    cached: tuple[int, ...] | None = None
    prompts: tuple[int, ...] | None = None

    def shapes(self, facts: ModelFacts) -> list[Shape]:
        """The shapes of one model in the order of a round; prompts are read into an empty cache and a half full one."""
        cached = self.cached or tuple(int(share * min(facts.context, LONGEST)) for share in FILLS)
        rows = self.rows or facts.widths or ROWS
        prompts = self.prompts or widths_read(facts) or PROMPTS
        falling = sorted({fill for fill in cached if fill < facts.context}, reverse=True)
        found = []
        for number, fill in enumerate(falling):
            to_and_fro = sorted(set(rows), reverse=number % 2 == 0)
            found += [Shape(facts.name, False, count, fill) for count in to_and_fro]
        for fill in sorted({falling[(len(falling) - 1) // 2], 0} if falling else (), reverse=True):
            found += [Shape(facts.name, True, count, fill) for count in sorted(set(prompts), reverse=True)]
        return [shape for shape in found if shape.rows + shape.cached <= facts.context]


@dataclass(frozen=True)
class TimedShape:
    """A shape and its measured times."""

    shape: Shape
    all_ns: tuple[int, ...]

    @property
    def median_ns(self) -> float:
        return median(self.all_ns)

    @property
    def scatter(self) -> float:
        """The interquartile range as a share of the median; 0 of a single time."""
        if len(self.all_ns) < 2:
            return 0.0
        low, _, high = quantiles(self.all_ns, n=4, method="inclusive")
        return (high - low) / self.median_ns


def widths_read(facts: ModelFacts) -> tuple[int, ...] | None:
    """Prompts of a model of compiled widths: each graph but the one of a single row, and the widest twice."""
    if facts.widths is None:
        return None
    return (*(width for width in facts.widths if width > 1), 2 * facts.widths[-1])


def asks(facts: Sequence[ModelFacts], grid: ProfileGrid) -> list[StepRequest]:
    """One round: every shape of every model, the models in turns."""
    shapes = {known.name: grid.shapes(known) for known in facts}
    tokens = {
        known.name: random_tokens(known, max((one.rows + one.cached for one in shapes[known.name]), default=0))
        for known in facts
    }
    turns = zip_longest(*shapes.values())
    return [ask_of(shape, tokens[shape.model]) for turn in turns for shape in turn if shape is not None]


def random_tokens(facts: ModelFacts, count: int) -> tuple[int, ...]:
    """So many tokens, of any: what a dense network takes does not depend on their values."""
    return tuple(np.random.default_rng(SEED).integers(0, facts.vocabulary, count).tolist())


def ask_of(shape: Shape, tokens: tuple[int, ...]) -> StepRequest:
    """A shape as a step; of a prompt the last row is wanted, else all."""
    phase = Phase.PREFILL if shape.reading else Phase.DECODE if shape.rows == 1 else Phase.VERIFY
    wanted = 1 if shape.reading else shape.rows
    return StepRequest(shape.model, phase.value, tokens[: shape.cached + shape.rows], shape.cached, wanted, "nothing")


def swept(
    chip: StepExecutor, one_round: Sequence[StepRequest], *, warm_up: int, repeats: int
) -> Iterator[tuple[Use, StepRequest, StepResult | AgentFault]]:
    """Every step of all rounds as it ends; the first `warm_up` rounds are to be thrown away. Ends at a fault."""
    for number in range(warm_up + repeats):
        use: Use = "warm-up" if number < warm_up else "profile"
        for ask in one_round:
            try:
                yield use, ask, chip.execute(ask)
            except AgentFault as fault:
                yield use, ask, fault
                return


def taken(entries: Iterable[Entry]) -> list[TimedShape]:
    """What every shape of a recording took, whatever it was executed for; warm-up runs do not count."""
    found: dict[Shape, list[int]] = defaultdict(list)
    for entry in entries:
        if entry.duration_ns is not None and entry.use != "warm-up":
            shape = Shape(entry.model, entry.phase in READING, entry.rows, entry.cached)
            found[shape].append(entry.duration_ns)
    return [TimedShape(shape, tuple(all_ns)) for shape, all_ns in sorted(found.items())]
