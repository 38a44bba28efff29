"""The answers of a workload as arrays, for fast timing: where drafts are accepted, where they end, their confidence.

A position of an answer is a row. As the target's answers are known, two numbers describe a draft: how many of its
tokens are the target's own, and how many it has. After its first wrong token only where it ends matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.describe.policy import PromptLookup, Suffix
from hilsim.describe.scenario import Conversations, Lengths
from hilsim.describe.setup import Setup
from hilsim.errors import TooShallow
from hilsim.screen.compiled import compiled
from hilsim.sim.clauses import clause_tokens
from hilsim.sim.lead import View
from hilsim.sim.lookup import Followers, LastPlaces, TextIndex
from hilsim.sim.run import of_workload, turns_of
from hilsim.sources.columns import UNKNOWN
from hilsim.sources.luck import Luck, Spot, luck_of
from hilsim.sources.transcript import TranscriptSource, agreement

NEVER = 2**30  # tokens until a draft that goes on to its limit ends by itself

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Answers(NamedTuple):
    """The answers of one workload. Of requests in the order in which they are asked:

    `first` of a conversation; `carried` tokens of it cached from before, `prompt` tokens new, `asked` both; `length` of
    the answer in tokens, `most` that it could have had, `clause` tokens up to the end of the first clause; `row` of its
    first position. Of rows: `right[row, place]` where the draft's next token is the target's own (places of a block
    where chance depends on them, else one); `end` where the target's token ends the turn; `ends_after`, where the draft
    is wrong, how many tokens it then has until it ends the turn; `confidence` and `entropy` (rows, depth) of the tokens
    from a row on; `looked_up` and `looked_right`, tokens that prompt lookup proposes and those accepted.
    """

    first: Flags
    carried: Ints
    prompt: Ints
    asked: Ints
    length: Ints
    most: Ints
    clause: Ints
    row: Ints
    right: Flags
    end: Flags
    ends_after: Ints
    depth: int
    confidence: Floats
    entropy: Floats
    looked_up: Ints
    looked_right: Ints

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def longest(self) -> int:
        """Tokens that no conversation grows beyond, drafts behind the end of its answer among them."""
        return int((self.asked + self.most).max(initial=1)) + 1


def recorded_answers(setup: Setup, source: TranscriptSource) -> Answers:
    """The answers of a scenario's requests from its transcript, without the proposals of prompt lookup."""
    assert isinstance(setup.scenario.workload, Conversations)
    transcript, workload = source.transcript, setup.scenario.workload
    requests: list[tuple[int, ...]] = []
    rows: list[int] = []
    ends: list[bool] = []
    targets: list[int] = []
    for turns in turns_of(setup):
        for turn in turns:
            if turn.index not in source.requests:
                break  # no room was left for it, nor for those after it
            known = source.requests[turn.index]
            prompt = len(source.question(turn.conversation, turn.number))
            answer = list(known.tokens[known.asked : known.answered])
            clause = clause_tokens(source, answer)
            most = min(workload.max_new_tokens, setup.scenario.context_tokens - known.asked)
            carried = known.asked - prompt
            requests.append((turn.number == 0, carried, prompt, known.asked, len(answer), most, clause, len(rows)))
            rows += range(known.row, known.row + len(answer))
            targets += answer
            ends += [source.ends(token) for token in answer]
    columns = np.ascontiguousarray(np.array(requests, dtype=np.int64).reshape(-1, 8).T)
    drafted = transcript.drafted[rows]
    ended = np.isin(drafted, list(source.end_tokens))
    ends_after = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, NEVER)
    nothing = np.zeros(0, np.int64)
    return Answers(
        columns[0].astype(bool), columns[1], columns[2], columns[3], columns[4], columns[5], columns[6], columns[7],
        right=drafted[:, :1] == np.array(targets, dtype=np.int32)[:, None],
        end=np.array(ends, dtype=bool),
        ends_after=ends_after.astype(np.int64),
        depth=transcript.depth,
        confidence=np.ascontiguousarray(transcript.confidence[rows]),
        entropy=np.ascontiguousarray(transcript.entropy[rows]),
        looked_up=nothing,
        looked_right=nothing,
    )  # fmt: skip


def with_lookup(setup: Setup, source: TranscriptSource, answers: Answers, policy: PromptLookup | Suffix) -> Answers:
    """The answers with what the policy looks up at every row."""
    proposed, standing = [], []
    index: TextIndex[Any]
    if isinstance(policy, Suffix):
        index = Followers(policy.longest_match, policy.factor, policy.least_share)
    for turns in turns_of(setup):
        for turn in turns:
            if turn.index not in source.requests:
                break
            known = source.requests[turn.index]
            begins = known.asked - len(source.question(turn.conversation, turn.number))
            if isinstance(policy, PromptLookup):
                index = LastPlaces(policy.longest_match)
            for position in range(known.asked, known.answered):
                view = View(turn.index, turn.conversation, known.tokens[:position])
                tokens = index.proposed(view, begins, policy.draft_tokens)
                following = known.tokens[position:]
                proposed.append(len(tokens))
                standing.append(agreement(tokens, following))
                if len(tokens) >= len(following) == standing[-1]:
                    raise TooShallow(source.transcript.depth, standing[-1] + 1)
            index.follow(View(turn.index, turn.conversation, known.tokens[: known.answered]), begins)
    return answers._replace(looked_up=np.array(proposed, np.int64), looked_right=np.array(standing, np.int64))


def with_lookup_by_luck(answers: Answers, draft_tokens: int) -> Answers:
    """The answers with the proposals of a lookup whose acceptance is drawn: as many as a draft of such length."""
    found = np.zeros((2, len(answers.end)), np.int64)
    for row, length, most in zip(answers.row.tolist(), answers.length.tolist(), answers.most.tolist(), strict=True):
        for place in range(length):
            found[:, row + place] = proposed(answers, row + place, min(draft_tokens, most - place - 1))
    return answers._replace(looked_up=found[0], looked_right=found[1])


def supposed_answers(setup: Setup, source: TranscriptSource) -> Answers:
    """The target's own answers, drafts accepted by luck: what `sources.supposed` gives, position by position."""
    texts = of_workload(setup, source.answers)
    known = recorded_answers(setup, source)
    luck = luck_of(setup, texts)
    nothing = np.zeros((len(known.end), 0), np.float64)
    return known._replace(
        right=drawn(luck, list(zip(texts, known.asked.tolist(), known.length.tolist(), strict=True))),
        ends_after=np.full(len(known.end), NEVER, np.int64), depth=NEVER, confidence=nothing, entropy=nothing,
    )  # fmt: skip


def synthetic_answers(setup: Setup) -> Answers:
    """Answers of the scenario's given lengths, drafts accepted by luck."""
    scenario = setup.scenario
    assert isinstance(scenario.workload, Lengths)
    lengths = scenario.workload
    count, asked, most = lengths.requests, lengths.prompt_tokens, lengths.answer_tokens(scenario.context_tokens)
    right = drawn(luck_of(setup), [(request, asked, most) for request in range(count)])
    same = np.ones(count, dtype=np.int64)
    nothing = np.zeros((count * most, 0), np.float64)
    empty = np.zeros(0, np.int64)
    return Answers(
        same.astype(bool), 0 * same, asked * same, asked * same, most * same, most * same,
        min(lengths.clause_tokens, most) * same, np.arange(count, dtype=np.int64) * most, right,
        np.zeros(count * most, bool), np.full(count * most, NEVER, np.int64), NEVER, nothing, nothing, empty, empty,
    )  # fmt: skip


def drawn(luck: Luck, requests: Sequence[tuple[int, int, int]]) -> Flags:
    """Where drafts are right: a row for every position of requests' answers, each (number, asked, length)."""
    rows = [
        [luck.stands(Spot(request, asked + answer, answer, place)) for place in range(luck.places)]
        for request, asked, length in requests
        for answer in range(length)
    ]
    return np.array(rows, dtype=bool).reshape(-1, luck.places)


@compiled
def proposed(answers: Answers, row: int, count: int) -> tuple[int, int]:
    """A draft of at most `count` tokens from a row on: tokens drafted, tokens accepted. -1: not recorded."""
    good, places = 0, answers.right.shape[1]
    while good < count:
        if not answers.right[row + good, min(good, places - 1)]:
            drafted = min(count, good + answers.ends_after[row + good])
            return (-1 if drafted - good > answers.depth else drafted), good
        good += 1
        if answers.end[row + good - 1]:
            break
    return good, good


assert UNKNOWN < 0  # an unrecorded place of a continuation is never a token of the target's
