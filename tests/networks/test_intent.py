"""The command matcher understands what it never saw, shares one encoder, and exports as two calls of it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hilsim.errors import CheckpointError, InputError
from hilsim.networks import intent as matching
from hilsim.networks.intent import FOLDER, Siamese, embed, encode, load_matcher, match, matcher, matcher_22m, shipped
from hilsim.training import intent as training
from hilsim.training.intent import CORPUS, Command, bags, by_intent, main, nearest_accuracy, read_commands, split

# A command of each of eight intents, in words of our own.
KNOWN = {
    "next_song": "skip to the next song",
    "tire_pressure": "what is my tire pressure",
    "directions": "give me directions to the station",
    "traffic": "how is traffic on the way to work",
    "timer": "set a timer for ten minutes",
    "make_call": "call mom",
    "change_volume": "turn the volume up",
    "smart_home": "turn up the heat",
}
PLAIN = {
    "_softmax", "add", "bmm", "clone", "div", "embedding", "expand", "gelu", "linear", "mul", "permute", "pow",
    "rms_norm", "rsqrt", "sub", "sum", "unsqueeze", "view",
}  # fmt: skip
KEPT_WHOLE = ("scaled_dot_product_attention", "einsum", "rms_norm", "linear")


@pytest.fixture(scope="module")
def parts() -> tuple[list[Command], list[Command]]:
    return split(read_commands(CORPUS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped folder, to be damaged."""
    return shutil.copytree(FOLDER, tmp_path / "intent")


def small() -> Siamese:
    """A tiny untrained matcher."""
    model = Siamese(matching.IntentConfig(vocab_size=50, hidden=16, layers=2, heads=2, intermediate=24, tokens=8))
    matching.initialise(model, 3)
    return model.eval().requires_grad_(False)


def texts(commands: list[Command]) -> list[str]:
    return [command.text for command in commands]


def intents(commands: list[Command]) -> list[str]:
    return [command.intent for command in commands]


def test_the_nearest_known_sentence_of_most_held_out_ones_has_their_intent(
    parts: tuple[list[Command], list[Command]],
) -> None:
    # 3 held-out sentences of each intent against 12 that were learnt from, to be quick; models/intent/README.md has the
    # accuracy over all. Chance is 1 in 83, and words alone find about half.
    learnt, held_out = (by_intent(part) for part in parts)
    asked = [command for members in held_out.values() for command in members[:3]]
    known = [command for members in learnt.values() for command in members[:12]]
    assert len(asked) == 249
    encoder, words = shipped()
    of_words = [bags(texts(part), texts(known), by_rarity=False) for part in (asked, known)]
    of_network = [embed(encoder, texts(part), words) for part in (asked, known)]
    by_words = nearest_accuracy(of_words[0], intents(asked), of_words[1], intents(known))
    by_network = nearest_accuracy(of_network[0], intents(asked), of_network[1], intents(known))
    assert by_words + 0.1 < by_network
    assert by_network > 0.8


def test_held_out_sentences_find_their_command_among_eight(parts: tuple[list[Command], list[Command]]) -> None:
    asked = [command for command in parts[1] if command.intent in KNOWN]
    assert len(asked) == 8 * 15
    right = sum(match(command.text, list(KNOWN.values()))[0][0] == KNOWN[command.intent] for command in asked)
    assert right > 0.85 * len(asked)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("skip this track", "next_song"),
        ("is the air pressure in my tires low", "tire_pressure"),
        ("how do i get to the nearest post office", "directions"),
        ("how's highway traffic today", "traffic"),
        ("give me a 10 minute countdown", "timer"),
        ("get mom on the phone", "make_call"),
        ("i'd like it to be louder", "change_volume"),
        ("will you please get my furnace turned on", "smart_home"),
    ],
)
def test_a_held_out_sentence_finds_its_command(
    said: str, meant: str, parts: tuple[list[Command], list[Command]]
) -> None:
    assert said in texts(parts[1])
    assert match(said, list(KNOWN.values()))[0][0] == KNOWN[meant]


def test_matches_come_best_first_and_neither_case_nor_marks_count() -> None:
    known = list(KNOWN.values())
    ranked = match("skip this track", known)
    assert sorted(text for text, _ in ranked) == sorted(known)
    assert [likeness for _, likeness in ranked] == sorted((likeness for _, likeness in ranked), reverse=True)
    assert match("  Skip this TRACK!", known) == ranked
    assert match("call mom", ["call mom"])[0][1] == pytest.approx(1.0, abs=1e-3)
    assert match("skip this track", []) == []
    assert match(" ?! ", known) == [(text, 0.0) for text in known]
    assert len(match("<|end|> " + "and then " * 100, known)) == len(known)


def test_similarity_is_symmetric_and_at_most_one() -> None:
    model, _ = matcher()
    words = matching.sentence_tokenizer()
    said = encode(["skip this track", "i want to go home", "call mom"], words, 32)
    known = encode(["next song", "how is traffic", "call mom"], words, 32)
    there, back = model(*said, *known), model(*known, *said)
    assert torch.allclose(there, back, atol=1e-6)
    assert there.abs().max() <= 1.0
    assert there[2] == pytest.approx(1.0, abs=1e-3)


def test_padding_changes_nothing_and_without_the_mask_it_would() -> None:
    encoder, words = shipped()
    ids, mask = encode(["give me directions to the station"], words, 32)
    length = int(mask.sum())
    assert 0 < length < 32
    alone = encoder(ids[:, :length], mask[:, :length])
    assert torch.allclose(encoder(ids, mask), alone, atol=1e-5)
    filled = torch.where(mask > 0, ids, 77)
    assert torch.allclose(encoder(filled, mask), alone, atol=1e-5)
    assert not torch.allclose(encoder(ids, torch.ones_like(mask)), alone, atol=1e-2)


def test_one_long_sentence_does_not_disturb_its_batch() -> None:
    encoder, words = shipped()
    said = ["call mom", "and then " * 60, "", "next song"]
    together = embed(encoder, said, words)
    for row, text in enumerate(said):
        assert torch.allclose(together[row], embed(encoder, [text], words)[0], atol=1e-5)
    assert together[2].abs().max() == 0.0


def test_both_calls_use_the_same_parameters() -> None:
    model = small()
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == encoder
    generator = torch.Generator().manual_seed(0)
    said, known = (torch.randint(50, (2, 8), generator=generator) for _ in range(2))
    mask = torch.ones(2, 8)
    calls = []
    model.encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0]))
    model(said, mask, known, mask)
    assert [call is side for call, side in zip(calls, (said, known), strict=True)] == [True, True]


@pytest.mark.parametrize("make", [matcher, matcher_22m])
def test_the_export_is_plain_operators_in_two_calls_of_one_encoder(make: Callable[[], object]) -> None:
    # Of the large one nothing but its graph is needed, so its tensors are fakes.
    if make is matcher:
        model, inputs = matcher()
        program = torch.export.export(model, inputs, strict=False)
        assert torch.allclose(program.module()(*inputs), model(*inputs), atol=1e-6)
    else:
        with FakeTensorMode():
            model, inputs = matcher_22m()
            program = torch.export.export(model, inputs, strict=False)
    table = torch.export.default_decompositions()
    for operator in list(table):
        if operator.name().removeprefix("aten::").split(".")[0] in KEPT_WHOLE:
            del table[operator]
    nodes = [node for node in program.run_decompositions(table).graph.nodes if node.op == "call_function"]
    assert {node.target.overloadpacket.__name__ for node in nodes} == PLAIN
    calls = Counter(
        key for node in nodes for key, (path, _) in node.meta["nn_module_stack"].items() if path == "encoder"
    )
    first, second = sorted(calls)
    assert first.endswith("encoder")
    assert second.endswith("encoder@1")
    assert calls[first] == calls[second]
    # Parameters enter the graph once: placeholders are they and four inputs.
    parameters = len(list(model.parameters()))
    assert sum(node.op == "placeholder" for node in program.graph.nodes) == parameters + 4


def test_the_large_matcher_has_minilms_size_and_takes_no_memory_under_fakes() -> None:
    with FakeTensorMode():
        model, inputs = matcher_22m()
        assert all(isinstance(parameter, FakeTensor) for parameter in model.parameters())
        assert model(*inputs).shape == (1,)
    # A layer: four projections, two of the feed-forward, two norms. Around them: tables, a norm and a projection.
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 2 * 384
    expected = (30_522 + 64) * 384 + 6 * layer + 384 + 384 * 384
    assert sum(parameter.numel() for parameter in model.parameters()) == expected == 22_535_040
    assert expected == pytest.approx(22.7e6, rel=0.01)


def test_initialising_is_a_function_of_its_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, other = small().state_dict(), small().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_shipped_folder_is_small_and_its_readme_tells_its_true_size() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    stored = (FOLDER / "model.safetensors").stat().st_size
    assert stored <= 2.5e6
    assert f"{stored:,} bytes" in readme
    assert f"{sum(parameter.numel() for parameter in load_matcher(FOLDER).parameters()):,}" in readme
    assert "CC BY 3.0" in readme


def test_a_config_survives_its_document() -> None:
    config = small().encoder.config
    assert matching.parse_config(matching.document_of(config), "config.json") == config


def fault_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_matcher(folder)
    for fault in caught.value.faults:
        assert "hilsim.training.intent" in fault.remedy or fault.file.endswith("config.json")
    return str(caught.value)


def test_a_missing_folder_or_file_is_reported_with_its_place_and_remedy(folder: Path) -> None:
    told = fault_of(folder / "nowhere")
    assert f"{folder / 'nowhere'}: found no such folder" in told
    assert "python -m hilsim.training.intent --out models/intent" in told
    (folder / "model.safetensors").unlink()
    assert f"{folder}: found no model.safetensors" in fault_of(folder)
    (folder / "config.json").unlink()
    assert f"{folder}: found no config.json" in fault_of(folder)


def test_truncated_weights_are_reported(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    assert f"{file}: found 100000 bytes that are no complete safetensors file" in fault_of(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda tensors: tensors.pop("encoder.norm.weight"), "encoder.norm.weight: found no such tensor (1 of"),
        (lambda tensors: tensors.update(stray=torch.ones(1)), "stray: found an unknown tensor"),
        (lambda tensors: tensors["encoder.norm.weight"].fill_(torch.nan), "encoder.norm.weight: found values that are"),
        (
            lambda tensors: tensors.update({"encoder.norm.weight": torch.ones(7)}),
            "encoder.norm.weight: found shape (7,); expected shape (128,)",
        ),
    ],
)
def test_tensors_at_fault_are_named(
    damage: Callable[[dict[str, torch.Tensor]], object], told: str, folder: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors")
    assert told in fault_of(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "llama"}, "model_type: found 'llama'; expected one of intent-siamese"),
        ({"num_attention_heads": 5}, "num_attention_heads: found 5; expected a divisor of 128"),
        ({"tokens": -1}, "tokens: found -1; expected a whole number from 1"),
        ({"hidden_size": "wide"}, "hidden_size: found 'wide'"),
    ],
)
def test_a_config_at_fault_is_reported(change: dict[str, object], told: str, folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    assert told in fault_of(folder)


def test_another_tokenizer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "config.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"tokenizer_sha256": "', '"tokenizer_sha256": "0'))
    monkeypatch.setattr(matching, "FOLDER", folder)
    with pytest.raises(CheckpointError, match=r"tokenizer_sha256: found 0.*Restore models/intent"):
        shipped.__wrapped__()


def test_each_intent_holds_out_a_tenth_and_nothing_held_out_is_learnt_from(
    parts: tuple[list[Command], list[Command]],
) -> None:
    learnt, held_out = parts
    assert {command.id for command in learnt}.isdisjoint(command.id for command in held_out)
    assert len(learnt) + len(held_out) == 12_443
    counts = Counter(intents(held_out))
    assert len(counts) == 83
    assert set(counts.values()) == {15}  # of 148 to 150 each
    assert split(read_commands(CORPUS)) == parts


def test_a_batch_pairs_two_sentences_of_every_intent() -> None:
    labels = torch.tensor([0] * 6 + [1] * 5 + [2] * 6)
    batches = list(training.pairs(labels, np.random.default_rng(0)))
    assert len(batches) == 3
    for batch in batches:
        assert labels[batch].tolist() == [0, 1, 2, 0, 1, 2]
        assert len(set(batch.tolist())) == 6
    assert {index for batch in batches for index in batch.tolist()} == set(range(17))


def test_the_loss_is_that_of_a_guess_where_all_is_alike_and_none_where_only_partners_are() -> None:
    assert training.contrastive_loss(torch.ones(8, 4) / 2).item() == pytest.approx(
        np.log(7)
    )  # one partner among seven others
    assert training.contrastive_loss(torch.eye(4).repeat(2, 1)).item() == pytest.approx(0.0, abs=1e-4)
    assert training.contrastive_loss(torch.eye(4).repeat_interleave(2, 0)).item() > 10.0  # the wrong ones are alike


def test_bags_of_words_on_paper() -> None:
    plain = bags(["call call mom", "unheard"], ["call mom", "next song", "call dad"], by_rarity=False)
    assert sorted(plain[0].tolist()) == pytest.approx([0, 0, 0, 1 / 5**0.5, 2 / 5**0.5])
    assert plain[1].abs().max() == 0.0
    # "call" is in two of three known sentences and "mom" in one, so it weighs ln 1.5 / ln 3 as much.
    rare = bags(["call mom"], ["call mom", "next song", "call dad"], by_rarity=True)[0]
    low, high = sorted(rare.tolist())[-2:]
    assert low / high == pytest.approx(np.log(1.5) / np.log(3))


def commands_file(path: Path, count: int = 10) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for intent in ("next_song", "traffic", "timer"):
            for index in range(count):
                text = f"{intent.replace('_', ' ')} number {index}"
                file.write(json.dumps({"id": f"{intent}-{index}", "intent": intent, "text": text}) + "\n")
    return path


def test_training_writes_a_folder_that_loads_and_the_same_seed_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = commands_file(tmp_path / "commands.jsonl.gz")
    for out in ("one", "two"):
        assert (
            main(["--out", str(tmp_path / out), "--corpus", str(corpus), "--epochs", "1", "--machine", "a test"]) == 0
        )
    assert "epoch 1 of 1: loss" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "on a test" in (tmp_path / "one/README.md").read_text(encoding="utf-8")
    load_matcher(tmp_path / "one")
    one, two = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two"))
    assert one == two


def test_stopped_training_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> Siamese:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("old", encoding="utf-8")
    monkeypatch.setattr(training, "learn", stop)
    command = ["--out", str(out), "--corpus", str(commands_file(tmp_path / "commands.jsonl.gz"))]
    assert main(command) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ["README.md"]
    monkeypatch.setattr(training, "learn", lambda *_: small())
    monkeypatch.setattr(training, "embed", lambda *_: torch.ones(1, 1))
    monkeypatch.setattr(training, "nearest_accuracy", lambda *_: 0.5)
    monkeypatch.setattr(training, "README", "{unknown}")  # fails after the weights were written
    with pytest.raises(KeyError):
        main(command)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in out.iterdir()] == [("README.md", "old")]


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"no json"), gzip.compress(b'{"id": 1}\n')],  # which have the time of day in them
    ids=["no gzip", "no json", "no question"],
)
def test_an_unreadable_corpus_is_reported(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "commands.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="unreadable commands"):
        read_commands(file)
    assert main(["--out", str(tmp_path / "out"), "--corpus", str(file)]) == 2
    assert "expected gzip'd JSON lines of id, intent and text" in capsys.readouterr().err
