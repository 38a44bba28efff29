"""Writing a recording: tensor bytes first, then the line that names them, each handed to the system at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hilsim._version import __version__
from hilsim.errors import Fault, InputError
from hilsim.files import reason
from hilsim.hardware.recordings.entries import Dtype, Entry, Header, RecordedFault, Stored, Use
from hilsim.hardware.recordings.recording import (
    Recording,
    is_recording,
    linked,
    prefix_digests,
    read_recording,
    tensors_of,
    with_chain,
)
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.hardware.wire.replies import AgentFacts

NO_ANSWER = StepResult(0)
ANOTHER = "Name another file to record to."


class Recorder:
    """A recording under way, for one process at a time. Raises `InputError` where the file cannot be written.

    A file that is a recording already gets another session. `notes` list half-written lines that were moved away.
    """

    def __init__(
        self,
        file: Path,
        *,
        unit: str,
        scenario: str | None,
        address: str,
        facts: AgentFacts,
        models: Mapping[str, ModelFacts],
        settings: Mapping[str, int | float | str],
        began: datetime | None = None,
    ):
        """Open the file and begin a session; it begins now unless `began` is given."""
        self.file = file
        self.notes: list[str] = []
        self.entries = 0
        self.by_digest: dict[str, Stored] = {}
        self.lines = AppendedFile(file)
        try:
            self.lines.lock()
            self.chain, session = self.resumed()
            self.tensors = AppendedFile(tensors_of(file))
        except BaseException:
            self.lines.close()
            raise
        client = {"hilsim": __version__, "python": platform.python_version(), "machine": platform.platform()}
        header = Header(
            recording=1,
            session=session,
            unit=unit,
            scenario=scenario,
            address=address,
            agent=facts.agent,
            device=dict(facts.device),
            clock=dict(facts.clock),
            models=dict(models),
            settings=dict(settings),
            client=client,
            began=(began or datetime.now(UTC)).isoformat(timespec="seconds"),
        )
        try:
            self.write(header)
        except BaseException:
            self.close()
            raise

    def resumed(self) -> tuple[str, int]:
        """The chain so far and the number of the session that begins; what is half written is moved away."""
        size = self.lines.size
        if size == 0:
            return "", 1
        data = self.file.read_bytes() if size < 2**16 else b""
        if is_recording(data) and b"\n" not in data:  # killed while it wrote its very first line
            self.move_away(0)
            return "", 1
        found: Recording = read_recording(self.file)
        if found.torn is not None:
            self.move_away(found.whole_bytes)
        return found.chain, len(found.sessions) + 1

    def move_away(self, whole_bytes: int) -> None:
        """Move what follows the last whole line to a file of its own."""
        away = self.file.with_name(f"{self.file.name}.torn")
        with self.file.open("rb") as stream:
            stream.seek(whole_bytes)
            tail = stream.read()
        torn = AppendedFile(away)
        torn.append(tail)
        torn.close()
        self.lines.cut(whole_bytes)
        self.notes.append(f"{self.file}: its last line was half written; its {len(tail)} bytes were moved to {away}")

    def add(self, role: str | None, ask: StepRequest, result: StepResult | AgentFault, use: Use) -> None:
        """Append an answer or a fault."""
        fault, answer = (result, NO_ANSWER) if isinstance(result, AgentFault) else (None, result)
        *before, prefix = prefix_digests(ask.tokens, ask.wanted)
        array = answer.rows if answer.ids is None else np.array(answer.ids, "<i4")
        self.write(
            Entry(
                entry=self.entries,
                role=role,
                model=ask.model,
                phase=str(ask.phase),
                cached=ask.cached,
                rows=ask.rows,
                wanted=ask.wanted,
                want=ask.want,
                prefix=prefix,
                before=tuple(before),
                tokens=ask.tokens[ask.cached :],
                duration_ns=None if fault else answer.duration_ns,
                wall_ns=answer.wall_ns,
                prepared_rows=answer.prepared_rows,
                energy_mj=answer.energy_mj,
                temperature_c=answer.temperature_c,
                clock_ns=answer.clock_ns,
                at_ns=answer.at_ns,
                use=use,
                tensor=None if array is None else self.stored(array),
                fault=None if fault is None else RecordedFault(kind=fault.kind, found=fault.found),
            )
        )
        self.entries += 1

    def stored(self, array: np.ndarray[Any, Any]) -> Stored:
        """The place of these numbers in FILE.tensors; equal numbers are stored once a session."""
        dtype: Dtype = "f4" if array.dtype.kind == "f" else "i4"
        data = np.ascontiguousarray(array, f"<{dtype}").reshape(-1).view(np.uint8).data
        digest = hashlib.sha256(data).hexdigest()
        known = self.by_digest.get(digest)
        if known is None or known.shape != array.shape or known.dtype != dtype:
            at = self.tensors.append(data)
            known = Stored(at=at, bytes=data.nbytes, dtype=dtype, shape=array.shape, sha256=digest)
            self.by_digest[digest] = known
        return known

    def write(self, record: Header | Entry) -> None:
        """One line."""
        body = record.model_dump_json().encode()
        chain = linked(self.chain, body)
        self.lines.append(with_chain(body, chain))
        self.chain = chain

    def close(self) -> None:
        """Flush everything to the disk and release the lock."""
        try:
            self.tensors.close()
        finally:
            self.lines.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AppendedFile:
    """A file that is only appended to; a partial write is truncated again."""

    def __init__(self, file: Path):
        self.file = file
        try:
            self.handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self.size = os.fstat(self.handle).st_size
        except OSError as error:
            raise self.fault(error) from None

    def lock(self) -> None:
        """Keep other processes from writing; the operating system takes the lock back whatever becomes of this one."""
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = "a recording that another process is writing"
            raise InputError([Fault(str(self.file), "", found, "one writer at a time", ANOTHER)]) from None
        except OSError as error:
            raise self.fault(error) from None
        self.size = os.fstat(self.handle).st_size

    def append(self, data: bytes | memoryview) -> int:
        """Write bytes at the end; returns where they begin."""
        at, left = self.size, memoryview(data)
        try:
            while left:
                left = left[os.write(self.handle, left) :]
        except OSError as error:
            os.ftruncate(self.handle, at)
            raise self.fault(error) from None
        self.size += len(data)
        return at

    def cut(self, size: int) -> None:
        """Cut the file to its first bytes."""
        os.ftruncate(self.handle, size)
        self.size = size

    def close(self) -> None:
        """Wait for the disk, and close."""
        if self.handle < 0:
            return
        handle, self.handle = self.handle, -1
        try:
            os.fsync(handle)
        except OSError as error:
            raise self.fault(error) from None
        finally:
            os.close(handle)

    def fault(self, error: OSError) -> InputError:
        """The operating system's error as a fault of the file."""
        remedy = "Make room, or name another file to record to."
        return InputError([Fault(str(self.file), "", reason(error), "a file that can be written to", remedy)])
