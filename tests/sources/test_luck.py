"""Luck without a model: recorded rounds come back exactly, chances statistically, and all policies see the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import correlation

import numpy as np
import pytest

from hilsim.describe.acceptance import Conditional, Marginal, MarkovAcceptance, marginal_of, tokens_of
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.measure.accepted import accepted_lists
from hilsim.runs.run import Sources, run_both
from hilsim.sim.trace import Trace
from hilsim.sources.luck import AsRecorded, ByChance, Luck, Spot, luck_by
from tests.scenes import table_setup

LISTS = AcceptedLists(accepted=((3, 0, 5, 1), (5, 5, 2), (0, 0, 0, 0, 0, 1)), drafted=5)
SAMPLES = 20_000


def rounds_by(luck: Luck, drafted: int, requests: int, tokens: int) -> list[list[int]]:
    """Accepted tokens of the rounds that answers of so many tokens make, drafted and verified one after another."""
    found = []
    for request in range(requests):
        at, rounds = 1, []
        while at < tokens:
            spots = [Spot(request, 100 + at + place, at + place, place) for place in range(drafted)]
            accepted = next((place for place, spot in enumerate(spots) if not luck.stands(spot)), drafted)
            rounds.append(accepted)
            at += accepted + 1
        found.append(rounds)
    return found


def answers_of(lists: AcceptedLists) -> str:
    """`--set` for a workload of one request whose answer the rounds of the first request make."""
    return f"workload={{requests: 1, prompt_tokens: 5, output_tokens: {lists.tokens_of(0) + 1}}}"


def lists_file(folder: Path, lists: AcceptedLists, requests: int | None = None) -> Path:
    """The lists as JSON lines."""
    file = folder / "rounds.jsonl"
    some = lists.accepted[:requests]
    file.write_text("".join(f'{{"accepted": {list(rounds)}, "drafted": {lists.drafted}}}\n' for rounds in some))
    return file


def run(setup: Setup) -> Trace:
    found = run_both(setup, Sources(setup)).speculative
    assert found is not None
    return found


def test_a_replayed_list_is_the_list(tmp_path: Path) -> None:
    file = lists_file(tmp_path, LISTS, 1)
    setup = table_setup(
        tmp_path, f"logits={{source: acceptance, file: {file}}}", answers_of(LISTS), "policy.draft_tokens=5"
    )
    assert accepted_lists(run(setup)).accepted == LISTS.accepted[:1]


def test_luck_replays_every_request_s_rounds() -> None:
    luck = luck_by(LISTS, seed=3)
    for request, rounds in enumerate(LISTS.accepted):
        tokens = LISTS.tokens_of(request) + 1
        assert rounds_by(luck, 5, 3, tokens)[request][: len(rounds)] == list(rounds)
    # The control: another number of drafts makes other rounds of the same luck.
    assert rounds_by(luck, 2, 1, LISTS.tokens_of(0) + 1)[0] != list(LISTS.accepted[0])


def test_all_policies_see_the_same_luck(tmp_path: Path) -> None:
    """Where drafts are right is a matter of positions: rounds of 1 and of 5 drafts agree on every tested position."""

    def marks(drafted: int, policy: str) -> dict[tuple[int, int], bool]:
        setup = table_setup(
            tmp_path, "logits={source: acceptance, file: lamda-2b-lamda-137b/dialog-t0}", "workload.requests=16",
            f"policy={{name: {policy}, draft_tokens: {drafted}}}",
        )  # fmt: skip
        found = {}
        for one in run(setup).rounds:
            for place in range(min(one.accepted + 1, one.drafted)):
                found[one.request, one.position + place] = place < one.accepted
        return found

    single, several, pearl = marks(1, "sync"), marks(5, "sync"), marks(3, "pearl")
    for other in (several, pearl):
        both = single.keys() & other.keys()
        assert len(both) > 50
        assert all(single[spot] == other[spot] for spot in both)


CHANCES = {
    "conditional": Conditional(conditional=(0.816, 0.777, 0.75)),
    "marginal": Marginal(marginal=(0.8, 0.4, 0.1)),
    "constant": 0.7,
}


@pytest.mark.parametrize("name", CHANCES)
def test_drawn_rounds_reproduce_the_profile(name: str) -> None:
    """The share of 20,000 rounds that reach beyond each place, within four standard deviations of a binomial."""
    acceptance = CHANCES[name]
    luck = luck_by(acceptance, seed=11)
    chances = acceptance if isinstance(acceptance, float) else acceptance.chances
    chances = (chances,) * 3 if isinstance(chances, float) else chances
    # One round a request, so that rounds are independent.
    rounds = np.array([some[0] for some in rounds_by(luck, 3, SAMPLES, 2)])
    for place, share in enumerate(marginal_of(chances)):
        spread = 4 * np.sqrt(share * (1 - share) / SAMPLES)
        assert np.mean(rounds > place) == pytest.approx(share, abs=spread)
    # The control: shares read as chances are found.
    if name == "marginal":
        mixed_up = luck_by(Conditional(conditional=(0.8, 0.4, 0.1)), seed=11)
        wrong = np.array([some[0] for some in rounds_by(mixed_up, 3, SAMPLES, 2)])
        assert abs(np.mean(wrong > 1) - 0.4) > 4 * np.sqrt(0.4 * 0.6 / SAMPLES)


def test_conversions_between_the_conventions_are_exact() -> None:
    """In halves and quarters to the last bit, both ways."""
    assert marginal_of((0.5, 0.25, 1.0)) == (0.5, 0.125, 0.125)
    assert Marginal(marginal=(0.5, 0.125, 0.125)).chances == (0.5, 0.25, 1.0)
    assert tokens_of((0.5, 0.25, 1.0), 3) == 1.75


def streaky() -> AcceptedLists:
    """Rounds of 120 requests over easy and hard stretches of text."""
    chain = MarkovAcceptance(easy=0.95, hard=0.3, stay_easy=0.98, stay_hard=0.98)
    return AcceptedLists(accepted=tuple(map(tuple, rounds_by(ByChance(chain, 5), 4, 120, 120))), drafted=4)


def neighbours(rounds: list[list[int]]) -> float:
    pairs = [pair for some in rounds for pair in pairwise(some)]
    return correlation([first for first, _ in pairs], [second for _, second in pairs])


def test_blocks_keep_streaks_and_a_profile_by_place_does_not() -> None:
    """Some 6,000 rounds: a correlation of 0 scatters by 0.013."""
    lists = streaky()
    kept, drawn = (rounds_by(luck_by(lists, 9, use), 4, 150, 120) for use in ("blocks", "profile"))
    assert sum(map(len, kept)) > 5000
    own = lists.streak()
    assert own is not None
    assert own > 0.3
    assert neighbours(kept) == pytest.approx(own, abs=0.1)
    assert abs(neighbours(drawn)) < 4 * 0.013
    # Blocks begin at any round alike: their mean is that of the lists, which have a few hundred independent stretches.
    mean = np.mean([accepted for some in lists.accepted for accepted in some])
    assert np.mean([accepted for some in kept for accepted in some]) == pytest.approx(mean, abs=0.3)


def test_an_untested_position_is_drawn_by_the_share_of_tested_ones() -> None:
    """After a whole round the target's own token was not drafted; at another length of drafts it is."""
    lists = AcceptedLists(accepted=((2,) * 3000, (0, 1) * 1500), drafted=2)
    assert lists.chance == pytest.approx((6000 + 1500) / (6000 + 1500 + 3000))
    luck = AsRecorded(lists, 7, blocks=False)
    untested = [luck.stands(Spot(0, 50 + 3 * n, 3 + 3 * n, 0)) for n in range(2999)]
    assert np.mean(untested) == pytest.approx(lists.chance, abs=4 * np.sqrt(0.25 / 2999))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("workload={requests: 2, prompt_tokens: 5, output_tokens: 14}",), "the rounds of 1 requests; expected 2"),
        (("workload={requests: 1, prompt_tokens: 5, output_tokens: 6}",), "more than the 5 that the answer has"),
        (("workload={requests: 1, prompt_tokens: 5, output_tokens: 60}",), "for an answer of 59 after its first"),
    ],
)
def test_lists_that_are_not_those_of_the_run_are_refused(sets: tuple[str, ...], words: str, tmp_path: Path) -> None:
    source = f"logits={{source: acceptance, file: {lists_file(tmp_path, LISTS, 1)}}}"
    with pytest.raises(InputError) as caught:
        table_setup(tmp_path, source, *sets)
    assert words in str(caught.value)
    assert "logits.use=blocks" in str(caught.value)
    blocks = table_setup(tmp_path, source, *sets, "logits.use=blocks", "policy.draft_tokens=5")
    assert run(blocks).requests


def test_the_last_round_may_go_beyond_its_answer(tmp_path: Path) -> None:
    """13 tokens of rounds for an answer of 12 after its first: the last round's second token is cut."""
    source = f"logits={{source: acceptance, file: {lists_file(tmp_path, LISTS, 1)}}}"
    setup = table_setup(tmp_path, source, "workload={requests: 1, prompt_tokens: 5, output_tokens: 13}")
    assert run(setup).requests[0].output_tokens == 13


def test_use_is_of_rounds_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="acceptance that has no rounds of requests"):
        table_setup(tmp_path, "logits={source: acceptance, file: dflash-minimax-m2.7/mt-bench, use: blocks}")
