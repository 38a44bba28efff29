"""The draft's continuations from every position of an answer at once, as a live source would give them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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


@dataclass
class Way:
    """One continuation under way: whose it is, where it began, and what it has said."""

    of: Heard
    start: int
    tokens: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    @property
    def draft(self) -> Draft:
        return Draft(tuple(self.tokens), tuple(self.confidences), tuple(self.entropies))


def drafted_ahead(source: LiveSource, heard: Sequence[Heard], depth: int, context: int) -> list[list[Draft]]:
    """For each request one draft of up to `depth` tokens from every position of its answer and the one after it.

    `depth` is cut where the context ends. Rows are rounded to float32 as a live source rounds them, so with float64
    networks every number is the live one.
    """
    found: dict[int, list[Draft]] = {}
    for group in grown(heard):
        ways = [Way(one, start) for one in group for start in range(len(one.before), len(one.full) + 1)]
        go_on(source, group[-1].full, ways, depth, context)
        for one in group:
            found[id(one)] = [way.draft for way in ways if way.of is one]
    return [found.get(id(one), []) for one in heard]


def grown(heard: Sequence[Heard]) -> Iterator[list[Heard]]:
    """Answered requests, those together of which each has all of the one before it at its beginning."""
    group: list[Heard] = []
    for one in heard:
        if not one.answer:
            continue
        last = group[-1].full if group else []
        if group and one.before[: len(last)] != last:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


@torch.inference_mode()
def go_on(source: LiveSource, tokens: Sequence[int], ways: Sequence[Way], depth: int, context: int) -> None:
    """Draft all of the ways on, a token of each a pass; those that end drop out."""
    network = source.stand_ins.draft
    assert network is not None, "a scenario without a draft has no continuations"
    view, live = OneRow(), source.decisions
    decisions = Decisions(view, live.rules, live.seed, live.ends)
    going = [way for way in ways if way.start < context]
    together = Continuations(network, tokens, [way.start for way in going], depth)
    rows = together.known[[way.start - 1 for way in going]]
    for step in range(1, depth + 1):
        table = rows[:, : source.stand_ins.vocabulary].to(torch.float32).numpy()
        for way, row in zip(going, table, strict=True):
            view.row = row
            history = [*tokens[: way.start], *way.tokens]
            token, law = decisions.proposed(Position(way.of.index, way.of.conversation, history), history)
            way.tokens.append(token)
            way.confidences.append(float(law[token]))
            way.entropies.append(entropy(law))
        # Who has ended its turn, or fills the context, drafts no further.
        left = [
            row
            for row, way in enumerate(going)
            if not live.ends(way.tokens[-1]) and way.start + len(way.tokens) < context
        ]
        if not left or step == depth:
            return
        together.keep(left)
        going = [going[row] for row in left]
        rows = together.step([way.tokens[-1] for way in going])
