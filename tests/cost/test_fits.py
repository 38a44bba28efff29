"""Fits, fits only if, does not fit: conditions by hand, the chance of fitting by formula, limits that are published."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.commands.main import main
from hilsim.cost.caveats import caveats
from hilsim.cost.fit import fits_of, quick_verdict, whole
from hilsim.cost.largest_context import largest_context
from hilsim.cost.memory import AS_GIVEN, NEEDS_LEAST, NEEDS_MOST, FigureReading, ledgers
from hilsim.cost.published import exceeded
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import described
from hilsim.describe.chip import Ability, Chip, PublishedLimit, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.study.uncertainty import chance_of_fitting, in_use, roomy, with_values
from tests.documents import document_of
from tests.scenes import shipped
from tests.tiny import chip, figure, model, precision, unit

Span = tuple[float, float] | None
SMALL = shipped("target_alone", "policy={name: target_only}")
NO_WIDTHS = unit()  # a GPU of any width


def placed_alone(on: Unit, *, context: int = 50, **of_chip: Any) -> Setup:
    """The small model of `tiny` alone on a chip of one unit."""
    whole_chip = chip({"u": on}, **of_chip)
    scenario = SMALL.scenario.model_copy(update={"context_tokens": context})
    placement = SMALL.target.placement.model_copy(update={"unit": "u", "precision": "p", "chip": "tiny-chip"})
    target = replace(SMALL.target, placement=placement, chip=whole_chip, unit=on, model=model(), compiled=None)
    return replace(SMALL, scenario=scenario, target=target, draft=None, networks=())


def sized(memory: float, memory_span: Span, reserve: float, reserve_span: Span, on: Unit = NO_WIDTHS) -> Setup:
    """The small model on a chip with these sizes in bytes."""
    return placed_alone(
        on, memory=figure(memory, "B", range=memory_span), reserve=figure(reserve, "B", range=reserve_span)
    )


NEED = ledgers(sized(10**6, None, 1000, None))["tiny-chip"].used_bytes - 1000  # beside the system's reserve


def test_three_verdicts_and_their_conditions_by_hand() -> None:
    """A need of N beside a reserve of 1,000 in a memory of N + 3,000: 2,000 bytes are free."""
    memory = NEED + 3000
    sure = fits_of(sized(memory, (NEED + 2600, memory), 1000, (500, 2500)))["tiny-chip"]
    assert (sure.verdict, sure.conditions) == ("fits", ())
    # The least memory that serves is N + 1,000, the most that the system may keep is 3,000, each with the other given.
    open_ended = fits_of(sized(memory, (NEED, 2 * NEED), 1000, (500, 4000)))["tiny-chip"]
    assert open_ended.verdict == "fits only if"
    bounds = {condition.name: condition for condition in open_ended.conditions}
    assert bounds["tiny-chip.memory"].bound == pytest.approx(NEED + 1000, abs=1)
    assert bounds["tiny-chip.memory"].at_least
    assert bounds["tiny-chip.reserve"].bound == pytest.approx(3000, abs=1)
    assert not bounds["tiny-chip.reserve"].at_least
    assert "fits only if tiny-chip.memory is at least" in str(open_ended)
    # Too small as it stands: either would do it alone.
    small = fits_of(sized(NEED + 900, (NEED, 2 * NEED), 1000, (500, 4000)))["tiny-chip"]
    assert small.verdict == "does not fit"
    assert {c.name: round(c.bound) for c in small.conditions} == {
        "tiny-chip.memory": NEED + 1000, "tiny-chip.reserve": 900,
    }  # fmt: skip
    hopeless = fits_of(sized(NEED // 2, (NEED // 4, NEED // 2), 1000, (500, 4000)))["tiny-chip"]
    assert hopeless.verdict == "does not fit"
    assert not hopeless.conditions
    assert "anywhere in the range" in str(hopeless)


def test_figures_that_turn_it_only_together_are_reported() -> None:
    """2,000 bytes free; either figure takes 1,500 of them, both 3,000."""
    fit = fits_of(sized(NEED + 3000, (NEED + 1500, NEED + 3000), 1000, (1000, 2500)))["tiny-chip"]
    assert fit.verdict == "fits only if"
    assert not fit.conditions
    assert "do not all lie at their unfavourable ends" in str(fit)


def test_without_ranges_nothing_is_open() -> None:
    """The negative control: the same sizes as bare figures."""
    fit = fits_of(sized(NEED + 3000, None, 1000, None))["tiny-chip"]
    assert (fit.verdict, fit.ranged, fit.conditions) == ("fits", (), ())
    assert "memory" in fit.assumed
    assert "assumed" in fit.assumed


@settings(max_examples=40)
@given(st.floats(0.2, 3), st.floats(0.5, 1), st.floats(1, 2), st.just(0) | st.floats(0.01, 1), st.floats(1, 3))
def test_the_verdict_is_that_of_all_corners(size: float, low: float, high: float, least: float, most: float) -> None:
    """Enumerated: it fits where it does at all four corners of both ranges."""
    memory, reserve = size * NEED, 0.1 * size * NEED
    setup = sized(memory, (memory * low, memory * high), reserve, (reserve * least, reserve * most))
    nominal = NEED + reserve <= memory
    corners = [NEED + r <= m for m, r in product((memory * low, memory * high), (reserve * least, reserve * most))]
    fit = fits_of(setup)["tiny-chip"]
    assert fit.verdict == ("does not fit" if not nominal else "fits" if all(corners) else "fits only if")
    assert quick_verdict(setup, ledgers(setup)) == whole({"": fit}) == fit.verdict


def test_a_condition_s_bound_is_where_the_ledger_turns() -> None:
    setup = sized(NEED + 3000, (NEED, 2 * NEED), 1000, (500, 4000), unit(reserve=figure(1000, "B", range=(1000, 9000))))
    for condition in fits_of(setup)["tiny-chip"].conditions:
        assert isinstance(condition.figure, Figure)
        for beyond, expected in ((-2, condition.at_least), (2, not condition.at_least)):
            value = condition.bound + beyond

            def read(f: Figure, value: float = value, mine: Figure = condition.figure) -> float:
                return value if f is mine else f.si

            fits = ledgers(setup, FigureReading(read, read, AS_GIVEN.holds))["tiny-chip"].fits
            assert fits != expected, (condition.name, beyond)


def test_an_assumed_sharing_of_weights_is_a_condition_and_a_documented_one_is_none() -> None:
    def with_sharing(kind: str) -> Setup:
        shared = Ability(value=True, kind=kind, source="a test's own")  # type: ignore[arg-type]
        on = unit((1, 8, 32), shared_weights=shared)
        need = ledgers(placed_alone(on, memory=figure(1e6, "B"), reserve=figure(0, "B")))["tiny-chip"].used_bytes
        return placed_alone(on, memory=figure(need + 100, "B"), reserve=figure(0, "B"))

    (condition,) = fits_of(with_sharing("assumed"))["tiny-chip"].conditions
    assert condition.name.endswith("shared_weights")
    assert not fits_of(with_sharing("datasheet"))["tiny-chip"].conditions


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("kind", ["assumed", "datasheet"])
@pytest.mark.parametrize("enough", [True, False])
def test_an_assumed_yes_or_no_may_be_the_other_one(value: bool, kind: str, enough: bool) -> None:
    """Memory for one copy of the weights only, or for all three: no figure has a range, only the sharing is open."""

    def with_sharing(size: float, value: bool, kind: str) -> Setup:
        shared = Ability(value=value, kind=kind, source="a test's own")  # type: ignore[arg-type]
        on = unit((1, 8, 32), shared_weights=shared)
        return placed_alone(on, memory=figure(size, "B"), reserve=figure(0, "B"))

    need = {yes: ledgers(with_sharing(1e6, yes, "datasheet"))["tiny-chip"].used_bytes for yes in (True, False)}
    setup = with_sharing(need[not enough], value, kind)
    fit = fits_of(setup)["tiny-chip"]
    expected = "fits" if enough else "does not fit" if not value else "fits only if" if kind == "assumed" else "fits"
    assert fit.verdict == expected
    assert quick_verdict(setup, ledgers(setup)) == expected
    assert fit.best.fits == (enough or value or kind == "assumed")
    turns = kind == "assumed" and not enough
    assert len(fit.conditions) == turns
    assert (f"shared_weights is true (its file assumes {str(value).lower()})" in str(fit)) == turns
    assert ("over the whole range" in str(fit)) == (expected == "fits")


def test_one_yes_or_no_of_both_roles_is_one_condition() -> None:
    """Target and draft on one unit, each with its own record of it: one of them unshared would fit, both do not."""

    def both_roles(size: float, target: bool = True, draft: bool = True) -> Setup:
        shared = [Ability(value=value, kind="assumed", source="a test's own") for value in (target, draft)]
        first, second = (unit((1, 8, 32), shared_weights=one) for one in shared)
        alone = placed_alone(first, memory=figure(size, "B"), reserve=figure(0, "B"))
        return replace(alone, draft=replace(alone.target, role="draft", unit=second))

    one_unshared = ledgers(both_roles(1e6, draft=False))["tiny-chip"].used_bytes
    assert one_unshared < ledgers(both_roles(1e6, target=False, draft=False))["tiny-chip"].used_bytes
    fit = fits_of(both_roles(one_unshared))["tiny-chip"]
    assert [condition.name for condition in fit.conditions] == ["tiny-chip.units.u.shared_weights"]
    assert fit.verdict == "fits only if"


def test_a_shipped_chip_whose_sharing_is_assumed_fits_only_under_that_condition() -> None:
    setup = shipped("target_alone", "target.chip=snapdragon-8-elite", "target.widths=[1, 8, 32, 128]")
    said = str(check(setup))
    assert "fits on snapdragon-8-elite, under conditions" in said
    assert "shared_weights is true (its file assumes true)" in said


def test_the_peak_of_loading_holds_the_staged_weights_and_neither_cache_nor_activations() -> None:
    for share in (0.0, 0.5, 1.0):
        on = unit(staged=figure(share, "share"))
        ledger = ledgers(placed_alone(on, context=50_000))["tiny-chip"]
        later = sum(item.bytes for item in ledger.items if "KV" in item.what or "activations" in item.what)
        weights = sum(item.bytes for item in ledger.items if "layers" in item.what or "head" in item.what)
        assert ledger.staged_bytes == round(share * weights)
        assert ledger.loading_bytes == ledger.used_bytes - later + ledger.staged_bytes
        assert ledger.needed_bytes == max(ledger.used_bytes, ledger.loading_bytes)
    # Staged twenty times over it outweighs what is taken later: memory for use alone does not serve while loading.
    heavy = unit(staged=figure(20, "share"))
    held = ledgers(placed_alone(heavy, context=10))["tiny-chip"]
    assert held.loading_bytes > held.used_bytes
    for size, fits in ((held.loading_bytes, True), (held.loading_bytes - 1, False), (held.used_bytes, False)):
        tight = placed_alone(heavy, context=10, memory=figure(size, "B"))
        assert ledgers(tight)["tiny-chip"].fits == fits


def test_a_share_taken_in_advance_is_the_larger_of_share_and_need() -> None:
    """90 % of a megabyte, whatever the model needs; with a reserve of 10 % and a byte more it does not start."""
    on = unit(taken_in_advance=figure(0.9, "share"), reserve=figure(0, "B"))
    for reserve, fits in ((100_000, True), (100_001, False)):
        ledger = ledgers(placed_alone(on, memory=figure(1, "MB"), reserve=figure(reserve, "B")))["tiny-chip"]
        assert ledger.used_bytes == 900_000 + reserve
        assert ledger.fits == fits
    # A model larger than the share does not start either, though the memory as a whole would hold it.
    need = ledgers(placed_alone(unit(reserve=figure(0, "B")), reserve=figure(0, "B")))["tiny-chip"].used_bytes
    for share, fits in ((0.99, True), (0.5, False)):
        on = unit(taken_in_advance=figure(share, "share"), reserve=figure(0, "B"))
        size = figure(need / 0.9, "B")
        assert ledgers(placed_alone(on, memory=size, reserve=figure(0, "B")))["tiny-chip"].fits == fits


def test_the_runtime_of_a_scenario_brings_its_share_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    """0.9 of a slice of 4 GiB, and 0.5 GiB for CUDA beside it: more than there is."""
    held = ledgers(shipped("orin_8295_greedy", "draft.runtime=vllm"))["drive-orin-x"]
    assert held.used_bytes == round(0.9 * 4 * 2**30) + 2**29
    assert not held.fits
    plain = ledgers(shipped("orin_8295_greedy"))["drive-orin-x"]
    assert plain.fits
    with pytest.raises(InputError, match="vllm runs on gpu"):
        shipped("orin_8295_greedy", "target.runtime=vllm")
    with pytest.raises(InputError, match=r"target\.runtime"):
        shipped("orin_8295_greedy", "target.runtime=vlmm")


# Shares that fit, by formula: a memory uniform on either side of its value, so that half of the draws lie below.
@pytest.mark.parametrize(("low", "high"), [(0.6, 1.5), (0.9, 1.1), (0.97, 3.0)])
def test_the_chance_of_fitting_is_that_of_the_drawn_memory(low: float, high: float) -> None:
    """Memory is M x (low to high), M = 1.05 N; below M it is uniform over (low, 1), so P = 1/2 + 1/2 (1 - x)/(1 - low),
    x = N / M the least that serves, where low is below x."""
    need = NEED + 1000
    memory = 1.05 * need
    setup = sized(memory, (memory * low, memory * high), 1000, None)
    least = 1 / 1.05
    theory = 1.0 if low >= least else 0.5 + 0.5 * (1 - least) / (1 - low)
    found = chance_of_fitting(setup, seed=5, draws=4000)
    # Four standard errors of a share over 4,000 draws.
    assert found.share == pytest.approx(theory, abs=4 * (0.25 / 4000) ** 0.5)
    assert found.figures == ("tiny-chip.memory",)


def test_the_chance_of_fitting_with_two_figures_is_the_enumerated_one() -> None:
    """Memory and reserve both drawn: against a fine grid over both."""
    setup = sized(NEED + 3000, (NEED, NEED + 9000), 1000, (0, 5000))
    grid = (np.arange(400) + 0.5) / 400

    def spread_of(low: float, value: float, high: float) -> Any:
        return np.concatenate([low + grid * (value - low), value + grid * (high - value)])

    memories, reserves = spread_of(NEED, NEED + 3000, NEED + 9000), spread_of(0, 1000, 5000)
    theory = float((reserves[None, :] + NEED <= memories[:, None]).mean())
    assert 0.1 < theory < 0.9
    found = chance_of_fitting(setup, seed=6, draws=4000)
    assert found.share == pytest.approx(theory, abs=4 * (0.25 / 4000) ** 0.5 + 0.005)
    assert chance_of_fitting(sized(NEED + 3000, None, 1000, None), seed=6, draws=50).share == 1.0


def test_a_draw_that_needs_more_memory_than_there_is_ends_no_error_bar() -> None:
    """The cache may be twice as wide: as a size it decides whether it fits, as a width how long a step takes."""
    kv = figure(8, "bits", range=(8, 16))
    wide = placed_alone(unit(None, precision(kv_bits=kv)), context=5000)
    tight = ledgers(wide)["tiny-chip"].used_bytes + 10
    setup = placed_alone(unit(None, precision(kv_bits=kv)), context=5000, memory=figure(tight, "B"))
    assert not ledgers(setup, NEEDS_MOST)["tiny-chip"].fits
    assert ledgers(roomy(setup), NEEDS_MOST)["tiny-chip"].fits
    path, drawn = "tiny-chip/units.u.precisions.p.kv_bits", roomy(setup)
    for bits in (8, 16):
        assert ledgers(with_values(drawn, {path: (in_use(setup)[path], bits)}))["tiny-chip"].fits


def test_sizes_are_no_figures_of_time() -> None:
    used = in_use(shipped("orin_8295_greedy"))
    assert not [path for path in used if path.endswith(("staged", "workspace")) or "published" in path]


# Published limits.

LIMIT = PublishedLimit(parameters=(0.0, 0.001), context=figure(100, "tokens", "datasheet"))


def test_a_published_limit_stops_the_largest_context_and_is_named_beyond_it() -> None:
    for limits, most in (((LIMIT,), 100), ((), 100_000)):
        setup = placed_alone(unit(published_limits=limits), context=50, memory=figure(1, "GB"))
        found = largest_context(setup)
        assert found.tokens == found.least == found.most == most
        assert ("a published limit" in found.stopped_by) == bool(limits)
    for context, broken in ((100, 0), (101, 1)):
        setup = placed_alone(unit(published_limits=(LIMIT,)), context=context, memory=figure(1, "GB"))
        assert len(exceeded(setup.target, context)) == broken
        found_caveats = [c for c in caveats(setup, fits_of(setup)) if c.kind == "published limit"]
        assert len(found_caveats) == broken
        assert not broken or "--set context_tokens=100" in found_caveats[0].text


def test_a_limit_is_of_its_class_of_models_and_number_formats_alone() -> None:
    other_size = LIMIT.model_copy(update={"parameters": (1.0, 2.0)})
    other_format = LIMIT.model_copy(update={"precisions": ("w4",)})
    mine = LIMIT.model_copy(update={"precisions": ("p", "w4")})
    for limit, applies in ((other_size, False), (other_format, False), (mine, True), (LIMIT, True)):
        setup = placed_alone(unit(published_limits=(limit,)), context=101)
        assert bool(exceeded(setup.target, 101)) == applies


def test_a_model_of_3b_has_at_most_1024_tokens_on_sa8295p_and_one_of_1b_more() -> None:
    """The export tool's own figure; the 1B model is published at 4096 there."""
    assert largest_context(shipped("target_alone")).tokens == 1024
    assert largest_context(shipped("target_alone", "target.model=llama-3.2-1b")).tokens > 4096
    beyond = shipped("target_alone", "context_tokens=1025")
    assert [c.kind for c in caveats(beyond, fits_of(beyond))].count("published limit") == 1
    assert "but it exceeds a published limit" in str(check(beyond))
    assert "exceeds a published" not in str(check(shipped("target_alone")))


def test_a_limit_whose_source_names_no_precision_is_of_all() -> None:
    for precision_name in ("w4", "w8a8", "fp16"):
        setup = shipped("target_alone", f"target.precision={precision_name}", "target.widths=[1]")
        assert [len(exceeded(setup.target, context)) for context in (1024, 1025)] == [0, 1]
        found = largest_context(setup)
        assert found.tokens == 1024
        assert "a published limit" in found.stopped_by


def test_limits_that_contradict_themselves_are_refused() -> None:
    for wrong in (
        {"parameters": (2.0, 1.0), "context": figure(5, "tokens")},
        {"parameters": (1.0, 2.0)},
        {"parameters": (1.0, 2.0), "context": figure(5, "rows")},
        {"parameters": (1.0, 2.0), "context": figure(5, "tokens"),
         "supported": Ability(value=False, kind="assumed", source="a test's own")},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"published limit|parameters|tokens"):
            PublishedLimit(**wrong)  # type: ignore[arg-type]


# What check says, and NPUs that are described by half.

NPU = """
name: half
title: an NPU described by half
memory: {value: 16, unit: GiB, kind: datasheet, source: a test's own}
reserve: {value: 1, unit: GiB, kind: datasheet, source: a test's own}
peak_memory_rate: {value: 60, unit: GB/s, kind: datasheet, source: a test's own}
idle_power: {value: 1, unit: W, kind: assumed, source: a test's own}
units:
  npu:
    kind: npu
    family: hexagon-v73
    WIDTHS
    PROFILES
    peak_operation_rate: {value: 40, unit: TOPS, kind: datasheet, source: a test's own}
    reserve: {value: 64, unit: MiB, kind: assumed, source: a test's own}
    active_power: {value: 1, unit: W, kind: assumed, source: a test's own}
"""
SCENARIO = """
name: half
target: {model: llama-3.2-1b, chip: half.yaml, unit: npu, precision: w4a16}
context_tokens: 256
policy: {name: target_only}
logits: {source: synthetic, acceptance: 0.5}
workload: {requests: 1, prompt_tokens: 10, output_tokens: 2}
"""


def half_described(folder: Path, *, widths: str = "", profiles: str = "", timer: str = "") -> Path:
    (folder / "half.yaml").write_text(NPU.replace("WIDTHS", widths).replace("PROFILES", profiles))
    (folder / "half-scenario.yaml").write_text(SCENARIO.replace("w4a16}", f"w4a16{timer}}}"))
    return folder / "half-scenario.yaml"


WIDTHS = "widths: {value: [1, 128], kind: assumed, source: a test's own}"
TIMER = ', timer: {prefill: {"128": 10}, decode: 5, source: a test\'s own}'


def test_an_npu_without_widths_is_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"target.unit: found half.yaml.npu, an NPU without widths") as caught:
        load_setup(half_described(tmp_path))
    assert "widths: {value: [1, 128]" in str(caught.value)
    assert load_setup(half_described(tmp_path, widths=WIDTHS)).target.widths == (1, 128)
    # With times of its own the chip model has no say, so the run goes on, and says so.
    typed = load_setup(half_described(tmp_path, timer=TIMER))
    assert any("without widths" in caveat.text for caveat in caveats(typed, fits_of(typed)))


def test_an_npu_without_rules_or_a_word_on_sharing_says_so_in_the_answer(tmp_path: Path) -> None:
    bare = load_setup(half_described(tmp_path, widths=WIDTHS))
    texts = [caveat.text for caveat in caveats(bare, fits_of(bare))]
    assert any("without a rule profile" in text for text in texts)
    assert any("share weights" in text for text in texts)
    ruled = load_setup(half_described(tmp_path, widths=WIDTHS, profiles="profiles: [hexagon_v73]"))
    assert not any("rule profile" in caveat.text for caveat in caveats(ruled, fits_of(ruled)))


def test_check_says_what_the_verdict_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    """8 billion parameters on a phone whose memory is anything from 8 to 16 GB: told as a condition, not as a yes."""
    overrides = [
        "target.model=llama-3.1-8b", "target.chip=snapdragon-8-gen-3", "target.precision=w4a16", "target.widths=null",
        "networks=[]",
    ]  # fmt: skip
    file = PROJECT / "scenarios/target_alone.yaml"
    arguments = ["check", str(file), *(f"--set={one}" for one in overrides)]
    assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "fits only if snapdragon-8-gen-3.memory is at least" in out
    assert "(12 GB assumed, 8 to 16)" in out
    assert "are not supported" in out
    assert "Phones throttle" in out  # the notes of the chip
    assert main([*arguments, "--largest-context", "--json"]) == 0
    found = document_of("check --json", capsys.readouterr().out)
    assert (found["fits"], found["fit"]) == (True, "fits only if")
    ((chip_name, memory),) = found["memory"].items()
    bounds = {one["figure"]: one for one in memory["conditions"]}
    given = bounds["snapdragon-8-gen-3.memory"]
    assert given["range"] == [8, 16]
    # The ledger's own sum, in the unit of the figure.
    assert given["at_least"] == pytest.approx(memory["used_bytes"] / 1e9, rel=1e-6)
    assert chip_name in found["chip_notes"]
    assert {caveat["kind"] for caveat in found["caveats"]} == {"published limit", "memory"}
    assert found["largest_context"]["least"] <= found["largest_context"]["tokens"] <= found["largest_context"]["most"]


def test_a_refusal_says_what_memory_would_do() -> None:
    verdict = check(shipped("target_8b", "target.widths=[1, 8, 128]"))
    assert not verdict.fits
    assert "it would if sa8295p.memory is at least" in str(verdict)


def test_no_assumed_memory_is_without_a_range() -> None:
    """Without a range an assumed capacity would be said to fit, or not, as if it were known."""
    for one in described("chip", Chip):
        if one.name.startswith("paper-"):
            continue  # placeholders, large enough for anything
        assert one.memory.kind != "assumed" or one.memory.range is not None, one.name
        least, most = ledgers_of_nothing(one)
        assert least <= most


def ledgers_of_nothing(one: Chip) -> tuple[float, float]:
    """What is left of a chip at its unfavourable and its favourable ends."""
    return one.memory.ends[0] - one.reserve.ends[1], one.memory.ends[1] - one.reserve.ends[0]


def test_needs_bracket_the_given_ledger_on_every_shipped_scenario() -> None:
    for name in ("orin_8295_greedy", "target_8b", "one_chip", "swapped"):
        setup = shipped(name)
        for chip_name, given_ledger in ledgers(setup).items():
            most, least = (ledgers(setup, of)[chip_name] for of in (NEEDS_MOST, NEEDS_LEAST))
            assert least.needed_bytes <= given_ledger.needed_bytes <= most.needed_bytes
            assert most.cap_bytes <= given_ledger.cap_bytes <= least.cap_bytes
