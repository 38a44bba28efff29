"""Speed-up over the bandwidth and the latency of a link, for every kind of payload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.study.grids import GREEDY, GUMBEL, RATIO_ROWS, RATIO_TOP_K
from hilsim.study.sweeps import Place, Rows, SweepPoint, best_length, crossing
from hilsim.study.what_ifs import with_link

COLD = ("sampling={temperature: 0.0}", "accept=greedy", "payload=token_ids")


def link_maps(
    file: Path,
    overrides: Sequence[str],
    temperature: float,
    bandwidths: Sequence[float],
    latencies: Sequence[float],
    lengths: Sequence[int],
) -> dict[str, Rows]:
    """By payload a row a latency (ms) with a point a bandwidth (MB/s), each at its best draft length."""
    sampling = f"sampling.temperature={temperature:g}"
    changes = {rule.name: (sampling, *rule.overrides) for rule in (RATIO_ROWS, RATIO_TOP_K, GUMBEL)}
    changes |= {GREEDY.name: COLD}
    variants = {name: load_variant(file, [*overrides, *sets]) for name, sets in changes.items()}
    maps: dict[str, Rows] = {name: [] for name in variants}
    grid = [(name, latency) for name in variants for latency in latencies]
    for name, latency in counting("latencies", grid, len(grid)):
        maps[name].append([over_link(name, variants[name], bandwidth, latency, lengths) for bandwidth in bandwidths])
    return maps


def over_link(
    name: str, variant: Setup | Refused, mb_s: float, latency_ms: float, lengths: Sequence[int]
) -> SweepPoint:
    """The best length of a payload over one link."""
    place: Place = {"payload": name, "mb_s": mb_s, "latency_ms": latency_ms}
    made = variant if isinstance(variant, Refused) else with_link(variant, mb_s * 1e6, latency_ms / 1000)
    return best_length(place, made, lengths)


def nearest(values: Sequence[float], wanted: float) -> int:
    """Place of the value that lies next to one."""
    return min(range(len(values)), key=lambda place: abs(values[place] - wanted))


def slowest(row: Sequence[SweepPoint], bandwidths: Sequence[float], gain: float) -> float | None:
    """The bandwidth (MB/s) from which on so much is gained; None where at none."""
    return crossing(bandwidths, [point.speedup for point in row], gain, log=True)
