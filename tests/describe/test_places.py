"""Places that are no files to read, and names that no file can have: one message, nothing opened, nothing endless."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hilsim.commands.main import main, simulate_main
from hilsim.describe.catalogue import located
from hilsim.describe.load import load_setup
from hilsim.errors import HilsimError, InputError
from hilsim.files import expanded, folder_faults, place_faults, read_text, unreadable
from hilsim.hardware.measured.calibrate import holds_recording
from hilsim.hardware.recordings.recording import read_recording
from hilsim.places import CODE as PROJECT

ORIN = PROJECT / "scenarios" / "orin_8295.yaml"


def odd_places(folder: Path) -> dict[str, Path]:
    """A pipe that nobody writes to, a socket, a loop of links, devices without an end, impossible names."""
    os.mkfifo(folder / "pipe.yaml")
    listening = socket.socket(socket.AF_UNIX)
    short = Path(os.path.relpath(folder / "socket.yaml"))
    listening.bind(str(short))
    listening.close()
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    return {
        "pipe": folder / "pipe.yaml",
        "socket": folder / "socket.yaml",
        "loop": folder / "loop.yaml",
        "zero": Path("/dev/zero"),
        "random": Path("/dev/random"),
        "folder": folder,
        "nul": folder / "a\0b.yaml",
        "long": folder / f"{'x' * 300}.yaml",
        "stars": folder / "**" / "a**b.**",
        "deep": Path("/".join(["d"] * 3000)),
        "half a character": folder / "\ud800.yaml",
    }


def test_no_reader_opens_what_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, path in odd_places(tmp_path).items():
        for read in (read_text, load_setup, read_recording):
            with pytest.raises(HilsimError) as refused:
                read(path)
            assert str(refused.value).strip(), name
        if path.suffix != ".jsonl":
            with pytest.raises(InputError):
                holds_recording(path)
        assert unreadable(path) is not None
        for key in ("target.stand_in", "workload.conversations"):
            with pytest.raises(InputError):
                load_setup(ORIN, [f"{key}={path}" if name != "nul" else f'{key}="a\\0b"', "policy.draft_tokens=999"])
        if "\0" not in str(path) and "\ud800" not in str(path):
            assert simulate_main([str(path)]) == 2
            assert main(["check", str(path)]) == 2
            assert main(["validate", "--csv", str(path)]) == 2
            assert main(["chip", str(path) if path.suffix == ".yaml" else f"{path}.yaml"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_pipe_is_refused_with_what_to_do() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m hilsim check <(cat {ORIN})"],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a pipe, which can be read only once" in done.stderr
    assert "Write what it gives into a file first" in done.stderr


def test_a_regular_file_behind_standard_input_is_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    with (tmp_path / "x").open() as stream:
        assert unreadable(Path(f"/dev/fd/{stream.fileno()}")) is None


def test_no_writer_begins_where_nothing_can_be_written(tmp_path: Path) -> None:
    odd = odd_places(tmp_path)
    for name in ("pipe", "socket", "loop", "zero", "folder", "nul", "long", "half a character"):
        assert place_faults(odd[name], "--csv"), name
    for folder in (odd["nul"], odd["long"], odd["loop"], Path("/".join(["d"] * 3000)), Path("/dev/null/x")):
        assert folder_faults(folder, "--out")
    assert place_faults(tmp_path / ("y" * 250), "--csv")  # too long with what is put around it while it is unfinished
    assert not place_faults(tmp_path / ("y" * 200), "--csv")
    assert not list(tmp_path.glob("y*"))


def test_outputs_that_are_no_places_are_refused_before_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("x" * 300, "/dev/null/x", "/".join(["d"] * 3000)):
        assert simulate_main([str(ORIN), "--out", out]) == 2
        assert simulate_main([str(ORIN), "--trace", out]) == 2
    for out in ("a\0b", ""):
        with pytest.raises(SystemExit):
            simulate_main([str(ORIN), "--out", out])
    assert "Traceback" not in capsys.readouterr().err


def test_variables_are_filled_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILSIM_A", "$HILSIM_B")
    monkeypatch.setenv("HOME", "/home/of")
    assert expanded("x/$HILSIM_A/y") == "x/$HILSIM_B/y"
    assert expanded("~/z") == "/home/of/z"
    assert expanded("a~b/c") == "a~b/c"
    assert located("~/z", ORIN) == Path("/home/of/z")


@pytest.mark.parametrize("option", ["--realtime=1e-320", "--realtime=nan", "--uncertainty=" + "9" * 5000])
def test_numbers_out_of_all_sense_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        simulate_main([str(ORIN), option])
    assert stop.value.code == 2
    assert "expected a" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", str(2**64), "x", "1.5"])
def test_seeds_out_of_range_are_refused(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--out", str(tmp_path), f"--seed={seed}"])
    assert f"from 0 to {2**63 - 1}" in capsys.readouterr().err


def test_a_mistyped_name_is_reported_before_anything_heavy_is_imported() -> None:
    heavy = ("torch", "scipy", "numba", "tokenizers", "pydantic", "numpy", "matplotlib")
    commands = (
        "simulate_main(['no.yaml'])", "main(['check', 'no.yaml'])", "main(['record', 'no.yaml', '--out', 'x.npz'])",
        "main(['study', 'no.yaml'])", "main(['explore', 'no.yaml'])", "main(['validate', '--csv', 'no.csv'])",
        "main(['validate', '--trace', 'no.json'])", "main(['calibrate', 'no.csv', '--chip', 'x'])",
        "main(['train', '--corpus', 'no', '--out', 'x'])", "main(['card', '--models', 'no'])",
    )  # fmt: skip
    code = f"""
import sys
from hilsim.commands.main import main, simulate_main
for status in ({", ".join(commands)}):
    assert status == 2
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert done.stderr.count("no such") == len(commands)
