"""What no single record of the section `faults` can see: chips that take part, links that are there, other work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hilsim.describe.backend import SIMULATED
from hilsim.describe.chip import Chip
from hilsim.describe.faults import WAYS, Injected, WrongRow
from hilsim.describe.names import one_of
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, PlacedNetwork
from hilsim.errors import Fault


def with_fault_names(scenario: Scenario, chips: Mapping[str, Chip]) -> Scenario:
    """The scenario, its faults' chips by their names."""
    faults = scenario.faults
    if faults is None:
        return scenario
    inject = tuple(
        fault if fault.where in (*WAYS, "target", "draft") else fault.model_copy(update={"where": found})
        for fault in faults.inject
        for found in (one_of(fault.where, chips),)
    )
    return scenario.model_copy(update={"faults": faults.model_copy(update={"inject": inject})})


def injection_faults(
    scenario: Scenario, roles: Mapping[str, Placed], networks: list[PlacedNetwork], *, crosses: bool, file: str
) -> Iterator[Fault]:
    """Faults of the section: of what it names, and of what does not go together with it.

    `crosses` says whether a link joins two chips of the run.
    """
    faults = scenario.faults
    if faults is None or not (faults.inject or faults.reaction.compare_rows):
        return
    what = "injected faults" if faults.inject else "faults.reaction.compare_rows"
    if keys := scenario.company_keys:
        found = f"{', '.join(keys)} beside {what}"
        remedy = "Inject faults into a scenario of conversations alone; workload.talkers may be above 1."
        yield Fault(file, "faults", found, "one session after another, or several beside each other", remedy)
    chips = {placed.chip.name for placed in roles.values()}
    for number, fault in enumerate(faults.inject):
        place = f"faults.inject[{number}].where"
        if fault.where in WAYS:
            if not crosses:
                expected = "a scenario whose models, or whose application, are on two chips"
                yield Fault(file, place, f"{fault.where}, and no link between chips", expected)
        elif fault.where == "draft" and "draft" not in roles:
            yield Fault(file, place, "draft, and the scenario has none", "target, or the name of a chip")
        elif fault.where not in ("target", "draft", *chips):
            yield Fault(file, place, repr(fault.where), f"target, draft, or a chip in use: {', '.join(sorted(chips))}")
        else:
            yield from beside_faults(fault, roles, networks, f"faults.inject[{number}]", file)
    for name, backend in scenario.units.items():
        if backend.backend != SIMULATED and (backend.address is None or not faults.inject):
            really = ", or an agent that has faults really happen (docs/boards.md)" if faults.inject else ""
            yield Fault(file, f"units.{name}.backend", f"{backend.backend}, with {what}", f"{SIMULATED}{really}")


def beside_faults(
    fault: Injected, roles: Mapping[str, Placed], networks: list[PlacedNetwork], place: str, file: str
) -> Iterator[Fault]:
    """Networks on a chip that fails, which nothing restarts."""
    chip = roles[fault.where].chip.name if fault.where in roles else fault.where
    if isinstance(fault, WrongRow):
        return
    if hit := [network.placement.name for network in networks if network.chip.name == chip]:
        found = f"{fault.kind} of {chip}, which runs {', '.join(hit)} as well"
        yield Fault(file, place, found, "a chip with language models alone", "Leave out networks: --set networks=[].")
