"""Transcripts: the tokens of a scenario's models by position, replayed with any chips, link, widths and chain policy.

Tokens depend on the conversation alone (`sampling/decisions.py`), so for every request it is enough to know the
target's answer, and from every position of it the draft's continuation to a fixed depth, with its confidence. One
`.npz` file of plain columns, no pickle; its header names models and rules, and can be read alone.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, field_validator

from hilsim.describe.complaints import expectation, short
from hilsim.describe.figure import Record
from hilsim.errors import Fault, InputError, Misfit, TooShallow
from hilsim.files import unreadable, written
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sources.columns import (
    FLOATS,
    INTEGERS,
    MOST_DEPTH,
    REMEDY,
    SURE,
    UNKNOWN,
    VERSION,
    WAYS,
    Transcript,
    TranscriptColumns,
    narrow,
    planes,
    require,
)
from hilsim.sources.transcript_checks import require_sense
from hilsim.text.prompt import Prompt, without_end
from hilsim.text.tokenizer import ChatTokenizer
from hilsim.unchanged import made_once

MOST_PLACES = 2**24  # positions times depth
MOST_TEXTS = 2**12  # decoded and remembered
Token = Annotated[int, Field(ge=0, lt=2**31)]
Pair = Annotated[list[Token], Field(min_length=2, max_length=2)]
# What zipfile, zlib and NumPy's reader of headers raise for damaged files.
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, OverflowError, RecursionError,
    NotImplementedError, RuntimeError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class RecordedRequest:
    """One request: where its answer begins and ends, all tokens and what comes after, and where its rows begin.

    `following` are the tokens of the answer and what comes after it, a margin each.
    """

    asked: int
    answered: int
    tokens: tuple[int, ...]
    margins: tuple[float, ...]
    row: int

    @cached_property
    def following(self) -> tuple[int, ...]:
        return self.tokens[self.asked :]


class TranscriptSource:
    """`LogitsSource` that looks every token up in a transcript; it needs neither networks nor torch.

    What was recorded continues whole answers: where a passenger cut one short, the next question follows it all the
    same, and the rest of it is read with that question.
    """

    by_chance = False

    def __init__(self, transcript: Transcript, tokenizer: ChatTokenizer):
        self.transcript = transcript
        self.depth = transcript.depth
        # Column after column of single numbers, which Python reads quicker than from an array.
        self.drafted, self.confidence, self.entropy = map(flat, (getattr(transcript, name) for name in WAYS))
        self.end_tokens = frozenset(transcript.header["end_tokens"])
        self.standing = reread(transcript)
        self.prompts, self.prompt_ends = flat(transcript.prompt), flat(transcript.prompt_end)
        self.requests = requests_of(transcript, self.end_tokens)
        self.decode = lru_cache(MOST_TEXTS)(tokenizer.decode)  # every replay asks for the same texts
        self.by_turn = {
            (int(conversation), int(turn)): request
            for request, (conversation, turn) in enumerate(zip(transcript.conversation, transcript.turn, strict=True))
        }

    @property
    def answers(self) -> dict[int, tuple[int, ...]]:
        """The tokens of every request's answer, by its number."""
        return {index: known.tokens[known.asked : known.answered] for index, known in self.requests.items()}

    def question(self, conversation: int, turn: int) -> list[int]:
        """The recorded tokens of a question, as they follow the whole answer before."""
        request = self.by_turn[conversation, turn]
        return self.prompts[self.prompt_ends[request - 1] if request else 0 : self.prompt_ends[request]].tolist()

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        request, tokens = self.by_turn[conversation, turn], self.question(conversation, turn)
        standing = self.standing.get(request)
        known = self.requests.get(int(self.transcript.index[request]))
        if known is not None and len(before) < known.asked - len(tokens):
            # The last answer was cut short, or a question left out: what was recorded in between is read first.
            shared = agreement(before, known.tokens)
            return Prompt(shared, list(known.tokens[shared : known.asked]))
        return Prompt(without_end(before, self.ends) if standing is None else standing, tokens)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        """As `LogitsSource`. The question's tokens are those that `prompt` gave; only the answer's are compared."""
        known, depth = self.requests[prefix.index], self.depth
        following, length = known.following, known.answered - known.asked
        answer = tuple(prefix.tokens[known.asked :])
        shared = agreement(answer, following)
        if after and shared == len(answer):
            shared += agreement(after, following[shared:])
        shared = min(shared, length)
        beyond = len(answer) + len(after) - shared  # drafted tokens since the draft departed from the target's answer
        tokens: list[int] = []
        confidences: list[float] = []
        entropies: list[float] = []
        while len(tokens) < count:
            place = (known.row + shared) * depth + beyond
            token = self.drafted[place] if shared < length and beyond < depth else UNKNOWN
            if token == UNKNOWN:
                raise TooShallow(depth, beyond + 1)
            tokens.append(token)
            confidences.append(self.confidence[place])
            entropies.append(self.entropy[place])
            if token in self.end_tokens:
                break
            if beyond == 0 and token == following[shared]:
                shared += 1
            else:
                beyond += 1
        return tuple.__new__(Draft, (tuple(tokens), tuple(confidences), tuple(entropies)))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        known = self.requests[prefix.index]
        start = len(prefix.tokens) - known.asked
        following = known.following[start : start + len(draft.tokens) + 1]
        accepted = agreement(draft.tokens, following)
        if accepted == len(following):
            raise TooShallow(self.depth, accepted + 1)
        return Verdict(accepted, following[accepted], known.margins[start : start + accepted + 1])

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        known = self.requests[prefix.index]
        place = len(prefix.tokens) - known.asked
        return known.following[place], known.margins[place]

    def ends(self, token: int) -> bool:
        return token in self.end_tokens

    def text(self, tokens: Sequence[int]) -> str:
        return self.decode(tuple(tokens))

    def forget(self, conversation: int) -> None:
        pass

    @property
    def forward_seconds(self) -> float:
        return 0.0


def reread(transcript: Transcript) -> dict[int, int]:
    """By request that did not continue all earlier turns: how many tokens of them still stood."""
    return {pair[0]: pair[1] for pair in transcript.header.get("reread", ())}


def requests_of(transcript: Transcript, ends: frozenset[int]) -> dict[int, RecordedRequest]:
    """Every request that was answered, by its number, with the conversation that it is part of."""
    found: dict[int, RecordedRequest] = {}
    row, standing = 0, reread(transcript)
    so_far: list[int] = []
    for request in range(transcript.requests):
        prompt_start, answer_start = (
            (0, 0) if request == 0 else (transcript.prompt_end[request - 1], transcript.answer_end[request - 1])
        )
        if transcript.turn[request] == 0:
            so_far = []
        del so_far[standing.get(request, without_end(so_far, ends.__contains__)) :]  # as between the turns of a run
        so_far += map(int, transcript.prompt[prompt_start : transcript.prompt_end[request]])
        answer = transcript.answer[answer_start : transcript.answer_end[request]]
        asked = len(so_far)
        so_far += map(int, answer)
        if transcript.index[request] != UNKNOWN:
            after = transcript.after[request][transcript.after[request] != UNKNOWN]
            margins = transcript.margin[answer_start : transcript.answer_end[request]]
            margins = np.concatenate((margins, transcript.after_margin[request][: len(after)]))
            tokens = (*so_far, *map(int, after))
            sure = tuple(map(float, margins))
            found[int(transcript.index[request])] = RecordedRequest(asked, len(so_far), tokens, sure, row)
            row += len(answer)
    return found


def agreement(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens two sequences share from the start."""
    if ours == theirs[: len(ours)]:
        return len(ours)
    place = 0
    for our, their in zip(ours, theirs, strict=False):
        if our != their:
            break
        place += 1
    return place


def flat(column: npt.NDArray[Any]) -> memoryview:
    """The numbers of a column, row after row; those of `memoryview` are Python's own."""
    return np.ascontiguousarray(column).reshape(-1).data


def save(transcript: Transcript, file: Path) -> None:
    """Write a transcript; a file is written whole or not at all."""
    recorded = transcript.drafted != UNKNOWN
    columns: dict[str, Any] = {name: narrow(getattr(transcript, name)) for name in INTEGERS}
    columns |= {name: planes(getattr(transcript, name)) for name in FLOATS}
    columns |= {"ways": narrow(recorded.sum(axis=1)), "drafted": narrow(transcript.drafted[recorded])}
    columns |= {name: planes(getattr(transcript, name)[recorded]) for name in SURE}
    header = np.frombuffer(
        json.dumps({**transcript.header, "depth": transcript.depth}, sort_keys=True).encode(), dtype=np.uint8
    )
    with written(file) as path, path.open("wb") as stream:
        np.savez_compressed(stream, header=header, **columns)


class TranscriptHeader(Record):
    """The header of a file: models, rules, and how deep the continuations go.

    `recorded_with` is only compared with a scenario's own (`recorded_with.differences`).
    """

    version: Literal[2]
    scenario: str = Field(max_length=1000)
    recorded_with: dict[str, Any]
    versions: dict[str, str]
    dtype: str = Field(max_length=100)
    end_tokens: Annotated[list[Token], Field(max_length=1000)]
    depth: int = Field(ge=1, le=MOST_DEPTH)
    # Requests that did not continue all earlier turns, and how many tokens of them still stood.
    reread: list[Pair] = Field(default=[], max_length=10**6)  # pydantic copies it

    @field_validator("recorded_with")
    @classmethod
    def _lists_conversations(cls, value: dict[str, Any]) -> dict[str, Any]:
        listed, numbers = value.get("conversations"), [value.get(name) for name in ("context_tokens", "max_new_tokens")]
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise Misfit("conversations that are not a list of digests")
        if any(type(number) is not int or not 1 <= number <= 10**7 for number in numbers):
            raise Misfit("context_tokens or max_new_tokens that are not whole numbers from 1 to 10000000")
        return value


def load(file: Path) -> Transcript:
    """Read a transcript. Raises `InputError` where it is missing, damaged, of another version or inconsistent."""
    with opened(file) as columns:
        header = header_of(columns)
        depth, ways = header["depth"], columns.read("ways")
        rows = len(ways)
        require(rows * depth <= MOST_PLACES, f"{rows} positions of {depth} tokens", f"at most {MOST_PLACES} in all")
        require(
            not rows or 0 <= ways.min() <= ways.max() <= depth,
            f"lengths of continuations (ways) outside 0 to {depth}, the depth",
            "lengths up to the depth",
        )
        recorded = np.arange(depth) < ways[:, None]
        flat = {name: columns.read(name) for name in WAYS}
        drafted = int(recorded.sum())
        for name, values in flat.items():
            require(len(values) == drafted, f"{name} of {len(values)} tokens", f"{drafted}, the sum of ways")
        found: dict[str, Any] = {name: columns.read(name) for name in (*INTEGERS, *FLOATS)}
        found |= {name: spread(flat[name], recorded, UNKNOWN if name == "drafted" else 0.0) for name in WAYS}
        transcript = Transcript({name: value for name, value in header.items() if name != "depth"}, **found)
        require_sense(transcript)
    return transcript


@made_once(64)
def load_header(file: Path) -> dict[str, Any]:
    """The header alone: models and rules, without tokens. Raises `InputError` as `load`."""
    with opened(file) as columns:
        return {name: value for name, value in header_of(columns).items() if name != "depth"}


@contextmanager
def opened(file: Path) -> Iterator[TranscriptColumns]:
    """The columns of a file, each read on demand. Raises `InputError` where one cannot be read."""

    def fault(found: str, expected: str) -> InputError:
        return InputError([Fault(str(file), "", found, expected, REMEDY)])

    try:
        if wrong := unreadable(file):
            raise fault(wrong.found, "a transcript")
        with zipfile.ZipFile(file) as archive:
            yield TranscriptColumns(archive)
    except Misfit as misfit:
        raise fault(misfit.found, misfit.expected) from None
    except UNREADABLE as error:
        found = "no transcript" if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise fault(f"{found}, or a damaged one", "a complete transcript") from None


def header_of(columns: TranscriptColumns) -> dict[str, Any]:
    """The header, with the depth. Raises `Misfit` for another version."""
    header = json.loads(columns.read("header").tobytes().decode())
    require(isinstance(header, dict), "a header that is not an object", "an object")
    version = header.get("version")
    require(
        type(version) is int and version == VERSION, f"version {version!r:.40}", f"a transcript of version {VERSION}"
    )
    try:
        return TranscriptHeader.model_validate(header).model_dump(exclude_defaults=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, ("header", *first["loc"])))[:80]
        if first["type"] == "value_error":
            raise Misfit(f"{key}: {first['ctx']['error'].found}", "a header that `record` writes") from None
        raise Misfit(f"{key}: {short(first['input'])}", f"{expectation(first)}") from None


def spread(values: npt.NDArray[Any], recorded: npt.NDArray[np.bool_], absent: float) -> npt.NDArray[Any]:
    """A table (positions, depth) with the values where `recorded`, in row order, and `absent` elsewhere."""
    table = np.full(recorded.shape, absent, values.dtype)
    table[recorded] = values
    return table
