"""The table scenario with faults, a fault of every kind, and what must hold of every run with some."""

from __future__ import annotations

from pathlib import Path

from hilsim.describe.setup import Setup
from hilsim.sim.run import simulate
from hilsim.sim.trace import FaultRecord, Trace
from hilsim.sources.synthetic import RIGHT
from tests.scenes import synthetic, table_setup

# Of every kind one that hits, with what it needs; instants and durations are the tests' own.
FAULTS = {
    "link_drop": "{kind: link_drop, for_ms: FOR, WHEN}",
    "link_delay": "{kind: link_delay, delay_ms: 33, for_ms: FOR, WHEN}",
    "loss": "{kind: loss, rate: 0.5, burst: 3, for_ms: FOR, WHEN}",
    "bit_errors": "{kind: bit_errors, rate: 0.01, for_ms: FOR, WHEN}",
    "partial_outage": "{kind: partial_outage, share: 0.1, for_ms: FOR, WHEN}",
    "duplicate": "{kind: duplicate, WHEN}",
    "late": "{kind: late, delay_ms: 30, WHEN}",
    "reset": "{kind: reset, where: CHIP, reload_ms: 70, WHEN}",
    "hang": "{kind: hang, where: CHIP, reload_ms: 70, WHEN}",
    "slow": "{kind: slow, where: CHIP, factor: 3, for_ms: FOR, WHEN}",
    "memory": "{kind: memory, where: CHIP, megabytes: 1, reload_ms: 70, for_ms: FOR, WHEN}",
    "lost": "{kind: lost, where: draft, WHEN}",
    "clock_jump": "{kind: clock_jump, where: CHIP, jump_ms: 300, reload_ms: 70, WHEN}",
    "wrong_row": "{kind: wrong_row, where: draft, WHEN}",
}
WHENS = [
    "at_ms: 0", "at_ms: [137, 733]", "per_hour: 20000", "on: {phase: prefill}", "on: {phase: draft, round: 1}",
    "on: {phase: up, request: 0}", "on: {phase: verify, request: 1}", "on: {phase: down, round: 2}",
    "on: {phase: idle, request: 1}",
]  # fmt: skip


def fault(kind: str, when: str, *, for_ms: float = 80, chip: str = "draft") -> str:
    """A fault as a scenario writes it."""
    return FAULTS[kind].replace("WHEN", when).replace("FOR", str(for_ms)).replace("CHIP", chip)


def with_faults(folder: Path, faults: str, *overrides: str, reaction: str = "{}") -> Setup:
    """The table scenario with faults."""
    return table_setup(folder, f"faults={{inject: [{faults}], reaction: {reaction}}}", *overrides)


def run(setup: Setup) -> Trace:
    return simulate(setup, synthetic(setup))


def calm(setup: Setup) -> Trace:
    return run(setup.without_faults)


def only(trace: Trace) -> FaultRecord:
    (record,) = trace.faults
    return record


def text_is_right(trace: Trace) -> bool:
    """The synthetic source's target emits one token always."""
    return all(token == RIGHT for closed in trace.rounds for token in closed.tokens)


def check_records(trace: Trace) -> None:
    """Instants in their order, and nothing after the end."""
    for record in trace.faults:
        reached = [record.began_ns, record.hit_ns, record.detected_ns, record.reacted_ns, record.recovered_ns]
        known = [instant for instant in reached if instant >= 0]
        assert known == sorted(known), record
        assert reached[2] < 0 or record.hits
        assert reached[3] < 0 or reached[2] >= 0
        assert reached[4] < 0 or reached[3] >= 0
