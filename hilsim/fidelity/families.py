"""A family's constants fitted to measurements, and a sibling's where a family has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hilsim.describe.family import Family
from hilsim.describe.figure import Figure
from hilsim.describe.figures import figures, with_figures
from hilsim.fidelity.cases import Case
from hilsim.fidelity.constants import movable, priors
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
    """The family with its sibling's fitted and measured constants: all where it has no row, else those of precisions

    that have none. What a datasheet says of it, and what is assumed, stays; a constant that the sibling does not have
    is that of its other formats, or where it would lie if nothing were known of it.
    """
    measured = {case.precision for case in cases}
    theirs = figures(sibling)
    found = {}
    for path, figure in figures(family).items():
        precision = path.split(".")[1] if path.startswith("precisions.") else None
        lost = not cases if precision is None else precision not in measured
        if lost and isinstance(figure, Figure) and figure.kind in ("fitted", "measured"):
            found[path] = borrowed(path, figure, theirs)
    return with_figures(family, found)


def borrowed(path: str, figure: Figure, theirs: Mapping[str, object]) -> Figure:
    """A sibling's constant of the same name, or of its other formats, in the same unit; else the prior's."""
    alike = [theirs.get(path), *(other for name, other in theirs.items() if same_constant(name, path))]
    fitted = [
        other for other in alike
        if isinstance(other, Figure) and other.unit == figure.unit and other.kind in ("fitted", "measured")
    ]  # fmt: skip
    if fitted:
        return figure.model_copy(update={"value": fitted[0].value, "range": None})
    value = priors({path: figure})[path] if figure.kind == "fitted" else figure.value
    return figure.model_copy(update={"value": value, "range": None})


def same_constant(name: str, path: str) -> bool:
    """Whether two constants of formats are both the rate of memory, which their kernels share."""
    return name.endswith(".memory") and path.endswith(".memory")
