"""Text to token ids and back, and the frame of special tokens that a conversation is told in.

The tokenizer is Hugging Face's `tokenizer.json`; the frame comes from the folder's own chat template, rendered once
with marker words, so that a later turn costs one encode of its own words and the cache of earlier turns stays valid.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from hilsim.errors import CheckpointError, Fault
from hilsim.files import read_text


@dataclass(frozen=True)
class ChatFrame:
    """What stands around the words: `opening` user `answer_cue` assistant `between` user `answer_cue` ..."""

    opening: str
    answer_cue: str
    between: str


PLAIN_FRAME = ChatFrame(opening="User: ", answer_cue="\nAssistant:", between="\nUser: ")


class ChatTokenizer:
    """A folder's tokenizer with its conversation frame and the tokens that end an answer."""

    def __init__(self, tokenizer: Tokenizer, frame: ChatFrame, end_tokens: frozenset[int]):
        self.tokenizer = tokenizer
        self.frame = frame
        self.end_tokens = end_tokens

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
        # A passenger who says "<|end|>" must not end the turn: special tokens in spoken words are taken apart.
        ids: list[int] = []
        special = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        rest = [text]
        for mark in special:
            rest = [piece for part in rest for piece in split_inside(part, mark)]
        for piece in rest:
            ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return ids


def split_inside(text: str, mark: str) -> list[str]:
    """Cut every occurrence of `mark` after its first character, so that no tokenizer sees it whole."""
    if len(mark) < 2 or mark not in text:
        return [text]
    pieces = text.split(mark)
    cut: list[str] = [pieces[0] + mark[0]]
    for piece in pieces[1:-1]:
        cut.append(mark[1:] + piece + mark[0])
    return [*cut, mark[1:] + pieces[-1]]


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
    settings = optional_json(folder / "tokenizer_config.json")
    template = settings.get("chat_template")
    if template is None and (folder / "chat_template.jinja").is_file():
        template = read_text(folder / "chat_template.jinja")
    special = {name: token_text(settings.get(name)) for name in ("bos_token", "eos_token")}
    frame = PLAIN_FRAME if not isinstance(template, str) else frame_of(template, special, str(folder))
    ends: set[int] = set()
    for file in ("config.json", "generation_config.json"):
        value = optional_json(folder / file).get("eos_token_id")
        ends.update(value if isinstance(value, list) else [] if value is None else [value])
    if special["eos_token"] and (end := tokenizer.token_to_id(special["eos_token"])) is not None:
        ends.add(end)
    return ChatTokenizer(tokenizer, frame, frozenset(ends))


def optional_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing where the file is absent."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError([Fault(str(path), f"line {error.lineno}", error.msg, "a JSON document")]) from None
    return document if isinstance(document, dict) else {}


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

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda _: "today"
    try:
        render = environment.from_string(template).render
        rendered = render(messages=turns, add_generation_prompt=True, **special)
        opening, rest = rendered.split(first)
        _, rest = rest.split(answer)
        between, cue = rest.split(second)
    except (TemplateError, TypeError, ValueError) as error:
        raise CheckpointError(
            [Fault(file, "chat_template", f"a template that cannot be rendered ({error})", "user and assistant turns")]
        ) from None
    return ChatFrame(opening=opening, answer_cue=cue, between=between)
