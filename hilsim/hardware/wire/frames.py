"""Frames: the format of messages between simulator and agent. Standard library only, as it also runs on boards.

    0   4  magic "HILS"
    4   2  protocol version
    6   2  zero
    8   4  bytes of the header
    12  8  bytes of the body
    20     the header: one JSON object in UTF-8, with `kind` and the message's fields
           the body: the bytes of the tensors that `tensors` in the header lists, one behind the other

Numbers of the frame are big-endian, tensors little-endian and without gaps. docs/protocol.md has a worked example.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hilsim.errors import Misfit

MAGIC, VERSION = b"HILS", 1
PREAMBLE = struct.Struct(">4sHHIQ")
ITEM_BYTES = {"u1": 1, "i4": 4, "i8": 8, "f2": 2, "f4": 4, "f8": 8}
MOST_HEADER_BYTES = 64 * 1024
MOST_BODY_BYTES = 256 * 1024 * 1024
MOST_TENSORS = 16
# What a model may state of itself before anything is allocated for it; the largest known are a quarter of that.
MOST_VOCABULARY = 2**22
MOST_CONTEXT = 2**24
MOST_WIDTHS, MOST_WIDTH = 64, 2**16
MOST_DIMENSIONS = 4
# Bytes come in pieces of at most so many, so that a length that was only claimed takes no memory.
PIECE_BYTES = 1024 * 1024

FRAME_S = 10.0  # a frame that has begun must be complete by then

Receive = Callable[[int], bytes]  # up to so many bytes, at least one; empty where the other side has closed


class FrameError(Exception):
    """Bytes that are no frame. `code` is "garbage", "too_large" or "version"; after any of them nothing can be read."""

    def __init__(self, code: str, found: str):
        super().__init__(code, found)
        self.code, self.found = code, found

    def __str__(self) -> str:
        return self.found


class Closed(Exception):
    """The other side has closed the connection; `inside` is True in the middle of a frame."""

    def __init__(self, inside: bool):
        super().__init__(inside)
        self.inside = inside


@dataclass(frozen=True)
class Tensor:
    """Numbers as bytes: a dtype of ITEM_BYTES, a shape, and the bytes in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Frame:
    """One message: its kind, its fields, and its tensors by name."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def encoded(frame: Frame, version: int = VERSION) -> bytes:
    """A frame as bytes. Raises `FrameError` where it is larger than any reader takes."""
    listed = [{"name": name, "dtype": t.dtype, "shape": list(t.shape)} for name, t in frame.tensors.items()]
    header = dict(frame.fields) | {"kind": frame.kind} | ({"tensors": listed} if listed else {})
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    body = b"".join(bytes(tensor.data) for tensor in frame.tensors.values())
    require_sizes(len(text), len(body), MOST_BODY_BYTES)
    return PREAMBLE.pack(MAGIC, version, 0, len(text), len(body)) + text + body


def read_frame(receive: Receive, most_body_bytes: int = MOST_BODY_BYTES) -> Frame:
    """The next frame. Raises `FrameError` for bytes that are none, and `Closed`."""
    magic, version, zero, header_bytes, body_bytes = PREAMBLE.unpack(exactly(receive, PREAMBLE.size, inside=False))
    if magic != MAGIC:
        raise FrameError("garbage", f"{magic!r} where a frame begins")
    if version != VERSION:
        raise FrameError("version", f"protocol version {version}")
    if zero != 0:
        raise FrameError("garbage", f"{zero} in bytes 6 and 7")
    require_sizes(header_bytes, body_bytes, most_body_bytes)
    header = header_of(exactly(receive, header_bytes))
    layout = layout_of(header.pop("tensors", []))
    if sum(nbytes for *_, nbytes in layout) != body_bytes:
        raise FrameError("garbage", f"a body of {body_bytes} bytes, which its tensors do not add up to")
    body = memoryview(exactly(receive, body_bytes))
    tensors, at = {}, 0
    for name, dtype, shape, nbytes in layout:
        tensors[name] = Tensor(dtype, shape, body[at : at + nbytes])
        at += nbytes
    return Frame(header.pop("kind"), header, tensors)


def receiving(connection: socket.socket, within_s: float) -> Receive:
    """Receive from a socket for so long in all: a limit of a whole message and not of each of its bytes."""
    until = time.monotonic() + within_s

    def receive(nbytes: int) -> bytes:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        return connection.recv(nbytes)

    return receive


def require_sizes(header_bytes: int, body_bytes: int, most_body_bytes: int) -> None:
    """Refuse what is larger than was agreed."""
    if header_bytes > MOST_HEADER_BYTES:
        raise FrameError("too_large", f"a header of {header_bytes} bytes, of which {MOST_HEADER_BYTES} are allowed")
    if body_bytes > most_body_bytes:
        raise FrameError("too_large", f"a body of {body_bytes} bytes, of which {most_body_bytes} are allowed")


def exactly(receive: Receive, nbytes: int, *, inside: bool = True) -> bytes:
    """So many bytes, however they come. Memory grows with what has come, not with what was announced."""
    pieces: list[bytes] = []
    missing = nbytes
    while missing:
        piece = receive(min(missing, PIECE_BYTES))
        if not piece:
            raise Closed(inside or bool(pieces))
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def header_of(text: bytes) -> dict[str, Any]:
    """The JSON object of a header, with a kind."""
    try:
        header = json.loads(text.decode(), parse_constant=no_number)
    except (ValueError, RecursionError):
        raise FrameError("garbage", "a header that is no JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise FrameError("garbage", "a header that is no object with a kind")
    return header


def no_number(name: str) -> float:
    """JSON knows neither NaN nor infinity."""
    raise ValueError(name)


def layout_of(listed: object) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Name, dtype, shape and bytes of every tensor that a header lists."""
    if not isinstance(listed, list) or len(listed) > MOST_TENSORS:
        raise FrameError("garbage", f"tensors that are no list of at most {MOST_TENSORS}")
    found: list[tuple[str, str, tuple[int, ...], int]] = []
    for entry in listed:
        known = isinstance(entry, dict) and entry.keys() == {"name", "dtype", "shape"}
        if not known or not isinstance(entry["name"], str) or entry["name"] in [name for name, *_ in found]:
            raise FrameError("garbage", "a tensor without a name of its own, a dtype and a shape")
        dtype, shape = entry["dtype"], entry["shape"]
        if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
            raise FrameError("garbage", f"a tensor that is none of {', '.join(ITEM_BYTES)}")
        whole = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
        if not whole or any(type(size) is not int or not 0 <= size < 2**40 for size in shape):
            raise FrameError("garbage", f"a shape that is no list of at most {MOST_DIMENSIONS} sizes")
        found.append((entry["name"], dtype, tuple(shape), math.prod(shape) * ITEM_BYTES[dtype]))
    return found


def limits_fault(vocabulary: int, context: int, widths: Sequence[int] | None) -> Misfit | None:
    """The fault of a model's sizes beyond the limits, or None."""
    for name, value, most in (("vocabulary", vocabulary, MOST_VOCABULARY), ("context", context, MOST_CONTEXT)):
        if not 1 <= value <= most:
            return Misfit(f"a {name} of {value}", f"1 to {most}")
    if widths is None:
        return None
    rising = bool(widths) and widths[0] >= 1 and all(low < high for low, high in pairwise(widths))
    if not rising or len(widths) > MOST_WIDTHS or widths[-1] > MOST_WIDTH:
        return Misfit(
            f"widths {list(widths[:8])!s}", f"at most {MOST_WIDTHS} rising whole numbers from 1 to {MOST_WIDTH}"
        )
    return None
