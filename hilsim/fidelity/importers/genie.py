"""A Genie profile: `genie-t2t-run --profile FILE` (JSON; Qualcomm AI Runtime, Genie documentation, "Genie Profile").

| of the profile                                     | here                                                           |
| a GenieDialog_query: token-generation-rate         | llm_decode, tok_s; context_len is the compiled one (--context) |
| time-to-first-token over ceil(num-prompt-tokens/N) | llm_prefill, ttft_ms of one pass of the prompt graph's N rows  |

The profile knows neither the compiled context nor the width of the prompt graph, which --prompt-width states (128 as
AI Hub exports models). A rate with speculation (token-acceptance-rate above 1) is no rate of single steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log, list_in, number_in, object_in

QUERY = ("GenieDialog_query", "GeniePipeline_execute")
MICROSECONDS = {"us": 1.0, "microsec": 1.0, "microseconds": 1.0, "ms": 1e3, "s": 1e6}
RATES = ("toks/sec", "tokens/s", "tokens/sec", "tok/s", "tps")


def is_genie(contents: Contents) -> bool:
    """Whether it is what Genie writes."""
    first = contents.first
    return object_in(first, "header").get("artifact_type") == "GENIE_PROFILE" or any(
        str(event.get("type", "")).startswith("Genie")
        for component in list_in(first, "components")
        for event in list_in(component, "events")
    )


def read(log: Log) -> None:
    """Two rows a query: the rate of its tokens, and one pass over its prompt."""
    ((line, profile), *_) = log.contents.objects
    queries = [
        (f"components[{i}].events[{j}]", event)
        for i, component in enumerate(list_in(profile, "components"))
        for j, event in enumerate(list_in(component, "events"))
        if event.get("type") in QUERY
    ]
    if not queries:
        log.fault("components", "no event GenieDialog_query", "at least one", "Did the run end before its answer?")
    for number, (place, event) in enumerate(queries, 1):
        read_query(log, line, number, place, event)


def read_query(log: Log, line: int, number: int, place: str, event: Mapping[str, Any]) -> None:
    """The rows of one query."""
    prompt = value_of(log, event, "num-prompt-tokens", place)
    first = value_of(log, event, "time-to-first-token", place, MICROSECONDS)
    rate = value_of(log, event, "token-generation-rate", place, dict.fromkeys(RATES, 1.0))
    made = value_of(log, event, "num-generated-tokens", place, needed=False)
    took = value_of(log, event, "token-generation-time", place, MICROSECONDS, needed=False)
    accepted = value_of(log, event, "token-acceptance-rate", place, needed=False) or 1.0
    if rate and made and took:
        # The first token belongs to the prompt; releases differ in whether they count it.
        nearest = min((made, made - 1), key=lambda tokens: abs(tokens * 1e6 / took - rate))
        log.agree(f"{place}.token-generation-rate", rate, nearest * 1e6 / took if nearest else rate)
    count = f"query {number}: {made:g} tokens after a prompt of {prompt:g}" if made and prompt else f"query {number}"
    common = {"context_len": log.given.context, "source": "genie profile"}
    if rate:
        reason = f"it speculated ({accepted:g} tokens a step)" if accepted > 1 else ""
        log.add(line, kind="llm_decode", metric="tok_s", value=rate, note=count, forbidden=reason, **common)
    if first and prompt:
        width = log.given.prompt_width
        passes = math.ceil(prompt / width) if width else 1
        reason = "" if width else "the rows of its prompt graph are not stated (--prompt-width 128)"
        note = f"{count}; a {width}-token pass, of {passes}" if width else count
        value = first / 1e3 / passes
        log.add(line, kind="llm_prefill", metric="ttft_ms", value=value, note=note, forbidden=reason, **common)


def value_of(
    log: Log,
    event: Mapping[str, Any],
    key: str,
    place: str,
    units: Mapping[str, float] | None = None,
    *,
    needed: bool = True,
) -> float | None:
    """The value of a figure with its unit, in microseconds where `units` are times."""
    stated = object_in(event, key)
    found = log.number(stated, "value", f"{place}.{key}", needed=needed, zero=not needed)
    if found is None or units is None:
        return found
    unit = str(stated.get("unit", "")).casefold()
    if unit not in units:
        log.fault(f"{place}.{key}.unit", repr(stated.get("unit")), f"one of {', '.join(units)}")
        return None
    assert number_in(found) is not None
    return found * units[unit]
