"""Drafts the continuations that a transcript holds, from every position of every answer, for `runs/record.py`.

They equal those of a live source, asked one by one. Where the draft proposes the target's own token, its continuation
is that of the next position, so one token is recorded there; where it departs from the target it is followed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilsim.networks.batched import Continuations, Parallel, as_table
from hilsim.networks.packed import Packed
from hilsim.sampling.choices import Choices, RowPosition
from hilsim.sampling.logits import Logits
from hilsim.sources.answers import Limits
from hilsim.sources.recording import DraftedColumns, OpenConversation, TargetAnswer


@dataclass(frozen=True)
class Continuation:
    """A continuation: its row among all, the conversation and its number, the request, and the start position."""

    row: int
    conversation: OpenConversation
    number: int
    of: TargetAnswer
    start: int

    @property
    def target(self) -> int:
        """The target's token where the continuation begins."""
        return self.of.answer[self.start - len(self.of.before)]

    def goes_on(self, step: int, token: int, limits: Limits) -> bool:
        """Whether drafting goes on after a step's token: there is room, and the token is not the target's own."""
        room = self.start + step + 1 < limits.context
        return room and token not in limits.ends and (step > 0 or token != self.target)


def drafted_ahead(
    network: Packed, choices: Choices, conversations: Sequence[OpenConversation], depth: int, limits: Limits
) -> DraftedColumns:
    """The draft's continuations, up to `depth` tokens each: a row for every position of every answer, in order."""
    places = [
        (conversation, number, one, len(one.before) + position)
        for number, conversation in enumerate(conversations)
        for one in conversation.answered
        for position in range(len(one.answer))
    ]
    going = [Continuation(row, *place) for row, place in enumerate(places)]
    found = DraftedColumns.unknown(len(going), depth)
    reader, table = read(network, conversations, limits)
    together = None
    for step in range(depth):
        proposal = choices.proposed(table, places_of(going, found, step))
        rows = [one.row for one in going]
        found.drafted[rows, step] = proposal.tokens
        found.confidence[rows, step], found.entropy[rows, step] = proposal.confidences, proposal.entropies
        tokens = proposal.tokens.tolist()
        left = [at for at, one in enumerate(going) if one.goes_on(step, tokens[at], limits)]
        if not left or step + 1 == depth:
            break
        going = [going[at] for at in left]
        if together is None:
            starts = [[one.start for one in going if one.number == number] for number in range(len(conversations))]
            known = [reader.known(place) for place in range(len(conversations))]
            together = Continuations(network, known, starts, depth - 1)
        else:
            together.keep(left)
        table = as_table(together.step([tokens[at] for at in left]))
    return found


def read(network: Packed, conversations: Sequence[OpenConversation], limits: Limits) -> tuple[Parallel, Logits]:
    """The network with the conversations in its cache, and its logits before every token of their answers."""
    reader = Parallel(network, len(conversations), limits.context)
    reader.begin([conversation.tokens for conversation in conversations])
    tables = []
    for place, conversation in enumerate(conversations):
        rows = [len(one.before) + position - 1 for one in conversation.answered for position in range(len(one.answer))]
        if rows:
            known = reader.lengths[place]
            wanted = [row - known for row in rows]
            tables.append(as_table(reader.feed([place], [conversation.tokens[known : rows[-1] + 1]], [wanted])))
    return reader, np.concatenate(tables)


def places_of(going: Sequence[Continuation], found: DraftedColumns, step: int) -> list[RowPosition]:
    """The positions of the next tokens of some continuations."""
    drafted = [found.drafted[one.row, :step].tolist() for one in going]
    return [
        RowPosition(one.of.index, [*one.conversation.tokens[: one.start], *ahead])
        for one, ahead in zip(going, drafted, strict=True)
    ]
