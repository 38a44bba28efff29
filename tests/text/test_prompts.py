"""Prompts as `transformers` encodes them, turn by turn, for the tokenizers and templates that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from hilsim.errors import CheckpointError
from hilsim.text.template import is_linear
from hilsim.text.tokenizer import load_tokenizer

WORDS = (
    "Turn the heating up to twenty degrees, please.",
    "It is twenty degrees now.",
    "  Where is the nearest car park?  ",
    "The nearest car park is at the main station.",
    "Größer schreiben, bitte.",
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
SIZES = {"special_tokens": SPECIAL, "vocab_size": 420, "show_progress": False}


def bytes_bpe() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(WORDS * 9, trainers.BpeTrainer(initial_alphabet=alphabet, **SIZES))
    return made


def blanks(made: Tokenizer, scheme: str) -> Tokenizer:
    """A blank before the first word, written as SentencePiece writes it."""
    if scheme == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme=scheme, split=False)
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(parts)
    return made


def pieces(scheme: str) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        made = blanks(Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)), scheme)
        special = [*SPECIAL, *[f"<0x{byte:02X}>" for byte in range(256)]]
        trainer = trainers.BpeTrainer(special_tokens=special, vocab_size=460, show_progress=False)
        made.train_from_iterator([*WORDS, "[INST] [/INST] user assistant"] * 9, trainer)
        return made

    return make


def unigram() -> Tokenizer:
    made = blanks(Tokenizer(models.Unigram()), "always")
    trainer = trainers.UnigramTrainer(special_tokens=SPECIAL, vocab_size=160, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([*WORDS, "[INST] [/INST] user assistant"] * 9, trainer)
    return made


def whole_words() -> Tokenizer:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.train_from_iterator(WORDS * 9, trainers.WordLevelTrainer(**SIZES))
    return made


def padded() -> Tokenizer:
    made = bytes_bpe()
    made.enable_padding(length=64, pad_id=0, pad_token="<unk>")
    made.enable_truncation(max_length=8)
    return made


def numbers_apart() -> Tokenizer:
    made = bytes_bpe()
    parts = [pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), made.pre_tokenizer]
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    made.normalizer = normalizers.NFC()
    made.add_tokens(["degrees", AddedToken("schreiben", single_word=True, lstrip=True)])
    made.add_special_tokens([AddedToken("<tool>", rstrip=True)])
    return made


TOKENIZERS = {
    "bytes": bytes_bpe,
    "blank before every text": pieces("prepend"),
    "blank before the first piece": pieces("first"),
    "blank before every piece": pieces("always"),
    "no blank": pieces("never"),
    "unigram": unigram,
    "whole words": whole_words,
    "padding and truncation": padded,
    "numbers apart, words added": numbers_apart,
}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "brackets": "{{ bos_token }}{% for m in messages %}{% if m['role'] != 'assistant' %}"
    "[INST] {{ m['content'] }} [/INST]{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
    "brackets without a blank": "{% for m in messages %}{% if m['role'] != 'assistant' %}{{ bos_token + '[INST] ' + "
    "m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "trimmed": CHATML.replace("m['content']", "m['content'] | trim"),
    "in capitals": CHATML.replace("m['content']", "m['content'] | upper"),
    "generation": CHATML.replace("{{ '<|im_start|>' + m", "{% generation %}{{ '<|im_start|>' + m").replace(
        "}}{% endfor", "}}{% endgeneration %}{% endfor"
    ),
    "a date": "{{ strftime_now('%d %B %Y') }}\n" + CHATML,
    "tools and documents": "{% if tools is not none or documents %}no{% endif %}{% if tools is defined %}yes{% endif %}"
    + CHATML,
    "an unnamed token": "{% if sep_token is defined %}no{% endif %}{{ pad_token }}" + CHATML,
    "contents in parts": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}",
    "answers cut later": "{%- set ns = namespace(last=messages|length - 1) -%}{% for m in messages %}"
    "{% set text = m.content.split(' now')[0] if loop.index0 < ns.last else m.content %}"
    "{{ '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}",
    "the system text in the last question": "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}"
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and system is defined %}{{ system + '\\n' }}{% endif %}{{ m['content'] }}[/INST]{% else %}"
    "{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson }}{{ eos_token }}{% endfor %}",
}


def save(folder: Path, tokenizer: Tokenizer, template: Any, **settings: Any) -> Path:
    """A folder as people save it; an ellipsis leaves a setting away."""
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    usual = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": template,
    }
    present = {name: value for name, value in {**usual, **settings}.items() if value is not ...}
    (folder / "tokenizer_config.json").write_text(json.dumps(present))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
    return folder


def require_the_same(folder: Path, *, system: str | None = None, words: tuple[str, ...] = WORDS) -> list[int]:
    """Ask every question; returns how many tokens of the conversation were dropped before each."""
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    talk, tokens, dropped = ours.open(system), list[int](), []
    messages = [] if system is None else [{"role": "system", "content": system}]
    for question, answer in zip(words[::2], (*words[1::2], ""), strict=True):
        prompt = talk.ask(question, tokens)
        dropped.append(len(tokens) - (bool(tokens) and tokens[-1] in ours.end_tokens) - prompt.prefix_length)
        tokens[prompt.prefix_length :] = prompt.tokens
        messages.append({"role": "user", "content": question})
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert tokens == list(expected)
        said = ours.encode(answer)
        tokens += [*said, 2]
        messages.append({"role": "assistant", "content": theirs.decode(said, skip_special_tokens=True)})
    return dropped


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_every_turn_is_rendered_as_transformers_renders_it(
    make: Callable[[], Tokenizer], template: str, tmp_path: Path
) -> None:
    save(tmp_path, make(), template)
    require_the_same(tmp_path)
    require_the_same(tmp_path, system="Answer in one sentence.")


def test_where_nothing_depends_on_its_surroundings_no_token_is_read_again(tmp_path: Path) -> None:
    save(tmp_path, bytes_bpe(), CHATML)
    assert require_the_same(tmp_path) == [0, 0, 0]
    save(tmp_path, bytes_bpe(), TEMPLATES["answers cut later"])
    assert [count > 0 for count in require_the_same(tmp_path)] == [False, True, False]


def test_an_answer_in_other_tokens_than_its_text_would_get_stands_as_the_model_wrote_it(tmp_path: Path) -> None:
    ours = load_tokenizer(save(tmp_path, bytes_bpe(), CHATML))
    talk = ours.open()
    first = talk.ask("Turn it off.", []).tokens
    letters = [token for letter in "twenty" for token in ours.encode(letter)]
    assert letters != ours.encode("twenty")
    prompt = talk.ask("Where is it?", [*first, *letters, 2])
    assert prompt.prefix_length == len(first) + len(letters)
    messages = [("user", "Turn it off."), ("assistant", "twenty"), ("user", "Where is it?")]
    told = ours.conversation([{"role": role, "content": text} for role, text in messages]).ids
    assert told == [*first, *ours.encode("twenty"), *prompt.tokens]
    assert ours.decode([*first, *letters, *prompt.tokens], skip_special=False) == ours.decode(told, skip_special=False)


def test_an_answer_that_its_text_cannot_give_back_is_read_again_as_text(tmp_path: Path) -> None:
    ours = load_tokenizer(save(tmp_path, bytes_bpe(), CHATML))
    talk = ours.open()
    first = talk.ask("Turn it off.", []).tokens
    half = ours.encode("ö")[:1] if len(ours.encode("ö")) > 1 else ours.encode("日")[:1]  # half a character
    prompt = talk.ask("Where is it?", [*first, *half])
    assert prompt.prefix_length == len(first)
    assert "\ufffd<|im_end|>" in ours.decode([*first, *prompt.tokens], skip_special=False)


KNOWN_AS = {
    "begin token in the map alone": ({"bos_token": ...}, {"special_tokens_map.json": {"bos_token": "<s>"}}),
    "the map's word counts": ({"bos_token": "<unk>"}, {"special_tokens_map.json": {"bos_token": {"content": "<s>"}}}),
    "the map counts no more": (
        {"bos_token": ..., "added_tokens_decoder": {"1": {"content": "<s>", "special": True}}},
        {"special_tokens_map.json": {"bos_token": "<s>"}},
    ),
    "as objects": ({"bos_token": {"__type": "AddedToken", "content": "<s>", "special": True}}, {}),
    "a word of the vocabulary": ({"bos_token": "station"}, {}),
    "a word that nobody knows": ({"bos_token": "<begin of all>"}, {}),
    "words in added_tokens.json": ({}, {"added_tokens.json": {"car park": 420, "<s2>": 421}}),
    "special words in added_tokens.json": ({"bos_token": "<s2>"}, {"added_tokens.json": {"car": 420, "<s2>": 421}}),
    "words in added_tokens_decoder": (
        {"added_tokens_decoder": {"421": {"content": "heating"}, "420": {"content": "degrees", "lstrip": True}}},
        {},
    ),
    "further special tokens": ({"additional_special_tokens": ["park"], "image_token": "station"}, {}),
    "further special tokens, newer": ({"extra_special_tokens": {"image_token": "station"}}, {}),
    "special tokens as text": ({"split_special_tokens": True}, {}),
}


@pytest.mark.parametrize(("settings", "files"), KNOWN_AS.values(), ids=KNOWN_AS)
def test_special_tokens_are_found_wherever_a_folder_keeps_them(
    settings: dict[str, Any], files: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path, bytes_bpe(), "{{ bos_token }}{{ image_token }}" + CHATML, **settings)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    require_the_same(tmp_path, words=WORDS[:1])


@pytest.mark.parametrize("settings", [{}, {"legacy": True}, {"legacy": False}, {"add_prefix_space": False}], ids=str)
@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_a_llama_tokenizer_is_what_transformers_makes_of_it(
    family: str, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path, pieces("prepend")(), TEMPLATES["brackets"], tokenizer_class=name, **settings)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "eos_token_id": 2}))
    require_the_same(tmp_path)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", ["GPT2Tokenizer", "GPTNeoXTokenizerFast", "Qwen2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}], ids=str)
def test_a_class_that_transformers_makes_anew_counts_and_not_its_file(
    settings: dict[str, Any], name: str, family: str, tmp_path: Path
) -> None:
    made = bytes_bpe()
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    save(tmp_path, made, TEMPLATES["brackets"], tokenizer_class=name, **settings)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "eos_token_id": 2}))
    require_the_same(tmp_path, words=("It is 12 km to E\u0301vry, 2024.", "Don't  STOP\n\nhere", "42"))


@pytest.mark.parametrize("name", ["CodeLlamaTokenizer", "CohereTokenizerFast", "T5Tokenizer"])
def test_a_class_made_anew_in_another_way_is_refused(name: str, tmp_path: Path) -> None:
    save(tmp_path, pieces("prepend")(), TEMPLATES["brackets"], tokenizer_class=name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
    with pytest.raises(
        CheckpointError, match=f"tokenizer_class: found {name.removesuffix('Fast')}.*PreTrainedTokenizerFast"
    ):
        load_tokenizer(tmp_path)


def test_the_date_can_be_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, bytes_bpe(), TEMPLATES["a date"])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    ours = load_tokenizer(tmp_path)
    assert ours.decode(ours.first_turn("x")).startswith("02 January 1970\n")


def test_templates_are_rendered_here_where_their_work_is_in_proportion_to_the_conversation() -> None:
    linear = {name for name, template in TEMPLATES.items() if is_linear(template)}
    assert {"chatml", "brackets", "trimmed"} <= linear
    assert linear.isdisjoint({"answers cut later", "the system text in the last question", "a date", "json"})
