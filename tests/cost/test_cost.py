"""Costs against measured anchors and paper arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hilsim.cost.counts import attention_operations, body_weights, head_weights, kv_numbers_per_token
from hilsim.cost.memory import graph_copies, kv_bytes, ledgers, weight_bytes
from hilsim.cost.payload import answer_bytes, draft_bytes, prompt_bytes, verdict_bytes
from hilsim.cost.step import Phase, Step, passes
from hilsim.cost.timer import Roofline
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import load_chip, load_record
from hilsim.describe.chip import Chip
from hilsim.describe.decoding import FullRows, OneHot, Sampling, Scalar, TokenIds, TopKRows
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.places import CODE as PROJECT
from tests.scenes import shipped


def chip(name: str) -> Chip:
    return load_chip(name, PROJECT / "scenarios" / "x.yaml")


def family_file(name: str) -> Any:
    """What a family's file says, as plain data: hilsim's own reading of it has no part in the arithmetic."""
    return yaml.safe_load((PROJECT / "chips" / "families" / f"{name}.yaml").read_text(encoding="utf-8"))


def model(name: str) -> Model:
    return load_record(Model, PROJECT / "models" / f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "body", "head"),
    # Millions of matrix weights by the published configurations, counted independently of this code.
    [
        ("llama-3.2-1b", 973, 263),
        ("llama-3.2-3b", 2819, 394),
        ("llama-3.1-8b", 6979, 525),
        ("qwen3-0.6b", 440, 156),
        ("qwen3-1.7b", 1409, 311),
        ("qwen3-4b", 3633, 389),
        ("qwen3-8b", 6946, 622),
    ],
)
def test_weight_counts(name: str, body: int, head: int) -> None:
    assert round(body_weights(model(name).architecture) / 1e6) == body
    assert round(head_weights(model(name)) / 1e6) == head


def test_counts_by_hand() -> None:
    shape = model("llama-3.2-1b").architecture
    assert kv_numbers_per_token(shape) == 2 * 16 * 8 * 64
    assert attention_operations(shape, rows=3, context=100) == 4 * 16 * 32 * 64 * 3 * 100


def sa8295p(name: str, context: int) -> Roofline:
    npu = chip("sa8295p").units["npu"]
    assert npu.widths is not None
    return Roofline(model(name), npu, "w4", npu.widths.value, context)


@pytest.mark.parametrize(
    ("name", "context", "tokens_per_s", "prompt_ms"),
    [("llama-3.2-1b", 4096, 11.0, 225.0), ("llama-3.2-3b", 1024, 3.523, 373.117)],
)
def test_sa8295p_anchors_within_15_percent(name: str, context: int, tokens_per_s: float, prompt_ms: float) -> None:
    timer = sa8295p(name, context)
    decode = 1e9 / timer.duration_ns(Step(Phase.DECODE, 1, 100))
    prompt = timer.duration_ns(Step(Phase.PREFILL, 128, 0)) / 1e6
    assert decode == pytest.approx(tokens_per_s, rel=0.15)
    assert prompt == pytest.approx(prompt_ms, rel=0.15)


@pytest.mark.parametrize(("name", "tokens_per_s"), [("qwen3-1.7b", 99.8), ("qwen3-8b", 32.2)])
def test_agx_orin_anchors_within_15_percent(name: str, tokens_per_s: float) -> None:
    timer = Roofline(model(name), chip("agx-orin-64gb").units["gpu"], "w4", None, 4096)
    assert 1e9 / timer.duration_ns(Step(Phase.DECODE, 1, 64)) == pytest.approx(tokens_per_s, rel=0.15)


def test_bytes_over_bandwidth_would_be_wrong_by_five_times_on_the_sa8295p() -> None:
    """The negative control of the weight rate: a plain roofline with a phone's 65 % of peak."""
    target = model("llama-3.2-3b")
    naive = (body_weights(target.architecture) * 0.5 + head_weights(target)) / (0.65 * 67e9)
    assert sa8295p("llama-3.2-3b", 1024).duration_ns(Step(Phase.DECODE, 1, 100)) / 1e9 > 5 * naive


def test_a_step_is_its_parts() -> None:
    """Llama-3.2-3B on 30 TOPS: 2,818,572,288 weights in 28 layers and 394,002,432 in the head; caches 2 x 8 x 128."""
    family, tops = family_file("hexagon-v68"), 30.0
    w4 = family["precisions"]["w4"]
    weights_per_s = w4["weights"]["value"] / 1000 * tops * 1e12
    cached_bytes_per_s = w4["cache"]["value"] / 1000 * tops * 1e12
    (cost,) = sa8295p("llama-3.2-3b", 1024).costs(Step(Phase.DECODE, 1, 0))
    # Three graphs of the chip's own 0.33 ms (two of layers, one of the head), and the family's work beside them.
    assert cost.fixed_s == pytest.approx(3 * 0.33e-3 + family["step_overhead"]["value"] / 1000 / tops)
    assert cost.weights_s == pytest.approx((2818572288 + 394002432) / weights_per_s)
    assert cost.kv_s == pytest.approx(2 * 28 * 8 * 128 * 1024 * 2 / cached_bytes_per_s)
    assert cost.seconds == pytest.approx(cost.fixed_s + cost.weights_s + cost.kv_s)
    assert cost.bound == "weights"


def test_a_verify_is_flat_up_to_its_width_and_then_a_staircase() -> None:
    timer = sa8295p("llama-3.2-3b", 1024)
    times = [timer.duration_ns(Step(Phase.VERIFY, rows, 50)) for rows in range(1, 20)]
    assert len(set(times[1:8])) == 1  # 2 to 8 rows run the graph of width 8
    assert len(set(times[8:])) == 1  # 9 and more the one of width 128
    assert times[8] > times[7] >= times[0]


def test_on_a_gpu_every_row_more_costs_no_less() -> None:
    timer = Roofline(model("qwen3-8b"), chip("agx-orin-64gb").units["gpu"], "w4", None, 4096)
    times = [timer.duration_ns(Step(Phase.VERIFY, rows, 50)) for rows in range(1, 129)]
    assert times == sorted(times)
    narrow = family_file("orin-gpu")["narrow_rows"]["value"]
    assert times[narrow - 1] < 1.05 * times[0]  # narrow verifies hide behind the weights
    assert times[narrow] > 1.4 * times[narrow - 1]  # one row more takes matrix kernels, of a whole tile
    assert times[60] > 1.8 * times[0]  # about 60 rows do not hide (measured: 2.4 times)


@given(st.integers(1, 2000), st.sets(st.integers(1, 256), min_size=1, max_size=5))
def test_passes_cover_every_row_once_and_waste_little(rows: int, widths: set[int]) -> None:
    ladder = tuple(sorted(widths))
    split = passes(rows, ladder)
    assert sum(used for used, _ in split) == rows
    assert all(used <= width and width in widths for used, width in split)
    assert all(used == width for used, width in split[:-1])
    used, width = split[-1]
    assert not [other for other in ladder if used <= other < width]


def test_payload_bytes() -> None:
    assert draft_bytes(TokenIds(), 5, 128256) == draft_bytes(OneHot(), 5, 128256) == 16 + 5 * 4
    assert draft_bytes(FullRows(), 1, 128256) - draft_bytes(TokenIds(), 1, 128256) == 250.5 * 1024
    assert draft_bytes(FullRows(format="counts8"), 2, 1000) == 16 + 2 * (4 + 1000)
    assert draft_bytes(FullRows(format="fp32"), 2, 1000) == 16 + 2 * (4 + 4000 + 8)
    assert draft_bytes(TopKRows(k=64), 5, 128256) == 16 + 5 * (4 + 64 * 6)
    assert draft_bytes(TopKRows(k=64), 5, 10) == 16 + 5 * (4 + 10 * 6)
    assert draft_bytes(Scalar(), 5, 128256) == 16 + 5 * (4 + 2 + 8)
    assert draft_bytes(FullRows(), 5, 128256, "draft") == 36
    assert prompt_bytes(10) == 56
    assert verdict_bytes() == 24


def test_what_comes_back_depends_on_the_verdict() -> None:
    cold, warm = Sampling(), Sampling(temperature=0.7, top_k=40)
    assert answer_bytes(TokenIds(), cold, "target", 5, 2, 6, 1000) == verdict_bytes()
    assert answer_bytes(Scalar(), warm, "target", 5, 5, 6, 1000) == verdict_bytes()
    assert answer_bytes(Scalar(), warm, "target", 5, 4, 6, 1000) == verdict_bytes() + 2000
    assert answer_bytes(Scalar(down="support"), warm, "target", 5, 4, 6, 1000) == verdict_bytes() + 40 * 6
    assert answer_bytes(FullRows(), warm, "draft", 5, 4, 6, 1000) == 16 + 6 * 2000
    assert answer_bytes(TopKRows(k=40), warm, "draft", 5, 4, 6, 1000) == 16 + 6 * 240


def test_the_ledger_by_hand() -> None:
    setup = shipped("orin_8295_greedy")
    weights = weight_bytes(setup.target)
    assert weights == pytest.approx(2818.6e6 / 2 + 394e6, rel=1e-3)
    assert graph_copies(setup.target) == 3  # widths 1, 8, 128, and nothing is shared on v68
    assert kv_bytes(setup.target, 1024) == 2 * 28 * 8 * 128 * 1024 * 2
    found = {item.what: item.bytes for item in ledgers(setup)["sa8295p"].items}
    assert sum(size for what, size in found.items() if "layers" in what or "head" in what) == 3 * weights
    shared = shipped("orin_8295_greedy", "target.widths=[1]")
    assert ledgers(setup)["sa8295p"].used_bytes - ledgers(shared)["sa8295p"].used_bytes > 2 * weights


def test_more_sessions_need_more_cache() -> None:
    one, three = ledgers(shipped("orin_8295_greedy")), ledgers(shipped("orin_8295_greedy", "workload.talkers=3"))
    for name in one:
        assert three[name].used_bytes > one[name].used_bytes


def test_a_target_that_does_not_fit_is_refused_with_remedies_that_work() -> None:
    file = PROJECT / "scenarios" / "target_on_orin.yaml"
    verdict = check(load_setup(file))
    assert not verdict.fits
    text = str(verdict)
    for expected in ("drive-orin-x", "GiB", "x of the cap", "KV cache", "--set "):
        assert expected in text
    assert verdict.remedies
    for remedy in verdict.remedies:
        assert check(load_setup(file, remedy.changes)).fits


@pytest.mark.parametrize("file", sorted((PROJECT / "scenarios").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_but_the_refused_one_fits(file: Path) -> None:
    assert check(load_setup(file)).fits == (file.stem != "target_on_orin")
