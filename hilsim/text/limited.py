"""Runs work on untrusted files in a process with limits of memory and CPU time, so that its death harms nothing else.

The `tokenizers` library can panic, allocate any amount that a file states, or never end; a chat template is a program.
What `template.is_linear` and `tokenizer_file.is_plain` do not pass is tried here first. One process serves all; it is
started when it is first needed, and again when it has died.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from hilsim.places import CODE

WALL_S = 120.0
PROBES = ("", " ", "Hello, world! 123", "  two\n\n\tblanks  ", "Größe, naïve, 日本語, 😀, \u0301\u200b", "a" * 300)


class ProcessDied(Exception):
    """The process ended during a piece of work."""


class Limited:
    """The worker process: a JSON line in, a JSON line out."""

    def __init__(self) -> None:
        import subprocess  # most files need no such process

        path = os.pathsep.join(filter(None, (str(CODE), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from hilsim.text.limited import serve; serve()"],
            env=os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.owner = os.getpid()
        self.lock = threading.Lock()

    def ask(self, **work: Any) -> dict[str, Any]:
        """The result of a piece of work. Raises `ProcessDied` where the process ended or timed out."""
        with self.lock:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(work).encode() + b"\n")
                self.process.stdin.flush()
            pieces, ends = [b""], time.monotonic() + WALL_S
            while not pieces[-1].endswith(b"\n"):
                if not select.select([self.process.stdout], [], [], max(0.0, ends - time.monotonic()))[0]:
                    raise ProcessDied(f"not finished within {WALL_S:g} s")
                pieces.append(os.read(self.process.stdout.fileno(), 2**20))
                if not pieces[-1]:
                    raise ProcessDied(why(self.process.wait(), work["seconds"], work["nbytes"]))
            answer: dict[str, Any] = json.loads(b"".join(pieces))
            return answer

    def close(self) -> None:
        """End the process, unless another process has started it."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()


def why(status: int, seconds: int, nbytes: int) -> str:
    """Why the process died, by its exit status."""
    if status == -signal.SIGXCPU:
        return f"over {seconds} s of CPU time"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"a crash ({name}) within {nbytes / 2**30:g} GiB of memory"


RUNNING: list[Limited] = []


def ask(seconds: int, nbytes: int, **work: Any) -> dict[str, Any]:
    """Have a piece of work done within so many seconds of CPU time and bytes of memory. Raises `ProcessDied`."""
    if not RUNNING or RUNNING[0].owner != os.getpid():
        RUNNING[:] = [Limited()]
        atexit.register(RUNNING[0].close)
    answer = None
    try:
        answer = RUNNING[0].ask(seconds=seconds, nbytes=nbytes, **work)
    finally:
        if answer is None:  # dead, or interrupted with an answer to come
            running = RUNNING.pop()
            atexit.unregister(running.close)
            running.close()
    return answer


def serve() -> None:
    """The worker's loop: do the work of each line of stdin, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides when to end
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    works: dict[str, Callable[..., str]] = {"render": render, "probe": probe}
    for line in sys.stdin.buffer:
        work = json.loads(line)
        nbytes = work.pop("nbytes")
        resource.setrlimit(resource.RLIMIT_AS, (nbytes if most == resource.RLIM_INFINITY else min(nbytes, most), most))
        used = resource.getrusage(resource.RUSAGE_SELF)
        ends = int(used.ru_utime + used.ru_stime) + 1 + work.pop("seconds")
        resource.setrlimit(resource.RLIMIT_CPU, (ends, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            answer = {"found": works[work.pop("do")](**work)}
        except BaseException as error:  # templates and panics raise what they like; this process is here for that
            answer = {"kind": type(error).__name__, "error": str(error)[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def render(template: str, special: dict[str, str], messages: list[dict[str, str]], cue: bool, epoch: str) -> str:
    """A conversation as one text; `epoch` pins the date."""
    from hilsim.text.template import rendered

    os.environ["SOURCE_DATE_EPOCH"] = epoch
    return rendered(template, special, messages, cue)


def probe(text: str) -> str:
    """Try a tokenizer: every id to text, and some texts to ids, with and without added tokens in them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    ids = sorted(tokenizer.get_vocab().values())
    tokenizer.decode(ids, skip_special_tokens=False)
    for token in ids:
        tokenizer.decode([token], skip_special_tokens=False)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    for plain in (False, True):
        tokenizer.encode_special_tokens = plain
        for sample in (*PROBES, "".join(added), " x ".join(added)):
            tokenizer.encode(sample, add_special_tokens=False)
    return ""
