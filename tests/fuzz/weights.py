"""Folders of models: configuration, weights, their index, draft heads, tokenizers and their settings, conversations.

One file of a folder is the input; the others are those of a good folder, put beside it by the reader.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from hilsim.describe.catalogue import load_named
from hilsim.describe.conversation import read_conversations
from hilsim.describe.model import Model
from hilsim.networks.config import NetworkConfig
from hilsim.networks.draft_head_file import load_draft_head, save_draft_head
from hilsim.networks.network import Network, load_network, save_network
from hilsim.places import CODE as PROJECT
from hilsim.text.tokenizer import load_tokenizer
from hilsim.text.tokenizer_file import FLAGS
from hilsim.training.fitting import initialise, round_to_half
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_bytes, changed_json, changed_tree, json_bytes
from tests.networks.test_draft_head import CONFIGS, head_of
from tests.networks.test_draft_head_file import target_at
from tests.text.test_prompts import TEMPLATES, TOKENIZERS, save

SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4, "kv_heads": 2}
ROPE = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.1,
        "beta_fast": 32, "beta_slow": 1, "truncate": True}  # fmt: skip
SHARD = "part.safetensors"
Files = dict[str, bytes]


def files_of(make: Callable[[Path], object]) -> Files:
    """What a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


@cache
def checkpoint() -> Files:
    """A tiny decoder with a scaled rotary embedding."""

    def make(folder: Path) -> None:
        network = Network(NetworkConfig(**SIZES, head_dim=8, max_positions=64)).eval().requires_grad_(False)
        initialise(network, 5)
        round_to_half(network)
        save_network(network, folder, end_token=2, begin_token=1, pad_token=0)

    files = files_of(make)
    return files | {"config.json": json_bytes(json.loads(files["config.json"]) | {"rope_scaling": ROPE})}


@cache
def sharded() -> Files:
    """The same, with an index that names one shard."""
    whole = checkpoint()["model.safetensors"]
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    names = [name for name in header if name != "__metadata__"]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, SHARD)}
    files = {name.replace("model.safetensors", SHARD): data for name, data in checkpoint().items()}
    return files | {"model.safetensors.index.json": json_bytes(index)}


@cache
def place_of_target() -> tempfile.TemporaryDirectory[str]:
    """Where the target of the draft head is, as long as this process runs."""
    return tempfile.TemporaryDirectory(prefix="hilsim-fuzz-target-")


@cache
def target() -> Network:
    """The decoder that the draft head belongs to."""
    torch.manual_seed(0)
    return target_at(Path(place_of_target().name))


@cache
def head() -> Files:
    """A trimmed head of three layers' states."""
    return files_of(lambda folder: save_draft_head(head_of(CONFIGS["eagle3"], target()), folder))


@contextmanager
def completed(path: Path, files: Files) -> Iterator[Path]:
    """A folder with the input and, beside it, the other files of a good one."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        shutil.copy(path, Path(folder) / path.name)
        yield Path(folder)


def use(folder: Path) -> None:
    """A stand-in's network, and its logits."""
    network = load_network(folder)
    with torch.inference_mode():
        network(torch.zeros(1, 3, dtype=torch.int64) % network.config.vocab_size)


def read_checkpoint(path: Path) -> None:
    with completed(path, checkpoint()) as folder:
        use(folder)


def read_index(path: Path) -> None:
    with completed(path, sharded()) as folder:
        use(folder)


def read_model(path: Path) -> None:
    """A deployed model's shape."""
    load_named("model", Model, str(path), path)


def read_head(path: Path) -> None:
    with completed(path, head()) as folder:
        load_draft_head(folder, target())


def read_ends(path: Path) -> None:
    """What a generation_config.json says of ends."""
    source, names = PROJECT / "models/target", ("tokenizer.json", "tokenizer_config.json")
    with completed(path, {name: (source / name).read_bytes() for name in names}) as folder:
        load_tokenizer(folder)


def changed_file(name: str, files: Callable[[], Files], chance: random.Random) -> Input:
    """A JSON file with its bytes or its tree changed."""
    return name, changed_json(files()[name], chance)


def changed_weights(files: Callable[[], Files], chance: random.Random) -> Input:
    """Bytes anywhere, or in the header alone."""
    whole = files()["model.safetensors"]
    length = 8 + int.from_bytes(whole[:8], "little")
    if chance.random() < 0.5:
        return "model.safetensors", changed_bytes(whole, chance)
    return "model.safetensors", changed_bytes(whole[:length], chance) + whole[length:]


def generation_config(chance: random.Random) -> Input:
    good = (PROJECT / "models/target/generation_config.json").read_bytes()
    return "generation_config.json", changed_json(good, chance)


# Tokenizers.

TEXTS = ("Open the window.", "  Größe 日本語 😀\n\n", "<|im_end|>", "")
FIELDS = (
    "content", "pattern", "prepend", "replacement", "prepend_scheme", "add_prefix_space", "split", "behavior", "invert",
    "individual_digits", "delimiter", "length", "stop", "start", "suffix", "prefix", "cleanup", "pad_token",
    "lowercase", "word_delimiter_token", "strip_left", "strip_right", "use_regex", "trim_offsets",
    "precompiled_charsmap",
)  # fmt: skip
KINDS_OF_PARTS = (
    "NFC", "NFKD", "Lowercase", "Strip", "StripAccents", "Replace", "Prepend", "ByteLevel", "BertNormalizer", "Nmt",
    "Precompiled", "Split", "Whitespace", "Metaspace", "Digits", "Punctuation", "BertPreTokenizer",
    "CharDelimiterSplit", "UnicodeScripts", "FixedLength", "Fuse", "ByteFallback", "WordPiece", "BPEDecoder", "CTC",
)  # fmt: skip
USUAL = {
    "content": "x", "pattern": {"String": "a"}, "prepend": "\u2581", "replacement": "\u2581", "prepend_scheme": "first",
    "add_prefix_space": True, "split": False, "behavior": "Isolated", "invert": False, "individual_digits": True,
    "delimiter": "a", "length": 3, "stop": 0, "start": 1, "suffix": "</w>", "prefix": "##", "cleanup": True,
    "strip_left": True, "strip_right": True, "use_regex": True, "trim_offsets": True, "lowercase": True,
    "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "precompiled_charsmap": "AAAA",
    "pad_token": "<unk>", "word_delimiter_token": "|",
}  # fmt: skip
MORE_SETTINGS = {
    "added_tokens_decoder": {"2": {"content": "<|end|>", "special": True}, "2049": {"content": "car"}},
    "extra_special_tokens": ["<tool>", {"content": "<image>"}],
    "image_token": {"content": "<image>", "special": True},
    "split_special_tokens": False,
    "add_prefix_space": True,
}
CONVERSATIONS = [
    {"id": "a", "turns": ["Open the window.", "Close it."], "domain": "car", "system": "Be brief."},
    {"question_id": 81, "category": "writing", "turns": ["Write a line."], "reference": ["A line."]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]},
    {"id": 7, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]},
    {"id": "s", "conversations": [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hi."}]},
]


def read_tokenizer(path: Path) -> None:
    """Load a folder's tokenizer and use it: a conversation of two turns, every id as text."""
    tokenizer = load_tokenizer(path.parent)
    for text in TEXTS:
        tokenizer.encode(text)
    conversation = tokenizer.open()
    tokens = conversation.ask("Open the window.", []).tokens
    tokens += tokenizer.encode("It is open.")
    conversation.ask("<|im_end|> Close it.", tokens)
    tokenizer.decode(sorted(tokenizer.tokenizer.get_vocab().values()))


def read_settings(path: Path) -> None:
    """A folder by its settings alone: the file of the tokenizer is the shipped one."""
    with completed(path, {"tokenizer.json": (PROJECT / "models/target/tokenizer.json").read_bytes()}) as folder:
        read_tokenizer(folder / path.name)


def read_conversation_file(path: Path) -> None:
    read_conversations(path, None, 3)


@cache
def tokenizers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Of every kind of tokenizer its file and its settings, with a template of some kind."""
    made = []
    for make, template in zip(TOKENIZERS.values(), [*TEMPLATES.values()] * 2, strict=False):
        files = files_of(lambda folder, make=make, template=template: save(folder, make(), template))
        made.append(tuple(json.loads(files[name]) for name in ("tokenizer.json", "tokenizer_config.json")))
    return made


def odd(chance: random.Random) -> Any:
    """A value that a part of a tokenizer might do something with."""
    text = chance.choice(("", " ", "a", "\u2581", "\ufffd", "aa", "a" * 300, "<|im_end|>", "\n"))
    regex = chance.choice(("", "^", "$", "(?=a)", "(a*)*b", "[", r"\\b", "(?i)A|", r"\\p{L}{0,99999}", "(x+x+)+y", "."))
    number = chance.choice((0, 1, 2, -1, 400, 2**16, 2**31, 2**32 - 1, 2**63, 1.5))
    return chance.choice((text, {"String": text}, {"Regex": regex}, number, True, False, None, [], [text], "Isolated"))


def part(chance: random.Random, depth: int = 0) -> Any:
    """A part of a tokenizer with one odd value, or a few in a row."""
    if depth < 3 and chance.random() < 0.3:
        inner = [part(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 3)))]
        return {"type": "Sequence", chance.choice(("normalizers", "pretokenizers", "decoders")): inner}
    return {"type": chance.choice(KINDS_OF_PARTS), **USUAL, chance.choice(FIELDS): odd(chance)}


def odd_tokenizer(chance: random.Random) -> Input:
    """A tokenizer with odd parts, settings of its model and added tokens."""
    file = json.loads(json.dumps(chance.choice(tokenizers())[0]))
    for name in chance.sample(("normalizer", "pre_tokenizer", "decoder"), chance.choice((1, 1, 2))):
        file[name] = part(chance)
    if chance.random() < 0.25:
        settings = ("unk_token", "unk_id", "max_input_chars_per_word", "continuing_subword_prefix", "byte_fallback",
                    "end_of_word_suffix", "fuse_unk", "dropout", "ignore_merges")  # fmt: skip
        file["model"][chance.choice(settings)] = odd(chance)
    if chance.random() < 0.2:
        text, token = chance.choice(("a", " ", "<|im_end|>x")), chance.choice((0, 3, 420, 2**31, 2**32, 10**9))
        file["added_tokens"].append(dict.fromkeys(FLAGS, chance.random() < 0.5) | {"id": token, "content": text})
    return "tokenizer.json", json_bytes(file)


def broken_tokenizer(chance: random.Random) -> Input:
    """Most nodes of a tokenizer are tokens: what is not is changed as often."""
    file = chance.choice(tokenizers())[0]
    if chance.random() < 0.17:
        return "tokenizer.json", changed_bytes(json_bytes(file), chance)
    parts = {name: value for name, value in file.items() if name != "model"}
    model = {name: value for name, value in file["model"].items() if name not in ("vocab", "merges")}
    parts = changed_tree(parts | {"model": model}, chance)
    if isinstance(parts, dict) and isinstance(parts.get("model"), dict):
        lists = {name: file["model"][name] for name in ("vocab", "merges") if name in file["model"]}
        if chance.random() < 0.33:
            lists = {name: changed_tree(entries, chance) for name, entries in lists.items()}
        parts["model"] |= lists
    return "tokenizer.json", json_bytes(parts)


def broken_settings(chance: random.Random) -> Input:
    settings = chance.choice(tokenizers())[1] | (MORE_SETTINGS if chance.random() < 0.5 else {})
    if chance.random() < 0.33:  # a program with a wrong piece
        template = changed_bytes(settings["chat_template"].encode(), chance).decode(errors="replace")
        return "tokenizer_config.json", json_bytes(settings | {"chat_template": template})
    return "tokenizer_config.json", json_bytes(changed_tree(settings, chance))


def broken_conversations(chance: random.Random) -> Input:
    if chance.random() < 0.33:
        return "talk.jsonl", b"\n".join(changed_bytes(json_bytes(row), chance) for row in CONVERSATIONS)
    changed = [changed_tree(row, chance) if chance.random() < 0.4 else row for row in CONVERSATIONS]
    return "talk.jsonl", json_bytes(changed) if chance.random() < 0.5 else b"\n".join(map(json_bytes, changed))


KINDS = [
    Kind("config.json", partial(changed_file, "config.json", checkpoint), read_checkpoint, 400),
    Kind("config.json of a deployed model", partial(changed_file, "config.json", checkpoint), read_model, 200),
    Kind("safetensors", partial(changed_weights, checkpoint), read_checkpoint, 300, (0.02, 0.9)),
    Kind("index of shards", partial(changed_file, "model.safetensors.index.json", sharded), read_index, 200),
    Kind("generation_config.json", generation_config, read_ends, 100),
    Kind("config.json of a head", partial(changed_file, "config.json", head), read_head, 200),
    Kind("safetensors of a head", partial(changed_weights, head), read_head, 150, (0.02, 0.95)),
    Kind("tokenizer with odd parts", odd_tokenizer, read_tokenizer, 200, (0.05, 0.95)),
    Kind("tokenizer", broken_tokenizer, read_tokenizer, 200),
    Kind("settings of a tokenizer", broken_settings, read_settings, 150),
    Kind("conversations", broken_conversations, read_conversation_file, 400),
]
