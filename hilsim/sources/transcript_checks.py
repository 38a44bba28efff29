"""Checks of a transcript's contents: columns that are consistent, and the questions of its scenario."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hilsim.describe.config_json import read_object
from hilsim.describe.setup import Setup
from hilsim.errors import Fault
from hilsim.sources.columns import MOST_DEPTH, REMEDY, UNKNOWN, WAYS, Transcript, require

MOST_ENTROPY = 25.0  # nats: of 2**36 tokens that are alike
ROUNDING = 1e-9


def require_sense(transcript: Transcript) -> None:
    """Raises `Misfit` for columns that are inconsistent, or hold values that no recording has."""
    requests, rows = transcript.requests, len(transcript.answer)
    for name in ("index", "conversation", "prompt_end", "answer_end", "after", "after_margin"):
        count = len(getattr(transcript, name))
        require(count == requests, f"{name} of {count} requests", f"{requests}, as many as turn has")
    for name in ("margin", *WAYS):
        count = len(getattr(transcript, name))
        require(count == rows, f"{name} of {count} positions", f"{rows}, as many as the answers have")
    beside = [list(getattr(transcript, name).shape) for name in ("after", "after_margin")]
    require(
        beside[0] == beside[1] and beside[0][1] <= MOST_DEPTH,
        f"after of {beside[0]}, margins of {beside[1]}",
        "the same shape for both",
    )
    for name, ends, least in (("prompt", transcript.prompt_end, 1), ("answer", transcript.answer_end, 0)):
        lengths = np.diff(ends, prepend=0)
        require(not requests or lengths.min() >= least, f"{name}_end that goes back", "increasing ends")
        last = int(ends[-1]) if requests else 0
        tokens = len(getattr(transcript, name))
        require(last == tokens, f"{name}s up to token {last}", f"{tokens}, the number of tokens")
    for name in ("prompt", "answer"):
        tokens = getattr(transcript, name)
        require(not tokens.size or tokens.min() >= 0, f"{name} with a token {tokens.min(initial=0)}", "ids from 0")
    for name in ("after", "drafted"):
        tokens = getattr(transcript, name)
        require(
            not tokens.size or tokens.min() >= UNKNOWN, f"{name} with a token {tokens.min(initial=0)}", "ids from 0"
        )
    unknown = transcript.after == UNKNOWN
    require(not (unknown[:, :-1] & ~unknown[:, 1:]).any(), "after with a gap", "tokens without gaps")
    for name, most in (
        ("margin", math.inf),
        ("after_margin", math.inf),
        ("confidence", 1.0),
        ("entropy", MOST_ENTROPY),
    ):
        values = getattr(transcript, name)
        within = (values >= -ROUNDING) & (values <= most + ROUNDING)  # false of what is no number
        place = tuple(map(int, np.argwhere(~within)[0])) if not within.all() else ()
        require(
            within.all(), f"{name} {values[place] if place else ''} at {list(place)}", f"numbers from 0 to {most:g}"
        )
    require_turns(transcript)


def require_turns(transcript: Transcript) -> None:
    """Raises `Misfit` where turns are out of order, or an answer does not end at an end of turn or a limit."""
    settings, ends = transcript.header["recorded_with"], transcript.header["end_tokens"]
    lengths = np.diff(transcript.answer_end, prepend=0)
    before, length = -1, 0
    stands = {pair[0]: pair[1] for pair in transcript.header.get("reread", ())}
    beyond = next((request for request in stands if request >= transcript.requests), None)
    require(beyond is None, f"header.reread of request {beyond}", f"one of the {transcript.requests}")
    for request in range(transcript.requests):
        where = f"request {request}"
        conversation, turn, index = (
            int(getattr(transcript, name)[request]) for name in ("conversation", "turn", "index")
        )
        goes_on = request > 0 and conversation == transcript.conversation[request - 1]
        follows = turn == transcript.turn[request - 1] + 1 if goes_on else turn == 0
        new = int(transcript.conversation[request - 1]) + 1 if request else 0
        require(
            follows and (goes_on or conversation == new),
            f"{where}: turn {turn} of conversation {conversation}",
            "the next turn, or the next conversation",
        )
        answered = bool(lengths[request])
        require(
            (index != UNKNOWN) == answered,
            f"{where}: {lengths[request]} tokens of answer {index}",
            "an answer for each numbered question",
        )
        last = request + 1 == transcript.requests or transcript.turn[request + 1] == 0
        require(
            answered or last,
            f"{where}: no answer, and a further turn",
            "an answer, unless the context had no room for the question",
        )
        require(not answered or index > before, f"{where}: number {index} after {before}", "increasing numbers")
        before = max(before, index)
        start, end = int(transcript.answer_end[request] - lengths[request]), int(transcript.answer_end[request])
        answer = transcript.answer[start:end]
        asked = int(transcript.prompt_end[request]) - (int(transcript.prompt_end[request - 1]) if request else 0)
        standing = stands.get(request, length if goes_on else 0)
        require(
            standing <= (length if goes_on else 0),
            f"{where}: {standing} earlier tokens that stay",
            "no more than there were",
        )
        length = asked + standing
        if answered:
            inside = np.isin(answer[:-1], ends)
            require(not inside.any(), f"{where}: an answer that goes on after its end token", "no tokens after it")
            length += len(answer)
            full = len(answer) == settings["max_new_tokens"] or length == settings["context_tokens"]
            require(answer[-1] in ends or full, f"{where}: an answer that breaks off", "an end of turn or a limit")
            require(
                length <= settings["context_tokens"],
                f"{where}: {length} tokens",
                f"at most context_tokens ({settings['context_tokens']})",
            )
            length -= int(answer[-1] in ends)  # the frame between turns brings the end of the answer itself


def turn_faults(transcript: Transcript, setup: Setup, file: Path) -> Iterator[Fault]:
    """A fault for every conversation whose questions a transcript numbers differently, or leaves out."""
    answered = transcript.index != UNKNOWN
    first = 0
    for number, conversation in enumerate(setup.conversations):
        own = np.flatnonzero(transcript.conversation == number)
        present, known = own[answered[own]], len(conversation.turns)
        numbered = transcript.index[present].tolist() == list(range(first, first + len(present)))
        # After a question that the context had no room for, no further one was asked.
        if not numbered or len(own) > known or (len(own) < known and len(own) == len(present)):
            found = (
                f"{len(present)} answers in conversation {number}, numbered {transcript.index[present].tolist()!s:.60}"
            )
            yield Fault(str(file), "index", found, f"its {known} questions, numbered from {first}", REMEDY)
        first += known


def token_faults(transcript: Transcript, setup: Setup, file: Path) -> Iterator[Fault]:
    """A fault for every column with a token beyond the stand-ins' vocabularies, where their folders state the size."""
    folders = [placed.stand_in for placed in setup.roles.values() if placed.stand_in is not None]
    sizes = [read_object(folder / "config.json").get("vocab_size") for folder in folders]
    known = [size for size in sizes if type(size) is int]
    for name in ("prompt", "answer", "after", "drafted") if known else ():
        largest = int(getattr(transcript, name).max(initial=0))
        if largest >= max(known):
            yield Fault(
                str(file), name, f"token {largest}", f"ids below {max(known)}, the stand-ins' vocab_size", REMEDY
            )
