"""The answers of `hilsim acceptance`: one profile, several side by side, and files of both kinds."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from hilsim.describe.acceptance import marginal_of, tokens_of
from hilsim.describe.acceptance_formats.formats import load_acceptance
from hilsim.describe.acceptance_formats.profile_json import written as profile_json
from hilsim.describe.acceptance_profile import AcceptancePair, AcceptanceProfile, WorkloadAcceptance, library
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.catalogue import find_scenario
from hilsim.describe.complaints import PATTERNS
from hilsim.describe.figure import NAME
from hilsim.describe.load import load_setup
from hilsim.describe.write import to_yaml
from hilsim.errors import Fault, InputError
from hilsim.files import written
from hilsim.measure.accepted import accepted_lists, profile_of, require_exportable
from hilsim.show.check import checked
from hilsim.show.run import RunOptions, run_checked
from hilsim.show.table import Table, terminal
from hilsim.show.terminal.page import Page
from hilsim.study.transfer import OWN_DRAFTS, left_out, over_kinds_of_text, own_profile

HERE = Path("command line")  # stands for the file that names a profile
Given = Mapping[str, Any]


def load(name: str, given: Given) -> AcceptanceProfile:
    """A profile by name, or from a file relative to where the command runs."""
    return load_acceptance(name, HERE, **given)


def show(name: str | None, given: Given, *, as_json: bool) -> None:
    """One profile by place and by drafts; without a name, the library."""
    profiles = library() if name is None else (load(name, given),)
    if as_json:
        sys.stdout.write(json.dumps([facts(profile) for profile in profiles], indent=2) + "\n")
        return
    if name is None:
        print_side_by_side(profiles, (1, 3, 5))
        return
    (profile,) = profiles
    console = terminal()
    page = Page(console)
    page.title(profile.name, profile.title)
    for sentence in sentences(profile):
        page.paragraph(sentence, 2)
    chances = profile.conditional
    shares = marginal_of(chances)
    rows = [
        [place, chance, share, tokens_of(chances, place)]
        for place, (chance, share) in enumerate(zip(chances, shares, strict=True), 1)
    ]
    columns = ("place", "conditional", "marginal", "tokens a round, so many drafted")
    Table(columns, rows, left=1).print(console)
    page.paragraph(
        "conditional: accepted once all before it were; marginal: the share of rounds that accept it and all before it."
        + (" Later places take the last chance." if len(chances) < OWN_DRAFTS else "")
    )


def compare(names: Sequence[str], given: Given, scenario: str | None, drafts: Sequence[int], *, as_json: bool) -> None:
    """Tokens a round by drafts, of several profiles and of a scenario's own models."""
    profiles = [load(name, given) for name in names] if names else list(library())
    profiles += [] if scenario is None else [own_profile(find_scenario(scenario))]
    if as_json:
        sys.stdout.write(json.dumps([facts(profile) for profile in profiles], indent=2) + "\n")
        return
    print_side_by_side(profiles, drafts)


def convert(name: str, given: Given, out: Path, stated: Given) -> None:
    """Any format in; a YAML profile, or a JSON one as checkpoints have it, out. `stated` is what the file lacks."""
    update = {key: value for key, value in stated.items() if value is not None}
    profile = load(name, given).model_copy(update=update)
    if out.suffix == ".json":
        write_json(out, json_of(profile))
    elif out.suffix in (".yaml", ".yml"):
        if not re.fullmatch(NAME, out.stem):
            remedy = "A profile is named as its file is."
            raise InputError([Fault(str(out), "--out", repr(out.stem), PATTERNS[NAME], remedy)])
        pair = pair_of(profile, out.stem)
        with written(out) as path:
            path.write_text(to_yaml(pair), encoding="utf-8")
    else:
        raise InputError([Fault(str(out), "--out", repr(out.suffix), "a name that ends in .yaml or .json")])
    print(f"{out}: {profile.label}, {tokens_of(profile.conditional, 5):.3g} tokens a round at 5 drafts")


def export(scenario: Path, overrides: Sequence[str], out: Path) -> None:
    """Run a scenario and write the acceptance of its own models: as a profile, or the rounds of its requests."""
    if out.suffix not in (".json", ".jsonl"):
        raise InputError([Fault(str(out), "--out", repr(out.suffix), "a name that ends in .json or .jsonl")])
    setup = load_setup(scenario, overrides)
    require_exportable(setup)
    found = checked(setup)
    found.require()
    trace = run_checked(found, RunOptions()).speculative
    assert trace is not None
    lists = accepted_lists(trace)
    if out.suffix == ".json":
        write_json(out, profile_of(setup, trace))
    else:
        with written(out) as path, path.open("w", encoding="utf-8") as file:
            for request, accepted in enumerate(lists.accepted):
                row = {"request": request, "accepted": accepted, "drafted": lists.drafts_of(request)}
                file.write(json.dumps(row) + "\n")
    print(f"{out}: {lists}")


def transfer(scenario: Path, overrides: Sequence[str], drafted: int, csv: Path | None) -> None:
    """How far acceptance carries: each kind of text of a pair against the pair's others."""
    found = left_out([*library(), *over_kinds_of_text(scenario, overrides)], drafted)
    rows = [
        [one.profile.title, one.profile.text, one.profile.temperature, one.measured, one.predicted, 100 * one.error]
        for one in found
    ]
    table = Table(("pair", "kind of text left out", "T", "measured", "from the others", "error, %"), rows, left=2)
    console = terminal()
    table.print(console)
    errors = sorted(100 * abs(one.error) for one in found)
    sentence = f"median error {median(errors):.0f} %, largest {errors[-1]:.0f} %"
    console.print(f"tokens a round at {drafted} drafts; {sentence}", soft_wrap=True)
    if csv is not None:
        with written(csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            table.write_csv(file, 4)


def sentences(profile: AcceptanceProfile) -> list[str]:
    """Whose it is, what was given, and what a file of rounds shows of streaks."""
    found = [f"Acceptance of {profile.whose}.", f"{profile.means[:1].upper()}{profile.means[1:]}."]
    if isinstance(profile.acceptance, AcceptedLists) and (streak := profile.acceptance.streak()) is not None:
        found.append(f"Accepted tokens of neighbouring rounds have a correlation of {streak:.2f}.")
    return [*found, *([profile.notes] if profile.notes else [])]


def print_side_by_side(profiles: Sequence[AcceptanceProfile], drafts: Sequence[int]) -> None:
    """A row a profile: tokens a round by drafts."""
    rows = [[one.name, *(tokens_of(one.conditional, count) for count in drafts)] for one in profiles]
    console: Console = terminal()
    Table(("drafts a round", *map(str, drafts)), rows).print(console)
    console.print("tokens a round, the target's own among them; beyond the measured drafts the last chance goes on")
    for kind in dict.fromkeys(one.kind for one in profiles if one.kind != "measured"):
        console.print(f"{kind}: {', '.join(one.name for one in profiles if one.kind == kind)}", soft_wrap=True)


def facts(profile: AcceptanceProfile) -> dict[str, Any]:
    """A profile as JSON."""
    chances = profile.conditional
    given = profile.model_dump(exclude={"acceptance", "in_error_bars"})
    return given | {
        "means": profile.means,
        "conditional": list(chances),
        "marginal": list(marginal_of(chances)),
        "tokens_a_round": {str(count): tokens_of(chances, count) for count in range(1, OWN_DRAFTS + 1)},
    }


def json_of(profile: AcceptanceProfile) -> dict[str, Any]:
    """A profile as checkpoints have it."""
    histogram: dict[int, int] = {}
    if isinstance(profile.acceptance, AcceptedLists):
        for accepted, _ in profile.acceptance.pairs():
            histogram[accepted + 1] = histogram.get(accepted + 1, 0) + 1
    target, _, draft = profile.title.partition(" with ")
    conditions = {"dataset": profile.text, "temperature": profile.temperature, "source": profile.source}
    said = {"target_model": {"name": target}, "draft_checkpoint": {"name": draft}, "measurement_conditions": conditions}
    return profile_json(said, profile.conditional, histogram)


def pair_of(profile: AcceptanceProfile, name: str) -> AcceptancePair:
    """A profile as a file of the library."""
    workload = re.sub(r"[^a-z0-9]+", "-", profile.text.lower()).strip("-")[:40].strip("-") or "text"
    own = WorkloadAcceptance(
        text=profile.text, acceptance=profile.acceptance, temperature=profile.temperature, rounds=profile.rounds,
        notes=profile.notes,
    )  # fmt: skip
    return AcceptancePair(
        name=name, title=profile.title, drafter=profile.drafter, kind=profile.kind, source=profile.source,
        workloads={workload: own},
    )  # fmt: skip


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    with written(file) as path:
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
