"""A family's constants fitted to measurements, and a sibling's where a family has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hilsim.describe.family import Family
from hilsim.describe.figures import figures
from hilsim.fidelity.cases import Case
from hilsim.fidelity.constants import movable
from hilsim.fidelity.fit import Fitted, fit


def fitted_families(
    cases: Sequence[Case],
    families: Mapping[str, Family],
    only: Iterable[str | None] | None = None,
    *,
    near: bool = False,
) -> dict[str, Family]:
    """Families with their constants fitted to `cases`; those not in `only` stay as they are.

    A family, or one of its precisions, without a single row takes over its sibling's constants.
    """
    done = dict(families)
    wanted = set(families) if only is None else set(only)
    for name in families:
        rows = [case for case in cases if case.family == name]
        if name in wanted and rows:
            done[name] = fit_family(families[name], rows, near=near).record
    for name, family in families.items():
        sibling = done.get(family.sibling or "")
        if name in wanted and sibling is not None:
            done[name] = with_borrowed(done[name], sibling, [case for case in cases if case.family == name])
    return done


def fit_family(family: Family, cases: Sequence[Case], *, near: bool = False) -> Fitted[Family]:
    """One family's constants fitted to its cases; with `near` its present ones were fitted to almost the same."""

    def predict(candidate: Family) -> list[float]:
        known = {candidate.name: candidate}
        units = {}
        seconds = []
        for case in cases:
            key = (case.chip.name, case.unit_name)
            if key not in units:
                units[key] = case.unit(known)
            seconds.append(case.seconds(units[key]))
        return seconds

    free = movable(figures(family))
    return fit(
        family, free, predict, [case.measured for case in cases], [case.kind for case in cases], free if near else None
    )


def with_borrowed(family: Family, sibling: Family, cases: Sequence[Case]) -> Family:
    """The sibling under the family's name where the family has no row; its precisions where those have none."""
    if not cases:
        return sibling.model_copy(update={"name": family.name})
    measured = {case.precision for case in cases}
    theirs = {name: precision for name, precision in sibling.precisions.items() if name in family.precisions}
    return family.model_copy(
        update={
            "precisions": family.precisions
            | {name: precision for name, precision in theirs.items() if name not in measured}
        }
    )
