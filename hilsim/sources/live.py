"""The live token source: the stand-in networks with a key/value cache each, evaluated position by position."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hilsim.describe.catalogue import located
from hilsim.describe.config_json import is_draft_head
from hilsim.describe.conversation import Conversation
from hilsim.describe.decoding import Accept, Payload, Sampling, VerifyAt
from hilsim.describe.policy import Ssd
from hilsim.describe.setup import Placed, Setup
from hilsim.describe.tree_shape import TreeShape
from hilsim.errors import CheckpointError, Fault, InputError, memory_short
from hilsim.networks.checkpoint import load_weights
from hilsim.networks.decoder import Decoder
from hilsim.networks.weights import Weights
from hilsim.sampling.choices import Rules
from hilsim.sampling.decisions import Decisions
from hilsim.sampling.proposals import (
    Draft,
    Prefix,
    TokenTree,
    Verdict,
)
from hilsim.text.pairs import CommonVocabulary, matched
from hilsim.text.prompt import Prompt, shared_prefix
from hilsim.text.tokenizer import ChatHistory, ChatTokenizer, load_tokenizer, system_fault

if TYPE_CHECKING:  # these load PyTorch, which plain networks do without
    from hilsim.networks.draft_head import DraftHead
    from hilsim.networks.forecasts import Forecasts

Row = npt.NDArray[np.float32]


# What computes rows of logits: all tokens, how many of them its cache holds already, and how many rows at the end are
# wanted. It returns None where the board that was to compute them is lost.
Compute = Callable[[Sequence[int], int, int], Sequence[Row] | None]


class Reader:
    """One network over one conversation: knows what its cache holds and feeds only the missing tokens."""

    def __init__(self, compute: Compute, vocabulary: int, replacement: Callable[[], Compute] | None = None):
        """`replacement` makes another `Compute`, with an empty cache, where `compute` is lost."""
        self.compute, self.vocabulary, self.replacement = compute, vocabulary, replacement
        self.held: list[int] = []
        self.known: list[Row | None] = []  # logits after each held token, where they were asked for

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
        logits = self.compute(tokens, keep, count)
        if logits is None:
            assert self.replacement is not None, "the board is lost and there is no replacement"
            self.compute, self.held, self.known = self.replacement(), [], []
            return self.rows(tokens, count)
        rows = [self.as_row(row) for row in logits]
        self.known[keep:] = [*[None] * (first - keep), *rows]
        self.held[keep:] = tokens[keep:]
        return rows

    def tree_rows(self, tokens: Sequence[int], tree: TokenTree) -> list[Row]:
        """Logits after the last of `tokens` and after every node of a tree below it, in one masked pass.

        The cache holds `tokens` alone afterwards: the accepted path is read again, which a deployed runtime saves by
        moving the keys and values of the path together.
        """
        keep = min(shared_prefix(self.held, tokens), len(tokens) - 1)
        assert isinstance(self.compute, Passes), "trees are for networks that run here"
        logits = self.compute.tree(tokens, keep, tree)
        rows = [self.as_row(row) for row in logits]
        self.known[keep:] = [*[None] * (len(tokens) - keep - 1), rows[0]]
        self.held[keep:] = tokens[keep:]
        return rows

    def having_read(self, tokens: Sequence[int]) -> Decoder:
        """The decoder, whose cache begins with `tokens`: what no pass has read yet is read now."""
        if shared_prefix(self.held, tokens) < len(tokens):
            self.rows(tokens, 1)
        assert isinstance(self.compute, Passes), "draft heads are for targets that run here"
        return self.compute.decoder

    def as_row(self, logits: npt.NDArray[np.floating]) -> Row:
        """Logits as float32 (vocabulary,); what float32 cannot hold becomes infinite and is refused by `Decisions`."""
        if logits.dtype == np.float32:  # a row that is asked for twice stays one array
            return logits if len(logits) == self.vocabulary else logits[: self.vocabulary]
        with np.errstate(over="ignore"):
            return logits[: self.vocabulary].astype(np.float32)


class HeadReader:
    """A draft head over one conversation, and the reader of the target whose hidden states it reads."""

    def __init__(self, head: DraftHead, context: int, target: Reader, clock: Clock):
        from hilsim.networks.head_decoder import HeadDecoder

        self.decoder, self.target, self.clock = HeadDecoder(head, context), target, clock

    def row(self, tokens: Sequence[int], verified: int) -> Row:
        """Logits after the last token, float32 (vocabulary,), of which the first `verified` are."""
        target = self.target.having_read(tokens[: verified - 1])
        with self.clock:
            logits = self.decoder.row(tokens, verified, target)
        return self.target.as_row(logits)


class Passes:
    """Passes of a network that runs here, with its cache, timed by a clock."""

    def __init__(
        self,
        weights: Weights,
        capacity: int,
        clock: Clock,
        read: Sequence[int] = (),
        forecasts: Forecasts | None = None,
    ):
        """`read`: the layers whose outputs a draft head reads; `forecasts`: forecast tokens that it may read."""
        self.clock = clock
        try:
            self.decoder = decoder_of(weights, capacity, read, forecasts)
        except (MemoryError, RuntimeError) as error:
            size = cache_bytes(weights, capacity) / 2**20
            what = f"a stand-in's key/value cache of {capacity} positions, {size:.0f} MiB"
            raise memory_short(error, what) or error from None

    def __call__(self, tokens: Sequence[int], keep: int, count: int) -> Sequence[Row]:
        self.decoder.rewind(keep)
        try:
            with self.clock:
                return self.decoder.feed(tokens[keep:], count)
        except (MemoryError, RuntimeError) as error:
            what = f"a stand-in's pass of {len(tokens) - keep} tokens over {keep} in its cache"
            raise memory_short(error, what) or error from None

    def tree(self, tokens: Sequence[int], keep: int, tree: TokenTree) -> Sequence[Row]:
        """Rows of the last token and of every node below it."""
        self.decoder.rewind(keep)
        with self.clock:
            return self.decoder.feed_tree(tokens[keep:], tree.tokens, tree.parents)


def decoder_of(weights: Weights, capacity: int, read: Sequence[int], forecasts: Forecasts | None) -> Decoder:
    """A decoder with an empty cache, which reads forecast tokens where there are some."""
    if forecasts is None:
        return Decoder(weights, capacity, read)
    from hilsim.networks.forecasts import ForecastingDecoder

    return ForecastingDecoder(weights, capacity, forecasts)


def cache_bytes(weights: Weights, capacity: int) -> int:
    """Bytes of the keys and values of so many positions."""
    config = weights.config
    return 2 * config.layers * config.kv_heads * capacity * config.head_dim * weights.dtype.itemsize


@dataclass
class Clock:
    """Wall time and number of bare forward passes."""

    seconds: float = 0.0
    passes: int = 0
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.began
        self.passes += 1


@dataclass(frozen=True)
class StandIns:
    """The loaded networks by role and their common tokenizer; both may be shared by many runs.

    A role whose tokens come from elsewhere has no network here.
    """

    networks: Mapping[str, Weights]
    tokenizer: ChatTokenizer
    loaded: tuple[Conversation, ...]
    columns: Mapping[str, CommonVocabulary]  # by role: the logits that count
    drafts: bool
    head: DraftHead | None = None  # that drafts in place of a network
    notes: tuple[str, ...] = ()  # remarks on the folders and the pair, for the report
    forecasts: Forecasts | None = None  # of the target, for policy ssd

    @property
    def target(self) -> Weights:
        return self.networks["target"]

    @property
    def draft(self) -> Weights | None:
        return self.networks.get("draft")


def load_stand_ins(setup: Setup, elsewhere: Mapping[str, int] = MappingProxyType({})) -> StandIns:
    """Load what the scenario's live logits need. Raises `CheckpointError` with every fault of both folders.

    `elsewhere` maps roles whose tokens come from a board without a stand-in to its number of logits: of those the
    tokenizer alone is read.
    """
    assert setup.scenario.logits.source == "live"
    assert setup.target.stand_in is not None
    dtype = setup.scenario.logits.dtype
    context = setup.scenario.context_tokens
    faults: list[Fault] = []
    networks: dict[str, Weights] = {}
    headed: Placed | None = None
    tokenizers: dict[str, ChatTokenizer] = {}
    for role, placed in setup.roles.items():
        if placed.stand_in is not None:
            try:
                if role == "draft" and is_draft_head(placed.stand_in):
                    headed = placed
                    continue
                if role not in elsewhere:
                    networks[role] = load_weights(placed.stand_in, dtype, placed.placement.kv_cache)
                tokenizers[role] = load_tokenizer(placed.stand_in)
            except InputError as error:
                faults += error.faults
            except (MemoryError, RuntimeError) as error:
                size = sum(file.stat().st_size for file in placed.stand_in.glob("*.safetensors")) / 2**20
                # Halves on disk, read once, and as float32 in the network.
                what = (
                    f"the weights of {role}.stand_in, {size:.0f} MiB in its file and up to four times that on loading"
                )
                raise memory_short(error, what) or error from None
    if faults:
        raise CheckpointError(faults)
    forecasts = None
    if isinstance(setup.scenario.policy, Ssd) and "target" in networks:
        forecasts = forecasts_for(setup.scenario.policy, setup, networks["target"])
    head = None if headed is None else head_of(setup, headed, networks, elsewhere)
    tokenizer = tokenizers["target"]
    sizes = {role: network.config.vocab_size for role, network in networks.items()} | dict(elsewhere)
    match = matched(setup.file, tokenizers, sizes, cache(lambda: prompts(tokenizer, setup.conversations)))
    faults += match.faults
    for role, network in networks.items():
        if network.config.max_positions < context:
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
        place = f"conversation {conversation.id!r}"
        if conversation.system is not None and (
            fault := system_fault(tokenizer, conversation.system, conversation.turns[0])
        ):
            remedy = "Leave its system text out, or choose a stand-in whose chat template supports one."
            faults.append(replace(fault, found=f"{fault.found}, for {place}", remedy=remedy))
            continue
        length = len(tokenizer.first_turn(conversation.turns[0], conversation.system))
        if length >= context:
            faults.append(
                Fault(
                    setup.file,
                    "workload.conversations",
                    f"{place} opens with {length} tokens",
                    f"fewer than context_tokens ({context})",
                    "Raise context_tokens or leave that conversation out.",
                )
            )
    if faults:
        raise CheckpointError(faults)
    notes = [f"{role}.stand_in: {note}" for role, network in networks.items() for note in network.notes]
    drafts = headed is not None or "draft" in tokenizers
    notes = [*match.notes, *notes]
    return StandIns(networks, tokenizer, setup.conversations, match.columns, drafts, head, tuple(notes), forecasts)


def head_of(setup: Setup, placed: Placed, networks: Mapping[str, Weights], elsewhere: Mapping[str, int]) -> DraftHead:
    """The draft head of a scenario, over its target. Raises `CheckpointError` where the target is not here."""
    assert placed.stand_in is not None
    if elsewhere:
        found = f"a draft head, while {' and '.join(elsewhere)} run on a board"
        expected = "target and head here: a head reads the target's hidden states, which no board hands out"
        remedy = "Let a stand-in make the target's tokens (words: stand_in), or draft with a model."
        raise CheckpointError([Fault(setup.file, "draft.stand_in", found, expected, remedy)])
    from hilsim.networks.draft_head_file import load_draft_head
    from hilsim.networks.network import network_of

    return load_draft_head(placed.stand_in, network_of(networks["target"]), placed.placement.kv_cache)


def forecasts_for(policy: Ssd, setup: Setup, weights: Weights) -> Forecasts:
    """The forecast tokens that a policy names, for the target's stand-in. Raises `CheckpointError`."""
    assert policy.forecasts is not None
    assert setup.target.stand_in is not None
    from hilsim.networks.forecasts import load_forecasts
    from hilsim.networks.network import network_of

    folder = located(policy.forecasts, Path(setup.file))
    forecasts = load_forecasts(folder, network_of(weights), setup.target.stand_in)
    if forecasts.tokens < policy.forecast:
        found = f"{policy.forecast}, of which {folder} has {forecasts.tokens}"
        expected = f"at most {forecasts.tokens}"
        remedy = "Use fewer levels of branches, or train more forecast tokens."
        raise CheckpointError([Fault(setup.file, "policy.forecast_tokens", found, expected, remedy)])
    return forecasts


def prompts(tokenizer: ChatTokenizer, conversations: Sequence[Conversation]) -> frozenset[int]:
    """Every token id that occurs in the prompts of conversations, whatever the answers are."""
    found = set[int]()
    for one in conversations:
        dialogue, tokens = tokenizer.open(one.system), list[int]()
        for text in one.turns:
            prompt = dialogue.ask(text, tokens)
            tokens = [*tokens[: prompt.prefix_length], *prompt.tokens]
            found.update(tokens)
    return frozenset(found)


class LiveSource:
    """`LogitsSource` of the stand-ins: their logits, and `Decisions` over them. Deterministic given the seed."""

    by_chance = False

    def __init__(
        self,
        stand_ins: StandIns,
        sampling: Sampling,
        context: int,
        seed: int,
        accept: Accept | None = None,
        payload: Payload | None = None,
        verify_at: VerifyAt = "target",
        computes: Mapping[str, Compute] = MappingProxyType({}),
    ):
        """Without `accept` and `payload`: greedy by ids at temperature 0, the ratio rule on full rows above it.

        `computes` has what computes the logits of roles whose tokens come from elsewhere.
        """
        self.stand_ins, self.context, self.computes = stand_ins, context, computes
        usual = Rules.usual(sampling)
        rules = Rules(accept or usual.accept, payload or usual.payload, sampling, verify_at)
        self.decisions = Decisions(self, rules, seed, self.ends)
        self.clock = Clock()
        self._readers: dict[tuple[str, int], Reader] = {}
        self._heads: dict[int, HeadReader] = {}
        self._dialogues: dict[int, ChatHistory] = {}
        self._decode = lru_cache(maxsize=256)(lambda tokens: stand_ins.tokenizer.decode(list(tokens)))

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        asked = self.stand_ins.loaded[conversation]
        if turn == 0:
            self._dialogues[conversation] = self.stand_ins.tokenizer.open(asked.system)
        return self._dialogues[conversation].ask(asked.turns[turn], before)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        return self.decisions.draft(prefix, count, after)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        return self.decisions.verify(prefix, draft)

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        return self.decisions.draft_tree(prefix, shape)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        return self.decisions.verify_tree(prefix, tree)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.decisions.next_token(prefix)

    def ends(self, token: int) -> bool:
        return token in self.stand_ins.tokenizer.end_tokens

    def text(self, tokens: Sequence[int]) -> str:
        return self._decode(tuple(tokens))

    def forget(self, conversation: int) -> None:
        self._dialogues.pop(conversation, None)
        self._heads.pop(conversation, None)
        for role in ("target", "draft"):
            self._readers.pop((role, conversation), None)

    @property
    def forward_seconds(self) -> float:
        return self.clock.seconds

    @property
    def drafts(self) -> bool:
        return self.stand_ins.drafts

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Row]:
        return self._reader("target", conversation).rows(tokens, count)

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Row]:
        return self._reader("target", conversation).tree_rows(tokens, tree)

    @property
    def reads_states(self) -> bool:
        return self.stand_ins.head is not None

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Row:
        if self.stand_ins.head is not None:
            if conversation not in self._heads:
                target = self._reader("target", conversation)
                self._heads[conversation] = HeadReader(self.stand_ins.head, self.context, target, self.clock)
            return self._heads[conversation].row(tokens, verified)
        columns = self.stand_ins.columns["draft"]
        return columns.masked(self._reader("draft", conversation).rows(columns.read(tokens), 1)[0])

    def _reader(self, role: str, conversation: int) -> Reader:
        key = (role, conversation)
        if key not in self._readers:
            compute = self.computes.get(role) or self._passes(role)
            self._readers[key] = Reader(compute, self.stand_ins.columns[role].width, lambda: self._passes(role))
        return self._readers[key]

    def _passes(self, role: str) -> Passes:
        assert role in self.stand_ins.networks, "a policy drafts, but the scenario has no draft"
        stand_ins, network = self.stand_ins, self.stand_ins.networks[role]
        if role != "target":
            return Passes(network, self.context, self.clock)
        read = stand_ins.head.config.read if stand_ins.head is not None else ()
        return Passes(network, self.context, self.clock, read, stand_ins.forecasts)
