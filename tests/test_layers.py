"""Imports point down the list of rooms, and torch stays where it belongs. Parsed, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.commands.check import CheckOptions, check_command
from hilsim.compiler import plan_cache as kept
from hilsim.describe.catalogue import PROJECT

# Later rooms may import earlier ones, never the other way round.
ROOMS = [
    "units", "errors", "files", "arguments", "describe", "cost", "fidelity", "logits", "compiler", "sim", "screen",
    "hardware", "study", "show", "training",
    "app_runs", "app_distributed", "app_uncertainty", "app", "app_compile", "app_fidelity", "app_hardware",
    "app_record", "app_transcripts", "app_replay",
    "app_point", "app_study", "app_explore", "cli_studies", "cli_hardware", "cli", "__main__",
]  # fmt: skip
TORCH_ROOMS = {"logits", "compiler", "training"}
TORCH_FREE = {
    "accept", "block", "decisions", "noise", "remembered", "sampling", "source", "supposed", "synthetic",
    "tokenizer", "wire",
    "folder", "pairs", "choices", "laws", "recorded_with", "recording", "transcript", "findings", "gate", "kept",
    "limits", "plan", "ways_out",
}  # fmt: skip
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
def test_imports_point_down(file: Path) -> None:
    own = file.relative_to(PROJECT / "hilsim").parts[0].removesuffix(".py")
    if own == "__init__":
        assert imports(file) == []
        return
    for module in imports(file):
        if module.startswith("hilsim.") and room(module) != own:
            assert ROOMS.index(room(module)) < ROOMS.index(own), f"{own} imports {module}"


def test_compile_plans_depend_on_the_rooms_below_the_compiler_and_on_it() -> None:
    assert [name.removesuffix(".py") for name in kept.ROOMS] == ROOMS[: ROOMS.index("compiler") + 1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_torch_stays_in_its_rooms(file: Path) -> None:
    own = file.relative_to(PROJECT / "hilsim").parts[0]
    on_board = own == "hardware" and file.stem == "checkpoint"  # the one engine that is PyTorch's
    if not on_board and (own not in TORCH_ROOMS or file.stem in TORCH_FREE):
        assert not [module for module in imports(file) if module.split(".")[0] in ("torch", "safetensors")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_scipy_stays_in_fidelity_and_matplotlib_in_show(file: Path) -> None:
    packages = {module.split(".")[0] for module in imports(file)}
    own = file.relative_to(PROJECT / "hilsim").parts[0]
    assert "scipy" not in packages or own == "fidelity"
    assert "matplotlib" not in packages or own == "show"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_each_extra_of_studies_is_one_module_s(file: Path) -> None:
    packages = {module.split(".")[0] for module in imports(file)}
    homes = {"distributed": "study/cluster.py", "optuna": "study/search.py", "pyarrow": "show/results.py"}
    for package, home in homes.items():
        assert package not in packages or str(file.relative_to(PROJECT / "hilsim")) == home


def test_help_checks_and_synthetic_runs_start_without_heavy_packages() -> None:
    """A check exports its models once; after that the plan is read."""
    assert check_command(CheckOptions(PROJECT / "scenarios/orin_8295.yaml", [])) == 0
    code = (
        "import sys; from hilsim.commands.main import main, simulate_main\n"
        "status = main(['check', 'scenarios/orin_8295.yaml'])\n"
        "status += simulate_main(['scenarios/paper_table.yaml', '--json', '--set', 'workload.requests=2'])\n"
        "assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules), 'torch, scipy or matplotlib was imported'\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_live_run_does_not_load_the_compiler() -> None:
    """PyTorch's compiler takes longer to import than the whole first scenario takes to start; plans are kept."""
    assert check_command(CheckOptions(PROJECT / "scenarios/orin_8295.yaml", [])) == 0
    code = (
        "import sys; from hilsim.commands.main import simulate_main\n"
        "few = ['--set=workload.count=1', '--set=workload.max_turns=1', '--set=workload.max_new_tokens=4']\n"
        "status = simulate_main(['scenarios/orin_8295.yaml', '--json', *few])\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_has_outgrown_its_idea() -> None:
    long = {file.name: n for file in FILES if (n := len(file.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long
