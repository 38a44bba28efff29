"""Broken descriptions by the hundred: every kind of YAML file that describes something, and command lines."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hilsim.commands.main import main, simulate_main
from hilsim.cost.memory import ledgers
from hilsim.describe.catalogue import load_chip, load_record, with_family_figures
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.profile import Profile
from hilsim.describe.runtime import Runtime
from hilsim.describe.study_load import load_study
from hilsim.errors import HilsimError
from hilsim.measure.measures import MEASURES, measured
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import both
from tests.mutations import changed_bytes, changed_tree, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

MANY = 300
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
# Sizes that no figure should have, as a file or a hand could write them.
EXTREMES = (
    "0",
    "-1",
    "1e-320",
    "1e-300",
    "1e-9",
    "1e9",
    "1e18",
    "1e300",
    "2147483648",
    "9223372036854775808",
    "1" * 39,
)


def dumped(document: Any) -> bytes:
    """A document as YAML; what no YAML file holds (half characters) is written as Python does."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=10_000).encode("utf-8", "surrogatepass")


def extreme(text: str, chance: random.Random) -> bytes:
    """A file with one or two of its numbers replaced by extremes."""
    for _ in range(chance.choice((1, 2))):
        numbers = list(re.finditer(r"(?<=[ \[{:,])-?\d+(\.\d+)?(?=[,}\]\s])", text))
        spot = chance.choice(numbers)
        text = text[: spot.start()] + chance.choice(EXTREMES) + text[spot.end() :]
    return text.encode()


def broken(file: Path, seed: int, count: int = MANY) -> list[tuple[str, bytes]]:
    """A third of the inputs with broken bytes, a third with broken trees, a third with extreme numbers."""
    good, chance = file.read_bytes(), random.Random(seed)
    tree = yaml.safe_load(good)
    makers = (
        lambda: changed_bytes(good, chance),
        lambda: dumped(changed_tree(tree, chance)),
        lambda: extreme(good.decode(), chance),
    )
    return [(f"{file.stem}-{number}.yaml", makers[number % 3]()) for number in range(count)]


def read_chip(path: Path) -> None:
    """A chip with what its families give, in every mode, and what it says of a model's step."""
    chip = load_chip(str(path), path)
    for mode in chip.modes:
        load_chip(f"{path}@{mode}", path)
    text = SCENARIO.replace("chip: sa8295p", f"chip: {path}")
    run(text, path)


def read_link(path: Path) -> None:
    load_record(Link, path)
    run(SCENARIO.replace("link: 1000base-t1", f"link: {path}"), path)


def read_model(path: Path) -> None:
    load_record(Model, path)
    run(SCENARIO.replace("model: llama-3.2-3b", f"model: {path}"), path)


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


def read_scenario(path: Path) -> None:
    run(path.read_bytes().decode("utf-8", "replace"), path)


def read_study(path: Path) -> None:
    load_study(path, [], list(MEASURES))


def read_arguments(path: Path) -> None:
    """A command line, given as JSON: it may do anything but fail in a way that is no message."""
    arguments = json.loads(path.read_bytes())
    command = main if arguments[0] != "simulate" else simulate_main
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = command(arguments if command is main else arguments[1:])
        except SystemExit as stop:
            status = int(str(stop.code or 0))
    assert "Traceback" not in said.getvalue()
    if status == 2:
        raise HilsimError(said.getvalue())


def run(text: str, path: Path) -> None:
    """A scenario of synthetic text: loaded, held against memory, and run event by event to its numbers."""
    file = path.with_name(f"{path.stem}.scenario.yaml")
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        setup = load_setup(file)
        found = ledgers(setup)
        if setup.scenario.logits.source == "synthetic" and all(ledger.fits for ledger in found.values()):
            measured(setup, found, *both(setup))
    finally:
        file.unlink()


def test_broken_chips(tmp_path: Path) -> None:
    inputs = broken(PROJECT / "chips" / "sa8255p.yaml", 11, 150) + broken(
        PROJECT / "chips" / "agx-orin-64gb.yaml", 12, 150
    )
    survive(read_chip, inputs, tmp_path, accepted=range(20, 200))


def test_broken_links(tmp_path: Path) -> None:
    survive(read_link, broken(PROJECT / "chips" / "links" / "1000base-t1.yaml", 13), tmp_path, accepted=range(20, 200))


def test_broken_models(tmp_path: Path) -> None:
    survive(read_model, broken(PROJECT / "models" / "llama-3.2-3b.yaml", 14), tmp_path, accepted=range(20, 200))


def test_broken_families(tmp_path: Path) -> None:
    survive(
        read_family, broken(PROJECT / "chips" / "families" / "hexagon-v73.yaml", 15), tmp_path, accepted=range(20, 200)
    )


def test_broken_runtimes(tmp_path: Path) -> None:
    survive(
        read_runtime, broken(PROJECT / "chips" / "runtimes" / "llama-cpp.yaml", 16), tmp_path, accepted=range(20, 200)
    )


def test_broken_profiles(tmp_path: Path) -> None:
    survive(
        read_profile, broken(PROJECT / "chips" / "profiles" / "sa8295_2023.yaml", 17), tmp_path, accepted=range(20, 200)
    )


def test_broken_scenarios(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(SCENARIO)
    survive(read_scenario, broken(file, 18), tmp_path, accepted=range(4, 200))


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


def test_broken_studies(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    survive(read_study, broken(file, 19), tmp_path, accepted=range(5, 200))


WORDS = (
    "", "~", "$HOME", "$NOT_SET_ANYWHERE", "\0", "x" * 300, "a/" * 3000, "**", "/dev/zero", "/dev/random", "/dev/stdin",
    "/proc/self/mem", "..", ".", "-1", "0", "1e-320", "1e999", "nan", "9" * 5000, "18446744073709551616", "\ud800",
    "tcp://", "tcp://[::1", "a=b", "=", "[", "policy={", "target=5", "policy.draft_tokens=1e400", "link=1000BASE-T1",
    "SA8295P", "agx-orin-64gb@MAXN", "8295@", "@", "nope", "npu", "--", "-", "--json", "--seed", "--set",
)  # fmt: skip
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("simulate", "SCENARIO", "--realtime", "1e-320", "--set", "seed=1", "--seed", "2"),
    ("check", "SCENARIO", "--set", "policy.draft_tokens=3", "--profile", "nope"),
    ("chip", "sa8295p", "--model", "llama-3.2-1b", "--context", "64", "--network", "1,2,3"),
    ("study", "STUDY", "--out", "OUT", "--workers", "1", "--set", "seed=1", "--csv", "OUT/x.csv"),
    ("record", "SCENARIO", "--out", "OUT/x.npz", "--depth", "4"),
    ("validate", "--csv", "FILE", "--skip-bad"),
    ("calibrate", "FILE", "--chip", "sa8295p", "--out", "OUT/x.yaml", "--fit", "x"),
    ("train", "--corpus", "OUT", "--out", "OUT", "--seed", "-1", "--quick"),
    ("card", "--models", "OUT", "--dialogues", "1"),
    ("profile", "tcp://127.0.0.1:9", "--out", "OUT/x.jsonl", "--rows", "1,2", "--repeats", "1"),
    ("link-end", "--listen", "127.0.0.1:70000", "--peer", "127.0.0.1:x", "--token-file", "FILE"),
    ("explore", "SCENARIO", "--limit", "energy_j<=1e400", "--chips", "8295", "--workers", "0"),
)


ENDLESS = ("train", "card", "link-end", "validate")


def test_broken_command_lines(tmp_path: Path) -> None:
    """Where long work could begin an option is refused besides, so that it does not."""
    chance = random.Random(20)
    inputs = []
    for number in range(MANY):
        command = list(chance.choice(COMMANDS))
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(1, len(command))
            match chance.randrange(4):
                case 0:
                    del command[at]
                case 1:
                    command.insert(at, chance.choice(WORDS))
                case _:
                    command[at] = chance.choice(WORDS)
            if len(command) < 2:
                break
        inputs.append(
            (
                f"{number}.json",
                json.dumps([*command, *(["--no-such-option"] if command[0] in ENDLESS else [])]).encode(),
            )
        )
    survive(read_arguments, inputs, tmp_path, accepted=range(30))
