"""An agent that has faults on purpose: only where it was started for it, and so that its steps really fare as asked."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from hilsim.commands.agent_settings import settings_of
from hilsim.commands.main import parse
from hilsim.describe.address import Address
from hilsim.errors import InputError
from hilsim.hardware.agent.engine import Output
from hilsim.hardware.agent.injected import Disturbed, Injection
from hilsim.hardware.distributed.injected_agent import AgentDoor
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.places import CODE
from tests.agents import agent
from tests.fake_engines import Chain

CHAIN = f"{CODE}/tests/fake_engines.py:Chain"
STEP = StepRequest("any", "draft", tuple(range(12)), 11, 1, "tokens")


class Napping(Chain):
    """Passes of 20 ms that measure themselves."""

    def run(self, tokens: Sequence[int], wanted: int) -> Output:
        time.sleep(0.02)
        return Output(ids=[1] * wanted, duration_ns=20_000_000)


def timed(engine: Disturbed) -> tuple[float, int | None]:
    """Seconds of a pass, and what it measured itself."""
    began = time.perf_counter()
    output = engine.prefill([1, 2, 3])
    return time.perf_counter() - began, output.duration_ns


def test_a_slow_chip_takes_the_factor_and_measures_it() -> None:
    injection = Injection()
    engine = Disturbed(Napping(), injection)
    injection.begin("slow", math.inf, 4.0)
    took_s, own_ns = timed(engine)
    assert took_s >= 0.08
    assert own_ns is not None
    assert own_ns >= 80_000_000
    injection.begin("none", math.inf, 1.0)
    assert timed(engine)[1] == 20_000_000


def test_a_fault_ends_by_itself() -> None:
    injection = Injection()
    injection.begin("slow", 0.01, 100.0)
    time.sleep(0.02)
    assert injection.present() == "none"
    assert timed(Disturbed(Napping(), injection))[1] == 20_000_000


@pytest.mark.parametrize("begins_s", [0.0, 0.01])
def test_a_hang_holds_a_pass_that_is_under_way_as_well(begins_s: float) -> None:
    injection = Injection()
    threading.Timer(begins_s, injection.begin, ("hang", 0.15, 1.0)).start()
    began = time.perf_counter()
    timed(Disturbed(Napping(), injection))
    while begins_s == 0 and time.perf_counter() - began < 0.15:  # it may have begun behind a whole pass
        timed(Disturbed(Napping(), injection))
    assert time.perf_counter() - began >= 0.15


def test_what_is_lost_stays_lost() -> None:
    injection = Injection()
    injection.begin("lost", math.inf, 1.0)
    injection.begin("none", math.inf, 1.0)
    assert injection.lost
    waiting = threading.Thread(target=timed, args=(Disturbed(Napping(), injection),), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()


@pytest.fixture
def board() -> Iterator[tuple[Agent, AgentDoor]]:
    """An agent without a network that takes faults."""
    with agent("--inject", "127.0.0.1:0", "--model", f"any={CODE}", "--engine", CHAIN) as address:
        client = Agent(Address.parse(address), patience=Timeouts(step_s=5.0))
        client.load("any")
        door = AgentDoor.of(client, None)
        assert door is not None
        yield client, door
        door.close()
        client.close()


def test_an_agent_hangs_in_the_middle_of_what_is_asked_and_begins_anew_when_it_is_reset(
    board: tuple[Agent, AgentDoor],
) -> None:
    client, door = board
    before = client.execute(STEP)
    door.inject("hang", None)
    outcome: list[AgentFault] = []

    def ask() -> None:
        with pytest.raises(AgentFault) as fault:
            client.execute(STEP)
        outcome.append(fault.value)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.2)
    assert asking.is_alive()
    door.reset()
    asking.join(5)
    assert outcome[0].kind == "died"  # the process it was connected to is gone
    door.await_return("any", 20.0)
    again = client.execute(STEP)
    assert again.ids == before.ids
    assert again.prepared_rows == 11  # its cache was lost
    door.inject("hang", 100.0)
    began = time.monotonic()
    client.execute(STEP)
    assert time.monotonic() - began >= 0.09


def test_a_chip_that_is_lost_answers_no_reset(board: tuple[Agent, AgentDoor]) -> None:
    door = board[1]
    door.inject("lost", None)
    with pytest.raises(AgentFault, match="the chip is lost"):
        door.reset()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fault": "explode"}, "fault 'explode'; expected one of hang, slow, lost, none"),
        ({"fault": "hang", "for_ms": -1}, "for_ms -1"),
        ({"fault": "hang", "for_ms": True}, "for_ms True"),
        ({"fault": "slow", "factor": 0.5}, "factor 0.5"),
        ({"fault": "slow"}, "factor None"),
    ],
)
def test_faults_that_are_none_are_refused(
    fields: dict[str, object], words: str, board: tuple[Agent, AgentDoor]
) -> None:
    with pytest.raises(AgentFault, match=words):
        board[1].agent.ask("inject", "injected", 5.0, fields)


def test_an_agent_that_was_not_started_for_it_has_no_door() -> None:
    with agent("--model", f"any={CODE}", "--engine", CHAIN) as address:
        client = Agent(Address.parse(address))
        assert AgentDoor.of(client, None) is None
        with pytest.raises(AgentFault, match="unknown_kind"):
            client.ask("inject", "injected", 5.0, {"fault": "hang"})
        client.close()


def test_a_door_that_others_can_reach_needs_a_token() -> None:
    arguments = [
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--inject",
        "0.0.0.0:0",
        "--model",
        f"any={CODE}",
        "--engine",
        CHAIN,
    ]
    with pytest.raises(InputError, match=r"--inject: 0\.0\.0\.0:0: found no --token-file"):
        settings_of(parse(arguments))
