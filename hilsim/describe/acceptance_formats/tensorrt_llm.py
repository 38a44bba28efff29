"""TensorRT-LLM: `specDecodingStats` of its iteration statistics (JSON lines, or a list).

| numDraftTokens, numAcceptedTokens | of the requests of one iteration                  |
| numRequestsWithDraftTokens        | their number: a round each                        |
| acceptanceLength                  | not read: 1 + accepted tokens over those requests |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilsim.describe.acceptance_formats.logged import Found, LoggedFile

BLOCKS = ("specDecodingStats", "spec_decoding_stats")


def is_statistics(logged: LoggedFile) -> bool:
    """Whether an iteration has them, or the file is one block of them."""
    return (
        bool(set(BLOCKS) & set(logged.first))
        or "numDraftTokens" in logged.first
        or any(f'"{block}"' in logged.text for block in BLOCKS)
    )


def read(logged: LoggedFile) -> Found:
    """Tokens a round over all iterations that draft."""
    rounds = drafted = accepted = 0.0
    for line, iteration in logged.objects:
        block, place = block_of(iteration), f"line {line}"
        if not block or not block.get("numDraftTokens"):
            continue
        requests = logged.number(block, "numRequestsWithDraftTokens", place, least=1)
        now, good = (logged.number(block, key, place) for key in ("numDraftTokens", "numAcceptedTokens"))
        if good > now:
            logged.refuse(f"{place}.numAcceptedTokens", f"{good:g} of {now:g} drafted", "at most those")
        rounds, drafted, accepted = rounds + requests, drafted + now, accepted + good
    if not rounds:
        logged.refuse("specDecodingStats", "no iteration that drafts", "at least one with numDraftTokens above 0")
    return Found(logged.tokens("numDraftTokens", 1 + accepted / rounds, drafted / rounds), round(rounds))


def block_of(iteration: Mapping[str, Any]) -> Mapping[str, Any]:
    """The statistics of an iteration."""
    found = next((iteration[key] for key in BLOCKS if isinstance(iteration.get(key), dict)), None)
    return found if found is not None else iteration if "numDraftTokens" in iteration else {}
