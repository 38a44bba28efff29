"""Commands as a user types them, run in this process: what they print and their exit status, without Python's start."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

from hilsim.places import CODE as PROJECT


def run_here(arguments: Sequence[str], folder: Path = PROJECT) -> CompletedProcess[str]:
    """`python ARGUMENTS` in a folder: a file, or `-m` and a module. What a command does not catch is raised."""
    printed, warned, typed = io.StringIO(), io.StringIO(), sys.argv
    status: object = None
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(warned):
            if arguments[0] == "-m":
                sys.argv = list(arguments[1:])
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = list(arguments)
                runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    else:
        raise AssertionError(f"python {' '.join(arguments)} gave no exit status")
    finally:
        sys.argv = typed
    assert status is None or isinstance(status, int), status
    return CompletedProcess(list(arguments), status or 0, printed.getvalue(), warned.getvalue())
