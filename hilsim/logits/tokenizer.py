"""Text to token ids and back, and the frame of special tokens that a conversation is told in.

The tokenizer is Hugging Face's `tokenizer.json`; the frame comes from the folder's own chat template, rendered once
with marker words, so that a later turn costs one encode of its own words and the cache of earlier turns stays valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from hilsim.errors import CheckpointError, Fault
from hilsim.files import read_text
from hilsim.logits.folder import read_object


@dataclass(frozen=True)
class ChatFrame:
    """What stands around the words: `opening` user `answer_cue` assistant `between` user `answer_cue` ..."""

    opening: str
    answer_cue: str
    between: str


SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")  # what a chat template may ask for
PLAIN_FRAME = ChatFrame(opening="User: ", answer_cue="\nAssistant:", between="\nUser: ")


class ChatTokenizer:
    """A folder's tokenizer with its conversation frame and the tokens that end an answer."""

    def __init__(self, tokenizer: Tokenizer, frame: ChatFrame, end_tokens: frozenset[int]):
        self.tokenizer = tokenizer
        self.frame = frame
        self.end_tokens = end_tokens
        self._spoken = deaf(tokenizer)

    @property
    def vocab_size(self) -> int:
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; special tokens written in it are recognised, none is added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=skip_special))

    def first_turn(self, user: str) -> list[int]:
        """The prompt that opens a conversation."""
        return self.encode(self.frame.opening) + self._words(user) + self.encode(self.frame.answer_cue)

    def next_turn(self, user: str) -> list[int]:
        """What follows an answer (its end token left out) to ask the next one."""
        return self.encode(self.frame.between) + self._words(user) + self.encode(self.frame.answer_cue)

    def _words(self, text: str) -> list[int]:
        return list(self._spoken.encode(text, add_special_tokens=False).ids)


def deaf(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that takes marks apart: a passenger who says "<|end|>" must not end the turn.

    Marks are all added tokens except single characters and runs of blanks, which some tokenizers add as plain text.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    added = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    copy.add_special_tokens([text for text in added if len(text) > 1 and not text.isspace()])
    copy.encode_special_tokens = True  # the library's name for: encode them as text
    return copy


def load_tokenizer(folder: Path) -> ChatTokenizer:
    """The tokenizer of a checkpoint folder. Raises `CheckpointError` when files are missing or unreadable."""
    path = folder / "tokenizer.json"
    text = read_text(path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            [Fault(str(path), "", f"an unreadable tokenizer ({error})", "a tokenizer of the `tokenizers` library")]
        ) from None
    settings = optional_object(folder / "tokenizer_config.json")
    special = {name: token_text(settings.get(name)) for name in SPECIAL}
    template = chat_template(settings, folder)
    frame = PLAIN_FRAME if template is None else frame_of(template, special, str(folder))
    ends = set[int]()
    for path in (folder / "config.json", folder / "generation_config.json"):
        value = optional_object(path).get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(token, int) for token in ids):
            raise CheckpointError([Fault(str(path), "eos_token_id", repr(value), "a token id or a list of them")])
        ends.update(ids)
    if special["eos_token"] and (end := tokenizer.token_to_id(special["eos_token"])) is not None:
        ends.add(end)
    return ChatTokenizer(tokenizer, frame, frozenset(ends))


def optional_object(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is absent."""
    return read_object(path) if path.is_file() else {}


def chat_template(settings: dict[str, Any], folder: Path) -> str | None:
    """The folder's template for conversations without tools; its own file comes first, as in transformers."""
    if (folder / "chat_template.jinja").is_file():
        return read_text(folder / "chat_template.jinja")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, each with a name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def token_text(value: Any) -> str:
    """A special token in either of the two spellings of `tokenizer_config.json`."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def frame_of(template: str, special: dict[str, str], file: str) -> ChatFrame:
    """Render the chat template around marker words and cut the frame out at the markers."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    first, answer, second = "qqFIRSTqq", "qqANSWERqq", "qqSECONDqq"
    turns = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda _: "today"
    expected = "a template that tells user and assistant turns"
    try:
        told = environment.from_string(template).render(messages=turns, add_generation_prompt=True, **special)
    except Exception as error:  # a template is a program: it can raise whatever it likes
        found = f"one that cannot be rendered ({type(error).__name__}: {error})"
        raise CheckpointError([Fault(file, "chat_template", found, expected)]) from None
    parts = re.fullmatch(f"(.*?){first}.*?{answer}(.*?){second}(.*?)", told, re.DOTALL)
    if parts is None or any(told.count(words) != 1 for words in (first, answer, second)):
        found = "one that does not tell each of three turns once"
        raise CheckpointError([Fault(file, "chat_template", found, expected)])
    return ChatFrame(opening=parts[1], answer_cue=parts[3], between=parts[2])
