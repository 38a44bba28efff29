"""Checks that a target and its draft can be paired: which of their logits count, and the faults of tokenizer and sizes.

Which ids two tokenizers share is `describe/vocabulary.py`'s rule; here the sizes of embeddings and heads are added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hilsim.describe.vocabulary import Tokens, VocabularyPair, compared
from hilsim.errors import Fault
from hilsim.text.tokenizer import ChatTokenizer

Row = npt.NDArray[np.float32]
NEVER = np.float32(-1e30)  # a logit without any mass at every temperature; finite, so that it does not count as broken


@dataclass(frozen=True)
class CommonVocabulary:
    """The logits of a role's rows that count, and what it reads in place of ids beyond its embedding."""

    entries: int
    never: tuple[int, ...] = ()  # among these entries, ids that are never proposed
    limit: int | None = None  # ids from here on it does not know; None where it knows all that there are
    unknown: int = 0
    ids: tuple[int, ...] | None = None  # of another vocabulary: its own id for each entry, 0 for those it lacks

    @property
    def width(self) -> int:
        """How many logits of its own rows count."""
        return self.entries if self.ids is None else max(self.ids) + 1

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Where in its own rows the entries are."""
        return np.arange(self.entries) if self.ids is None else np.array(self.ids)

    @cached_property
    def reading(self) -> npt.NDArray[np.int64]:
        """What it reads for each entry, and last for all beyond them."""
        table = np.append(self.places, self.unknown)
        table[list(self.never)] = self.unknown
        return table

    def masked(self, row: Row) -> Row:
        """A row of its `width` logits as the entries, without mass for those that are never proposed."""
        if not self.never and self.ids is None:
            return row
        row = row.copy() if self.ids is None else row[self.places]
        row[list(self.never)] = NEVER
        return row

    def read(self, tokens: Sequence[int]) -> Sequence[int]:
        """Tokens as the role can read them."""
        if self.ids is not None:
            own: list[int] = self.reading[np.minimum(tokens, self.entries)].tolist()
            return own
        if self.limit is None:
            return tokens
        return [token if token < self.limit else self.unknown for token in tokens]


@dataclass
class Match:
    """The result of comparing tokenizers and sizes: columns by role, notes and faults."""

    columns: dict[str, CommonVocabulary] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def matched(
    file: str, tokenizers: Mapping[str, ChatTokenizer], sizes: Mapping[str, int], prompts: Callable[[], Collection[int]]
) -> Match:
    """`sizes` are the numbers of logits by role; `prompts` are all ids of the workload's prompts, made on demand."""
    found = Match()
    tokens = {role: tokens_by(tokenizer) for role, tokenizer in tokenizers.items()}
    for role, size in sizes.items():
        beyond = sorted(token for token in tokens[role].texts if token >= size)
        asked = set(prompts()) & set(beyond) if beyond and role == "target" else set[int]()
        if any(token not in tokens[role].added for token in beyond):
            expected = f"one for each of the tokenizer's {beyond[-1] + 1} ids"
            remedy = "Network and tokenizer belong to different models."
            found.faults.append(Fault(file, f"{role}.stand_in", f"a network of {size} logits", expected, remedy))
        elif asked:
            token = min(asked)
            text = tokens[role].texts[token]
            expected = f"prompts of the {size} ids that its network has"
            remedy = "Resize the network's embedding to its tokenizer, or remove that token from the chat template."
            found.faults.append(Fault(file, f"{role}.stand_in", f"id {token} ({text!r}) in a prompt", expected, remedy))
        elif beyond:
            named = ", ".join(f"{token} ({tokens[role].texts[token]!r})" for token in beyond[:4])
            more = f" and {len(beyond) - 4} more" if len(beyond) > 4 else ""
            found.notes.append(
                f"{role}.stand_in: its network ends at id {size - 1}, so it never generates {named}{more}."
            )
    # Rows that pad a head stand for no text: they are cut off before any distribution is made.
    found.columns["target"] = CommonVocabulary(min(sizes["target"], max(tokens["target"].texts, default=0) + 1))
    if "draft" in sizes:
        pair = compared(tokens["target"], tokens["draft"])
        ends = {end for one in tokenizers.values() for end in one.end_tokens}
        used = ends | set(prompts()) if pair.unlike else ends
        faults, unknown = pair.faults(file, "draft.stand_in", used), unknown_of(tokenizers["draft"], sizes["draft"])
        common = pair.by_text(sizes["target"], sizes["draft"]) if faults else {}
        if common:
            found.columns["draft"] = translated(common, unknown)
            found.notes.append(other_vocabulary(pair, len(common), unknown))
        else:
            found.faults += faults
            found.columns["draft"] = proposed(pair, sizes, unknown)
            found.notes += pair.notes() + substitute(found.columns["draft"], pair)
    return found


def tokens_by(tokenizer: ChatTokenizer) -> Tokens:
    """The texts of a loaded tokenizer's ids."""
    texts = {token: text for text, token in tokenizer.tokenizer.get_vocab().items()}
    return Tokens(texts, frozenset(tokenizer.tokenizer.get_added_tokens_decoder()))


def proposed(pair: VocabularyPair, sizes: Mapping[str, int], unknown: int) -> CommonVocabulary:
    """A draft's columns: the shared ids that both networks have logits for."""
    shared = pair.shared(min(sizes["draft"], sizes["target"]))
    entries = max((token + 1 for token, both in enumerate(shared) if both), default=1)
    never = tuple(token for token in range(entries) if not shared[token])
    return CommonVocabulary(entries, never, sizes["draft"] if sizes["target"] > sizes["draft"] else None, unknown)


def translated(common: Mapping[int, int], unknown: int) -> CommonVocabulary:
    """A draft's columns where its vocabulary is another: `common` are its ids by the target's."""
    entries = max(common) + 1
    never = tuple(token for token in range(entries) if token not in common)
    return CommonVocabulary(entries, never, None, unknown, tuple(common.get(token, 0) for token in range(entries)))


def other_vocabulary(pair: VocabularyPair, common: int, unknown: int) -> str:
    """A note on a draft of another vocabulary."""
    text = pair.draft.texts.get(unknown, "")
    return (
        f"The draft has another vocabulary: {common} of its {len(pair.draft.texts)} tokens are also the target's, by "
        f"their text. It proposes these alone, and reads the target's other tokens as {unknown} ({text!r})."
    )


def unknown_of(tokenizer: ChatTokenizer, size: int) -> int:
    """What a network reads in place of an id that it lacks: its mark for the unknown, else its first id."""
    name = getattr(tokenizer.tokenizer.model, "unk_token", None)
    token = tokenizer.tokenizer.token_to_id(name) if isinstance(name, str) else None
    return token if token is not None and token < size else 0


def substitute(columns: CommonVocabulary, pair: VocabularyPair) -> list[str]:
    """A note where the target may generate ids that the draft cannot read."""
    if columns.limit is None or not any(token >= columns.limit for token in pair.target_only):
        return []
    text = pair.draft.texts.get(columns.unknown, "")
    return [
        f"The draft's network ends at id {columns.limit - 1}: for higher ids it reads {columns.unknown} ({text!r})."
    ]
