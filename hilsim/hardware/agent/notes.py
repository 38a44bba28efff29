"""What the agent writes for whoever watches it: lines on standard error, which nobody has to read."""

from __future__ import annotations

import contextlib
import sys
import traceback


def note(text: str) -> None:
    """One line. A terminal that has gone must not take the agent along."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def note_exception() -> None:
    """The traceback of the exception that is being handled."""
    note(traceback.format_exc().rstrip())
