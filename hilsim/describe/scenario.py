"""A scenario: which model runs where, what crosses the link, the workload, and how tokens are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from hilsim.describe.acceptance import Acceptance
from hilsim.describe.backend import Backend
from hilsim.describe.cockpit import BackgroundTask, Climate, FurtherLink, Milliseconds, Passenger, Sharing, Speech, Trip
from hilsim.describe.decoding import (
    Accept,
    Greedy,
    Payload,
    Sampling,
    TokenIds,
    VerifyAt,
    faults,
    lookup_faults,
    rule_faults,
    tree_faults,
)
from hilsim.describe.faults import Faults
from hilsim.describe.figure import Names, Record, Spelling, as_tuple, filled_or_null
from hilsim.describe.names import agree
from hilsim.describe.placement import HeadPlacement, NetworkPlacement, Placement, at_home
from hilsim.describe.policy import Policy, Ssd, most_drafted
from hilsim.describe.published import Published
from hilsim.describe.tagged import Tagged
from hilsim.errors import Misfit, Misfits


class Compile(Record):
    """What the compile check may do."""

    profile: str | None = None
    """Rule profile for the units that list it; each unit's first where not given."""
    fallback: Literal["allow", "forbid"] = "allow"
    """Whether operators that a compiler refuses may run on another unit."""
    rewrites: Literal["auto", "none"] | Names = "auto"
    """Which rewrites may replace what a compiler refuses: those that the check chooses, none, or these."""
    avoid: Names = ()
    """Rewrites that are not used."""


class Live(Tagged):
    """Real networks make the logits."""

    by_chance: ClassVar[bool] = False
    source: Literal["live"] = Field(alias="kind")
    dtype: Literal["float32", "float64"] = "float32"
    """Format that stand-ins compute in here; float64 is rounded to float32, so that batching changes no last bits."""


class RecordedLogits(Tagged):
    """Tokens and drafts of real networks, looked up in a transcript. `python -m hilsim record` writes one."""

    by_chance: ClassVar[bool] = False
    source: Literal["transcript"] = Field(alias="kind")
    file: str
    """The transcript, as `hilsim record` writes it."""


class Synthetic(Tagged):
    """No model at all: each drafted token is accepted by chance. The text of such a run means nothing."""

    by_chance: ClassVar[bool] = True
    source: Literal["synthetic"] = Field(alias="kind")
    acceptance: Acceptance
    """Chance that a drafted token is accepted: one number, or a block as acceptance is measured."""
    use: ClassVar[Literal["replay"]] = "replay"  # of recorded rounds


Use = Literal["replay", "blocks", "profile"]


class MeasuredAcceptance(Tagged):
    """Each drafted token is accepted as of a real pair: one of models/acceptance, or a file of a runtime.

    How recorded rounds are used matters for files with the rounds of each request alone; `blocks` keeps neighbouring
    rounds neighbours.
    """

    by_chance: ClassVar[bool] = True
    source: Literal["acceptance"] = Field(alias="kind")
    file: str
    """PAIR/WORKLOAD of models/acceptance, or a file that a runtime wrote."""
    workload: str | None = None
    """Which workload of a file that has several."""
    drafted: int | None = Field(default=None, ge=1, le=1000)
    """Tokens drafted a round, of a file that does not have it."""
    use: Use = "replay"
    """Of recorded rounds: request for request, joined and begun at a random one, or by position alone."""


Logits = Annotated[Live | RecordedLogits | Synthetic | MeasuredAcceptance, Field(discriminator="source")]


class Conversations(Record):
    """Real conversations: the passenger's text from a file, the answers from the target."""

    conversations: str
    """File with the passenger's text: JSON lines or a JSON list, in common chat formats too."""
    count: int | None = Field(default=None, ge=1, le=10**6)
    """How many conversations are held, the first ones of the file; all where not given."""
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    """Questions of each conversation at most; all where not given."""
    max_new_tokens: int = Field(ge=1, le=10**6)
    """Tokens of each answer at most."""
    pause_ms: Milliseconds
    """Milliseconds that pass before each question."""
    talkers: int = Field(default=1, ge=1, le=64)
    """Conversations held side by side, each with its own caches."""


class Lengths(Record):
    """Requests with lengths but no text, for the synthetic source."""

    requests: int = Field(ge=1, le=10**7)
    """How many questions are asked."""
    prompt_tokens: int = Field(ge=1, le=10**6)
    """Tokens of each question."""
    output_tokens: int = Field(ge=1, le=10**6)
    """Tokens of each answer; fewer where the context is full."""
    clause_tokens: int = Field(default=8, ge=1, le=10**6)
    """Tokens after which a clause is complete, as there is no text to find its end in."""
    pause_ms: Milliseconds = 0.0
    """Milliseconds that pass before each question."""
    talkers: int = Field(default=1, ge=1, le=64)
    """Questions asked side by side, each with its own caches."""

    def answer_tokens(self, context_tokens: int) -> int:
        """Tokens of every answer in a context of so many."""
        return min(self.output_tokens, context_tokens - self.prompt_tokens)


class Scenario(Record):
    """Everything one run needs; names of chips, links and models are looked up in their folders."""

    name: str = Field(min_length=1, max_length=200)
    """What the report is headed with."""
    question: str = ""
    """What the scenario is to answer, printed first."""
    wanted_speedup: float | None = Field(default=None, gt=1, le=1000, exclude=True)
    """A speed-up over the target alone; the report says which acceptance would bring it."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """What all random draws follow from; the same one repeats a run."""
    target: Placement
    """The large model, whose text is the answer, and where it runs."""
    draft: HeadPlacement | Placement | None = None
    """The small model, or head of the target, that proposes tokens; none for policies that ask for none."""
    link: str | None = None
    """The link between draft and target; none where both share a chip."""
    application: Spelling | None = None
    """The chip with the speech front end, where questions come from; the target's where not given."""
    context_tokens: int = Field(ge=2, le=10**7)
    """Positions for which caches are laid out and graphs compiled; question and answer fit in it."""
    networks: Annotated[tuple[NetworkPlacement, ...], BeforeValidator(as_tuple)] = ()
    """Networks beside the language model, each run once a question."""
    compile: Compile = Compile.model_construct()
    """What the compile check may do."""
    units: dict[str, Backend] = Field(default_factory=dict)
    """What executes the steps of a unit, by UNIT or CHIP/UNIT; the chip model does where not given."""
    policy: Policy
    """How draft and target work together."""
    accept: Accept = Greedy.model_construct()
    """The rule by which drafted tokens are accepted."""
    payload: Payload = TokenIds.model_construct()
    """What of the draft's distribution crosses the link with its tokens."""
    verify_at: VerifyAt = "target"
    """The chip that decides what is accepted; at the draft, the target's rows come down to it."""
    sampling: Sampling = Sampling.model_construct()
    """How a row of logits becomes a distribution; greedy where not given."""
    logits: Logits
    """Where tokens come from: networks here, a transcript, or chance."""
    workload: Conversations | Lengths
    """What is asked: conversations with text, or lengths alone."""
    passengers: Annotated[tuple[Passenger, ...], BeforeValidator(filled_or_null)] = ()
    """Who asks and when; null or nothing: one conversation after another."""
    speech: Speech | None = None
    """The spoken turn around each answer; nothing but the answer is timed where not given."""
    background: Annotated[tuple[BackgroundTask, ...], BeforeValidator(as_tuple)] = ()
    """Other work that runs on the chips meanwhile."""
    sharing: Sharing | None = None
    """Who gets how much of a memory that does not suffice for all."""
    climate: Climate | None = None
    """How warm it is; chips warm up and slow down where given."""
    trip: Trip | None = None
    """How long the trip is; it ends with the workload where not given."""
    links: Annotated[tuple[FurtherLink, ...], BeforeValidator(as_tuple)] = ()
    """Further links, for stages that run on other chips."""
    published: Published | None = None
    """What a paper printed for this set-up; it is compared with and changes nothing."""
    faults: Faults | None = Field(default=None, exclude=True)  # in the digest where it is given
    """Faults of the hardware, and how the runtime reacts to them."""

    @property
    def company_keys(self) -> tuple[str, ...]:
        """The keys by which more goes on than one session after another on idle, cool chips."""
        names = ("passengers", "speech", "background", "sharing", "climate", "trip")
        given = [name for name in names if getattr(self, name) not in (None, ())]
        roles = (("target.batch", self.target), ("draft.batch", self.draft))
        return (*given, *(key for key, role in roles if role is not None and (role.batch or 1) > 1))

    @property
    def company(self) -> bool:
        """Whether more goes on than one session after another on idle, cool chips."""
        return bool(self.company_keys)

    @property
    def sessions(self) -> int:
        """Conversations that are held in memory at once."""
        return len(self.passengers) or self.workload.talkers

    @property
    def conversation_tokens(self) -> int:
        """The part of the context that is a conversation's own."""
        return self.context_tokens - (0 if self.speech is None else self.speech.beside_tokens)

    @field_validator("draft", mode="before")
    @classmethod
    def _model_or_head(cls, data: object, info: ValidationInfo) -> object:
        # Decide by the keys that only heads have, so that a message speaks of the record the user meant.
        if not isinstance(data, dict):
            return data if data is None else Placement.model_validate(data)
        heads = [name for name in HeadPlacement.model_fields if name not in Placement.model_fields]
        data = {name: value for name, value in data.items() if value is not None or name not in heads}
        given = [name for name in heads if name in data]
        if "model" in data and given and "head_kind" not in given:
            expected = "head_kind in place of model: such keys are a draft head's"
            raise Misfit(f"{' and '.join(given)} of a draft model", expected)
        if given:
            return HeadPlacement.model_validate(at_home(data, info.data.get("target")))
        return Placement.model_validate(data)

    @field_validator("workload", mode="before")
    @classmethod
    def _kind_of_workload(cls, data: object) -> object:
        # Decide by the keys that each must have, so that a message speaks of the record the user meant.
        if isinstance(data, dict):
            alone = "requests" in data and "conversations" not in data
            return (Lengths if alone else Conversations).model_validate(data)
        return data

    @model_validator(mode="after")
    def _whole(self) -> Scenario:
        if broken := [*self._of_roles(), *self._of_rules()]:
            raise Misfits(broken)
        return self

    def _of_roles(self) -> Iterator[Misfit]:
        """What the placements must have for this policy and source."""
        if self.policy.needs_draft and self.draft is None:
            yield Misfit(f"no draft, which policy {self.policy.name} needs", "a draft placement")
        elif self.policy.name != "target_only" and self.target.timer is not None and not self.target.timer.verify:
            yield Misfit(f"no target.timer.verify, which policy {self.policy.name} needs", "milliseconds by rows")
        if self.policy.trees and self.logits.source == "transcript":
            found = f"policy {self.policy.name} with a transcript, which has chains of drafts alone"
            yield Misfit(found, "live or synthetic logits")
        elif self.policy.live_only and self.logits.source == "synthetic":
            yield Misfit(
                f"policy {self.policy.name} with {self.logits.source} logits, which have no text", "live logits"
            )
        elif self.policy.name == "cascade" and self.logits.by_chance:
            found = "policy cascade with measured acceptance, which is that of one way of drafting"
            yield Misfit(found, "a policy that drafts in one way, such as sync, or live logits")
        if isinstance(self.policy, Ssd) and self.policy.forecasts is None and self.logits.source == "live":
            yield Misfit(
                "policy ssd without forecasts", "forecasts: a folder of trained forecast tokens for live logits"
            )
        if self.draft is not None and self.link is None and not agree(self.target.chip, self.draft.chip):
            yield Misfit("a draft but no link", "one of chips/links, or both models on one chip")
        if isinstance(self.draft, HeadPlacement):
            yield from self._of_head(self.draft)
        if self.draft is None and self.link is not None:
            yield Misfit("a link but no draft at its other end", "no link")
        if not self.logits.by_chance:
            for role, placement in (("target", self.target), ("draft", self.draft)):
                if placement is not None and placement.stand_in is None:
                    yield Misfit(f"no {role}.stand_in", "a checkpoint folder for live or recorded logits")
        elif isinstance(self.workload, Conversations) and self.target.stand_in is None:
            yield Misfit("no target.stand_in", "a checkpoint folder, whose text says how long answers are")

    def _of_head(self, head: HeadPlacement) -> Iterator[Misfit]:
        """What a draft head cannot be used with."""
        policy, kind = self.policy, head.head_kind
        if policy.drafts_ahead:
            yield Misfit(
                f"policy {policy.name} with a draft head, which reads the target's hidden states: it cannot draft "
                "ahead of the verdict",
                "sync, adaptive or tree, or a draft model",
            )
        elif not policy.needs_draft and policy.name != "target_only":
            yield Misfit(f"policy {policy.name} with a draft head, which it never asks", "no draft, or sync")
        if head.positions is not None and (most := most_drafted(policy)) > head.positions:
            found = f"policy {policy.name} with up to {most} drafted tokens, and {kind} of {head.positions} positions"
            yield Misfit(found, f"at most {head.positions}, or more positions")
        if self.verify_at == "draft":
            yield Misfit("verify_at draft with a draft head, which waits for the target's pass anyway", "target")
        if self.logits.source == "transcript":
            found = "a transcript with a draft head, whose drafts depend on where the verified text ends"
            yield Misfit(found, "live logits")

    def _of_rules(self) -> Iterator[Misfit]:
        """Which accept rule, payload and workload go together."""
        if self.policy.name in ("prompt_lookup", "suffix", "cascade"):
            yield from lookup_faults(self.policy.name, self.accept, self.payload, self.verify_at)
        if self.policy.trees:
            yield from tree_faults(self.policy.name, self.accept, self.payload, self.verify_at)
        if self.draft is None:
            yield from rule_faults(self.accept, self.sampling)
        else:
            yield from faults(self.accept, self.payload, self.sampling, self.verify_at)
        if self.logits.source != "acceptance" and isinstance(self.workload, Lengths) != self.logits.by_chance:
            yield Misfit(
                f"this workload with {self.logits.source} logits",
                "lengths with synthetic, conversations with live, either with acceptance",
            )
