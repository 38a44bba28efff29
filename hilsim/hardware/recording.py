"""What a chip said, kept: FILE has a line of JSON for every answer and fault, FILE.tensors their logits and token ids.

A session begins with a line about the chip, its models and who asked; a file may hold several. Every line ends with the
SHA-256 of the chain before it and of itself, and names the digest of its tensor, so that what is changed, taken out or
put in shows. Both files only grow. Tokens are those of the rows computed; the conversation before them is known
by its digest. Writing is `recorder`'s business.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Fault, InputError
from hilsim.hardware.exchange import FaultKind, ModelFacts, Want

VERSION = 1
START = b'{"recording":'
CHAIN = b',"chain":"%s"}\n'
CHAIN_BYTES = len(CHAIN % bytes(64))
Dtype = Literal["f4", "i4"]
ITEM_BYTES = 4  # of either
PIECE_BYTES = 2**20
MOST_FAULTS = 20
Use = Literal["said", "timed", "warm-up", "repeat", "profile"]
# What comes back of a step: dtype and dimensions.
TELLS: dict[Want, tuple[Dtype, int] | None] = {"logits": ("f4", 2), "tokens": ("i4", 1), "nothing": None}
SHA256 = r"^[0-9a-f]{64}$"


class Stored(Record):
    """Where in FILE.tensors the numbers of an answer lie."""

    at: int = Field(ge=0)
    bytes: int = Field(ge=0)
    dtype: Dtype
    shape: tuple[int, ...] = Field(max_length=2)
    sha256: str = Field(pattern=SHA256)

    @model_validator(mode="after")
    def _adds_up(self) -> Stored:
        if any(size < 0 for size in self.shape) or math.prod(self.shape) * ITEM_BYTES != self.bytes:
            raise ValueError(f"{self.bytes} bytes of {self.dtype} {list(self.shape)}; as many bytes as the shape has")
        return self


class Broke(Record):
    """A fault instead of an answer."""

    kind: FaultKind
    found: str


class Entry(Record):
    """One thing that was asked, and what came of it.

    `prefix` is the digest of all tokens up to the step's end, `before` those of the earlier wanted rows, in order.
    """

    entry: int = Field(ge=0)
    role: str | None
    model: str
    phase: str
    cached: int = Field(ge=0)
    rows: int = Field(ge=1)
    wanted: int = Field(ge=0)
    want: Want
    prefix: str = Field(pattern=SHA256)
    before: tuple[str, ...]
    tokens: tuple[int, ...]
    duration_ns: int | None = Field(ge=1)
    wall_ns: int = Field(ge=0)
    prepared_rows: int = Field(ge=0)
    energy_mj: float | None
    temperature_c: float | None
    clock_ns: int
    at_ns: int
    use: Use
    tensor: Stored | None
    fault: Broke | None

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        if (self.duration_ns is None) != (self.fault is not None):
            raise ValueError("neither a duration nor a fault, or both; one of them")
        if len(self.tokens) != self.rows or len(self.before) != max(0, self.wanted - 1):
            raise ValueError("tokens or digests that are not as many as rows; one for each")
        told = None if self.tensor is None else (self.tensor.dtype, len(self.tensor.shape))
        if told != (TELLS[self.want] if self.fault is None else None):
            raise ValueError(f"{told or 'no tensor'} of a step with want {self.want}; what such a step gives")
        if self.tensor is not None and self.tensor.shape[0] != self.wanted:
            raise ValueError(f"a tensor of {list(self.tensor.shape)}; a row for each of {self.wanted} wanted")
        return self

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The digest of the conversation that each wanted row follows on."""
        return (*self.before, self.prefix) if self.wanted else ()


class Header(Record):
    """What a session rests on. `models` are by role, `settings` what the unit did to measure: warm_up and repeats."""

    recording: Literal[1]
    session: int = Field(ge=1)
    unit: str
    scenario: str | None
    address: str
    agent: str
    device: dict[str, Any]
    clock: dict[str, Any]
    models: dict[str, ModelFacts]
    settings: dict[str, int | float | str]
    client: dict[str, str]
    began: str


@dataclass
class Session:
    """One run's part of a recording."""

    header: Header
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Recording:
    """A recording that has been read and found whole; `torn` tells of a last line that was only half written."""

    file: Path
    sessions: list[Session]
    torn: str | None
    chain: str
    whole_bytes: int  # of the file, up to the end of its last whole line
    tensors: npt.NDArray[np.uint8]

    def array(self, entry: Entry) -> npt.NDArray[Any] | None:
        """The logits (float32) or token ids (int32) of an entry, read from the disk when they are looked at."""
        stored = entry.tensor
        if stored is None:
            return None
        data = self.tensors[stored.at : stored.at + stored.bytes]
        if stored.at % ITEM_BYTES:
            data = data.copy()  # numbers lie where they can be read, unless somebody else wrote the file
        return data.view(f"<{stored.dtype}").reshape(stored.shape)

    def models(self) -> dict[str, ModelFacts]:
        """Every model that was recorded by its name, as the last session knows it."""
        return {facts.name: facts for session in self.sessions for facts in session.header.models.values()}


def tensors_of(file: Path) -> Path:
    """Where the tensors of a recording lie."""
    return file.with_name(f"{file.name}.tensors")


def linked(chain: str, body: bytes) -> str:
    """The chain after a line."""
    return hashlib.sha256(chain.encode() + body).hexdigest()


def with_chain(body: bytes, chain: str) -> bytes:
    """A line with the chain as its last key."""
    return body[:-1] + CHAIN % chain.encode()


def prefix_digests(tokens: Sequence[int], wanted: int) -> tuple[str, ...]:
    """SHA-256 of all tokens (int32, little-endian) up to each wanted row, the last one's last."""
    data = memoryview(np.array(tokens, "<i4").tobytes())
    first = max(0, len(tokens) - max(1, wanted) + 1)
    digest = hashlib.sha256(data[: 4 * first])
    found = [digest.hexdigest()]
    for place in range(first, len(tokens)):
        digest.update(data[4 * place : 4 * place + 4])
        found.append(digest.hexdigest())
    return tuple(found)


def read_recording(file: Path) -> Recording:
    """Read and verify a recording, tensors and all. Raises `InputError` with what is wrong."""
    reading = Reading(file)
    try:
        reading.read_lines()
        recording = reading.finished(mapped(tensors_of(file)))
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise InputError([Fault(str(error.filename or file), "", found, "a recording that can be read")]) from None
    if reading.faults:
        raise InputError(reading.faults[:MOST_FAULTS])
    return recording


def mapped(file: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, on the disk; none where there is no file, as of a recording of times alone."""
    if not file.exists() or file.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.memmap(file, np.uint8, mode="r")


class Reading:
    """One pass over a recording that collects every fault before it complains."""

    def __init__(self, file: Path):
        self.file = file
        self.faults: list[Fault] = []
        self.sessions: list[Session] = []
        self.stored: list[tuple[int, Stored]] = []  # with the numbers of the lines that name them
        self.torn: str | None = None
        self.chain = ""
        self.whole_bytes = 0

    def fault(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self.faults.append(Fault(str(self.file), f"line {line}" if line else "", found, expected, remedy))

    def read_lines(self) -> None:
        """Every line, up to a torn one."""
        with self.file.open("rb") as stream:
            if not is_recording(head := stream.read(len(START))):
                found = "an empty file" if not head else f"a file that begins with {head!r}"
                self.fault(0, found, "a recording", "Record one: units.NAME.record: FILE in a scenario.")
                return
            stream.seek(0)
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    self.torn = f"{self.file}: line {number}: half written ({len(line)} bytes); left out"
                    break
                self.read_line(number, line)
                self.whole_bytes += len(line)
        if not self.sessions and not self.faults:
            self.fault(0, "no whole line", "a recording with at least one session", "Record it again.")

    def read_line(self, number: int, line: bytes) -> None:
        """One line: its chain, then what it says."""
        body = line[:-CHAIN_BYTES] + b"}"
        told = line[-CHAIN_BYTES:-3].removeprefix(CHAIN[:10]).decode("ascii", "replace")
        chain = linked(self.chain, body)
        if line != with_chain(body, chain):
            before = f"What stands before it is whole: head -n {number - 1} FILE." if number > 1 else "Record it again."
            remedy = before if not self.faults else ""
            self.fault(number, "a line that its chain does not confirm", "the file as it was recorded", remedy)
        self.chain = told  # so that one changed line is one fault
        try:
            if body.startswith(START):
                self.sessions.append(Session(Header.model_validate_json(body)))
            elif self.sessions:
                entry = Entry.model_validate_json(body)
                self.sessions[-1].entries.append(entry)
                if entry.tensor is not None:
                    self.stored.append((number, entry.tensor))
            else:
                self.fault(number, "an answer before any session", "a line that tells of the session")
        except ValidationError as error:
            for complaint in error.errors(include_url=False, include_context=False, include_input=False):
                self.complain(number, complaint)

    def complain(self, number: int, complaint: Any) -> None:
        """One of pydantic's complaints about a line."""
        key = ".".join(map(str, complaint["loc"]))
        message = complaint["msg"].removeprefix("Value error, ")
        found, _, expected = message.partition("; ")
        if key == "recording":
            found, expected = "a recording of another version", f"version {VERSION}"
        self.fault(number, f"{key}: {found}" if key else found, expected or "what a recorder writes")

    def finished(self, tensors: npt.NDArray[np.uint8]) -> Recording:
        """The recording, its tensors verified."""
        good: set[tuple[int, int, str]] = set()
        for number, stored in self.stored:
            place = (stored.at, stored.bytes, stored.sha256)
            if place in good:
                continue
            good.add(place)
            if stored.at + stored.bytes > len(tensors):
                found = f"a tensor up to byte {stored.at + stored.bytes} of {tensors_of(self.file).name}"
                self.fault(number, found, f"at most {len(tensors)}, which is where that file ends")
            elif digest_of(tensors[stored.at : stored.at + stored.bytes]) != stored.sha256:
                found = f"a tensor at byte {stored.at} of {tensors_of(self.file).name} with another digest"
                self.fault(number, found, "the numbers as they were recorded")
        return Recording(self.file, self.sessions, self.torn, self.chain, self.whole_bytes, tensors)


def is_recording(head: bytes) -> bool:
    """Whether a file with these first bytes may be a recording, or the beginning of one."""
    return bool(head) and START.startswith(head[: len(START)])


def digest_of(data: npt.NDArray[np.uint8]) -> str:
    """SHA-256, piece by piece so that the file need not fit into memory."""
    digest = hashlib.sha256()
    for at in range(0, len(data), PIECE_BYTES):
        digest.update(data[at : at + PIECE_BYTES].data)
    return digest.hexdigest()


def entries_of(recording: Recording) -> Iterator[Entry]:
    """Every entry, the oldest first."""
    for session in recording.sessions:
        yield from session.entries
