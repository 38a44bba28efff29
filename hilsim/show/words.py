"""Measures in words, for sentences and axes read by those who know no keys. Documents and tables of keys keep these."""

from __future__ import annotations

from hilsim.measure.parts import LOSSES

WORDS = {
    "speedup": "speed-up",
    "time_to_first_token_ms": "first token",
    "time_to_first_clause_ms": "first clause",
    "request_latency_ms": "whole answer",
    "time_per_output_token_ms": "time of a token",
    "inter_token_latency_ms": "gap between tokens",
    "output_token_throughput": "tokens a second",
    "energy_j": "energy",
    "bytes_up": "bytes to the target's chip",
    "bytes_down": "bytes to the draft's chip",
    "link_bytes": "bytes over the link",
    "link_busy": "link busy",
    "target_busy": "target's unit busy",
    "draft_busy": "draft's unit busy",
    "draft_acceptance_rate": "drafts accepted",
    "mean_acceptance_length": "tokens a verify",
    "tokens_per_round": "tokens a round",
    "target_memory_bytes": "memory of the target's chip",
    "draft_memory_bytes": "memory of the draft's chip",
    "memory_bytes": "memory of all chips",
    "memory_left_bytes": "memory left",
    **{f"lost_ms.{part}": f"answers' time spent on {part}" for part in LOSSES},
    "first_audio_ms": "first audio",
    "turn_ms": "spoken turn",
    "gap_ms": "longest silence in an answer",
    "reaction_ms": "reaction to the passenger",
    "unheard": "questions not answered",
    "missed": "deadlines missed",
    "throttled": "time below full speed",
}


def words(measure: str) -> str:
    """What a measure is called, its statistic in brackets: "first clause (p50)"."""
    if measure in WORDS:
        return WORDS[measure]
    name, _, statistic = measure.rpartition(".")
    return f"{WORDS[name]} ({statistic})"
