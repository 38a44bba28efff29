"""Imports point down the list of rooms, and each heavy package stays in its rooms. Parsed, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Ssd
from hilsim.places import CODE as PROJECT

# Later rooms may import earlier ones, never the other way round.
ROOMS = [
    "_version", "errors", "shown", "units", "places", "files", "unchanged", "progress", "trust", "caches", "versions",
    "comparison",
    "describe", "cost", "text", "sampling", "networks", "sources", "compiler", "sim", "screen", "fidelity", "hardware",
    "measure", "runs", "training", "study", "show", "api", "policy", "engine", "commands", "__main__",
]  # fmt: skip
# The rooms, or files in them, that may import a package that is heavy or an extra.
HOMES = {
    "torch": ("networks", "compiler", "training", "hardware/agent/checkpoint.py"),
    "safetensors": ("networks", "training"),
    "scipy": ("fidelity", "study"),
    "matplotlib": ("show",),
    "bokeh": ("show/page",),
    "prometheus_client": ("show/exporter.py",),
    "tornado": ("show/page",),
    "argparse": ("commands", "training"),
    "distributed": ("study/cluster.py",),
    "optuna": ("study/search.py",),
    "pyarrow": ("show/table.py",),
    "numba": ("screen",),
}
FILES = sorted((PROJECT / "hilsim").rglob("*.py"))


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(file: Path) -> list[str]:
    """Every module that a file names in an import, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_imports_point_down_and_packages_stay_at_home(file: Path) -> None:
    inside = file.relative_to(PROJECT / "hilsim")
    own = inside.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in imports(file):
        if module.startswith("hilsim.") and room(module) != own:
            assert ROOMS.index(room(module)) < ROOMS.index(own), f"{own} imports {module}"
        package = module.split(".")[0]
        if package in HOMES:
            assert str(inside).startswith(HOMES[package]), f"{inside} imports {package}"


CHECK = f"main(['check', {str(PROJECT / 'scenarios/orin_8295.yaml')!r}])"
FEW = "'--json', '--set=workload.count=1', '--set=workload.max_turns=1', '--set=workload.max_new_tokens=4'"
SHIPPED = "'--set=logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}'"
# What runs, and which modules it must not load. PyTorch takes longer to import than the whole first scenario takes to
# start.
WITHOUT = {
    "check": (CHECK, "torch scipy matplotlib numba numpy tokenizers simpy jinja2"),
    "synthetic": (
        "simulate_main(['scenarios/paper_table.yaml', '--json', '--set', 'workload.requests=2'])",
        "torch scipy matplotlib numba jinja2",
    ),
    "replayed": (
        f"simulate_main(['scenarios/orin_8295_greedy.yaml', '--json', {SHIPPED}])",
        "torch scipy matplotlib numba pandas pyarrow optuna bokeh distributed jinja2 rich subprocess",
    ),
    "live": (f"simulate_main(['scenarios/orin_8295.yaml', {FEW}])", "torch scipy numba matplotlib"),
}


def is_plain(file: Path) -> bool:
    """Whether a scenario's tokens come from networks of floats that run here, without a draft head and forecasts."""
    setup = load_setup(file)
    here = setup.scenario.logits.source == "live" and not setup.backends
    headed = setup.draft is not None and setup.draft.head_kind is not None
    return here and not headed and not isinstance(setup.scenario.policy, Ssd)


SCENARIOS = sorted((PROJECT / "scenarios").glob("*.yaml"))


@pytest.mark.slow
def test_scenarios_run_without_pytorch_but_those_with_a_draft_head_or_forecasts() -> None:
    plain = [file for file in SCENARIOS if is_plain(file)]
    heads = [file for file in SCENARIOS if (setup := load_setup(file)).draft and setup.draft.head_kind]
    assert len(plain) > 12
    assert heads
    for files, needs in ((plain, False), (heads[:1], True)):
        for file in files:
            assert main(["check", str(file)]) in (0, 2)  # exports its models once; after that the plan is read
        code = (
            "import sys; from hilsim.commands.main import simulate_main\n"
            f"for file in {[str(file) for file in files]}:\n"
            f"    simulate_main([file, {FEW}])\n"
            "    print('PyTorch', file, 'torch' in sys.modules, file=sys.stderr)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        loaded = [line.endswith("True") for line in done.stderr.splitlines() if line.startswith("PyTorch ")]
        assert loaded == [needs] * len(files), done.stderr


@pytest.mark.parametrize("name", WITHOUT)
def test_commands_load_no_package_that_they_do_not_need(name: str) -> None:
    """A check exports its models once; after that the plan is read."""
    assert main(["check", str(PROJECT / "scenarios/orin_8295.yaml")]) == 0
    assert main(["check", str(PROJECT / "scenarios/orin_8295_greedy.yaml")]) == 0
    runs, absent = WITHOUT[name]
    code = (
        "import sys; from hilsim.commands.main import main, simulate_main\n"
        f"status = {runs}\n"
        f"loaded = {set(absent.split())} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
