"""The draft's continuations from every position of an answer at once, as a live source would give them one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hilsim.logits.accept import entropy
from hilsim.logits.batched import Continuations
from hilsim.logits.decisions import Decisions
from hilsim.logits.live import LiveSource
from hilsim.logits.recording import Heard, Position
from hilsim.logits.sampling import Logits
from hilsim.logits.source import Draft, TokenTree


class OneRow:
    """`Rows` of the row that lies before it; for decisions about rows that were computed together."""

    drafts = True

    def __init__(self) -> None:
        self.row: Logits = np.zeros(0, np.float32)

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        raise AssertionError("a continuation is the draft's own")

    def draft_row(self, conversation: int, tokens: Sequence[int]) -> Logits:
        return self.row

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Logits]:
        raise AssertionError("a continuation is no tree")


@torch.inference_mode()
def drafted_ahead(source: LiveSource, one: Heard, depth: int, context: int) -> list[Draft]:
    """One draft of up to `depth` tokens from every position of an answer and the one after it.

    `depth` is cut where the context ends. Rows are rounded to float32 as a live source rounds them, so with float64
    networks every number is the live one.
    """
    network = source.stand_ins.draft
    assert network is not None, "a scenario without a draft has no continuations"
    full = [*one.before, *one.answer]
    starts = list(range(len(one.before), len(full) + 1))
    own: list[list[int]] = [[] for _ in starts]
    sure: list[tuple[list[float], list[float]]] = [([], []) for _ in starts]
    view, rules = OneRow(), source.decisions
    decisions = Decisions(view, rules.rules, rules.seed, rules.ends)
    going = [place for place, start in enumerate(starts) if start < context]
    together = Continuations(network, full, [starts[place] for place in going], depth)
    rows = together.known[[starts[place] - 1 for place in going]]
    for _ in range(depth):
        table = rows[:, : source.stand_ins.vocabulary].to(torch.float32).numpy()
        for place, row in zip(going, table, strict=True):
            view.row = row
            history = [*full[: starts[place]], *own[place]]
            token, law = decisions.proposed(Position(one.index, one.conversation, history), history)
            own[place].append(token)
            sure[place][0].append(float(law[token]))
            sure[place][1].append(entropy(law))
        # Who has ended its turn, or fills the context, drafts no further.
        left = [
            (row, place)
            for row, place in enumerate(going)
            if not rules.ends(own[place][-1]) and starts[place] + len(own[place]) < context
        ]
        if not left or len(own[left[0][1]]) == depth:
            break
        together.keep([row for row, _ in left])
        going = [place for _, place in left]
        rows = together.step([own[place][-1] for place in going])
    return [Draft(tuple(tokens), tuple(told[0]), tuple(told[1])) for tokens, told in zip(own, sure, strict=True)]
