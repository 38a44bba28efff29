"""TensorRT Edge-LLM's `llm_inference --dumpProfile --profileOutputFile FILE` (NVIDIA/TensorRT-Edge-LLM, examples).

| of the profile                                               | here                                                 |
| prefill.average_time_per_run_ms, average_tokens_per_run      | llm_prefill, ttft_ms, context_len                    |
| generation.tokens_per_second                                 | llm_decode, tok_s; half the answer is in the cache   |
| a section with average_acceptance_rate (EAGLE, MTP)          | left out: its rate is not one of single steps        |
| multimodal                                                   | not read: it states a time per image token           |

The profile states no batch; its rates are taken as those of one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log, object_in

SECTIONS = ("prefill", "generation", "eagle_generation", "spec_decode_generation", "specdecode_generation")


def is_edge_llm(contents: Contents) -> bool:
    """Whether a section of it counts runs, beside the stages that were timed."""
    return any("total_runs" in object_in(contents.first, section) for section in SECTIONS)


def read(log: Log) -> None:
    """A row of the prompts and one of the tokens."""
    ((line, profile), *_) = log.contents.objects
    prefill, generation = object_in(profile, "prefill"), object_in(profile, "generation")
    prompt = read_prefill(log, line, prefill) if prefill else None
    if generation:
        read_generation(log, line, generation, prompt)
    for name in profile:
        section = object_in(profile, name)
        if "average_acceptance_rate" in section and (
            rate := log.number(section, "overall_tokens_per_second_excluding_base_prefill", name)
        ):
            accepted = log.number(section, "average_acceptance_rate", name)
            reason = f"it speculated ({accepted or 0:g} tokens a step)"
            log.add(line, kind="llm_decode", metric="tok_s", value=rate, forbidden=reason)
    if object_in(profile, "multimodal"):
        log.notes.append("multimodal: a time per image token is no time of a network's pass")
    if not log.rows and not log.faults:
        expected = "prefill or generation with its averages"
        log.fault("", f"sections {', '.join(profile)}", expected, "Was the run made with --dumpProfile?")


def read_prefill(log: Log, line: int, prefill: Mapping[str, Any]) -> float | None:
    """The row of the prompts; their mean length is returned."""
    tokens, value = (
        log.number(prefill, key, "prefill") for key in ("average_tokens_per_run", "average_time_per_run_ms")
    )
    reused = log.number(prefill, "reused_tokens", "prefill", needed=False, zero=True)
    rate = log.number(prefill, "tokens_per_second", "prefill", needed=False)
    if not tokens or not value:
        return None
    log.agree("prefill.tokens_per_second", rate, tokens / value * 1e3)
    reason = f"{reused:g} tokens of its prompts were cached" if reused else ""
    runs = log.number(prefill, "total_runs", "prefill")
    log.add(
        line, kind="llm_prefill", metric="ttft_ms", value=value, context_len=round(tokens) or 1, forbidden=reason,
        note=f"mean of {runs or 0:g} prompts",
    )  # fmt: skip
    return tokens


def read_generation(log: Log, line: int, generation: Mapping[str, Any], prompt: float | None) -> None:
    """The row of the tokens."""
    rate = log.number(generation, "tokens_per_second", "generation")
    step = log.number(generation, "average_time_per_token_ms", "generation", needed=False)
    tokens = log.number(generation, "average_tokens_per_run", "generation", needed=False)
    if not rate:
        return
    log.agree("generation.average_time_per_token_ms", step, 1e3 / rate)
    context = log.given.context or (round(prompt + ((tokens or 1) + 1) / 2) if prompt else None)
    runs = log.number(generation, "total_runs", "generation")
    log.add(
        line, kind="llm_decode", metric="tok_s", value=rate, context_len=context, note=f"mean of {runs or 0:g} runs"
    )
