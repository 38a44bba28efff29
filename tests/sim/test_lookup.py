"""Drafting by lookup: the index against a search through the whole text, and the cascade's two kinds of round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.errors import InputError
from hilsim.sampling.choices import Rules
from hilsim.sim.lead import View
from hilsim.sim.lookup import Followers, LastPlaces
from hilsim.sim.run import simulate
from tests.sampling.test_exact import PENALISED, policy_of
from tests.scenes import MS, table_setup
from tests.toy import Quick, ToySource

texts = st.lists(st.integers(0, 3), max_size=30)


def last_time(tokens: Sequence[int], most: int, longest: int) -> tuple[int, ...]:
    """What followed the last occurrence of the longest match, by a search from the end."""
    for size in range(min(longest, len(tokens) - 1), 0, -1):
        for start in range(len(tokens) - size - 1, -1, -1):
            if most > 0 and tokens[start : start + size] == tokens[-size:]:
                return tuple(tokens[start + size : start + size + most])
    return ()


@given(texts, st.integers(0, 6), st.integers(1, 4), st.integers(0, 30))
def test_lookup_finds_what_a_search_finds(tokens: list[int], most: int, longest: int, before: int) -> None:
    index = LastPlaces(longest)
    index.follow(View(0, 0, tokens[:before]), 0)  # an index that goes on with a text knows the same as a fresh one
    assert index.proposed(View(0, 0, tokens), 0, most) == last_time(tokens, most, longest)


def test_lookup_proposes_what_followed_last_time() -> None:
    assert LastPlaces(3).proposed(View(0, 0, [1, 2, 3, 4, 9, 2, 3]), 0, 2) == (4, 9)
    latest = (8, 5, 1)  # and not what followed the first occurrence
    assert LastPlaces(3).proposed(View(0, 0, [5, 1, 7, 5, 1, 8, 5, 1]), 0, 5) == latest


def most_often(
    past: Sequence[Sequence[int]], text: list[int], most: int, longest: int, factor: float, least: float
) -> tuple[int, ...]:
    """Suffix decoding by a search through all texts, oldest first, for every token."""
    found, share, room = list[int](), 1.0, most
    while len(found) < room:
        so_far = text + found
        for size in range(min(longest, len(so_far)), 0, -1):
            run = so_far[-size:]
            after = [one[i + size] for one in past for i in range(len(one) - size) if list(one[i : i + size]) == run]
            if after:
                break
        else:
            break
        if not found:
            room = min(most, int(factor * size))
        newest_first = dict.fromkeys(reversed(after))
        token = max(newest_first, key=after.count)
        share *= after.count(token) / len(after)
        if share < least or not room:
            break
        found.append(token)
    return tuple(found)


@settings(max_examples=150)
@given(
    st.lists(texts.filter(len), min_size=1, max_size=4), st.integers(0, 6), st.integers(1, 4),
    st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.0, 0.1, 0.5]),
)  # fmt: skip
def test_suffix_decoding_finds_what_a_search_finds(
    past: list[list[int]], most: int, longest: int, factor: float, least: float
) -> None:
    index = Followers(longest, factor, least)
    for number, text in enumerate(past):
        index.follow(View(number, number, text[: len(text) // 2]), 0)
        index.follow(View(number, number, text), 0)
    wanted = most_often(past, past[-1], most, longest, factor, least)
    assert index.proposed(View(len(past) - 1, len(past) - 1, past[-1]), 0, most) == wanted


def test_a_new_turn_that_changes_the_end_of_the_last_is_read_from_there() -> None:
    """Turn 1 ended in 7 8; turn 2 replaces the 8 by 9. Each token is taken up once."""
    index = Followers(1, 1.0, 0.0)
    index.follow(View(0, 5, [1, 7, 8]), 0)
    index.follow(View(1, 5, [1, 7, 9, 2]), 2)
    assert index.after == {(1,): {7: 1}, (7,): {8: 1, 9: 1}, (9,): {2: 1}}


def test_later_conversations_are_drafted_from_earlier_ones(tmp_path: Path) -> None:
    """Greedy texts of a table with one start are all the same: from the second answer on whole rounds stand."""
    setup = table_setup(tmp_path, "workload.requests=3", "workload.output_tokens=16")
    decisions = Quick(rules_of("greedy"))
    decisions.rows.target = decisions.rows.target[[2, 3, 1, 0]]  # a text of period 4
    policy = policy_of("{name: suffix, draft_tokens: 4, factor: 4}")
    trace = simulate(setup, ToySource(decisions), policy)
    rounds = [[r for r in trace.rounds if r.request == number] for number in range(3)]
    assert len(rounds[1]) < len(rounds[0])
    assert all(r.accepted == r.drafted == 4 for r in rounds[2][2:-2])


def rules_of(accept: str) -> Rules:
    return next(rules for rules in PENALISED if rules.accept.rule == accept)


def test_a_cascade_drafts_where_it_finds_nothing(tmp_path: Path) -> None:
    """A lookup round is a verify of 60 ms; a drafted one 4 x 5 + 3 + 60 + 3, and 3 for what the draft lacks."""
    wide = 'draft.timer={prefill: {"64": 20}, decode: 5, verify: {"8": 5}, source: round numbers}'
    setup = table_setup(tmp_path, "workload.output_tokens=40", wide)
    policy = policy_of("{name: cascade, draft_tokens: 4, lookup_tokens: 3, least: 3}")
    trace = simulate(setup, ToySource(Quick(rules_of("sample_match"))), policy)
    kinds = {}
    for closed in trace.rounds[1:]:
        spans = [span for span in trace.spans if (span.request, span.round) == (0, closed.number)]
        kinds[closed.number] = [span.kind for span in spans]
        drafts = kinds[closed.number].count("draft")
        if closed.drafted and not drafts:
            assert kinds[closed.number] == ["verify"]
            assert closed.end_ns - closed.start_ns == 60 * MS
        elif drafts:
            informed = 3 * ("prompt" in kinds[closed.number])
            assert closed.end_ns - closed.start_ns == (informed + 5 * drafts + 3 + 60 + 3) * MS
    looked_up = [number for number, kind in kinds.items() if kind == ["verify"]]
    drafted = [number for number, kind in kinds.items() if "draft" in kind]
    assert any(number - 1 in looked_up for number in drafted)
    assert any(number - 1 in drafted for number in looked_up)
    for number in drafted:
        assert ("prompt" in kinds[number]) == (number - 1 in looked_up)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("{name: cascade, draft_tokens: 4, least: 9}", "least 9 above lookup_tokens"),
        ("{name: cascade, draft_tokens: 4}", "policy cascade with synthetic logits, which have no text"),
        ("{name: suffix, draft_tokens: 4}", "policy suffix with synthetic logits, which have no text"),
        ("{name: suffix, draft_tokens: 4, least_share: 2}", "least_share"),
    ],
)
def test_what_cannot_be_looked_up_is_refused(tmp_path: Path, policy: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        table_setup(tmp_path, f"policy={policy}")
