"""Policies as a scenario describes them: the name, its parameters, and whether speculation may pause."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Record, as_tuple
from hilsim.errors import Misfit

DraftTokens = Annotated[int, Field(ge=1, le=64)]


class SpeculationPause(Record):
    """When to let the target go on alone: where the last `window` rounds were slower than plain steps would have been.

    Rounds must be `margin` times as fast as plain steps; after `rest_tokens` tokens speculation is tried again.
    """

    window: int = Field(default=6, ge=1, le=1000)
    margin: float = Field(default=1.0, gt=0, le=10)
    rest_tokens: int = Field(default=16, ge=1, le=10**6)


class Speculative(Record):
    """What all policies that draft have in common."""

    needs_draft: ClassVar[bool] = True
    live_only: ClassVar[bool] = False
    drafts_ahead: ClassVar[bool] = False  # of the verdict on what was drafted before
    fallback: SpeculationPause | None = None


class TargetOnly(Record):
    """The target answers alone."""

    needs_draft: ClassVar[bool] = False
    live_only: ClassVar[bool] = False
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


class Tree(Speculative):
    """A token tree of fixed shape, verified in one masked pass; each node of depth d has `branches[d]` children.

    The target walks down from the root as long as its own token is a child (SpecInfer's greedy walk, OPT-Tree).
    """

    live_only: ClassVar[bool] = True
    name: Literal["tree"]
    branches: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], BeforeValidator(as_tuple)] = Field(
        min_length=1, max_length=16
    )

    @property
    def nodes(self) -> int:
        """Drafted tokens: all nodes below the root, which is the last committed token."""
        return sum(accumulate(self.branches, mul))

    @model_validator(mode="after")
    def _small(self) -> Tree:
        if self.nodes > 256:
            raise Misfit(f"branches {list(self.branches)} make {self.nodes} nodes", "at most 256")
        return self


class Own(Speculative):
    """A policy of your own: a generator function in a Python file, named FILE.py:FUNCTION, and what it is given.

    The file is looked for beside the scenario, then in the project; docs/tutorials/policy.md builds one.
    """

    name: Literal["own"]
    function: str = Field(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$", max_length=500)
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


Policy = Annotated[
    TargetOnly | Sync | Adaptive | Pearl | Async | Pipelined | PromptLookup | Tree | Own, Field(discriminator="name")
]


def most_drafted(policy: Policy) -> int:
    """The longest row of drafted tokens that a policy asks for in one round; 0 where it is the user's own."""
    match policy:
        case Adaptive():
            return policy.most
        case Tree():
            return len(policy.branches)
        case _:
            return getattr(policy, "draft_tokens", 0)
