"""The measures of a run, for studies and for the explorer: one table of names, units, directions and definitions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from hilsim.cost.memory import Ledger
from hilsim.describe.cockpit import UNHEARD
from hilsim.describe.setup import Placed, Setup
from hilsim.measure.formulas import PERCENTILES, STATISTICS
from hilsim.measure.metrics import speculation, speedup, timing
from hilsim.measure.parts import LOSSES
from hilsim.measure.turns import percentile_of, waits
from hilsim.sim.trace import Trace

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Measure:
    """A number of a run: its unit, whether higher or lower is better ("" where neither), and its definition by named
    instants. `screened`: whether fast timing gives it too.
    """

    name: str
    unit: str
    better: Better
    definition: str
    screened: bool = True


TIMES = (  # per request: mean and percentiles over the requests
    ("time_to_first_token_ms", "first token delivered - request arrived", True),
    ("time_to_first_clause_ms", "token that completes the first clause delivered - request arrived", True),
    ("request_latency_ms", "last token delivered - request arrived", True),
    ("time_per_output_token_ms", "(last token - first token delivered) / (tokens - 1)", True),
    ("inter_token_latency_ms",
     "gaps between delivered tokens; those of one verdict arrive together, so many are 0", False),
)  # fmt: skip
SPOKEN = (
    ("first_audio", "first audio - end of speech, infinite of questions refused or given up"),
    ("turn", "end of playback - end of speech"),
    ("gap", "the longest time without sound in the playback of a turn"),
    ("reaction", "silence - the passenger speaks up"),
)
TABLE = (
    Measure("speedup", "times", "higher", "request time of the target alone / with the policy, over all requests"),
    *(
        Measure(f"{name}.{part}", "ms", "lower", definition, screened)
        for name, definition, screened in TIMES
        for part in STATISTICS
    ),
    Measure("output_token_throughput", "tokens/s", "higher",
            "tokens / seconds in which at least one request was being answered"),
    Measure("energy_j", "J", "lower",
            "idle power of the chips in use over those seconds, active power over busy ones"),
    Measure("bytes_up", "bytes", "lower", "bytes sent towards the target's chip"),
    Measure("bytes_down", "bytes", "lower", "bytes sent towards the draft's chip"),
    Measure("link_bytes", "bytes", "lower", "bytes_up + bytes_down"),
    Measure("link_busy", "share", "", "share of those seconds in which a way of the link was occupied, mean over both"),
    Measure("target_busy", "share", "", "the same of the target's unit, including what else runs there", False),
    Measure("draft_busy", "share", "", "the same of the draft's unit", False),
    Measure("draft_acceptance_rate", "share", "higher", "accepted / drafted"),
    Measure("mean_acceptance_length", "tokens", "higher",
            "1 + accepted / drafts: every verify is counted with one token of the target's own"),
    Measure("tokens_per_round", "tokens", "higher",
            "tokens delivered / rounds, the target's own among them, without the round that reads the question and its "
            "first token; plain steps are rounds, and the last round counts the tokens up to the answer's end"),
    Measure("target_memory_bytes", "bytes", "lower", "memory in use on the target's chip", False),
    Measure("draft_memory_bytes", "bytes", "lower", "memory in use on the draft's chip", False),
    Measure("memory_bytes", "bytes", "lower", "memory in use on all chips in use"),
    Measure("memory_left_bytes", "bytes", "higher", "free memory on the chip with the least left"),
    *(Measure(f"lost_ms.{part}", "ms", "lower", "time of all requests spent on this (see `measure/parts.py`)", False)
      for part in LOSSES),
    *(Measure(f"{name}_ms.{part}", "ms", "lower", f"of spoken turns: {definition} (see `measure/turns.py`)", False)
      for name, definition in SPOKEN for part in STATISTICS),
    Measure("unheard", "share", "lower", "questions refused or given up / questions wanted", False),
    Measure("missed", "share", "lower", "deadlines missed / executions released, of the worst background task", False),
    Measure("throttled", "share", "lower", "time below full speed / time of the run, of the worst chip", False),
)  # fmt: skip
MEASURES = {measure.name: measure for measure in TABLE}
MEASURED = tuple(measure.name for measure in TABLE if measure.screened)
HEADLINE = (
    "speedup", "time_to_first_clause_ms.p50", "request_latency_ms.mean", "output_token_throughput", "energy_j",
)  # fmt: skip


def measured(setup: Setup, ledgers: dict[str, Ledger], baseline: Trace, ours: Trace) -> dict[str, float | None]:
    """Every measure of the policy's run; None where one does not apply, such as acceptance where nothing drafts."""
    block = timing(ours, setup.chips, setup.link)
    if setup.scenario.policy.name != "target_only":
        block |= speculation(ours)
    link: dict[str, Any] = next(iter(block["links"].values()), {})

    def busy(role: Placed | None) -> float | None:
        return None if role is None else block["units"].get(role.track, {}).get("busy")

    def held(role: Placed | None) -> float | None:
        return None if role is None else ledgers[role.chip.name].used_bytes

    block |= {
        "speedup": speedup(baseline, ours),
        "bytes_up": link.get("bytes_up"),
        "bytes_down": link.get("bytes_down"),
        "link_bytes": float(link["bytes_up"] + link["bytes_down"]) if link else 0.0,
        "link_busy": link.get("busy"),
        "target_busy": busy(setup.target),
        "draft_busy": busy(setup.draft),
        "target_memory_bytes": held(setup.target),
        "draft_memory_bytes": held(setup.draft),
        "memory_bytes": sum(ledger.used_bytes for ledger in ledgers.values()),
        "memory_left_bytes": min(ledger.cap_bytes - ledger.used_bytes for ledger in ledgers.values()),
    }
    if setup.scenario.company:
        block |= of_company(ours)
    values = {name: found_in(block, name) for name in MEASURES}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}


def of_company(trace: Trace) -> dict[str, Any]:
    """The measures of a run with passengers, speech, other work or heat."""
    found: dict[str, Any] = {}
    for name, values in waits(trace.turns).items():
        parts = {part: percentile_of(values, share) for part, share in PERCENTILES.items()}
        found[f"{name}_ms"] = parts | {"mean": sum(values) / len(values) if values else None}
    if trace.turns:
        found["unheard"] = sum(turn.outcome in UNHEARD for turn in trace.turns) / len(trace.turns)
    tasks = [task for task in trace.tasks.values() if task.released]
    found["missed"] = max((task.missed / task.released for task in tasks), default=None)
    lengths = [(tally.throttled_ns, sum(tally.level_ns)) for tally in trace.heat.values()]
    found["throttled"] = max((throttled / whole for throttled, whole in lengths if whole), default=None)
    return found


def found_in(block: dict[str, Any], name: str) -> float | None:
    """A number by its dotted name; None where the run does not have it."""
    value: Any = block
    for part in name.split("."):
        value = None if value is None else value.get(part)
    found: float | None = value
    return found
