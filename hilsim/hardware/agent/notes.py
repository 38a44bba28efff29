"""The agent's log: lines on standard error."""

from __future__ import annotations

import contextlib
import sys
import traceback


def note(text: str) -> None:
    """Print one line; the agent goes on where standard error is closed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def one_line(text: object) -> str:
    """A text on one line, its lines separated by semicolons."""
    return "; ".join(line.strip() for line in str(text).splitlines() if line.strip())


def note_exception() -> None:
    """Print the traceback of the exception that is being handled."""
    note(traceback.format_exc().rstrip())
