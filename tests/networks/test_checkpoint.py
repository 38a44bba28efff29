"""Checkpoint folders: what `transformers` writes hilsim computes alike, and what is broken it names."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from hilsim.errors import CheckpointError, InputError
from hilsim.networks.config import NetworkConfig, load_config, parse_config
from hilsim.networks.network import KVCache, Network, load_network, save_network
from hilsim.networks.rope import RopeScaling
from hilsim.places import CODE as PROJECT
from hilsim.training.fitting import initialise, round_to_half

CLOSE = {"rtol": 0.0, "atol": 1e-4}  # float32, logits of order one
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


class Case(NamedTuple):
    """A config of transformers, and what of it must have arrived in hilsim's."""

    theirs: type[PreTrainedConfig]
    fields: dict[str, Any]
    ours: dict[str, Any]


CASES = {
    "llama full heads": Case(LlamaConfig, {"num_key_value_heads": 4}, {"kv_heads": 4}),
    "llama grouped heads": Case(LlamaConfig, {}, {"kv_heads": 2, "tied": False}),
    "llama one key head": Case(LlamaConfig, {"num_key_value_heads": 1}, {"kv_heads": 1}),
    "llama tied": Case(LlamaConfig, {"tie_word_embeddings": True}, {"tied": True}),
    "llama head_dim": Case(LlamaConfig, {"head_dim": 20}, {"head_dim": 20}),
    "llama eps": Case(LlamaConfig, {"rms_norm_eps": 0.1}, {"rms_eps": 0.1}),
    "llama attention bias": Case(LlamaConfig, {"attention_bias": True}, {"qkv_bias": True, "output_bias": True}),
    "llama mlp bias": Case(LlamaConfig, {"mlp_bias": True}, {"mlp_bias": True}),
    "llama theta": Case(LlamaConfig, {"rope_parameters": {"rope_theta": 500.0}}, {"rope_theta": 500.0}),
    "llama linear": Case(LlamaConfig, {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, {}),
    "llama dynamic": Case(LlamaConfig, {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, {}),
    "llama llama3": Case(LlamaConfig, {"rope_parameters": LLAMA3}, {}),
    "llama yarn": Case(LlamaConfig, {"rope_parameters": YARN}, {}),
    "llama yarn spelt out": Case(
        LlamaConfig,
        {"rope_parameters": {**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 0.8, "truncate": False}},
        {},
    ),
    "llama yarn mscale": Case(
        LlamaConfig, {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}, "head_dim": 32}, {}
    ),
    "mistral no window": Case(MistralConfig, {"sliding_window": None}, {"windows": None}),
    "mistral window": Case(MistralConfig, {"sliding_window": 7}, {"windows": (7, 7, 7)}),
    "qwen2": Case(Qwen2Config, {}, {"qkv_bias": True, "output_bias": False, "windows": None}),
    "qwen2 windows": Case(
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
        {"windows": (None, 7, 7)},
    ),
    "qwen2 layer types": Case(
        Qwen2Config,
        {
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        {"windows": (5, None, 5)},
    ),
    "qwen3": Case(Qwen3Config, {"head_dim": 16}, {"qk_norm": True, "head_dim": 16}),
    "qwen3 bias, window, tied": Case(
        Qwen3Config,
        {
            "head_dim": 16,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 2,
        },
        {"qkv_bias": True, "output_bias": True, "tied": True, "windows": (None, None, 6)},
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def write_theirs(case: Case, folder: Path, dtype: torch.dtype = torch.float32, **saving: Any) -> Tensor:
    """Write a checkpoint with every number at random; return transformers' logits for `told()`."""
    sizes = {
        "vocab_size": 61,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    model = AutoModelForCausalLM.from_config(case.theirs(**{**sizes, **case.fields})).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            # transformers starts biases at 0 and norms at 1; the noise makes a dropped one show.
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator).to(dtype)
    model.save_pretrained(folder, **saving)
    return their_logits(folder)


@torch.inference_mode()
def their_logits(folder: Path) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model(told()).logits


def told() -> Tensor:
    """Two rows of 48 tokens: longer than every window and every original length of the cases but yarn's."""
    return torch.randint(61, (2, 48), generator=torch.Generator().manual_seed(4))


@torch.inference_mode()
def check_equal(folder: Path, expected: Tensor) -> None:
    """Logits with and without a cache are those expected."""
    network = load_network(folder)
    torch.testing.assert_close(network(told()), expected, **CLOSE)
    cache = KVCache(network.config, 48, batch=2)
    rows = [network(part, cache) for part in told().split((29, 10, 1, 1, 7), dim=1)]
    torch.testing.assert_close(torch.cat(rows, 1), expected, **CLOSE)


@every_case
def test_logits_equal_those_of_transformers(case: Case, tmp_path: Path) -> None:
    expected = write_theirs(case, tmp_path)
    assert expected.std() > 0.3  # else 1e-4 would say little
    check_equal(tmp_path, expected)
    config = load_config(tmp_path)
    assert {name: getattr(config, name) for name in case.ours} == case.ours


@every_case
def test_both_spellings_of_a_config_mean_the_same(case: Case, tmp_path: Path) -> None:
    """transformers 4 kept `rope_theta` and `rope_scaling` at the top level and knew no `layer_types`."""
    case.theirs(**{"num_hidden_layers": 3, **case.fields}).save_pretrained(tmp_path)
    new = load_config(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    rope = document.pop("rope_parameters")
    document["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    document["rope_scaling"] = {**rope, "type" if kind == "linear" else "rope_type": kind} if rope else None
    if "layer_types" not in case.fields:
        document.pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert load_config(tmp_path) == new
    assert new.rope_scaling is None or new.rope_scaling.factor == rope["factor"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_stored_in_other_floats_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    expected = write_theirs(CASES["llama grouped heads"], tmp_path, dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    check_equal(tmp_path, expected)


PLAIN_FOLDERS = {
    "float16": (CASES["qwen3 bias, window, tied"], torch.float16, {}),
    "bfloat16": (CASES["llama llama3"], torch.bfloat16, {}),
    "float32, in shards": (CASES["qwen2"], torch.float32, {"max_shard_size": "60KB"}),
    "float64": (CASES["llama yarn"], torch.float64, {}),
}
WITHOUT_PYTORCH = """
import json, sys
sys.modules["torch"] = None  # importing it raises ImportError
from pathlib import Path
from hilsim.networks.checkpoint import load_weights
from hilsim.networks.decoder import Decoder
tokens = json.loads(sys.argv[1])
for folder in sys.argv[2:]:
    for cache in (None, "fp16", "fp8", "int8", "int4"):
        rows = Decoder(load_weights(Path(folder), cache=cache), len(tokens)).feed(tokens, len(tokens))
        print(json.dumps([row.tolist() for row in rows]))
"""


def without_pytorch(*folders: Path) -> subprocess.CompletedProcess[str]:
    arguments = [json.dumps(told()[0].tolist()), *map(str, folders)]
    code = [sys.executable, "-c", WITHOUT_PYTORCH, *arguments]
    return subprocess.run(code, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_folders_of_floats_are_read_and_decoded_without_pytorch(tmp_path: Path) -> None:
    expected = {name: write_theirs(case, tmp_path / name, dtype, **how)
                for name, (case, dtype, how) in PLAIN_FOLDERS.items()}  # fmt: skip
    done = without_pytorch(*(tmp_path / name for name in PLAIN_FOLDERS))
    assert done.returncode == 0, done.stderr
    rows = [torch.tensor(json.loads(line)) for line in done.stdout.splitlines()]
    for name, found in zip(PLAIN_FOLDERS, rows[::5], strict=True):
        torch.testing.assert_close(found, expected[name][0], **CLOSE)


def test_a_quantised_folder_needs_pytorch(tmp_path: Path) -> None:
    """The control of the test above."""
    write_theirs(CASES["llama full heads"], tmp_path)
    edit_config(quantization_config={"quant_method": "fp8"})(tmp_path)
    done = without_pytorch(tmp_path)
    assert done.returncode != 0
    assert "import of torch halted" in done.stderr


def test_shards_are_put_together(tmp_path: Path) -> None:
    expected = write_theirs(CASES["qwen2"], tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    check_equal(tmp_path, expected)


@pytest.mark.parametrize(
    ("stored", "words"),
    [(1 / 10_000 ** (torch.arange(6) / 6), "all of them equal those"), (torch.ones(6), "1 of them differ from those")],
    ids=["its own", "others"],
)
def test_stored_rotary_frequencies_of_older_exports_are_passed_over_and_named(
    stored: Tensor, words: str, tmp_path: Path
) -> None:
    expected = write_theirs(CASES["llama full heads"], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = stored.half()
    save_file(tensors, tmp_path / "model.safetensors")
    check_equal(tmp_path, expected)
    (note,) = load_network(tmp_path).notes
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in note
    assert words in note


def tied_folder(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Tensor:
    """A tied checkpoint whose tensors are changed; transformers' logits of it."""
    write_theirs(CASES["llama tied"], folder)
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return their_logits(folder)


def test_a_head_of_its_own_counts_though_the_config_ties_it(tmp_path: Path) -> None:
    own = torch.randn(61, 48, generator=torch.Generator().manual_seed(9))
    check_equal(tmp_path, tied_folder(tmp_path, lambda tensors: {**tensors, "lm_head.weight": own}))
    network = load_network(tmp_path)
    assert not network.config.tied
    assert "lm_head.weight differs from model.embed_tokens.weight" in network.notes[0]


def test_a_head_that_equals_the_embedding_or_stands_for_it_is_tied(tmp_path: Path) -> None:
    def doubled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}

    def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lm_head.weight": tensors.pop("model.embed_tokens.weight"), **tensors}

    for name, change in {"doubled": doubled, "renamed": renamed}.items():
        check_equal(tmp_path / name, tied_folder(tmp_path / name, change))
        network = load_network(tmp_path / name)
        assert network.config.tied
        assert len(network.notes) == (name == "renamed")


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_bare_config_takes_transformers_own_defaults(family: str, tmp_path: Path) -> None:
    """Early folders name no key heads, no positions, no epsilon, no activation; some have a length of another name."""
    document = {
        "model_type": family,
        "vocab_size": 61,
        "hidden_size": 128,
        "intermediate_size": 80,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "max_sequence_length": 77,
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    theirs, ours = AutoConfig.from_pretrained(tmp_path), load_config(tmp_path)
    found = (ours.kv_heads, ours.max_positions, ours.rms_eps, ours.rope_theta, ours.tied)
    theta = theirs.rope_parameters["rope_theta"]
    heads = theirs.num_key_value_heads
    expected = (heads, theirs.max_position_embeddings, theirs.rms_norm_eps, theta, theirs.tie_word_embeddings)
    assert found == expected
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 4)
    AutoModelForCausalLM.from_config(theirs).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(document))
    notes = load_network(tmp_path).notes
    assert f"has no max_position_embeddings: {ours.max_positions}, as transformers (max_sequence_length 77" in notes[0]
    check_equal(tmp_path, their_logits(tmp_path))


OURS = NetworkConfig(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    max_positions=64,
)


def write_ours(folder: Path, config: NetworkConfig = OURS) -> Network:
    network = Network(config).eval().requires_grad_(False)
    initialise(network, 5)
    for parameter in network.parameters():
        parameter.mul_(4.0)  # logits of order one
    round_to_half(network)
    save_network(network, folder, end_token=2, begin_token=1, pad_token=0)
    return network


@pytest.mark.parametrize("tied", [False, True])
def test_what_hilsim_saves_transformers_and_hilsim_load_unchanged(tied: bool, tmp_path: Path) -> None:
    network = write_ours(tmp_path, replace(OURS, tied=tied))
    expected = network(told())
    torch.testing.assert_close(their_logits(tmp_path), expected, **CLOSE)
    model, loading = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert model.dtype == torch.float32
    assert not any(loading.values())
    again = load_network(tmp_path)
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(again(told()), expected, **CLOSE)


def test_a_network_that_config_json_could_not_tell_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="plain Llama"):
        save_network(Network(replace(OURS, windows=(4, 4))), tmp_path, end_token=2, begin_token=1, pad_token=0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    write_ours(folder)
    return folder


def edit_config(**changes: Any) -> Callable[[Path], None]:
    """Change `config.json`; an ellipsis takes the key away."""

    def edit(folder: Path) -> None:
        document = {**json.loads((folder / "config.json").read_text()), **changes}
        kept = {name: value for name, value in document.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(kept))

    return edit


def edit_tensors(**changes: Tensor | None) -> Callable[[Path], None]:
    """Change tensors whose dotted names are written with `__`; None takes one away."""

    def edit(folder: Path) -> None:
        tensors: dict[str, Tensor | None] = dict(load_file(folder / "model.safetensors"))
        tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
        save_file(
            {name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors"
        )

    return edit


def write(name: str, content: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_text(content)

    return edit


def truncate(length: Callable[[int], int]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: length(len(data))])

    return edit


def pickle_as(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save({"model.norm.weight": torch.ones(32)}, folder / name)

    return edit


def shard(text: str) -> Callable[[Path], None]:
    """Turn the one file into a shard, with `text` for its index."""

    def edit(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(text)

    return edit


def twice_sharded(folder: Path, home: str = "model-1.safetensors", *, drop: bool = False) -> None:
    """Two shards that both have one tensor (or one of them has), which the index says to be in `home`."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    norm = {"model.norm.weight": tensors.pop("model.norm.weight")}
    save_file(norm | dict(list(tensors.items())[:9]), folder / "model-1.safetensors")
    save_file(({} if drop else norm) | dict(list(tensors.items())[9:]), folder / "model-2.safetensors")
    places = {name: "model-1.safetensors" if at < 9 else "model-2.safetensors" for at, name in enumerate(tensors)}
    index = {"weight_map": {**places, "model.norm.weight": home}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


BROKEN: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no folder": (shutil.rmtree, ["no such folder", "a checkpoint folder with config.json"]),
    "no config": (lambda folder: (folder / "config.json").unlink(), ["config.json", "no such file"]),
    "config is no text": (
        lambda folder: (folder / "config.json").write_bytes(b"{\xff}"),
        ["config.json: byte 1", "UTF-8"],
    ),
    "config is no JSON": (write("config.json", '{\n  "vocab_size": ,\n}'), ["config.json: line 2", "a JSON document"]),
    "config is empty": (write("config.json", ""), ["config.json: line 1", "a JSON document"]),
    "config is a list": (write("config.json", "[1, 2]"), ["a JSON list", "a JSON object"]),
    "config is nested without end": (write("config.json", "[" * 200_000), ["config.json", "a JSON document"]),
    "config has endless digits": (
        write("config.json", '{"a": ' + "9" * 5000 + "}"),
        ["config.json", "a JSON document"],
    ),
    "sizes missing and wrong": (
        edit_config(vocab_size=..., hidden_size=-32, num_attention_heads="4", num_hidden_layers=True, head_dim=1.5),
        [
            "config.json: vocab_size: found None; expected a whole number from 1",
            "config.json: hidden_size: found -32",
            "config.json: num_attention_heads: found '4'",
            "config.json: num_hidden_layers: found True",
            "config.json: head_dim: found 1.5",
        ],
    ),
    "absurd sizes": (
        edit_config(num_hidden_layers=10**9, max_position_embeddings=10**12),
        ["num_hidden_layers: found 1000000000", "max_position_embeddings: found 1000000000000"],
    ),
    "wrong numbers": (
        edit_config(rms_norm_eps="small", rope_theta=-1.0, tie_word_embeddings="no"),
        ["rms_norm_eps: found 'small'", "rope_theta: found -1.0", "tie_word_embeddings: found 'no'"],
    ),
    "an infinite number": (edit_config(rope_theta=math.inf), ["rope_theta: found inf", "a positive number"]),
    "unknown family": (
        edit_config(model_type="gpt2"),
        ["model_type: found 'gpt2'; expected one of llama, mistral, qwen2, qwen3", "choose another stand-in"],
    ),
    "unknown activation": (edit_config(hidden_act="gelu"), ["hidden_act: found 'gelu'; expected one of silu"]),
    "groups do not come out even": (
        edit_config(num_key_value_heads=3),
        ["num_key_value_heads: found 3; expected a divisor of 4 heads"],
    ),
    "negative groups": (edit_config(num_key_value_heads=-2), ["num_key_value_heads: found -2"]),
    "odd heads": (edit_config(head_dim=7), ["head_dim: found 7; expected an even number"]),
    "unknown rope": (
        edit_config(rope_scaling={"rope_type": "axial", "factor": 2.0}),
        ["rope_scaling.rope_type: found 'axial'; expected one of default, linear, dynamic, llama3, yarn, longrope"],
    ),
    "rope without factor": (edit_config(rope_scaling={"type": "linear"}), ["rope_scaling.factor: found None"]),
    "rope is a word": (edit_config(rope_scaling="linear"), ["rope_scaling: found 'linear'; expected a JSON object"]),
    "layer types too short": (
        edit_config(model_type="qwen2", use_sliding_window=True, sliding_window=4, layer_types=["full_attention"]),
        ["layer_types: found ['full_attention']; expected a list of 2"],
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        ["found no model.safetensors; expected weights in safetensors"],
    ),
    "only a pickle": (
        pickle_as("pytorch_model.bin"),
        ["found pytorch_model.bin, a pickle, which can run code when opened", "expected weights in safetensors"],
    ),
    "a pickle under another name": (
        pickle_as("model.safetensors"),
        ["model.safetensors: found", "no complete safetensors file", "a pickle under another name"],
    ),
    "weights are a folder": (
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors").mkdir(),
        ),
        ["found no model.safetensors"],
    ),
    **{
        f"truncated to {name}": (truncate(length), ["model.safetensors: found", "no complete safetensors", "truncated"])
        for name, length in {
            "nothing": lambda _: 0,
            "half the length": lambda _: 4,
            "the length": lambda _: 8,
            "a piece of the header": lambda _: 100,
            "half": lambda size: size // 2,
            "all but one byte": lambda size: size - 1,
        }.items()
    },
    "wrong shape": (
        edit_tensors(model__norm__weight=torch.ones(31)),
        [
            "model.safetensors: model.norm.weight: found shape (31,) (1 of 21",
            "expected shape (32,)",
            "different models",
        ],
    ),
    "wrong sizes": (
        edit_config(hidden_size=64),
        ["model.embed_tokens.weight: found shape (61, 32) (21 of 21 misshapen); expected shape (61, 64)"],
    ),
    "missing tensor": (
        edit_tensors(model__layers__1__mlp__up_proj__weight=None),
        ["model.layers.1.mlp.up_proj.weight: found no such tensor (1 of 21", "a tensor of shape (48, 32)"],
    ),
    "missing layer": (
        edit_config(num_hidden_layers=3),
        ["model.layers.2.self_attn.q_proj.weight, ", " ...: found no such tensor (9 of 30 missing)"],
    ),
    "missing head": (
        edit_tensors(lm_head__weight=None),
        ["lm_head.weight: found no such tensor", "Set tie_word_embeddings to true or ship the head."],
    ),
    "missing biases": (
        edit_config(model_type="qwen2"),
        ["model.layers.0.self_attn.q_proj.bias", "(6 of 27 missing)"],
    ),
    "extra tensor": (
        edit_tensors(model__layers__0__self_attn__q_proj__bias=torch.ones(32)),
        ["model.layers.0.self_attn.q_proj.bias: found 1 tensor(s) that this network does not have", "model_type"],
    ),
    "extra and missing": (
        edit_tensors(score__weight=torch.ones(2, 32), lm_head__weight=None),
        ["score.weight: found 1 tensor(s)", "lm_head.weight: found no such tensor"],
    ),
    "missing shard": (
        shard('{"weight_map": {"model.norm.weight": "other.safetensors"}}'),
        ["other.safetensors: found no such file; expected a shard that the index names"],
    ),
    "shard outside the folder": (
        shard('{"weight_map": {"model.norm.weight": "../../etc/part-2.safetensors"}}'),
        ["saved/part-2.safetensors: found no such file"],
    ),
    "a tensor in two shards": (
        twice_sharded,
        ["index.json: model.norm.weight: found the tensor in model-1.safetensors and in model-2.safetensors (1 of 21"],
    ),
    "a tensor in another shard": (
        lambda folder: twice_sharded(folder, "model-2.safetensors", drop=True),
        ["model.norm.weight: found the tensor in model-1.safetensors", "expected it in model-2.safetensors"],
    ),
    "a tensor that the index names and no shard has": (
        shard('{"weight_map": {"model.norm.weight": "part.safetensors", "model.more": "part.safetensors"}}'),
        ["model.more: found no such tensor in part.safetensors (1 of 2 absent)", "that the index does not name"],
    ),
    "integers": (
        edit_tensors(model__norm__weight=torch.ones(32, dtype=torch.int8)),
        ["model.norm.weight: found int8 numbers (1 of 21 tensors); expected one of float64, float32", "quantization"],
    ),
    "float8 without scales": (
        edit_tensors(lm_head__weight=torch.ones(61, 32).to(torch.float8_e4m3fn)),
        ["lm_head.weight: found float8_e4m3fn numbers"],
    ),
    "a key twice": (write("config.json", '{"vocab_size": 1, "vocab_size": 2}'), ["vocab_size: found the key twice"]),
    "broken index": (shard('{"weight_map": '), ["model.safetensors.index.json: line 1", "a JSON document"]),
    "index without map": (shard('{"metadata": {}}'), ["index.json: weight_map: found no readable map"]),
    "index with a list": (shard('{"weight_map": ["part.safetensors"]}'), ["weight_map: found no readable map"]),
    "index with numbers": (shard('{"weight_map": {"model.norm.weight": 1}}'), ["weight_map: found no readable map"]),
    "index with nothing": (shard('{"weight_map": {}}'), ["(21 of 21 missing)"]),
}


@pytest.mark.parametrize(("break_it", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_named_with_what_was_found_and_expected(
    break_it: Callable[[Path], None], words: list[str], saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(saved, folder)
    break_it(folder)
    with pytest.raises(InputError) as caught:
        load_network(folder)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert all(fault.file.startswith(str(folder)) and fault.found and fault.expected for fault in caught.value.faults)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
ROPE = ("rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor", "mscale", "truncate")
KEYS = (
    *("model_type", "hidden_act", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"),
    *("rope_theta", "rope_scaling", "rope_parameters", "attention_bias", "mlp_bias"),
    *("sliding_window", "use_sliding_window", "max_window_layers", "layer_types"),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    family=st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]),
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3),
    rope=st.dictionaries(st.sampled_from(ROPE), JSON | st.sampled_from(["yarn", "llama3", "linear"]), max_size=4),
)
def test_any_config_is_either_understood_or_a_checkpoint_error(
    family: str, changes: dict[str, Any], rope: dict[str, Any]
) -> None:
    sizes = dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), 8)
    sizes |= {"num_attention_heads": 2, "max_position_embeddings": 8}
    document = {"model_type": family, "use_sliding_window": True, "rope_scaling": rope, **sizes, **changes}
    config, faults = None, ()
    try:
        config = parse_config(document, "config.json")
    except CheckpointError as error:
        faults = error.faults
    assert (config is None) == bool(faults)
    assert all(str(fault).startswith("config.json: ") for fault in faults)
    if config is not None:
        assert config.heads % config.kv_heads == config.head_dim % 2 == 0
        assert config.windows is None or len(config.windows) == config.layers


def test_rope_scaling_arrives_with_every_field(tmp_path: Path) -> None:
    rope = {**YARN, "beta_fast": 8, "beta_slow": 2, "attention_factor": 0.8, "truncate": False}
    LlamaConfig(rope_parameters=rope).save_pretrained(tmp_path)
    assert load_config(tmp_path).rope_scaling == RopeScaling(
        "yarn", 4.0, 64, beta_fast=8.0, beta_slow=2.0, attention_factor=0.8, truncate=False
    )
