"""What passengers wait for after ignition, before a chip can answer: its models are loaded, then each one's first pass.

    cold start = bytes of the models / flash rate + start-up of the runtime + what the first pass takes beyond the next
    warm start = the same without reading: the files are still in the system's memory

Models of one chip are loaded one after another (as in `memory.py`), those of two chips at once; networks of a spoken
turn's stages are as good as read, while background tasks run already. A figure that a chip's description lacks counts
as no time, and is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hilsim.cost.memory import embedding_bytes, graph_copies, shape_items, stage_shapes, weight_bytes
from hilsim.describe.chip import Chip
from hilsim.describe.cockpit import Swap
from hilsim.describe.figure import Figure
from hilsim.describe.setup import Placed, Setup
from hilsim.units import MEGA, ns

START = ("flash_rate", "start_up", "first_pass")  # figures that no run's times rest on, as it begins after them


@dataclass(frozen=True)
class Seconds:
    """A time as the figures stand, and the least and the most over their ranges."""

    value: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.value + other.value, self.least + other.least, self.most + other.most)

    def __str__(self) -> str:
        span = f" ({self.least:.3g} to {self.most:.3g})" if self.least < self.most else ""
        return f"{self.value:.3g}{span} s"

    @staticmethod
    def of(figure: Figure | None) -> Seconds:
        """A duration; nothing where it is absent."""
        return Seconds() if figure is None else Seconds(figure.si, *figure.ends)


@dataclass(frozen=True)
class StartUp:
    """One chip's start with its models, of which `nbytes` are read from flash; `missing` figures count as no time."""

    chip: str
    nbytes: int
    cold_s: Seconds
    warm_s: Seconds
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lacking = f"; not counted, as the chip's file does not say: {', '.join(self.missing)}" if self.missing else ""
        return (
            f"{self.chip} is ready {self.cold_s} after a cold start, in which it reads {self.nbytes / 1e9:.3g} GB from "
            f"flash, and {self.warm_s} after a warm one{lacking}"
        )


def start_ups(setup: Setup) -> list[StartUp]:
    """The start of every chip in use that describes one."""
    found = []
    for name, chip in setup.chips.items():
        models = [placed for placed in setup.roles.values() if placed.chip.name == name]
        # A role's chip may be in another mode than the one it shares a name with.
        chip = models[0].chip if models else chip
        beside = sum(item.bytes for item in shape_items(stage_shapes(setup.scenario.speech, name), chip))
        if (models or beside) and (start := start_up(chip, models, beside)) is not None:
            found.append(start)
    return found


def start_up(chip: Chip, models: Sequence[Placed], beside: int = 0) -> StartUp | None:
    """The start of one chip with these models, and so many bytes of other networks.

    None where its description has no figure of it.
    """
    warm = Seconds()
    figures: dict[str, Figure | None] = {"flash_rate": chip.flash_rate}
    for placed in models:
        own = {f"{placed.unit_name}.{name}": getattr(placed.unit, name) for name in START[1:]}
        figures |= own
        warm = sum(map(Seconds.of, own.values()), warm)
    if not any(figures.values()):
        return None
    nbytes, rate = beside + sum(map(flash_bytes, models)), chip.flash_rate
    reading = Seconds() if rate is None else Seconds(nbytes / rate.si, nbytes / rate.ends[1], nbytes / rate.ends[0])
    missing = tuple(name for name, figure in figures.items() if figure is None)
    return StartUp(chip.name, nbytes, warm + reading, warm, missing)


def swap_loads(setup: Setup, swap: Swap) -> dict[str, tuple[int, int]]:
    """Nanoseconds to load the target and a stage's network in place of each other, and the bytes of each.

    The target's runtime starts again each time; a stage's network is as good as read.
    """
    target = setup.target
    rate = target.chip.flash_rate
    bytes_per_s = swap.flash_mb_per_s * MEGA if swap.flash_mb_per_s is not None else 0.0 if rate is None else rate.si
    assert bytes_per_s, "a swap without a flash rate is refused"
    starting = sum(figure.si for figure in (target.unit.start_up, target.unit.first_pass) if figure is not None)
    target_bytes, stage_bytes = flash_bytes(target), round(swap.megabytes * MEGA)
    return {
        target.role: (ns(target_bytes / bytes_per_s + starting), target_bytes),
        swap.stage: (ns(stage_bytes / bytes_per_s), stage_bytes),
    }


def flash_bytes(placed: Placed) -> int:
    """What lies in flash of a model: its matrices once per graph that does not share them, and its embedding table."""
    return graph_copies(placed) * weight_bytes(placed) + embedding_bytes(placed)
