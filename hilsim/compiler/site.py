"""Where a graph goes: what times, rules and choices of the compile check ask about."""

from __future__ import annotations

from dataclasses import dataclass

from hilsim.compiler.rules import RuleBook
from hilsim.cost.extra import ACTIVATION_BITS, extra_seconds, work_seconds
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.compiled import Extra, Work
from hilsim.describe.profile import Profile
from hilsim.describe.scenario import Compile


@dataclass(frozen=True)
class CompileSite:
    """Where a graph goes: a unit at a precision, under a profile, and what the user allows there."""

    unit: Unit
    precision: Precision
    profile: Profile
    allowed: Compile

    @property
    def unit_with_fallback(self) -> Unit:
        """The unit, with the profile's cost of leaving it where its own file has none."""
        if self.unit.fallback is not None or self.profile.fallback is None:
            return self.unit
        return self.unit.model_copy(update={"fallback": self.profile.fallback})

    @property
    def book(self) -> RuleBook:
        return RuleBook(self.profile, self.precision.activations)

    def seconds(self, work: Work, rows: int = 1) -> float:
        """What some work takes here."""
        return work_seconds(work, self.unit, self.precision, rows)

    def costs(self, extra: Extra, rows: int) -> tuple[float, float, float]:
        """Seconds of all of an extra, its work elsewhere, and its ways there and back; 0 where that is unknown."""
        unit = self.unit_with_fallback
        if unit.fallback is None and extra.crossings:
            return 0.0, 0.0, 0.0
        parts = (extra, Extra(away=extra.away), Extra(crossings=extra.crossings))
        total, away, crossing = (extra_seconds(part, unit, self.precision, rows) for part in parts)
        return total, away, crossing

    def bytes(self, numbers: int) -> int:
        """What so many activations take in memory."""
        return numbers * ACTIVATION_BITS[self.precision.activations] // 8

    def asks_for(self, rewrite: str) -> bool:
        """Whether the user names a rewrite that is not used of itself."""
        return isinstance(self.allowed.rewrites, tuple) and rewrite in self.allowed.rewrites

    def may_use(self, rewrite: str) -> bool:
        """Whether the user lets a rewrite be used."""
        allowed = self.allowed.rewrites
        listed = allowed == "auto" or (allowed != "none" and rewrite in allowed)
        return listed and rewrite not in self.allowed.avoid
