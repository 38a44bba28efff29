"""Commands on an input as a user would type them, in this process: what they may print, return and leave behind."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hilsim.commands.main import main
from hilsim.errors import HilsimError

STATUSES = (0, 1, 2)  # done; ran, and the answer is bad news; the input is at fault (docs/robustness.md)
FILE, OUT = "FILE", "OUT"  # in a command line: the input, and an empty folder to write to


class Broken(AssertionError):
    """A promise that was not kept."""


def run(words: Sequence[str], file: Path) -> None:
    """One command line; raises `HilsimError` with its message where it refuses, `Broken` where it breaks a promise."""
    with clean_folder() as folder:
        out = folder / "out"
        line = [word.replace(FILE, str(file)).replace(OUT, str(out)) for word in words]
        printed, warned = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(warned):
            try:
                status: object = main(line)
            except SystemExit as stop:
                status = stop.code or 0
        message = warned.getvalue()
        if status not in STATUSES:
            raise Broken(f"exit status {status}")
        if "Traceback (most recent call last)" in message + printed.getvalue():
            raise Broken(f"a traceback: {message[-300:]}")
        left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        if half := [name for name in left if ".part" in name]:
            raise Broken(f"half-written files are left: {half}")
        if status == 2:
            whole = [name for name in left if not Path(name).name.startswith("study.sqlite")]
            if whole:
                raise Broken(f"refused, and yet written: {whole}")
            if not message.strip():
                raise Broken("refused without a message")
            raise HilsimError(message)


@contextlib.contextmanager
def clean_folder() -> Iterator[Path]:
    """An empty current folder, deep enough for names with `..`; it is also the user's home."""
    before, home = Path.cwd(), os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="hilsim-fuzz-") as top:
        folder = Path(top) / "a" / "b"
        folder.mkdir(parents=True)
        os.environ["HOME"] = top
        os.chdir(folder)
        try:
            yield Path(top)
        finally:
            os.chdir(before)
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home
