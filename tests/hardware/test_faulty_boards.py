"""Faults that really happen to devices and a link: what comes of them has the simulation's order and times.

The devices are threads that sleep as long as a step takes; the link is two ends on loopback. A busy machine may make
anything late, so times have bounds that widen by how late it was seen to be; the order has none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import pytest
import simpy

from hilsim.describe.setup import Setup
from hilsim.errors import ScenarioError
from hilsim.hardware.agent.injected import Injection
from hilsim.hardware.distributed.boards import Devices
from hilsim.hardware.distributed.fault_doors import impossible_faults, with_restarts
from hilsim.hardware.distributed.fault_times import FaultPair, order_of, pairs_of
from hilsim.hardware.distributed.faulty_boards import faulty_boards
from hilsim.hardware.distributed.injected_link import USUAL, Fate
from hilsim.hardware.distributed.link_wires import LinkWire
from hilsim.hardware.distributed.wall import WallEnvironment
from hilsim.hardware.wire.exchange import AgentFault, StepRequest, StepResult
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.hardware.test_distributed import FACTS, QUICK, Counting, Sleeper
from tests.hardware.test_injected_link import Ends
from tests.scenes import MS, table_setup

RESTART_MS = 300
REACTION = "faults.reaction={timeout_ms: 120, backoff_ms: 60, backoff_factor: 1, watchdog_ms: 150, probe_ms: 100}"
IN_ROUND = "on: {phase: %s, request: 0, round: 1}"


@dataclass
class Breakable(Sleeper):
    """A chip that sleeps, and fares as an injection has it; a reset takes `RESTART_MS`."""

    injection: Injection = field(default_factory=Injection)
    back_s: float = 0.0  # when it is back, on the monotonic clock

    def execute(self, ask: StepRequest) -> StepResult:
        injection = self.injection
        injection.stand_still()
        began = time.perf_counter()
        found = super().execute(ask)
        injection.stretch(time.perf_counter() - began)
        injection.stand_still()
        if injection is not self.injection:
            raise AgentFault("died", "it was reset in between")
        return found


@dataclass
class SleeperDoor:
    """The door of such a chip. One that is `deaf` does nothing of what it is asked."""

    chip: Breakable
    deaf: bool = False

    def inject(self, fault: str, for_ms: float | None, factor: float | None = None) -> None:
        if not self.deaf:
            self.chip.injection.begin(fault, inf if for_ms is None else for_ms / 1000, factor or 1.0)

    def reset(self) -> None:
        before, self.chip.injection = self.chip.injection, Injection()
        before.begin("none", inf, 1.0)
        self.chip.back_s = time.monotonic() + RESTART_MS / 1000

    def await_return(self, model: str, within_s: float) -> None:
        time.sleep(max(0.0, self.chip.back_s - time.monotonic()))

    def close(self) -> None:
        pass


class Lateness:
    """How late the machine wakes a sleeping thread: the worst that was seen."""

    def __init__(self) -> None:
        self.worst_ns, self.ends = 0, threading.Event()

    def watch(self) -> None:
        while not self.ends.is_set():
            began = time.monotonic_ns()
            time.sleep(0.005)
            self.worst_ns = max(self.worst_ns, time.monotonic_ns() - began - 5 * MS)


@contextmanager
def lateness() -> Iterator[Lateness]:
    """Watch the machine meanwhile."""
    found = Lateness()
    watching = threading.Thread(target=found.watch)
    watching.start()
    try:
        yield found
    finally:
        found.ends.set()
        watching.join()


class Indifferent(LinkWire):
    """A wire whose ends do not know of injection: every message arrives."""

    def inject(self, env: WallEnvironment, nbytes: int, fate: Fate) -> tuple[int, simpy.Event, simpy.Event]:
        return super().inject(env, nbytes, USUAL)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends(injecting=True)
    yield made
    made.close()


def setup_of(folder: Path, *faults: str, policy: str = "{name: sync, draft_tokens: 4}", tokens: int = 21) -> Setup:
    """The table scenario with faults."""
    inject = f"faults.inject=[{', '.join(faults)}]"
    setup = table_setup(folder, *QUICK, REACTION, inject, f"policy={policy}", f"workload.output_tokens={tokens}")
    return with_restarts(setup, {"target": RESTART_MS * MS, "draft": RESTART_MS * MS})


def run(setup: Setup, ends: Ends, *, wire: type[LinkWire] = LinkWire, deaf: bool = False) -> tuple[Trace, Devices]:
    """The run on devices and over the link."""
    target, draft = ends.ends
    chips = {role: Breakable(role) for role in ("target", "draft")}
    doors = {role: SleeperDoor(chip, deaf) for role, chip in chips.items()}
    wires = {"up": wire(draft, target), "down": wire(target, draft)}
    devices = Devices({role: (chip, FACTS) for role, chip in chips.items()}, wires)
    try:
        return simulate(setup, devices.source(Counting()), boards=faulty_boards(devices, wires, doors)), devices
    finally:
        devices.close()


CASES = {
    "link_drop": "{kind: link_drop, where: up, ON, for_ms: 100}",
    "link_drop down": "{kind: link_drop, where: down, on: {phase: down, request: 0, round: 1}, for_ms: 100}",
    "outage of the link": "{kind: link_drop, where: link, ON, for_ms: 700}",
    "link_delay": "{kind: link_delay, where: up, ON, for_ms: 5, delay_ms: 250}",
    "loss": "{kind: loss, where: link, at_ms: 0, for_ms: null, rate: 0.15}",
    "bit_errors": "{kind: bit_errors, where: link, at_ms: 0, for_ms: null, rate: 5e-4}",
    "duplicate": "{kind: duplicate, where: up, ON}",
    "late": "{kind: late, where: up, ON, delay_ms: 250}",
    "hang of the draft": "{kind: hang, where: draft, on: {phase: draft, request: 0, round: 1}}",
    "hang of the target": "{kind: hang, where: target, on: {phase: verify, request: 0, round: 1}}",
    "reset": "{kind: reset, where: target, on: {phase: verify, request: 0, round: 1}}",
    "lost": "{kind: lost, where: draft, on: {phase: draft, request: 0, round: 1}}",
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_really_takes_the_course_that_is_predicted(case: str, tmp_path: Path, ends: Ends) -> None:
    setup = setup_of(tmp_path, CASES[case].replace("ON", IN_ROUND % "up"))
    predicted = simulate(setup, Counting())
    with lateness() as machine:
        measured, devices = run(setup, ends)
    assert measured.lost is None
    assert [token for one in measured.rounds for token in one.tokens] == [
        token for one in predicted.rounds for token in one.tokens
    ]
    assert all(device.check.mismatches == 0 for device in devices.by_role.values())
    (pair,) = pairs_of(predicted.faults, measured.faults)
    assert len(predicted.faults) == len(measured.faults) == 1
    assert order_of(measured.faults) == order_of(predicted.faults)
    assert pair.same_course, pair
    assert "detected" in pair.times_ns
    require_close(pair, machine)


def require_close(pair: FaultPair, machine: Lateness) -> None:
    """Within 10 %, and what the machine and a message's way through threads may add to every step until then."""
    for event, (ours, theirs) in pair.times_ns.items():
        steps = 4 if event != "recovered" else 40
        slack_ns = steps * (2 * MS + machine.worst_ns)
        assert 0.9 * ours - slack_ns <= theirs <= 1.1 * ours + slack_ns, (event, pair)


def test_a_chip_that_is_slow_takes_longer_and_nothing_reacts(tmp_path: Path, ends: Ends) -> None:
    fault = "{kind: slow, where: target, on: {phase: verify, request: 0, round: 1}, for_ms: 400, factor: 5}"
    setup = setup_of(tmp_path, fault)
    predicted = simulate(setup, Counting())
    measured, _ = run(setup, ends)
    (pair,) = pairs_of(predicted.faults, measured.faults)
    assert pair.same_course
    assert not pair.measured.caught
    longest = max(span.end_ns - span.start_ns for span in measured.spans if span.kind == "verify")
    assert longest >= 5 * 12 * MS  # a verify of QUICK, five times
    assert measured.end_ns >= predicted.end_ns - 400 * MS


def test_faults_that_come_one_after_the_other_keep_their_order(tmp_path: Path, ends: Ends) -> None:
    faults = [
        "{kind: duplicate, where: up, on: {phase: up, request: 0, round: 1}}",
        "{kind: link_drop, where: up, on: {phase: up, request: 0, round: 2}, for_ms: 100}",
        "{kind: hang, where: draft, on: {phase: draft, request: 0, round: 3}}",
    ]
    setup = setup_of(tmp_path, *faults, tokens=31)
    predicted = simulate(setup, Counting())
    measured, _ = run(setup, ends)
    assert order_of(measured.faults) == order_of(predicted.faults)
    assert all(pair.same_course for pair in pairs_of(predicted.faults, measured.faults))


def test_messages_that_overtake_one_are_put_back_in_order(tmp_path: Path, ends: Ends) -> None:
    """The asynchronous policy sends on while the late message is on its way."""
    fault = "{kind: late, where: up, on: {phase: up, request: 0, round: 1}, delay_ms: 60}"
    setup = setup_of(tmp_path, fault, policy="{name: async, min_batch: 2, max_ahead: 6}", tokens=30)
    measured, _ = run(setup, ends)
    (record,) = measured.faults
    assert (record.by, record.reactions) == ("sequence number", ["messages put back in order"])
    assert record.recovered_ns - record.hit_ns >= 60 * MS
    assert [token for one in measured.rounds for token in one.tokens] == [(10 + n) % 50 for n in range(30)]


@pytest.mark.parametrize(
    ("case", "wire", "deaf"), [("link_drop", Indifferent, False), ("hang of the draft", LinkWire, True)]
)
def test_a_fault_that_does_not_really_happen_is_not_noticed(
    case: str, wire: type[LinkWire], deaf: bool, tmp_path: Path, ends: Ends
) -> None:
    """The control: what notices faults is the wall's time, and not that they were planned."""
    setup = setup_of(tmp_path, CASES[case].replace("ON", IN_ROUND % "up"))
    predicted = simulate(setup, Counting())
    measured, _ = run(setup, ends, wire=wire, deaf=deaf)
    (pair,) = pairs_of(predicted.faults, measured.faults)
    assert predicted.faults[0].caught
    assert not measured.faults[0].caught
    assert not pair.same_course


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (["faults.inject=[{kind: clock_jump, where: target, at_ms: 5, jump_ms: 5}]"], "clock_jump"),
        (["faults.inject=[{kind: wrong_row, where: target, at_ms: 5}]"], "wrong_row"),
        (["faults.inject=[{kind: memory, where: draft, at_ms: 5, for_ms: 5, megabytes: 5}]"], "memory"),
        (
            [
                "faults.inject=[{kind: bit_errors, at_ms: 5, for_ms: 5, rate: 0.01}]",
                "faults.reaction.checksum=false",
            ],
            "checksum",
        ),
        (
            [
                "faults.inject=[{kind: slow, where: draft, at_ms: 5, for_ms: 5, factor: 2}]",
                "faults.reaction.compare_rows=true",
            ],
            "compare_rows",
        ),
    ],
)
def test_what_cannot_be_injected_into_devices_is_refused(faults: list[str], words: str, tmp_path: Path) -> None:
    found = list(impossible_faults(table_setup(tmp_path, *faults)))
    assert len(found) == 1
    assert words in str(ScenarioError(found))
    assert list(impossible_faults(setup_of(tmp_path, CASES["lost"]))) == []
