"""A token source behind faults: rows of logits that are wrong, and tokens that a message has changed.

A wrong row of the draft, or drafts that were changed on their way, cost acceptance alone: the target tests what it has.
A wrong row of the target changes the text, and nothing shows it, unless rows are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.noise import FAULTS, uniforms
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.sim.device_slot import RequestTag
from hilsim.sim.faults.injector import Injector
from hilsim.sim.faults.slot import FaultySlot
from hilsim.sim.faults.state import FaultState
from hilsim.sim.lead import View
from hilsim.sim.trace import Corrupted, FaultRecord
from hilsim.sources.source import LogitsSource, Relay


class Changed(NamedTuple):
    """A token that is another than it should be."""

    right: int
    wrong: int
    record: FaultRecord


class FaultySource(Relay):
    """`replays` says whether the source continues its own text only, as a transcript does.

    Then what follows a wrong token is what would have followed the right one.
    """

    def __init__(
        self,
        source: LogitsSource,
        state: FaultState,
        injector: Injector,
        target: FaultySlot,
        vocabulary: int,
        *,
        replays: bool,
    ):
        super().__init__(source)
        self.state, self.injector, self.target, self.vocabulary = state, injector, target, vocabulary
        self.replays = replays
        self.drafted: dict[tuple[int, int], Changed] = {}  # by request and position: wrong rows of the draft
        self.emitted: dict[tuple[int, int], Changed] = {}  # wrong rows of the target, if committed
        self.cuts: dict[int, FaultRecord] = {}  # by request: its next drafts were changed on their way
        self.misled: dict[int, FaultRecord] = {}  # the draft's chip has another text than the target's
        self.right: dict[int, dict[int, int]] = {}  # by conversation and position: what should have been committed
        state.on_corrupted = self.change

    def tag(self, prefix: Prefix) -> RequestTag:
        """The request and round of a call."""
        request = self.state.answering.get(prefix.index)
        return RequestTag(prefix.index, 0 if request is None else request.rounds)

    def known(self, prefix: Prefix) -> Prefix:
        """The prefix as the source behind knows it."""
        right = self.right.get(prefix.conversation)
        if not right or not self.replays:
            return prefix
        tokens = list(prefix.tokens)
        for position, token in right.items():
            if position < len(tokens):
                tokens[position] = token
        return View(prefix.index, prefix.conversation, tokens)

    def another(self, token: int) -> int:
        """A token that is neither this one nor the end of an answer."""
        other = (token + 1) % self.vocabulary
        while self.source.ends(other):
            other = (other + 1) % self.vocabulary
        return other

    def chosen(self, record: FaultRecord, count: int) -> int:
        """One of so many places, by the fault's number and instant alone."""
        return int(uniforms(self.state.seed, FAULTS, record.number + 1, record.hit_ns, 4).spare * count)

    def change(self, kind: str, cause: RequestTag, record: FaultRecord) -> None:
        """A message's tokens have changed on their way."""
        request = self.state.answering.get(cause.request)
        if request is None:
            return
        if kind == "drafts":
            self.cuts[request.index] = record
            return
        elsewhere = self.injector.setup.application != self.target.chip
        if kind == "prompt" and elsewhere:
            record.corrupted.append(Corrupted(request.index, -1, -1, -1))  # the question itself
        elif kind == "verdict" and elsewhere:
            place = len(request.answer) - (request.rounds > cause.round)
            token = request.answer[place] if place < len(request.answer) else -1
            record.corrupted.append(Corrupted(request.index, place, token, -1 if token < 0 else self.another(token)))
        if kind != "prompt" or not elsewhere:
            self.misled[request.index] = record

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        before, index = len(prefix.tokens), prefix.index
        right_after = [
            changed.right
            if (changed := self.drafted.get((index, before + place))) and changed.wrong == token
            else token
            for place, token in enumerate(after)
        ]
        proposed = self.source.draft(self.known(prefix), count, right_after)
        begins = before + len(after)
        for place in range(len(proposed.tokens)):
            self.drafted.pop((index, begins + place), None)
        record = self.misled.get(index)
        place = 0
        if record is None:
            record = self.injector.wrong_row("draft", "draft", self.tag(prefix)) if proposed.tokens else None
            if record is None:
                return proposed
            place = self.chosen(record, len(proposed.tokens))
        right = proposed.tokens[place] if proposed.tokens else -1
        if right < 0 or self.source.ends(right):
            return proposed
        wrong = self.another(right)
        self.drafted[index, begins + place] = Changed(right, wrong, record)
        return proposed._replace(tokens=(*proposed.tokens[:place], wrong, *proposed.tokens[place + 1 :]))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        before, index = len(prefix.tokens), prefix.index
        tokens, cut, by = list(draft.tokens), len(draft.tokens), None
        for place, token in enumerate(draft.tokens):
            changed = self.drafted.get((index, before + place))
            if changed is not None and changed.wrong == token:
                tokens[place] = changed.right
                if place < cut:
                    cut, by = place, changed.record
        if draft.tokens and (record := self.cuts.pop(index, None)) is not None:
            place = self.chosen(record, len(draft.tokens))
            cut, by = (place, record) if place < cut else (cut, by)
        right = Draft(tuple(tokens), draft.confidences, draft.entropies)
        verdict = self.source.verify(self.known(prefix), right)
        if by is not None and verdict.accepted > cut:
            by.dropped_tokens += verdict.accepted - cut
            verdict = shortened(verdict, cut, tokens[cut])
        return self.disturbed(prefix, verdict, right)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        token, margin = self.source.next_token(self.known(prefix))
        verdict = self.disturbed(prefix, Verdict(0, token, (margin,)), Draft(()))
        return verdict.token, margin

    def disturbed(self, prefix: Prefix, verdict: Verdict, draft: Draft) -> Verdict:
        """A verdict one of whose rows may be wrong: unless that is caught, its token is another."""
        tag = self.tag(prefix)
        places = [place for place, token in enumerate(verdict.tokens(draft)) if not self.source.ends(token)]
        if not places:
            return verdict
        record = self.injector.wrong_row("target", "verify" if tag.round else "prefill", tag)
        if record is None:
            return verdict
        if self.state.reaction.compare_rows:
            self.target.differing.append(record)
            return verdict
        place = places[self.chosen(record, len(places))]
        right = verdict.tokens(draft)[place]
        wrong = self.another(right)
        self.emitted[prefix.index, len(prefix.tokens) + place] = Changed(right, wrong, record)
        return shortened(verdict, place, wrong)

    def committed(self, index: int, conversation: int, position: int, answered: int, tokens: Sequence[int]) -> None:
        """Tokens have become part of an answer, at a position of the conversation, after so many of the answer."""
        for place, token in enumerate(tokens):
            changed = self.emitted.pop((index, position + place), None)
            if changed is not None and changed.wrong == token:
                changed.record.corrupted.append(Corrupted(index, answered + place, changed.right, token))
                self.right.setdefault(conversation, {})[position + place] = changed.right

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        record = self.misled.get(prefix.index) or self.injector.wrong_row("draft", "draft", self.tag(prefix))
        if record is not None:
            self.cuts[prefix.index] = record
        return self.grower.draft_tree(self.known(prefix), shape)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        path, verdict = self.grower.verify_tree(self.known(prefix), tree)
        record = self.cuts.pop(prefix.index, None)
        if record is not None and verdict.accepted:
            record.dropped_tokens += verdict.accepted
            verdict = shortened(verdict, 0, path.tokens[0])
        verdict = self.disturbed(prefix, verdict, path)
        return Draft(path.tokens[: verdict.accepted]), verdict

    def forget(self, conversation: int) -> None:
        self.right.pop(conversation, None)
        self.source.forget(conversation)


def shortened(verdict: Verdict, accepted: int, token: int) -> Verdict:
    """A verdict that ends with another token in place of an accepted one, or of its own."""
    return Verdict(
        accepted, token, verdict.margins[: accepted + 1], verdict.distances[: accepted + 1], verdict.likeliest
    )
