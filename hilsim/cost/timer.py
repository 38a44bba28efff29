"""Step timers: one question, `duration_ns(step)`; answered from a chip's figures or from a typed-in table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from hilsim.cost.between import Between, Graph, between_of
from hilsim.cost.extra import expanded_seconds, extra_at
from hilsim.cost.network import network_seconds
from hilsim.cost.step import Phase, Step, StepCost, duration_ns, graphs_run, passes, step_costs
from hilsim.describe.chip import Unit
from hilsim.describe.compiled import Extra
from hilsim.describe.model import Model
from hilsim.describe.placement import TableTimer
from hilsim.describe.setup import AS_PREDICTED, Placed, PlacedNetwork, StepFactors
from hilsim.units import NS_PER_MS, ns, whole_ns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
StepKey = tuple[Phase, int, int, int, bool, int]
NEAR = 64  # fills of the cache whose steps are timed together, once a second one of them is asked for


class StepTimer(Protocol):
    """How long a step takes on one unit with one model."""

    def duration_ns(self, step: Step) -> int:
        """Whole nanoseconds; the same step always takes the same time."""
        ...

    def width(self, step: Step) -> int:
        """Rows computed, padding included, over all executions of the step."""
        ...


class Roofline:
    """Times from bytes and operations over the unit's rates; remembers steps it has seen, and their neighbours."""

    def __init__(
        self,
        model: Model,
        unit: Unit,
        precision: str,
        widths: tuple[int, ...] | None,
        context: int,
        extras: tuple[tuple[int, Extra], ...] = (),
        factors: StepFactors = AS_PREDICTED,
        beside_s: float = 0.0,
    ):
        """`beside_s` seconds come on top of every pass, whatever its rows."""
        self.model, self.unit, self.precision = model, unit, unit.precisions[precision]
        self.precision_name = precision
        self.widths, self.context, self.extras, self.factors = widths, context, extras, factors
        self.beside_s = beside_s
        self._known: dict[StepKey, tuple[int, int]] = {}  # nanoseconds and bytes
        self._begun: set[StepKey] = set()  # the same with `cached` over NEAR: neighbours of which one is known
        self._boundaries: dict[StepKey, tuple[int, ...]] = {}

    def costs(self, step: Step) -> list[StepCost]:
        """The executions of a step with their parts, for reports."""
        costs = step_costs(self.model, self.unit, self.precision, step, self.widths, self.context)
        if self.extras or self.beside_s:
            extra = [self.beside_s + extra_at(self.extras, cost.width, self.unit, self.precision) for cost in costs]
            costs = [replace(cost, extra_s=extra_s) for cost, extra_s in zip(costs, extra, strict=True)]
        factor = self.factor(step)
        return costs if factor == 1 else [replace(cost, factor=factor) for cost in costs]

    def factor(self, step: Step) -> float:
        """How many times as long as predicted a step takes."""
        if step.phase.reads:
            return self.factors.prompt
        return self.factors.decode if step.rows == 1 or step.phase is Phase.DRAFT else self.factors.verify

    def duration_ns(self, step: Step) -> int:
        return self.known(step)[0]

    def nbytes(self, step: Step) -> int:
        """Bytes that a step moves through the memory."""
        return self.known(step)[1]

    def known(self, step: Step) -> tuple[int, int]:
        """Nanoseconds and bytes of a step."""
        key = self.key(step)
        found = self._known.get(key)
        if found is None:
            near = (*key[:2], key[2] // NEAR, *key[3:])
            if self.widths is None and near in self._begun:
                self.know_neighbours(step, key)
                return self._known[key]
            self._begun.add(near)
            costs = self.costs(step)
            found = self._known[key] = duration_ns(costs), round(sum(cost.nbytes for cost in costs))
        return found

    def know_neighbours(self, step: Step, key: StepKey) -> None:
        """Remember a step at NEAR fills of the cache, among them its own."""
        import numpy as np  # here, as a check needs none

        fills = np.arange(NEAR) + key[2] // NEAR * NEAR
        cost = self.over(step, fills)
        times, sizes = times_ns(cost, NEAR).tolist(), np.rint(cost.nbytes + np.zeros(NEAR)).tolist()
        for fill, took, nbytes in zip(fills.tolist(), times, sizes, strict=True):
            self._known[*key[:2], fill, *key[3:]] = took, int(nbytes)

    def key(self, step: Step) -> StepKey:
        """What tells a step from others. With fixed graphs the fill of the cache does not matter."""
        cached = 0 if self.widths is not None else step.cached
        return step.phase, step.rows, cached, step.sequences, step.tree, step.wanted

    def over(self, step: Step, cached: Ints) -> StepCost:
        """The cost of such a step where any width runs, with arrays over fills of the cache for what depends on it."""
        (cost,) = self.costs(replace(step, cached=cached))  # type: ignore[arg-type]  # arithmetic that arrays do as well
        return cost

    def width(self, step: Step) -> int:
        return step.rows if self.widths is None else sum(width for _, width in passes(step.rows, self.widths))

    def boundaries(self, step: Step) -> tuple[int, ...]:
        """Nanoseconds after which each of a step's graphs is over; those of a pass take equal parts of its time.

        A unit that takes any number of rows runs a pass as a whole.
        """
        if self.widths is None:
            return (self.duration_ns(step),)
        key = self.key(step)
        known = self._boundaries.get(key)
        if known is None:
            known = self._boundaries[key] = tuple(self.ends(step))
        return known

    def ends(self, step: Step) -> list[int]:
        """`boundaries` on a unit of fixed graphs."""
        pieces = graphs_run(self.model, self.unit, self.precision)
        ends, begun = [], 0
        for cost in self.costs(step):
            took = ns(cost.seconds)
            ends += [begun + took * piece // pieces for piece in range(1, pieces + 1)]
            begun += took
        return ends

    def graphs(self, step: Step) -> tuple[Graph, ...]:
        """The graphs of a step's passes in order, neighbours that are the same once; none where any width runs."""
        if self.widths is None:
            return ()
        widths = dict.fromkeys(width for _, width in passes(step.rows, self.widths))  # the widest come first
        return tuple(Graph(self.model.name, self.precision_name, width) for width in widths)


class TabulatedTimer:
    """Times typed in by hand: the entry for the next row count up; longer prompts take several of the widest."""

    def __init__(self, table: TableTimer):
        self.prefill = {int(rows): round(value * NS_PER_MS) for rows, value in sorted_rows(table.prefill)}
        self.decode_ns = round(table.decode * NS_PER_MS)
        self.verify = {int(rows): round(value * NS_PER_MS) for rows, value in sorted_rows(table.verify)}

    def entries(self, step: Step) -> dict[int, int]:
        """The part of the table that a step is looked up in; one row is always a decode step."""
        if step.phase.reads:
            return self.prefill
        if step.rows == 1 or not self.verify:
            return {1: self.decode_ns}
        return {1: self.decode_ns, **self.verify}

    def duration_ns(self, step: Step) -> int:
        entries = self.entries(step)
        return sum(entries[width] for _, width in passes(step.rows, tuple(entries)))

    def width(self, step: Step) -> int:
        return sum(width for _, width in passes(step.rows, tuple(self.entries(step))))


def sorted_rows(table: dict[str, float]) -> list[tuple[str, float]]:
    """Entries by rising row count."""
    return sorted(table.items(), key=lambda item: int(item[0]))


def durations_ns(timer: StepTimer, phase: Phase, rows: int, cached: Ints) -> Ints:
    """`duration_ns` of steps of so many rows for many fills of the cache at once, equal to the nanosecond."""
    import numpy as np  # here, as a check needs none

    if not isinstance(timer, Roofline) or timer.widths is not None:  # the fill does not matter
        return np.full_like(cached, timer.duration_ns(Step(phase, rows, 0)))
    return times_ns(timer.over(Step(phase, rows, 0), cached), len(cached))


def times_ns(cost: StepCost, fills: int) -> Ints:
    """Whole nanoseconds of a cost over so many fills of the cache."""
    import numpy as np  # here, as a check needs none

    return whole_ns(cost.added(np.maximum, np.minimum) + np.zeros(fills))


def timer_for(placed: Placed, context: int) -> StepTimer:
    """The timer that a placement asks for."""
    if placed.placement.timer is not None:
        return TabulatedTimer(placed.placement.timer)
    extras = () if placed.compiled is None else placed.compiled.extras
    copied = placed.placement.expanded_kv
    beside_s = expanded_seconds(placed.model, placed.unit, context) if copied else 0.0
    return Roofline(
        placed.model, placed.unit, placed.placement.precision, placed.widths, context, extras, placed.factors, beside_s
    )


def between_steps(timer: StepTimer) -> Between:
    """What the timer's unit costs between passes: nothing where times are typed in or measured, which include it."""
    return between_of(timer.unit) if isinstance(timer, Roofline) else Between()


def graphs_of(timer: StepTimer, step: Step) -> tuple[Graph, ...]:
    """The graphs that a step runs, as far as the timer knows them."""
    return timer.graphs(step) if isinstance(timer, Roofline) else ()


def bytes_of(timer: StepTimer, step: Step) -> int:
    """Bytes that a step moves through the memory; 0 where times are typed in or measured, of which none are known."""
    return timer.nbytes(step) if isinstance(timer, Roofline) else 0


def boundaries_of(timer: StepTimer, step: Step) -> tuple[int, ...]:
    """Nanoseconds after which each graph of a step is over; the last is the step's end."""
    return timer.boundaries(step) if isinstance(timer, Roofline) else (timer.duration_ns(step),)


def network_ns(network: PlacedNetwork) -> int:
    """Whole nanoseconds of one pass of a network beside the language model; 0 before the gate has measured it."""
    compiled = network.compiled
    if compiled is None or compiled.load is None:
        return 0
    unit, precision = network.unit, network.unit.precisions[network.precision]
    seconds = network_seconds(compiled.load, unit, precision) + extra_at(
        compiled.extras, compiled.rows, unit, precision
    )
    return ns(network.factor * seconds)


def network_bytes(network: PlacedNetwork) -> int:
    """Bytes that one pass of a network beside the language model moves: its parameters."""
    compiled = network.compiled
    if compiled is None or compiled.load is None:
        return 0
    return round(1e9 * compiled.load.params_b * network.unit.precisions[network.precision].weight_bits.si / 8)
