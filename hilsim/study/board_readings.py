"""Numbers that a measurement on a board, a link or a power meter gives, and what the cost model expects of them.

A reading is one number, or those of one session; each is a function of a setup, by the functions that time a simulated
step: the figures that it rests on, whichever they are, are measured together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from hilsim.cost.between import Between
from hilsim.cost.step import Step
from hilsim.cost.timer import between_steps, network_ns, timer_for
from hilsim.cost.wire import wire_ns
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.study.step_classes import reference_steps
from hilsim.units import ms, ns

PING_BYTES = 64


@dataclass(frozen=True)
class BoardReading:
    """What to measure and where, the unit of its numbers, how to get them, and what a setup predicts for each."""

    what: str
    where: str
    unit: str
    how: str
    parts: tuple[Callable[[Setup], float], ...]

    def of(self, setup: Setup) -> tuple[float, ...]:
        """The numbers that a setup predicts."""
        return tuple(part(setup) for part in self.parts)


def board_readings(setup: Setup) -> list[BoardReading]:
    """Everything that could be measured of a scenario: steps of both roles, networks, the link, power."""
    roles = [role for role in ("target", "draft") if getattr(setup, role) is not None]
    steps = (step_readings(setup, role) for role in roles)
    links = () if setup.link is None else link_readings(setup.link)
    found = chain(*steps, network_readings(setup), links, power_readings(setup))
    return list({(one.what, one.where): one for one in found}.values())  # two roles on one unit: one graph switch


def step_readings(setup: Setup, role: str) -> Iterator[BoardReading]:
    """A decode step, a prompt, of the target a verify; all of them in one session; and what passes between steps."""
    placed: Placed = getattr(setup, role)
    context, chip, track = setup.scenario.context_tokens, placed.chip.name, placed.track
    known = reference_steps(setup, role)
    prompt = known["prompt"].rows
    steps = {
        "decode step": (known["decode"], "--rows 1", "llama-bench -n 128"),
        f"prompt of {prompt} tokens": (known["prompt"], f"--prompts {prompt}", f"llama-bench -p {prompt}"),
    }
    rows = known["verify"].rows if "verify" in known else 1
    if "verify" in known:
        steps[f"verify of {rows} rows"] = (known["verify"], f"--rows {rows}", "")
    for what, (step, option, bench) in steps.items():
        log = f" or give `hilsim import` a log of `{bench}` or of the chip's own tool," if bench else ""
        how = f"Run `hilsim agent` on {chip} and `hilsim profile {option}` here,{log} then `hilsim calibrate`."
        yield BoardReading(f"{what} of {placed.model.name}", track, "ms", how, (step_ms(role, step),))
    every = f"--rows 1,{rows}" if len(steps) > 2 else "--rows 1"
    yield BoardReading(
        f"{', '.join(steps)} of {placed.model.name}, together", track, "ms",
        f"Run `hilsim agent` on {chip} and `hilsim profile {every} --prompts {prompt}` here, then `hilsim calibrate`.",
        tuple(step_ms(role, step) for step, _, _ in steps.values()),
    )  # fmt: skip

    def between(other: Setup) -> Between:
        return between_steps(timer_for(getattr(other, role), context))

    yield BoardReading(
        "graph switch", track, "ms",
        "Time two compiled graphs in turn and each of them alone; enter the difference as graph_switch "
        "(docs/between_passes.md).",
        (lambda other: ms(between(other).switch_ns),),
    )  # fmt: skip
    yield BoardReading(
        "waking up after a pause", track, "ms",
        "Time a step after a second without work and one right after it; enter the difference as power_up.",
        (lambda other: ms(between(other).wake_ns),),
    )  # fmt: skip


def step_ms(role: str, step: Step) -> Callable[[Setup], float]:
    """The time of a step of a role under a setup, in milliseconds."""
    return lambda setup: ms(timer_for(getattr(setup, role), setup.scenario.context_tokens).duration_ns(step))


def network_readings(setup: Setup) -> Iterator[BoardReading]:
    """A pass of each network beside the language model."""

    def pass_ms(number: int) -> Callable[[Setup], float]:
        return lambda other: ms(network_ns(other.networks[number]))

    for number, network in enumerate(setup.networks):
        how = "Take the time from trtexec, QNN's profile or AI Hub, and give the log to `hilsim import`."
        yield BoardReading(f"pass of {network.placement.name}", network.track, "ms", how, (pass_ms(number),))


def link_readings(link: Link) -> Iterator[BoardReading]:
    """A small message's way, and what a large one gets through."""

    def one_way_us(other: Setup) -> float:
        assert other.link is not None, "the same scenario"
        return (wire_ns(other.link, PING_BYTES) + ns(other.link.propagation.si)) / 1000

    def rate_gb_s(other: Setup) -> float:
        assert other.link is not None, "the same scenario"
        return other.link.rate.si / 1e9

    yield BoardReading(
        "small message, one way", link.name, "us",
        f"`ping` over this link, or time a copy of {PING_BYTES} bytes there and back; enter half of it.", (one_way_us,),
    )  # fmt: skip
    yield BoardReading(
        "rate of large messages", link.name, "GB/s",
        "Run `iperf3` over this link, or time a copy of 64 MiB where it has no network interface.", (rate_gb_s,),
    )  # fmt: skip


def power_readings(setup: Setup) -> Iterator[BoardReading]:
    """Of every chip the power at rest, of every unit in use what load adds to it."""

    def rest_w(chip: str) -> Callable[[Setup], float]:
        return lambda other: other.chips[chip].idle_power.si

    def load_w(chip: str, unit: str) -> Callable[[Setup], float]:
        return lambda other: other.chips[chip].units[unit].active_power.si

    for chip in setup.chips:
        how = "Read the board's power meter while nothing runs."
        yield BoardReading("power at rest", chip, "W", how, (rest_w(chip),))
    for chip, unit in dict.fromkeys((one.chip.name, one.unit_name) for one in (setup.target, setup.draft) if one):
        how = "Read the board's power meter during `hilsim profile`, and subtract the power at rest."
        yield BoardReading("power that load adds", f"{chip}.{unit}", "W", how, (load_w(chip, unit),))
