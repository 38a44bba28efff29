"""The edges: empty laws, ends of turn anywhere, limits inside a block, vocabularies of two lengths, caches.

Whole runs use a scripted source: what the target says and what the draft guesses, token by token, so that the right
answer is the script's own, cut at the first end or limit, whatever the policy and the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from hilsim.describe.decoding import (
    BlockVerification,
    FullRows,
    Greedy,
    GumbelMatch,
    OneHot,
    Payload,
    RatioTest,
    SampleMatch,
    Sampling,
    Scalar,
    TokenIds,
    TopKRows,
)
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.sampling.block import block, chances
from hilsim.sampling.choices import Rules
from hilsim.sampling.distribution import Probabilities
from hilsim.sampling.loss import emitted_distribution
from hilsim.sampling.noise import Uniforms
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.live import LiveSource, Passes, Reader, load_stand_ins
from hilsim.text.prompt import Prompt, shared_prefix
from tests.one_row import as_sent, distribution_of, draft_distribution, plain, ratio, target_distribution
from tests.sampling.test_exact import policy_of
from tests.scenes import shipped
from tests.sim.test_policies import CHAINS, LOOKUPS, timed
from tests.toy import DRAFT, START, TARGET, Quick, Table, Text, alone, counted, enumerated, p_value, told

# Laws.


def law(*shares: float) -> Probabilities:
    return np.array(shares)


def middling(accept: float = 0.5) -> Uniforms[float]:
    return Uniforms(0.5, accept, 0.5, 0.5)


def test_a_drafted_token_that_its_distribution_does_not_have_is_accepted_where_the_target_has_it() -> None:
    """q(x) = 0 for a drawn x: what was sent rounded it away."""
    drawn, known = law(0.0, 1.0), law(1.0, 0.0)
    assert ratio(law(0.9, 0.1), drawn, middling(), known)[1].accepted
    assert not ratio(law(1.0, 0.0), drawn, middling(), known)[1].accepted


def test_a_share_too_small_for_float16_is_never_drafted_and_still_emitted() -> None:
    p, q = law(0.6, 0.4 - 1e-9, 1e-9), law(0.5, 0.5 - 1e-9, 1e-9)
    drawn, known = draft_distribution(q, FullRows())
    assert drawn[2] == 0
    np.testing.assert_allclose(emitted_distribution(RatioTest(), p, drawn, known), p, rtol=1e-9)


def test_a_distribution_too_flat_for_float16_is_sent_as_it_is() -> None:
    flat = np.full(4, 1e-9)
    np.testing.assert_array_equal(as_sent(flat), flat)


@pytest.mark.parametrize("accept", [0.0, 0.5, 1 - 2**-53])
def test_equal_distributions_keep_every_draft_of_a_block(accept: float) -> None:
    p = law(0.2, 0.0, 0.8)
    assert chances([p, p, p], [p, p], (2, 0)) == ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert block([p, p, p], [p, p], (2, 0), [middling(accept)] * 3)[0] == 2


def test_an_empty_residual_falls_back_to_the_target() -> None:
    """p nowhere above what is tested against, so nothing is left to correct with."""
    p = law(0.25, 0.75)
    _, emission = ratio(p, p, middling(0.99), 2 * p)
    assert not emission.accepted
    assert emission.token == plain(p, middling()).token


@pytest.mark.parametrize(
    ("p", "q"), [(law(0, 1.0), law(1.0, 0)), (law(0, 1.0), law(0.9, 0.1)), (law(0.3, 0.7), law(1.0, 0))]
)
def test_distributions_with_one_token_are_emitted_exactly(p: Probabilities, q: Probabilities) -> None:
    np.testing.assert_allclose(emitted_distribution(RatioTest(), p, q, q), p, atol=1e-15)
    never = [token for token in (0, 1) if p[token] == 0]
    for accept in (0.0, 0.5, 0.999):
        assert ratio(p, q, middling(accept))[1].token not in never
        drafted = int(q.argmax())
        kept, token, _ = block([p, p], [q], (drafted,), [middling(accept)] * 2)
        assert not {*(drafted,)[:kept], token} & {*never}


def test_a_block_with_a_draft_that_neither_distribution_has_keeps_nothing_from_there() -> None:
    p, q = law(0.0, 1.0), law(0.0, 1.0)
    weights, kept = chances([p, p, p], [q, q], (1, 0))
    assert weights == [1.0, 1.0, 0.0]
    assert kept[2] == 0.0


# Sampling.


def test_temperature_zero_is_the_limit_of_small_temperatures() -> None:
    cold, warm = (
        Quick(Rules(Greedy(), TokenIds(), Sampling())),
        Rules(RatioTest(), FullRows(), Sampling(temperature=1e-5)),
    )
    for request in range(20):
        assert told(Quick(warm), request) == alone(cold, request)


def test_at_temperature_zero_the_first_of_equals_is_taken_and_just_above_both_are() -> None:
    tied = np.array([1.0, 3.0, 3.0], dtype=np.float32)
    np.testing.assert_array_equal(distribution_of(tied, Sampling()), [0, 1, 0])
    np.testing.assert_allclose(distribution_of(tied, Sampling(temperature=1e-5)), [0, 0.5, 0.5])


def test_top_k_beyond_the_vocabulary_cuts_nothing() -> None:
    row = TARGET[0].astype(np.float32)
    np.testing.assert_array_equal(
        distribution_of(row, Sampling(temperature=1.0, top_k=9)), distribution_of(row, Sampling(temperature=1.0))
    )
    p, q = np.exp(TARGET[0]), np.exp(DRAFT[0])
    np.testing.assert_allclose(emitted_distribution(RatioTest(), p, *draft_distribution(q, TopKRows(k=9))), p)


@pytest.mark.parametrize("verify_at", ["target", "draft"])
@pytest.mark.parametrize("payload", [FullRows(), TopKRows(k=2), Scalar(down="support")], ids=str)
def test_ties_with_the_last_of_top_k_stay_whoever_verifies(payload: Payload, verify_at: str) -> None:
    tied = distribution_of(np.log(np.array([0.4, 0.2, 0.2, 0.1], dtype=np.float32)), Sampling(temperature=1.0, top_k=2))
    assert np.count_nonzero(tied) == 3
    np.testing.assert_allclose(target_distribution(tied, payload, verify_at), tied, atol=1e-3)


# Vocabularies of two lengths: some families pad their output heads. A draft's token that the target does not have is
# read by the target's table like any other (a row more), and never told.

WARM = Sampling(temperature=1.0)
PENALISED = Sampling(temperature=0.7, top_k=3, repetition_penalty=1.3)
FOREIGN = np.log(np.hstack([np.exp(DRAFT) * 0.7, np.full((4, 2), 0.15)]))
LONG_DRAFT = Table(np.vstack([TARGET, TARGET[:2]]), np.vstack([FOREIGN, FOREIGN[:2]]))
SHORT_DRAFT = Table(TARGET, DRAFT[:, :3])
TELLING = [
    Rules(Greedy(), TokenIds(), Sampling()),
    *(Rules(RatioTest(), sent, PENALISED) for sent in (FullRows(), FullRows(format="counts8"), TopKRows(k=3))),
    *(Rules(RatioTest(), sent, PENALISED) for sent in (OneHot(), Scalar())),
    Rules(RatioTest(), FullRows(), PENALISED, "draft"),
    Rules(GumbelMatch(), TokenIds(), PENALISED),
    Rules(SampleMatch(), TokenIds(), PENALISED),
]  # fmt: skip


either = pytest.mark.parametrize("rows", [LONG_DRAFT, SHORT_DRAFT], ids=["long draft", "short draft"])


@either
def test_padding_of_either_vocabulary_changes_no_text(rows: Table) -> None:
    for rules in TELLING:
        decisions = Quick(rules, rows)
        for request in range(100):
            assert told(decisions, request) == alone(decisions, request)


@either
@pytest.mark.slow
def test_padding_of_either_vocabulary_changes_no_distribution_of_blocks(rows: Table) -> None:
    decisions = Quick(Rules(BlockVerification(), FullRows(), WARM), rows)
    assert p_value(counted(decisions), enumerated(decisions.target_after)) > 1e-4


def test_a_long_draft_does_propose_what_the_target_lacks() -> None:
    decisions = Quick(Rules(RatioTest(), FullRows(), WARM), LONG_DRAFT)
    drafted = {token for request in range(100) for token in decisions.draft(Text(request, [START]), 3).tokens}
    assert max(drafted) > 3


# Drafts of no length, and prompts of one token.


@pytest.mark.parametrize(
    "rules", [*TELLING, Rules(BlockVerification(), FullRows(), WARM)], ids=lambda rules: rules.accept.rule
)
def test_an_empty_draft_is_answered_by_the_targets_own_token(rules: Rules) -> None:
    decisions = Quick(rules)
    for request in range(50):
        text = Text(request, [START])
        assert decisions.draft(text, 0).tokens == ()
        verdict = decisions.verify(text, Draft(()))
        assert (verdict.accepted, verdict.token) == (0, decisions.next_token(text)[0])


# Whole runs.

END, RIGHT, WRONG = 0, 1, 2
LENGTH = 12


@dataclass(frozen=True)
class Script:
    """What the target says from the first token on, and what the draft guesses at the same places."""

    said: tuple[int, ...]
    guessed: tuple[int, ...]
    prompt: int = 10

    def answer(self, most: int, context: int) -> tuple[list[int], str]:
        """The answer to expect, and why it stops."""
        whole = list(self.said[: self.said.index(END) + 1]) if END in self.said else list(self.said)
        room = min(most, context - self.prompt)
        if len(whole) <= room and whole[-1] == END:
            return whole, "end"
        return whole[:room], "length" if room == most else "context"


class Scripted:
    """A source that plays scripts, by the request's number. Nobody may ask for more than the limits leave room for."""

    forward_seconds = 0.0
    by_chance = False

    def __init__(self, scripts: Sequence[Script], most: int, context: int, *, runs_on: bool = False):
        self.scripts, self.most, self.context, self.runs_on = scripts, most, context, runs_on

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), [RIGHT] * self.scripts[conversation].prompt)

    def place(self, prefix: Prefix) -> tuple[Script, int]:
        script = self.scripts[prefix.index]
        return script, len(prefix.tokens) - script.prompt

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        script, place = self.place(prefix)
        start = place + len(after)
        tokens = script.guessed[start : start + count]
        assert len(tokens) == count > 0
        if END in tokens and not self.runs_on:
            tokens = tokens[: tokens.index(END) + 1]
        return Draft(tokens, (0.5,) * len(tokens), (1.0,) * len(tokens))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        script, place = self.place(prefix)
        end = place + len(draft.tokens)
        assert end <= min(self.most, self.context - script.prompt)
        said = script.said[place:end]
        pairs = enumerate(zip(said, draft.tokens, strict=True))
        accepted = next((index for index, (ours, theirs) in pairs if ours != theirs), len(said))
        return Verdict(accepted, (*script.said, WRONG)[place + accepted], (1.0,) * (accepted + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        script, place = self.place(prefix)
        return script.said[place], 1.0

    def ends(self, token: int) -> bool:
        return token == END

    def text(self, tokens: Sequence[int]) -> str:
        return "x" * len(tokens)

    def forget(self, conversation: int) -> None:
        pass


def replaced(place: int, token: int, tokens: Sequence[int] = (RIGHT,) * LENGTH) -> tuple[int, ...]:
    return (*tokens[:place], token, *tokens[place + 1 :])


ALL = (RIGHT,) * LENGTH
ENDS = [
    Script(ALL, ALL),
    *(Script(replaced(place, END), replaced(place, END)) for place in range(LENGTH)),  # drafted, or a bonus token
    *(Script(replaced(place, END), ALL) for place in range(LENGTH)),  # a correction
    *(Script(ALL, replaced(place, END)) for place in range(1, LENGTH)),  # drafted too early
    *(Script(replaced(place, END), replaced(place - 1, WRONG, replaced(place, END))) for place in range(1, LENGTH)),
    *(Script(replaced(place, END), replaced(place - 1, END)) for place in range(1, LENGTH)),
    *(Script(replaced(place + 1, END, replaced(place, END)), replaced(place + 1, END, replaced(place, END)))
      for place in range(LENGTH - 1)),  # two in one block
    Script(ALL, (WRONG,) * LENGTH),
]  # fmt: skip
# Draft steps and link in milliseconds beside target steps of 50: an ordinary draft, one slower than the target, and a
# verdict that is ten steps late.
TIMINGS = [(0.1, 2.0), (1.7, 0.0), (0.02, 500.0)]
EVERY_POLICY = [*CHAINS, *LOOKUPS, "{name: sync, draft_tokens: 64}"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Setup]:
    """Setups by timing and limits; each is loaded once."""

    @cache
    def load(ratio: float, link_ms: float, requests: int, talkers: int, most: int, context: int) -> Setup:
        return timed(
            tmp_path_factory.mktemp("edges"), "{name: sync, draft_tokens: 4}", 1.0, ratio, link_ms,
            f"workload.requests={requests}", f"workload.talkers={talkers}", f"workload.output_tokens={most}",
            "workload.prompt_tokens=1", f"context_tokens={context}",
        )  # fmt: skip

    return load


def answers(trace: Trace) -> list[tuple[list[int], str]]:
    """Tokens and reason to stop of every request, by number."""
    found: dict[int, list[int]] = {request.number: [] for request in trace.requests}
    for closed in trace.rounds:
        found[closed.request] += closed.tokens
    finish = {request.number: request.finish for request in trace.requests}
    return [(found[number], finish[number]) for number in sorted(found)]


@pytest.mark.parametrize("runs_on", [False, True], ids=["", "drafting past ends"])
@pytest.mark.parametrize("talkers", [1, 2])
@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_answers_stop_at_the_first_end_wherever_it_falls(
    prepared: Callable[..., Setup], policy: str, talkers: int, runs_on: bool
) -> None:
    for ratio_, link_ms in TIMINGS:
        setup = prepared(ratio_, link_ms, len(ENDS), talkers, LENGTH, 2000)
        trace = simulate(setup, Scripted(ENDS, LENGTH, 2000, runs_on=runs_on), policy_of(policy))
        for script, found in zip(ENDS, answers(trace), strict=True):
            assert found == script.answer(LENGTH, 2000), script


LIMITED = [
    *(Script(ALL, ALL, prompt) for prompt in (1, 10)),
    *(Script(ALL, (WRONG,) * LENGTH, prompt) for prompt in (1, 10)),
    *(Script(ALL, replaced(place, WRONG)) for place in range(1, 7)),
    *(Script(replaced(place, END), replaced(place, END)) for place in range(7)),
]


@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_answers_stop_at_their_limit_inside_a_block_or_a_tail(prepared: Callable[..., Setup], policy: str) -> None:
    """Limits of 1 to 7 tokens, the answer's or the context's, against blocks of 4: less, as much, a few more."""
    for ratio_, link_ms in TIMINGS:
        for limit in range(1, 8):
            for most, context in ((limit, 2000), (LENGTH, 10 + limit)):
                setup = prepared(ratio_, link_ms, len(LIMITED), 2, most, context)
                trace = simulate(setup, Scripted(LIMITED, most, context), policy_of(policy))
                for script, found in zip(LIMITED, answers(trace), strict=True):
                    assert found == script.answer(most, context), (script, most, context)


# Caches of the real networks.


class Watched(LiveSource):
    """After every verdict both caches must be what a fresh prefill of the committed conversation makes."""

    rounds = 0

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        verdict = super().verify(prefix, draft)
        before = [*prefix.tokens, *draft.tokens]
        standing = before[: len(prefix.tokens) + verdict.accepted]
        target, drafter = (self._readers[role, prefix.conversation] for role in ("target", "draft"))
        assert self.sound(target, standing) == len(standing)
        # The draft has not read its own last token, unless the ratio rule asked it what would follow.
        held = self.sound(drafter, standing)
        assert held >= min(len(standing), len(before) - 1)
        self.rounds += 1
        return verdict

    def sound(self, reader: Reader, standing: list[int]) -> int:
        """How many committed tokens the cache holds, which is all that the next rewind leaves of it."""
        held = shared_prefix(reader.held, standing)
        ours_passes = reader.compute
        assert isinstance(ours_passes, Passes)
        assert ours_passes.decoder.cache.length == len(reader.held)
        fresh_passes = Passes(ours_passes.decoder.weights, self.context, self.clock)
        fresh = Reader(fresh_passes, reader.vocabulary)
        fresh.rows(standing[:held], 1)
        assert fresh_passes.decoder.cache.length == held
        for ours, theirs in zip(
            ours_passes.decoder.cache.layers(held), fresh_passes.decoder.cache.layers(held), strict=True
        ):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
        return held


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "ratio"])
def test_after_every_round_both_caches_equal_a_fresh_prefill(sampled: bool) -> None:
    warm = ("accept=ratio", "payload=full_rows", "sampling={temperature: 0.7, top_k: 40}") if sampled else ()
    few = ("workload.count=1", "workload.max_turns=3", "workload.max_new_tokens=16")
    setup = shipped("orin_8295_greedy", "logits.dtype=float64", "draft.stand_in=models/draft-0.2m", *few, *warm)
    scenario, stand_ins = setup.scenario, load_stand_ins(setup)
    rules = (scenario.sampling, scenario.context_tokens, scenario.seed)
    source = Watched(stand_ins, *rules)
    told_ = answers(simulate(setup, source))
    assert source.rounds > 8
    assert told_ == answers(simulate(setup, LiveSource(stand_ins, *rules), TargetOnly(name="target_only")))
