"""The conversations of a workload, read from hilsim's own files and from common formats (chat messages, ShareGPT, ...).

A file is JSON lines or one JSON list. What an entry holds beside the passenger's text is used, or known and not used
(`Conversation.unused`, which reports repeat), or refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilsim.describe.config_json import RepeatedKey, each_once
from hilsim.describe.names import key_hint
from hilsim.errors import Fault, ScenarioError
from hilsim.files import is_text, read_text

BLANKS = re.compile(r"[ \t\n\r]*")
OWN = '{"id": "...", "turns": ["..."]}'
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
ROLES = {role: role for role in (USER, ASSISTANT, SYSTEM)} | {"developer": SYSTEM}
ROLES |= {"human": USER, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bing": ASSISTANT, "bard": ASSISTANT}
FIELDS = (("role", "content"), ("from", "value"))  # of a message, as chat APIs and as ShareGPT call them
MOST_FAULTS = 8  # of one file: the same mistake often stands in every line
ANSWERS = "the assistant's answers"


@dataclass(frozen=True)
class Conversation:
    """The passenger's turns, in order, and the text that the model is given before them, if there is one.

    `unused` names what else the file holds for it.
    """

    id: str
    turns: tuple[str, ...]
    system: str | None = None
    unused: tuple[str, ...] = ()

    @property
    def all_text(self) -> str:
        """All of it that enters a digest."""
        return "\t".join(self.turns if self.system is None else (f"\0{self.system}\0", *self.turns))


Refuse = Callable[[str, str], None]  # what was found, what was expected
Read = tuple[list[str], str | None, tuple[str, ...]]  # turns, a system text, what is not used


@dataclass(frozen=True)
class ConversationFormat:
    """A format, known by the key that holds its turns: how they are read, and which other keys it has."""

    name: str
    turns: str
    ids: str
    read: Callable[[Any, Refuse], Read]
    needs_id: bool = True
    labels: tuple[str, ...] = ()  # say nothing that a run could use
    unused: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.ids, self.turns, SYSTEM, *self.labels, *self.unused)


def plain(value: Any, refuse: Refuse) -> Read:
    """A list of the passenger's turns."""
    if not isinstance(value, list) or not all(isinstance(turn, str) for turn in value):
        refuse("turns that are no list of texts", OWN)
        return [], None, ()
    return value, None, ()


def messages(value: Any, refuse: Refuse, usual: tuple[str, str]) -> Read:
    """Messages of several roles: the passenger's are turns, the first may be the system's, answers are not used."""
    turns: list[str] = []
    system: str | None = None
    order: list[str] = []
    who, what = next((pair for pair in FIELDS if written_with(value, pair)), usual)
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        refuse("messages that are no list of objects", f'[{{"{who}": "{USER}", "{what}": "..."}}, ...]')
        return [], None, ()
    roles = [message.get(who) for message in value]
    roles = [ROLES.get(role.casefold(), role) if isinstance(role, str) else role for role in roles]
    for number, (message, role) in enumerate(zip(value, roles, strict=True), start=1):
        where = f"message {number}"
        if extra := [key for key in message if key not in (who, what)]:
            refuse(f"{where} with {some(extra)}", f"{who} and {what} alone")
        if role is None or what not in message:
            refuse(f"{where} without {(who if role is None else what)!r}", f"{who} and {what}")
            continue
        text = text_of(message[what])
        if role not in (USER, ASSISTANT, SYSTEM):
            refuse(f"{where} of {role!r}", f"one of {', '.join(ROLES)}")
        elif text is None:
            refuse(f"{where} with a {what} that is no text", "text, or a list of parts of type text")
        elif role == SYSTEM and number > 1:
            refuse(f"{where} of {role!r}", f"{role} as the first message alone")
        elif role == SYSTEM:
            system = text
        elif ASSISTANT in roles and order[-1:] == [USER] == [role]:
            refuse(f"{where} of {role!r} after another", "an answer between two questions, or questions alone")
        else:
            order.append(role)
            turns += [text] if role == USER else []
    return turns, system, (ANSWERS,) if ASSISTANT in order else ()


def written_with(value: Any, fields: tuple[str, str]) -> bool:
    """Whether a list of messages has these keys for role and text."""
    return isinstance(value, list) and any(isinstance(one, dict) and set(fields) & set(one) for one in value)


def text_of(content: Any) -> str | None:
    """The text of a message's content, which may come in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and set(part) == {"type", "text"}]
        whole = len(parts) == len(content) > 0 and all(part["type"] == "text" for part in content)
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if whole and len(texts) == len(parts) else None
    return content if isinstance(content, str) else None


FORMATS = (
    ConversationFormat("question file", "turns", "question_id", plain, unused=("category", "reference")),
    ConversationFormat("turns", "turns", "id", plain, labels=("domain",)),
    ConversationFormat("chat messages", "messages", "id", lambda value, no: messages(value, no, FIELDS[0]), False),
    ConversationFormat("ShareGPT", "conversations", "id", lambda value, no: messages(value, no, FIELDS[1]), False),
)


def read_conversations(path: Path, count: int | None, max_turns: int | None) -> tuple[Conversation, ...]:
    """The first `count` conversations, each cut after `max_turns`. Raises `ScenarioError` with every bad line."""
    faults: list[Fault] = []
    found: list[Conversation] = []
    seen: dict[str, int] = {}
    for line, row in rows_of(read_text(path).removeprefix("\ufeff")):
        place = f"line {line}"

        def refuse(wrong: str, expected: str, remedy: str = "", place: str = place) -> None:
            faults.append(Fault(str(path), place, wrong, expected, remedy))

        before = len(faults)
        if isinstance(row, Unreadable):
            refuse(f"unreadable JSON ({row.why})", "a JSON object")
            continue
        conversation = conversation_of(row, line, max_turns, refuse)
        if conversation is None or len(faults) > before:
            continue
        if conversation.id in seen:
            refuse(f"the id {conversation.id!r} again", f"ids that differ (line {seen[conversation.id]} has it)")
        seen[conversation.id] = line
        found.append(conversation)
    if not found and not faults:
        faults.append(Fault(str(path), "", "no conversation", "one JSON object a line", "Write one."))
    if count is not None and len(found) < count and not faults:
        wanted = f"the {count} that workload.count requires"
        only = f"{len(found)} conversation{'s' if len(found) > 1 else ''}"
        faults.append(Fault(str(path), "", only, wanted, f"Use --set workload.count={len(found)}."))
    if len(faults) > MOST_FAULTS:
        more = f"{len(faults) - MOST_FAULTS} more faults"
        faults[MOST_FAULTS:] = [Fault(str(path), "", more, "none", "Correct those above first.")]
    if faults:
        raise ScenarioError(faults)
    return tuple(found[:count])


def conversation_of(row: Any, line: int, max_turns: int | None, refuse: Callable[..., None]) -> Conversation | None:
    """One entry of a file. `refuse` is called with all that is wrong with it."""
    if not isinstance(row, dict):
        refuse(f"a JSON {kind_of(row)}", f"an object, such as {OWN}")
        return None
    format_ = next((one for one in FORMATS if one.turns in row and (one.ids in row or one.ids == "id")), None)
    if format_ is None:
        keys = [*row]
        hints = [close for key in keys if (close := key_hint(str(key), [one.turns for one in FORMATS]))]
        hint = hints[0] if hints else ""
        if any(set(fields) <= set(row) for fields in FIELDS):
            hint = 'A message alone: put the list of messages into an object, {"messages": [...]}.'
        refuse(
            f"no turns; {some(keys) or 'no key at all'}", f"{OWN}, or the texts under messages or conversations", hint
        )
        return None
    for key in row:
        if key not in format_.keys:
            known = f"one of {', '.join(format_.keys)}, the keys of {format_.name}"
            refuse(f"an unknown key, {short(key)}", known, key_hint(key, format_.keys) or "Remove it.")
    number = row.get(format_.ids)
    if number is None and format_.needs_id:
        refuse("no id; it has turns", f'an "id" (or a "question_id", as question files have) beside the turns: {OWN}')
    elif number is not None and (isinstance(number, bool) or not isinstance(number, (str, int)) or number == ""):
        refuse(f"{format_.ids}: {kind_of(number)}", "text or a whole number")
    wrong = False

    def refuse_entry(found: str, expected: str) -> None:
        nonlocal wrong
        wrong = True
        refuse(found, expected)

    turns, system, unused = format_.read(row[format_.turns], refuse_entry)
    if SYSTEM in row and system is not None:
        refuse("two system texts", "one, as a key or as the first message")
    system = row.get(SYSTEM, system)
    if system is not None and (not isinstance(system, str) or not system.strip()):
        refuse(f"system: {kind_of(system) if system else 'an empty text'}", "a text that is not empty")
    elif not all(is_text(text) for text in (*turns, system or "", str(number))):
        refuse("half a character (a lone surrogate)", "text")
    elif not wrong and not turns:
        refuse("no turn of the passenger", "at least one that is not empty")
    elif not wrong and not all(turn.strip() for turn in turns):
        refuse("an empty turn", "turns that are not empty")
    left = (*(key for key in row if key in format_.unused), *unused)
    return Conversation(f"line {line}" if number is None else str(number), tuple(turns[:max_turns]), system, left)


@dataclass(frozen=True)
class Unreadable:
    """A place in a file that is no JSON, and why."""

    why: str


def rows_of(text: str) -> Iterator[tuple[int, Any]]:
    """Every entry with the line it begins in: a JSON value a line, or the entries of one list, or one object."""
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from entries_of(text, start + 1)
        return
    whole = read(text) if text[start : start + 1] == "{" and "\n" in text.strip() else Unreadable("")
    if isinstance(whole, dict):
        yield text.count("\n", 0, start) + 1, whole
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, read(line)


def entries_of(text: str, position: int) -> Iterator[tuple[int, Any]]:
    """The entries of a list that begins before `position`, each with its line."""
    line, counted = 1, 0
    while True:
        found = BLANKS.match(text, position)
        assert found is not None
        position = found.end()
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            if text[position + 1 :].strip():
                yield line, Unreadable("text behind the list")
            return
        try:
            value, position = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield line, Unreadable(reason(error))
            return
        yield line, value
        found = BLANKS.match(text, position)
        assert found is not None
        position = found.end()
        if text[position : position + 1] == ",":
            position += 1
        elif text[position : position + 1] != "]":
            yield line, Unreadable("no comma and no end of the list behind this entry")
            return


def read(text: str) -> Any:
    """A JSON value, or why it is none."""
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:  # bad JSON, endless digits, endless nesting
        return Unreadable(reason(error))


DECODER = json.JSONDecoder(object_pairs_hook=each_once)


def reason(error: Exception) -> str:
    """Why something is no JSON."""
    if isinstance(error, RepeatedKey):
        return f"the key {short(str(error))} twice"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def kind_of(value: Any) -> str:
    """What a JSON value is."""
    kinds = {dict: "object", list: "list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "number")


def some(keys: list[str]) -> str:
    """The first of some keys."""
    return ", ".join(short(key) for key in keys[:6]) + (", ..." if len(keys) > 6 else "")


def short(text: str) -> str:
    """A key as it fits into a message."""
    return ascii(text if len(text) <= 40 else f"{text[:37]}...")
