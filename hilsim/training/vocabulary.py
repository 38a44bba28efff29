"""The stand-ins' one tokenizer: byte-level BPE, so that any Unicode text goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hilsim.files import written
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer
from hilsim.training.corpus import CorpusDialogue

PAD, BEGIN, END, USER, ASSISTANT = "<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, BEGIN, END, USER, ASSISTANT)
# Jinja, as every chat template: <|begin|><|user|>words<|end|><|assistant|>words<|end|>...
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{% else %}<|assistant|>{% endif %}"
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(dialogues: list[CorpusDialogue], entries: int) -> Tokenizer:
    """Byte-level BPE of `entries` tokens: 5 special ones, 256 bytes, merges by frequency. No randomness."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for dialogue in dialogues:
            for turn in dialogue.turns:
                yield turn.text

    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_positions: int) -> ChatTokenizer:
    """Write what `PreTrainedTokenizerFast.from_pretrained` reads, and read it back."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / "tokenizer.json") as path:
        tokenizer.save(str(path), pretty=False)
    with written(folder / "tokenizer_config.json") as path:
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    with written(folder / "generation_config.json") as path:
        ids = {name: tokenizer.token_to_id(text) for name, text in (("bos", BEGIN), ("eos", END), ("pad", PAD))}
        document = {f"{name}_token_id": value for name, value in ids.items()} | {"do_sample": False}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return load_tokenizer(folder)
