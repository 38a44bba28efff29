"""How far acceptance carries: each kind of text against the pair's others, by hand."""

from __future__ import annotations

import pytest

from hilsim.describe.acceptance import Conditional, tokens_of
from hilsim.describe.acceptance_profile import AcceptanceProfile, library
from hilsim.describe.figure import Kind
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.study.transfer import left_out, over_kinds_of_text


def profile(
    title: str, text: str, *chances: float, warm: float | None = 0.0, kind: Kind = "measured"
) -> AcceptanceProfile:
    return AcceptanceProfile(
        name=f"{title}/{text}", title=title, drafter="model", text=text,
        acceptance=Conditional(conditional=chances), temperature=warm, kind=kind, source="a test's",
    )  # fmt: skip


def test_a_kind_of_text_is_predicted_by_the_mean_of_the_pair_s_others() -> None:
    """Of chances 0.8, 0.6 and 0.4 over three texts: 0.5, 0.6 and 0.7 from the others, at two drafts 1 + a + a a."""
    found = left_out([profile("a", "x", 0.8), profile("a", "y", 0.6), profile("a", "z", 0.4)], 2)
    assert [one.measured for one in found] == pytest.approx([2.44, 1.96, 1.56])
    assert [one.predicted for one in found] == pytest.approx([1.75, 1.96, 2.19])
    assert [one.error for one in found] == pytest.approx([1.75 / 2.44 - 1, 0, 2.19 / 1.56 - 1])
    assert {one.others for one in found} == {2}


def test_only_measurements_of_one_pair_at_one_temperature_are_held_against_each_other() -> None:
    some = [
        profile("a", "x", 0.8), profile("b", "x", 0.8), profile("a", "y", 0.6, warm=1.0),
        profile("a", "z", 0.5, kind="fitted"),
    ]  # fmt: skip
    assert left_out(some, 3) == []


def test_places_beyond_the_measured_ones_take_the_last_chance() -> None:
    (first, _) = left_out([profile("a", "x", 0.9, 0.5), profile("a", "y", 0.7)], 3)
    assert first.measured == pytest.approx(tokens_of((0.9, 0.5, 0.5), 3))
    assert first.predicted == pytest.approx(tokens_of((0.7, 0.7, 0.7), 3))


def test_the_library_s_figures_on_the_page() -> None:
    found = {(one.profile.name): one for one in left_out(library(), 5)}
    assert round(100 * found["eagle-llama-3.1-8b/sharegpt"].error) == 6
    assert round(100 * found["n-gram-llama-3.1-8b/sharegpt"].error) == 58
    assert round(100 * found["n-gram-llama-3.1-8b/code"].error) == -37


def test_lengths_without_text_have_no_kinds_of_text() -> None:
    with pytest.raises(InputError, match="workload: found lengths alone; expected conversations"):
        over_kinds_of_text(PROJECT / "scenarios/paper_table.yaml", ())
