"""Bytes and operations of shapes beyond the plain decoder, against hand arithmetic and published parameter counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.commands.main import main
from hilsim.cost.counts import (
    active_weights,
    adapter_weights,
    attention_operations,
    body_weights,
    experts_touched,
    head_weights,
    kv_numbers,
    kv_numbers_per_token,
    kv_numbers_read,
    matmul_operations,
    parameters,
    read_weights,
    recurrence_operations,
    state_bytes,
    table_numbers,
    vision_operations,
    vision_weights,
    weights_by_rows,
)
from hilsim.cost.memory import ledgers
from hilsim.cost.network import network_seconds, vision_load
from hilsim.cost.step import Phase, Step, step_costs
from hilsim.cost.timer import Roofline, durations_ns
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.layers import Adapter, Experts, LayerKind, Recurrent
from hilsim.describe.load import load_setup
from hilsim.describe.model import Architecture, Model
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT

HERE = PROJECT / "scenarios" / "x.yaml"
SCENARIO = PROJECT / "scenarios" / "target_on_orin.yaml"


def model(name: str) -> Model:
    return load_named("model", Model, name, HERE)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        # Thousand millions, as their makers publish them: all, and those of a token (tables counted once).
        ("qwen3-30b-a3b", 30.5, 3.3), ("gpt-oss-20b", 20.9, 3.6), ("qwen3.5-35b-a3b", 35, 3),
        ("granite-4.0-h-small", 32, 9),
    ],
)  # fmt: skip
def test_a_mixture_has_the_published_parameters(name: str, total: float, active: float) -> None:
    one = model(name)
    assert parameters(one) / 1e9 == pytest.approx(total, rel=0.02)
    # Published with one decimal or none, so to half of its last digit as well.
    assert (active_weights(one.architecture) + head_weights(one)) / 1e9 == pytest.approx(active, rel=0.02, abs=0.26)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # Of the checkpoints on Hugging Face, with the vision tower where there is one; Gemma's effective parameters
        # (2.3 and 4.5 thousand million) leave out the tables of single layers, those of Qwen3.5 its MTP layer.
        ("qwen3-vl-2b", 2.13), ("qwen3-vl-4b", 4.44), ("qwen3-vl-8b", 8.77), ("qwen2.5-vl-7b", 8.29),
        ("qwen3.5-0.8b", 0.853), ("granite-4.0-micro", 3.40), ("ministral-3-3b", 3.43), ("granite-3.3-2b", 2.53),
    ],
)  # fmt: skip
def test_a_whole_model_has_the_published_parameters(name: str, published: float) -> None:
    assert parameters(model(name)) / 1e9 == pytest.approx(published, rel=0.02)


def test_effective_parameters_of_gemma_leave_out_what_is_looked_up() -> None:
    small = model("gemma-4-e2b")
    looked_up = small.vocabulary.entries * small.architecture.lookup
    assert (parameters(small) - looked_up) / 1e9 == pytest.approx(2.3, rel=0.02)
    assert looked_up == 262144 * 35 * 256


def test_a_layer_of_experts_by_hand() -> None:
    """Qwen3-30B-A3B: 128 experts of 3 x 2048 x 768, of which 8; router 2048 x 128; 32 queries and 4 keys of 128."""
    shape = model("qwen3-30b-a3b").architecture
    attention = 2 * 2048 * 32 * 128 + 2 * 2048 * 4 * 128
    expert, router = 3 * 2048 * 768, 2048 * 128
    assert body_weights(shape) == 48 * (attention + 128 * expert + router)
    assert active_weights(shape) == 48 * (attention + 8 * expert + router)
    touched = 128 * (1 - (1 - 8 / 128) ** 16)
    assert read_weights(shape, 16) == pytest.approx(48 * (attention + touched * expert + router))
    assert matmul_operations(active_weights(shape), 16) == 2 * 16 * active_weights(shape)
    # Of 16 rows each goes through 8 experts: those that are touched have 1.6 rows each on average.
    (shared, all_rows), (experts, few_rows) = weights_by_rows(shape, 16)
    assert (shared, all_rows) == (48 * (attention + router), 16)
    assert experts == pytest.approx(48 * touched * expert)
    assert few_rows == pytest.approx(16 * 8 / touched)


@given(st.integers(2, 256), st.data())
def test_touched_experts_rise_from_the_active_ones_to_all(count: int, data: st.DataObject) -> None:
    experts = Experts(count=count, active=data.draw(st.integers(1, count)), intermediate=1)
    assert experts_touched(experts, 1) == pytest.approx(experts.active)
    found = [experts_touched(experts, rows) for rows in (1, 2, 4, 8, 16, 10_000)]
    assert found == sorted(found)
    assert found[-1] <= count
    assert found[1] <= 2 * experts.active + 1e-9


def test_touched_experts_against_chance() -> None:
    """16 rows, each through 8 of 128 at random, 2,000 times: the mean within four standard errors."""
    chance = np.random.default_rng(7)
    seen = np.array(
        [len({e for _ in range(16) for e in chance.choice(128, 8, replace=False).tolist()}) for _ in range(2000)]
    )
    expected = experts_touched(Experts(count=128, active=8, intermediate=1), 16)
    assert abs(seen.mean() - expected) < 4 * seen.std() / len(seen) ** 0.5


def test_a_hybrid_by_hand() -> None:
    """Qwen3.5-4B: 24 layers of Gated DeltaNet, 8 of attention with a gate as wide as its queries."""
    shape = model("qwen3.5-4b").architecture
    keys, values = 16 * 128, 32 * 128
    linear = 2560 * (2 * keys + 2 * values + 2 * 32) + values * 2560
    attention = 3 * 2560 * 16 * 256 + 2 * 2560 * 4 * 256
    assert body_weights(shape) == 24 * linear + 8 * attention + 32 * 3 * 2560 * 9216
    assert kv_numbers_per_token(shape) == 2 * 8 * 4 * 256
    # Of each linear layer 32 matrices of 128 x 128 in fp32, and three rows before a convolution in 16 bits.
    assert state_bytes(shape) == 24 * (32 * 128 * 128 * 4 + 3 * (2 * keys + values) * 2)
    attended = 4 * 8 * 16 * 256 * 3 * 100
    assert attention_operations(shape, rows=3, context=100) == attended
    assert recurrence_operations(shape, rows=3) == 6 * 24 * 32 * 128 * 128 * 3


def test_mamba_2_by_hand() -> None:
    """Granite 4.0 H Small: 128 heads of 64, a state of 128, B and C of one group; 36 of 40 layers."""
    shape = model("granite-4.0-h-small").architecture
    kind = shape.layer_kinds[0]
    inner, state = 128 * 64, 128
    mixer = 4096 * (2 * inner + 2 * state + 128) + inner * 4096  # z, x, B, C, dt; and back
    experts = 72 * 3 * 4096 * 768 + 4096 * 72 + 3 * 4096 * 1536
    attention = 2 * 4096 * 32 * 128 + 2 * 4096 * 8 * 128
    assert kind.layers == 36
    assert body_weights(shape) == 36 * (mixer + experts) + 4 * (attention + experts)
    assert state_bytes(shape) == 36 * (128 * 64 * state * 4 + 3 * (inner + 2 * state) * 2)


def test_a_window_bounds_cache_and_attention() -> None:
    shape = model("gpt-oss-20b").architecture
    a_layer = 2 * 8 * 64
    assert kv_numbers(shape, 100) == 24 * a_layer * 100 == 100 * kv_numbers_per_token(shape)
    assert kv_numbers(shape, 4096) == 12 * a_layer * (128 + 4096)
    assert attention_operations(shape, 1, 4096) == 4 * 12 * 64 * 64 * (128 + 4096)


def test_a_layer_that_reads_another_s_cache_holds_none() -> None:
    shape = model("gemma-4-e2b").architecture
    sliding, full = 2 * 256, 2 * 512
    assert kv_numbers(shape, 2048) == 12 * sliding * 512 + 3 * full * 2048
    assert kv_numbers_read(shape, 2048) == 28 * sliding * 512 + 7 * full * 2048


def test_a_vision_tower_by_hand() -> None:
    """Qwen3-VL-4B: 24 layers of 1024, 256 tokens of 4 patches of 16 x 16 x 3 x 2; four mergers 4096 -> 4096 -> 2560."""
    one = model("qwen3-vl-4b")
    layers = 24 * (4 * 1024**2 + 2 * 1024 * 4096)
    others = 3 * 2 * 16 * 16 * 1024 + 4 * (4096 * 4096 + 4096 * 2560)
    assert vision_weights(one) == layers + others
    patches = 4 * 256
    assert vision_operations(one, 256) == 2 * (layers * patches + others * 256) + 4 * 24 * 1024 * patches**2
    assert vision_operations(model("qwen3-4b"), 256) == vision_weights(model("qwen3-4b")) == 0


def test_an_adapter_by_hand() -> None:
    """Rank 16 on the seven matrices of Qwen3-4B's 36 layers: rank x (rows + columns) each."""
    plain = model("qwen3-4b")
    assert adapter_weights(plain) == 0
    tuned = plain.model_copy(update={"adapter": Adapter(rank=16)})
    h, q, kv, ff = 2560, 32 * 128, 8 * 128, 9728
    assert adapter_weights(tuned) == 36 * 16 * (2 * (h + q) + 2 * (h + kv) + 3 * (h + ff))


def test_a_trimmed_head_is_a_table_of_its_own() -> None:
    plain = model("llama-3.2-1b")
    trimmed = plain.model_copy(update={"head_entries": 32_000})
    assert head_weights(trimmed) == 2048 * 32_000
    assert table_numbers(trimmed) == head_weights(plain) == 2048 * 128_256
    assert parameters(trimmed) == parameters(plain) + head_weights(trimmed)


def test_what_a_pass_of_experts_reads_is_what_it_costs() -> None:
    unit = load_chip("agx-orin-64gb", HERE).units["gpu"]
    precision, one = unit.precisions["w4"], model("qwen3-30b-a3b")
    for rows, sequences in ((1, 1), (4, 1), (1, 8), (16, 1)):
        (cost,) = step_costs(one, unit, precision, Step(Phase.VERIFY, rows, 100, sequences), None, 2048)
        read = read_weights(one.architecture, rows * sequences) * precision.weight_bits.si
        whole = (read + head_weights(one) * precision.head_bits.si) / 8
        assert cost.weights_s * precision.memory_rate.si == pytest.approx(whole)


def test_the_state_of_a_hybrid_is_read_and_written_whatever_the_cache_holds() -> None:
    unit = load_chip("agx-orin-64gb", HERE).units["gpu"]
    precision, one = unit.precisions["w4"], model("qwen3.5-4b")
    costs = [step_costs(one, unit, precision, Step(Phase.DECODE, 1, cached), None, 2048)[0] for cached in (0, 1000)]
    state = 2 * state_bytes(one.architecture) / precision.memory_rate.si
    per_token = kv_numbers_per_token(one.architecture) * 2 / precision.memory_rate.si
    assert costs[0].kv_s == pytest.approx(state + per_token)
    assert costs[1].kv_s == pytest.approx(state + 1001 * per_token)


def test_many_fills_at_once_are_each_alone_with_windows_and_states() -> None:
    unit = load_chip("agx-orin-64gb", HERE).units["gpu"]
    fills = np.array([0, 100, 127, 128, 129, 2000, 4000])
    for name in ("gpt-oss-20b", "qwen3.5-4b", "gemma-4-e2b"):
        timer = Roofline(model(name), unit, "w4", None, 8192)
        alone = [timer.duration_ns(Step(Phase.VERIFY, 4, int(fill))) for fill in fills]
        assert durations_ns(timer, Phase.VERIFY, 4, fills).tolist() == alone


def test_the_tower_is_a_network_and_its_tokens_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    unit = load_chip("agx-thor", HERE).units["gpu"]
    one = model("qwen3-vl-4b")
    load = vision_load(one, 265)
    assert load.gmacs == pytest.approx(vision_operations(one, 265) / 2e9)
    # Measured 11.7 ms (Thor) and 39.3 ms (Orin) for 265 tokens, TensorRT Edge-LLM 0.9.0; nothing was fitted to it.
    orin = load_chip("agx-orin-64gb", HERE).units["gpu"]
    assert 1000 * network_seconds(load, orin, orin.precisions["fp16"]) == pytest.approx(39.3, rel=0.35)
    assert 1000 * network_seconds(load, unit, unit.precisions["fp16"]) == pytest.approx(11.7, rel=0.5)
    with pytest.raises(ValueError, match="no vision tower"):
        vision_load(model("qwen3-4b"), 265)
    assert main(["chip", "agx-thor", "--model", "qwen3-vl-4b"]) == 0
    assert "image of 256 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "rate", "cached", "sequences"),
    [
        # Jetson AGX Orin 64 GB, INT4, TensorRT Edge-LLM 0.9.0: none of these rows is in a fit.
        ("qwen3-30b-a3b", 56.7, 61, 1), ("qwen3-30b-a3b", 163.3, 55, 8), ("qwen3.5-2b", 82.0, 62, 1),
        ("qwen3.5-4b", 45.7, 62, 1), ("qwen3-vl-4b", 52.4, 292, 1), ("qwen3-vl-8b", 32.3, 292, 1),
    ],
)  # fmt: skip
def test_published_rates_of_shapes_that_no_fit_has_seen(name: str, rate: float, cached: int, sequences: int) -> None:
    unit = load_chip("agx-orin-64gb", HERE).units["gpu"]
    timer = Roofline(model(name), unit, "w4", None, 4096)
    took = timer.duration_ns(Step(Phase.DECODE, 1, cached, sequences))
    assert sequences * 1e9 / took == pytest.approx(rate, rel=0.2)


def test_memory_holds_all_experts_towers_states_and_adapters(tmp_path: Path) -> None:
    text = (PROJECT / "models" / "qwen3-vl-4b.yaml").read_text().replace("name: qwen3-vl-4b", "name: mine")
    (tmp_path / "mine.yaml").write_text(text + "adapter: {rank: 16, loaded: 3}\n")
    names = {"mine": str(tmp_path / "mine.yaml"), "qwen3-30b-a3b": "qwen3-30b-a3b", "qwen3.5-4b": "qwen3.5-4b"}
    found = {}
    for name, path in names.items():
        alone = [
            "draft=null",
            "link=null",
            "policy={name: target_only}",
            "application=agx-thor",
            "target.unit=gpu",
            "target.precision=w4",
        ]
        setup = load_setup(SCENARIO, [f"target.model={path}", "target.chip=agx-thor", *alone])
        (ledger,) = ledgers(setup).values()
        found[name] = {item.what.partition(": ")[2]: item.bytes for item in ledger.items}
    tuned = model("qwen3-vl-4b").model_copy(update={"adapter": Adapter(rank=16)})
    assert found["mine"]["vision tower, 16-bit"] == 2 * vision_weights(tuned)
    assert found["mine"]["3 adapters of rank 16, 16-bit"] == 3 * 2 * adapter_weights(tuned)
    (layers,) = [size for what, size in found["qwen3-30b-a3b"].items() if what.startswith("layers")]
    assert layers == round(body_weights(model("qwen3-30b-a3b").architecture) * 4.25 / 8)
    (cache,) = [size for what, size in found["qwen3.5-4b"].items() if what.startswith("KV cache")]
    shape = model("qwen3.5-4b").architecture
    assert cache == 2 * kv_numbers_per_token(shape) * setup.scenario.context_tokens + state_bytes(shape)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"kinds": (LayerKind(layers=3),)}, "kinds of 3 layers"),
        ({"kinds": (LayerKind(layers=16, window=8), LayerKind(layers=1))}, "kinds of 17 layers"),
    ],
)
def test_kinds_are_as_many_layers_as_there_are(change: dict[str, object], found: str) -> None:
    shape = model("llama-3.2-1b").architecture.model_dump()
    with pytest.raises(ValueError, match=found):
        Architecture.model_validate({**shape, **change})


def test_impossible_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="9 active experts of 8"):
        Experts(count=8, active=9, intermediate=1)
    with pytest.raises(ValueError, match="one kind of memory"):
        LayerKind(layers=1, window=5, recurrent=Recurrent(key_heads=1, key_dim=1, value_heads=1, value_dim=1))
    with pytest.raises(ValueError, match="at most the vocabulary"):
        Model.model_validate(model("llama-3.2-1b").model_dump() | {"head_entries": 10**6})


def test_a_mistake_in_a_model_s_file_names_its_place(tmp_path: Path) -> None:
    text = (PROJECT / "models" / "qwen3-30b-a3b.yaml").read_text()
    file = tmp_path / "qwen3-30b-a3b.yaml"
    file.write_text(text.replace("active: 8", "activ: 8"))
    with pytest.raises(InputError) as refused:
        load_named("model", Model, str(file), HERE)
    assert "architecture.kinds[0].experts" in str(refused.value)
