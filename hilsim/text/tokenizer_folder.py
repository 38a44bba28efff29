"""Reads what a checkpoint folder adds to `tokenizer.json`: special tokens, further tokens, the chat template.

These are stored in half a dozen ways; each is read as `transformers` reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from hilsim.describe.config_json import read_object
from hilsim.errors import CheckpointError, Fault
from hilsim.files import is_text, read_text
from hilsim.text.tokenizer_file import FLAGS

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def settings_of(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, with what older folders store in `special_tokens_map.json`."""
    settings = optional_object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:  # newer ones have everything there
        return settings
    return settings | optional_object(folder / "special_tokens_map.json")


def optional_object(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is absent."""
    return read_object(path) if path.is_file() else {}


def as_class(tokenizer: Tokenizer, settings: dict[str, Any], folder: Path) -> None:
    """What `transformers` 5 makes of some tokenizer classes, whatever normalizer and splits `tokenizer.json` has.

    Raises `CheckpointError` for a class that it rebuilds and hilsim does not, as ids would silently differ.
    """
    config = optional_object(folder / "config.json")
    named = class_of(settings, config)
    prefix = settings.get("add_prefix_space")
    byte_level = "ByteLevel" in f"{tokenizer.pre_tokenizer}{tokenizer.decoder}"
    if named == "LlamaTokenizer" and not byte_level:
        # A blank before the first word of a text, or, where it is `legacy`, before every piece between special tokens.
        blank = prefix is not False
        scheme = "never" if not blank else "always" if settings.get("legacy") else "first"
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=scheme, split=False)
        parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if blank else parts)
    elif named in ("GPT2Tokenizer", "GPTNeoXTokenizer"):
        tokenizer.normalizer = normalizers.NFC() if named == "GPTNeoXTokenizer" else None
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix is True)
        tokenizer.decoder = decoders.ByteLevel()
    elif named == "Qwen2Tokenizer":
        words = pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated", invert=False)
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=prefix is True, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
    elif named in MADE_ANEW:
        expected = (
            "LlamaTokenizer, GPT2Tokenizer, Qwen2Tokenizer, GPTNeoXTokenizer or a class that uses the file as it is"
        )
        remedy = "If tokenizer.json alone should count, set tokenizer_class to PreTrainedTokenizerFast."
        place = str(folder / "tokenizer_config.json")
        raise CheckpointError([Fault(place, "tokenizer_class", named, expected, remedy)])


def class_of(settings: dict[str, Any], config: dict[str, Any]) -> str:
    """The class that `transformers` 5 takes for these families: the named one, the family's own, or none ("")."""
    named = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or "").removesuffix("Fast")
    match config.get("model_type"):
        case "mistral":
            return ""  # it reads the file
        case "qwen2":
            return "Qwen2Tokenizer"  # it takes other names for mistakes
        case "qwen3":
            return named or "Qwen2Tokenizer"
        case _:
            return named


QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Further classes that set a normalizer or a pre-tokenizer of their own in `transformers` 5.
MADE_ANEW = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Albert", "Bert", "BigBird", "Blenderbot", "CLIP", "Camembert", "CodeLlama", "Cohere", "Deberta", "DebertaV2",
        "Funnel", "Gemma", "Herbert", "MBart", "MBart50", "MPNet", "Nllb", "Nougat", "OpenAIGPT", "Pegasus", "Qwen3_5",
        "Reformer", "RemBert", "RoFormer", "Roberta", "SeamlessM4T", "Siglip2", "Splinter", "T5", "Whisper", "XGLM",
        "XLMRoberta", "XLNet",
    )
)  # fmt: skip


def add_tokens(tokenizer: Tokenizer, settings: dict[str, Any], folder: Path, written: Callable[[], str]) -> None:
    """Tokens that are stored only beside `tokenizer.json`, in the order in which `transformers` adds them.

    A special token without an id anywhere is added only where the template writes it, as it does in the conversation
    that `written` returns: it can matter nowhere else.
    """
    listed = settings.get("added_tokens_decoder")
    named = {token_text(value) for name, value in settings.items() if name.endswith("_token")}
    tokens: list[AddedToken] = []
    path = str(folder / "tokenizer_config.json")
    if listed is not None:
        if not isinstance(listed, dict) or not all(key.isdecimal() and len(key) < 11 for key in listed):
            raise CheckpointError([Fault(path, "added_tokens_decoder", repr(listed)[:60], "tokens by id")])
        tokens = [added_token(listed[key], f"added_tokens_decoder.{key}", path) for key in sorted(listed, key=int)]
    else:
        known = tokenizer.get_added_tokens_decoder()
        more = optional_object(folder / "added_tokens.json")
        if not all(isinstance(number, int) for number in more.values()):
            raise CheckpointError(
                [Fault(str(folder / "added_tokens.json"), "", "an id that is no number", "ids by token")]
            )
        marks = {*named, *extra_tokens(settings)}
        here = {token.content for token in known.values()}
        tokens = [
            AddedToken(text, normalized=text not in marks, special=text in marks)
            for text, _ in sorted(more.items(), key=lambda item: item[1])
            if text not in here
        ]
        tokens += known.values()
    for token in tokens:
        token.special = token.special or token.content in named
    there = {token.content for token in (*tokens, *tokenizer.get_added_tokens_decoder().values())}
    for text in (*sorted(named), *extra_tokens(settings)):
        if text and text not in there and (tokenizer.token_to_id(text) is not None or text in written()):
            tokens.append(AddedToken(text, special=True))
            there.add(text)
    tokenizer.add_tokens(tokens)
    tokenizer.encode_special_tokens = settings.get("split_special_tokens") is True


def extra_tokens(settings: dict[str, Any]) -> list[str]:
    """Special tokens without a name of their own."""
    found = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
    return [text for value in values if (text := token_text(value))]


def added_token(value: Any, place: str, file: str) -> AddedToken:
    """A token as `added_tokens_decoder` lists it."""
    content = value.get("content") if isinstance(value, dict) else None
    good = isinstance(content, str) and content and is_text(content)
    if not good or not all(isinstance(value.get(flag, False), bool) for flag in FLAGS):
        raise CheckpointError([Fault(file, place, repr(value)[:60], "a token with content and flags")])
    return AddedToken(value["content"], **{flag: value[flag] for flag in FLAGS if flag in value})


def chat_template(settings: dict[str, Any], folder: Path) -> str | None:
    """The folder's template for conversations without tools: files of its own come first, as in `transformers`.

    Raises `CheckpointError` where there are several and none is the default.
    """
    named: Any = settings.get("chat_template")
    files = {"default": folder / "chat_template.jinja"} | {
        file.stem: file for file in sorted(folder.glob("additional_chat_templates/*.jinja"))
    }
    if found := {name: read_text(file) for name, file in files.items() if file.is_file()}:
        named = found
    elif isinstance(named, list):  # several, each with a name
        named = {entry.get("name"): entry.get("template") for entry in named if isinstance(entry, dict)}
    if isinstance(named, dict):
        if "default" not in named:
            names = ", ".join(sorted(map(str, named))) or "no names"
            remedy = "Name the one to use default, or write it to chat_template.jinja."
            raise CheckpointError(
                [
                    Fault(
                        str(folder),
                        "chat_template",
                        f"several templates and no default: {names}",
                        "one named default",
                        remedy,
                    )
                ]
            )
        named = named["default"]
    if named is not None and not isinstance(named, str):
        raise CheckpointError([Fault(str(folder), "chat_template", repr(named)[:60], "a template, or several by name")])
    return named


def token_text(value: Any) -> str:
    """A special token in either of its two spellings; "" of what is no text."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and is_text(text) else ""


def token_faults(settings: dict[str, Any], file: str) -> list[Fault]:
    """Faults of settings that should name a token and do not."""
    named = {name: value for name, value in settings.items() if name in SPECIAL and value is not None}
    return [
        Fault(file, name, ascii(value)[:60], "a token as text, or an object with its content")
        for name, value in named.items()
        if not token_text(value)
    ]
