"""Hostile agents: what one claims is held against limits; what drips, pauses or is not finite is named."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import numpy as np
import pytest

from hilsim.hardware.measured.profile import ProfileGrid, asks
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Closed, FrameError, read_frame
from tests.fuzz.agents import REPLIES, SOON, TALK, play
from tests.hardware_fakes import DONE, VOCABULARY, Scripted, Wire

pytestmark = pytest.mark.slow  # agents that drip and pause


@pytest.mark.parametrize(
    ("claims", "words"),
    [({"vocabulary": 134_217_728}, "a vocabulary of 134217728, where 1 to 4194304 belongs"),
     ({"context": 2**30}, "a context of 1073741824"), ({"widths": [1, 2**20]}, "widths"),
     ({"widths": list(range(1, 200))}, "widths"), ({"vocabulary": 10**30}, "vocabulary")],
    ids=str,
)  # fmt: skip
def test_claims_are_held_against_limits_before_anything_is_allocated(claims: dict[str, Any], words: str) -> None:
    with Scripted(lambda wire: play(wire, REPLIES | {"load": REPLIES["load"] | claims})) as server:
        agent = Agent(server.address, patience=SOON)
        with pytest.raises(AgentFault, match=words):
            agent.load("toy")
        agent.close()


def test_the_largest_model_that_may_be_claimed_is_profiled_within_bounds() -> None:
    """Every limit reached at once: the questions of a round stay below a gigabyte."""
    claims = {"vocabulary": 2**22, "context": 2**24, "widths": list(range(2**16 - 63, 2**16 + 1))}
    with Scripted(lambda wire: play(wire, REPLIES | {"load": REPLIES["load"] | claims})) as server:
        agent = Agent(server.address, patience=SOON)
        found = asks([agent.load("toy")], ProfileGrid())
        assert 8 * sum(len(ask.tokens) for ask in found) < 2**30
        agent.close()


@pytest.mark.parametrize("at_step", [False, True], ids=["loaded", "done"])
def test_a_message_that_drips_is_a_stall_of_the_message(at_step: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte at a time, each soon after the last, under a limit of ten minutes for the whole answer."""
    monkeypatch.setattr("hilsim.hardware.wire.client.FRAME_S", 0.4)
    monkeypatch.setattr("hilsim.hardware.wire.client.SLOWEST", 10**9)

    def drips(wire: Wire) -> None:
        asked = wire.until_step() if at_step else (wire.greet(), wire.read())[1]
        text = json.dumps(REPLIES["load"] | {"id": asked.fields["id"]}).encode()
        for byte in PREAMBLE.pack(MAGIC, 1, 0, len(text), 0) + text:
            wire.connection.sendall(bytes([byte]))
            time.sleep(0.02)

    with Scripted(drips) as server:
        agent, began = Agent(server.address, patience=Timeouts(step_s=600)), time.monotonic()
        with pytest.raises(AgentFault, match=r"stalled: a message that was not whole 0\.4 s after it began"):
            agent.execute(StepRequest("toy", "verify", TALK, 2, 3, "logits"))
        assert time.monotonic() - began < 20
        agent.close()


def test_a_pause_between_two_questions_is_no_slow_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what limits one message has ended with it, however late the next question comes."""
    monkeypatch.setattr("hilsim.hardware.wire.client.FRAME_S", 0.3)
    monkeypatch.setattr("hilsim.hardware.wire.client.SLOWEST", 10**9)
    with Scripted(lambda wire: play(wire, REPLIES)) as server:
        agent = Agent(server.address, patience=SOON)
        agent.load("toy")
        time.sleep(0.5)
        assert agent.execute(StepRequest("toy", "verify", TALK, 2, 3, "logits")).duration_ns == DONE["duration_ns"]
        agent.close()


def test_an_engine_s_nan_on_the_wire_is_named_with_its_position() -> None:
    rows = np.zeros((3, VOCABULARY), np.float32)
    rows[1, 6] = np.nan
    for body, fails in ((np.zeros_like(rows), False), (rows, True)):
        described = REPLIES | {"body": (body.tobytes() if fails else np.ones_like(rows).tobytes()).hex()}
        with Scripted(lambda wire, described=described: play(wire, described)) as server:
            agent, ask = Agent(server.address, patience=SOON), StepRequest("toy", "verify", TALK, 2, 3, "logits")
            if fails:
                with pytest.raises(
                    AgentFault, match="garbage: logits that are not finite: nan of token 6 at position 4"
                ):
                    agent.execute(ask)
            else:
                assert agent.execute(ask).rows is not None
            agent.close()


def test_reading_from_a_socket_has_one_limit_for_the_whole_message() -> None:
    from hilsim.hardware.wire.frames import receiving

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"H")
        receive = receiving(ours, 0.2)
        assert receive(4) == b"H"
        with pytest.raises(TimeoutError):
            read_frame(receive)
        theirs.close()
        with pytest.raises((Closed, FrameError)):
            read_frame(receiving(ours, 5.0))
