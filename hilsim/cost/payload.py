"""Bytes of what crosses the link, by payload scheme, computed from the deployed vocabulary.

Up, for each drafted token, its id and

| scheme            | adds                                                    |
| token_ids one_hot | nothing                                                 |
| full_rows         | a value for each entry of the vocabulary                |
| top_k top_k_after | `k` ids with their values                               |
| scalar            | one value, and the sum that makes a probability of it   |

Down come the verdict and one id; with `scalar`, after a rejection, also the target's row or its support, for the
draft's chip to resample from. Where the draft's chip verifies, only ids go up, and a row of the target for each of them
and one more comes down.
"""

from __future__ import annotations

from hilsim.describe.decoding import Payload, Sampling, VerifyAt

ID_BYTES = 4
HEADER_BYTES = 16  # message type, request, round and count
VALUE_BYTES = {"fp32": 4, "fp16": 2, "counts8": 1}
# Counts and float16 values sum to the same float64 in any order; float32 values need not, so their sum goes along.
SUM_BYTES = 8


def prompt_bytes(tokens: int) -> int:
    """Token ids of a prompt, sent to the chip that has not heard it."""
    return HEADER_BYTES + ID_BYTES * tokens


def draft_bytes(payload: Payload, drafted: int, vocabulary: int, verify_at: VerifyAt = "target") -> int:
    """A block of drafted tokens on its way to the target's chip."""
    row = distribution_bytes(payload, vocabulary) if verify_at == "target" else 0
    return HEADER_BYTES + drafted * (ID_BYTES + row)


def distribution_bytes(payload: Payload, vocabulary: int) -> int:
    """Bytes of one distribution under a payload scheme."""
    match payload.scheme:
        case "token_ids" | "one_hot":
            return 0
        case "full_rows":
            return row_bytes(payload.format, vocabulary)
        case "top_k":
            return entries_bytes(payload.format, min(payload.k, vocabulary))
        case "top_k_after":
            return entries_bytes("fp16", min(payload.k, vocabulary))
        case "scalar":
            return VALUE_BYTES[payload.format] + SUM_BYTES


def row_bytes(number: str, entries: int) -> int:
    """A whole row of values, in the order of their tokens."""
    return entries * VALUE_BYTES[number] + (SUM_BYTES if number == "fp32" else 0)


def entries_bytes(number: str, entries: int) -> int:
    """Values with the ids that they belong to."""
    return entries * ID_BYTES + row_bytes(number, entries)


def verdict_bytes() -> int:
    """How many drafts were accepted, and the target's own token."""
    return HEADER_BYTES + 2 * ID_BYTES


def path_bytes(nodes: int) -> int:
    """Which nodes of a token tree stand, beside the verdict."""
    return ID_BYTES * nodes


def draft_decides(payload: Payload, verify_at: VerifyAt, drafted: int, accepted: int) -> bool:
    """Whether the draft's chip has a round's last word, which the target must then be told."""
    return drafted > 0 and (verify_at == "draft" or (payload.scheme == "scalar" and accepted < drafted))


def answer_bytes(
    payload: Payload,
    sampling: Sampling,
    verify_at: VerifyAt,
    drafted: int,
    accepted: int,
    rows: int,
    vocabulary: int,
) -> int:
    """What the target's chip sends back for `drafted` tokens, `accepted` of which stand; `rows` were computed."""
    if verify_at == "draft" and drafted:
        return rows_bytes(payload, rows, vocabulary)
    if payload.scheme != "scalar" or accepted == drafted:
        return verdict_bytes()
    if payload.down == "row" or sampling.top_k is None:
        return verdict_bytes() + row_bytes(payload.format, vocabulary)
    return verdict_bytes() + entries_bytes(payload.format, min(sampling.top_k, vocabulary))


def rows_bytes(payload: Payload, rows: int, vocabulary: int) -> int:
    """Rows of the target's distribution, for the draft's chip to verify by."""
    return HEADER_BYTES + rows * distribution_bytes(payload, vocabulary)
