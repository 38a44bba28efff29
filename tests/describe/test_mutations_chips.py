"""No broken file of chips, families, runtimes or acceptance breaks the program: refused with words, or read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from hilsim.cost.fit import fits_of
from hilsim.cost.memory import largest_context
from hilsim.describe.acceptance_profile import AcceptancePair
from hilsim.describe.catalogue import load_chip, load_record
from hilsim.describe.family import Family
from hilsim.describe.load import load_setup
from hilsim.describe.runtime import Runtime
from hilsim.places import CODE as PROJECT
from tests.mutations import changed_bytes, changed_tree, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

COUNT = 300
SEED = 20_261_130
SCENARIO = """
name: mutated
target: {model: llama-3.2-1b, chip: CHIP, unit: npu, precision: w4}
context_tokens: 512
policy: {name: target_only}
logits: {source: synthetic, acceptance: 0.5}
workload: {requests: 1, prompt_tokens: 10, output_tokens: 2}
"""


def read_chip(path: Path) -> None:
    """A chip, and where it is one what a scenario on it makes of its sizes."""
    load_chip(str(path), path)
    scenario = path.with_suffix(".scenario")
    scenario.write_text(SCENARIO.replace("CHIP", str(path)))
    try:
        setup = load_setup(scenario)
        fits_of(setup)
        largest_context(setup)
    finally:
        scenario.unlink()


def read_family(path: Path) -> None:
    load_record(Family, path)


def read_runtime(path: Path) -> None:
    load_record(Runtime, path)


def read_acceptance(path: Path) -> None:
    for profile in load_record(AcceptancePair, path).profiles:
        assert all(0 <= chance <= 1 for chance in profile.conditional)
        assert f"{profile.whose} {profile.means}"


KINDS = {
    "chip": (read_chip, "chips/sa8295p.yaml"),
    "family": (read_family, "chips/families/hexagon-v68.yaml"),
    "runtime": (read_runtime, "chips/runtimes/vllm.yaml"),
    "acceptance": (read_acceptance, "models/acceptance/eagle-llama-3.1-8b.yaml"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_broken_description_of_hardware_breaks_the_program(kind: str, tmp_path: Path) -> None:
    reader, source = KINDS[kind]
    data = (PROJECT / source).read_bytes()
    chance = random.Random(f"{SEED} {kind}")
    tree = yaml.safe_load(data)
    files = [(f"{n}.yaml", changed_bytes(data, chance)) for n in range(COUNT // 2)]
    for n in range(COUNT // 2, COUNT):
        text = yaml.safe_dump(changed_tree(tree, chance), allow_unicode=True, sort_keys=False)
        files.append((f"{n}.yaml", text.encode("utf-8", "surrogatepass")))
    survive(reader, files, tmp_path, accepted=range(1, COUNT))
