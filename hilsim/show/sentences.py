"""What a run's document means, in sentences: faster or slower, where the time went, lossless or not."""

from __future__ import annotations

from typing import Any

from hilsim.show.words import CAUSES, REMEDIES, clean, counted, duration, percent

EVEN = 0.02


def headline(document: dict[str, Any]) -> str:
    """The answer in a sentence or two: the speed-up, and what it means for the passenger."""
    scenario = clean(document["scenario"])
    alone = median(document["baseline"], "time_to_first_clause_ms")
    if document["speculative"] is None:
        if alone is None:
            return f"{scenario}: the target alone; nothing was answered."
        return f"{scenario}: the target alone. The passenger hears the first clause after {duration(alone)} (p50)."
    speedup = document["speedup"]
    if abs(speedup - 1) <= EVEN:
        answer = f"speedup {speedup:.2f}: speculation changes next to nothing."
    elif speedup > 1:
        answer = f"speedup {speedup:.2f}: answers take {percent(1 / speedup)} of the target's own time."
    else:
        answer = f"speedup {speedup:.2f}: speculation makes answers {percent(1 / speedup - 1)} slower."
    ours = median(document["speculative"], "time_to_first_clause_ms")
    if alone is None or ours is None:
        return f"{scenario}: {answer}"
    heard = f"The passenger hears the first clause after {duration(ours)} instead of {duration(alone)} (p50)."
    return f"{scenario}: {answer} {heard}"


def median(block: dict[str, Any], metric: str) -> float | None:
    """The p50 of a metric, where there is one."""
    statistics = block[metric]
    return None if statistics is None else float(statistics["p50"])


def where_it_went(speedup: float, block: dict[str, Any]) -> str:
    """The largest loss by name; where speculation lost, why, and what would help."""
    lost, gained = block["lost_ms"], block["gained_ms"]
    largest = max(lost, key=lambda name: float(lost[name]))
    total = sum(value for value in lost.values() if value > 0)
    if total <= 0:
        return f"Rounds saved {duration(gained)} of target steps, and nothing was lost."
    share = lost[largest] / total
    if speedup < 1 - EVEN:
        return (
            f"Speculation lost time: it saved {duration(gained)} of target steps and spent {duration(total)} on it. "
            f"{percent(share)} of that, {duration(lost[largest])}, is {largest}: {CAUSES[largest]}. {REMEDIES[largest]}"
        )
    given_back = f" and gave {percent(total / gained)} of it back" if gained > 0 else ""
    return (
        f"Rounds saved {duration(gained)} of target steps{given_back}. "
        f"The largest loss is {largest}: {duration(lost[largest])} of {CAUSES[largest]}."
    )


def lossless_words(block: dict[str, Any]) -> tuple[str, bool]:
    """Whether the words are those of the target alone, and whether that is good news."""
    checked, mismatches, ties = block["checked_tokens"], block["mismatches"], block["numerical_ties"]
    counts = f"rule {block['rule']}, checked_tokens {checked}, mismatches {mismatches}, numerical_ties {ties}"
    if mismatches:
        answers = counted(mismatches, "answer")
        return f"{counts}: NOT lossless, {answers} left the target's own words for no numerical reason.", False
    if ties:
        after = counted(block.get("not_compared_tokens", 0), "token")
        return f"{counts}: equal up to last-bit ties; {after} after a tie answer another history.", True
    return f"{counts}: every token is what the target alone would say.", True
