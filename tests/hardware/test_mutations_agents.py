"""Hostile agents by the hundred: whatever one answers is a fault of the board, soon, and takes no memory."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilsim.describe.backend import Backend
from hilsim.errors import ChipLost, SimulationError
from hilsim.hardware.measured.profile import ProfileGrid, asks
from hilsim.hardware.measured.unit import MeasuredUnit
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Closed, FrameError, Tensor, read_frame
from tests.hardware_fakes import DONE, LOADED, READY, VOCABULARY, WELCOME, Scripted, Wire, tensors_of
from tests.mutations import changed_bytes, changed_tree, json_bytes, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

SEED = 20_261_129
SOON = Timeouts(connect_s=2.0, silence_s=0.5, step_s=1.0, load_s=1.0)
TALK = (3, 1, 4, 1, 5)
REPLIES: dict[str, dict[str, Any]] = {
    "welcome": {"kind": "welcome", **WELCOME},
    "hello": {"kind": "ready", "id": "ID", **READY},
    "load": {"kind": "loaded", "id": "ID", **LOADED},
    "step": {"kind": "done", "id": "ID", "tensors": "RIGHT", **DONE},
    "bye": {"kind": "bye", "id": "ID"},
}


class Refusal(SimulationError):
    """An agent's fault, where the harness looks for the errors of the program."""


def read(path: Path) -> None:
    """Let an agent answer as a file says, to everything that a profile and a run ask of it."""
    described = json.loads(path.read_bytes())
    with Scripted(*[lambda wire: play(wire, described)] * 8) as server:
        agent = Agent(server.address, patience=SOON)
        try:
            facts = agent.load("toy")
            assert sum(len(ask.tokens) for ask in asks([facts], ProfileGrid())) < 10**8
            for want in ("logits", "tokens", "nothing"):
                answer = agent.execute(StepRequest("toy", "verify", TALK, 2, 3, want))  # type: ignore[arg-type]
                assert answer.rows is None or np.isfinite(answer.rows).all()
            unit = MeasuredUnit("t", "u", Backend(words="tokens", warm_up=0), agent, {"target": facts}, lambda *_: None,
                                lambda: None)  # fmt: skip
            unit.rows("target", TALK, 0, 2)
        except (AgentFault, ChipLost) as fault:
            raise Refusal(str(fault)) from None
        finally:
            agent.close()


def play(wire: Wire, described: Any) -> None:
    """Greet, and answer question after question."""
    answer(wire, described, "welcome", {}, {})
    while True:
        asked = wire.read()
        right = tensors_of(asked) if asked.kind == "step" else {}
        answer(wire, described, asked.kind, dict(asked.fields), right)


def answer(wire: Wire, described: Any, kind: str, asked: dict[str, Any], right: dict[str, Tensor]) -> None:
    """One frame as a file describes it, which need be none; `ID` and `RIGHT` stand for what would be right."""
    header = described.get(kind, "") if isinstance(described, dict) else described
    body = b""
    if isinstance(header, dict):
        header = {key: asked.get("id") if value == "ID" else value for key, value in header.items()}
        if header.get("tensors") == "RIGHT":
            body = b"".join(bytes(tensor.data) for tensor in right.values())
            header["tensors"] = [
                {"name": name, "dtype": one.dtype, "shape": list(one.shape)} for name, one in right.items()
            ]
            if isinstance(described, dict) and described.get("body"):
                body = bytes.fromhex(described["body"])[: len(body)].ljust(len(body), b"\0")
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    wire.connection.sendall(PREAMBLE.pack(MAGIC, 1, 0, len(text), len(body)) + text + body)


def read_raw(path: Path) -> None:
    """Let an agent send the bytes of a file whatever it is asked."""
    with Scripted(*[lambda wire: wire.connection.sendall(path.read_bytes())] * 8) as server:
        agent = Agent(server.address, patience=SOON)
        try:
            agent.load("toy")
        except AgentFault as fault:
            raise Refusal(str(fault)) from None
        finally:
            agent.close()


def hostile(chance: random.Random) -> dict[str, Any]:
    """Answers with some of their fields changed; now and then the body of a step as well."""
    made: Any = changed_tree(REPLIES, chance)
    if isinstance(made, dict) and chance.random() < 0.3:
        made["body"] = np.array([chance.choice((np.nan, np.inf, 1.0, 3e38))] * 33, "<f4").tobytes().hex()
    return made


def test_no_hostile_answer_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    inputs = [(f"{number}.json", json_bytes(hostile(chance))) for number in range(240)]
    inputs.append(("whole.json", json_bytes(REPLIES)))
    survive(read, inputs, tmp_path, accepted=range(20, 160))


def test_no_broken_bytes_of_an_agent_break_the_program(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    text = json.dumps(REPLIES["welcome"]).encode()
    good = PREAMBLE.pack(MAGIC, 1, 0, len(text), 0) + text
    survive(read_raw, [(f"{number}.bin", changed_bytes(good, chance)) for number in range(90)], tmp_path)


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
