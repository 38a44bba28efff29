"""`speculation_profile.json`, which travels with a draft checkpoint (NVIDIA/Model-Optimizer, schema 1.0, 2026-09).

| of the profile              | what it is                                                                    |
| conditional_accept_rates    | by place, the chance of a draft once all before it were accepted              |
| marginal_accept_rates       | by place, the share of steps that accept it and all before it                 |
| mean_accept_length          | tokens a step, the target's own among them: 1 + the sum of the marginal rates |
| acceptance_length_histogram | steps by the tokens that they made final                                      |
| measured                    | false of a placeholder, which is refused                                      |
| verification_method         | other than longest_prefix: the rates by place describe nothing, refused       |

Where both lists are given they have to agree; a list whose name says neither is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilsim.describe.acceptance import marginal_of
from hilsim.describe.acceptance_formats.logged import AGREE, Found, LoggedFile

CONDITIONAL, MARGINAL = "conditional_accept_rates", "marginal_accept_rates"
BLOCKS = ("dflash", "dspark")  # methods that draft a block anew for every number of drafts


def is_profile(logged: LoggedFile) -> bool:
    """Whether it has a key of such a profile, or a list of rates that lacks the word."""
    known = {CONDITIONAL, MARGINAL, "acceptance_length_histogram", "num_speculative_tokens"}
    unnamed = any("accept" in key and "rate" in key and isinstance(logged.first[key], list) for key in logged.first)
    return bool(known & set(logged.first)) or (unnamed and not any(key.startswith("spec_") for key in logged.first))


def read(logged: LoggedFile) -> Found:
    """The chances by place."""
    ((_, profile), *rest) = logged.objects
    if rest:
        logged.refuse(f"line {rest[0][0]}", "a second object", "one profile a file")
    if profile.get("measured") is False:
        logged.refuse("measured", "false, a placeholder", "a profile that was measured", str(profile.get("note", "")))
    method = profile.get("verification_method")
    if method not in (None, "longest_prefix"):
        logged.refuse("verification_method", repr(method), "longest_prefix: rates by place describe nothing else")
    rates = {key: logged.shares(profile, key) for key in (CONDITIONAL, MARGINAL) if profile.get(key) is not None}
    if not rates:
        unnamed = sorted(key for key in profile if "accept" in key and isinstance(profile[key], list))
        found = f"{', '.join(unnamed)} and neither of the two" if unnamed else "neither"
        remedy = "Rename the list to what it is." if unnamed else str(profile.get("vectors_unavailable_reason") or "")
        logged.refuse("top level", found, f"{CONDITIONAL} or {MARGINAL}", remedy)
    require_whole(logged, profile, rates)
    forms = {
        key: logged.accept(key, {key.removesuffix("_accept_rates"): list(shares)}) for key, shares in rates.items()
    }
    require_agreement(logged, profile, rates)
    key = CONDITIONAL if CONDITIONAL in rates else MARGINAL
    return Found(
        forms[key],
        rounds_of(logged, profile),
        pair_of(profile),
        str(logged.block(profile, "measurement_conditions").get("dataset") or ""),
        temperature_of(logged.block(profile, "measurement_conditions")),
        f"A block is drafted anew for every number of drafts: these chances hold at {len(rates[key])}."
        if profile.get("method") in BLOCKS or profile.get("accept_length_model") == "measured_per_k" else "",
    )  # fmt: skip


def require_whole(logged: LoggedFile, profile: Mapping[str, Any], rates: Mapping[str, tuple[float, ...]]) -> None:
    """Refuse lists of another length than the profile states."""
    if "num_speculative_tokens" in profile:
        wanted = round(logged.number(profile, "num_speculative_tokens", "", least=1, most=1000))
        for key, shares in rates.items():
            if len(shares) != wanted:
                expected = f"{wanted}, as num_speculative_tokens says"
                logged.refuse(key, f"{len(shares)} positions", expected)


def require_agreement(logged: LoggedFile, profile: Mapping[str, Any], rates: Mapping[str, tuple[float, ...]]) -> None:
    """Refuse a profile whose lists, or whose list and mean, contradict each other: one of them is mixed up."""
    if len(rates) == 2:
        reached = 1.0
        for place, (chance, share) in enumerate(zip(rates[CONDITIONAL], rates[MARGINAL], strict=True), 1):
            if abs(reached * chance - share) > AGREE:
                expected = f"{reached * chance:.4g}, as {CONDITIONAL} make of it"
                remedy = "Were the two lists exchanged, or one written twice?"
                logged.refuse(MARGINAL, f"{share:.4g} at place {place}", expected, remedy)
            reached = share
    mean = profile.get("mean_accept_length")
    if mean is not None:
        stated = logged.number(profile, "mean_accept_length", "", least=1, most=1001)
        marginal = rates.get(MARGINAL) or marginal_of(rates[CONDITIONAL])
        implied = 1 + sum(marginal)
        if abs(implied - stated) > 0.02:  # the tolerance of the format's own check
            key = CONDITIONAL if CONDITIONAL in rates else MARGINAL
            expected = f"{implied:.4g}, which {key} come to"
            remedy = "Is the list of the other kind, or cut short?"
            logged.refuse("mean_accept_length", f"{stated:.4g} tokens a step", expected, remedy)


def rounds_of(logged: LoggedFile, profile: Mapping[str, Any]) -> int | None:
    """Steps of the histogram."""
    histogram = profile.get("acceptance_length_histogram")
    if not isinstance(histogram, dict) or not histogram:
        return None
    counts = [logged.number(histogram, key, "acceptance_length_histogram") for key in histogram]
    return round(sum(counts)) or None


def pair_of(profile: Mapping[str, Any]) -> str:
    """Target and drafter, as far as they are named."""
    target, draft = (named(profile.get(key)) for key in ("target_model", "draft_checkpoint"))
    return " with ".join(filter(None, (target, draft or str(profile.get("method") or ""))))


def named(data: object) -> str:
    """A model's name: text, or an object with one."""
    if isinstance(data, dict):
        data = next((data[key] for key in ("name", "id", "path", "model") if data.get(key)), "")
    return str(data or "")


def temperature_of(conditions: Mapping[str, Any]) -> float | None:
    """The temperature among the conditions, where it is one."""
    found = conditions.get("temperature")
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 100:
        return None
    return float(found)


def written(profile: Mapping[str, Any], conditional: tuple[float, ...], histogram: Mapping[int, int]) -> dict[str, Any]:
    """A profile of one's own: both lists, the histogram and the means, with what `profile` says of the measurement."""
    marginal = marginal_of(conditional)
    implied = 1 + sum(marginal)
    steps = sum(histogram.values())
    mean = sum(length * count for length, count in histogram.items()) / steps if steps else implied
    return {
        "schema_version": "1.0",
        "measured": True,
        "producer": "hilsim",
        **profile,
        "num_speculative_tokens": len(conditional),
        "verification_method": "longest_prefix",
        CONDITIONAL: [round(chance, 6) for chance in conditional],
        MARGINAL: [round(share, 6) for share in marginal],
        "mean_accept_length": round(mean, 6),
        "acceptance_length_histogram": {str(length): count for length, count in sorted(histogram.items())},
        "validation": {
            "mean_consistency": {
                "implied_mean_accept_length": round(implied, 6),
                "reported_mean_accept_length": round(mean, 6),
                "passed": abs(implied - mean) <= 0.02,
            },
        },
    }
