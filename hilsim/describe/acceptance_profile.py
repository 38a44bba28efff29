"""Acceptance that was measured or published: of a pair of target and drafter, over one kind of text, with its source.

A file of `models/acceptance` has one pair and its acceptance by kind of text; a run names one of them, PAIR/WORKLOAD.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hilsim.describe.acceptance import Acceptance, Typed, chances_of, stated
from hilsim.describe.catalogue import described
from hilsim.describe.figure import PLAIN_NAME, Kind, Named, Record
from hilsim.describe.names import KnownName, hint, one_of, resolve
from hilsim.errors import Fault, ScenarioError

Drafter = Literal["model", "head", "lookup"]
WorkloadName = Annotated[str, Field(pattern=PLAIN_NAME, max_length=100)]


class WorkloadAcceptance(Record):
    """Acceptance over one kind of text."""

    text: str
    """What the text is, as reports print it."""
    acceptance: Acceptance
    """The acceptance, as it was measured: one chance, or a block that says what its numbers are."""
    temperature: float | None = Field(default=None, ge=0, le=100)
    """Sampling temperature of the target; not stated where not given."""
    rounds: int | None = Field(default=None, ge=1, le=10**12)
    """Rounds that were counted; not stated where not given."""
    in_error_bars: bool = False
    """Whether error bars of any scenario suppose it, as the acceptance of another pair."""
    kind: Kind | None = None
    """How well it is known; as the pair's where not given."""
    source: str | None = Field(default=None, min_length=3)
    """Where it is from; the pair's source where not given."""
    notes: str = ""
    """Remarks, printed before the pair's."""


class AcceptancePair(Named):
    """A pair of target and drafter, and its acceptance by kind of text."""

    drafter: Drafter | None = None
    """What proposes tokens: a model of its own, a head of the target, or a lookup in text."""
    kind: Kind
    """How well the acceptance is known, unless a workload says otherwise."""
    source: str = Field(min_length=3)
    """Where the acceptance is from, unless a workload says otherwise."""
    notes: str = ""
    """Remarks on all its workloads."""
    workloads: dict[WorkloadName, WorkloadAcceptance] = Field(min_length=1)
    """Acceptance by kind of text; scenarios ask for PAIR/WORKLOAD."""

    def profile(self, workload: str) -> AcceptanceProfile:
        """Its acceptance over one kind of text."""
        own = self.workloads[workload]
        return AcceptanceProfile(
            name=f"{self.name}/{workload}",
            title=self.title,
            drafter=self.drafter,
            text=own.text,
            acceptance=own.acceptance,
            temperature=own.temperature,
            rounds=own.rounds,
            in_error_bars=own.in_error_bars,
            kind=own.kind or self.kind,
            source=own.source or self.source,
            notes=" ".join(filter(None, (own.notes, self.notes))),
        )

    @property
    def profiles(self) -> tuple[AcceptanceProfile, ...]:
        """One for each kind of text."""
        return tuple(map(self.profile, self.workloads))


class AcceptanceProfile(Record):
    """Whose acceptance a run has: one kind of text of one pair."""

    name: str
    title: str
    drafter: Drafter | None = None
    text: str
    acceptance: float | Typed
    temperature: float | None = None
    rounds: int | None = None
    in_error_bars: bool = False
    kind: Kind
    source: str
    notes: str = ""

    @property
    def conditional(self) -> tuple[float, ...]:
        """The chance at each place of a draft once all before it were accepted; the last one is repeated."""
        return chances_of(self.acceptance)

    @property
    def conditions(self) -> str:
        """At which temperature and over how many rounds it was measured, as far as it is stated."""
        at = "temperature not stated" if self.temperature is None else f"temperature {self.temperature:g}"
        return at if self.rounds is None else f"{at}, {self.rounds:,} rounds"

    @property
    def label(self) -> str:
        """The pair and the kind of text, in short."""
        return f"{self.title}, {self.text}"

    @property
    def whose(self) -> str:
        """Whose acceptance it is, over which text, of which kind and from where."""
        return f"{self.title} over {self.text} ({self.conditions}; {self.kind}: {self.source})"

    @property
    def means(self) -> str:
        """What was given, and what it was converted to."""
        return stated(self.acceptance)


def library() -> tuple[AcceptanceProfile, ...]:
    """Every profile of the folders that are searched, by pair."""
    return tuple(profile for pair in described("acceptance", AcceptancePair) for profile in pair.profiles)


def library_profile(value: str, named_in: Path) -> AcceptanceProfile:
    """A profile of the library by any usual spelling of PAIR/WORKLOAD. Raises `ScenarioError` with what is near."""
    profiles = {profile.name: profile for profile in library()}
    known = [KnownName(name) for name in profiles]
    meant = resolve(value, known)
    if len(meant) == 1:
        return profiles[meant[0]]
    of_pair = [name for name in profiles if name.partition("/")[0] == one_of(value, pairs_of(profiles))]
    remedy = hint(value, known) or near_pair(value, profiles) or "Or give the path of a file."
    expected = f"PAIR/WORKLOAD, one of {in_short(of_pair or profiles)}"
    raise ScenarioError([Fault(str(named_in), "acceptance", repr(value), expected, remedy)])


def in_short(names: Iterable[str]) -> str:
    """Names, with the kinds of text of one pair in braces."""
    by_pair: dict[str, list[str]] = {}
    for name in names:
        pair, _, workload = name.partition("/")
        by_pair.setdefault(pair, []).append(workload)
    return ", ".join(
        f"{pair}/{texts[0]}" if len(texts) == 1 else f"{pair}/{{{','.join(texts)}}}" for pair, texts in by_pair.items()
    )


def pairs_of(names: dict[str, AcceptanceProfile]) -> list[str]:
    """The pairs of some PAIR/WORKLOAD."""
    return list(dict.fromkeys(name.partition("/")[0] for name in names))


def near_pair(value: str, names: dict[str, AcceptanceProfile]) -> str:
    """What pair or kind of text may have been meant, as a sentence; "" where nothing is near."""
    pair, _, workload = value.partition("/")
    meant = one_of(pair, pairs_of(names))
    of_pair = [KnownName(name) for name in names if name.startswith(f"{meant}/")]
    if of_pair:
        workloads = [KnownName(one.name.partition("/")[2]) for one in of_pair]
        return hint(workload, workloads) if workload else ""
    return hint(pair, [KnownName(name) for name in pairs_of(names)])
