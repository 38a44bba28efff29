"""The tutorials are run: what they say to save is saved, commands are run, and what they claim is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.describe.policy import TargetOnly
from hilsim.errors import InputError
from hilsim.measure.metrics import compare_texts
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from tests.running import run_here
from tests.scenes import shipped, synthetic, table_setup

pytestmark = pytest.mark.usefixtures("at_home")

TEXT = (PROJECT / "docs" / "tutorials" / "policy.md").read_text(encoding="utf-8")
(FUNCTION,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.slow
def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    file = tmp_path / "streak.py"
    file.write_text(FUNCTION, encoding="utf-8")
    claimed = re.findall(r"a speedup of (\d\.\d\d), against (\d\.\d\d)", TEXT)[0]
    printed = []
    for command in COMMANDS.splitlines():
        words = shlex.split(command.replace("streak.py", str(file)))
        done = run_here(words[1:])
        assert done.returncode == 0, done.stderr
        assert "0 mismatches" in done.stdout
        printed.append(re.findall(r"speedup (\d\.\d\d)", done.stdout)[0])
    assert printed[0] == claimed[0]


def test_it_emits_the_targets_tokens_under_the_ratio_rule(tmp_path: Path) -> None:
    file = tmp_path / "streak.py"
    file.write_text(FUNCTION, encoding="utf-8")
    setup = shipped(
        "ethernet", f"policy={{name: own, function: {file}:streak}}", "workload.count=1", "workload.max_turns=2",
        "logits.dtype=float64",
    )  # fmt: skip
    sources = Sources(setup)
    plain, ours = simulate(setup, sources.fresh(), TargetOnly(name="target_only")), simulate(setup, sources.fresh())
    assert compare_texts(plain, ours)["mismatches"] == 0


@pytest.mark.parametrize(
    ("source", "policy", "words"),
    [
        ("", "function: nowhere.py:f", "no such file"),
        ("def f(context, request): return None", "function: FILE:f", "not a generator function"),
        ("def f(context, request):\n    yield", "function: FILE:g", "of that file: f"),
        ("1 / 0", "function: FILE:f", "ZeroDivisionError"),
        ("def f(context request)", "function: FILE:f", "SyntaxError"),
        ("def f(context, request, *, most):\n    yield", "function: FILE:f", "missing a required argument: 'most'"),
        ("def f(context, request):\n    yield", "function: FILE:f, parameters: {least: 1}", "unexpected keyword"),
        ("", "function: no colon", "of the form"),
        ("def f(context, request):\n    yield context.board.env.timeout(0)\n    request.roomy", "function: FILE:f",
         "line 3 with AttributeError"),
        ("def f(context, request):\n    yield context.board.env.timeout(1)", "function: FILE:f",
         "ends before the answer"),
        ("import sys\ndef f(context, request):\n    yield sys.exit(0)", "function: FILE:f", "SystemExit"),
    ],
)  # fmt: skip
def test_a_faulty_policy_is_refused_with_its_place(tmp_path: Path, source: str, policy: str, words: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        run(tmp_path, f"policy={{name: own, {policy.replace('FILE', str(file))}}}")


def run(folder: Path, policy: str) -> None:
    setup = table_setup(folder, policy)
    simulate(setup, synthetic(setup))


COMPILE = (PROJECT / "docs" / "tutorials" / "compile.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_module_and_a_profile_of_ones_own_as_the_page_says(tmp_path: Path) -> None:
    (module,) = re.findall(r"```python\n(.*?)```", COMPILE, flags=re.DOTALL)
    (profile,) = re.findall(r"```yaml\n(.*?)```", COMPILE, flags=re.DOTALL)
    (tmp_path / "ranker.py").write_text(module, encoding="utf-8")
    (tmp_path / "my_sdk.yaml").write_text(profile, encoding="utf-8")
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", COMPILE, flags=re.DOTALL) for line in block.splitlines()
    ]
    told = []
    for command in commands:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "120"},
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    now, then, pieces, own = told
    assert "activations: as it is" in now
    for part in ("rewrite   two_encoders", "rewrite   topk_by_rounds", "rewrite   cumsum_by_matmul", "ranker.py:"):
        assert part in then
    assert "one_call" not in then.split("rewrite ")[1]
    assert (tmp_path / "out/ranker/module.pt2").exists()
    assert "2 crossings" in pieces
    assert "rewrite   gelu_by_" in own
    assert "k = 5: at most 4" in own
