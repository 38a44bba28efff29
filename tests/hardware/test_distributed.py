"""Runs that really happen, on chips and wires that take known times: nothing is early, all is in order, lies are found.

A busy machine may make anything late. So lateness has wide bounds here, and earliness none.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import simpy
from rich.console import Console

from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Setup
from hilsim.errors import ScenarioError
from hilsim.hardware.distributed.boards import Devices, require_real
from hilsim.hardware.distributed.expected import ExpectedToken, TokenCheck, check_tokens
from hilsim.hardware.distributed.measured_run import MeasuredRun
from hilsim.hardware.distributed.overhead import Overhead, measure_overhead, with_overhead
from hilsim.hardware.distributed.wall import WallEnvironment, WorkerThread
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.show.distributed import distributed, draw_distributed, sentences, table_of, write_distributed
from hilsim.sim.run import simulate
from hilsim.sim.trace import Span, Trace
from hilsim.text.prompt import Prompt
from tests.scenes import MS, table_setup

VOCABULARY = 50
FACTS = ModelFacts("counting", VOCABULARY, 2000, None, ("tokens",))
# As tests.scenes, but five times as fast: whole timelines take a tenth of a second.
QUICK = (
    'target.timer={prefill: {"64": 20}, decode: 10, verify: {"8": 12, "16": 18}, source: round numbers}',
    'draft.timer={prefill: {"64": 4}, decode: 3, verify: {"2": 3}, source: round numbers}',
)


def following(token: int) -> int:
    """What the target says after a token."""
    return (token + 1) % VOCABULARY


def guessed(token: int) -> int:
    """What the draft says: every seventh time another."""
    return following(token) if token % 7 else (token + 5) % VOCABULARY


class Counting:
    """A source that counts on: after 3 comes 4. The draft is wrong after every multiple of seven."""

    forward_seconds = 0.0

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), list(range(10)))

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        tokens = [*prefix.tokens, *after]
        for _ in range(count):
            tokens.append(guessed(tokens[-1]))
        return Draft(tuple(tokens[-count:]))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        before = [prefix.tokens[-1], *draft.tokens]
        accepted = next((n for n, token in enumerate(draft.tokens) if token != following(before[n])), len(draft.tokens))
        return Verdict(accepted, following(before[accepted]), (1.0,) * (accepted + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return following(prefix.tokens[-1]), 1.0

    def ends(self, token: int) -> bool:
        return False

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def forget(self, conversation: int) -> None:
        pass


@dataclass
class Sleeper:
    """A chip that sleeps as long as a step takes it; in its `lies`-th row, counted over all steps, it finds another."""

    role: str
    lies: int = -1
    fails: int = -1
    asked: list[StepRequest] = field(default_factory=list)
    rows: int = 0

    def load(self, model: str) -> ModelFacts:
        return FACTS

    def execute(self, ask: StepRequest) -> StepResult:
        if len(self.asked) == self.fails:
            raise AgentFault("died", "it closed the connection")
        self.asked.append(ask)
        took_ns = took(self.role, ask.phase, ask.rows)
        time.sleep(took_ns / 1e9)
        finds = following if self.role == "target" else guessed
        ids = [finds(token) for token in ask.tokens[-ask.wanted :]]
        for place in range(ask.wanted):
            ids[place] += self.rows == self.lies
            self.rows += 1
        return StepResult(took_ns, ids=tuple(ids))

    def close(self) -> None:
        pass


def took(role: str, phase: str, rows: int) -> int:
    """The times of QUICK."""
    if role == "draft":
        return 4 * MS if phase == "draft prefill" else 3 * MS
    return {"prefill": 20, "decode": 10}.get(phase, 10 if rows == 1 else 12 if rows <= 8 else 18) * MS


class SleepingWire:
    """A wire that sleeps: 2 ms in hand, 1 ms on its way."""

    def __init__(self) -> None:
        self.hand, self.way = WorkerThread("hand"), WorkerThread("way")
        self.sizes: list[int] = []

    def put(self, env: WallEnvironment, nbytes: int) -> tuple[simpy.Event, simpy.Event]:
        self.sizes.append(nbytes)
        arrived = env.task()

        def carry() -> None:
            time.sleep(0.002)
            self.way.waiting.put((env, arrived, lambda: time.sleep(0.001)))

        return self.hand.do(env, carry), arrived


@pytest.fixture
def wires() -> Iterator[dict[str, SleepingWire]]:
    made = {"up": SleepingWire(), "down": SleepingWire()}
    yield made
    for wire in made.values():
        wire.hand.close()
        wire.way.close()


def run(
    setup: Setup, wires: dict[str, SleepingWire], target: Sleeper | None = None, draft: Sleeper | None = None
) -> tuple[Trace, Devices]:
    """A run on sleeping chips."""
    chips = {"target": (target or Sleeper("target"), FACTS), "draft": (draft or Sleeper("draft"), FACTS)}
    devices = Devices(chips, wires)
    try:
        return simulate(setup, devices.source(Counting()), boards=devices.board), devices
    finally:
        devices.close()


def shape(span: Span) -> tuple[str, str, int, int, int, int, int]:
    """A span without its instants."""
    return (span.track, span.kind, span.request, span.round, span.rows, span.nbytes, span.cached)


POLICIES = (
    "{name: target_only}",
    "{name: sync, draft_tokens: 4}",
    "{name: adaptive, rule: schedule, draft_tokens: 3}",
)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_real_run_in_lockstep_does_what_the_simulation_does_and_never_earlier(
    policy: str, tmp_path: Path, wires: dict[str, SleepingWire]
) -> None:
    setup = table_setup(tmp_path, *QUICK, f"policy={policy}")
    simulated = simulate(setup, Counting())
    measured, devices = run(setup, wires)
    assert [one.tokens for one in measured.rounds] == [one.tokens for one in simulated.rounds]
    # Both chips read the question at once; which of the two is told first is the wall's business.
    assert sorted(map(shape, measured.spans)) == sorted(map(shape, simulated.spans))
    assert [shape(span) for span in measured.spans[4:]] == [shape(span) for span in simulated.spans[4:]]
    late: list[int] = []
    for ours, theirs in zip(sorted(measured.spans, key=shape), sorted(simulated.spans, key=shape), strict=True):
        late.append((ours.done_ns - ours.start_ns) - (theirs.done_ns - theirs.start_ns))
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 5 * MS
    assert simulated.end_ns <= measured.end_ns
    for track in measured.tracks:
        spans = sorted((span for span in measured.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(before.end_ns <= after.start_ns for before, after in pairwise(spans))
    assert devices.by_role["target"].check.mismatches == 0
    assert devices.by_role["target"].check.checked >= 11  # every token of the answer, and drafts before them
    sent = {way: sum(span.nbytes for span in measured.spans if span.track.endswith(way)) for way in wires}
    assert sent == {way: sum(wire.sizes) for way, wire in wires.items()}


@pytest.mark.parametrize("policy", ["{name: async, min_batch: 2, max_ahead: 6}", "{name: pipelined, draft_tokens: 3}"])
def test_chips_that_do_not_wait_for_each_other_work_at_the_same_time(
    policy: str, tmp_path: Path, wires: dict[str, SleepingWire]
) -> None:
    setup = table_setup(tmp_path, *QUICK, f"policy={policy}", "workload.output_tokens=40")
    simulated = simulate(setup, Counting())
    measured, devices = run(setup, wires)
    assert [t for one in measured.rounds for t in one.tokens] == [t for one in simulated.rounds for t in one.tokens]
    drafts = [span for span in measured.spans if span.kind == "draft"]
    verifies = [span for span in measured.spans if span.kind == "verify"]
    both = sum(min(d.end_ns, v.end_ns) > max(d.start_ns, v.start_ns) for d in drafts for v in verifies)
    assert both > 5
    # A step that was interrupted has occupied its chip to the end all the same.
    assert all(span.end_ns - span.start_ns >= 3 * MS for span in drafts)
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(drafts))
    for device in devices.by_role.values():
        assert device.check.mismatches == 0
        assert device.check.checked > 20


def test_what_a_chip_is_asked_follows_the_tokens_emitted(tmp_path: Path, wires: dict[str, SleepingWire]) -> None:
    target, draft = Sleeper("target"), Sleeper("draft")
    measured, _ = run(table_setup(tmp_path, *QUICK), wires, target, draft)
    answer = [token for one in measured.rounds for token in one.tokens]
    assert target.asked[0] == StepRequest("counting", "prefill", tuple(range(10)), 0, 1, "tokens")
    assert draft.asked[0] == StepRequest("counting", "draft prefill", tuple(range(10)), 0, 1, "tokens")
    conversation = [*range(10), *answer]
    for ask in [*target.asked, *draft.asked]:
        assert list(ask.tokens[: ask.cached]) == conversation[: ask.cached]
        assert ask.wanted == (ask.rows if ask.phase in ("decode", "verify") else 1)


@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_chip_that_finds_another_token_is_found_out(
    role: str, tmp_path: Path, wires: dict[str, SleepingWire]
) -> None:
    setup = table_setup(tmp_path, *QUICK)
    liar = Sleeper(role, lies=3)
    _, devices = run(setup, wires, **{role: liar})
    other = "draft" if role == "target" else "target"
    assert devices.by_role[role].check.mismatches == 1
    assert devices.by_role[other].check.mismatches == 0


def test_a_token_that_is_as_likely_as_another_is_a_tie() -> None:
    said = {10: ExpectedToken(3, 1.0), 11: ExpectedToken(4, 1e-6), 12: ExpectedToken(5)}
    assert check_tokens([3, 4, 5], 12, said) == TokenCheck(3, 0, 0)
    assert check_tokens([3, 9, 5], 12, said) == TokenCheck(3, 0, 1)
    assert check_tokens([9, 9, 9], 12, said) == TokenCheck(3, 2, 1)
    assert check_tokens([7, 7, 3], 10, said) == TokenCheck(1, 0, 0)  # rows before the first that is known
    assert check_tokens([], 10, said) == TokenCheck()


@pytest.mark.parametrize("fails", [0, 2])
def test_a_chip_that_dies_ends_the_run_and_says_so(fails: int, tmp_path: Path, wires: dict[str, SleepingWire]) -> None:
    measured, _ = run(table_setup(tmp_path, *QUICK), wires, Sleeper("target", fails=fails))
    assert measured.lost is not None
    assert measured.lost.args[:2] == ("paper-target.any", "died")
    assert len(measured.requests) == 0


def test_a_bug_in_a_chip_is_not_hidden(tmp_path: Path, wires: dict[str, SleepingWire]) -> None:
    class Broken(Sleeper):
        def execute(self, ask: StepRequest) -> StepResult:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(table_setup(tmp_path, *QUICK), wires, Broken("target"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("policy={name: pearl, draft_tokens: 3}", "pearl"),
        ("workload.talkers=2", "one conversation at a time"),
        ("sampling.temperature=0.7", "greedy"),
        ("sharing={}", "sharing: found sharing; expected none of them for devices"),
    ],
)
def test_what_could_not_be_held_against_the_chips_is_refused(change: str, words: str, tmp_path: Path) -> None:
    require_real(table_setup(tmp_path))
    more = ("accept=gumbel",) if "temperature" in change else ()
    with pytest.raises(ScenarioError, match=words):
        require_real(table_setup(tmp_path, change, *more))


class Slow(Sleeper):
    """A chip behind a slow line: 4 ms beside each step that it does not count."""

    def execute(self, ask: StepRequest) -> StepResult:
        time.sleep(0.004)
        return super().execute(ask)


def test_a_rehearsal_finds_what_commands_cost_and_a_prediction_has_it_in(
    tmp_path: Path, wires: dict[str, SleepingWire]
) -> None:
    setup = table_setup(tmp_path, *QUICK)
    devices = Devices({"target": (Slow("target"), FACTS), "draft": (Slow("draft"), FACTS)}, wires)
    try:
        costs = measure_overhead(setup, devices, Counting())
        # Other programs can only make a run longer: the quickest of three is the least disturbed.
        runs = [simulate(setup, devices.source(Counting()), boards=devices.board) for _ in range(3)]
        measured_ns = min(run.end_ns for run in runs)
    finally:
        devices.close()
    assert set(costs.steps) >= {("target", "prefill"), ("target", "verify"), ("draft", "draft")}
    assert min(costs.steps.values()) >= 4 * MS
    assert costs.of_step("target", "decode") >= 4 * MS  # not rehearsed, as the others
    assert min(*costs.sent.values(), *costs.arrived.values()) >= 0
    predicted = simulate(setup, Counting(), boards=with_overhead(timer_for, costs))
    alone = simulate(setup, Counting())
    assert [shape(span) for span in predicted.spans] == [shape(span) for span in alone.spans]
    assert alone.end_ns + 4 * MS * 10 < predicted.end_ns  # so many steps lie one behind the other
    assert measured_ns == pytest.approx(predicted.end_ns, rel=0.3)


def test_costs_that_are_known_add_up(tmp_path: Path) -> None:
    """On paper: two prefills at once, then rounds of 4 drafts up, one verify, a verdict down, commands included."""
    setup = table_setup(tmp_path, *QUICK, "workload.output_tokens=2")
    # One token from the prefill, one by a decode step; messages: prompt and first verdict down, the second not.
    alone = simulate(setup, Counting(), boards=with_overhead(timer_for, Overhead()))
    steps = {("target", "prefill"): 5 * MS, ("target", "decode"): 7 * MS}
    costs = Overhead(steps, {"up": 0, "down": 2 * MS}, {"up": 0, "down": 1 * MS})
    dear = simulate(setup, Counting(), boards=with_overhead(timer_for, costs))
    assert alone == simulate(setup, Counting())
    # Reading, the verdict that follows it (3 ms dearer), and the decode step lie one behind the other.
    assert dear.end_ns - alone.end_ns == 5 * MS + 3 * MS + 7 * MS


@pytest.fixture
def trial(tmp_path: Path, wires: dict[str, SleepingWire]) -> tuple[Setup, MeasuredRun]:
    """A trial on sleeping chips, one of which lies once."""
    setup = table_setup(tmp_path, *QUICK)
    measured, devices = run(setup, wires, Sleeper("target", lies=2))
    costs = Overhead(
        {("target", "verify"): 1 * MS, ("draft", "draft"): MS // 2}, {"up": 0, "down": 0}, {"up": 5, "down": 5}
    )
    return setup, MeasuredRun(
        simulate(setup, Counting()),
        simulate(setup, Counting(), boards=with_overhead(timer_for, costs)),
        measured,
        costs,
        {role: device.done for role, device in devices.by_role.items()},
        {role: device.check for role, device in devices.by_role.items()},
        {way: sum(wire.sizes) for way, wire in wires.items()},
        {"up": 999, "down": 1234},
    )


def test_the_document_holds_a_prediction_against_what_happened(trial: tuple[Setup, MeasuredRun]) -> None:
    setup, one = trial
    found = json.loads(json.dumps(distributed(setup, [one, one, one], "tc netem"), allow_nan=False))
    took_ns = one.measured.requests[0].finished_ns - one.measured.requests[0].arrived_ns
    assert found["measured"]["request_latency_ms"] == took_ns / MS
    ratio = found["measured"]["request_latency_ms"] / found["predicted"]["request_latency_ms"]
    assert found["difference"]["request_latency_ms"] == pytest.approx(ratio - 1)
    assert found["predicted"]["request_latency_ms"] > found["chips_and_link_alone"]["request_latency_ms"]
    assert found["difference"]["bytes_up"] == found["difference"]["bytes_down"] == 0
    assert found["words"]["mismatches"] == 3  # one a trial
    assert found["control_plane"]["commands"]["target"] == len(one.executed["target"])
    assert {step["phase"] for step in found["steps"]} >= {"prefill", "verify", "draft"}
    for step in found["steps"]:
        if step["predicted_ms"] is not None:
            assert step["measured_ms"] == pytest.approx(step["predicted_ms"])


def test_bytes_that_were_lost_on_the_way_show(trial: tuple[Setup, MeasuredRun]) -> None:
    setup, one = trial
    lossy = replace(one, counted={way: count // 2 for way, count in one.counted.items()})
    assert distributed(setup, [lossy], "")["difference"]["bytes_up"] == pytest.approx(-0.5, abs=0.01)


def test_the_table_and_its_sentences_say_what_was_found(trial: tuple[Setup, MeasuredRun], tmp_path: Path) -> None:
    setup, one = trial
    found = distributed(setup, [one], "")
    console = Console(file=io.StringIO(), width=100)
    console.print(table_of(found))
    words = " ".join([console.file.getvalue(), *sentences(found)])  # type: ignore[attr-defined]
    for expected in (
        "predicted",
        "time to first token, ms",
        "sent up, bytes",
        "not shaped",
        "1 differ from the prediction",
        "1,234",
    ):
        assert expected in words
    with (tmp_path / "a.csv").open("w+", encoding="utf-8") as file:
        write_distributed(found, file)
        file.seek(0)
        lines = file.read().splitlines()
    assert len(lines) == 6
    assert lines[4].startswith("bytes_up,")
    pytest.importorskip("matplotlib")
    draw_distributed(setup, one, "a title", tmp_path / "a.png", "png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
