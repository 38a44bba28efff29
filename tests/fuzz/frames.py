"""What a client could send to an agent: bytes that are no frame, and frames without sense."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hilsim.errors import SimulationError
from hilsim.hardware.agent.runner import Runner
from hilsim.hardware.agent.serve import Service, served
from hilsim.hardware.conformance.exchanges import whole_numbers
from hilsim.hardware.wire import frames
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Closed, Frame, encoded, read_frame
from tests.fake_engines import CONTEXT, VOCABULARY, Chain
from tests.fuzz.kind import Input, Kind

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


KNOWN = {"welcome", "ready", "loaded", "error", "done", "pong", "stats", "bye", "reset", "alive"}
GREETING = encoded(Frame("hello", {"id": 1, "protocol": 1, "proof": None}))
LOAD = encoded(Frame("load", {"id": 2, "model": "toy"}))


class Refusal(SimulationError):
    """An agent's `error`, where the worker looks for the errors of the program."""


def clients_bytes(chance: random.Random) -> Input:
    """Bytes that a client sends, half of them after a greeting; several frames without sense, or one broken one."""
    if chance.random() < 0.5:
        data = b"".join(encoded(odd_frame(chance)) for _ in range(chance.choice((1, 3, 10))))
        return "frames.bin", GREETING + LOAD + data
    data = chance.choice(BREAKERS)(chance)
    return "frames.bin", GREETING + LOAD + data if chance.random() < 0.5 else data


def serve_client(path: Path) -> None:
    """One session of an agent with what a client sends: it ends soon, in whole frames, and the next is served."""
    service = Service(
        runners={"toy": Runner("toy", Chain)}, device={"name": "test"}, token=None, heartbeat_s=1.0,
        most_body_bytes=2**16,
    )  # fmt: skip
    kinds = [frame.kind for frame in session(service, path.read_bytes())]
    assert set(kinds) <= {"welcome", "ready", "loaded", "error", "done", "pong", "stats", "bye", "reset", "alive"}, (
        kinds
    )
    step = Frame("step", STEP, {"tokens": whole_numbers([1, 2, 3, 4])})
    *_, done = session(service, GREETING + LOAD + encoded(step))
    expected = memoryview(Chain().run([1, 2, 3, 4], 2).logits or b"").tolist()
    rows = [expected[:VOCABULARY], expected[VOCABULARY:]]
    assert done.kind == "done"
    assert memoryview(done.tensors["ids"].data).cast("i").tolist() == [row.index(max(row)) for row in rows]
    if "error" in kinds:
        raise Refusal("an error frame")


def session(service: Service, data: bytes) -> list[Frame]:
    """What an agent answers to one client that sends so many bytes and no more."""
    ours, theirs = socket.socketpair()
    found: list[Frame] = []

    def send() -> None:
        with suppress(OSError):
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)

    def receive() -> None:
        with suppress(Closed, OSError):
            while True:
                found.append(read_frame(ours.recv))

    threads = [threading.Thread(target=work, daemon=True) for work in (send, receive)]
    for thread in threads:
        thread.start()
    served(service, theirs, lambda: None)
    theirs.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "the connection is still open"
    ours.close()
    return found


KINDS = [Kind("frames of a client", clients_bytes, serve_client, 500, (0.0, 0.9))]
