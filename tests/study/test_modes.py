"""Ways of speculation side by side: published signs from chip files and acceptance alone, rounds by hand, runtimes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from hilsim.cost.timer import timer_for
from hilsim.describe.catalogue import described
from hilsim.describe.chip import Chip
from hilsim.describe.runtime import Runtime
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.fidelity.speculation import EAGLE_DEPTH, method_of
from hilsim.runs.evaluate import load_variant
from hilsim.runs.replay import run_of
from hilsim.show.modes import verdict
from hilsim.study.modes import Mode, ModeResult, compare_modes, modes_of, offered, round_steps, tried
from tests.documents import document_of
from tests.fidelity.test_fidelity import speculation
from tests.running import run_here
from tests.scenes import PROJECT, shipped

SHORT = "workload={requests: 3, prompt_tokens: 64, output_tokens: 64, clause_tokens: 8}"


def placed(chip: str, unit: str, precision: str, model: str, tokens: float, drafted: int, *more: str) -> Setup:
    """A target somewhere, whose drafts are accepted so that rounds of so many make so many tokens."""
    return shipped(
        "eagle_8775",
        f"target={{model: {model}, chip: {chip}, unit: {unit}, precision: {precision}{''.join(more)}}}",
        f"logits={{source: synthetic, acceptance: {{tokens_a_round: {tokens}, drafted: {drafted}}}}}",
        SHORT,
    )


def result(setup: Setup, label: str, *batches: int) -> ModeResult:
    """One mode by its label."""
    mode = next(one for one in modes_of(setup) if one.choice.name == label)
    found = tried(setup, mode, (), batches)
    assert not found.why, found.why
    return found


def gain(setup: Setup, label: str) -> float:
    """Its speed-up in a run."""
    record = result(setup, label).record
    assert record is not None
    return float(record["speedup"])


EAGLE3 = "EAGLE3, tree of 60"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "precision", "alone", "eight"),
    [
        # Published for Qwen3-8B, about 4.2 tokens a round (TensorRT-Edge-LLM 0.9.0): INT4 1.56 and 0.5 to 0.8,
        # NVFP4 3.4 and 1.15 to 1.8.
        ("agx-orin-64gb", "w4", True, False),
        ("agx-thor", "w4", True, False),
        ("agx-thor", "nvfp4", True, True),
    ],
)
def test_the_format_of_weights_decides_whether_a_tree_pays_in_a_batch(
    chip: str, precision: str, alone: bool, eight: bool
) -> None:
    setup = placed(chip, "gpu", precision, "qwen3-8b", 4.2, 6)
    found = result(setup, EAGLE3, 8)
    together = found.at_once[8]
    assert found.record is not None
    assert together is not None
    assert (found.record["speedup"] > 1) is alone
    assert (together > 1) is eight


def test_multi_token_prediction_loses_on_a_small_model() -> None:
    """Published for Qwen3.5-0.8B on Orin, INT4, 3 drafts and 2.19 tokens a round: slower than the target alone."""
    assert gain(placed("agx-orin-64gb", "gpu", "w4", "qwen3.5-0.8b", 2.19, 3), "MTP, chain of 3") < 1


def test_self_speculation_gains_what_is_published() -> None:
    """SSD of Llama-3.2-3B in w4a16: 1.47 and 1.48 times on 8 Elite, 1.76 on Q-8750. Its acceptance is not published: at
    two tokens a round, of three that branches of 3 and 2 can make, the gain is the published one."""
    widths = ", widths: [1, 32, 128]"
    setup = placed("snapdragon-8-elite", "npu", "w4a16", "llama-3.2-3b", 2.0, 2, widths)
    even = result(setup, "SSD, branches 3 and 2").break_even
    assert even is not None
    assert 1.4 < 2.0 / even < 1.8


def test_lookahead_loses_on_an_export_with_grouped_queries() -> None:
    """SA8797P: 32 rows cost 2.30 plain steps of the quick export, so fewer tokens a pass lose, and more win."""
    label = "lookahead (LADE) of 32 rows"
    few, many = (result(placed("sa8797p", "npu", "w8a16", "qwen3-0.6b", tokens, 4), label) for tokens in (1.7, 3.6))
    for one in (few, many):
        assert one.break_even == pytest.approx(2.30, rel=0.06)
    assert few.record is not None
    assert many.record is not None
    assert few.record["speedup"] < 1 < many.record["speedup"]


@pytest.mark.parametrize(
    "label",
    [
        "EAGLE, chain of 3",
        *(pytest.param(one, marks=pytest.mark.slow) for one in (EAGLE3, "SSD, branches 3 and 2", "Medusa, 5 heads")),
    ],
)
def test_steady_rounds_are_those_of_the_event_simulation(label: str) -> None:
    """The passes of one whole round, in events and as a batch of one, to the nanosecond; widths are fixed here."""
    setup = placed("sa8775p", "npu", "w4a16", "llama-3.1-8b", 2.25, 3)
    mode = next(one for one in modes_of(setup) if one.choice.name == label)
    variant = load_variant(PROJECT / "scenarios/eagle_8775.yaml", [*setup.overrides, *mode.choice.overrides])
    assert isinstance(variant, Setup)
    _, trace = run_of(variant)
    chosen = trace.rounds[4]
    spans = [span for span in trace.spans if (span.request, span.round) == (chosen.request, chosen.number)]
    took = sum(span.end_ns - span.start_ns for span in spans if span.kind in ("draft", "verify"))
    steps = round_steps(variant, 1)
    assert steps is not None
    drafts, verify = steps
    context = variant.scenario.context_tokens
    ours = timer_for(variant.target, context).duration_ns(verify)
    if variant.draft is not None:
        ours += sum(timer_for(variant.draft, context).duration_ns(step) for step in drafts)
    assert ours == took


def test_a_padded_tree_is_drafted_by_the_passes_that_published_rows_are_held_against() -> None:
    """One rule for `modes` and `validate --speculation`: a pass over what is unread, five over the tree of 60."""
    setup = placed("agx-orin-64gb", "gpu", "w4", "qwen3-8b", 4.2, 6)
    mode = next(one for one in modes_of(setup) if one.choice.name == EAGLE3)
    variant = load_variant(PROJECT / "scenarios/eagle_8775.yaml", [*setup.overrides, *mode.choice.overrides])
    assert isinstance(variant, Setup)
    assert variant.draft is not None
    steps = round_steps(variant, EAGLE_DEPTH)
    assert steps is not None
    published = method_of(speculation("tiny + EAGLE3", ""), variant.target.model)
    assert Counter((step.rows, step.logits) for step in steps[0]) == {
        (one.rows, one.logits): one.count for one in published.drafts
    }
    assert steps[1].rows == published.positions
    assert {step.cached for step in steps[0][1:]} == {steps[1].cached}
    # The control: the same tree grown level by level reads ten positions a pass.
    levels = replace(variant, scenario=variant.scenario.model_copy(
        update={"policy": variant.scenario.policy.model_copy(update={"padded": False})}))  # fmt: skip
    unpadded = round_steps(levels, EAGLE_DEPTH)
    assert unpadded is not None
    assert [step.rows for step in unpadded[0]] == [EAGLE_DEPTH, 10, 10, 10, 10, 10]


def test_where_the_application_is_on_the_other_chip_the_link_stays() -> None:
    """Answers are delivered over it, and a head is where the draft is."""
    setup = shipped(
        "orin_8295", "application=drive-orin-x", "logits={source: synthetic, acceptance: 0.6}", SHORT, "networks=[]"
    )
    for mode in modes_of(setup):
        assert "link=null" not in mode.choice.overrides
    mode = next(one for one in modes_of(setup) if one.choice.name == "EAGLE, chain of 3, on drive-orin-x")
    found = tried(setup, mode, ())
    assert not found.why, found.why
    assert any("link=null" in mode.choice.overrides for mode in modes_of(shipped("orin_8295")))


def test_a_named_runtime_runs_what_it_offers_and_says_what_it_does_not() -> None:
    setup = placed("agx-orin-64gb", "gpu", "w4", "qwen3-8b", 3, 3, ", runtime: tensorrt-edge-llm")
    why = {mode.choice.name: offered(setup, mode) for mode in modes_of(setup)}
    assert why[EAGLE3] == (("tensorrt-edge-llm",), "")
    assert why["prompt lookup of 4"] == ((), "runtime tensorrt-edge-llm does not offer lookup")
    assert why["the target alone"] == ((), "")
    npu = placed("sa8775p", "npu", "w4a16", "llama-3.1-8b", 2, 3)
    why_not = offered(npu, next(one for one in modes_of(npu) if one.drafting == "mtp"))[1]
    assert why_not.startswith("no runtime that is described for a NPU of qualcomm offers mtp (")
    assert "tensorrt-edge-llm does, for gpu of nvidia" in why_not


def test_a_runtime_is_offered_on_its_own_vendors_units_alone(tmp_path: Path) -> None:
    """TensorRT and vLLM are not made for an Adreno GPU, nor for a chip that names no vendor."""
    adreno = placed("sa8295p", "gpu", "fp16", "llama-3.2-1b", 2, 3)
    offers = {mode.drafting: offered(adreno, mode)[0] for mode in modes_of(adreno)}
    assert offers["eagle3"] == ("llama-cpp",)
    assert offers["block"] == ()
    jetson = placed("agx-orin-64gb", "gpu", "w4", "llama-3.2-1b", 2, 3)
    eagle3 = next(mode for mode in modes_of(jetson) if mode.drafting == "eagle3")
    assert set(offered(jetson, eagle3)[0]) == {"llama-cpp", "tensorrt-edge-llm", "vllm"}
    nameless = replace(
        jetson, target=replace(jetson.target, chip=jetson.target.chip.model_copy(update={"vendor": None}))
    )
    assert offered(nameless, eagle3)[0] == ("llama-cpp",)
    with pytest.raises(InputError, match="tensorrt-edge-llm runs on gpu of nvidia"):
        placed("sa8295p", "gpu", "fp16", "llama-3.2-1b", 2, 3, ", runtime: tensorrt-edge-llm")


def test_vendors_of_runtimes_are_vendors_of_chips_and_have_a_source() -> None:
    makers = {chip.vendor for chip in described("chip", Chip)}
    for runtime in described("runtime", Runtime):
        assert not runtime.vendors or makers & set(runtime.vendors), "a name that no chip has offers it nowhere"
    with pytest.raises(ValidationError, match="vendors_source"):
        Runtime(name="one", title="One", vendors=("nvidia",))


def test_the_verdict_names_the_fastest_or_says_not_to() -> None:
    setup = placed("sa8775p", "npu", "w4a16", "llama-3.1-8b", 2.25, 3)
    first = next(iter(modes_of(setup)))
    mode = Mode("ssd", first.choice)
    fast, slow = (ModeResult(mode, (), {"speedup": speedup}) for speedup in (1.4, 0.7))
    assert verdict([slow, fast], setup).startswith("Speculate: ")
    assert verdict([slow], setup).startswith("Do not speculate: ")
    assert verdict([ModeResult(mode, (), why="no")], setup) == "Do not speculate: no mode runs on this target."


def test_modes_by_command(tmp_path: Path) -> None:
    table, picture = tmp_path / "modes.csv", tmp_path / "batches.svg"
    arguments = ["-m", "hilsim", "modes", "eagle_8775", "--set", SHORT, "--batch", "1,2,8", "--json"]
    arguments += ["--csv", str(table), "--plot", str(picture)]
    done = run_here(arguments)
    assert done.returncode == 0, done.stderr
    found = document_of("modes --json", done.stdout)
    assert found["verdict"].startswith("Speculate: ")
    by_name = {one["mode"]: one for one in found["modes"]}
    assert by_name["the target alone"]["speedup"] == 1
    assert by_name["MTP, chain of 3"]["why_not"]
    assert len(table.read_text().splitlines()) == len(by_name) + 1
    one, tree = (by_name[name] for name in ("EAGLE, chain of 3", "EAGLE (Eaglet), tree of 31"))
    assert one["speedup_of_1"] == pytest.approx(one["speedup"], rel=0.05)
    assert tree["speedup_of_8"] < tree["speedup_of_2"] < tree["speedup_of_1"], "eight trees are 256 rows"
    assert by_name["the target alone"]["speedup_of_2"] is None
    assert "sequences computed together" in picture.read_text()
    assert run_here(["-m", "hilsim", "modes", "eagle_8775", "--batch", "0"]).returncode == 2
    assert len(list(compare_modes(shipped("eagle_8775", SHORT)))) == len(by_name)
