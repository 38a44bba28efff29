"""Policies as a scenario describes them: the name, its parameters, and whether speculation may pause."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Record, as_tuple
from hilsim.describe.tagged import Tagged, shorthand
from hilsim.describe.tree_shape import BestNodes, Branches, TreeShape, drawn
from hilsim.errors import Misfit

DraftTokens = Annotated[int, Field(ge=1, le=64)]
Children = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], BeforeValidator(as_tuple)]
MOST_ROWS = 257  # of one pass over a tree, the last committed token's among them


class SpeculationPause(Record):
    """When to let the target go on alone: where the last rounds were slower than plain steps would have been."""

    window: int = Field(default=6, ge=1, le=1000)
    """Last rounds whose speed is looked at."""
    margin: float = Field(default=1.0, gt=0, le=10)
    """How many times as fast as plain steps these rounds must be."""
    rest_tokens: int = Field(default=16, ge=1, le=10**6)
    """Tokens that the target makes alone before speculation is tried again."""


class Speculative(Tagged):
    """What all policies that draft have in common.

    `needs_draft`: whether a second network proposes; `live_only`: whether what is proposed is found in the text;
    `trees`: whether proposals branch and are verified in one masked pass.
    """

    needs_draft: ClassVar[bool] = True
    live_only: ClassVar[bool] = False
    trees: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False  # of the verdict on what was drafted before
    fallback: SpeculationPause | None = None
    """When the target goes on alone for a while, as speculation does not pay; never where not given."""


class TargetOnly(Tagged):
    """The target answers alone."""

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = False
    trees: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False
    name: Literal["target_only"] = Field(alias="kind")


class Sync(Speculative):
    """Draft `draft_tokens`, verify them in one pass, repeat; each chip waits for the other."""

    name: Literal["sync"] = Field(alias="kind")
    draft_tokens: DraftTokens
    """Tokens drafted each round."""


class Adaptive(Speculative):
    """As `sync`, with a draft that stops by a rule; the token that made it stop is submitted all the same.

    - schedule: two tokens more after a draft that stood whole, one less otherwise (Hugging Face).
    - confidence: stop after a token that the draft gave less than `threshold` (DISCO, arXiv 2405.04304).
    - entropy: stop where 1 - sqrt(`factor` x entropy) is under `threshold` (AdaEDL, arXiv 2410.18351).
    - expected: go on while a longer draft promises more tokens a second, by the chips' own step times and the link.
    """

    name: Literal["adaptive"] = Field(alias="kind")
    rule: Literal["schedule", "confidence", "entropy", "expected"] = "expected"
    """When a draft stops: by a schedule, by the draft's confidence or entropy, or by what a longer one promises."""
    draft_tokens: DraftTokens = 5
    """Tokens of the first draft, under the rule schedule."""
    most: DraftTokens = 20
    """Most tokens that a draft has under any rule."""
    threshold: float = Field(default=0.4, ge=0, le=1)
    """Confidence at which a draft stops, under the rules confidence and entropy."""
    factor: float = Field(default=0.2, gt=0, le=10)
    """What the entropy is multiplied by, under the rule entropy."""

    @model_validator(mode="after")
    def _in_order(self) -> Adaptive:
        if self.draft_tokens > self.most:
            raise Misfit(f"draft_tokens {self.draft_tokens} above most", f"at most {self.most}")
        return self


class Pearl(Speculative):
    """Draft the next block while the target verifies the last one (PEARL, arXiv 2408.11850)."""

    drafts_ahead: ClassVar[bool] = True
    name: Literal["pearl"] = Field(alias="kind")
    draft_tokens: DraftTokens
    """Tokens of a block."""


class Async(Speculative):
    """The draft never stops; the idle target takes what has arrived (AMUSD, arXiv 2410.17375)."""

    drafts_ahead: ClassVar[bool] = True
    name: Literal["async"] = Field(alias="kind")
    min_batch: int = Field(default=2, ge=0, le=64)
    """Fewest arrived tokens that the idle target verifies; with 0 it never waits, and may run one row."""
    max_ahead: int = Field(default=16, ge=1, le=256)
    """Most tokens that wait for a verdict; then the draft waits."""
    handshake_ms: float = Field(default=0.0, ge=0, le=1e5)
    """Milliseconds that each rollback costs the draft."""
    pre_verify: bool = False
    """Whether the idle target runs one row while the draft starts again after a rejected token."""

    @model_validator(mode="after")
    def _in_order(self) -> Async:
        if self.min_batch > self.max_ahead:
            raise Misfit(f"min_batch {self.min_batch} above max_ahead", f"at most {self.max_ahead}")
        return self


class Pipelined(Speculative):
    """Blocks of drafts under way while the next is drafted; a rejection interrupts the draft (PicoSpec)."""

    drafts_ahead: ClassVar[bool] = True
    name: Literal["pipelined"] = Field(alias="kind")
    draft_tokens: DraftTokens
    """Tokens of a block."""
    blocks_in_flight: int = Field(default=1, ge=1, le=16)
    """Blocks that may be under way while the next one is drafted."""
    pre_verify: bool = True
    """Whether the idle target runs one row while the draft starts again after a rejected token."""


class PromptLookup(Speculative):
    """The target's own chip proposes what followed the last tokens where they occurred before; no draft, no link."""

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = True
    name: Literal["prompt_lookup"] = Field(alias="kind")
    draft_tokens: DraftTokens
    """Tokens proposed each round at most."""
    longest_match: int = Field(default=3, ge=1, le=16)
    """Last tokens that are looked for at most; shorter matches are taken where that many do not occur."""


class Suffix(Speculative):
    """Suffix decoding (arXiv 2411.04975): what most often followed the longest match of the last tokens, in this
    conversation and in all earlier ones of the run; no draft, no link.

    Defaults of vLLM's suffix decoding, whose matches may be longer.
    """

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = True
    name: Literal["suffix"] = Field(alias="kind")
    draft_tokens: DraftTokens
    """Tokens proposed each round at most."""
    longest_match: int = Field(default=8, ge=1, le=32)
    """Last tokens that are looked for at most."""
    factor: float = Field(default=1.0, gt=0, le=64)
    """Most tokens proposed for each token of the match."""
    least_share: float = Field(default=0.1, ge=0, le=1)
    """A draft ends where the product of its tokens' shares falls below this."""


class Cascade(Speculative):
    """Lookup first, as in `prompt_lookup`; where that proposes too little the draft model drafts."""

    live_only: ClassVar[bool] = True
    name: Literal["cascade"] = Field(alias="kind")
    lookup_tokens: DraftTokens = 8
    """Tokens that the lookup proposes at most."""
    longest_match: int = Field(default=3, ge=1, le=16)
    """Last tokens that are looked for at most."""
    least: DraftTokens = 1
    """Where the lookup proposes fewer tokens than this, the draft model drafts."""
    draft_tokens: DraftTokens
    """Tokens that the draft model drafts."""

    @model_validator(mode="after")
    def _reachable(self) -> Cascade:
        if self.least > self.lookup_tokens:
            raise Misfit(f"least {self.least} above lookup_tokens", f"at most {self.lookup_tokens}")
        return self


class Tree(Speculative):
    """A token tree, verified in one masked pass: of fixed shape (`branches`: SpecInfer, Sequoia), or of the draft's
    likeliest `nodes` (EAGLE-2, arXiv 2406.16858).

    The target walks down from the root as long as its own token is a child (SpecInfer's greedy walk, OPT-Tree).
    `padded` is how TensorRT Edge-LLM drafts (speculative-decoding guide of 0.10.0). Heads of one pass grow no levels.
    """

    trees: ClassVar[bool] = True
    name: Literal["tree"] = Field(alias="kind")
    padded: bool = False
    """Whether each pass of the draft reads the whole tree, as many rows as are verified, in place of one level."""
    branches: Children | None = Field(default=None, min_length=1, max_length=16)
    """Children of each node, by its depth: a tree of fixed shape."""
    nodes: int | None = Field(default=None, ge=1, le=MOST_ROWS - 1)
    """Nodes that are verified: those with the largest products of the draft's probabilities."""
    top: int | None = Field(default=None, ge=1, le=16)
    """Nodes of a level that grow, and children that each of them grows; 8 where nodes are given alone."""
    depth: int | None = Field(default=None, ge=1, le=16)
    """Levels of the tree; 5 where nodes are given alone."""

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
    being the first), and the verification branch: n-grams of earlier passes that begin with it. The pass has as many
    rows whatever it reads: (window + guesses) x (ngram - 1).
    """

    needs_draft: ClassVar[bool] = False
    trees: ClassVar[bool] = True
    name: Literal["lookahead"] = Field(alias="kind")
    window: int = Field(ge=1, le=64)
    """Columns of the lookahead branch: positions that are guessed at once."""
    ngram: int = Field(ge=2, le=16)
    """Tokens of an n-gram, its first one included."""
    guesses: int = Field(ge=1, le=64)
    """Most n-grams that a pass verifies."""

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

    Every node of the tree is followed by trained embeddings, whose rows predict the tokens that come later; those after
    the last accepted node make the next tree.
    """

    needs_draft: ClassVar[bool] = False
    trees: ClassVar[bool] = True
    name: Literal["ssd"] = Field(alias="kind")
    branches: Children = Field(default=(3, 2), min_length=1, max_length=16)
    """Likeliest tokens that the next tree has at each depth."""
    forecast_tokens: int | None = Field(default=None, ge=1, le=16)
    """Trained embeddings after every node; one for each level of branches where not given."""
    forecasts: str | None = None
    """Folder of the trained embeddings; live logits need it."""

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
    """A policy of your own: a generator function in a Python file; docs/tutorials/policy.md builds one."""

    name: Literal["own"] = Field(alias="kind")
    function: str = Field(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$", max_length=500)
    """The generator function, as FILE.py:FUNCTION; looked for beside the scenario, then in the project."""
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """What the function is given, by name."""


TreePolicy = Tree | Lookahead | Ssd
Policies = (
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
    | Own
)
Policy = Annotated[Policies, Field(discriminator="name"), shorthand(Policies)]


def most_drafted(policy: Policy) -> int:
    """The longest row of drafted tokens that a policy asks for in one round; 0 where it is the user's own."""
    match policy:
        case Adaptive():
            return policy.most
        case Tree():
            return policy.shape.depth
        case _:
            return getattr(policy, "draft_tokens", 0)
