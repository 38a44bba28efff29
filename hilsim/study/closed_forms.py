"""Closed forms of speculative sampling: what a run must give where only its acceptance and step times count.

All times are in target steps: `draft` is the time of one drafted token (c in Leviathan et al.), `link` a round trip,
`verify` one pass over a whole block and the row after it (1 where that costs as much as a single row). `acceptance` is
alpha, the same and independent at every position; `drafted` is gamma. Left out of all of them: reading the prompt, the
cut at the end of an answer, jitter, and acceptance that goes in runs.
"""

from __future__ import annotations

from hilsim.describe.acceptance import least, run_of, tokens_a_round

LONGEST = 60  # drafted tokens; the gain of one more is far below a thousandth where any paper's ratio ends


def tokens_accepted(acceptance: float, drafted: int) -> float:
    """Drafted tokens accepted a round: one less than `tokens_a_round`."""
    return tokens_a_round(acceptance, drafted) - 1


def sync_round(
    acceptance: float, drafted: int, draft: float, link: float = 0.0, verify: float = 1.0, catch_up: float = 0.0
) -> float:
    """Length of a synchronous round: g c + v + l, and what the draft's catch-up after a full acceptance costs extra.

    After a full acceptance, once in 1 / a^g rounds, the draft lacks two tokens and not one; where that takes a step of
    its own `catch_up` is c, where two rows cost as much as one it is 0.
    """
    return drafted * draft + acceptance**drafted * catch_up + verify + link


def sync_speedup(
    acceptance: float, drafted: int, draft: float, link: float = 0.0, verify: float = 1.0, catch_up: float = 0.0
) -> float:
    """E / (g c + v + l). Leviathan et al., Theorem 3.8, where v = 1 and l = 0; the rest is the same argument."""
    return tokens_a_round(acceptance, drafted) / sync_round(acceptance, drafted, draft, link, verify, catch_up)


def sync_operations(acceptance: float, drafted: int, draft: float) -> float:
    """Operations a token over the target's alone, (1-a)(g c + g + 1) / (1 - a^(g+1)); `draft` is in operations here.

    Leviathan et al., Theorem 3.11.
    """
    return (drafted * draft + drafted + 1) / tokens_a_round(acceptance, drafted)


def best_draft_tokens(
    acceptance: float, draft: float, link: float = 0.0, verify: float = 1.0, longest: int = LONGEST
) -> tuple[int, float]:
    """How many tokens to draft for the highest synchronous speed-up, 1 to `longest`, and that speed-up."""
    speeds = {n: sync_speedup(acceptance, n, draft, link, verify) for n in range(1, longest + 1)}
    best = max(speeds, key=lambda n: speeds[n])
    return best, speeds[best]


def acceptance_needed(
    speedup: float, draft: float, link: float = 0.0, verify: float = 1.0, drafted: int | None = None
) -> float | None:
    """The least acceptance that reaches `speedup`, with the best number of drafted tokens or the one given.

    None where even a draft that is always right does not reach it.
    """

    def reached(acceptance: float) -> float:
        if drafted is not None:
            return sync_speedup(acceptance, drafted, draft, link, verify)
        return best_draft_tokens(acceptance, draft, link, verify)[1]

    return least(reached, speedup)


def break_even_acceptance(draft: float, link: float = 0.0, verify: float = 1.0, drafted: int = 1) -> float | None:
    """The acceptance from which speculation pays at all; with one drafted token it is c + l + v - 1.

    Leviathan et al., Corollary 3.9, where v = 1 and l = 0: some draft length helps as soon as a > c.
    """
    return acceptance_needed(1.0, draft, link, verify, drafted)


def pearl_tokens_a_slot(acceptance: float, drafted: int) -> float:
    """(1 - a^g) / ((1 - a)(1 + a - a^g)): tokens a slot of PEARL (arXiv 2408.11850), from its released code's states.

    Pre-verify slots bring one token and end in post-verify with chance a. Post-verify slots bring (1 - a^g) / (1 - a)
    tokens (no bonus token: the block's last token is only verified in the next) and stay with chance a^g. So a share
    a / (1 + a - a^g) of the slots is post-verify. The paper's Theorem 2 counts a run between rejections, not a slot.
    """
    return run_of(acceptance, drafted) / (1 + acceptance - acceptance**drafted)


def pearl_slot(acceptance: float, drafted: int, draft: float, link: float = 0.0, verify: float = 1.0) -> float:
    """Mean length of a slot: both chips work at once, so the longer of the two counts.

    The draft receives the last verdict, drafts and sends, g c + l; the target, which need not wait for its own verdict,
    takes a single row in pre-verify and v in post-verify.
    """
    post = acceptance / (1 + acceptance - acceptance**drafted)
    drafting = drafted * draft + link
    return (1 - post) * max(drafting, 1.0) + post * max(drafting, verify)


def pearl_speedup(acceptance: float, drafted: int, draft: float, link: float = 0.0, verify: float = 1.0) -> float:
    """Tokens a slot over its length."""
    return pearl_tokens_a_slot(acceptance, drafted) / pearl_slot(acceptance, drafted, draft, link, verify)


def pipelined_speedup(acceptance: float, drafted: int, draft: float, link: float = 0.0, verify: float = 1.0) -> float:
    """Blocks drafted ahead while the last one is away, by PicoSpec's account.

    A block brings (1 - a^g) / (1 - a) tokens, as there is no bonus token. A hit, with chance a^g, costs the longer of
    drafting and (round trip + verify); a miss throws the block that is under way away and costs their sum.
    """
    hit, drafting, away = acceptance**drafted, drafted * draft, link + verify
    return run_of(acceptance, drafted) / (hit * max(drafting, away) + (1 - hit) * (drafting + away))


def ceiling(acceptance: float, draft: float) -> float:
    """1 / ((1 - a) + c a): no schedule of one draft and one target is faster.

    Every rejection costs one target step after another, every accepted token one draft step after another; link and
    verification of several rows only add to it.
    """
    return 1 / ((1 - acceptance) + draft * acceptance)
