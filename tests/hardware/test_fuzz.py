"""Bytes that nobody would send: the agent must neither die nor hang nor grow, and must compute rightly afterwards."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.hardware.conformance.exchanges import AgentConnection, AgentUnderTest
from hilsim.hardware.wire import frames
from hilsim.hardware.wire.frames import Closed, Frame, FrameError, encoded, read_frame
from hilsim.places import CODE as PROJECT
from tests.fake_engines import VOCABULARY, Chain
from tests.fuzz.frames import BREAKERS, good, odd_frame, preamble, raw

SEED = 20_240_607
BROKEN, ODD = 6000, 6000  # bytes that are no frame, one a connection; frames without sense, many a connection
A_CONNECTION = 100
DEADLINE_S = 5.0  # for whatever the agent says to one of them
# What may be left of all that: the allocator keeps some memory, and the list of what was counted has no length.
MOST_GROWTH_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentUnderTest, int, Path]]:
    """An agent in a process of its own: where it is, its number, and what it writes."""
    told = tmp_path_factory.mktemp("fuzz") / "stderr"
    words = [
        sys.executable,
        "-m",
        "hilsim",
        "agent",
        "--engine",
        "tests/fake_engines.py:Chain",
        "--model",
        "toy=README.md",
    ]
    with (
        told.open("w") as errors,
        subprocess.Popen(
            [*words, "--listen", "127.0.0.1:0"], cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            yield AgentUnderTest("127.0.0.1", port), process.pid, told
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


def resident(pid: int) -> int:
    """Memory that a process holds."""
    found = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(found[0].split()[1]) * 1024


def all_said(connection: socket.socket) -> list[Frame]:
    """Every frame until the agent closes, within the deadline; each of them whole and in order."""
    by, said = time.monotonic() + DEADLINE_S, []
    while True:
        left = by - time.monotonic()
        assert left > 0, "the agent hangs"
        connection.settimeout(left)
        try:
            said.append(read_frame(connection.recv))
        except ConnectionError:
            return said
        except Closed as closed:
            return said if not closed.inside else pytest.fail("the agent ended in the middle of a frame")


@pytest.mark.slow
def test_broken_bytes(running: tuple[AgentUnderTest, int, Path]) -> None:
    """Half of them come where a hello is expected, half later; then the client stops sending and hears the rest."""
    subject, pid, _ = running
    chance = random.Random(SEED)
    started = codes = 0
    grown_from = 0
    for number in range(BROKEN):
        if number == BROKEN // 6:
            grown_from = resident(pid)
        with welcomed(subject) as connection:
            if chance.random() < 0.5:
                connection.sendall(encoded(Frame("hello", {"id": 1, "protocol": 1, "proof": None})))
                connection.sendall(encoded(Frame("load", {"id": 2, "model": "toy"})))
                started += 1
            with suppress(ConnectionError):
                connection.sendall(chance.choice(BREAKERS)(chance))
                if chance.random() < 0.05:
                    continue  # and is gone
                connection.shutdown(socket.SHUT_WR)
            said = all_said(connection)
            assert {frame.kind for frame in said} <= {"ready", "loaded", "error", "done", "pong", "stats", "bye"}
            codes += any(frame.kind == "error" for frame in said)
    assert 0.4 * BROKEN < started < 0.6 * BROKEN
    assert codes > 0.5 * BROKEN  # the others were truncated, harmless, or hung up on
    computes_rightly(subject)
    assert resident(pid) - grown_from < MOST_GROWTH_BYTES


def test_frames_without_sense(running: tuple[AgentUnderTest, int, Path]) -> None:
    """Each gets one answer, and the connection goes on."""
    subject, pid, _ = running
    chance = random.Random(SEED + 1)
    refused = grown_from = 0
    for batch in range(ODD // A_CONNECTION):
        if batch == ODD // A_CONNECTION // 6:
            grown_from = resident(pid)
        with subject.loaded() as talk:
            for _ in range(A_CONNECTION):
                frame = odd_frame(chance)
                talk.send(frame)
                answer = talk.read(DEADLINE_S)
                assert answer.kind in ("error", "done", "loaded", "pong", "stats")
                assert answer.fields["id"] in (frame.fields.get("id"), None)
                if answer.kind == "error":
                    assert answer.fields["fatal"] is False
                    assert answer.fields["code"] != "engine"
                    refused += 1
    assert refused > 0.7 * ODD
    computes_rightly(subject)
    assert resident(pid) - grown_from < MOST_GROWTH_BYTES


def test_nothing_of_it_was_a_mistake_of_the_agents_own(running: tuple[AgentUnderTest, int, Path]) -> None:
    """What goes wrong inside the agent, or its engine, leaves a traceback."""
    assert "Traceback" not in running[2].read_text()


def welcomed(subject: AgentUnderTest) -> socket.socket:
    """A connection behind its welcome; the client before may just be leaving."""
    while True:
        connection = socket.create_connection((subject.host, subject.port), DEADLINE_S)
        if read_frame(connection.recv).kind == "welcome":
            return connection
        connection.close()


def computes_rightly(subject: AgentUnderTest) -> None:
    """The agent still says what the engine would say here."""
    with subject.loaded() as talk:
        for tokens in ([1, 2, 3, 4], [1, 2, 9], [7] * 40):
            rows = memoryview(Chain().run(tokens, 2).logits).tolist()
            expected = [rows[at : at + VOCABULARY] for at in (0, VOCABULARY)]
            assert talk.step(tokens, len(tokens) - 2, 2).ids == [row.index(max(row)) for row in expected]
        assert isinstance(talk, AgentConnection)


HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


def from_bytes(data: bytes, piece: int) -> Callable[[int], bytes]:
    """What a socket would give, in pieces of some size."""
    at = 0

    def receive(nbytes: int) -> bytes:
        nonlocal at
        found = data[at : at + min(nbytes, piece)]
        at += len(found)
        return found

    return receive


@given(st.binary(max_size=200), st.integers(1, 50), st.booleans())
def test_any_bytes_are_a_frame_or_a_fault(data: bytes, piece: int, behind_magic: bool) -> None:
    if behind_magic:
        data = preamble(data[0] % 64 if data else 0, data[-1] % 64 if data else 0) + data
    with suppress(FrameError, Closed):
        read_frame(from_bytes(data, piece))


@given(HEADERS, HEADERS, st.binary(max_size=40), st.integers(1, 50))
def test_any_header_is_a_frame_or_a_fault(header: object, tensors: object, body: bytes, piece: int) -> None:
    for one in (header, {"kind": "step", "tensors": tensors}, {"kind": "step", "x": header}):
        with suppress(FrameError, Closed):
            read_frame(from_bytes(raw(one, body), piece))


@given(
    st.text(max_size=20), st.dictionaries(st.text(max_size=9), HEADERS), st.dictionaries(st.text(), SHAPES, max_size=4)
)
def test_what_is_encoded_is_read_back(kind: str, fields: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    fields = {name: value for name, value in fields.items() if name not in ("kind", "tensors")}
    tensors = {}
    for number, (name, shape) in enumerate(shapes.items()):
        dtype = list(frames.ITEM_BYTES)[number]
        size = frames.ITEM_BYTES[dtype]
        for length in shape:
            size *= length
        tensors[name] = frames.Tensor(dtype, shape, random.Random(number).randbytes(size))
    frame = Frame(kind, fields, tensors)
    assert read_frame(from_bytes(encoded(frame), 7)) == frame


@given(st.data())
def test_one_changed_bit_is_a_frame_or_a_fault(data: st.DataObject) -> None:
    bits = bytearray(good(random.Random(data.draw(st.integers(0, 20)))))
    at = data.draw(st.integers(0, 8 * len(bits) - 1))
    bits[at // 8] ^= 1 << at % 8
    with suppress(FrameError, Closed):
        read_frame(from_bytes(bytes(bits), 1000))
