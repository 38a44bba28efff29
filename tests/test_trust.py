"""Files from strangers run nothing unless the user allows it; each of them does where it is allowed."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hilsim
from hilsim import trust
from hilsim.commands.main import main
from hilsim.compiler import program
from hilsim.describe.load import load_setup
from hilsim.describe.study_load import load_study
from hilsim.errors import InputError
from hilsim.hardware.measured.rig import file_name, record_place
from hilsim.places import CODE as PROJECT
from hilsim.study.workers import Processes
from hilsim.trust import carried, code_allowed, is_code_allowed, leave_strangers_folder, require_code, stranger
from tests.leave import Question, leave_of
from tests.scenes import LINK, TABLE
from tests.studies import POLICY, ran, write_study

SPOKEN = "import pathlib\npathlib.Path({mark!r}).touch()\n"
POLICY_CODE = "def policy(context, request):\n    yield context.board.env.timeout(1)\n"
MODULE_CODE = "from tests.compile_modules import siamese as build\n"
ENGINE_CODE = "class Engine:\n    load = prefill = step = rewind = close = lambda self, *given: None\n"
Capture = pytest.CaptureFixture[str]


class Folders:
    """The user's home, a stranger's folder, and the file that is there once a stranger's code has run."""

    def __init__(self, place: Path):
        self.home, self.elsewhere, self.mark = place / "home", place / "elsewhere", place / "has run"
        self.home.mkdir()
        self.elsewhere.mkdir()

    def code(self, text: str, name: str = "theirs.py", folder: Path | None = None) -> Path:
        """A file of Python that leaves the mark when it is run."""
        file = (folder or self.elsewhere) / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(SPOKEN.format(mark=str(self.mark)) + text)
        return file

    def scenario(self, folder: Path, **changes: Any) -> Path:
        """A scenario with its link beside it, and lines of JSON after it."""
        (folder / "link.yaml").write_text(LINK)
        file = folder / "scenario.yaml"
        kept = [line for line in TABLE.replace("LINK", "link.yaml").split("\n") if not line.startswith("policy:")]
        lines = kept if "policy" in changes else TABLE.replace("LINK", "link.yaml").split("\n")
        file.write_text("\n".join([*lines, *(f"{key}: {json.dumps(value)}" for key, value in changes.items()), ""]))
        return file


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    found = Folders(tmp_path)
    monkeypatch.setenv("HOME", str(found.home))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return found


def own_policy(folders: Folders) -> list[str]:
    """The user's scenario, and a policy from elsewhere."""
    file = folders.code(POLICY_CODE)
    policy = {"name": "own", "function": f"{file}:policy"}
    return ["simulate", str(folders.scenario(folders.home, policy=policy)), "--json"]


def own_policy_by_link(folders: Folders) -> list[str]:
    """The same, by a link in the user's home."""
    (folders.home / "mine.py").symlink_to(folders.code(POLICY_CODE))
    policy = {"name": "own", "function": "mine.py:policy"}
    return ["simulate", str(folders.scenario(folders.home, policy=policy)), "--json"]


def strangers_scenario(folders: Folders) -> list[str]:
    """A stranger's scenario that names a file of the user's own, with parameters of the stranger's."""
    file = folders.code(POLICY_CODE, folder=folders.home)
    policy = {"name": "own", "function": f"{file}:policy"}
    return ["simulate", str(folders.scenario(folders.elsewhere, policy=policy)), "--json"]


def module_file(folders: Folders) -> list[str]:
    """A module of a network beside a stranger's scenario, as a file."""
    folders.code(MODULE_CODE)
    networks = [{"name": "one", "module": "theirs.py:build"}]
    return ["check", str(folders.scenario(folders.elsewhere, networks=networks))]


def module_name(folders: Folders) -> list[str]:
    """The same by a module's name."""
    folders.code(MODULE_CODE, "theirs_by_name.py")
    networks = [{"name": "one", "module": "theirs_by_name:build"}]
    return ["check", str(folders.scenario(folders.elsewhere, networks=networks))]


def module_in_package(folders: Folders) -> list[str]:
    """The same in a package without a file of its own."""
    folders.code(MODULE_CODE, "inside.py", folders.elsewhere / "their_package")
    networks = [{"name": "one", "module": "their_package.inside:build"}]
    return ["check", str(folders.scenario(folders.elsewhere, networks=networks))]


def checked_module(folders: Folders) -> list[str]:
    """A file that the command line names."""
    return ["check", "--module", f"{folders.code(MODULE_CODE)}:build", "--chip", "sa8295p"]


def engine(folders: Folders) -> list[str]:
    """An agent's engine; an address that is none ends the command after it was looked at."""
    engine = f"{folders.code(ENGINE_CODE)}:Engine"
    return ["agent", "--engine", engine, "--model", f"toy={PROJECT / 'LICENSE'}", "--listen", "nonsense"]


class Touch:
    """Leaves the mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def saved_program(folders: Folders) -> list[str]:
    """A program saved by PyTorch, with example inputs that are a pickle of something else."""
    file, plain = folders.elsewhere / "their.pt2", io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), str(file))
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    torch.save(Touch(folders.mark), plain)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, plain.getvalue() if "sample_inputs" in name else data)
    return ["check", "--program", str(file), "--chip", "sa8295p"]


def study(folders: Folders) -> list[str]:
    """A study of a stranger's, of the user's own scenario and with the user's own policy among its values."""
    file = folders.code(POLICY_CODE, folder=folders.home)
    mine = folders.scenario(folders.home)
    axes = [{"key": "policy", "values": [{"name": "own", "function": f"{file}:policy"}]}]
    theirs = folders.elsewhere / "study.yaml"
    theirs.write_text(json.dumps({"name": "theirs", "scenario": str(mine), "axes": axes}))
    return ["study", str(theirs), "--out", str(folders.home / "out"), "--workers", "1"]


WAYS = [
    own_policy, own_policy_by_link, strangers_scenario, module_file, module_name, module_in_package, checked_module,
    engine, saved_program, study,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_code_of_strangers_runs_where_it_is_allowed_and_only_there(
    way: Callable[[Folders], list[str]], folders: Folders, capsys: Capture
) -> None:
    arguments = way(folders)
    program.made_by.cache_clear()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert not folders.mark.exists(), message
    for part in ("which would run", "--allow-code", "outside hilsim's folder and yours", "expected code inside"):
        assert part in message
    assert "Traceback" not in message
    main([*arguments, "--allow-code"])
    assert folders.mark.exists(), capsys.readouterr().err


def test_the_message_names_file_key_code_and_remedy(folders: Folders, capsys: Capture) -> None:
    scenario = own_policy(folders)[1]
    theirs = folders.elsewhere / "theirs.py"
    assert main(["check", scenario]) == 2
    assert capsys.readouterr().err == (
        f"{scenario}: policy.function: found '{theirs}:policy', which would run {theirs} (outside hilsim's folder and "
        "yours); expected code inside hilsim's folder or your own, named by a file there. Read it first. Then add "
        "--allow-code (allow_code=True in Python), or move both into your home folder.\n"
    )


def test_an_installed_module_is_none_that_a_stranger_may_call(folders: Folders) -> None:
    """`http.server:test` would serve the current folder to the network. A user's own scenario names what it likes."""
    networks = [{"name": "one", "module": "http.server:test"}]
    with pytest.raises(InputError, match=r"named by .*scenario\.yaml"):
        load_setup(folders.scenario(folders.elsewhere, networks=networks))
    assert load_setup(folders.scenario(folders.home, networks=networks)).networks


def test_networks_of_our_own_need_no_leave(folders: Folders) -> None:
    networks = [{"name": "intent", "module": "hilsim.networks.intent:matcher_22m"}]
    assert load_setup(folders.scenario(folders.elsewhere, networks=networks)).networks
    networks[0]["module"] = "hilsim.commands.main:run_command_line"
    with pytest.raises(InputError, match="which would run"):
        load_setup(folders.scenario(folders.elsewhere, networks=networks))


def test_the_interface_for_scripts_asks_for_the_same_leave(folders: Folders) -> None:
    scenario = strangers_scenario(folders)[1]
    with pytest.raises(InputError, match="allow_code=True"):
        hilsim.load(scenario)
    setup = hilsim.load(scenario, allow_code=True)
    assert not is_code_allowed()
    with pytest.raises(InputError, match="ends before the answer does"):
        hilsim.simulate(setup)
    assert folders.mark.exists()
    assert not is_code_allowed()


# Study workers, clusters and threads.


def test_leave_goes_to_worker_processes_with_the_work() -> None:
    for allowed in (False, True):
        with code_allowed(allowed):
            workers: Processes[Question, bool] = Processes(leave_of, 1, lambda job, reason: False)
        try:
            assert list(workers.run([Question("a"), Question("b")])) == [allowed, allowed]
        finally:
            workers.close()


def test_leave_goes_to_a_cluster_as_part_of_the_work() -> None:
    """Dask pickles the function, and calls it in a thread of its own."""
    for allowed in (False, True):
        with code_allowed(allowed):
            sent = pickle.dumps(carried(is_code_allowed))
        found: list[bool] = []
        thread = threading.Thread(target=lambda sent=sent, found=found: found.append(pickle.loads(sent)()))
        thread.start()
        thread.join()
        assert found == [allowed]


@pytest.mark.slow
def test_a_study_with_workers_runs_code_that_is_allowed(folders: Folders, capsys: Capture) -> None:
    file = write_study(folders.elsewhere / "study", axes=[{"key": "logits.acceptance", "values": [0.4, 0.6]}])
    arguments = ["study", str(file), "--out", str(folders.home / "out"), "--workers", "2"]
    assert main(arguments) == 2
    assert POLICY["function"] in capsys.readouterr().err
    assert ran(file.parent) == 0
    assert main([*arguments, "--allow-code"]) == 0, capsys.readouterr().err
    assert ran(file.parent) > 0


def test_a_study_beside_its_policy_in_the_home_folder_needs_no_leave(folders: Folders) -> None:
    assert load_study(write_study(folders.home / "study"), [], []).choices


# Whose a file is.


def test_a_file_is_the_users_own_in_home_and_in_the_checkout(folders: Folders) -> None:
    mine = folders.home / "mine.py"
    mine.touch()
    assert stranger(mine) is None
    assert stranger(PROJECT / "tests/fake_engines.py") is None
    assert stranger(Path(json.__file__)) is None
    assert stranger(Path(torch.__file__)) is None
    assert stranger(folders.elsewhere) == "outside hilsim's folder and yours"
    assert stranger(folders.home / "nothing.py") is not None
    (folders.home / "round").symlink_to("round")
    assert stranger(folders.home / "round") is not None


@pytest.mark.parametrize("part", [".", "inside", "inside/mine.py"])
def test_what_others_can_write_to_is_a_strangers(part: str, folders: Folders) -> None:
    mine = folders.home / "inside/mine.py"
    mine.parent.mkdir()
    mine.touch()
    assert stranger(mine) is None
    place = folders.home / part
    place.chmod(place.stat().st_mode | stat.S_IWOTH)
    assert stranger(mine) == f"every user of this machine can write to {place}"


def test_a_group_of_one_user_is_nobody_else(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that give every user a group let that group write to new files."""
    mine = folders.home / "mine.py"
    mine.touch()
    mine.chmod(0o664)
    monkeypatch.setattr(trust, "is_private", lambda group, owner: True)
    assert stranger(mine) is None
    monkeypatch.setattr(trust, "is_private", lambda group, owner: False)
    assert stranger(mine) == f"the group {trust.group_name(mine.stat().st_gid)} can write to {mine}"


def test_groups_with_members_or_another_name_are_not_of_one_user(monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    name = trust.user_name(user)

    def group(named: str, *members: str) -> bool:
        entry = trust.grp.struct_group((named, "x", 7, list(members)))
        monkeypatch.setattr(trust.grp, "getgrgid", lambda number: entry)
        return trust.is_private(7, user)

    assert group(name)
    assert group(name, name)
    assert not group(name, name, "bob")
    assert not group("users")


def test_files_of_another_user_are_a_strangers(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = folders.home / "mine.py"
    mine.touch()
    monkeypatch.setattr(trust, "ROOT", -1)
    monkeypatch.setattr(trust.os, "geteuid", lambda: 4242)
    owner = trust.user_name(mine.stat().st_uid)
    assert trust.changeable(mine, folders.home) == f"{mine} belongs to another user, {owner}"
    assert stranger(mine) == "outside hilsim's folder and yours"  # a home that is another's is none
    assert stranger(PROJECT / "simulate.py") is None  # who owns hilsim's code decides what runs anyhow


@pytest.mark.parametrize("home", ["/", "/tmp", "/nowhere", ""])
def test_a_home_that_is_none_makes_nothing_the_users_own(home: str, folders: Folders, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", home)
    file = folders.elsewhere / "theirs.py"
    file.touch()
    assert stranger(file) is not None


def test_a_link_out_of_home_is_followed(folders: Folders) -> None:
    theirs = folders.elsewhere / "theirs.py"
    theirs.touch()
    mine = folders.home / "mine.py"
    mine.symlink_to(theirs)
    assert stranger(mine) == f"it is a link to {theirs}, outside hilsim's folder and yours"
    with pytest.raises(InputError, match="it is a link to"):
        require_code("mine.py", [mine], "scenario", "policy")


# Python's path.


def in_their_folder(folders: Folders, *command: str) -> str:
    """Run Python in the stranger's folder; returns its standard error."""
    env = {"PYTHONPATH": str(PROJECT), "HOME": str(folders.home)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folders.elsewhere, env=env, capture_output=True, text=True, check=False
    )
    return done.stderr


def test_what_lies_in_the_current_folder_is_not_imported_in_place_of_a_package(folders: Folders) -> None:
    folders.code("raise ImportError\n", "yaml.py")
    told = in_their_folder(folders, "-m", "hilsim", "check", str(PROJECT / "scenarios/paper_table.yaml"))
    assert not folders.mark.exists(), told
    plainly = "from hilsim.commands.main import main; main(['check', 'nowhere/a.yaml']); import yaml"
    in_their_folder(folders, "-c", plainly)
    assert folders.mark.exists()


@pytest.mark.slow
def test_processes_beside_this_one_do_not_look_into_the_current_folder(folders: Folders) -> None:
    for name in ("json", "multiprocessing", "hilsim"):
        folders.code("raise ImportError\n", f"{name}.py")
    script = folders.home / "script.py"
    script.write_text(
        "from hilsim.study.workers import Processes\nfrom hilsim.text import limited\n"
        "from tests.leave import Question, leave_of\n"
        "if __name__ == '__main__':\n"
        "    limited.ask(5, 2**32, do='render', template='a', special={}, messages=[], cue=False, epoch='1')\n"
        "    workers = Processes(leave_of, 1, print)\n"
        "    print(list(workers.run([Question('a')])))\n    workers.close()\n"
    )
    told = in_their_folder(folders, "-P", str(script))
    assert not folders.mark.exists(), told
    assert told == ""
    in_their_folder(folders, "-c", "import json")
    assert folders.mark.exists()


def test_a_strangers_folder_leaves_the_path_and_ones_own_stays(folders: Folders, monkeypatch: Any) -> None:
    for folder, stays in ((folders.home, True), (folders.elsewhere, False)):
        monkeypatch.chdir(folder)
        for first in ("", str(folder)):
            monkeypatch.setattr(sys, "path", [first, "/usr/lib/nothing"])
            leave_strangers_folder()
            assert (sys.path[0] == first) is stays


def test_a_module_of_ones_own_cannot_be_replaced_from_a_strangers_folder(folders: Folders, monkeypatch: Any) -> None:
    """The user's own factory imports `helper`; a file of that name lies where the command runs."""
    folders.code("", "helper.py")
    mine = folders.home / "mine.py"
    mine.write_text("import torch\ndef build():\n    import helper\n    return torch.nn.ReLU(), torch.ones(1, 4)\n")
    monkeypatch.chdir(folders.elsewhere)
    with pytest.raises(InputError, match="No module named 'helper'"):
        program.subject_of(f"{mine}:build")
    assert not folders.mark.exists()
    with code_allowed(True):
        program.subject_of(f"{mine}:build")
    assert folders.mark.exists()


# What files name without code.


def test_a_strangers_scenario_writes_nothing_outside_the_current_folder(folders: Folders, monkeypatch: Any) -> None:
    """A recording holds text from the other end of the line, and a shell would run some of it: `~/.bash_aliases`."""
    setup = load_setup(folders.scenario(folders.elsewhere))
    mine = load_setup(folders.scenario(folders.home))
    monkeypatch.chdir(folders.home)
    (folders.home / "out.jsonl").symlink_to(folders.elsewhere / "out.jsonl")
    for name in ("~/.bash_aliases", "../up.jsonl", str(folders.elsewhere / "a.jsonl"), "plain.txt", "out.jsonl"):
        with pytest.raises(InputError, match="below the folder where the command runs"):
            record_place(name, setup, "npu")
        assert record_place(name, mine, "npu")
    assert record_place("deep/board.jsonl", setup, "npu") == Path("deep/board.jsonl")


@pytest.mark.parametrize("name", ["../../up", "/tmp/up", "..", ".hidden", "a/../../b", "\0", "two words"])
def test_a_name_leads_out_of_no_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / file_name(name, "chip/npu")
    assert file.parent == tmp_path
    assert file.resolve().parent == tmp_path.resolve()
    assert not file.name.startswith(".")
    assert file.name.endswith("chip-npu.jsonl")


# Where code can be run from: all of it, by name. Whoever adds a place has to ask for leave there, and say so here.

RUNS = {
    "exec_module": {"compiler/program.py", "hardware/agent/named.py", "sim/policies/own.py"},
    "import_module": {
        "compiler/program.py", "hardware/agent/named.py",
        # of our own, and of packages by names in our sources
        "__init__.py", "commands/main.py", "commands/agent_test.py", "show/table.py",
    },
    "Popen": {"hardware/agent/subprocess_engine.py", "text/limited.py"},
}  # fmt: skip
LOADS = {"compiler/saved_programs.py": "torch.export.load", "training/fitting.py": "torch.load of weights alone"}
NEVER = {"eval", "exec", "system", "popen", "unsafe_load", "full_load", "run_path", "run_module", "__import__"}
FLAGS = {"shell", "allow_pickle", "weights_only"}
PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def test_code_is_run_in_these_places_alone() -> None:
    found: dict[str, set[str]] = {name: set() for name in RUNS}
    loads = set()
    for file in sorted((PROJECT / "hilsim").rglob("*.py")):
        inside = str(file.relative_to(PROJECT / "hilsim"))
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not {name.split(".")[0] for name in named} & PICKLES, inside
                if getattr(node, "module", None) in ("torch.export", "torch") and "load" in named:
                    loads.add(inside)
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            module = getattr(node.func.value, "id", "?") if isinstance(node.func, ast.Attribute) else ""
            given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg in FLAGS}
            assert given.get("shell", "False") == "False", inside
            assert given.get("allow_pickle", "False") == "False", inside
            # `eval` of a module in PyTorch and `platform.system` are none of these.
            if called in NEVER and not (called in ("eval", "system") and module not in ("", "os", "builtins")):
                raise AssertionError(f"{inside} calls {called}")
            if called == "load" and module == "torch":
                assert given["weights_only"] == "True", inside
                loads.add(inside)
            if module == "yaml":
                assert called in ("compose", "parse", "dump", "safe_dump"), inside
            if called in found:
                found[called].add(inside)
    assert found == RUNS
    assert loads == LOADS.keys()


def test_the_page_names_every_place() -> None:
    page = (PROJECT / "docs/threat_model.md").read_text(encoding="utf-8")
    for word in ("policy.function", "networks[].module", "--module", "--engine", "--program", "--allow-code"):
        assert word in page
