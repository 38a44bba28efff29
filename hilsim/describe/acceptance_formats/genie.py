"""Genie: `token-acceptance-rate` of a profile (`genie-t2t-run --profile`), in tokens a round ("toks/iteration").

It is (num-generated-tokens - 1) over the rounds: the first token comes from the prompt, and the target's own token of
each round is counted. Several queries are added up by their rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hilsim.describe.acceptance_formats.logged import Found, LoggedFile

RATE, MADE = "token-acceptance-rate", "num-generated-tokens"
TOKENS = ("toks/iteration", "tokens/iteration", "tpi")


def is_profile(logged: LoggedFile) -> bool:
    """Whether it is a profile of Genie."""
    header = logged.first.get("header")
    return (isinstance(header, dict) and header.get("artifact_type") == "GENIE_PROFILE") or f'"{RATE}"' in logged.text


def read(logged: LoggedFile) -> Found:
    """Tokens a round of all queries; how many tokens a round drafts is not in the file."""
    rounds = tokens = 0.0
    for place, event in events(logged):
        rate = event[RATE]
        if not isinstance(rate, dict):
            logged.refuse(f"{place}.{RATE}", str(rate)[:40], "a value with its unit")
        unit = str(rate.get("unit", "")).casefold()
        if unit and unit not in TOKENS:
            logged.refuse(f"{place}.{RATE}.unit", repr(rate.get("unit")), f"one of {', '.join(TOKENS)}")
        a_round = logged.number(rate, "value", f"{place}.{RATE}", least=1, most=1001)
        made = event.get(MADE)
        made = logged.number(made, "value", f"{place}.{MADE}") if isinstance(made, dict) else 2.0
        if made > 1:
            rounds, tokens = rounds + (made - 1) / a_round, tokens + made - 1
    if not rounds:
        logged.refuse("components", f"no {RATE}", f"a query that speculated, with its {RATE}")
    return Found(logged.tokens(RATE, tokens / rounds), round(rounds))


def events(logged: LoggedFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The events that have the rate."""
    for _, profile in logged.objects:
        components = profile.get("components")
        for i, component in enumerate(components if isinstance(components, list) else ()):
            listed = component.get("events") if isinstance(component, dict) else None
            for j, event in enumerate(listed if isinstance(listed, list) else ()):
                if isinstance(event, dict) and RATE in event:
                    yield f"components[{i}].events[{j}]", event
