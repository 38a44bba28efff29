"""A transcript: what a scenario's models say, by position; any chips, link, widths and chain policy replay it.

What is said depends on the conversation alone (`logits/decisions.py`), so for every request it is enough to know the
target's answer, and from every position of it the draft's continuation to a fixed depth, with how sure the draft was.
One `.npz` file of plain columns, no pickle; who spoke by which rules stands in its header.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.describe.load import Setup
from hilsim.errors import Fault, InputError, TooShallow
from hilsim.files import written
from hilsim.logits.source import Draft, Prefix, Verdict
from hilsim.logits.tokenizer import ChatTokenizer

VERSION = 1
UNKNOWN = -1  # a place of a continuation that was not recorded, or lies after its end of turn
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
COLUMNS = (
    "index", "conversation", "turn", "prompt", "prompt_end", "answer", "answer_end", "margin", "after",
    "after_margin", "drafted", "confidence",
    "entropy",
)  # fmt: skip


@dataclass(frozen=True)
class Transcript:
    """Columns of a recording; `header` says who spoke by which rules.

    `index` is a request's number in the workload, -1 of a question that no room was left for. `prompt` and `answer`
    hold all requests one after the other, `prompt_end` and `answer_end` (requests,) say where each ends; `margin` goes
    with the answers. `after` and `after_margin` (requests, depth) are what the target would say after its answer: a
    verdict names it where drafts went on behind an end of turn. `drafted`, `confidence` and `entropy` have a row
    (depth,) for every position of an answer and one after it.
    """

    header: dict[str, Any]
    index: Ints
    conversation: Ints
    turn: Ints
    prompt: Ints
    prompt_end: Ints
    answer: Ints
    answer_end: Ints
    margin: Floats
    after: Ints
    after_margin: Floats
    drafted: Ints
    confidence: Floats
    entropy: Floats

    @property
    def requests(self) -> int:
        return len(self.turn)

    @property
    def depth(self) -> int:
        """The longest continuation."""
        return int(self.drafted.shape[1])


@dataclass(frozen=True)
class Told:
    """One request: where its answer begins and ends, all tokens and what comes after, and where its rows begin."""

    asked: int
    answered: int
    tokens: tuple[int, ...]
    margins: Floats
    row: int


class TranscriptSource:
    """`LogitsSource` that looks everything up; no network, no torch."""

    def __init__(self, transcript: Transcript, tokenizer: ChatTokenizer):
        self.transcript, self.tokenizer = transcript, tokenizer
        self.end_tokens = frozenset(transcript.header["end_tokens"])
        self.told = told(transcript, self.end_tokens)
        self.by_turn = {
            (int(conversation), int(turn)): request
            for request, (conversation, turn) in enumerate(zip(transcript.conversation, transcript.turn, strict=True))
        }

    def prompt(self, conversation: int, turn: int) -> list[int]:
        request = self.by_turn[conversation, turn]
        start = 0 if request == 0 else int(self.transcript.prompt_end[request - 1])
        return [int(token) for token in self.transcript.prompt[start : self.transcript.prompt_end[request]]]

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        known, history = self.told[prefix.index], [*prefix.tokens, *after]
        shared = min(agreement(history, known.tokens), known.answered)
        beyond = len(history) - shared  # tokens of the draft's own, where it left the target's
        tokens: list[int] = []
        confidences, entropies = [], []
        while len(tokens) < count:
            row = known.row + shared - known.asked
            token = UNKNOWN if beyond >= self.transcript.depth else int(self.transcript.drafted[row, beyond])
            if token == UNKNOWN:
                raise TooShallow(self.transcript.depth, beyond + 1)
            tokens.append(token)
            confidences.append(float(self.transcript.confidence[row, beyond]))
            entropies.append(float(self.transcript.entropy[row, beyond]))
            if token in self.end_tokens:
                break
            if beyond == 0 and shared < known.answered and token == known.tokens[shared]:
                shared += 1
            else:
                beyond += 1
        return Draft(tuple(tokens), tuple(confidences), tuple(entropies))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        known, start = self.told[prefix.index], len(prefix.tokens)
        following = known.tokens[start:]
        accepted = agreement(draft.tokens, following)
        if accepted == len(following):
            raise TooShallow(self.transcript.depth, accepted + 1)
        margins = known.margins[start - known.asked : start - known.asked + accepted + 1]
        return Verdict(accepted, following[accepted], tuple(map(float, margins)))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        known, position = self.told[prefix.index], len(prefix.tokens)
        return known.tokens[position], float(known.margins[position - known.asked])

    def ends(self, token: int) -> bool:
        return token in self.end_tokens

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens))

    def forget(self, conversation: int) -> None:
        pass

    @property
    def forward_seconds(self) -> float:
        return 0.0


def told(transcript: Transcript, ends: frozenset[int]) -> dict[int, Told]:
    """Every request that was answered, by its number, with the conversation that it stands in."""
    found: dict[int, Told] = {}
    row = 0
    so_far: list[int] = []
    for request in range(transcript.requests):
        prompt_start, answer_start = (
            (0, 0) if request == 0 else (transcript.prompt_end[request - 1], transcript.answer_end[request - 1])
        )
        if transcript.turn[request] == 0:
            so_far = []
        elif so_far and so_far[-1] in ends:
            so_far.pop()  # as between the turns of a run: the frame brings the end of the answer itself
        so_far += map(int, transcript.prompt[prompt_start : transcript.prompt_end[request]])
        answer = transcript.answer[answer_start : transcript.answer_end[request]]
        asked = len(so_far)
        so_far += map(int, answer)
        if transcript.index[request] != UNKNOWN:
            after = transcript.after[request][transcript.after[request] != UNKNOWN]
            margins = transcript.margin[answer_start : transcript.answer_end[request]]
            margins = np.concatenate((margins, transcript.after_margin[request][: len(after)]))
            tokens = (*so_far, *map(int, after))
            found[int(transcript.index[request])] = Told(asked, len(so_far), tokens, margins, row)
            row += len(answer) + 1
    return found


def agreement(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens two sequences share from the start."""
    limit = min(len(ours), len(theirs))
    return next((place for place in range(limit) if ours[place] != theirs[place]), limit)


def save(transcript: Transcript, file: Path) -> None:
    """Write a transcript whole, or not at all."""
    header = np.frombuffer(json.dumps(transcript.header, sort_keys=True).encode(), dtype=np.uint8)
    with written(file) as path, path.open("wb") as stream:
        np.savez_compressed(stream, header=header, **{name: getattr(transcript, name) for name in COLUMNS})


def load(file: Path) -> Transcript:
    """Read a transcript. Raises `InputError` where it is missing, damaged or of another version."""
    remedy = "Record it again: python -m hilsim record SCENARIO --out FILE."
    try:
        with np.load(file, allow_pickle=False) as columns:
            header = json.loads(bytes(columns["header"]).decode())
            if header.get("version") != VERSION:
                found = f"version {header.get('version')}"
                raise InputError([Fault(str(file), "", found, f"a transcript of version {VERSION}", remedy)])
            transcript = Transcript(header, **{name: columns[name] for name in COLUMNS})
    except FileNotFoundError:
        raise InputError([Fault(str(file), "", "no such file", "a transcript", remedy)]) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        found = f"no readable transcript ({type(error).__name__})"
        raise InputError([Fault(str(file), "", found, "a transcript, whole", remedy)]) from None
    if broken := inconsistent(transcript):
        raise InputError([Fault(str(file), "", broken, "columns that go together", remedy)])
    return transcript


def inconsistent(transcript: Transcript) -> str:
    """What does not go together in a transcript, or ""."""
    requests = transcript.requests
    if (
        not len(transcript.index)
        == len(transcript.conversation)
        == len(transcript.prompt_end)
        == len(transcript.answer_end)
        == requests
    ):
        return "columns of requests of different lengths"
    if requests and (
        transcript.prompt_end[-1] != len(transcript.prompt) or transcript.answer_end[-1] != len(transcript.answer)
    ):
        return "tokens that belong to no request"
    if len(transcript.margin) != len(transcript.answer) or len(transcript.after) != requests:
        return "answers and margins of different lengths"
    rows = len(transcript.answer) + int((transcript.index != UNKNOWN).sum())
    shapes = {len(getattr(transcript, name)) for name in ("drafted", "confidence", "entropy")}
    return "" if shapes == {rows} else f"{rows} positions, and rows for {', '.join(map(str, sorted(shapes)))}"


def recorded_with(setup: Setup) -> dict[str, Any]:
    """Everything that what is said depends on, as a header keeps it."""
    scenario, workload = setup.scenario, setup.scenario.workload
    spoken = "\n".join("\t".join(conversation.turns) for conversation in setup.conversations)
    return {
        "seed": scenario.seed,
        "accept": scenario.accept.model_dump(),
        "payload": scenario.payload.model_dump(),
        "verify_at": scenario.verify_at,
        "sampling": scenario.sampling.model_dump(),
        "context_tokens": scenario.context_tokens,
        "max_new_tokens": getattr(workload, "max_new_tokens", None),
        "conversations": hashlib.sha256(spoken.encode()).hexdigest()[:16],
        "target.stand_in": folder_digest(setup.target.stand_in),
        "draft.stand_in": None if setup.draft is None else folder_digest(setup.draft.stand_in),
    }


def folder_digest(folder: Path | None) -> str | None:
    """Digest of the files of a checkpoint folder that speak."""
    if folder is None:
        return None
    found = hashlib.sha256()
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if file.suffix in (".json", ".safetensors"):
            found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:16]


def require_same(transcript: Transcript, setup: Setup, file: Path) -> None:
    """Raises `InputError` for every setting that was another one when the transcript was recorded."""
    faults = []
    for name, (recorded, wanted) in differences(transcript, recorded_with(setup)).items():
        remedy = "Record this scenario, or set it back."
        faults.append(
            Fault(str(file), name, f"recorded with {recorded!r}", f"{wanted!r}, as {setup.file} says", remedy)
        )
    if faults:
        raise InputError(faults)


def differences(transcript: Transcript, wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where the header says something else than is wanted: recorded and wanted, by name."""
    recorded = transcript.header["recorded_with"]
    return {name: (recorded.get(name), value) for name, value in wanted.items() if recorded.get(name) != value}
