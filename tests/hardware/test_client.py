"""The simulator's end of the line: right answers, and every way in which an agent can be wrong."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hilsim.describe.address import Address
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.hardware.wire.frames import Frame, Tensor, encoded
from hilsim.places import CODE as PROJECT
from tests.hardware_fakes import (
    DONE,
    FACTS,
    LOADED,
    READY,
    VOCABULARY,
    WELCOME,
    Script,
    Scripted,
    Wire,
    rows,
    tensors_of,
)

CALM = Timeouts(connect_s=5, silence_s=5, step_s=5, load_s=5)  # where an answer comes, however busy the machine
HASTY = Timeouts(connect_s=0.5, silence_s=0.15, step_s=0.4, load_s=0.4)
ASK = StepRequest("toy", "verify", (1, 2, 3, 4, 5), 2, 3, "logits")


@pytest.fixture(autouse=True)
def nothing_takes_long() -> Iterator[None]:
    """Limits here are half a second and less, but the machine may be busy."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 15


def fault_of(
    script: Script,
    do: Callable[[Agent], object] = lambda agent: agent.execute(ASK),
    patience: Timeouts = CALM,
) -> AgentFault:
    """What becomes of one question to an agent with this script; the connection is gone afterwards."""
    with Scripted(script) as server:
        agent = Agent(server.address, patience=patience)
        with pytest.raises(AgentFault) as caught:
            do(agent)
        agent.close()
    return caught.value


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://127.0.0.1:7295", "127.0.0.1", 7295),
        ("tcp://orin-nx.local:1", "orin-nx.local", 1),
        ("tcp://[::1]:65535", "::1", 65535),
        ("tcp://[fe80::1%eth0]:7295", "fe80::1%eth0", 7295),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:7295", "http://a:1", "tcp://", "tcp://a", "tcp://:7295", "tcp://a:0", "tcp://a:65536", "tcp://a:x",
     "tcp://a:７", "tcp://::1:7295", "tcp://[::1]", "tcp://[::1", "tcp://[x]:1", "tcp://a b:1", "tcp://u@a:1",
     "tcp://a:1/path", "tcp://a:1:2", "tcp://-a:1", "tcp://a:+1", "tcp://a: 1", "tcp://[127.0.0.1]:1"],
)  # fmt: skip
def test_what_is_no_address_is_reported_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"[^;]+; .*(tcp://|port from 1|IPv6)"):
        Address.parse(text)


def obliging(wire: Wire) -> None:
    """An agent that does everything right."""
    wire.greet()
    while True:
        frame = wire.read()
        again = {"id": frame.fields["id"]}
        if frame.kind == "step":
            wire.send("alive", {**again, "busy_ns": 5})
            wire.done(frame, prepared_rows=2, energy_mj=1.5, temperature_c=41, clock_ns=99, of_no_concern=[1])
        elif frame.kind == "bye":
            wire.send("bye", again)
            return
        else:
            assert frame.kind == "load"
            wire.send("loaded", {**again, **LOADED})


def test_answers_are_what_the_agent_sent() -> None:
    with Scripted(obliging) as server:
        agent = Agent(server.address, patience=CALM)
        assert agent.load("toy") == FACTS
        assert (agent.facts.device, agent.facts.models) == ({"name": "rig", "cores": 2}, ("toy",))
        before = time.monotonic_ns()
        answer = agent.execute(ASK)
        after = time.monotonic_ns()
        assert answer.rows is not None
        np.testing.assert_array_equal(answer.rows, rows(ASK))
        assert (answer.duration_ns, answer.prepared_rows, answer.energy_mj) == (1000, 2, 1.5)
        assert (answer.temperature_c, answer.clock_ns) == (41.0, 99)
        assert 0 < answer.wall_ns <= after - before
        assert before <= answer.at_ns <= after
        told = agent.execute(StepRequest("toy", "decode", (1, 2), 1, 1, "tokens"))
        assert told.ids == (int(rows(StepRequest("toy", "", (1, 2), 1, 1, "tokens"))[0].argmax()),)
        assert told.rows is None
        timed = agent.execute(StepRequest("toy", "decode", (1, 2), 1, 1, "nothing"))
        assert (timed.rows, timed.ids) == (None, None)
        agent.close()
        agent.close()


def test_nothing_connects_before_it_is_asked() -> None:
    agent = Agent(Address("127.0.0.1", 1))
    agent.close()


def test_a_token_is_proven_and_never_sent() -> None:
    seen = []

    def script(wire: Wire) -> None:
        seen.append(wire.greet({**WELCOME, "token": True}))

    with Scripted(script) as server:
        agent = Agent(server.address, token="a long secret", patience=CALM)
        assert agent.facts.models == ("toy",)
        agent.close()
    proof = hmac.new(b"a long secret", ("00" * 16).encode(), hashlib.sha256).hexdigest()
    assert seen[0].fields["proof"] == proof
    assert "secret" not in str(seen[0].fields)


def test_no_token_is_proven_where_none_is_asked_for() -> None:
    seen = []
    with Scripted(lambda wire: seen.append(wire.greet())) as server:
        agent = Agent(server.address, token="a long secret", patience=CALM)
        assert agent.facts.heartbeat_s == 0.05
        agent.close()
    assert seen[0].fields["proof"] is None


def test_heartbeats_keep_a_long_step_waiting() -> None:
    """0.3 s of work with a silence limit of 0.15 s."""

    def script(wire: Wire) -> None:
        step = wire.until_step()
        for _ in range(5):
            time.sleep(0.06)
            wire.send("alive", {"id": step.fields["id"], "busy_ns": 1})
        wire.done(step)
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=Timeouts(connect_s=1, silence_s=0.15, step_s=5))
        assert agent.execute(ASK).wall_ns > 0.3e9
        agent.close()


def test_a_large_answer_over_a_slow_line_is_no_silence() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        data = encoded(Frame("done", {"id": step.fields["id"], **DONE}, tensors_of(step)))
        for at in range(0, len(data), 40):
            time.sleep(0.02)
            wire.connection.sendall(data[at : at + 40])
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=Timeouts(connect_s=1, silence_s=0.1, step_s=5))
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()


def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
    with pytest.raises(AgentFault, match="unreachable: connection refused"):
        _ = Agent(address).facts
    with pytest.raises(AgentFault, match="unreachable: "):
        _ = Agent(Address("no-such-host.invalid", 7295)).facts


def test_a_connection_to_itself_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks for a port that nobody listens on may be given that port, and would hear itself."""
    itself = socket.socket()
    itself.bind(("127.0.0.1", 0))
    itself.connect(itself.getsockname())
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: itself)
    with pytest.raises(AgentFault, match="unreachable: connection refused"):
        _ = Agent(Address(*itself.getsockname())).facts


def test_a_full_door_is_unreachable_in_time() -> None:
    """A listener with a full backlog drops connections without a word, as a host that is switched off does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(AgentFault, match=r"unreachable: no connection within 0\.5 s"):
            _ = Agent(Address(*full.getsockname()), patience=HASTY).facts
        assert time.monotonic() - began < 2
        for other in others:
            other.close()


def silent(wire: Wire) -> None:
    """Takes what comes and says nothing."""
    while wire.connection.recv(4096):
        pass


def test_silence_is_a_stall() -> None:
    def after_the_step(wire: Wire) -> None:
        wire.until_step()
        silent(wire)

    assert fault_of(silent, patience=HASTY).kind == "stalled"
    fault = fault_of(after_the_step, patience=HASTY)
    assert (fault.kind, fault.found) == ("stalled", "nothing at all for 0.15 s")


def test_a_step_without_end_is_a_stall_though_the_agent_is_alive() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        while True:
            time.sleep(0.03)
            wire.send("alive", {"id": step.fields["id"], "busy_ns": 1})

    fault = fault_of(script, patience=HASTY)
    assert (fault.kind, fault.found) == ("stalled", "no whole answer within 0.4 s")


def test_an_answer_byte_by_byte_does_not_outlast_the_patience() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        data = encoded(Frame("done", {"id": step.fields["id"], **DONE}, tensors_of(step)))
        for byte in data:
            time.sleep(0.05)
            wire.connection.sendall(bytes([byte]))

    assert fault_of(script, patience=HASTY).kind == "stalled"


def test_a_closed_connection_is_a_death() -> None:
    def inside(wire: Wire) -> None:
        step = wire.until_step()
        wire.connection.sendall(encoded(Frame("done", {"id": step.fields["id"], **DONE}, tensors_of(step)))[:-1])

    def reset(wire: Wire) -> None:
        wire.until_step()
        wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert fault_of(lambda wire: None).kind == "died"
    assert fault_of(lambda wire: wire.until_step()).found == "it closed the connection instead of answering"
    assert fault_of(inside).found == "it closed the connection in the middle of an answer"
    assert fault_of(reset).kind == "died"


def test_a_refusal_is_a_refusal() -> None:
    def denied(wire: Wire) -> None:
        wire.send("welcome", WELCOME)
        wire.read()
        wire.send("error", {"id": None, "code": "denied", "message": "the proof is wrong", "fatal": True})

    def unknown(wire: Wire) -> None:
        wire.greet()
        again = {"id": wire.read().fields["id"]}
        wire.send("error", {**again, "code": "unknown_model", "message": "no model toy", "fatal": False})

    def busy(wire: Wire) -> None:
        wire.send("refused", {"code": "busy", "message": "10.0.0.7 has been connected for 3 s"})

    for script, words in ((denied, "denied: the proof"), (unknown, "unknown_model: no model"), (busy, "10.0.0.7")):
        fault = fault_of(script)
        assert fault.kind == "refused"
        assert words in fault.found
    assert fault_of(lambda wire: wire.send("welcome", {**WELCOME, "token": True})).found == (
        "it asks for a token, and none is given"
    )


def test_another_protocol_is_reported_as_that() -> None:
    def later(wire: Wire) -> None:
        wire.send("welcome", {**WELCOME, "protocol": [2, 3]})

    def framed(wire: Wire) -> None:
        wire.connection.sendall(encoded(Frame("welcome", WELCOME), version=2))

    def said(wire: Wire) -> None:
        wire.send("welcome", WELCOME)
        wire.send("error", {"id": wire.read().fields["id"], "code": "version", "message": "no", "fatal": True})

    for script in (later, framed, said):
        assert fault_of(script).kind == "version"


GARBAGE_FIELDS: list[dict[str, Any]] = [
    {"duration_ns": 0}, {"duration_ns": -1}, {"duration_ns": 1.5}, {"duration_ns": "1"}, {"duration_ns": None},
    {"duration_ns": True}, {"duration_ns": 10**30}, {"clock_ns": -1}, {"clock_ns": None}, {"prepared_rows": 6},
    {"prepared_rows": -1}, {"energy_mj": "1"}, {"energy_mj": -1}, {"temperature_c": [1]}, {"id": 77}, {"id": True},
    {"id": None}, {"id": "1"}, {"id": [[]]},
]  # fmt: skip


@pytest.mark.parametrize("changes", GARBAGE_FIELDS, ids=str)
def test_fields_that_cannot_be_are_garbage(changes: dict[str, Any]) -> None:
    assert fault_of(lambda wire: wire.done(wire.until_step(), **changes)).kind == "garbage"


NAN = np.full((3, VOCABULARY), np.nan, "<f4")
GOOD = np.zeros((3, VOCABULARY), "<f4")
GARBAGE_TENSORS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "another name": {"rows": Tensor("f4", (3, VOCABULARY), GOOD.tobytes())},
    "another dtype": {"logits": Tensor("i4", (3, VOCABULARY), GOOD.tobytes())},
    "too few rows": {"logits": Tensor("f4", (2, VOCABULARY), GOOD[:2].tobytes())},
    "another vocabulary": {"logits": Tensor("f4", (3, VOCABULARY - 1), GOOD[:, 1:].tobytes())},
    "flat": {"logits": Tensor("f4", (3 * VOCABULARY,), GOOD.tobytes())},
    "no numbers": {"logits": Tensor("f4", (3, VOCABULARY), NAN.tobytes())},
    "ids instead": {"ids": Tensor("i4", (3,), bytes(12))},
    "more than was asked for": {"logits": Tensor("f4", (9000, VOCABULARY), bytes(4 * 9000 * VOCABULARY))},
}


@pytest.mark.parametrize("name", GARBAGE_TENSORS)
def test_logits_that_cannot_be_are_garbage(name: str) -> None:
    def script(wire: Wire) -> None:
        wire.send("done", {"id": wire.until_step().fields["id"], **DONE}, GARBAGE_TENSORS[name])

    assert fault_of(script).kind == "garbage"


def test_a_body_larger_than_an_answer_is_not_even_waited_for() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        large = Tensor("f4", (3, VOCABULARY), bytes(2**20))
        whole = encoded(Frame("done", {"id": step.fields["id"], **DONE}, {"logits": large}))
        wire.connection.sendall(whole[: -(2**20)])
        silent(wire)

    fault = fault_of(script)
    assert (fault.kind, fault.found) == ("garbage", "a body of 1048576 bytes, of which 65668 are allowed")


@pytest.mark.parametrize("ids", [(0, 1, VOCABULARY), (-1, 1, 2), (0, 1)])
def test_token_ids_that_cannot_be_are_garbage(ids: tuple[int, ...]) -> None:
    def script(wire: Wire) -> None:
        step, data = wire.until_step(), np.array(ids, "<i4")
        wire.send("done", {"id": step.fields["id"], **DONE}, {"ids": Tensor("i4", data.shape, data.tobytes())})

    ask = StepRequest("toy", "verify", ASK.tokens, 2, 3, "tokens")
    assert fault_of(script, lambda agent: agent.execute(ask)).kind == "garbage"


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH_9.6\r\n" * 2, b"HILS" + bytes(16), b"\x00" * 40,
     struct.pack(">4sHHIQ", b"HILS", 1, 0, 2, 0) + b"[]", struct.pack(">4sHHIQ", b"HILS", 1, 0, 2**20, 0),
     struct.pack(">4sHHIQ", b"HILS", 1, 0, 2, 2**50) + b"{}", b'HTTP/1.1 400 Bad Request\r\n\r\n{"kind": "welcome"}'],
)  # fmt: skip
def test_bytes_that_are_no_frame_are_garbage(data: bytes) -> None:
    def instead(wire: Wire) -> None:
        wire.connection.sendall(data)
        silent(wire)

    def after(wire: Wire) -> None:
        wire.until_step()
        instead(wire)

    first, later = fault_of(instead), fault_of(after)
    assert {first.kind, later.kind} <= {"garbage", "version"}
    assert first.found.isprintable()


@pytest.mark.parametrize(
    ("welcome", "ready"),
    [({"protocol": "1"}, {}), ({"protocol": None}, {}), ({"nonce": 5}, {}), ({"token": "no"}, {}), ({}, {"device": []}),
     ({}, {"clock": None}), ({}, {"models": "toy"}), ({}, {"models": [1]}), ({}, {"heartbeat_s": 0}),
     ({}, {"heartbeat_s": "1"}), ({}, {"heartbeat_s": 1e9}), ({}, {"most_body_bytes": -1}), ({}, {"id": 9}),
     ({}, {"id": True})],
)  # fmt: skip
def test_a_handshake_that_cannot_be_is_garbage(welcome: dict[str, Any], ready: dict[str, Any]) -> None:
    def script(wire: Wire) -> None:
        wire.send("welcome", {**WELCOME, **welcome})
        wire.send("ready", {"id": wire.read().fields["id"], **READY, **ready})
        silent(wire)

    assert fault_of(script, lambda agent: agent.facts).kind == "garbage"


@pytest.mark.parametrize(
    "changes",
    [{"model": "other"}, {"vocabulary": 0}, {"vocabulary": "9"}, {"context": -1}, {"widths": []}, {"widths": [4, 4]},
     {"widths": [0, 4]}, {"widths": ["1"]}, {"gives": []}, {"gives": ["logits"]}, {"gives": "tokens"},
     {"gives": ["tokens", "x"]}, {"tokenizer": 5}, {"digest": []}],
)  # fmt: skip
def test_models_that_cannot_be_are_garbage(changes: dict[str, Any]) -> None:
    def script(wire: Wire) -> None:
        wire.until_step({**LOADED, **changes})

    assert fault_of(script, lambda agent: agent.load("toy")).kind == "garbage"


def test_another_kind_than_was_asked_for_is_garbage() -> None:
    fault = fault_of(lambda wire: wire.send("pong", {"id": wire.until_step().fields["id"], "clock_ns": 1}))
    assert (fault.kind, fault.found) == ("garbage", "`pong` where `done` belongs")


def test_what_an_agent_says_cannot_move_the_cursor() -> None:
    def script(wire: Wire) -> None:
        again = {"id": wire.until_step().fields["id"]}
        wire.send("error", {**again, "code": "engine", "message": "\x1b[2J\ud800" + "x" * 5000, "fatal": False})

    fault = fault_of(script)
    assert fault.kind == "engine"
    assert fault.found.isprintable()
    assert len(fault.found) < 400
    device: dict[str, Any] = {}
    hostile = {**READY, "device": {"na\x1bme": "\x1b[31m", "deep": {"a": [1]}, "heat": float("inf")}}

    def greeted(wire: Wire) -> None:
        wire.send("welcome", WELCOME)
        fields = {"kind": "ready", "id": wire.read().fields["id"], **hostile}
        header = json.dumps(fields).replace("Infinity", "1e999").encode()
        wire.connection.sendall(struct.pack(">4sHHIQ", b"HILS", 1, 0, len(header), 0) + header)
        silent(wire)

    with Scripted(greeted) as server:
        agent = Agent(server.address, patience=CALM)
        device.update(agent.facts.device)
        agent.close()
    assert device == {"na?me": "?[31m", "deep": '{"a": [1]}', "heat": "Infinity"}


def test_an_engine_s_fault_leaves_the_connection_as_it_is() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        wire.send("error", {"id": step.fields["id"], "code": "engine", "message": "out of memory", "fatal": False})
        wire.done(wire.read())
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=CALM)
        with pytest.raises(AgentFault, match=r"^engine: out of memory$"):
            agent.execute(ASK)
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()


def test_a_model_that_cannot_be_loaded_is_reported_as_that_in_one_line() -> None:
    def script(wire: Wire) -> None:
        wire.greet()
        again = {"id": wire.read().fields["id"], "code": "engine", "fatal": False}
        wire.send("error", {**again, "message": "RuntimeError: NPU context lost\r\n  second line.\n"})
        wire.send("loaded", {"id": wire.read().fields["id"], **LOADED})
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=CALM)
        with pytest.raises(AgentFault) as caught:
            agent.load("toy")
        lost = "RuntimeError: NPU context lost; second line."
        assert str(caught.value) == f"engine: model 'toy' could not be loaded: {lost}"
        assert agent.load("toy") == FACTS
        agent.close()


def test_an_agent_that_gives_up_is_connected_to_again() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        wire.send("error", {"id": step.fields["id"], "code": "engine", "message": "the device is gone", "fatal": True})
        silent(wire)

    with Scripted(script, obliging) as server:
        agent = Agent(server.address, patience=CALM)
        with pytest.raises(AgentFault, match=r"^engine: the device is gone$"):
            agent.execute(ASK)
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()


def test_a_late_answer_is_never_taken_for_a_later_one() -> None:
    """The first agent answers what had been given up; the second is asked anew, and loads again by itself."""
    late = threading.Event()

    def slow(wire: Wire) -> None:
        step = wire.until_step()
        late.wait(5)
        wire.done(step, duration_ns=666)

    def quick(wire: Wire) -> None:
        wire.done(wire.until_step())
        wire.read()

    with Scripted(slow, quick) as server:
        agent = Agent(server.address, patience=HASTY)
        with pytest.raises(AgentFault, match="stalled"):
            agent.execute(ASK)
        late.set()
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()


def test_a_stale_answer_on_the_same_connection_is_garbage() -> None:
    def script(wire: Wire) -> None:
        step = wire.until_step()
        wire.done(step)
        wire.done(step, duration_ns=666)
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=CALM)
        assert agent.execute(ASK).duration_ns == 1000
        with pytest.raises(AgentFault, match="garbage: `done` to question 3, where 4 was asked"):
            agent.execute(ASK)


def test_an_agent_that_comes_back_is_used_again() -> None:
    def dies(wire: Wire) -> None:
        wire.until_step()

    with Scripted(dies, obliging, obliging) as server:
        agent = Agent(server.address, patience=CALM)
        with pytest.raises(AgentFault, match="died"):
            agent.execute(ASK)
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()


def test_an_agent_that_comes_back_with_another_model_is_refused() -> None:
    def changed(wire: Wire) -> None:
        wire.until_step({**LOADED, "digest": "another"})

    def first(wire: Wire) -> None:
        wire.done(wire.until_step())

    with Scripted(first, changed) as server:
        agent = Agent(server.address, patience=CALM)
        agent.execute(ASK)
        with pytest.raises(AgentFault, match="died"):
            agent.execute(ASK)
        with pytest.raises(AgentFault, match="refused: model 'toy' came back as another"):
            agent.execute(ASK)


def busy(wire: Wire) -> None:
    wire.send("refused", {"code": "busy", "message": "10.0.0.7 is connected"})


def test_an_agent_still_at_our_former_step_is_waited_for() -> None:
    def dies(wire: Wire) -> None:
        wire.until_step()

    with Scripted(dies, busy, busy, obliging) as server:
        agent = Agent(server.address, patience=Timeouts(connect_s=2))
        with pytest.raises(AgentFault, match="died"):
            agent.execute(ASK)
        assert agent.execute(ASK).duration_ns == 1000
        agent.close()
    with Scripted(dies, *[busy] * 9) as server:
        agent = Agent(server.address, patience=HASTY)
        with pytest.raises(AgentFault, match="died"):
            agent.execute(ASK)
        with pytest.raises(AgentFault, match=r"unreachable: .*10\.0\.0\.7"):
            agent.execute(ASK)


def test_more_than_the_agent_takes_is_not_sent() -> None:
    def script(wire: Wire) -> None:
        wire.greet(ready={**READY, "most_body_bytes": 16})
        wire.send("loaded", {"id": wire.read().fields["id"], **LOADED})
        wire.read()

    with Scripted(script) as server:
        agent = Agent(server.address, patience=CALM)
        with pytest.raises(AgentFault, match="refused: `step` of 20 bytes, of which it takes 16"):
            agent.execute(ASK)
        agent.close()


def test_ctrl_c_while_waiting_leaves_the_agent() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background may ignore it
    gone = threading.Event()

    def script(wire: Wire) -> None:
        wire.until_step()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        silent(wire)
        gone.set()

    try:
        with Scripted(script) as server:
            agent = Agent(server.address, patience=CALM)
            with pytest.raises(KeyboardInterrupt):
                agent.execute(ASK)
            agent.close()
            assert gone.wait(5)
    finally:
        signal.signal(signal.SIGINT, before)


def test_goodbye_never_fails_nor_takes_long() -> None:
    for script in (lambda wire: wire.until_step(), lambda wire: (wire.done(wire.until_step()), silent(wire))):
        with Scripted(script) as server:
            agent = Agent(server.address, patience=HASTY)
            with contextlib.suppress(AgentFault):
                agent.execute(ASK)
            agent.close()


@pytest.fixture(scope="module")
def shipped() -> Iterator[tuple[Address, subprocess.Popen[str]]]:
    """A running agent: its address and its process."""
    command = [sys.executable, "-m", "hilsim", "agent", "--model", "draft=models/draft-0.2m", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as agent:
        try:
            assert agent.stdout is not None
            line = agent.stdout.readline()
            found = re.fullmatch(r"listening on (.*)\n", line)
            if found is None:
                pytest.skip(f"no agent here: {line}")
            yield Address.parse(f"tcp://{found[1]}"), agent
        finally:
            agent.terminate()


def test_the_shipped_agent_answers(shipped: tuple[Address, subprocess.Popen[str]]) -> None:
    agent = Agent(shipped[0])
    facts = agent.load("draft")
    first = agent.execute(StepRequest("draft", "draft prefill", (1, 2, 3, 4), 0, 1, "logits"))
    again = agent.execute(StepRequest("draft", "verify", (1, 2, 3, 4), 1, 3, "logits"))
    assert first.rows is not None
    assert again.rows is not None
    assert again.rows.shape == (3, facts.vocabulary)
    np.testing.assert_allclose(first.rows[0], again.rows[2], atol=1e-3)
    assert first.duration_ns < first.wall_ns
    agent.execute(StepRequest("draft", "draft", (1, 2, 3, 4, 5), 4, 1, "tokens"))
    with pytest.raises(AgentFault, match="refused: bad_request"):
        agent.execute(StepRequest("draft", "draft", (10**6,), 0, 1, "tokens"))
    with pytest.raises(AgentFault, match="refused: unknown_model"):
        agent.load("other")
    with pytest.raises(AgentFault, match=r"refused: busy"):
        _ = Agent(shipped[0]).facts
    agent.close()


def test_the_shipped_agent_stopped_and_killed(shipped: tuple[Address, subprocess.Popen[str]]) -> None:
    """A stopped process is silent and goes on later; a killed one is gone."""
    agent, ask = (
        Agent(shipped[0], patience=Timeouts(silence_s=1.5)),
        StepRequest("draft", "draft", (1, 2, 3), 2, 1, "logits"),
    )
    before = agent.execute(ask)
    shipped[1].send_signal(signal.SIGSTOP)
    with pytest.raises(AgentFault, match=r"stalled: nothing at all for 1\.5 s"):
        agent.execute(ask)
    shipped[1].send_signal(signal.SIGCONT)
    after = agent.execute(ask)
    assert before.rows is not None
    np.testing.assert_allclose(after.rows, before.rows, atol=1e-3)
    shipped[1].kill()
    shipped[1].wait(5)
    with pytest.raises(AgentFault, match="died: "):
        agent.execute(ask)
    with pytest.raises(AgentFault, match="unreachable: connection refused"):
        agent.execute(ask)
    agent.close()
