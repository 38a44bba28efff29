"""What passengers say: one conversation a line, `{"id": ..., "turns": [...]}`, the passenger's words only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hilsim.errors import Fault, ScenarioError
from hilsim.files import is_text, read_text


@dataclass(frozen=True)
class Conversation:
    """The passenger's turns, in order."""

    id: str
    turns: tuple[str, ...]


def read_conversations(path: Path, count: int | None, max_turns: int | None) -> tuple[Conversation, ...]:
    """The first `count` conversations, each cut after `max_turns`. Raises `ScenarioError` with every bad line."""
    faults: list[Fault] = []
    found: list[Conversation] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # bad JSON, endless digits, endless nesting
            message = f"unreadable JSON ({error.msg if isinstance(error, json.JSONDecodeError) else error})"
            faults.append(Fault(str(path), place, message, "a JSON object"))
            continue
        turns = row.get("turns") if isinstance(row, dict) else None
        if not isinstance(turns, list) or not isinstance(row.get("id"), str):
            faults.append(Fault(str(path), place, "no id or no list of turns", '{"id": "...", "turns": ["..."]}'))
        elif not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            faults.append(Fault(str(path), place, "an empty conversation or turn", "at least one turn with words"))
        elif not all(is_text(turn) for turn in turns):
            faults.append(Fault(str(path), place, "half a character (a lone surrogate)", "text"))
        else:
            found.append(Conversation(row["id"], tuple(turns[:max_turns])))
    if not found and not faults:
        faults.append(Fault(str(path), "", "no conversation", "one JSON object a line", "Write one."))
    if count is not None and len(found) < count and not faults:
        faults.append(
            Fault(
                str(path), "", f"{len(found)} conversations", f"the {count} that workload.count asks for", "Lower it."
            )
        )
    if faults:
        raise ScenarioError(faults)
    return tuple(found[:count])
