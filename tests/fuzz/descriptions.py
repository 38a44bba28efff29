"""YAML files that describe something: scenarios, studies, chips, links, families, models, runtimes, profiles, pairs."""

from __future__ import annotations

import io
import random
import tempfile
from functools import cache, partial
from pathlib import Path

from rich.console import Console

from hilsim.cost.fit import fits_of
from hilsim.cost.largest_context import largest_context
from hilsim.cost.memory import ledgers
from hilsim.describe.acceptance_profile import AcceptancePair
from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.catalogue import load_chip, load_record, with_family_figures
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.profile import Profile
from hilsim.describe.runtime import Runtime
from hilsim.describe.scenario import Lengths
from hilsim.describe.study_load import load_study
from hilsim.measure.measures import MEASURES, measured
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import both
from hilsim.show.campaign import render
from hilsim.study.campaign import CampaignResult, tolerance_ms
from hilsim.study.stored import StoredGrid
from hilsim.study.worker import worked_with_fault
from tests.fuzz import commands
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_yaml

SCENARIO = """
name: described
target: {model: llama-3.2-3b, chip: sa8295p, unit: npu, precision: w4, widths: [1, 8, 32]}
draft: {model: draft-68m-llama3, chip: agx-orin-64gb, unit: gpu, precision: w4}
link: 1000base-t1
context_tokens: 512
policy: {name: sync, draft_tokens: 4}
accept: greedy
payload: token_ids
logits: {source: synthetic, acceptance: 0.7}
workload: {requests: 2, prompt_tokens: 20, output_tokens: 12, pause_ms: 100}
"""
STUDY = """
name: described
scenario: scenarios/paper_table.yaml
set: {workload.requests: 2}
axes:
  - {key: policy.draft_tokens, from: 2, to: 4}
  - {linked: {workload.prompt_tokens: [20, 40], seed: [1, 2]}, names: [short, long]}
metrics: [speedup]
search: {trials: 3, objectives: [{metric: speedup, goal: max}]}
"""
FAULTS = """
faults:
  tolerance_ms: 500
  reaction: {timeout_ms: 20, retries: 2, backoff_ms: 5, watchdog_ms: 100, probe_ms: 50, fallback: target, resume: true}
  inject:
"""
INJECTED = (
    "{kind: link_drop, on: {phase: up, request: 1, round: 1}, for_ms: 400}",
    "{kind: link_delay, where: up, delay_ms: 10, at_ms: [50, 400], for_ms: 500}",
    "{kind: loss, rate: 0.2, burst: 3, at_ms: 90, for_ms: 4000}",
    "{kind: bit_errors, rate: 0.001, at_ms: 0, for_ms: null}",
    "{kind: partial_outage, share: 0.1, on: {phase: down}, for_ms: 300}",
    "{kind: duplicate, where: up, at_ms: 20}",
    "{kind: late, where: down, delay_ms: 15, on: {phase: verify}}",
    "{kind: reset, where: target, at_ms: 70, reload_ms: 400}",
    "{kind: hang, where: draft, on: {phase: draft}, reload_ms: 150}",
    "{kind: slow, where: target, factor: 3, per_hour: 36000, for_ms: 1000}",
    "{kind: memory, where: draft, megabytes: 5000, at_ms: 60, for_ms: 100, reload_ms: 300}",
    "{kind: lost, on: {phase: idle, request: 1}}",
    "{kind: clock_jump, where: draft, jump_ms: 1000, on: {phase: prefill}, reload_ms: 300}",
    "{kind: wrong_row, where: target, on: {phase: verify}}",
)
CAMPAIGN = """
name: described
scenario: scenarios/paper_table.yaml
set: {workload.requests: 2, workload.output_tokens: 12}
tolerance_ms: 500
reaction: {timeout_ms: 20, retries: 2, watchdog_ms: 100}
faults:
  - {kind: link_drop, where: [up, down], for_ms: 50}
  - {kind: hang, where: target, reload_ms: 200}
instants: {phases: [up, verify], at_ms: [30]}
policies: [{name: sync, draft_tokens: 4}, {name: target_only}]
"""
MOST_RUNS = 30  # of a campaign: more are right, and take long
MOST_TOKENS = 20_000  # of a run: more are right, and take long
SHIPPED = ("chips", "chips/links", "chips/families", "chips/runtimes", "chips/profiles", "models", "models/acceptance",
           "scenarios", "scenarios/papers", "scenarios/studies")  # fmt: skip


def run_scenario(text: str, path: Path) -> None:
    """A scenario of synthetic text: loaded, held against memory, and run event by event to its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.stem}.scenario.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        setup = load_setup(file)
        found = ledgers(setup)
        workload = setup.scenario.workload
        short = isinstance(workload, Lengths) and workload.requests * workload.output_tokens <= MOST_TOKENS
        if setup.scenario.logits.source == "synthetic" and short and all(ledger.fits for ledger in found.values()):
            measured(setup, found, *both(setup))


def read_chip(path: Path) -> None:
    """A chip with what its families give, in every mode, what its sizes mean, and what it says of a model's step."""
    chip = load_chip(str(path), path)
    for mode in chip.modes:
        load_chip(f"{path}@{mode}", path)
    text = SCENARIO.replace("chip: sa8295p", f"chip: {path}")
    run_scenario(text, path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sizes.yaml"
        file.write_text(text)
        setup = load_setup(file)
        fits_of(setup)
        largest_context(setup)


def read_link(path: Path) -> None:
    load_record(Link, path)
    run_scenario(SCENARIO.replace("link: 1000base-t1", f"link: {path}"), path)


def read_model(path: Path) -> None:
    load_record(Model, path)
    run_scenario(SCENARIO.replace("model: llama-3.2-3b", f"model: {path}"), path)


def read_family(path: Path) -> None:
    """A family, and a chip that takes its figures from it."""
    family = load_record(Family, path)
    chip = load_record(Chip, PROJECT / "chips" / "sa8775p.yaml")
    unit = chip.units["npu"].model_copy(update={"family": str(path)})
    with_family_figures(chip.model_copy(update={"units": {"npu": unit}, "name": family.name}), path)


def read_runtime(path: Path) -> None:
    runtime = load_record(Runtime, path)
    for unit in load_chip("agx-orin-64gb", path).units.values():
        for precision in unit.precisions.values():
            runtime.on(unit, precision)


def read_profile(path: Path) -> None:
    load_record(Profile, path)


def read_pair(path: Path) -> None:
    for profile in load_record(AcceptancePair, path).profiles:
        assert all(0 <= chance <= 1 for chance in profile.conditional)
        assert f"{profile.whose} {profile.means}"


def read_scenario(path: Path) -> None:
    run_scenario(path.read_bytes().decode("utf-8", "replace"), path)


def read_study(path: Path) -> None:
    load_study(path, [], list(MEASURES))


def read_campaign(path: Path) -> None:
    """A campaign, and its few runs to the page: what is refused in one of them is refused, what fails is a bug."""
    loaded = load_campaign(path)
    stored = StoredGrid.of(loaded.described, "", worked_with_fault)
    workload = load_setup(loaded.described.scenario, loaded.described.base).scenario.workload
    short = isinstance(workload, Lengths) and workload.requests * workload.output_tokens <= MOST_TOKENS
    if not short or len(stored.grid) > MOST_RUNS:
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = stored.run(Path(folder) / "campaign.sqlite", workers=1)
    failed = [row.outcome.remark for row in rows if row.outcome.state == "failed"]
    if failed:
        raise commands.Broken(failed[0])
    found = CampaignResult(stored.grid, rows)
    render(loaded.campaign, found, tolerance_ms(loaded.described), Console(file=io.StringIO()), details=True)


LINES = {
    "check": ("check", "FILE"),
    "check json": ("check", "FILE", "--json", "--largest-context"),
    "modes": ("modes", "FILE", "--csv", "OUT.csv"),
    "chip": ("chip", "FILE"),
    "chip model": ("chip", "FILE", "--model", "llama-3.2-1b"),
    "acceptance": ("acceptance", "show", "FILE"),
    "convert": ("acceptance", "convert", "FILE", "--out", "OUT.yaml"),
}
CHECKED = ("check", "check json", "modes")


def read_by_command(path: Path) -> None:
    """A file through the command that its name begins with."""
    commands.run(LINES[path.stem.partition("~")[0]], path)


@cache
def shipped(folder: str, least: int = 0) -> tuple[Path, ...]:
    """The YAML files of a folder that state something."""
    return tuple(sorted(file for file in (PROJECT / folder).glob("*.yaml") if file.stat().st_size >= least))


def from_folder(folder: str, chance: random.Random) -> Input:
    """Any file of a folder, changed."""
    file = chance.choice(shipped(folder))
    return file.name, changed_yaml(file.read_bytes(), chance)


def from_text(text: str, chance: random.Random) -> Input:
    return "described.yaml", changed_yaml(text.encode(), chance)


def with_faults(chance: random.Random) -> Input:
    """The scenario with a few of all kinds of faults, whose section alone is changed."""
    listed = "".join(f"    - {one}\n" for one in chance.sample(INJECTED, 3))
    return "faults.yaml", SCENARIO.encode() + changed_yaml((FAULTS + listed).encode(), chance)


def for_command(titles: tuple[str, ...], folder: str, chance: random.Random) -> Input:
    """Any file of a folder, changed, for one of some commands."""
    name, data = from_folder(folder, chance)
    return f"{chance.choice(titles)}~{name}", data


KINDS = [
    Kind("scenario", partial(from_text, SCENARIO), read_scenario, 400),
    Kind("scenario with faults", with_faults, read_scenario, 400),
    Kind("campaign", partial(from_text, CAMPAIGN), read_campaign, 200),
    Kind("scenario by command", partial(for_command, CHECKED, "scenarios"), read_by_command, 300, (0.005, 0.95)),
    Kind("paper by command", partial(for_command, ("check",), "scenarios/papers"), read_by_command, 400),
    Kind("study", partial(from_text, STUDY), read_study, 300),
    Kind("shipped study", partial(from_folder, "scenarios/studies"), read_study, 60),
    Kind("shipped campaign", partial(from_folder, "scenarios/campaigns"), read_campaign, 20),
    Kind("chip", partial(from_folder, "chips"), read_chip, 300),
    Kind("chip by command", partial(for_command, ("chip", "chip model"), "chips"), read_by_command, 300),
    Kind("link", partial(from_folder, "chips/links"), read_link, 300),
    Kind("family", partial(from_folder, "chips/families"), read_family, 200),
    Kind("model", partial(from_folder, "models"), read_model, 300, (0.005, 0.95)),
    Kind("runtime", partial(from_folder, "chips/runtimes"), read_runtime, 300),
    Kind("profile", partial(from_folder, "chips/profiles"), read_profile, 300),
    Kind("pair", partial(from_folder, "models/acceptance"), read_pair, 300),
    Kind("pair by command", partial(for_command, ("acceptance", "convert"), "models/acceptance"), read_by_command, 400),
]  # fmt: skip
