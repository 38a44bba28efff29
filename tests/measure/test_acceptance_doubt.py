"""What acceptance does to an answer: other requests, other pairs of models; by formula, and by the runs themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hilsim.describe.acceptance import Conditional, TokensARound, TokensByDrafts, tokens_a_round, tokens_of
from hilsim.describe.acceptance_profile import AcceptanceProfile, library
from hilsim.describe.load import load_setup
from hilsim.measure.metrics import deliveries, headline_numbers, speculation
from hilsim.measure.resampled import requests_of
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources, run_both
from hilsim.show.uncertainty import as_json
from hilsim.sim.run import simulate
from hilsim.sources.luck import luck_by
from hilsim.sources.supposed import Supposed
from hilsim.study.acceptance import published_pairs
from hilsim.study.error_bars import error_bars
from hilsim.study.uncertainty import AcceptanceReplay, chance_of_fitting, uncertainty
from tests.scenes import shipped, table_setup

PAIRS = library()


def published(chance: float) -> AcceptanceProfile:
    """A pair of one chance."""
    return AcceptanceProfile(
        name="a/w", title="A", drafter="model", text="w", acceptance=chance, kind="measured", source="a test's"
    )


def by_drafts(**tokens: float) -> TokensByDrafts:
    """Tokens a round by drafts, as `d3=2.25`."""
    return TokensByDrafts.model_validate({"tokens_a_round": {name[1:]: value for name, value in tokens.items()}})


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_chances_give_back_the_published_tokens_a_round(pair: AcceptanceProfile) -> None:
    """1 + a1 + a1 a2 + ... over as many places as were drafted."""
    chances, given = pair.conditional, pair.acceptance
    assert all(0 <= chance <= 1 for chance in chances)
    if isinstance(given, TokensByDrafts):
        for drafts, tokens in given.tokens_a_round:
            assert 1 + np.cumprod(chances[:drafts]).sum() == pytest.approx(tokens, abs=1e-6)
    if isinstance(given, TokensARound):
        assert tokens_of(chances, given.drafted) == pytest.approx(given.tokens_a_round, abs=1e-6)
    assert pair.source
    assert pair.kind in ("measured", "fitted")


def test_every_file_of_the_library_is_read_and_names_where_it_is_from() -> None:
    files = {file.stem for file in (PROJECT / "models" / "acceptance").glob("*.yaml")}
    assert {pair.name.partition("/")[0] for pair in PAIRS} == files
    page = (PROJECT / "docs" / "acceptance.md").read_text(encoding="utf-8")
    named = set(re.findall(r"eagle-[\w.-]+/\w+", page))
    assert named
    assert named <= {pair.name for pair in PAIRS}


def test_a_constant_acceptance_is_found_again() -> None:
    given = by_drafts(**{f"d{n}": tokens_a_round(0.7, n) for n in (1, 2, 5)})
    assert given.chances == pytest.approx((0.7,) * 5, abs=1e-9)


def test_the_mean_of_a_head_that_is_published_both_ways_agrees() -> None:
    """0.816, 0.777 and 0.750 by position; 2.925 tokens a round at 3 drafts by the same source."""
    (pair,) = [one for one in PAIRS if isinstance(one.acceptance, Conditional)]
    assert tokens_of(pair.conditional, 3) == pytest.approx(2.925, abs=0.002)


@pytest.mark.parametrize(
    "wrong", [{"d1": 2.5}, {"d3": 2.0, "d1": 1.5}, {"done": 1.5}, {"d1": 0.9}, {"d1": 1.2, "d2": 2.6}]
)
def test_tokens_by_drafts_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"tokens_a_round|drafts"):
        by_drafts(**wrong)


@pytest.mark.parametrize("policy", ["{name: sync, draft_tokens: 4}", "{name: pearl, draft_tokens: 4}"])
@pytest.mark.parametrize("acceptance", [0.0, 0.6, 1.0])
def test_a_supposed_acceptance_is_the_scenario_s_own_where_it_says_the_same(
    tmp_path: Path, policy: str, acceptance: float
) -> None:
    """The synthetic source at 0.6, and the supposition of 0.6 over its text: the very same run, span by span."""
    overrides = [f"logits.acceptance={acceptance}", "workload.requests=6", f"policy={policy}"]
    setup = table_setup(tmp_path, *overrides)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    rounds = deliveries(outcome.baseline)
    texts = {number: [token for one in found for token in one.tokens] for number, found in rounds.items()}
    supposed = simulate(setup, Supposed(Sources(setup).fresh(), texts, luck_by(acceptance, setup.scenario.seed)))
    assert supposed.spans == outcome.speculative.spans
    other = simulate(setup, Supposed(Sources(setup).fresh(), texts, luck_by(0.3, setup.scenario.seed)))
    assert other.spans != outcome.speculative.spans  # the negative control


def test_under_a_supposition_the_answers_stay_and_the_rounds_change() -> None:
    """Networks' own answers: with drafts that are always right, and never."""
    setup = shipped("orin_8295_greedy", "workload.count=2", "workload.max_turns=2", "workload.max_new_tokens=12")
    sources = Sources(setup, remember=True)
    of = AcceptanceReplay(setup, sources).requests
    own = of()
    assert own is not None
    always, never = of(published(1.0)), of(published(0.0))
    assert always is not None
    assert never is not None
    assert always.tokens.tolist() == own.tokens.tolist() == never.tokens.tolist()
    assert never.tokens_a_round == 1.0
    assert never.headline["speedup"] < own.headline["speedup"] < always.headline["speedup"]


def test_a_lookup_supposes_the_acceptance_of_lookups() -> None:
    """Prompt lookup finds its drafts in the text; under a published pair's acceptance luck decides about them."""
    setup = shipped("target_alone", "policy={name: prompt_lookup, draft_tokens: 3}", "workload.count=2")
    replay = AcceptanceReplay(setup, Sources(setup, remember=True))
    found = {pair.name: replay.requests(pair) for pair in published_pairs(setup)}
    chat, code = (found[f"n-gram-llama-3.1-8b/{text}"] for text in ("sharegpt", "code"))
    assert chat is not None
    assert code is not None
    assert 1 < chat.tokens_a_round < code.tokens_a_round


def test_resampling_every_request_once_gives_the_headline_back(tmp_path: Path) -> None:
    setup = table_setup(tmp_path, "workload.requests=7", "logits.acceptance=0.6")
    outcome = run_both(setup, Sources(setup))
    found = requests_of(outcome.baseline, outcome.speculative, setup.chips, setup.link)
    assert found is not None
    assert found.unit == "conversations"
    again = found.resampled(range(7))
    expected = headline_numbers(outcome.baseline, outcome.speculative, setup.chips, setup.link)
    assert again == pytest.approx(expected)
    one = found.resampled([3])
    assert one["request_latency_ms p50"] == found.latency_ms[3]
    assert one["speedup"] == pytest.approx(found.alone_ms[3] / found.latency_ms[3])


def test_the_bootstrap_covers_the_known_speedup_as_often_as_it_says(tmp_path: Path) -> None:
    """Requests of a known acceptance: the interval of each workload of 30 against the speed-up over 1,200 requests.

    A percentile bootstrap of 30 clusters covers a little less than its nominal 90 %; 40 workloads scatter by 5
    percentage points, so 31 to 40 of 40.
    """
    many = table_setup(tmp_path, "workload.requests=1200", "logits.acceptance=0.6", "workload.output_tokens=21")
    outcome = run_both(many, Sources(many))
    whole = requests_of(outcome.baseline, outcome.speculative, many.chips, many.link)
    assert whole is not None
    truth = whole.headline["speedup"]
    chance = np.random.Generator(np.random.Philox(7))
    covered = widths = 0.0
    for workload in range(40):
        mine = np.arange(30 * workload, 30 * (workload + 1))
        picks = mine[chance.integers(0, 30, (300, 30))]
        speeds = whole.alone_ms[picks].sum(axis=1) / whole.latency_ms[picks].sum(axis=1)
        # The product's own arithmetic on the first of them.
        assert whole.resampled(picks[0].tolist())["speedup"] == pytest.approx(speeds[0])
        low, high = np.quantile(speeds, (0.05, 0.95))
        covered += low <= truth <= high
        widths += (high - low) / truth
    assert 31 <= covered <= 40
    assert widths / 40 < 0.2  # and not by being wide


def test_intervals_say_what_they_hold_and_widen_with_it(tmp_path: Path) -> None:
    setup = table_setup(tmp_path, "workload.requests=20", "logits.acceptance=0.7")
    found = as_json(*error_bars(setup, Sources(setup, remember=True), draws=15))
    speedup = found["headline"]["speedup"]
    # No figure has a range here: chip figures alone move nothing, the sample of requests does.
    assert speedup["low"] == speedup["high"] == speedup["nominal"]
    for key in ("sampling_alone", "with_sampling"):
        assert speedup[key]["low"] < speedup["nominal"] < speedup[key]["high"]
    wide = speedup["with_other_pairs"]
    assert wide["low"] < speedup["with_sampling"]["low"]
    assert wide["high"] > speedup["with_sampling"]["high"]
    pairs = {pair["name"]: pair["tokens_a_round"] for pair in found["acceptance"]["published_pairs"]}
    assert (
        set(pairs)
        == {pair.name for pair in PAIRS if pair.in_error_bars and pair.drafter != "lookup"}
        == set(speedup["at_published_pairs"])
    )
    by_tokens = sorted(pairs, key=lambda name: pairs[name])
    speeds = [speedup["at_published_pairs"][name] for name in by_tokens]
    assert speeds == sorted(speeds)  # more tokens a round, more speed, as the round costs the same
    assert any("20 conversations" in text for text in found["holds"])
    assert any("without a range" in text for text in found["does_not_hold"])
    assert 0 <= found["fit"]["share_that_fits"] <= 1
    again = as_json(*error_bars(setup, Sources(setup, remember=True), draws=15))
    assert again == found


def test_an_interval_of_more_causes_contains_those_of_fewer() -> None:
    """Over several seeds: with few draws, quantiles alone would not be nested."""
    for seed in range(4):
        setup = shipped("paper_table", "workload.requests=8", f"seed={seed}")
        found = as_json(*error_bars(setup, Sources(setup, remember=True), draws=6))
        for interval in found["headline"].values():
            for narrow in (interval, interval["sampling_alone"]):
                assert interval["with_sampling"]["low"] <= narrow["low"]
                assert interval["with_sampling"]["high"] >= narrow["high"]
            assert interval["with_other_pairs"]["low"] <= interval["with_sampling"]["low"]
            assert interval["with_other_pairs"]["high"] >= interval["with_sampling"]["high"]
        assert any("contain the narrower ones" in text for text in found["holds"])


def test_one_request_alone_has_no_sampling_error_and_that_is_reported(tmp_path: Path) -> None:
    setup = table_setup(tmp_path, "workload.requests=1", "logits.acceptance=0.7")
    found = as_json(*error_bars(setup, Sources(setup, remember=True), draws=10))
    assert found["acceptance"] is None
    assert "with_sampling" not in found["headline"]["speedup"]
    assert any("one sample" in text for text in found["does_not_hold"])


def test_chip_figures_are_drawn_alike_with_and_without_the_other_intervals() -> None:
    setup = shipped("paper_table", "workload.requests=8")
    sources = Sources(setup, remember=True)
    figures = uncertainty(setup, sources, 10, setup.scenario.seed, resample=False)
    alone = as_json(figures, chance_of_fitting(setup, 1))
    beside = as_json(*error_bars(setup, sources, draws=10))
    for name, interval in alone["headline"].items():
        assert {key: beside["headline"][name][key] for key in interval} == interval


def test_policies_without_a_draft_are_held_against_no_pair() -> None:
    assert published_pairs(shipped("target_alone")) == ()
    assert published_pairs(shipped("tree")) == ()
    lookup = published_pairs(shipped("target_alone", "policy={name: prompt_lookup, draft_tokens: 3}"))
    assert {pair.drafter for pair in lookup} == {"lookup"}
    assert {pair.drafter for pair in published_pairs(shipped("orin_8295_greedy"))} == {"model", "head"}


def test_published_rates_come_out_of_a_long_run(tmp_path: Path) -> None:
    """Long answers, so that their ends hardly count: the tokens a round of EAGLE in chat at five drafts, 2.48.

    100 answers of 100 tokens are some 4,000 rounds; accepted drafts scatter by 1.7, so the mean by 0.03.
    """
    (tmp_path / "link.yaml").write_text("")
    setup = table_setup(
        tmp_path, "workload.requests=100", "workload.output_tokens=100", "logits.acceptance=0.5",
        "policy={name: sync, draft_tokens: 5}",
    )  # fmt: skip
    texts = {number: [1] * 100 for number in range(100)}
    (pair,) = [one for one in PAIRS if one.name == "eagle-llama-3.1-8b/sharegpt"]
    chances = pair.conditional
    run = simulate(setup, Supposed(Sources(setup).fresh(), texts, luck_by(pair.acceptance, setup.scenario.seed)))
    found = speculation(run)
    assert found["mean_acceptance_length"] == pytest.approx(2.48, abs=0.12)
    for place in range(3):
        assert found["conditional_acceptance"][place] == pytest.approx(chances[place], abs=0.04)
    assert load_setup(Path(setup.file)).scenario.name == "table"
