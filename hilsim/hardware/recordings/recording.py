"""A recording of a board: FILE has a line of JSON for every answer and fault, FILE.tensors their logits and token ids.

A session begins with a line about the chip, its models and the client; a file may hold several. Every line ends with
the running SHA-256 of the file, itself included, and names the digest of its tensor, so that what is changed, taken out
or put in shows, also where a crash ended the session. Both files only grow. Tokens are those of the rows computed; the
conversation before them is known by its digest. `recorder` writes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from hilsim.errors import Fault, InputError, Misfit
from hilsim.files import exists, reason, require_readable
from hilsim.hardware.recordings.entries import ITEM_BYTES, Entry, Header, Stored
from hilsim.hardware.wire.exchange import ModelFacts, not_finite

VERSION = 1
MOST_LINE_BYTES = 256 * 2**20
START = b'{"recording":'
CHAIN = b',"chain":"%s"}\n'
CHAIN_BYTES = len(CHAIN % bytes(64))
OF_VERSION = re.compile(rb'{"recording":(\d{1,9})[,}]')


@dataclass
class Session:
    """One run's part of a recording."""

    header: Header
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Recording:
    """A recording as far as it has been read; `torn` describes a last line that was only half written."""

    file: Path
    tensors: npt.NDArray[np.uint8]
    sessions: list[Session] = field(default_factory=list)
    torn: str | None = None
    chain: str = ""
    whole_bytes: int = 0  # of the file, up to the end of its last whole line
    verified: set[tuple[int, int, str]] = field(default_factory=set)  # tensors: place, bytes, digest

    def array(self, entry: Entry) -> npt.NDArray[Any] | None:
        """The logits (float32) or token ids (int32) of an entry, read from the disk when they are looked at."""
        return None if entry.tensor is None else numbers(self.tensors, entry.tensor)

    def models(self) -> dict[str, ModelFacts]:
        """Every model that was recorded by its name, as the last session knows it."""
        return {facts.name: facts for session in self.sessions for facts in session.header.models.values()}

    def fault(self, line: int, found: str, expected: str, remedy: str = "") -> InputError:
        """The error of a line, or of the file as a whole (0)."""
        return InputError([Fault(str(self.file), f"line {line}" if line else "", found, expected, remedy)])

    def read_line(self, number: int, line: bytes) -> None:
        """Verify one whole line and store its record."""
        if line.endswith(b"\r\n"):
            remedy = "A program that takes it for text has changed it: copy it and its .tensors again, as binary files."
            raise self.fault(number, "a line that ends in CR LF", "the recorder's line ends, LF alone", remedy)
        if (version := OF_VERSION.match(line)) and int(version[1]) != VERSION:
            found = f"a recording of another version ({int(version[1])})"
            remedy = "Read it with the hilsim that wrote it, or record it again."
            raise self.fault(number, found, f"version {VERSION}", remedy)
        body = line[:-CHAIN_BYTES] + b"}"
        self.chain = linked(self.chain, body)
        if line != with_chain(body, self.chain):
            found = "a line that its digest does not confirm"
            raise self.fault(number, found, "the file as it was recorded", advice(number))
        try:
            if body.startswith(START):
                self.sessions.append(Session(Header.model_validate_json(body)))
            else:
                self.add(number, Entry.model_validate_json(body))
        except ValidationError as error:
            raise InputError([self.complaint(number, item) for item in error.errors(include_url=False)]) from None

    def add(self, number: int, entry: Entry) -> None:
        """Add an entry after its models and numbers are checked."""
        models = self.sessions[-1].header.models
        if misfit := entry.misfit(models):
            raise self.fault(number, misfit.found, misfit.expected)
        if entry.tensor is not None:
            self.verify(number, entry, entry.tensor)
        self.sessions[-1].entries.append(entry)

    def verify(self, number: int, entry: Entry, stored: Stored) -> None:
        """Check the numbers of an entry: their digest, finite logits, token ids of the vocabulary."""
        beside, end = tensors_of(self.file), stored.at + stored.bytes
        if end > len(self.tensors):
            if not beside.exists():
                remedy = f"Copy it beside {self.file.name}."
                raise InputError([Fault(str(beside), "", "no such file", f"the tensors of {self.file.name}", remedy)])
            expected = f"at most {len(self.tensors)}, which is where that file ends"
            raise self.fault(number, f"a tensor up to byte {end} of {beside.name}", expected, advice(number))
        if (place := (stored.at, stored.bytes, stored.sha256)) in self.verified:
            return
        self.verified.add(place)
        if hashlib.sha256(self.tensors[stored.at : end].data).hexdigest() != stored.sha256:
            found = f"a tensor at byte {stored.at} of {beside.name} with another digest"
            raise self.fault(number, found, "the numbers as they were recorded", advice(number))
        found = broken_numbers(entry, numbers(self.tensors, stored), self.sessions[-1].header.models.values())
        if found:
            raise self.fault(number, found, "finite logits, or token ids of its vocabulary", advice(number))

    def complaint(self, number: int, item: Any) -> Fault:
        """The fault of one validation error of a line."""
        key = ".".join(map(str, item["loc"]))
        error = item["ctx"]["error"] if item["type"] == "value_error" else None
        misfit = error if isinstance(error, Misfit) else Misfit(item["msg"])
        fault = misfit.fault(str(self.file), f"line {number}", "what a recorder writes")
        return replace(fault, found=f"{key}: {fault.found}") if key else fault


def numbers(tensors: npt.NDArray[np.uint8], stored: Stored) -> npt.NDArray[Any]:
    """The numbers of a tensor, read from the disk when they are looked at."""
    data = tensors[stored.at : stored.at + stored.bytes]
    if stored.at % ITEM_BYTES:
        data = data.copy()  # numbers lie where they can be read, unless another program wrote the file
    return data.view(f"<{stored.dtype}").reshape(stored.shape)


def tensors_of(file: Path) -> Path:
    """The path of a recording's tensors."""
    return file.with_name(f"{file.name}.tensors")


def linked(chain: str, body: bytes) -> str:
    """The digest of the chain after a line."""
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
    """Read and verify a recording, tensors and all. Raises `InputError` with the first thing that is wrong."""
    try:
        for path in (file, tensors_of(file)):
            if path == file or exists(path):
                require_readable(path)
        recording = Recording(file, mapped(tensors_of(file)))
        with file.open("rb") as stream:
            if not is_recording(head := stream.read(len(START))):
                found = "an empty file" if not head else f"a file that begins with {head!r}"
                raise recording.fault(0, found, "a recording", "Record one: units.NAME.record: FILE in a scenario.")
            stream.seek(0)
            for number, line in enumerate(iter(lambda: stream.readline(MOST_LINE_BYTES), b""), 1):
                if len(line) == MOST_LINE_BYTES:
                    expected = f"a line of fewer than {MOST_LINE_BYTES} bytes"
                    raise recording.fault(number, f"{len(line)} bytes or more", expected)
                if not line.endswith(b"\n"):
                    recording.torn = f"{file}: line {number}: half written ({len(line)} bytes); left out"
                    break
                recording.read_line(number, line)
                recording.whole_bytes += len(line)
    except OSError as error:
        raise InputError(
            [Fault(str(error.filename or file), "", reason(error), "a recording that can be read")]
        ) from None
    if not recording.sessions:
        raise recording.fault(0, "no whole line", "a recording with at least one session", "Record it again.")
    return recording


def mapped(file: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, on the disk; none where there is no file, as of a recording of times alone."""
    if not exists(file) or file.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.memmap(file, np.uint8, mode="r")


def broken_numbers(entry: Entry, found: npt.NDArray[Any], models: Iterable[ModelFacts]) -> str:
    """What is impossible about an answer's numbers, or ""."""
    if entry.want == "logits":
        return not_finite(found, entry.cached + entry.rows)
    vocabulary = next(facts.vocabulary for facts in models if facts.name == entry.model)
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < vocabulary:
        return f"token ids from {found.min()} to {found.max()} of a vocabulary of {vocabulary}"
    return ""


def advice(number: int) -> str:
    """What to do about a recording that is damaged from a line on; a header alone is not worth keeping."""
    if number <= 2:
        return "Copy it again from where it was recorded, or record it again."
    keep = f"head -n {number - 1} FILE > NEW; cp FILE.tensors NEW.tensors"
    return f"Copy it again from where it was recorded, or keep the lines before, which are intact ({keep})."


def is_recording(head: bytes) -> bool:
    """Whether a file with these first bytes may be a recording, or the beginning of one."""
    return bool(head) and START.startswith(head[: len(START)])


def entries_of(recording: Recording) -> Iterator[Entry]:
    """Every entry, the oldest first."""
    for session in recording.sessions:
        yield from session.entries
