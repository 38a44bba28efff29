"""Bytes of what crosses the link, by payload scheme, computed from the deployed vocabulary.

| scheme    | up, per drafted token      | down            | exact                                        |
| token_ids | id                         | verdict and id  | at temperature 0 (the draft's law is one-hot)|
| full_rows | id + a row of probabilities| verdict and id  | at any temperature                           |
"""

from __future__ import annotations

from typing import Literal

ID_BYTES = 4
HEADER_BYTES = 16  # message type, request, round and count
# Rows travel as float16; the draft samples from the very law that these numbers spell, so nothing is lost by it.
PROBABILITY_BYTES = 2

Scheme = Literal["token_ids", "full_rows"]


def prompt_bytes(tokens: int) -> int:
    """Token ids of a prompt, sent to the chip that has not heard it."""
    return HEADER_BYTES + ID_BYTES * tokens


def draft_bytes(scheme: Scheme, drafted: int, vocabulary: int) -> int:
    """A block of drafted tokens on its way to the target's chip."""
    row = vocabulary * PROBABILITY_BYTES if scheme == "full_rows" else 0
    return HEADER_BYTES + drafted * (ID_BYTES + row)


def verdict_bytes() -> int:
    """How many drafts were accepted, and the target's own token."""
    return HEADER_BYTES + 2 * ID_BYTES
