"""The built wheel, installed away from the checkout: commands by name on the shipped data, and on a user's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from hilsim.places import CODE
from hilsim.versions import EXTRAS


def test_every_extra_is_declared() -> None:
    project = tomllib.loads((CODE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        name: {text.partition(">=")[0] for text in texts} for name, texts in project["optional-dependencies"].items()
    }
    for package, extra in EXTRAS.items():
        assert package in declared[extra], package


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(CODE)], check=True, capture_output=True)
    (wheel,) = folder.glob("hilsim-*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "behind.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return python.parent


def run(installed: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(installed / arguments[0]), *arguments[1:]]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=clean | environment, timeout=600
    )


@pytest.mark.slow
def test_commands_work_from_another_folder(installed: Path, tmp_path: Path) -> None:
    version = run(installed, tmp_path, "hilsim", "--version")
    assert version.returncode == 0
    assert "hilsim 0." in version.stdout
    for command in (("check", "orin_8295"), ("chip", "sa8295p"), ("simulate", "paper_table", "--json")):
        done = run(installed, tmp_path, "hilsim", *command)
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["scenario"] == "paper_table"
    where = "import hilsim, sys; print(hilsim.__file__)"
    assert str(installed.parent) in run(installed, tmp_path, "python", "-c", where).stdout
    wrong = run(installed, tmp_path, "hilsim", "simulate", "orin_8925")
    assert wrong.returncode == 2
    assert "orin_8295" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_a_user_s_own_files_come_first(installed: Path, tmp_path: Path) -> None:
    """A folder's own ./chips, then HILSIM_PATH, then the shipped ones."""
    shipped = (CODE / "chips/sa8295p.yaml").read_text(encoding="utf-8")
    for place, title in ((tmp_path / "here", "My own board"), (tmp_path / "elsewhere", "Our fleet's board")):
        (place / "chips").mkdir(parents=True)
        text = re.sub(r"^title: .*$", f"title: {title}", shipped, flags=re.MULTILINE)
        (place / "chips/sa8295p.yaml").write_text(text, encoding="utf-8")
    path = {"HILSIM_PATH": str(tmp_path / "elsewhere")}
    assert "My own board" in run(installed, tmp_path / "here", "hilsim", "chip", "sa8295p", **path).stdout
    assert "Our fleet's board" in run(installed, tmp_path, "hilsim", "chip", "sa8295p", **path).stdout
    assert "board" not in run(installed, tmp_path, "hilsim", "chip", "sa8295p").stdout.splitlines()[0]
