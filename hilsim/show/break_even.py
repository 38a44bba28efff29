"""Whether speculation pays in a run, in its document and in a sentence; `measure/round_cost.py` defines the terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hilsim.describe.drafting import ONE_PASS
from hilsim.describe.policy import Sync
from hilsim.describe.setup import Setup
from hilsim.measure.round_cost import SHARE, TurningPoint, round_cost
from hilsim.show.numbers import counted, duration
from hilsim.sim.trace import Trace


def break_even(
    setup: Setup, baseline: Trace, speculative: Trace, conditional: Sequence[float | None]
) -> dict[str, Any] | None:
    """For the document: `conditional` acceptance is the run's by position. None where no round can be compared."""
    found = round_cost(baseline, speculative, setup.scenario.seed)
    if found is None:
        return None
    policy, fewer = setup.scenario.policy, None
    at_once = setup.draft is not None and setup.draft.head_kind in ONE_PASS  # drafting fewer saves nothing
    if isinstance(policy, Sync) and not at_once and not setup.backends and not found.pays:
        from hilsim.study.steps import best_fewer  # of a run that loses alone

        known = [chance for chance in conditional if chance is not None]
        fewer = best_fewer(setup, min(policy.draft_tokens, len(known) + 1), known)
    return {
        "tokens_a_round_needed": found.break_even,
        "tokens_a_round": found.tokens_a_round,
        "interval": {
            "low": found.low,
            "high": found.high,
            "share": SHARE,
            "drawn": counted(found.count, found.unit[:-1]),
        },
        "round_ms": found.round_ms,
        "plain_step_ms": found.plain_step_ms,
        "verdict": found.verdict,
        "pays": found.pays,
        "drafted_a_round": found.drafted,
        "turned_by": {
            "acceptance": as_json(found.acceptance),
            "verify_ms": as_json(found.verify_ms),
            "draft_tokens": None if fewer is None else {"needed": fewer[0], "speedup": fewer[1]},
        },
    }


def as_json(found: TurningPoint | None) -> dict[str, float | None] | None:
    """A quantity at hand, and where the verdict turns."""
    return None if found is None else {"at_hand": found.at_hand, "needed": found.needed}


def break_even_sentence(block: dict[str, Any]) -> str:
    """The verdict with its two numbers, and what would turn it."""
    interval, pays = block["interval"], block["pays"]
    verdict = {
        "speculate": "Speculate",
        "do not speculate": "Do not speculate",
        "too close to call": f"Too close to call, the better guess is {'to' if pays else 'not to'} speculate",
    }[block["verdict"]]
    ends = f"{interval['low']:.2f} to {interval['high']:.2f} over {interval['drawn']}"
    took = f"a round takes {duration(block['round_ms'])} and a plain step {duration(block['plain_step_ms'])}"
    return (
        f"{verdict}: a round makes {block['tokens_a_round']:.2f} tokens ({ends}), and"
        f" {block['tokens_a_round_needed']:.2f} break even, as {took}. {turning(block)}"
    )


def turning(block: dict[str, Any]) -> str:
    """What would turn the verdict."""
    by, pays = block["turned_by"], block["pays"]
    ways, useless = [], []
    if (acceptance := by["acceptance"]) is not None:
        drafts = f"{counted(block['drafted_a_round'], 'draft')} a round"
        if acceptance["needed"] is None:
            useless.append(f"no acceptance, as {drafts} make at most {block['drafted_a_round'] + 1} tokens")
        else:
            ways.append(
                f"an acceptance of {acceptance['needed']:.2f} instead of {acceptance['at_hand']:.2f} ({drafts})"
            )
    if (verify := by["verify_ms"]) is not None:
        if verify["needed"] is None:
            useless.append("no cheaper verify alone")
        else:
            ways.append(f"a verify of {duration(verify['needed'])} instead of {duration(verify['at_hand'])}")
    if (fewer := by["draft_tokens"]) is not None and fewer["speedup"] > 1:
        ways.append(f"drafting {fewer['needed']} ({fewer['speedup']:.2f} times as fast on paper)")
    elif fewer is not None:
        useless.append("no shorter draft")
    what = "It would turn at" if pays else "What would turn it:"
    sentences = [f"{what} {' or '.join(ways)}."] if ways else []
    if useless:
        sentences.append(f"{'; '.join(useless).capitalize()} turns it.")
    return " ".join(sentences) or "What would turn it is not known of this policy: its steps overlap."
