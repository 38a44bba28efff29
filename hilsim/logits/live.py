"""The live source: two real networks with a key/value cache each, asked position by position."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from hilsim.describe.conversation import Conversation
from hilsim.describe.decoding import Accept, Payload, Sampling, VerifyAt
from hilsim.describe.load import Setup
from hilsim.errors import CheckpointError, Fault, InputError
from hilsim.logits.checkpoint import load_network
from hilsim.logits.decisions import Decisions, Rules
from hilsim.logits.decoder import Decoder
from hilsim.logits.network import Network
from hilsim.logits.source import Draft, Prefix, TokenTree, Verdict
from hilsim.logits.tokenizer import ChatTokenizer, load_tokenizer

Row = npt.NDArray[np.float32]


class Reader:
    """One network reading one conversation: knows what its cache holds and feeds only what is missing."""

    def __init__(self, network: Network, capacity: int, vocabulary: int, clock: Clock):
        self.decoder = Decoder(network, capacity)
        self.vocabulary = vocabulary
        self.held: list[int] = []
        self.known: list[Row | None] = []  # logits after each held token, where they were asked for
        self.clock = clock

    def rows(self, tokens: Sequence[int], count: int) -> list[Row]:
        """Logits after each of the last `count` tokens, float32 (vocabulary,).

        The cache is rewound to where it agrees with `tokens`, so a rejected draft leaves no trace.
        """
        first = len(tokens) - count
        shared = shared_prefix(self.held, tokens)
        if shared == len(tokens):
            known = [row for row in self.known[first:shared] if row is not None]
            if len(known) == count:
                return known
        keep = min(shared, first)
        self.decoder.rewind(keep)
        began = time.perf_counter()
        logits = self.decoder.feed(tokens[keep:], count)
        self.clock.seconds += time.perf_counter() - began
        self.clock.passes += 1
        rows: list[Row] = [row[: self.vocabulary].astype(np.float32, copy=False) for row in logits]
        self.known[keep:] = [*[None] * (first - keep), *rows]
        self.held[keep:] = tokens[keep:]
        return rows

    def tree_rows(self, tokens: Sequence[int], tree: TokenTree) -> list[Row]:
        """Logits after the last of `tokens` and after every node of a tree below it, in one masked pass.

        The cache keeps `tokens` alone: what stands of the tree is read again, which a deployed runtime saves by moving
        the keys and values of the path together.
        """
        keep = min(shared_prefix(self.held, tokens), len(tokens) - 1)
        self.decoder.rewind(keep)
        began = time.perf_counter()
        logits = self.decoder.feed_tree(tokens[keep:], tree.tokens, tree.parents)
        self.clock.seconds += time.perf_counter() - began
        self.clock.passes += 1
        rows: list[Row] = [row[: self.vocabulary].astype(np.float32, copy=False) for row in logits]
        self.known[keep:] = [*[None] * (len(tokens) - keep - 1), rows[0]]
        self.held[keep:] = tokens[keep:]
        return rows


@dataclass
class Clock:
    """Wall time and number of bare forward passes."""

    seconds: float = 0.0
    passes: int = 0


def shared_prefix(held: list[int], tokens: Sequence[int]) -> int:
    """How many tokens two sequences share from the start."""
    limit = min(len(held), len(tokens))
    if held[:limit] == list(tokens[:limit]):
        return limit
    return next(index for index in range(limit) if held[index] != tokens[index])


@dataclass(frozen=True)
class StandIns:
    """The loaded networks and their common tokenizer; both may be shared by many runs."""

    target: Network
    draft: Network | None
    tokenizer: ChatTokenizer
    loaded: tuple[Conversation, ...]
    vocabulary: int  # logits that both networks have; some families pad their heads differently


def load_stand_ins(setup: Setup) -> StandIns:
    """Load what the scenario's live logits need. Raises `CheckpointError` with every fault of both folders."""
    assert setup.scenario.logits.source == "live"
    assert setup.target.stand_in is not None
    dtype = torch.float64 if setup.scenario.logits.dtype == "float64" else torch.float32
    context = setup.scenario.context_tokens
    faults: list[Fault] = []
    found: dict[str, tuple[Network, ChatTokenizer]] = {}
    for placed in (setup.target, setup.draft):
        if placed is not None and placed.stand_in is not None:
            try:
                found[placed.role] = load_network(placed.stand_in, dtype), load_tokenizer(placed.stand_in)
            except InputError as error:
                faults += error.faults
    if faults:
        raise CheckpointError(faults)
    target, tokenizer = found["target"]
    draft, other = found.get("draft", (None, tokenizer))
    ours, theirs = tokenizer.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if ours != theirs:
        different = sum(ours.get(token) != index for token, index in theirs.items())
        faults.append(
            Fault(
                setup.file,
                "draft.stand_in",
                f"a tokenizer of {len(theirs)} entries, {different} of them unlike the target's",
                f"the tokenizer of target.stand_in ({len(ours)} entries)",
                "Both stand-ins must share token ids.",
            )
        )
    sizes = {role: network.config.vocab_size for role, (network, _) in found.items()}
    for role, size in sizes.items():
        if size < max(ours.values()) + 1:
            faults.append(
                Fault(
                    setup.file,
                    f"{role}.stand_in",
                    f"a network of {size} logits",
                    f"one for each of the tokenizer's {max(ours.values()) + 1} ids",
                    "Network and tokenizer belong to different models.",
                )
            )
    for role, network in (("target", target), ("draft", draft)):
        if network is not None and network.config.max_positions < context:
            faults.append(
                Fault(
                    setup.file,
                    "context_tokens",
                    str(context),
                    f"at most {network.config.max_positions}, the positions of {role}.stand_in",
                    "Lower it.",
                )
            )
    for conversation in setup.conversations:
        length = len(tokenizer.first_turn(conversation.turns[0]))
        if length >= context:
            faults.append(
                Fault(
                    setup.file,
                    "workload.conversations",
                    f"conversation {conversation.id!r} opens with {length} tokens",
                    f"fewer than context_tokens ({context})",
                    "Raise context_tokens or leave that conversation out.",
                )
            )
    if faults:
        raise CheckpointError(faults)
    return StandIns(target, draft, tokenizer, setup.conversations, min(sizes.values()))


class LiveSource:
    """Answers from the stand-ins: their rows, and `Decisions` about them. Deterministic given the seed."""

    def __init__(
        self,
        stand_ins: StandIns,
        sampling: Sampling,
        context: int,
        seed: int,
        accept: Accept | None = None,
        payload: Payload | None = None,
        verify_at: VerifyAt = "target",
    ):
        """Without `accept` and `payload`: greedy by ids at temperature 0, the ratio rule on full rows above it."""
        self.stand_ins, self.context = stand_ins, context
        usual = Rules.usual(sampling)
        rules = Rules(accept or usual.accept, payload or usual.payload, sampling, verify_at)
        self.decisions = Decisions(self, rules, seed, self.ends)
        self.clock = Clock()
        self._readers: dict[tuple[str, int], Reader] = {}
        self._decode = lru_cache(maxsize=256)(lambda tokens: stand_ins.tokenizer.decode(list(tokens)))

    def prompt(self, conversation: int, turn: int) -> list[int]:
        text = self.stand_ins.loaded[conversation].turns[turn]
        tokenizer = self.stand_ins.tokenizer
        return tokenizer.first_turn(text) if turn == 0 else tokenizer.next_turn(text)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        return self.decisions.draft(prefix, count, after)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        return self.decisions.verify(prefix, draft)

    def draft_tree(self, prefix: Prefix, branches: Sequence[int]) -> TokenTree:
        return self.decisions.draft_tree(prefix, branches)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        return self.decisions.verify_tree(prefix, tree)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.decisions.next_token(prefix)

    def ends(self, token: int) -> bool:
        return token in self.stand_ins.tokenizer.end_tokens

    def text(self, tokens: Sequence[int]) -> str:
        return self._decode(tuple(tokens))

    def forget(self, conversation: int) -> None:
        for role in ("target", "draft"):
            self._readers.pop((role, conversation), None)

    @property
    def forward_seconds(self) -> float:
        return self.clock.seconds

    @property
    def drafts(self) -> bool:
        return self.stand_ins.draft is not None

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Row]:
        return self._reader("target", conversation).rows(tokens, count)

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Row]:
        return self._reader("target", conversation).tree_rows(tokens, tree)

    def draft_row(self, conversation: int, tokens: Sequence[int]) -> Row:
        return self._reader("draft", conversation).rows(tokens, 1)[0]

    def _reader(self, role: str, conversation: int) -> Reader:
        key = (role, conversation)
        if key not in self._readers:
            network = self.stand_ins.target if role == "target" else self.stand_ins.draft
            assert network is not None, "a policy drafts, but the scenario has no draft"
            self._readers[key] = Reader(network, self.context, self.stand_ins.vocabulary, self.clock)
        return self._readers[key]
