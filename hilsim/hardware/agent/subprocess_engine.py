"""An engine that is another program: a vendor's runtime behind a pipe, in whatever language it is written.

The program reads one JSON object a line on standard input and answers each with one on standard output:

    {"do": "load"}                              {"vocabulary": 2048, "context": 1024, "widths": [1, 8], "logits": false}
    {"do": "prefill", "tokens": [1, 5, 9]}      {"ids": [17], "duration_ns": 8100000}
    {"do": "step", "tokens": [17], "wanted": 1} {"ids": [4], "duration_ns": 2100000}
    {"do": "rewind", "length": 3}               {}
    {"do": "close"}                             {}

`logits`, a list of rows, may come instead of `ids`; `duration_ns`, `widths`, `tokenizer` and `digest` may be left out.
{"error": "what went wrong"} is an answer to anything. Standard error is passed through.
docs/tutorials/engine.md builds such a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hilsim.errors import Fault, InputError
from hilsim.files import reason
from hilsim.hardware.agent.engine import EngineFacts, Output

CLOSE_S = 2.0
MOST_LINE_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024


class RuntimeFault(Exception):
    """A program that ended, did not answer in time, or answered with something else."""


class Subprocess:
    """A program and the pipe to it.

    `command` is split as a shell would; {model} in it is replaced by the path of `--model`. An answer must come within
    `timeout` seconds. A program that ended is started anew when the agent next empties the cache.
    """

    def __init__(self, path: Path, *, command: str, timeout: str = "60"):
        try:
            arguments = shlex.split(command)
            self.timeout_s = float(timeout)
        except ValueError as error:
            raise InputError([Fault("--option", "command, timeout", str(error), "a command and seconds")]) from None
        if not arguments or not 0 < self.timeout_s <= 86_400:
            found = f"{command!r} and {timeout!r}"
            raise InputError([Fault("--option", "command, timeout", found, "a command and seconds above 0")])
        self.arguments = [argument.replace("{model}", str(path)) for argument in arguments]
        self.process: subprocess.Popen[bytes] | None = None
        self.began = False  # whether it has been loaded once
        self._unread = bytearray()

    def load(self) -> EngineFacts:
        """Start the program and have it load its model."""
        self._start()
        answer = self._ask({"do": "load"})
        self.began = True
        widths = answer.get("widths")
        return EngineFacts(
            vocabulary=answer.get("vocabulary", 0),
            context=answer.get("context", 0),
            widths=None if widths is None else tuple(widths),
            logits=bool(answer.get("logits", False)),
            tokenizer=answer.get("tokenizer"),
            digest=answer.get("digest"),
        )

    def prefill(self, tokens: Sequence[int]) -> Output:
        return output_of(self._ask({"do": "prefill", "tokens": list(tokens)}))

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        return output_of(self._ask({"do": "step", "tokens": list(tokens), "wanted": wanted}))

    def rewind(self, length: int) -> None:
        """Keep so many positions; with none of them a program that has ended may as well begin again."""
        if length == 0 and self.process is None and self.began:
            self.load()
            return
        self._ask({"do": "rewind", "length": length})

    def close(self) -> None:
        """Ask the program to end, then make it."""
        if self.process is None:
            return
        with contextlib.suppress(RuntimeFault):
            self._ask({"do": "close"}, CLOSE_S)
        self._end()

    def _start(self) -> None:
        self._end()
        self._unread.clear()
        try:
            # In a session of its own: an interrupt from the keyboard is the agent's to handle.
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
            assert self.process.stdin is not None
            # A program that does not read must not hold the agent.
            os.set_blocking(self.process.stdin.fileno(), False)
        except OSError as error:
            raise RuntimeFault(f"{self.arguments[0]}: {reason(error)}") from None

    def _ask(self, question: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """One line there, one line back."""
        if self.process is None:
            raise RuntimeFault(f"{self.arguments[0]} is not running")
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        try:
            self._write(json.dumps(question, separators=(",", ":")).encode() + b"\n", deadline)
            line = self._line(deadline)
        except (BrokenPipeError, EOFError):
            raise self._ended(question["do"]) from None
        except TimeoutError:
            self._end()
            raise RuntimeFault(
                f"{self.arguments[0]} did not answer {question['do']!r} in time, and was ended"
            ) from None
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self._end()  # its next line could answer any question
            raise RuntimeFault(f"{self.arguments[0]} answered {line[:100]!r}, which is no JSON object")
        if "error" in answer:
            raise RuntimeFault(f"{self.arguments[0]}: {answer['error']}")
        return answer

    def _write(self, data: bytes, deadline: float) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        descriptor = self.process.stdin.fileno()
        view = memoryview(data)
        while view:
            if not select.select([], [descriptor], [], max(0.0, deadline - time.monotonic()))[1]:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(descriptor, view) :]

    def _line(self, deadline: float) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        descriptor, seen = self.process.stdout.fileno(), 0
        while (end := self._unread.find(b"\n", seen)) < 0:
            seen = len(self._unread)
            if seen > MOST_LINE_BYTES:
                self._end()
                raise RuntimeFault(f"{self.arguments[0]} answered a line of more than {MOST_LINE_BYTES} bytes")
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            piece = os.read(descriptor, PIECE_BYTES)
            if not piece:
                raise EOFError
            self._unread += piece
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def _ended(self, asked: str) -> RuntimeFault:
        """How the program ended, as far as it is known."""
        assert self.process is not None
        try:
            status = self.process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._end()
            return RuntimeFault(f"{self.arguments[0]} closed its output at {asked!r}, and was ended")
        self._end()
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
        return RuntimeFault(f"{self.arguments[0]} ended {how} at {asked!r}")

    def _end(self) -> None:
        """End the program, kindly first."""
        process, self.process = self.process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(CLOSE_S)
            return
        process.kill()
        process.wait()


def output_of(answer: dict[str, Any]) -> Output:
    """What a program answered to a pass."""
    rows = answer.get("logits")
    logits = None if rows is None else array("f", [value for row in rows for value in row])
    return Output(logits=logits, ids=answer.get("ids"), duration_ns=answer.get("duration_ns"))
