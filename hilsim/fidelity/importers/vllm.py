"""A result of vLLM's serving benchmark: `vllm bench serve --save-result`, benchmarks/benchmark_serving.py.

| of the result                                     | here                                                            |
| median_ttft_ms, total_input_tokens / completed    | llm_prefill, ttft_ms, context_len                               |
| median_tpot_ms                                    | llm_decode, latency_ms; prompt and half the answer in the cache |

Both hold for one request at a time (--max-concurrency 1): where several share the steps, and wait for each other's
prompts, neither is a time of the chip alone, and the rows are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log


def is_vllm(contents: Contents) -> bool:
    """Whether it has the mean time to the first token as vLLM calls it."""
    return "mean_ttft_ms" in contents.first


def read(log: Log) -> None:
    """Two rows a result."""
    for line, result in log.contents.objects:
        read_result(log, line, result)


def read_result(log: Log, line: int, result: Mapping[str, Any]) -> None:
    """The prompt and the token of one result."""
    place = f"line {line}"
    completed = log.number(result, "completed", place)
    given, made = (log.number(result, f"total_{what}_tokens", place) for what in ("input", "output"))
    first, each = (middle(log, result, what, place) for what in ("ttft", "tpot"))
    duration = log.number(result, "duration", place, needed=False)
    if not completed or not given or not made:
        return
    prompt, answer = given / completed, made / completed
    alone = completed == 1 or result.get("max_concurrency") == 1
    if alone and duration and first and each:
        mean_first, mean_each = (log.number(result, f"mean_{what}_ms", place) for what in ("ttft", "tpot"))
        whole = completed * ((mean_first or first) + (mean_each or each) * (answer - 1)) / 1e3
        log.agree(f"{place}, duration", duration, whole)
    reason = "" if alone else f"requests overlapped (max_concurrency {result.get('max_concurrency') or 'not stated'})"
    speculated = any(key.startswith("spec_decode") for key in result)
    model = str(result.get("model_id") or "").rstrip("/").rpartition("/")[2]
    common = {
        "model": model, "runtime": "vLLM", "source": "vLLM serving benchmark", "source_date": date_of(result),
        "note": f"median of {completed:g} requests",
    }  # fmt: skip
    if first:
        log.add(
            line, kind="llm_prefill", metric="ttft_ms", value=first, context_len=max(1, round(prompt)),
            forbidden=reason, **common,
        )  # fmt: skip
    if each:
        reason = reason or ("it speculated" if speculated else "")
        context = round(prompt + (answer + 1) / 2)
        log.add(
            line, kind="llm_decode", metric="latency_ms", value=each, context_len=context, forbidden=reason, **common
        )


def middle(log: Log, result: Mapping[str, Any], what: str, place: str) -> float | None:
    """The median of a time, else its mean."""
    median = log.number(result, f"median_{what}_ms", place, needed=False, zero=True)
    return median or log.number(result, f"mean_{what}_ms", place, zero=what == "tpot") or None


def date_of(result: Mapping[str, Any]) -> str:
    """The day of a result: 20260721-101500 is 2026-07-21."""
    text = str(result.get("date") or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if text[:8].isdecimal() and len(text) >= 8 else ""
