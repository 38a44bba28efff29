"""What one execution of other work asks of a unit: nanoseconds, and bytes that move through the memory meanwhile."""

from __future__ import annotations

from hilsim.cost.network import network_seconds
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.cockpit import BackgroundTask, Demand, Shape
from hilsim.describe.compiled import NetworkLoad
from hilsim.units import GIGA, MEGA, NS_PER_S, ns


def priced(demand: Demand, unit: Unit) -> tuple[int, int]:
    """Nanoseconds of one execution on a unit with nothing else on the chip, and the bytes that it moves.

    A shape reads its parameters once, as its precision stores them. Activations stay in the unit: their bytes are
    among those that `megabytes` adds, if they are.
    """
    moved = round(demand.megabytes * MEGA)
    if demand.shape is None:
        assert demand.ms is not None, "a demand has a shape or a time"
        return ns(demand.ms / 1000), moved
    shape, precision = demand.shape, precision_of(demand, unit)
    load = NetworkLoad(shape.gmacs, shape.parameters_m / 1000, shape.operators)
    return ns(network_seconds(load, unit, precision)), parameter_bytes(shape, precision.weight_bits.si) + moved


def precision_of(demand: Demand, unit: Unit) -> Precision:
    """The precision at which a unit runs a shape."""
    return unit.precisions[demand.precision or unit.of_networks]


def parameter_bytes(shape: Shape, bits: float) -> int:
    """The parameters of a shape, stored at so many bits each."""
    return round(shape.parameters_m * MEGA * bits / 8)


def streamed_bytes(megabytes_per_s: float, took_ns: int) -> int:
    """Bytes that move in so long at a steady rate."""
    return round(megabytes_per_s * MEGA * took_ns / NS_PER_S)


def stream_demand(task: BackgroundTask) -> tuple[int, int]:
    """Nanoseconds for which a stream moves bytes in each of its periods, and the bytes."""
    assert task.gigabytes_per_s is not None, "a task has work or a rate"
    took_ns = ns(task.duty * task.period_ms / 1000)
    return took_ns, round(task.gigabytes_per_s * GIGA * took_ns / NS_PER_S)
