"""What an answer must state before it is believed: limits exceeded, memory in doubt, units half described."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hilsim.cost.fit import Fit
from hilsim.cost.published import exceeded, limit_text, source_of
from hilsim.describe.setup import Placed, PlacedNetwork, Setup

GRAVE = ("published limit", "memory")


@dataclass(frozen=True)
class Caveat:
    """One reason for doubt: its kind ("published limit", "memory", "unit"), what it is about, and where it is from."""

    kind: str
    about: str
    text: str
    source: str = ""

    def __str__(self) -> str:
        source = f" [{self.source}]" if self.source else ""
        return f"{self.kind}: {self.text}{source}"


def caveats(setup: Setup, fits: Mapping[str, Fit]) -> list[Caveat]:
    """Everything to be said against a scenario, the gravest first."""
    return [*limits_exceeded(setup), *memory_in_doubt(fits), *half_described(setup)]


def is_against(kinds: Iterable[str]) -> bool:
    """Whether caveats of these kinds speak against a verdict, as what it is about may not run at all."""
    return any(kind in GRAVE for kind in kinds)


def limits_exceeded(setup: Setup) -> Iterator[Caveat]:
    """Published limits that the scenario goes beyond."""
    context = setup.scenario.context_tokens
    for placed in setup.roles.values():
        for limit in exceeded(placed, context):
            with_this = f", and context_tokens is {context:,}" if limit.context is not None else ""
            remedy = (
                f"; --set context_tokens={limit.context.si:.0f} stays within it" if limit.context is not None else ""
            )
            text = f"{placed.role} {placed.model.name}: {limit_text(limit, placed)}{with_this}{remedy}"
            yield Caveat("published limit", placed.track, text, source_of(limit))


def memory_in_doubt(fits: Mapping[str, Fit]) -> Iterator[Caveat]:
    """Chips on which the placement fits only under conditions."""
    for chip, fit in fits.items():
        if fit.verdict == "fits only if":
            yield Caveat("memory", chip, str(fit))


def half_described(setup: Setup) -> Iterator[Caveat]:
    """NPUs in use without what makes an NPU's answer: rules, widths, limits."""
    pinned = setup.scenario.compile.profile is not None
    tracks: dict[str, list[Placed | PlacedNetwork]] = {}
    for part in setup.parts:
        if part.unit.kind == "npu":
            tracks.setdefault(part.track, []).append(part)
    for track, parts in tracks.items():
        unit = parts[0].unit
        roles = [part for part in parts if isinstance(part, Placed)]
        if not unit.profiles and not pinned:
            yield Caveat(
                "unit",
                track,
                f"{track} is an NPU without a rule profile: whether its compiler takes the model was not checked "
                "(list one under profiles in its chip file, or set compile.profile)",
            )
        if roles and unit.widths is None:
            yield Caveat(
                "unit",
                track,
                f"{track} is an NPU without widths: its times are not the chip model's, and its memory is counted for "
                "one graph of any width",
            )
        several = any(placed.widths is not None and len(placed.widths) > 1 for placed in roles)
        if several and unit.shared_weights is None:
            text = f"it is not known whether the graphs on {track} share weights: the weights are counted once a graph"
            yield Caveat("unit", track, f"{text} (shared_weights in its chip file)")
        missing = [name for name in ("graph_limit", "context_limit") if getattr(unit, name) is None]
        if roles and missing:
            text = f"{track} has no {' and no '.join(missing)}: no model is cut for it"
            yield Caveat("unit", track, f"{text} (its chip file, or its family)")
