"""Numbers that studies are made of: one name each, with its unit and which way is better. What they mean, and how each
is computed, stands in `metrics.py`; here they are only given names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hilsim.cost.memory import Ledger
from hilsim.describe.setup import Placed, Setup
from hilsim.measure.metrics import speculation, speedup, timing
from hilsim.measure.parts import LOSSES
from hilsim.sim.trace import Trace

Better = Literal["higher", "lower", ""]
STATISTICS = ("mean", "p50", "p90", "p99")
TIMES = (
    "time_to_first_token_ms", "time_to_first_clause_ms", "request_latency_ms", "time_per_output_token_ms",
    "inter_token_latency_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Everything that `metrics.py` says of a pair of runs."""

    setup: Setup
    ledgers: dict[str, Ledger]
    speedup: float
    timing: dict[str, Any]
    speculation: dict[str, Any] | None

    @property
    def link(self) -> dict[str, Any]:
        """The link's block, empty where nothing crosses one."""
        return next(iter(self.timing["links"].values()), {})

    def spoken(self, name: str) -> float | None:
        """A number of the speculation, or None where nobody drafts."""
        return None if self.speculation is None else self.speculation[name]


@dataclass(frozen=True)
class Measure:
    """A number of a run: its unit, and whether more or less of it is better, where one can say so."""

    name: str
    unit: str
    better: Better
    of: Callable[[Figures], float | None]


def _time(name: str, statistic: str) -> Callable[[Figures], float | None]:
    return lambda found: None if found.timing[name] is None else found.timing[name][statistic]


def _speculation(name: str) -> Callable[[Figures], float | None]:
    return lambda found: found.spoken(name)


def _link(name: str) -> Callable[[Figures], float | None]:
    return lambda found: found.link.get(name)


def _lost(cause: str) -> Callable[[Figures], float | None]:
    return lambda found: found.timing["lost_ms"][cause]


def _all() -> list[Measure]:
    found = [Measure("speedup", "times", "higher", lambda found: found.speedup)]
    found += [Measure(f"{name}.{part}", "ms", "lower", _time(name, part)) for name in TIMES for part in STATISTICS]
    found += [
        Measure("output_token_throughput", "tokens/s", "higher", lambda found: found.timing["output_token_throughput"]),
        Measure("energy_j", "J", "lower", lambda found: found.timing["energy_j"]),
        Measure("bytes_up", "bytes", "lower", _link("bytes_up")),
        Measure("bytes_down", "bytes", "lower", _link("bytes_down")),
        Measure("link_bytes", "bytes", "lower", lambda found: _both_ways(found.link)),
        Measure("link_busy", "share", "", _link("busy")),
        Measure("target_busy", "share", "", lambda found: _busy(found, found.setup.target)),
        Measure("draft_busy", "share", "", lambda found: _busy(found, found.setup.draft)),
        Measure("draft_acceptance_rate", "share", "higher", _speculation("draft_acceptance_rate")),
        Measure("mean_acceptance_length", "tokens", "higher", _speculation("mean_acceptance_length")),
        Measure("tokens_per_round", "tokens", "higher", _speculation("tokens_per_round")),
        Measure("target_memory_bytes", "bytes", "lower", lambda found: _held(found, found.setup.target)),
        Measure("draft_memory_bytes", "bytes", "lower",
                lambda found: _held(found, found.setup.draft)),
        Measure("memory_bytes", "bytes", "lower",
                lambda found: sum(ledger.used_bytes for ledger in found.ledgers.values())),
        Measure("memory_left_bytes", "bytes", "higher",
                lambda found: min(ledger.cap_bytes - ledger.used_bytes for ledger in found.ledgers.values())),
    ]  # fmt: skip
    return found + [Measure(f"lost_ms.{cause}", "ms", "lower", _lost(cause)) for cause in LOSSES]


def _both_ways(link: dict[str, Any]) -> float:
    """All bytes that crossed a link; none where there is no link to cross."""
    return float(link["bytes_up"] + link["bytes_down"]) if link else 0.0


def _busy(found: Figures, role: Placed | None) -> float | None:
    """The busy share of a role's unit, also with what else runs there."""
    share: float | None = None if role is None else found.timing["units"].get(role.track, {}).get("busy")
    return share


def _held(found: Figures, role: Placed | None) -> float | None:
    """Bytes of everything on a role's chip, also what is there for the other role."""
    return None if role is None else found.ledgers[role.chip.name].used_bytes


MEASURES = {measure.name: measure for measure in _all()}
HEADLINE = (
    "speedup", "time_to_first_clause_ms.p50", "request_latency_ms.mean", "output_token_throughput", "energy_j",
)  # fmt: skip


def measured(setup: Setup, ledgers: dict[str, Ledger], baseline: Trace, ours: Trace) -> dict[str, float | None]:
    """Every measure of the policy's run; None for what it does not have, such as acceptance where nobody drafts."""
    drafted = None if setup.scenario.policy.name == "target_only" else speculation(ours)
    found = Figures(setup, ledgers, speedup(baseline, ours), timing(ours, setup.chips, setup.link), drafted)
    values = {name: measure.of(found) for name, measure in MEASURES.items()}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
