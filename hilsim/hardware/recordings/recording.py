"""What a chip said, kept: FILE has a line of JSON for every answer and fault, FILE.tensors their logits and token ids.

A session begins with a line about the chip, its models and who asked; a file may hold several. Every line ends with the
SHA-256 of the chain before it and of itself, and names the digest of its tensor, so that what is changed, taken out or
put in shows. Both files only grow. Tokens are those of the rows computed; the conversation before them is known
by its digest. Writing is `recorder`'s business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hilsim.errors import Fault, InputError
from hilsim.files import exists, is_text
from hilsim.hardware.recordings.entries import ITEM_BYTES, Entry, Header, Stored
from hilsim.hardware.wire.exchange import ModelFacts, not_finite

VERSION = 1
MOST_LINE_BYTES = 256 * 2**20
START = b'{"recording":'
CHAIN = b',"chain":"%s"}\n'
CHAIN_BYTES = len(CHAIN % bytes(64))
OF_VERSION = re.compile(rb'{"recording":(\d{1,9})[,}]')
PIECE_BYTES = 2**20
MOST_FAULTS = 20


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
        return None if entry.tensor is None else numbers(self.tensors, entry.tensor)

    def models(self) -> dict[str, ModelFacts]:
        """Every model that was recorded by its name, as the last session knows it."""
        return {facts.name: facts for session in self.sessions for facts in session.header.models.values()}


def numbers(tensors: npt.NDArray[np.uint8], stored: Stored) -> npt.NDArray[Any]:
    """The numbers of a tensor, read from the disk when they are looked at."""
    data = tensors[stored.at : stored.at + stored.bytes]
    if stored.at % ITEM_BYTES:
        data = data.copy()  # numbers lie where they can be read, unless another program wrote the file
    return data.view(f"<{stored.dtype}").reshape(stored.shape)


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
        require_regular(file)
        reading.read_lines()
        recording = reading.finished(mapped(tensors_of(file)))
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise InputError([Fault(str(error.filename or file), "", found, "a recording that can be read")]) from None
    if reading.faults:
        raise InputError(reading.faults[:MOST_FAULTS])
    return recording


def require_regular(file: Path) -> None:
    """Refuse what never ends or blocks, such as a pipe or a device."""
    if exists(file) and not file.is_file() and not file.is_dir():
        raise InputError([Fault(str(file), "", "a pipe or a device", "a regular file")])
    if "\0" in str(file) or not is_text(str(file)):
        raise InputError([Fault(repr(str(file)), "", "a name that no file can have", "the name of a file")])


def mapped(file: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, on the disk; none where there is no file, as of a recording of times alone."""
    require_regular(file)
    if not file.exists() or file.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.memmap(file, np.uint8, mode="r")


class Reading:
    """One pass over a recording that collects every fault before it complains."""

    def __init__(self, file: Path):
        self.file = file
        self.faults: list[Fault] = []
        self.sessions: list[Session] = []
        self.stored: list[tuple[int, Entry, Stored]] = []  # with the numbers of the lines that name them
        self.broken: list[tuple[int, bytes, str]] = []  # lines that their chain does not confirm: number, body, chain
        self.ends = {"": 0}  # every chain, and the line that ends with it
        self.torn: str | None = None
        self.chain = ""
        self.whole_bytes = 0

    def fault(self, line: int, found: str, expected: str, remedy: str = "") -> None:
        self.faults.append(Fault(str(self.file), f"line {line}" if line else "", found, expected, remedy))

    def read_lines(self) -> None:
        """Every line, up to a torn one or one that nothing can be read after."""
        with self.file.open("rb") as stream:
            if not is_recording(head := stream.read(len(START))):
                found = "an empty file" if not head else f"a file that begins with {head!r}"
                self.fault(0, found, "a recording", "Record one: units.NAME.record: FILE in a scenario.")
                return
            stream.seek(0)
            for number, line in enumerate(iter(lambda: stream.readline(MOST_LINE_BYTES), b""), 1):
                if len(line) == MOST_LINE_BYTES:
                    self.fault(number, f"{len(line)} bytes or more", f"a line of fewer than {MOST_LINE_BYTES} bytes")
                    break
                if not line.endswith(b"\n"):
                    self.torn = f"{self.file}: line {number}: half written ({len(line)} bytes); left out"
                    break
                if not self.read_line(number, line):
                    break
                self.whole_bytes += len(line)
        self.judge_chain()
        if not self.sessions and not self.faults:
            self.fault(0, "no whole line", "a recording with at least one session", "Record it again.")

    def read_line(self, number: int, line: bytes) -> bool:
        """One line: its chain, then what it says. Whether those behind it can be read."""
        if line.endswith(b"\r\n"):
            remedy = "A program that takes it for text has changed it: copy it and its .tensors again, as binary files."
            self.fault(number, "a line that ends in CR LF", "the recorder's line ends, LF alone", remedy)
            return False
        if (version := OF_VERSION.match(line)) and int(version[1]) != VERSION:
            found = f"a recording of another version ({int(version[1])})"
            remedy = "Read it with the hilsim that wrote it, or record it again."
            self.fault(number, found, f"version {VERSION}", remedy)
            return False
        body = line[:-CHAIN_BYTES] + b"}"
        told = line[-CHAIN_BYTES:-3].removeprefix(CHAIN[:10]).decode("ascii", "replace")
        confirmed = line == with_chain(body, linked(self.chain, body))
        self.chain = told  # so that one changed line is one fault
        self.ends.setdefault(told, number)
        if not confirmed:
            self.broken.append((number, body if len(self.broken) < MOST_FAULTS else b"", told))
            return True
        try:
            if body.startswith(START):
                self.sessions.append(Session(Header.model_validate_json(body)))
            elif self.sessions:  # else the first line is at fault, which is told
                entry = Entry.model_validate_json(body)
                if misfit := entry.misfit(self.sessions[-1].header.models):
                    self.fault(number, misfit.found, misfit.expected)
                    return True
                self.sessions[-1].entries.append(entry)
                if entry.tensor is not None:
                    self.stored.append((number, entry, entry.tensor))
        except ValidationError as error:
            for complaint in error.errors(include_url=False, include_context=False, include_input=False):
                self.complain(number, complaint)
            return not body.startswith(START)
        return True

    def judge_chain(self) -> None:
        """What became of the lines that their chain does not confirm: moved as they are, or changed."""
        if not self.broken:
            return
        expected, first = "the file as it was recorded", self.broken[0][0]
        if len(self.broken) <= MOST_FAULTS:
            homes = [self.home(body, told) for _, body, told in self.broken]
            if None not in homes:  # lines that have changed places are one cause, however many it shows at
                found = f"a line that its chain puts behind line {homes[0]}"
                if homes[0] == 0:  # files that were put one behind the other
                    found, expected = "a line that its chain puts first of a file", "one recording a file"
                self.fault(first, found, expected, kept_before(first))
                return
        runs: list[list[int]] = []
        for number, *_ in self.broken:
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        for start, end in runs:
            many = f"lines {start} to {end}, which their chain does not confirm"
            found = "a line that its chain does not confirm" if start == end else many
            self.fault(start, found, expected, kept_before(start) if start == first else "")

    def home(self, body: bytes, told: str) -> int | None:
        """The line that a line was written behind, or None where that is not in the file."""
        return next((number for chain, number in self.ends.items() if linked(chain, body) == told), None)

    def complain(self, number: int, complaint: Any) -> None:
        """One of pydantic's complaints about a line."""
        key = ".".join(map(str, complaint["loc"]))
        message = complaint["msg"].removeprefix("Value error, ")
        found, _, expected = message.partition("; ")
        self.fault(number, f"{key}: {found}" if key else found, expected or "what a recorder writes")

    def finished(self, tensors: npt.NDArray[np.uint8]) -> Recording:
        """The recording, its tensors verified."""
        beside = tensors_of(self.file)
        beyond = [(number, stored) for number, _, stored in self.stored if stored.at + stored.bytes > len(tensors)]
        if beyond and not beside.exists():
            remedy = f"Copy it beside {self.file.name}."
            self.faults.append(Fault(str(beside), "", "no such file", f"the tensors of {self.file.name}", remedy))
        elif beyond:
            number, stored = beyond[0]
            found = f"a tensor up to byte {stored.at + stored.bytes} of {beside.name}"
            expected = f"at most {len(tensors)}, which is where that file ends"
            self.fault(number, found + and_more(len(beyond)), expected, kept_before(number))
        known: set[tuple[int, int, str]] = set()
        changed: list[tuple[int, Stored]] = []
        for number, entry, stored in self.stored:
            place = (stored.at, stored.bytes, stored.sha256)
            if place in known or stored.at + stored.bytes > len(tensors):
                continue
            known.add(place)
            if digest_of(tensors[stored.at : stored.at + stored.bytes]) != stored.sha256:
                changed.append((number, stored))
            elif broken := self.broken_numbers(entry, numbers(tensors, stored)):
                self.fault(number, broken, "finite logits, or token ids of its vocabulary", kept_before(number))
        if changed:
            number, stored = changed[0]
            found = f"a tensor at byte {stored.at} of {beside.name} with another digest"
            self.fault(number, found + and_more(len(changed)), "the numbers as they were recorded", kept_before(number))
        return Recording(self.file, self.sessions, self.torn, self.chain, self.whole_bytes, tensors)

    def broken_numbers(self, entry: Entry, found: npt.NDArray[Any]) -> str:
        """What of an answer's numbers no model can have given, or nothing."""
        if entry.want == "logits":
            return not_finite(found, entry.cached + entry.rows)
        vocabulary = next(facts.vocabulary for facts in self.models() if facts.name == entry.model)
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < vocabulary:
            return f"token ids from {found.min()} to {found.max()} of a vocabulary of {vocabulary}"
        return ""

    def models(self) -> Iterator[ModelFacts]:
        """The models of all sessions, the last one's first."""
        return (facts for session in reversed(self.sessions) for facts in session.header.models.values())


def kept_before(number: int) -> str:
    """What to do about a recording that is damaged from a line on; of a header alone nothing is worth keeping."""
    if number <= 2:
        return "Copy it again from where it was recorded, or record it again."
    keep = f"head -n {number - 1} FILE > NEW; cp FILE.tensors NEW.tensors"
    return f"Copy it again from where it was recorded, or keep what stands before, which is whole ({keep})."


def and_more(count: int) -> str:
    """How many more there are of what was told once."""
    return f" (and {count - 1} more)" if count > 1 else ""


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
