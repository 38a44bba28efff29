"""Bytes that nobody would send: the agent must neither die nor hang nor grow, and must compute rightly afterwards."""

from __future__ import annotations

import json
import random
import signal
import socket
import struct
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

from hilsim.hardware.conformance.exchanges import AgentConnection, AgentUnderTest, whole_numbers
from hilsim.hardware.wire import frames
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Closed, Frame, FrameError, encoded, read_frame
from hilsim.places import CODE as PROJECT
from tests.fake_engines import CONTEXT, VOCABULARY, Chain

SEED = 20_240_607
BROKEN, ODD = 6000, 6000  # bytes that are no frame, one a connection; frames without sense, many a connection
A_CONNECTION = 100
DEADLINE_S = 5.0  # for whatever the agent says to one of them
# What may be left of all that: the allocator keeps some memory, and the list of what was counted has no length.
MOST_GROWTH_BYTES = 4 * 1024 * 1024

STEP = {"id": 1, "model": "toy", "phase": "verify", "cached": 2, "wanted": 2, "want": "tokens"}
ODDITIES = [
    None, True, False, -1, 0, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e308, "", "toy", "\ud800", "\0", "x" * 5000,
    [], [[]], {}, {"a": 1}, [1] * 500, [None] * 3, "logits", "nothing", "NaN",
]  # fmt: skip


def preamble(header: int, body: int, magic: bytes = MAGIC, version: int = 1, zero: int = 0) -> bytes:
    return PREAMBLE.pack(magic, version, zero, header, body)


def raw(header: object, body: bytes = b"", *, header_bytes: int | None = None, body_bytes: int | None = None) -> bytes:
    """A frame whose header is anything, and whose lengths may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = len(text) if header_bytes is None else header_bytes, len(body) if body_bytes is None else body_bytes
    return preamble(*lengths) + text + body


def good(chance: random.Random) -> bytes:
    """A frame that an agent understands."""
    tokens = [chance.randrange(VOCABULARY) for _ in range(chance.randint(4, 30))]
    return encoded(chance.choice([
        Frame("step", STEP | {"cached": chance.randint(0, 2)}, {"tokens": whole_numbers(tokens)}),
        Frame("load", {"id": 2, "model": "toy"}), Frame("ping", {"id": 3}), Frame("stats", {"id": 4}),
        Frame("reset", {"id": 5, "model": "toy"}),
    ]))  # fmt: skip


def flipped(chance: random.Random) -> bytes:
    data = bytearray(good(chance))
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def truncated(chance: random.Random) -> bytes:
    data = good(chance)
    return data[: chance.randrange(1, len(data))]


def spliced(chance: random.Random) -> bytes:
    one, other = good(chance), good(chance)
    return one[: chance.randrange(len(one))] + other[chance.randrange(len(other)) :]


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(1, 400))


def noise_behind_magic(chance: random.Random) -> bytes:
    return preamble(chance.randint(0, 300), chance.randint(0, 300)) + chance.randbytes(chance.randint(0, 600))


def huge(chance: random.Random) -> bytes:
    sizes = [0, 1, 2**16, 2**16 + 1, 2**31 - 1, 2**31, 2**32 - 1]
    return preamble(chance.choice(sizes), chance.choice([*sizes, 2**24 + 1, 2**40, 2**63, 2**64 - 1])) + b"{}"


def other_preamble(chance: random.Random) -> bytes:
    head = chance.choice([
        preamble(2, 0, magic=chance.randbytes(4)), preamble(2, 0, version=chance.randint(0, 65535)),
        preamble(2, 0, zero=chance.randint(1, 65535)),
    ])  # fmt: skip
    return head + b"{}"


def odd_header(chance: random.Random) -> bytes:
    deep = chance.choice([b"[", b'{"a":', b'{"kind":"ping","x":[']) * chance.randint(1, 5000)
    texts = [
        deep[:65536], b"", b"null", b"[]", b"{}", b'"step"', b"\xff\xfe{}", b'{"kind":NaN}', b'{"kind":"step"',
        b'{"kind":"ping","id":-Infinity}', b'{"kind":["step"]}', b'{"kind":"ping"}{}', b"1" * 6000, b"\0" * 50,
        b'{"kind":"ping","id":' + b"9" * 6000 + b"}", b'{"kind":"ping","kind":5}', b'{"kind":"\\u12"}',
    ]  # fmt: skip
    return raw(chance.choice(texts))


def odd_tensors(chance: random.Random) -> bytes:
    entry: dict[str, Any] = {"name": "tokens", "dtype": "i4", "shape": [4]}
    entry[chance.choice(list(entry))] = chance.choice(
        [*ODDITIES, [2**40], [2**39] * 4, [-4], [4.0], [True], "f8", "O", "i5"]
    )
    listed = chance.choice(
        [[entry], [entry, entry], [entry] * 17, entry, "tokens", [[]], [None], [entry | {"more": 1}]]
    )
    return raw(STEP | {"kind": "step", "tensors": listed}, chance.randbytes(chance.choice([0, 3, 16, 17, 32])))


def odd_sums(chance: random.Random) -> bytes:
    listed = [{"name": "tokens", "dtype": "i4", "shape": [chance.randint(0, 9)]}]
    body = bytes(4 * chance.randint(0, 9) + chance.randint(0, 3))
    lie = chance.choice([None, chance.randint(0, 100)])
    return raw(STEP | {"kind": "step", "tensors": listed}, body, body_bytes=lie)


BREAKERS: list[Callable[[random.Random], bytes]] = [
    flipped, truncated, spliced, noise, noise_behind_magic, huge, other_preamble, odd_header, odd_tensors, odd_sums,
]  # fmt: skip


def odd_frame(chance: random.Random) -> Frame:
    """A frame in order, with fields that are not."""
    kind = chance.choice(
        ["step", "step", "step", "load", "reset", "ping", "stats", "hello", "alive", "done", "", "x" * 999]
    )
    fields: dict[str, Any] = dict(STEP)
    for _ in range(chance.randint(1, 3)):
        name = chance.choice([*STEP, "kind_", "tensors_"])
        fields[name] = chance.choice(ODDITIES)
        if chance.random() < 0.2:
            fields.pop(name)
    count = chance.choice([0, 1, 4, 4, 4, CONTEXT, CONTEXT + 1])
    tokens = [chance.choice([0, 5, VOCABULARY - 1, VOCABULARY, -1, 2**31 - 1]) for _ in range(count)]
    dtype = chance.choice(["i4", "i4", "i4", "u1", "i8", "f2", "f4", "f8"])
    data = bytes(frames.ITEM_BYTES[dtype] * count) if dtype != "i4" else struct.pack(f"<{count}i", *tokens)
    shape = chance.choice([(count,), (count,), (1, count), (count, 1), (1, 1, 1, count)])
    name = chance.choice(["tokens", "tokens", "tokens", "token", ""])
    return Frame(kind, fields, {name: frames.Tensor(dtype, shape, data)} if chance.random() < 0.9 else {})


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
