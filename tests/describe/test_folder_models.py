"""Folders and config.json files as deployed models: their shape, their vocabulary, and what is refused or named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import load_named
from hilsim.describe.deployed_pair import folder_notes
from hilsim.describe.model import Model
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.study.space import drafts_for
from tests.scenes import shipped

LLAMA = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131_072,
}
MARKS = {128_000: "<|begin_of_text|>", 128_001: "<|end_of_text|>", 128_009: "<|eot_id|>"}


def write(
    folder: Path, tokens: dict[int, str] | None = None, added: dict[int, str] | None = None, **fields: Any
) -> Path:
    """A folder of a config.json, and of a tokenizer.json where ids are given."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {name: value for name, value in {**LLAMA, **fields}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(document))
    if tokens is not None:
        marks = [{"id": token, "content": text} for token, text in (added or {}).items()]
        vocabulary = {"model": {"vocab": {text: token for token, text in tokens.items()}}, "added_tokens": marks}
        (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    return folder


def loaded(path: Path) -> Model:
    return load_named("model", Model, str(path), Path("--model"))


@pytest.mark.parametrize("name", ["", "config.json"])
def test_a_folder_says_what_the_described_model_of_the_same_config_says(name: str, tmp_path: Path) -> None:
    described = load_named("model", Model, "llama-3.2-3b", Path("--model"))
    found = loaded(write(tmp_path / "Llama 3.2 3B", {0: "a", 127_999: "b"}, MARKS) / name)
    unsaid = {"source": "", "kind": "datasheet"}
    assert found.architecture.model_copy(update=unsaid) == described.architecture.model_copy(update=unsaid)
    assert found.vocabulary == described.vocabulary
    assert found.architecture.kind == "datasheet"
    assert found.architecture.source.endswith("Llama 3.2 3B/config.json")
    assert found.name == "Llama-3.2-3B"


def test_the_shipped_stand_ins_are_described_by_their_folders_as_by_their_files() -> None:
    for folder in ("target", "draft-2m", "draft-0.8m", "draft-0.2m"):
        found = loaded(PROJECT / "models" / folder)
        described = load_named("model", Model, f"stand-in-{folder}", Path("--model"))
        assert found.vocabulary == described.vocabulary
        shape = found.architecture.model_dump(exclude={"source", "kind"})
        assert shape == described.architecture.model_dump(exclude={"source", "kind"})


def test_a_cached_download_has_the_repository_s_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "models--meta-llama--Llama-3.2-3B-Instruct" / "snapshots" / "0cb88a4f764b")
    assert loaded(folder).name == "Llama-3.2-3B-Instruct"


def test_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    early = write(
        tmp_path / "early", num_key_value_heads=..., head_dim=..., max_position_embeddings=..., tie_word_embeddings=...
    )
    shape = loaded(early).architecture
    assert (shape.kv_heads, shape.head_dim, shape.context, shape.tied_head) == (24, 128, 2048, False)
    mistral = write(tmp_path / "mistral", model_type="mistral", num_key_value_heads=..., max_position_embeddings=...)
    found = loaded(mistral)
    assert (found.architecture.kv_heads, found.architecture.context) == (8, 131_072)
    assert [(kind.layers, kind.window) for kind in found.architecture.kinds] == [(28, 4096)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "experts": ({"model_type": "mixtral", "num_local_experts": 8}, "num_local_experts: found a mixture of experts"),
    "experts by another name": ({"n_routed_experts": 64}, "n_routed_experts: found a mixture of experts"),
    "vision": ({"model_type": "qwen2_5_vl", "vision_config": {}}, "vision_config: found a model of several parts"),
    "hybrid": (
        {"model_type": "qwen3_next", "layer_types": ["linear_attention"] * 27 + ["full_attention"]},
        "layer_types: found a hybrid: 27 of 28 layers are 'linear_attention'",
    ),
    "unknown": ({"model_type": "mamba2"}, "model_type: found 'mamba2'; expected one of llama, mistral"),
    "no type": ({"model_type": ...}, "model_type: found None"),
    "sizes": ({"hidden_size": "3072", "num_hidden_layers": -1}, "num_hidden_layers: found -1"),
    "groups": ({"num_key_value_heads": 7}, "num_key_value_heads: found 7; expected a divisor of 24 heads"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_cost_model_does_not_know_is_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        loaded(write(tmp_path, **fields))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/config\.json: found no such file"):
        loaded(tmp_path / "gone" / "config.json")
    with pytest.raises(InputError, match="expected one of"):  # a folder without config.json is no model's name
        loaded(tmp_path)


# Pairs.


def pair(target: Path | str, draft: Path | str) -> Setup:
    return shipped("orin_8295_greedy", f"target.model={target}", f"draft.model={draft}")


TOKENS = {token: f"piece{token}" for token in range(50)}


def test_tokenizers_decide_whether_two_folders_pair(tmp_path: Path) -> None:
    target = write(tmp_path / "t", TOKENS, {50: "<end>", 51: "<r0>"}, vocab_size=64)
    alike = write(tmp_path / "alike", TOKENS, {50: "<end>", 51: "<r0>"}, vocab_size=128)
    assert not [note for note in folder_notes(pair(target, alike)) if "differ" in note or "unknown" in note]
    reserved = write(tmp_path / "reserved", TOKENS, {50: "<end>", 51: "<pad>"}, vocab_size=64)
    assert any(
        "51 ('<r0>' to the target, '<pad>' to the draft)" in note for note in folder_notes(pair(target, reserved))
    )
    longer = write(tmp_path / "longer", TOKENS, {50: "<end>", 51: "<r0>", 52: "<think>"}, vocab_size=64)
    assert any("52 ('<think>')" in note for note in folder_notes(pair(target, longer)))
    other = write(tmp_path / "other", {**TOKENS, 7: "seven"}, {50: "<end>", 51: "<r0>"}, vocab_size=64)
    with pytest.raises(InputError, match=r"draft\.model: found 1 ids in use .*7 \('piece7' to the target, 'seven'"):
        pair(target, other)


def test_what_is_unknown_of_a_vocabulary_is_reported(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare")
    notes = folder_notes(pair(bare, "llama-3.2-1b"))
    assert any("Its vocabulary is unknown" in note for note in notes)
    assert any("Whether llama-3.2-1b shares the token ids of bare is unknown" in note for note in notes)
    with pytest.raises(InputError, match=r"draft\.model: found qwen2\.5-0\.5b with vocabulary qwen"):
        pair(bare, "qwen2.5-0.5b")
    known = write(tmp_path / "known", {0: "a", 127_999: "b"}, MARKS)
    assert not any("Whether" in note for note in folder_notes(pair(known, "llama-3.2-1b")))


def test_commands_take_a_folder_where_they_take_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(PROJECT / "models/target", folder)
    assert main(["chip", "sa8295p", "--model", str(folder)]) == 0
    assert "Note: Its vocabulary is that of the shipped stand-ins." in capsys.readouterr().out
    sets = [f"target.model={folder}", "draft.model=stand-in-draft-0.8m", "networks=[]", "context_tokens=1024"]
    (note,) = folder_notes(shipped("orin_8295_greedy", *sets))
    assert note.startswith("target mine: ")
    by_name = [sets[0].replace(str(folder), "stand-in-target"), *sets[1:]]
    assert check(shipped("orin_8295_greedy", *sets), sets).ledgers["sa8295p"].used_bytes == (
        check(shipped("orin_8295_greedy", *by_name), by_name).ledgers["sa8295p"].used_bytes
    )


def test_the_explorer_keeps_a_folder_s_own_draft_where_no_described_one_shares_its_ids(tmp_path: Path) -> None:
    target, draft = (write(tmp_path / name, TOKENS, vocab_size=64) for name in ("t", "d"))
    assert drafts_for(pair(target, draft)) == ((str(draft), "models/draft-0.8m"),)
