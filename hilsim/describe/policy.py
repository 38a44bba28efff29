"""Policies as a scenario describes them: the name, its parameters, and whether speculation may pause."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Record, as_tuple
from hilsim.describe.tree_shape import BestNodes, Branches, TreeShape, drawn
from hilsim.errors import Misfit

DraftTokens = Annotated[int, Field(ge=1, le=64)]
Children = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], BeforeValidator(as_tuple)]
MOST_ROWS = 257  # of one pass over a tree, the last committed token's among them


class SpeculationPause(Record):
    """When to let the target go on alone: where the last `window` rounds were slower than plain steps would have been.

    Rounds must be `margin` times as fast as plain steps; after `rest_tokens` tokens speculation is tried again.
    """

    window: int = Field(default=6, ge=1, le=1000)
    margin: float = Field(default=1.0, gt=0, le=10)
    rest_tokens: int = Field(default=16, ge=1, le=10**6)


class Speculative(Record):
    """What all policies that draft have in common.

    `needs_draft`: whether a second network proposes; `live_only`: whether what is proposed is found in the text;
    `trees`: whether proposals branch and are verified in one masked pass.
    """

    needs_draft: ClassVar[bool] = True
    live_only: ClassVar[bool] = False
    trees: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False  # of the verdict on what was drafted before
    fallback: SpeculationPause | None = None


class TargetOnly(Record):
    """The target answers alone."""

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = False
    trees: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False
    name: Literal["target_only"]


class Sync(Speculative):
    """Draft `draft_tokens`, verify them in one pass, repeat; each chip waits for the other."""

    name: Literal["sync"]
    draft_tokens: DraftTokens


class Adaptive(Speculative):
    """As `sync`, with a draft that stops by a rule; the token that made it stop is submitted all the same.

    - schedule: `draft_tokens` at first; two more after a draft that stood whole, one less otherwise (Hugging Face).
    - confidence: stop after a token that the draft gave less than `threshold` (DISCO, arXiv 2405.04304).
    - entropy: stop where 1 - sqrt(`factor` x entropy) is under `threshold` (AdaEDL, arXiv 2410.18351).
    - expected: go on while a longer draft promises more tokens a second, by the chips' own step times and the link.
    """

    name: Literal["adaptive"]
    rule: Literal["schedule", "confidence", "entropy", "expected"] = "expected"
    draft_tokens: DraftTokens = 5
    most: DraftTokens = 20
    threshold: float = Field(default=0.4, ge=0, le=1)
    factor: float = Field(default=0.2, gt=0, le=10)

    @model_validator(mode="after")
    def _in_order(self) -> Adaptive:
        if self.draft_tokens > self.most:
            raise Misfit(f"draft_tokens {self.draft_tokens} above most", f"at most {self.most}")
        return self


class Pearl(Speculative):
    """Draft the next block while the target verifies the last one (PEARL, arXiv 2408.11850)."""

    drafts_ahead: ClassVar[bool] = True
    name: Literal["pearl"]
    draft_tokens: DraftTokens


class Async(Speculative):
    """The draft never stops; the idle target takes what has arrived, `min_batch` tokens at least (AMUSD, 2410.17375).

    With `min_batch` 0 it never waits, and runs one row where nothing has arrived; with `pre_verify` it does so while
    the draft starts again after a rejected token. At most `max_ahead` tokens wait for a verdict; a rollback costs the
    draft `handshake_ms`.
    """

    drafts_ahead: ClassVar[bool] = True
    name: Literal["async"]
    min_batch: int = Field(default=2, ge=0, le=64)
    max_ahead: int = Field(default=16, ge=1, le=256)
    handshake_ms: float = Field(default=0.0, ge=0, le=1e5)
    pre_verify: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Async:
        if self.min_batch > self.max_ahead:
            raise Misfit(f"min_batch {self.min_batch} above max_ahead", f"at most {self.max_ahead}")
        return self


class Pipelined(Speculative):
    """Blocks of drafts under way while the next is drafted; a rejection interrupts the draft (PicoSpec).

    `pre_verify` lets the idle target run one row after a rejection, while the draft starts again.
    """

    drafts_ahead: ClassVar[bool] = True
    name: Literal["pipelined"]
    draft_tokens: DraftTokens
    blocks_in_flight: int = Field(default=1, ge=1, le=16)
    pre_verify: bool = True


class PromptLookup(Speculative):
    """The target's own chip proposes what followed the last tokens where they occurred before; no draft, no link."""

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = True
    name: Literal["prompt_lookup"]
    draft_tokens: DraftTokens
    longest_match: int = Field(default=3, ge=1, le=16)


class Suffix(Speculative):
    """Suffix decoding (arXiv 2411.04975): what most often followed the longest match of the last tokens, in this
    conversation and in all earlier ones of the run; no draft, no link.

    A draft has at most `factor` tokens for each token of the match, and ends where the product of its tokens' shares
    falls below `least_share`. Defaults of vLLM's suffix decoding, whose matches may be longer.
    """

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = True
    name: Literal["suffix"]
    draft_tokens: DraftTokens
    longest_match: int = Field(default=8, ge=1, le=32)
    factor: float = Field(default=1.0, gt=0, le=64)
    least_share: float = Field(default=0.1, ge=0, le=1)


class Cascade(Speculative):
    """Lookup first, as in `prompt_lookup`; where that proposes fewer than `least` tokens the draft model drafts."""

    live_only: ClassVar[bool] = True
    name: Literal["cascade"]
    lookup_tokens: DraftTokens = 8
    longest_match: int = Field(default=3, ge=1, le=16)
    least: DraftTokens = 1
    draft_tokens: DraftTokens

    @model_validator(mode="after")
    def _reachable(self) -> Cascade:
        if self.least > self.lookup_tokens:
            raise Misfit(f"least {self.least} above lookup_tokens", f"at most {self.lookup_tokens}")
        return self


class Tree(Speculative):
    """A token tree, verified in one masked pass: of fixed shape, or of the draft's likeliest nodes.

    - branches: each node of depth d has `branches[d]` children (SpecInfer, Sequoia).
    - nodes, top, depth: of each level the `top` likeliest nodes grow `top` children; of all these the `nodes` with the
      largest products of the draft's probabilities are verified (EAGLE-2, arXiv 2406.16858).

    The target walks down from the root as long as its own token is a child (SpecInfer's greedy walk, OPT-Tree).
    `padded`: each pass of the draft reads the whole tree, padded to as many rows as are verified, in place of the level
    that it grows from (TensorRT Edge-LLM, speculative-decoding guide of 0.10.0). Heads of one pass grow no levels.
    """

    trees: ClassVar[bool] = True
    name: Literal["tree"]
    padded: bool = False
    branches: Children | None = Field(default=None, min_length=1, max_length=16)
    nodes: int | None = Field(default=None, ge=1, le=MOST_ROWS - 1)
    top: int | None = Field(default=None, ge=1, le=16)  # 8 where nodes are given alone
    depth: int | None = Field(default=None, ge=1, le=16)  # 5

    @property
    def shape(self) -> TreeShape:
        """The tree's shape."""
        if self.branches is not None:
            return Branches(self.branches)
        assert self.nodes is not None
        return BestNodes(self.nodes, self.top or 8, self.depth or 5)

    @property
    def rows(self) -> int:
        """Rows of the target's pass: every node, and the last committed token."""
        return self.shape.nodes + 1

    @property
    def padded_rows(self) -> int | None:
        """Rows that every pass of the draft but the first reads, where that is the whole tree."""
        return self.rows if self.padded else None

    @model_validator(mode="after")
    def _one_form(self) -> Tree:
        if (self.branches is None) == (self.nodes is None):
            found = "neither branches nor nodes" if self.branches is None else "branches and nodes"
            raise Misfit(f"a tree with {found}", "branches: [3, 2], or nodes: 31 with top and depth")
        if self.branches is not None and (self.top, self.depth) != (None, None):
            raise Misfit("top or depth with branches, which has them", "nodes with top and depth, or branches alone")
        if self.rows > MOST_ROWS:
            raise Misfit(f"branches {list(self.branches or ())} make {self.rows - 1} nodes", f"at most {MOST_ROWS - 1}")
        if isinstance(shape := self.shape, BestNodes) and shape.nodes > (most := drawn(shape.top, shape.depth)):
            raise Misfit(
                f"nodes {shape.nodes} of a tree that grows {most}", f"at most {most}, or a larger top or depth"
            )
        return self


class Lookahead(Speculative):
    """Lookahead decoding (Fu et al., arXiv 2402.02057; LADE in Genie): the target drafts by Jacobi iteration.

    One pass reads the last committed token, the lookahead branch (`window` columns of `ngram` - 1 levels, that token
    being the first), and the verification branch: at most `guesses` n-grams of earlier passes that begin with it.
    The pass has as many rows whatever it reads: (window + guesses) x (ngram - 1).
    """

    needs_draft: ClassVar[bool] = False
    trees: ClassVar[bool] = True
    name: Literal["lookahead"]
    window: int = Field(ge=1, le=64)
    ngram: int = Field(ge=2, le=16)
    guesses: int = Field(ge=1, le=64)

    @property
    def rows(self) -> int:
        """Rows of the target's pass, the last committed token's among them."""
        return (self.window + self.guesses) * (self.ngram - 1)

    @property
    def shape(self) -> Branches:
        """What the verification branch holds at most: a chain a guess."""
        return Branches((self.guesses, *[1] * (self.ngram - 2)))

    @model_validator(mode="after")
    def _small(self) -> Lookahead:
        if self.rows > MOST_ROWS:
            found = f"window {self.window}, guesses {self.guesses} and ngram {self.ngram} make {self.rows} rows"
            raise Misfit(found, f"at most {MOST_ROWS}")
        return self


class Ssd(Speculative):
    """Self-speculative decoding (Qualcomm Genie's SSD-Q1): the target forecasts the tokens after its next one.

    Every node of the tree is followed by `forecast_tokens` trained embeddings, whose rows predict the tokens that
    come later; those after the last accepted node make the next tree, with `branches[d]` of the likeliest tokens at
    depth d. `forecasts` is the folder of the embeddings, which live logits need.
    """

    needs_draft: ClassVar[bool] = False
    trees: ClassVar[bool] = True
    name: Literal["ssd"]
    branches: Children = Field(default=(3, 2), min_length=1, max_length=16)
    forecast_tokens: int | None = Field(default=None, ge=1, le=16)  # one for each level of branches where not given
    forecasts: str | None = None

    @property
    def shape(self) -> Branches:
        """The shape of the tree that is accepted from."""
        return Branches(self.branches)

    @property
    def forecast(self) -> int:
        """Forecast tokens after every node."""
        return self.forecast_tokens or len(self.branches)

    @property
    def rows(self) -> int:
        """Rows of the target's pass: the last committed token and every node, each with its forecast tokens."""
        return (self.shape.nodes + 1) * (1 + self.forecast)

    @model_validator(mode="after")
    def _reachable(self) -> Ssd:
        if self.forecast < len(self.branches):
            found = f"branches {list(self.branches)} with {self.forecast} forecast tokens"
            raise Misfit(found, "a forecast token for each level of branches")
        if self.rows > MOST_ROWS:
            raise Misfit(f"branches and forecast_tokens that make {self.rows} rows", f"at most {MOST_ROWS}")
        return self


class Own(Speculative):
    """A policy of your own: a generator function in a Python file, named FILE.py:FUNCTION, and what it is given.

    The file is looked for beside the scenario, then in the project; docs/tutorials/policy.md builds one.
    """

    name: Literal["own"]
    function: str = Field(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$", max_length=500)
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


TreePolicy = Tree | Lookahead | Ssd
Policy = Annotated[
    TargetOnly
    | Sync
    | Adaptive
    | Pearl
    | Async
    | Pipelined
    | PromptLookup
    | Suffix
    | Cascade
    | Tree
    | Lookahead
    | Ssd
    | Own,
    Field(discriminator="name"),
]


def most_drafted(policy: Policy) -> int:
    """The longest row of drafted tokens that a policy asks for in one round; 0 where it is the user's own."""
    match policy:
        case Adaptive():
            return policy.most
        case Tree():
            return policy.shape.depth
        case _:
            return getattr(policy, "draft_tokens", 0)
