"""How each kind of span is drawn: its colour, and a letter for where there is none. Shared by terminal and plots.

Orange is the draft's hue and blue the target's, in spans, text and bars alike; the pair survives colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hilsim.cost.memory import Part
from hilsim.describe.setup import Setup

DRAFT, TARGET, READING, GOOD, BAD = "#e69f00", "#3b9ae0", "#cc79a7", "#1fa37a", "#d55e00"
INK = "#101418"  # letters on a coloured bar


class Kind(NamedTuple):
    """A kind of span as it is drawn."""

    letter: str
    colour: str
    message: bool = False


KINDS = {
    "prefill": Kind("P", READING),
    "network": Kind("N", "#117a5b"),
    "draft prefill": Kind("p", "#8237e6"),
    "draft": Kind("d", DRAFT),
    "verify": Kind("V", TARGET),
    "decode": Kind("D", "#7cc4f2"),
    "wake": Kind("w", "#c9ced6"),
    "switch": Kind("s", "#5f6b78"),
    "fault": Kind("!", BAD),
    "prompt": Kind("q", READING, message=True),
    "drafts": Kind("d", DRAFT, message=True),
    "verdict": Kind("v", TARGET, message=True),
    "hidden states": Kind("h", "#2c6ea3", message=True),
}
OTHER = Kind("?", "#8a8a8a")
# Stages of the spoken turn, by what the passenger waits for.
STAGE_KINDS = {
    "end_of_speech": Kind("e", "#a0a8b4"),
    "recognition": Kind("r", "#2f6f63"),
    "prompt": Kind("p", "#c7b446"),
    "first_clause": Kind("c", TARGET),
    "synthesis": Kind("S", "#8237e6"),
}
# Spans of a spoken turn beside those of every answer.
SPOKEN = {
    "wake_word": STAGE_KINDS["end_of_speech"],
    "end_of_speech": STAGE_KINDS["end_of_speech"],
    "recognition": STAGE_KINDS["recognition"],
    "synthesis": STAGE_KINDS["synthesis"],
    "tool call": Kind("t", "#c7b446"),
    "audio": Kind("a", "#8fbf5a", message=True),
    "text": Kind("x", "#a0a8b4", message=True),
}
KINDS |= SPOKEN
PARTS: Mapping[Part, str] = {  # of a chip's memory
    "weights": TARGET, "KV": DRAFT, "buffers": READING, "runtime": "#5f6b78", "system": "#b8bcc2",
}  # fmt: skip
# Of a request's time, in the order in which they lie in a bar.
CAUSES = {"verify": TARGET, "draft": DRAFT, "waste": BAD, "transfer": READING, "wait": "#b8bcc2"}
SPEECH = "#8fbf5a"  # what is heard


def kind_of(name: str) -> Kind:
    """How a kind is drawn; kinds without a description are grey."""
    return KINDS.get(name, OTHER)


def lane_order(setup: Setup, tracks: tuple[str, ...]) -> list[str]:
    """Tracks in the order that the work flows through them: draft, up, down, target, then any others."""
    target = f"{setup.target.chip.name}.{setup.target.placement.unit}"
    first = [track for track in tracks if track != target and not is_direction(setup, track)]
    middle = [track for track in tracks if is_direction(setup, track)]
    return [*first, *middle, *(track for track in tracks if track == target)]


def tracks_of(setup: Setup) -> tuple[str, ...]:
    """Every track that a speculative run of this scenario uses."""
    roles = [placed for placed in (setup.draft, setup.target) if placed is not None]
    units = [f"{placed.chip.name}.{placed.placement.unit}" for placed in roles]
    ways = [] if setup.link is None or setup.draft is None else [f"{setup.link.name}.{way}" for way in ("up", "down")]
    return tuple(dict.fromkeys([*units, *ways]))


def is_direction(setup: Setup, track: str) -> bool:
    """Whether a track is one way over the link."""
    return setup.link is not None and track in (f"{setup.link.name}.up", f"{setup.link.name}.down")


def role_of(setup: Setup, track: str) -> str:
    """What a track is for, in a word: draft, target, both, or the way of a message."""
    if is_direction(setup, track):
        return "link ▸" if track.endswith(".up") else "link ◂"
    roles = [
        placed.role
        for placed in (setup.draft, setup.target)
        if placed is not None and track == f"{placed.chip.name}.{placed.placement.unit}"
    ]
    return "both" if len(roles) == 2 else roles[0] if roles else ""
