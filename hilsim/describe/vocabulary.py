"""Do two tokenizers share their ids? The one rule for pairs of target and draft, stand-ins and deployed models alike.

Ids that mean the same text are shared, and a draft proposes these alone. What only one of both has does not part them:
an id of the target's that the draft lacks is never proposed, one of the draft's that the target lacks neither, and the
accept rules stay exact, as a token without mass in the draft's distribution is the target's own affair. An id that
means one text here and another there parts them where it is in use: an ordinary piece of text, or a mark that a prompt
has or that ends an answer. Reserved marks that nothing uses may differ.

Live stand-ins that this parts are paired by text: an id of the draft's is what the target has of the same text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hilsim.describe.config_json import read_object
from hilsim.errors import Fault, InputError

SHOWN = 4


@dataclass(frozen=True)
class Tokens:
    """The texts of a tokenizer's ids; `added` are those beside its model, such as marks."""

    texts: Mapping[int, str]
    added: Collection[int]

    @property
    def name(self) -> str:
        """The same for two tokenizers whose ids all mean the same."""
        text = json.dumps(sorted(self.texts.items()), ensure_ascii=True, separators=(",", ":"))
        return f"tokenizer-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class VocabularyPair:
    """How the ids of a target and its draft compare."""

    target: Tokens
    draft: Tokens
    unlike: tuple[int, ...]  # ids that both have, of different texts
    target_only: tuple[int, ...]
    draft_only: tuple[int, ...]

    @property
    def same(self) -> bool:
        return not (self.unlike or self.target_only or self.draft_only)

    def shared(self, entries: int) -> list[bool]:
        """Which ids below `entries` mean the same to both."""
        ours, theirs = self.target.texts, self.draft.texts
        return [token in ours and ours[token] == theirs.get(token) for token in range(entries)]

    def parting(self, used: Collection[int]) -> list[int]:
        """Ids in use that mean different texts; `used` are those of prompts and ends."""
        marks = self.target.added, self.draft.added
        return [token for token in self.unlike if token in used or not all(token in added for added in marks)]

    def faults(self, file: str, place: str, used: Collection[int]) -> list[Fault]:
        """Why target and draft cannot be a pair."""
        remedy = "Choose a draft of the target's family: both must share token ids."
        if parting := self.parting(used):
            first = parting[0]
            moved = self.moved(first)
            found = f"{len(parting)} ids in use that mean another text than to the target: {self.named(parting)}{moved}"
            return [Fault(file, place, found, "the same text for every id that is in use", remedy)]
        if len(self.unlike) + len(self.draft_only) >= len(self.draft.texts):
            found = f"a tokenizer of {len(self.draft.texts)} entries, none of them the target's"
            return [Fault(file, place, found, f"ids of the target's ({len(self.target.texts)} entries)", remedy)]
        return []

    def by_text(self, entries: int, drafts: int) -> dict[int, int]:
        """The draft's id of every token of the target that both have, by text: token-level intersection.

        As Timor et al. 2502.05202 (TLI) and vLLM's PR 38174. Of the target's ids those below `entries` count, of the
        draft's those below `drafts`; marks are held against marks, pieces of text against pieces of text.
        """
        theirs: dict[tuple[str, bool], int] = {}
        for token, text in sorted(self.draft.texts.items()):
            if token < drafts:
                theirs.setdefault((spelled(text), token in self.draft.added), token)
        found: dict[int, int] = {}
        for token, text in sorted(self.target.texts.items()):
            key = (spelled(text), token in self.target.added)
            if token < entries and key in theirs:
                found[token] = theirs.pop(key)  # an id of the draft stands for one of the target
        return found

    def moved(self, token: int) -> str:
        """Where the target's text of an id is in the draft's tokenizer, if it is elsewhere."""
        text = self.target.texts[token]
        other = next((index for index, one in self.draft.texts.items() if one == text), None)
        return "" if other is None else f"; {text!r} is {token} to the target and {other} to the draft"

    def named(self, tokens: Iterable[int]) -> str:
        """The first few ids with what they are to each."""
        listed = list(tokens)
        words = []
        for token in listed[:SHOWN]:
            ours, theirs = self.target.texts.get(token), self.draft.texts.get(token)
            both = f"{ours!r} to the target, {theirs!r} to the draft"
            words.append(f"{token} ({both if None not in (ours, theirs) else repr(ours or theirs)})")
        return ", ".join(words) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")

    def notes(self) -> list[str]:
        """Notes on a pair whose vocabularies differ."""
        found = []
        if self.unlike:
            unused = "none is in a prompt or ends an answer, and the draft proposes none"
            found.append(f"Ids of reserved names that differ: {self.named(self.unlike)}; {unused}.")
        if self.target_only:
            found.append(f"Ids of the target that the draft lacks, and never proposes: {self.named(self.target_only)}.")
        if self.draft_only:
            found.append(f"Ids of the draft that the target lacks, and is never sent: {self.named(self.draft_only)}.")
        return found


def spelled(text: str) -> str:
    """A piece of text with the space before a word as SentencePiece marks it; byte-level tokenizers write another."""
    return text.replace("\u0120", "\u2581")


def compared(target: Tokens, draft: Tokens) -> VocabularyPair:
    """Both tokenizers, id by id."""
    ours, theirs = target.texts, draft.texts
    unlike = tuple(sorted(token for token, text in ours.items() if theirs.get(token, text) != text))
    target_only = tuple(sorted(token for token in ours if token not in theirs))
    draft_only = tuple(sorted(token for token in theirs if token not in ours))
    return VocabularyPair(target, draft, unlike, target_only, draft_only)


def tokens_in(folder: Path) -> Tokens | None:
    """The texts of the ids in a folder's tokenizer.json; None where it has none that can be read."""
    file = folder / "tokenizer.json"
    try:
        state = file.stat()
    except (OSError, ValueError):
        return None
    return _tokens_in(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _tokens_in(file: Path, changed_ns: int, size: int) -> Tokens | None:
    try:
        return tokens_of(read_object(file))
    except (InputError, ValueError, KeyError, TypeError, OverflowError):
        return None


def tokens_of(document: Mapping[str, Any]) -> Tokens:
    """Of the model (a mapping, or a list with scores), then what was added. Raises what a broken document makes it."""
    listed = document["model"]["vocab"]
    if isinstance(listed, dict):
        texts = {int(token): str(text) for text, token in listed.items()}
    else:
        texts = {token: str(entry[0]) for token, entry in enumerate(listed)}
    added = {int(entry["id"]): str(entry["content"]) for entry in document.get("added_tokens") or []}
    if not texts and not added:
        raise ValueError("no vocabulary")
    return Tokens(texts | added, frozenset(added))
