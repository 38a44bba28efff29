"""A scenario: which model runs where, what crosses the link, the workload, and how tokens are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from hilsim.describe.acceptance import Acceptance
from hilsim.describe.backend import Backend
from hilsim.describe.chip import rising
from hilsim.describe.cockpit import BackgroundTask, Climate, FurtherLink, Passenger, Sharing, Speech, Trip
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
from hilsim.describe.drafting import ONE_PASS, HeadKind
from hilsim.describe.faults import Faults
from hilsim.describe.figure import PLAIN_NAME, Names, Record, Spelling, as_tuple, filled_or_null
from hilsim.describe.head import LOGITS, Head
from hilsim.describe.names import agree
from hilsim.describe.policy import Policy, Ssd, most_drafted
from hilsim.describe.published import Published
from hilsim.errors import Misfit, Misfits

Milliseconds = Annotated[float, Field(ge=0, le=1e7)]


class TableTimer(Record):
    """Step times given by the user: milliseconds by phase and by rows; the next entry up is charged."""

    prefill: dict[str, Milliseconds] = Field(min_length=1)
    decode: Milliseconds
    verify: dict[str, Milliseconds] = Field(default_factory=dict)
    source: str = Field(min_length=3)

    @field_validator("prefill", "verify")
    @classmethod
    def _rows(cls, table: dict[str, float]) -> dict[str, float]:
        for key in table:
            if not key.isascii() or not key.isdigit() or not 1 <= int(key) <= 10**6:
                raise Misfit(f"rows {key!r}", "whole numbers of rows mapped to milliseconds")
        if len({int(key) for key in table}) < len(table):
            raise Misfit(f"rows {', '.join(table)}, some of them twice", "each number of rows once")
        return table


CacheFormat = Literal["fp16", "fp8", "int8", "int4"]


class Placement(Record):
    """One role: the deployed model, its stand-in, and the unit it runs on."""

    model: str
    stand_in: str | None = None
    chip: Spelling
    unit: str
    precision: str
    widths: tuple[int, ...] | None = Field(default=None, min_length=1)
    head: Head = LOGITS
    expanded_kv: bool = (
        False  # the export copies key/value heads to query heads (repeat_kv) in place of grouped queries
    )
    runtime: str | None = None  # one of chips/runtimes: how it stores 4-bit models, and what it takes of the memory
    kv_cache: CacheFormat | None = None  # how cached keys and values are stored; the precision's own where not given
    timer: TableTimer | None = None
    batch: int | None = Field(default=None, ge=1, le=4096)  # sessions computed in one step; what the runtime does

    @field_validator("widths", mode="before")
    @classmethod
    def _list(cls, data: object) -> object:
        return tuple(data) if isinstance(data, list) else data

    @field_validator("widths")
    @classmethod
    def _rising(cls, widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if widths is None else rising(widths)


class HeadPlacement(Placement):
    """A draft head in place of a draft model: its kind, and where it runs; `describe/drafting.py` has its shape.

    Where no chip, unit, precision and runtime are given, they are the target's. `positions` are the tokens that a
    medusa head or a block proposes in its one pass.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["head_kind"]))

    model: str = ""
    head_kind: HeadKind
    layers: int | None = Field(None, ge=1, le=64)
    head_entries: int | None = Field(None, ge=2, le=10**7)
    positions: int | None = Field(None, ge=1, le=64)

    @model_validator(mode="after")
    def _of_its_kind(self) -> HeadPlacement:
        broken = []
        if self.model:
            broken.append(
                Misfit(f"head_kind {self.head_kind} with model {self.model}", "a draft head or a draft model, not both")
            )
        if self.head_kind in ONE_PASS and self.positions is None:
            broken.append(Misfit(f"{self.head_kind} without positions", "positions, the tokens it proposes in a pass"))
        if self.head_kind not in ONE_PASS and self.positions is not None:
            expected = f"no positions, which {' and '.join(ONE_PASS)} have: other heads run a pass a token"
            broken.append(Misfit(f"positions {self.positions} with {self.head_kind}", expected))
        if broken:
            raise Misfits(broken)
        return self


def at_home(data: dict[str, object], target: Placement | None) -> dict[str, object]:
    """A draft head's keys, with the target's place where none is given; its runtime and batch on the target's unit."""
    place = {key: "?" if target is None else getattr(target, key) for key in ("chip", "unit", "precision")}
    found = place | data
    same = all(found[key] == place[key] for key in ("chip", "unit"))
    return ({"runtime": target.runtime, "batch": target.batch} if target is not None and same else {}) | found


class NetworkPlacement(Record):
    """A network beside the language model: the module that PACKAGE.MODULE:FACTORY makes, run once a question.

    Without a chip and unit it sits on the target's, without a precision it takes 8 bits where the unit has them.
    """

    name: str = Field(pattern=PLAIN_NAME, max_length=100)
    module: str
    chip: Spelling | None = None
    unit: str | None = None
    precision: str | None = None

    @field_validator("module")
    @classmethod
    def _names_a_factory(cls, value: str) -> str:
        package, colon, factory = value.rpartition(":")
        named = package.endswith(".py") or all(part.isidentifier() for part in package.split("."))
        if not colon or not named or not factory.isidentifier():
            expected = "PACKAGE.MODULE:FACTORY or FILE.py:FACTORY"
            raise Misfit(f"module {value!r}", f"{expected}, such as my_models.intent:build")
        return value


class Compile(Record):
    """What the compile check may do.

    `profile` pins one profile for the units that list it, instead of each unit's first. `fallback` decides whether
    operators that a compiler refuses may run elsewhere. `rewrites` are chosen by the check, or none, or among these;
    `avoid` takes some away.
    """

    profile: str | None = None
    fallback: Literal["allow", "forbid"] = "allow"
    rewrites: Literal["auto", "none"] | Names = "auto"
    avoid: Names = ()


class Live(Record):
    """Real networks make the logits. float64 passes are rounded to float32: last bits no longer depend on batching."""

    by_chance: ClassVar[bool] = False
    source: Literal["live"]
    dtype: Literal["float32", "float64"] = "float32"


class RecordedLogits(Record):
    """Tokens and drafts of real networks, looked up in a transcript. `python -m hilsim record` writes one."""

    by_chance: ClassVar[bool] = False
    source: Literal["transcript"]
    file: str


class Synthetic(Record):
    """No model at all: each drafted token is accepted by chance. The text of such a run means nothing."""

    by_chance: ClassVar[bool] = True
    source: Literal["synthetic"]
    acceptance: Acceptance
    use: ClassVar[Literal["replay"]] = "replay"  # of recorded rounds


Use = Literal["replay", "blocks", "profile"]


class MeasuredAcceptance(Record):
    """Each drafted token is accepted as of a real pair: PAIR/WORKLOAD of models/acceptance, or a file of a runtime.

    `use` is of files with the rounds of each request: `replay` takes request for request, `blocks` joins all rounds and
    begins each request at a round drawn by chance, so that neighbouring rounds stay neighbours, `profile` draws by
    position alone. `drafted` is the drafts a round of a file that does not have it, `workload` one of several in one.
    """

    by_chance: ClassVar[bool] = True
    source: Literal["acceptance"]
    file: str
    workload: str | None = None
    drafted: int | None = Field(default=None, ge=1, le=1000)
    use: Use = "replay"


Logits = Annotated[Live | RecordedLogits | Synthetic | MeasuredAcceptance, Field(discriminator="source")]


class Conversations(Record):
    """Real conversations: the passenger's text from a file, the answers from the target."""

    conversations: str
    count: int | None = Field(default=None, ge=1, le=10**6)
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    max_new_tokens: int = Field(ge=1, le=10**6)
    pause_ms: Milliseconds
    talkers: int = Field(default=1, ge=1, le=64)


class Lengths(Record):
    """Requests with lengths but no text, for the synthetic source."""

    requests: int = Field(ge=1, le=10**7)
    prompt_tokens: int = Field(ge=1, le=10**6)
    output_tokens: int = Field(ge=1, le=10**6)
    clause_tokens: int = Field(default=8, ge=1, le=10**6)
    pause_ms: Milliseconds = 0.0
    talkers: int = Field(default=1, ge=1, le=64)

    def answer_tokens(self, context_tokens: int) -> int:
        """Tokens of every answer in a context of so many."""
        return min(self.output_tokens, context_tokens - self.prompt_tokens)


class Scenario(Record):
    """Everything one run needs; names of chips, links and models are looked up in their folders."""

    name: str = Field(min_length=1, max_length=200)
    question: str = ""
    wanted_speedup: float | None = Field(default=None, gt=1, le=1000, exclude=True)  # the report says what it takes
    seed: int = Field(default=1, ge=0, lt=2**63)
    target: Placement
    draft: HeadPlacement | Placement | None = None
    link: str | None = None
    application: Spelling | None = None  # the chip with the speech front end; the target's by default
    context_tokens: int = Field(ge=2, le=10**7)
    networks: Annotated[tuple[NetworkPlacement, ...], BeforeValidator(as_tuple)] = ()
    compile: Compile = Compile()
    units: dict[str, Backend] = Field(default_factory=dict)  # by UNIT or CHIP/UNIT; others are simulated
    policy: Policy
    accept: Accept = Greedy()
    payload: Payload = TokenIds()
    verify_at: VerifyAt = "target"
    sampling: Sampling = Sampling()
    logits: Logits
    workload: Conversations | Lengths
    passengers: Annotated[tuple[Passenger, ...], BeforeValidator(filled_or_null)] = ()
    speech: Speech | None = None
    background: Annotated[tuple[BackgroundTask, ...], BeforeValidator(as_tuple)] = ()
    sharing: Sharing | None = None
    climate: Climate | None = None
    trip: Trip | None = None
    links: Annotated[tuple[FurtherLink, ...], BeforeValidator(as_tuple)] = ()
    published: Published | None = None
    faults: Faults | None = Field(default=None, exclude=True)  # in the digest where it is given

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
        # Decide by the one key that only lengths have, so that a message speaks of the record the user meant.
        if isinstance(data, dict):
            return (Lengths if "requests" in data else Conversations).model_validate(data)
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
