"""Temperature and energy, where the board offers them to this user; looked for once, then only read.

Energy of a pass comes from the first of two sources that is there:

- RAPL (Intel and AMD): counters of microjoules of every processor package. They move about once a millisecond, so a
  pass of two milliseconds is known to half, and the mean of many passes well. By default only root may read them.
- INA3221 (Jetson boards): volts times amperes of the board's input, or of all rails where it has no such channel. The
  energy is the mean of the power just before and just after the pass times the pass. The chip itself averages over tens
  of milliseconds: for shorter passes the figure is what the board draws during a run, not what one pass drew.

Both are the whole board or package, whatever else ran on it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

SLOW_NS = 1_000_000  # a file that takes longer to read is left alone
FRESH_NS = 500_000_000  # temperatures move slowly: one reading serves half a second
PLAUSIBLE_C = (-40.0, 150.0)  # a zone that is off reads nonsense


class Meter:
    """A file with one whole number, held open, as sysfs has them."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        return int(os.pread(self.descriptor, 64, 0))

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True)
class Package:
    """A counter of energy that starts again at 0 after `most_uj`."""

    energy_uj: Meter
    most_uj: int


@dataclass(frozen=True)
class Rail:
    """A channel with volts and amperes."""

    millivolt: Meter
    milliampere: Meter

    def milliwatt(self) -> float:
        return self.millivolt.read() * self.milliampere.read() / 1000


class Sensors:
    """What of this there is below `root`, which is /sys but in tests."""

    def __init__(self, root: Path = Path("/sys")):
        self.zones = [meter for path in sorted(root.glob("class/thermal/thermal_zone*/temp")) if (meter := quick(path))]
        self.packages = packages(root)
        self.rails = [] if self.packages else rails(root)
        self._temperature_c: float | None = None
        self._read_ns = -FRESH_NS

    def temperature_c(self) -> float | None:
        """The warmest zone."""
        now_ns = time.monotonic_ns()
        if self.zones and now_ns - self._read_ns >= FRESH_NS:
            self._temperature_c, self._read_ns = warmest(self.zones), now_ns
        return self._temperature_c

    def before(self) -> tuple[float, ...]:
        """What `energy_mj` needs to know from before a pass."""
        try:
            if self.packages:
                return tuple(package.energy_uj.read() for package in self.packages)
            return tuple(rail.milliwatt() for rail in self.rails)
        except (OSError, ValueError):
            return ()

    def energy_mj(self, before: tuple[float, ...], took_ns: int) -> float | None:
        """Energy since `before`, which was `took_ns` ago."""
        after = self.before()
        if not before or len(after) != len(before):
            return None
        if self.packages:
            used_uj = 0.0
            for then, now, package in zip(before, after, self.packages, strict=True):
                used_uj += now - then if now >= then else now - then + package.most_uj
            return round(used_uj / 1000, 6)
        return round((sum(before) + sum(after)) / 2 * took_ns / 1e9, 6)

    def close(self) -> None:
        """Close the files."""
        meters = [package.energy_uj for package in self.packages]
        meters += [meter for rail in self.rails for meter in (rail.millivolt, rail.milliampere)]
        for meter in [*self.zones, *meters]:
            meter.close()


def quick(path: Path) -> Meter | None:
    """A meter of a file that can be read, and fast; the better of two readings counts, as the first may wake a chip."""
    try:
        meter = Meter(path)
    except OSError:
        return None
    try:
        if min(reading_ns(meter) for _ in range(2)) <= SLOW_NS:
            return meter
    except (OSError, ValueError):
        pass
    meter.close()
    return None


def reading_ns(meter: Meter) -> int:
    """How long one reading takes."""
    start = time.perf_counter_ns()
    meter.read()
    return time.perf_counter_ns() - start


def warmest(zones: list[Meter]) -> float | None:
    """The highest plausible temperature."""
    found = []
    for zone in zones:
        try:
            found.append(zone.read() / 1000)
        except (OSError, ValueError):  # a zone may be switched off for a while
            continue
    plausible = [value for value in found if PLAUSIBLE_C[0] <= value <= PLAUSIBLE_C[1]]
    return max(plausible, default=None)


def packages(root: Path) -> list[Package]:
    """Counters of whole processor packages, without their parts (cores, memory) or the platform that they are in."""
    found = []
    for folder in sorted(root.glob("class/powercap/intel-rapl:*")):
        if folder.name.count(":") != 1 or not file_text(folder / "name").startswith("package"):
            continue
        most = file_text(folder / "max_energy_range_uj")
        if most.isdecimal() and (meter := quick(folder / "energy_uj")):
            found.append(Package(meter, int(most)))
    return found


def rails(root: Path) -> list[Rail]:
    """The input of a Jetson board, else all its rails."""
    found: list[tuple[str, Rail]] = []
    for folder in sorted(root.glob("class/hwmon/hwmon*")):
        if file_text(folder / "name") != "ina3221":
            continue
        for channel in "123":
            volts, amperes = quick(folder / f"in{channel}_input"), quick(folder / f"curr{channel}_input")
            if volts and amperes:
                found.append((file_text(folder / f"in{channel}_label"), Rail(volts, amperes)))
                continue
            for meter in (volts, amperes):
                if meter:
                    meter.close()
    whole = [rail for label, rail in found if label == "VDD_IN"]
    return whole or [rail for _, rail in found]


def file_text(path: Path) -> str:
    """The text of a small file without blanks at its ends, or ""."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
