"""Which drafted tokens are the target's own, decided without a model: by chance, or as rounds were recorded.

Every position of a conversation has its own uniform, so every policy, link and chip sees the same luck: a drafted token
is accepted if the uniform is below the chance there. Chances by position in the draft repeat their last; a two-state
chain walks along the conversation's positions, starting from its stationary distribution.

Recorded rounds say of positions of an answer whether the draft was right there: a round that accepts a of k drafts was
right at a positions and wrong at the next; after a round that accepts all k, the target's own token was not drafted.
Such an untested position is drawn, by the share of all tested ones that were right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, Protocol

from hilsim.describe.acceptance import Chances, MarkovAcceptance, Typed
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.cross_checks import replay_faults
from hilsim.describe.scenario import Lengths, MeasuredAcceptance, Synthetic, Use
from hilsim.describe.setup import Setup
from hilsim.errors import ScenarioError
from hilsim.sampling.noise import SYNTHETIC, uniforms

UNTESTED = None
MOST_DRAWN = 2**16  # positions whose uniform is remembered: about 10 MB


class Spot(NamedTuple):
    """Where a token is drafted: the request, the positions in conversation and answer, the place in its draft."""

    request: int
    position: int
    answer: int
    place: int


class Luck(Protocol):
    """Decides about drafted tokens."""

    def stands(self, spot: Spot) -> bool:
        """Whether the draft is the target's own token."""
        ...

    def chance(self, spot: Spot) -> float:
        """How likely that is, as far as the draft can know."""
        ...

    @property
    def places(self) -> int:
        """Places of a draft beyond which the place makes no difference; 1 where it never does."""
        ...


class ByChance:
    """Drafts are right by chance."""

    def __init__(self, chances: Chances, seed: int):
        self.chances, self.seed = chances, seed
        self._drawn: tuple[tuple[int, int], float] = (-1, -1), 0.0  # of the position last asked for
        self.right_up_to, self.wrong_from = -1.0, 1.0  # the largest uniform that was right, the least that was not
        self._easy: dict[int, list[bool]] = {}

    def stands(self, spot: Spot) -> bool:
        at = (spot.request, spot.position)
        if at != self._drawn[0]:
            self._drawn = at, drawn(self.seed, *at)
        uniform = self._drawn[1]
        if uniform < self.chance(spot):
            if uniform > self.right_up_to:
                self.right_up_to = uniform
            return True
        if uniform < self.wrong_from:
            self.wrong_from = uniform
        return False

    def decides_alike(self, chance: float) -> bool:
        """Whether every draft that was asked for would be as right or wrong with another chance, of all places."""
        return self.right_up_to < chance <= self.wrong_from

    def chance(self, spot: Spot) -> float:
        chance = self.chances
        if isinstance(chance, tuple):
            return chance[min(spot.place, len(chance) - 1)]
        if isinstance(chance, MarkovAcceptance):
            return chance.easy if self._is_easy(spot, chance) else chance.hard
        return chance

    @property
    def places(self) -> int:
        return len(self.chances) if isinstance(self.chances, tuple) else 1

    def _is_easy(self, spot: Spot, chain: MarkovAcceptance) -> bool:
        states = self._easy.setdefault(spot.request, [])
        while len(states) <= spot.position:
            uniform = uniforms(self.seed, SYNTHETIC, spot.request, len(states)).spare
            stay = chain.share_easy if not states else chain.stay_easy if states[-1] else 1 - chain.stay_hard
            states.append(uniform < stay)
        return states[spot.position]


@lru_cache(MOST_DRAWN)
def drawn(seed: int, request: int, position: int) -> float:
    """The uniform that decides about a position; replays with other chances ask for the same ones."""
    return uniforms(seed, SYNTHETIC, request, position).accept


class AsRecorded:
    """Drafts are right where they were in recorded rounds: those of the request, or, in `blocks`, of all requests.

    In blocks the rounds of all requests are joined in a circle, and a request begins at a round that is drawn for it:
    so every round is as likely, and its neighbours follow it (a circular block bootstrap).
    """

    places = 1

    def __init__(self, lists: AcceptedLists, seed: int, *, blocks: bool):
        self.untested, self.seed, self.blocks = ByChance(lists.chance, seed), seed, blocks
        self.marks: list[list[bool | None]] = []
        for request, accepted in enumerate(lists.accepted):
            rounds = zip(accepted, lists.drafts_of(request), strict=True)
            self.marks.append([mark for one in rounds for mark in marks_of(*one)])
        self.joined = [mark for marks in self.marks for mark in marks]
        self.starts = [0, *accumulate(accepted + 1 for accepted, _ in lists.pairs())][:-1]

    def stands(self, spot: Spot) -> bool:
        mark = self.mark(spot.request, spot.answer - 1)
        return self.untested.stands(spot) if mark is UNTESTED else mark

    def chance(self, spot: Spot) -> float:
        return self.untested.chance(spot)

    def mark(self, request: int, number: int) -> bool | None:
        """What is known of a position, counted from the answer's second token; nothing beyond the recorded ones."""
        if self.blocks:
            # The first position of a conversation is never drafted: its noise is free.
            drawn = uniforms(self.seed, SYNTHETIC, request, 0).spare
            return self.joined[(self.starts[int(drawn * len(self.starts))] + number) % len(self.joined)]
        marks = self.marks[request]
        return marks[number] if 0 <= number < len(marks) else UNTESTED


def marks_of(accepted: int, drafted: int) -> list[bool | None]:
    """What a round shows of the positions that it makes final."""
    return [True] * accepted + [UNTESTED if accepted == drafted else False]


def luck_of(setup: Setup, texts: Mapping[int, Sequence[int]] | None = None) -> Luck:
    """What decides about a scenario's drafts; `texts` are its answers in tokens, where they are more than lengths.

    Raises `ScenarioError` where rounds are to be replayed that are not those of the answers.
    """
    logits, acceptance = setup.scenario.logits, setup.acceptance
    assert acceptance is not None, "a model decides about these drafts"
    assert isinstance(logits, Synthetic | MeasuredAcceptance)
    if isinstance(acceptance, AcceptedLists) and logits.use == "replay":
        workload = setup.scenario.workload
        if texts is not None:
            answers = [len(texts[request]) for request in sorted(texts)]
        else:
            assert isinstance(workload, Lengths)
            answers = [workload.answer_tokens(setup.scenario.context_tokens)] * workload.requests
        if faults := list(replay_faults(acceptance, answers, setup.file)):
            raise ScenarioError(faults)
    return luck_by(acceptance, setup.scenario.seed, logits.use)


def luck_by(acceptance: float | Typed, seed: int, use: Use = "replay") -> Luck:
    """What decides about drafts that are accepted as of `acceptance`."""
    if isinstance(acceptance, AcceptedLists) and use != "profile":
        return AsRecorded(acceptance, seed, blocks=use == "blocks")
    return ByChance(acceptance if isinstance(acceptance, float) else acceptance.chances, seed)
