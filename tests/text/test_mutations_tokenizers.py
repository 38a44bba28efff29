"""Broken tokenizers, chat templates and conversation files: read or refused, whatever they hold."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from hilsim.describe.conversation import read_conversations
from hilsim.errors import CheckpointError
from hilsim.text.tokenizer import load_tokenizer
from hilsim.text.tokenizer_file import FLAGS
from tests.mutations import PROJECT, changed_bytes, changed_tree, json_bytes, survive
from tests.text.test_prompts import TEMPLATES, TOKENIZERS, save

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

TEXTS = ("Open the window.", "  Größe 日本語 😀\n\n", "<|im_end|>", "")


def read_tokenizer(path: Path) -> None:
    """Load a folder's tokenizer and use it: a conversation of two turns, every id as text."""
    tokenizer = load_tokenizer(path.parent)
    for text in TEXTS:
        tokenizer.encode(text)
    talk = tokenizer.open()
    tokens = talk.ask("Open the window.", []).tokens
    tokens += tokenizer.encode("It is open.")
    talk.ask("<|im_end|> Close it.", tokens)
    tokenizer.decode(sorted(tokenizer.tokenizer.get_vocab().values()))


def read_talk(path: Path) -> None:
    read_conversations(path, None, 3)


def folders(folder: Path) -> list[tuple[dict, dict]]:  # type: ignore[type-arg]
    """Of every kind of tokenizer its file and its settings, with a template of some kind."""
    made = []
    for make, template in zip(TOKENIZERS.values(), [*TEMPLATES.values()] * 2, strict=False):
        save(folder, make(), template)
        made.append(
            tuple(json.loads((folder / name).read_text()) for name in ("tokenizer.json", "tokenizer_config.json"))
        )
    return made


def odd(chance: random.Random) -> Any:
    """A value that a part of a tokenizer might do something with."""
    text = chance.choice(("", " ", "a", "\u2581", "\ufffd", "aa", "a" * 300, "<|im_end|>", "\n"))
    regex = chance.choice(("", "^", "$", "(?=a)", "(a*)*b", "[", r"\\b", "(?i)A|", r"\\p{L}{0,99999}", "(x+x+)+y", "."))
    number = chance.choice((0, 1, 2, -1, 400, 2**16, 2**31, 2**32 - 1, 2**63, 1.5))
    return chance.choice((text, {"String": text}, {"Regex": regex}, number, True, False, None, [], [text], "Isolated"))


FIELDS = (
    "content", "pattern", "prepend", "replacement", "prepend_scheme", "add_prefix_space", "split", "behavior", "invert",
    "individual_digits", "delimiter", "length", "stop", "start", "suffix", "prefix", "cleanup", "pad_token",
    "lowercase", "word_delimiter_token", "strip_left", "strip_right", "use_regex", "trim_offsets",
    "precompiled_charsmap",
)  # fmt: skip
KINDS = (
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


def part(chance: random.Random, depth: int = 0) -> Any:
    """A part of a tokenizer with one odd value, or a few in a row."""
    if depth < 3 and chance.random() < 0.3:
        inner = [part(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 3)))]
        return {"type": "Sequence", chance.choice(("normalizers", "pretokenizers", "decoders")): inner}
    return {"type": chance.choice(KINDS), **USUAL, chance.choice(FIELDS): odd(chance)}


def test_no_odd_part_of_a_tokenizer_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(19)
    good = [file for file, _ in folders(tmp_path / "good")]
    inputs = []
    for number in range(300):
        file = json.loads(json.dumps(chance.choice(good)))
        for name in chance.sample(("normalizer", "pre_tokenizer", "decoder"), chance.choice((1, 1, 2))):
            file[name] = part(chance)
        if number % 4 == 0:
            settings = ("unk_token", "unk_id", "max_input_chars_per_word", "continuing_subword_prefix", "byte_fallback",
                        "end_of_word_suffix", "fuse_unk", "dropout", "ignore_merges")  # fmt: skip
            file["model"][chance.choice(settings)] = odd(chance)
        if number % 5 == 0:
            text, token = chance.choice(("a", " ", "<|im_end|>x")), chance.choice((0, 3, 420, 2**31, 2**32, 10**9))
            file["added_tokens"].append(dict.fromkeys(FLAGS, chance.random() < 0.5) | {"id": token, "content": text})
        inputs.append((f"{number}/tokenizer.json", json_bytes(file)))
    refusals = survive(read_tokenizer, inputs, tmp_path, accepted=range(30, 270))
    assert any("PanicException" in text for text in refusals)  # the library does what is guarded against here


def test_no_broken_tokenizer_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(16)
    good = [file for file, _ in folders(tmp_path / "good")]
    inputs = []
    for number in range(300):
        file = chance.choice(good)
        if number % 6 == 0:
            data = changed_bytes(json_bytes(file), chance)
        else:  # most nodes are tokens: what is not is changed as often
            parts = {name: value for name, value in file.items() if name != "model"}
            model = {name: value for name, value in file["model"].items() if name not in ("vocab", "merges")}
            parts = changed_tree(parts | {"model": model}, chance)
            if isinstance(parts, dict) and isinstance(parts.get("model"), dict):
                lists = {name: file["model"][name] for name in ("vocab", "merges") if name in file["model"]}
                parts["model"] |= changed_tree(lists, chance) if number % 3 == 0 else lists
            data = json_bytes(parts)
        inputs.append((f"{number}/tokenizer.json", data))
    survive(read_tokenizer, inputs, tmp_path, accepted=range(5, 200))


def read_settings(path: Path) -> None:
    """Load a folder by its settings alone: the file of the tokenizer is the shipped one."""
    (path.parent / "tokenizer.json").write_bytes((PROJECT / "models/target/tokenizer.json").read_bytes())
    read_tokenizer(path)


def test_no_broken_settings_of_a_tokenizer_break_the_program(tmp_path: Path) -> None:
    chance = random.Random(17)
    good = [settings for _, settings in folders(tmp_path / "good")]
    more = {
        "added_tokens_decoder": {"2": {"content": "<|end|>", "special": True}, "2049": {"content": "car"}},
        "extra_special_tokens": ["<tool>", {"content": "<image>"}],
        "image_token": {"content": "<image>", "special": True},
        "split_special_tokens": False,
        "add_prefix_space": True,
    }
    inputs = []
    for number in range(300):
        settings = chance.choice(good) | (more if number % 2 else {})
        if number % 3 == 0:  # a program with a wrong piece
            settings |= {
                "chat_template": changed_bytes(settings["chat_template"].encode(), chance).decode(errors="replace")
            }
            data = json_bytes(settings)
        else:
            data = json_bytes(changed_tree(settings, chance))
        inputs.append((f"{number}/tokenizer_config.json", data))
    survive(read_settings, inputs, tmp_path, accepted=range(30, 290))


def test_no_broken_conversation_file_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(18)
    rows = [
        {"id": "a", "turns": ["Open the window.", "Close it."], "domain": "car", "system": "Be brief."},
        {"question_id": 81, "category": "writing", "turns": ["Write a line."], "reference": ["A line."]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]},
        {"id": 7, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]},
        {"id": "s", "conversations": [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hi."}]},
    ]
    inputs = []
    for number in range(300):
        if number % 3 == 0:
            data = b"\n".join(changed_bytes(json_bytes(row), chance) for row in rows)
        else:
            changed = [changed_tree(row, chance) if chance.random() < 0.4 else row for row in rows]
            data = json_bytes(changed) if number % 3 == 1 else b"\n".join(map(json_bytes, changed))
        inputs.append((f"{number}.jsonl", data))
    survive(read_talk, inputs, tmp_path, accepted=range(20, 280))


WITHOUT_END = {
    "a loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
    "a quiet loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a power": "{{ 2 ** 2000000000 }}",
    "a power of constants": "{% if 7 ** (7 ** 12) %}x{% endif %}",
    "doubled": "{% set x = namespace(t='ab') %}{% for a in range(40) %}{% set x.t = x.t ~ x.t %}{% endfor %}{{ x.t }}",
    "doubled by the messages": "{% set x = namespace(t=messages[0].content) %}"
    "{% for a in range(60) %}{% set x.t = x.t + x.t %}{% endfor %}{{ x.t|length }}",
    "a long text": "{{ 'x' * 2000000000 }}",
    "a list": "{{ [0] * 2000000000 }}",
    "a width": "{{ '%2000000000d' % 1 }}",
    "a place": "{{ 'x'.ljust(2000000000) }}",
    "a filter": "{{ 'x' | center(2000000000) }}",
    "a macro that calls itself": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "two macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "words": "{{ lipsum(n=1000000) }}",
    "much": "{% for a in range(99999) %}{{ 'x' * 100 }}{% endfor %}",
    "nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("template", WITHOUT_END.values(), ids=WITHOUT_END)
def test_templates_that_would_never_end_or_take_all_memory_are_refused(template: str, tmp_path: Path) -> None:
    save(tmp_path, TOKENIZERS["bytes"](), template + TEMPLATES["chatml"])
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match=r"chat_template: found one that cannot be rendered \(.+\)") as caught:
        load_tokenizer(tmp_path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert len(str(caught.value)) < 1000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert after.ru_maxrss - before.ru_maxrss < 2**18  # KiB


def test_after_a_template_that_died_the_next_is_rendered(tmp_path: Path) -> None:
    save(tmp_path / "bad", TOKENIZERS["bytes"](), WITHOUT_END["a power"])
    with pytest.raises(CheckpointError, match=r"of CPU time|a crash"):
        load_tokenizer(tmp_path / "bad")
    save(tmp_path / "good", TOKENIZERS["bytes"](), TEMPLATES["answers cut later"])
    assert load_tokenizer(tmp_path / "good").first_turn("Hello.")
