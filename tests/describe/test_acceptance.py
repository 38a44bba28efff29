"""Acceptance as users state it: every form means what it says, by enumeration of rounds, and converts exactly."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from pathlib import Path

import pytest

from hilsim.commands.main import simulate_main
from hilsim.describe.acceptance import AcceptedOverDrafted, Conditional, Marginal, TokensARound, chances_of
from hilsim.describe.scenario import Synthetic
from hilsim.errors import InputError
from hilsim.measure.metrics import speculation
from hilsim.places import CODE as PROJECT
from hilsim.show.document import document
from hilsim.sources.luck import Spot, luck_by
from tests.scenes import both, table_setup

Chance = float | Fraction


def standing(chances: list[Chance]) -> list[Chance]:
    """For 0, 1, ... tokens how likely a round accepts exactly so many: over every pattern of right and wrong drafts."""
    found: list[Chance] = [Fraction(0)] * (len(chances) + 1)
    for pattern in itertools.product((True, False), repeat=len(chances)):
        weight: Chance = Fraction(1)
        for right, chance in zip(pattern, chances, strict=True):
            weight = weight * (chance if right else 1 - chance)
        accepted = next((place for place, right in enumerate(pattern) if not right), len(pattern))
        found[accepted] = found[accepted] + weight
    return found


def mean(chances: list[Chance]) -> float:
    return float(sum(accepted * chance for accepted, chance in enumerate(standing(chances))))


def shares(chances: list[Chance]) -> list[Chance]:
    """By place, how often it and all before it stand."""
    exactly = standing(chances)
    return [sum(exactly[place + 1 :], Fraction(0)) for place in range(len(chances))]


@pytest.mark.parametrize("drafted", [1, 2, 5, 9])
@pytest.mark.parametrize("rate", [0.0, 0.031, 0.343, 0.8, 1.0])
def test_accepted_over_drafted_comes_back_by_enumeration(rate: float, drafted: int) -> None:
    chance = AcceptedOverDrafted(accepted_over_drafted=rate, drafted=drafted).chances
    assert mean([chance] * drafted) / drafted == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("drafted", [1, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.65, 1.0])
def test_tokens_a_round_come_back_by_enumeration(share: float, drafted: int) -> None:
    tokens = 1 + share * drafted
    chance = TokensARound(tokens_a_round=tokens, drafted=drafted).chances
    assert 1 + mean([chance] * drafted) == pytest.approx(tokens, abs=1e-12)


def test_one_draft_a_round_is_a_chance_itself() -> None:
    assert AcceptedOverDrafted(accepted_over_drafted=0.37, drafted=1).chances == pytest.approx(0.37, abs=1e-14)


PLACES = [(1.0,), (0.5, 0.25, 0.125), (0.875, 0.75, 0.75, 0.0, 0.0), (0.0, 0.0), (0.9, 0.63, 0.441)]


@pytest.mark.parametrize("marginal", PLACES)
def test_marginal_shares_come_back_from_their_conditional_chances(marginal: tuple[float, ...]) -> None:
    chances: list[Chance] = list(Marginal(marginal=marginal).chances)
    assert [float(share) for share in shares(chances)] == pytest.approx(list(marginal), abs=1e-15)


@pytest.mark.parametrize("chances", [(0.5, 0.25), (0.75, 0.5, 0.125), (1.0, 0.5, 1.0)])
def test_conditional_chances_come_back_from_their_marginal_shares(chances: tuple[float, ...]) -> None:
    """In halves and quarters both ways are exact to the last bit."""
    assert Conditional(conditional=chances).chances == chances
    marginal = tuple(float(share) for share in shares([Fraction(chance) for chance in chances]))
    assert Marginal(marginal=marginal).chances == chances


def test_conditional_and_marginal_of_one_list_are_two_things() -> None:
    """The negative control: mixed up, 0.8, 0.6, 0.4 by position would make other tokens a round."""
    given = (0.8, 0.6, 0.4)
    assert mean(list(Conditional(conditional=given).chances)) == pytest.approx(0.8 + 0.48 + 0.192)
    assert mean(list(Marginal(marginal=given).chances)) == pytest.approx(1.8)


def came_to(folder: Path, acceptance: str, drafted: int, *more: str) -> tuple[dict[str, object], list[str]]:
    """What a run of some thousand tokens comes to, and the notes of its report."""
    setup = table_setup(
        folder, f"logits.acceptance={acceptance}", f"policy.draft_tokens={drafted}", "workload.requests=4",
        "workload.output_tokens=1500", *more,
    )  # fmt: skip
    baseline, trace = both(setup)
    return speculation(trace), document(setup, {}, baseline, trace)["notes"]


def test_a_run_accepts_as_much_over_drafted_as_was_given_and_states_what_it_used(tmp_path: Path) -> None:
    """With 7 drafts some 2,400 rounds of a standard deviation of 2 tokens: 0.02 of a share is five of the mean's."""
    found, notes = came_to(tmp_path, "{accepted_over_drafted: 0.35, drafted: 7}", 7)
    assert found["draft_acceptance_rate"] == pytest.approx(0.35, abs=0.02)
    assert "0.35 accepted over drafted, 7 drafted a round, is 3.45 tokens a round and a chance of 0.73" in notes[0]
    assert not [note for note in notes if "that was given" in note]


def test_a_figure_that_came_out_far_from_what_was_typed_is_noted_with_the_other_way_to_type_it(tmp_path: Path) -> None:
    _, notes = came_to(tmp_path, "0.35", 7)
    (far,) = [note for note in notes if "that was given" in note]
    assert "--set 'logits.acceptance={accepted_over_drafted: 0.35, drafted: 7}'" in far
    assert "once all before it in its round were accepted" in notes[0]
    # The controls: a single draft is accepted as often as typed, and nearly certain drafts are hardly less.
    for acceptance, drafted in (("0.35", 1), ("0.99", 4)):
        _, notes = came_to(tmp_path, acceptance, drafted)
        assert not [note for note in notes if "that was given" in note]


def test_other_rounds_than_those_of_the_log_are_noted(tmp_path: Path) -> None:
    _, notes = came_to(tmp_path, "{accepted_over_drafted: 0.35, drafted: 7}", 2)
    assert any("do not all draft 7 tokens" in note for note in notes)
    _, notes = came_to(tmp_path, "{tokens_a_round: 3.45, drafted: 7}", 2)
    assert any("not the 3.45 that were given" in note for note in notes)
    _, notes = came_to(tmp_path, "{marginal: [0.9, 0.7]}", 4)
    assert any("2 positions and 4 were drafted" in note for note in notes)


def test_marginal_shares_are_what_a_run_comes_to(tmp_path: Path) -> None:
    found, _ = came_to(tmp_path, "{marginal: [0.9, 0.6, 0.2]}", 3)
    per_place = zip(found["num_accepted_tokens_per_pos"], found["num_draft_tokens_per_pos"], strict=True)
    assert [stood / tried for stood, tried in per_place] == pytest.approx([0.9, 0.6, 0.2], abs=0.04)


def test_places_beyond_a_list_take_its_last_chance() -> None:
    luck = luck_by(Marginal(marginal=(0.8, 0.4)), 1)
    assert [luck.chance(Spot(0, 5, 0, place)) for place in range(4)] == [0.8, 0.5, 0.5, 0.5]


REFUSED = {
    "a list without a word": ("[0.9, 0.5]", "conditional: "),
    "an empty list": ("{conditional: []}", "at least 1 of them"),
    "shares that rise": ("{marginal: [0.5, 0.6]}", "rises, 0.6 at place 2 after 0.5"),
    "both": ("{marginal: [0.5], conditional: [0.5]}", "conditional and marginal"),
    "another word": ("{unconditional: [0.5]}", "one of accepted_over_drafted"),
    "percent": ("34.3", "0.343 if 34.3 is in percent"),
    "percent in words": ("'34.3 %'", "such as 0.8"),
    "above 1": ("{accepted_over_drafted: 5.5, drafted: 16}", "at most 1"),
    "no length": ("{accepted_over_drafted: 0.3}", "the key 'drafted'"),
    "more than a round can": ("{tokens_a_round: 6.5, drafted: 5}", "at most 6"),
    "accepted, not tokens": ("{tokens_a_round: 0.7, drafted: 5}", "at least 1"),
    "half a draft": ("{tokens_a_round: 2, drafted: 1.5}", "a whole number"),
    "true": ("true", "such as 0.8"),
    "a lone state": ("{easy: 1}", "the key 'hard'"),
}


@pytest.mark.parametrize(("acceptance", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_say_which_it_is_or_cannot_be_is_refused(acceptance: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        table_setup(tmp_path, f"logits.acceptance={acceptance}")
    assert "logits.acceptance" in str(caught.value)
    assert words in str(caught.value)


PAGE = (PROJECT / "docs" / "logs.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", re.findall(r"`acceptance: (.+?)`", PAGE))
def test_every_form_on_the_page_can_be_typed_in(form: str, tmp_path: Path) -> None:
    logits = table_setup(tmp_path, f"logits.acceptance={form}").scenario.logits
    assert isinstance(logits, Synthetic)
    assert chances_of(logits.acceptance)


def test_the_page_s_arithmetic_is_right() -> None:
    typed = AcceptedOverDrafted(accepted_over_drafted=0.343, drafted=16)
    assert f"6.49 tokens a round, a chance of {typed.chances:.3f}" in PAGE
    assert f"would be {mean([0.343] * 16) / 16:.2f} accepted over drafted" in PAGE


def test_the_command_that_a_note_names_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--set", "workload.requests=3", "--json"]
    named = "logits.acceptance={accepted_over_drafted: 0.35, drafted: 7}"
    assert simulate_main(["scenarios/paper_table.yaml", *few, "--set", named]) == 0
    assert "0.35 accepted over drafted" in capsys.readouterr().out
