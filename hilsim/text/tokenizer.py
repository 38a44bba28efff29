"""Text to token ids and back, and conversations as prompts: the ids that `transformers` gives for a chat template.

The tokenizer is Hugging Face's `tokenizer.json`, the template the folder's own. A prompt is the whole conversation so
far, rendered and encoded anew, as pieces may depend on what stands before them and templates may change what they have
written before. What caches hold of earlier turns is compared with that: usually all of it stays valid and
only the new turn is read; where it differs, it is read again from there (`ChatHistory.ask`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from hilsim.errors import CheckpointError, Fault, InputError
from hilsim.text import limited
from hilsim.text.prompt import Prompt, shared_prefix
from hilsim.text.tokenizer_file import read_tokenizer
from hilsim.text.tokenizer_folder import (
    add_tokens,
    as_class,
    chat_template,
    optional_object,
    settings_of,
    token_faults,
    token_text,
)

# For a folder without a template: an answer is written as it is, usually with the blank that the model begins it with.
PLAIN = (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{% if message['role'] == 'user' %}User: {% elif message['role'] == 'system' %}System: {% else %}Assistant:"
    "{% endif %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}"
)
MOST_TEMPLATE = 2**20  # characters; the longest published ones have 2^15
RENDER_S, RENDER_BYTES = 1, 2**29  # CPU time and memory of a template that is rendered with limits
# Around a special token that a message writes: characters for private use, the same as in `transformers`.
START, END = "\U000f0000", "\U000f0001"


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the special tokens that it may ask for; `file` is where it comes from."""

    text: str
    special: dict[str, str]
    file: str

    @cached_property
    def linear(self) -> bool:
        """Whether it can be rendered here: its work is in proportion to the conversation."""
        from hilsim.text.template import is_linear

        if len(self.text) > MOST_TEMPLATE:
            raise self.refusal(f"{len(self.text)} characters", f"at most {MOST_TEMPLATE}")
        try:
            return is_linear(self.text)
        except Exception as error:  # a parser and optimiser of programs: it can raise whatever it likes
            raise self.unrendered(f"{type(error).__name__}: {error}") from None

    def rendered(self, messages: Sequence[dict[str, str]], cue: bool = True) -> str:
        """A conversation as one text; `cue` asks for the next answer. Raises `CheckpointError`."""
        from hilsim.text.template import rendered

        if self.linear:
            try:
                return rendered(self.text, self.special, messages, cue)
            except Exception as error:  # a template is a program: it can raise whatever it likes
                raise self.unrendered(f"{type(error).__name__}: {error}") from None
        work = {"template": self.text, "special": self.special, "messages": messages, "cue": cue}
        try:
            answer = limited.ask(
                RENDER_S, RENDER_BYTES, do="render", epoch=os.environ.get("SOURCE_DATE_EPOCH", ""), **work
            )
        except limited.ProcessDied as died:
            raise self.unrendered(str(died)) from None
        if "error" in answer:
            raise self.unrendered(f"{answer['kind']}: {answer['error']}")
        text: str = answer["found"]
        return text

    def unrendered(self, why: str) -> CheckpointError:
        """The fault of a template that cannot be rendered."""
        return self.refusal(f"one that cannot be rendered ({why})", "a template for user and assistant turns")

    def refusal(self, found: str, expected: str) -> CheckpointError:
        """A fault of the template."""
        return CheckpointError([Fault(self.file, "chat_template", found, expected)])

    def require_turns(self) -> None:
        """Raises `CheckpointError` unless each of three turns changes the rendered text."""
        turns = [
            {"role": role, "content": text}
            for role, text in (("user", "first words"), ("assistant", "an answer"), ("user", "second words"))
        ]
        whole = self.rendered(turns)
        for place, turn in enumerate(turns):
            others = [*turns[:place], turn | {"content": "other ones"}, *turns[place + 1 :]]
            if self.rendered(others) == whole:
                raise self.refusal(
                    f"one that leaves turn {place + 1} of three ({turn['role']}) out",
                    "a template for user and assistant turns",
                )


@dataclass(frozen=True)
class Encoded:
    """A rendered conversation; `starts` are the characters at which the ids begin, where known."""

    text: str
    ids: list[int]
    starts: list[int] = field(default_factory=list)


class ChatTokenizer:
    """A folder's tokenizer with its chat template and the tokens that end an answer."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, end_tokens: frozenset[int]):
        self.tokenizer, self.template, self.end_tokens = tokenizer, template, end_tokens
        added = tokenizer.get_added_tokens_decoder()
        marks = [token.content for number, token in added.items() if token.special or number in end_tokens]
        longest = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True) if not mark.isspace())
        self._marks = re.compile(longest or "(?!)")
        self._marked = re.compile(f"{START}({longest or '(?!)'}){END}|[{START}{END}]")

    @property
    def vocab_size(self) -> int:
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; special tokens written in it are recognised, none is added."""
        with self._watched():
            return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        try:
            return str(self.tokenizer.decode(list(tokens), skip_special_tokens=skip_special))
        except BaseException as error:
            raise self._failure(error) from None

    def first_turn(self, user: str, system: str | None = None) -> list[int]:
        """The prompt that opens a conversation."""
        return self.open(system).ask(user, []).tokens

    def open(self, system: str | None = None) -> ChatHistory:
        """A conversation that begins, after the system text if there is one."""
        return ChatHistory(self, system)

    def conversation(self, messages: Sequence[dict[str, str]], cue: bool = True) -> Encoded:
        """A conversation as `transformers` encodes it; `cue` asks for the next answer.

        A special token written in a message is read as plain text: a passenger's "<|end|>" must not end the turn.
        In this case alone text is encoded in pieces, as `transformers` does with `sanitize_control_tokens`.
        """
        if not any(self._marks.search(message["content"]) for message in messages):
            text = self.template.rendered(messages, cue)
            with self._watched():
                encoding = self.tokenizer.encode(text, add_special_tokens=False)
            return Encoded(text, list(encoding.ids), [start for start, _ in encoding.offsets])
        plain = [
            message
            | {"content": self._marks.sub(f"{START}\\g<0>{END}", re.sub(f"[{START}{END}]", "", message["content"]))}
            for message in messages
        ]
        text = self.template.rendered(plain, cue)
        first, *pieces = self._marked.split(text)
        with self._watched():
            ids = self.encode(first)
            for place, piece in enumerate(pieces):
                if piece:
                    ids += self._after_something(piece, as_text=place % 2 == 0)
        return Encoded(text, ids)

    def _after_something(self, piece: str, as_text: bool) -> list[int]:
        """Ids of a piece from within a text: after a line's end, so that no blank comes before the first word."""
        encode = self._as_text if as_text else self.encode
        line, ids = self.encode("\n"), encode(f"\n{piece}")
        return ids[len(line) :] if ids[: len(line)] == line else encode(piece)

    def _as_text(self, text: str) -> list[int]:
        """Ids without any added token."""
        parts = self.tokenizer
        if parts.normalizer is not None:
            text = parts.normalizer.normalize_str(text)
        pieces = [text]
        if parts.pre_tokenizer is not None:
            pieces = [piece for piece, _ in parts.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for piece in pieces for token in parts.model.tokenize(piece)]

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Raises `CheckpointError` where the library panics over a text."""
        try:
            yield
        except BaseException as error:
            raise self._failure(error) from None

    def _failure(self, error: BaseException) -> BaseException:
        """What is raised in place of an exception of the library's, whose panics are no `Exception`; others stay."""
        if type(error).__name__ != "PanicException" and type(error) is not Exception:
            return error
        found = f"a tokenizer that fails on this text ({error})"
        return CheckpointError([Fault(self.template.file, "tokenizer.json", found, "a tokenizer for any text")])


class ChatHistory:
    """One conversation: its messages by role, and the last prompt."""

    def __init__(self, tokenizer: ChatTokenizer, system: str | None = None):
        self.tokenizer = tokenizer
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.asked = 0  # tokens of the conversation with its last question
        self.last: Encoded | None = None

    def ask(self, user: str, before: Sequence[int]) -> Prompt:
        """The prompt of the next question; `before` is the conversation so far, the last answer included.

        An answer stays as the model wrote it where its tokens decode to the same text, even if encoding that text
        again gives other tokens: caches hold the model's own.
        """
        standing = len(before)
        if before and before[-1] in self.tokenizer.end_tokens and standing > self.asked:
            standing -= 1  # the template writes the end of the answer itself
        last, answer = self.last, list(before[self.asked : standing])
        if last is not None:
            self.messages.append({"role": "assistant", "content": self.tokenizer.decode(answer)})
        self.messages.append({"role": "user", "content": user})
        whole = self.tokenizer.conversation(self.messages)
        prefix_length = shared_prefix(before[:standing], whole.ids)
        after = prefix_length
        if prefix_length < standing and last is not None and (seam := self.seam(last, answer, whole)):
            prefix_length, after = standing, seam
        if after == len(whole.ids):  # nothing new: the last token is read again, as a pass needs one
            prefix_length, after = prefix_length - 1, after - 1
        self.asked, self.last = prefix_length + len(whole.ids) - after, whole
        return Prompt(prefix_length, whole.ids[after:])

    def seam(self, last: Encoded, answer: list[int], whole: Encoded) -> int:
        """How many ids of a conversation are those of the last prompt and its answer, as whatever tokens.

        0 where the template or the tokenizer changed their text.
        """
        length, text = len(last.ids), self.messages[-2]["content"]
        end = len(last.text) + len(text)
        same = whole.ids[:length] == last.ids and whole.text[:end] == last.text + text
        if not same or end not in whole.starts or "\ufffd" in text:  # half a character is no text
            return 0
        seam = whole.starts.index(end)
        decode = self.tokenizer.decode
        same_text = decode([*last.ids, *answer], skip_special=False) == decode(whole.ids[:seam], skip_special=False)
        return seam if same_text and seam > length else 0


def load_tokenizer(folder: Path, *, recorded: bool = False) -> ChatTokenizer:
    """The tokenizer of a checkpoint folder. Raises `CheckpointError` when files are missing or unreadable.

    `recorded`: a transcript of this very folder has all prompts, so its template is not tried again.
    """
    settings = settings_of(folder)
    tokenizer, pad = read_tokenizer(folder / "tokenizer.json")
    if pad is not None:
        settings.setdefault("pad_token", pad)
    if isinstance(named := settings.get("extra_special_tokens"), dict):
        settings = named | settings
    if faults := token_faults(settings, str(folder / "tokenizer_config.json")):
        raise CheckpointError(faults)
    special = {
        name: text for name, value in settings.items() if name.endswith("_token") and (text := token_text(value))
    }
    as_class(tokenizer, settings, folder)
    template = ChatTemplate(PLAIN if (own := chat_template(settings, folder)) is None else own, special, str(folder))
    if not recorded:
        template.require_turns()
    example = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]
    add_tokens(tokenizer, settings, folder, lambda: template.rendered(example))
    ends = set[int]()
    for path in (folder / "config.json", folder / "generation_config.json"):
        value = optional_object(path).get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(token, int) for token in ids):
            raise CheckpointError([Fault(str(path), "eos_token_id", repr(value), "a token id or a list of them")])
        ends.update(ids)
    if "eos_token" in special and (end := tokenizer.token_to_id(special["eos_token"])) is not None:
        ends.add(end)
    return ChatTokenizer(tokenizer, template, frozenset(ends))


def system_fault(tokenizer: ChatTokenizer, system: str, user: str) -> Fault | None:
    """The fault of a template that does not support a system text; None where it does."""
    try:
        with_it = tokenizer.open(system).ask(user, []).tokens
    except InputError as error:
        return error.faults[0]
    if with_it != tokenizer.first_turn(user):
        return None
    return tokenizer.template.refusal("one that leaves the system text out", "a template that includes it").faults[0]
