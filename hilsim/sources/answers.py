"""Computes the target's answers of many conversations in lockstep, one token of each per pass, for `runs/record.py`.

They are those that `sim.run` gets from a live source of the target alone, several times sooner. (No speculation here:
on a processor a step of a small network costs a third of a step of the target, so it would gain nothing.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hilsim.networks.arrays import Array
from hilsim.networks.batched import Continuations, Parallel, as_table
from hilsim.networks.packed import Packed
from hilsim.sampling.choices import Choices, RowPosition
from hilsim.sources.recording import AFTER, OpenConversation, TargetAnswer


@dataclass(frozen=True)
class Limits:
    """Where answers end: at an end of turn, at a length, at the end of the context."""

    context: int
    max_new_tokens: int
    ends: frozenset[int]

    def reached(self, one: TargetAnswer) -> bool:
        """Whether an answer is complete."""
        length = len(one.answer)
        return one.answer[-1] in self.ends or length == self.max_new_tokens or len(one.before) + length == self.context

    def after(self, one: TargetAnswer) -> int:
        """Tokens that a verdict may name behind an answer: as many as there is room for, and the one after the last."""
        return min(AFTER, self.context + 1 - len(one.before) - len(one.answer))


class Answering:
    """Fills in the answers of some conversations.

    `networks`: the target, and the draft where the target's token depends on the draft's distribution as well.
    """

    def __init__(
        self, networks: Sequence[Packed], choices: Choices, conversations: Sequence[OpenConversation], limits: Limits
    ):
        self.choices, self.conversations, self.limits = choices, conversations, limits
        self.readers = [Parallel(network, len(conversations), limits.context) for network in networks]

    def answer(self, answered: Callable[[], None]) -> None:
        """Answer every question; `answered` is called at the end of each answer."""
        current = {
            place: one for place, conversation in enumerate(self.conversations) if (one := self.asked(conversation))
        }
        for reader in self.readers:
            reader.begin([conversation.tokens for conversation in self.conversations])
        while current:
            which = list(current)
            histories = [self.conversations[place].tokens for place in which]
            # The cache holds a prefix of the history: an end of turn that is taken back was never read.
            pieces = [tokens[self.readers[0].lengths[place] :] for place, tokens in zip(which, histories, strict=True)]
            rows = [reader.feed(which, pieces) for reader in self.readers]
            for place, token, margin in zip(which, *self.chosen(rows, list(current.values()), histories), strict=True):
                conversation, one = self.conversations[place], current[place]
                conversation.tokens.append(token)
                one.answer.append(token)
                one.margins.append(margin)
                if self.limits.reached(one):
                    answered()
                    del current[place]
                    if following := self.asked(conversation):
                        current[place] = following

    def asked(self, conversation: OpenConversation) -> TargetAnswer | None:
        """The next question of a conversation, if any; the caches are rewound to the prefix that is still valid."""
        found = conversation.ask(self.limits.context, self.limits.ends)
        if found and found.prefix_length is not None:
            for reader in self.readers:
                reader.rewind(self.conversations.index(conversation), found.prefix_length)
        return found

    def go_on(self) -> None:
        """Fill in the target's tokens after each answer, one token of all of them per pass."""
        stretches = [piece for conversation in self.conversations for piece in conversation.segments()]
        if len(stretches) > len(self.conversations):  # some were read anew: the caches lack what stood before that
            self.readers = [read_again(one.network, stretches, self.limits) for one in self.readers]
        conversations = [
            [one for one in conversation.answered if self.limits.after(one) > 0] for conversation in stretches
        ]
        going = [one for conversation in conversations for one in conversation]
        # From the last token of each answer, which the next turn may have taken back.
        starts = [[len(one.full) - 1 for one in conversation] for conversation in conversations]
        ways = [
            Continuations(reader.network, [reader.known(place) for place in range(len(conversations))], starts, AFTER)
            for reader in self.readers
        ]
        fed = [one.answer[-1] for one in going]
        while going:
            histories = [[*one.full, *one.after] for one in going]
            tokens, margins = self.chosen([way.step(fed) for way in ways], going, histories)
            for one, token, margin in zip(going, tokens, margins, strict=True):
                one.after.append(token)
                one.after_margins.append(margin)
            left = [at for at, one in enumerate(going) if len(one.after) < self.limits.after(one)]
            going = [going[at] for at in left]
            fed = [one.after[-1] for one in going]
            for way in ways:
                way.keep(left)

    def chosen(
        self, rows: Sequence[Array], requests: Sequence[TargetAnswer], histories: Sequence[Sequence[int]]
    ) -> tuple[list[int], list[float]]:
        """The target's next token after the history of each conversation, and the margins."""
        tables = [as_table(one) for one in rows]
        places = [RowPosition(one.index, tokens) for one, tokens in zip(requests, histories, strict=True)]
        tokens, margins = self.choices.emitted(tables[0], tables[-1], places)
        return tokens.tolist(), margins.tolist()


def read_again(network: Packed, conversations: Sequence[OpenConversation], limits: Limits) -> Parallel:
    """A network that has read all tokens of some conversations."""
    found = Parallel(network, len(conversations), limits.context)
    for place, conversation in enumerate(conversations):
        if conversation.tokens:
            found.feed([place], [conversation.tokens])
    return found
