"""A job that says what is allowed where it runs: worker processes of the tests import this and little else."""

from __future__ import annotations

import os

from hilsim.trust import is_code_allowed


class Question:
    """A job of a worker process."""

    def __init__(self, key: str):
        self.key, self.alike = key, key


def leave_of(job: Question) -> bool:
    """What is allowed here; never by the environment, which other programs would inherit."""
    assert not [name for name in os.environ if "ALLOW" in name and "CODE" in name]
    return is_code_allowed()
