"""Bad input: one clear message a fault, all at once, exit status 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hilsim.commands.main import simulate_main
from hilsim.networks.network import Network, load_network, save_network
from hilsim.places import CODE as PROJECT
from hilsim.training.recipe import SHAPES
from tests.scenes import table_setup

ORIN = (PROJECT / "scenarios" / "orin_8295_greedy.yaml").read_text(encoding="utf-8")
MUTATIONS = 1200


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run simulate.py, expect a refusal, return the message."""
    assert simulate_main(list(arguments)) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Traceback" not in streams.err
    assert streams.err.strip()
    return streams.err


def scenario(folder: Path, text: str) -> str:
    """A scenario file beside nothing else; shipped chips and models are found by name."""
    file = folder / "x.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


CASES = {
    "unknown key": ("seed: 1", "sede: 1", ["sede", "unknown key", "Did you mean 'seed'"]),
    "missing key": ("context_tokens: 1024", "#", ["context_tokens", "expected the key"]),
    "duplicate key": ("seed: 1", "seed: 1\nseed: 2", ["second value", "line 5"]),
    "mistyped value": ("seed: 1", "seed: one", ["seed", "'one'", "whole number"]),
    "negative number": ("max_new_tokens: 64", "max_new_tokens: -4", ["workload.max_new_tokens", "-4", "at least 1"]),
    "absurd number": ("context_tokens: 1024", "context_tokens: 10000000000", ["context_tokens", "at most"]),
    "text for a number": ("draft_tokens: 5", "draft_tokens: '5'", ["policy.draft_tokens", "'5'"]),
    "unknown chip": ("chip: sa8295p", "chip: computr-cpu", ["target.chip", "sa8295p", "Did you mean 'computer-cpu'"]),
    "unknown unit": ("unit: npu", "unit: dla", ["target.unit", "'dla'", "npu, gpu, cpu"]),
    "unknown link": ("link: pcie-gen3-x4", "link: pcie3", ["link", "pcie-gen3-x4"]),
    "unknown model": ("model: llama-3.2-3b", "model: llama-3b", ["target.model", "llama-3.2-3b"]),
    "unknown policy": ("kind: sync", "kind: warp", ["policy", "kind 'warp'; expected one of target_only, sync"]),
    "precision that the unit lacks": ("unit: npu\n  precision: w4", "unit: npu\n  precision: w4a16", ["int16", "w4"]),
    "other vocabulary": ("model: draft-68m-llama3", "model: draft-68m-qwen", ["draft.model", "vocabulary"]),
    "wrong link for the place": ("link: pcie-gen3-x4", "link: on-chip", ["link", "two chips"]),
    "context of the model": ("context_tokens: 1024", "context_tokens: 4096", ["context_tokens", "2048"]),
    "ratio at temperature 0": ("accept: greedy", "accept: ratio", ["accept ratio", "temperature"]),
    "ids with the ratio rule": (
        "accept: greedy\npayload: token_ids\nsampling: {temperature: 0.0}",
        "accept: ratio\npayload: token_ids\nsampling: {temperature: 0.7}",
        ["token_ids", "full_rows"],
    ),
    "path that leads nowhere": (
        "conversations/shift.jsonl",
        "conversations/none.jsonl",
        ["none.jsonl", "no such file"],
    ),
    "missing checkpoint": ("stand_in: models/target", "stand_in: models/targit", ["models/targit", "no such folder"]),
    "not YAML": ("seed: 1", "seed: [1", ["line"]),
    "YAML tag": ("seed: 1", "seed: !!python/object:os.system 1", ["line 5", "tag"]),
    "YAML tag on a block": ("{temperature: 0.0}", "!!python/object:os.system {temperature: 0.0}", ["tag"]),
    "YAML tag on quoted text": ("name: orin_8295_greedy", 'name: !!python/object:os.system "x"', ["line 3", "tag"]),
    "half a character": ("name: orin_8295_greedy", 'name: "\\uD800"', ["half a character"]),
    "endless name": ("model: llama-3.2-3b", "model: " + "x" * 300, ["target.model"]),
    "endless path": ("conversations/shift.jsonl", "x" * 300, ["x" * 300]),
    "two rules broken": ("link: pcie-gen3-x4\n", "accept: ratio\n", ["a draft but no link", "accept ratio"]),
    "alias": ("unit: npu", "unit: &a npu\n  notes: *a", ["alias"]),
}


@pytest.mark.parametrize(("old", "new", "expected"), CASES.values(), ids=CASES.keys())
def test_each_fault_has_a_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: list[str]
) -> None:
    text = ORIN.replace("conversations/shift.jsonl", str(PROJECT / "scenarios/conversations/shift.jsonl"))
    if old == "conversations/shift.jsonl":
        text = ORIN
    if new == "accept: ratio\n":
        text = text.replace("accept: greedy\n", "")
    assert old in text
    file = scenario(tmp_path, text.replace(old, new, 1))
    message = refused(capsys, file)
    for part in expected:
        assert part in message, message


def test_a_key_of_the_other_kind_of_workload_is_named_with_the_keys_of_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Controls: a slip is still searched for among the keys of both kinds."""
    text, lengths = (str(PROJECT / f"scenarios/{name}.yaml") for name in ("orin_8295", "paper_table"))
    another = "Another kind of workload has it."
    message = refused(capsys, text, "--set", "workload.requests=3")
    assert "workload.requests: found an unknown key; expected one of conversations, count, max_turns" in message
    assert another in message
    assert "prompt_tokens" not in message
    message = refused(capsys, lengths, "--set", "workload.count=3")
    assert "workload.count: found an unknown key; expected one of requests, prompt_tokens" in message
    assert another in message
    assert "Did you mean" not in message
    assert "Did you mean 'requests'?" in refused(capsys, text, "--set", "workload.reqests=3")


def test_a_value_from_the_command_line_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    orin = str(PROJECT / "scenarios/orin_8295_greedy.yaml")
    assert "sede: found an unknown key" in refused(capsys, orin, "--set", "sede=1")
    message = refused(capsys, orin, "--set", "seed=true", "--set", "workload.count=0")
    assert "seed: found True" in message
    assert "workload.count: found 0" in message
    assert "line" not in message


def test_networks_smaller_than_their_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(SHAPES["draft-0.2m"], vocab_size=300)
    folder = tmp_path / "small"
    shutil.copytree(PROJECT / "models/draft-0.2m", folder)
    save_network(Network(config), folder, begin_token=1, end_token=2, pad_token=0)
    message = refused(capsys, str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--set", f"draft.stand_in={folder}")
    assert "a network of 300 logits" in message


def test_a_padded_head_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some families pad their output heads; the rows that no token has are cut off before any law is made."""
    few = [word for part in ("count=1", "max_turns=2", "max_new_tokens=12") for word in ("--set", f"workload.{part}")]
    ethernet = [str(PROJECT / "scenarios/ethernet.yaml"), "--json", *few, "--set"]
    small = load_network(PROJECT / "models/draft-0.2m")
    padded = Network(replace(SHAPES["draft-0.2m"], vocab_size=2100))
    state = dict(small.state_dict())
    for name in ("embedding.weight", "head.weight"):
        state[name] = torch.cat((state[name], torch.full((52, 64), 3.0)))
    padded.load_state_dict(state)
    folder = tmp_path / "padded"
    shutil.copytree(PROJECT / "models/draft-0.2m", folder)
    save_network(padded, folder, begin_token=1, end_token=2, pad_token=0)
    texts = []
    for stand_in in (folder, PROJECT / "models/draft-0.2m"):
        assert simulate_main([*ethernet, f"draft.stand_in={stand_in}"]) == 0
        texts.append(json.loads(capsys.readouterr().out)["speculative"]["num_accepted_tokens_per_pos"])
    assert texts[0] == texts[1]


def test_prompts_that_no_context_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_setup(tmp_path)
    message = refused(capsys, str(tmp_path / "table.yaml"), "--set", "workload.prompt_tokens=3000")
    assert "workload.prompt_tokens: found 3000" in message


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    table_setup(tmp_path)
    for redirect in ("> /dev/full", ">&-"):
        for flag in ("--json", "--plain"):
            command = f"{sys.executable} simulate.py {tmp_path}/table.yaml {flag} {redirect}"
            done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False)
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith("standard output: found"), done.stderr


def test_probing_a_folder_leaves_it_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_setup(tmp_path)
    (tmp_path / ".hilsim").write_text("precious", encoding="utf-8")
    assert simulate_main([str(tmp_path / "table.yaml"), "--plain", "--trace", str(tmp_path / "t.json")]) == 0
    capsys.readouterr()
    assert (tmp_path / ".hilsim").read_text(encoding="utf-8") == "precious"


def test_all_faults_of_a_file_come_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ORIN.replace("seed: 1", "sede: 1").replace("draft_tokens: 5", "draft_tokens: 0").replace("1024 ", "-1 ")
    message = refused(capsys, scenario(tmp_path, text))
    assert len(message.strip().splitlines()) == 3
    text = ORIN.replace("seed: 1", "sede: 1").replace("chip: sa8295p", "chip: nil").replace("pcie-gen3-x4", "nil")
    assert len(refused(capsys, scenario(tmp_path, text)).strip().splitlines()) == 3
    text = ORIN.replace("chip: sa8295p", "chip: nil").replace("68m", "69m")
    text = text.replace("link: pcie-gen3-x4", "link: nil")
    assert len(refused(capsys, scenario(tmp_path, text)).strip().splitlines()) == 4  # and the conversations' path


@pytest.mark.parametrize(
    "override", ["nonsense", "policy.draft_tokens", "=3", "seed..x=1", "seed.x=1", "seed={a", "a=b"]
)
def test_bad_overrides_are_named(capsys: pytest.CaptureFixture[str], override: str) -> None:
    refused(capsys, str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--set", override)


def test_files_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(os.urandom(200) + b"\xff\xfe")
    refused(capsys, str(file))
    file.write_bytes(b"name: \xff")
    assert "0xff" in refused(capsys, str(file))
    file.write_bytes(b"")
    refused(capsys, str(file))
    file.write_bytes(b"name: a\x00b\n")
    refused(capsys, str(file))
    assert "no such file" in refused(capsys, str(tmp_path / "none.yaml"))
    assert "directory" in refused(capsys, str(tmp_path))


def conversation_case(folder: Path, lines: str) -> list[str]:
    (folder / "talk.jsonl").write_text(lines, encoding="utf-8")
    return [
        str(PROJECT / "scenarios/orin_8295_greedy.yaml"),
        "--set",
        f"workload.conversations={folder / 'talk.jsonl'}",
    ]


def test_bad_conversations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = '{"id": "a", "turns": ["Hello."]}\n'
    message = refused(capsys, *conversation_case(tmp_path, good + '{"id": "b", "turns": []}\n{"id": 1}\nnot json\n'))
    assert [f"line {n}" in message for n in (2, 3, 4)] == [True] * 3
    assert "no turn of the passenger" in message
    assert "no conversation" in refused(capsys, *conversation_case(tmp_path, "\n\n"))
    assert "workload.count" in refused(capsys, *conversation_case(tmp_path, good))
    long = '{"id": "a", "turns": ["' + "what about this one " * 600 + '"]}\n'
    message = refused(capsys, *conversation_case(tmp_path, long), "--set", "workload.count=1")
    assert "fewer than context_tokens (1024)" in message


def broken_copy(folder: Path) -> Path:
    copy = folder / "target"
    shutil.copytree(PROJECT / "models/target", copy)
    return copy


def test_bad_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = broken_copy(tmp_path)
    arguments = [str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--set", f"target.stand_in={copy}"]
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(capsys, *arguments)
    weights.write_bytes(pickle.dumps({"model.norm.weight": [1.0]}))
    assert "pickle" in refused(capsys, *arguments)
    weights.unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert "a pickle, which can run code" in refused(capsys, *arguments)
    weights.write_bytes(whole)
    (copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "tokenizer.json" in refused(capsys, *arguments)
    (copy / "tokenizer.json").unlink()
    assert "no such file" in refused(capsys, *arguments)


def test_stand_ins_without_a_token_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = broken_copy(tmp_path)
    text = (copy / "tokenizer.json").read_text(encoding="utf-8")
    tokens = json.loads(text)
    tokens["model"] |= {"vocab": {f"zz{key}": number for key, number in tokens["model"]["vocab"].items()}, "merges": []}
    for added in tokens["added_tokens"]:
        added["content"] = f"zz{added['content']}"
    (copy / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    message = refused(capsys, str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--set", f"draft.stand_in={copy}")
    assert "share token ids" in message


def test_places_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_setup(tmp_path)
    file = str(tmp_path / "table.yaml")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert "--out" in refused(capsys, file, "--out", str(tmp_path / "file"))
    assert "--out" in refused(capsys, file, "--out", str(tmp_path / "file" / "below"))
    refused(capsys, file, "--trace", str(tmp_path / "file" / "trace.json"))
    assert "a folder" in refused(capsys, file, "--trace", str(tmp_path))
    refused(capsys, file, "--out", "/proc/hilsim")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link.yaml", "table.yaml"]


def test_a_closed_pipe_is_reported_in_one_line(tmp_path: Path) -> None:
    table_setup(tmp_path, "workload.requests=1")
    command = f"{sys.executable} simulate.py {tmp_path}/table.yaml --set workload.requests=3000 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "closed pipe" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_arguments_at_fault(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--realtime", "0", "x.yaml"], ["--realtime", "soon", "x.yaml"], ["x.yaml", "--nonsense"]):
        with pytest.raises(SystemExit) as stop:
            simulate_main(arguments)
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err
    refused(capsys, str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--seed", "many")
    refused(capsys, str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--seed", "-1")
