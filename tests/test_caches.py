"""What takes long to make is kept for its owner alone, and is not believed where anybody else could have written it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hilsim import caches, progress
from hilsim.caches import is_private_file, private_folder, scratch_folder
from hilsim.commands.main import main
from hilsim.compiler import plan_cache
from hilsim.compiler.plan import Plan
from hilsim.errors import CheckpointError, InputError
from hilsim.places import CODE as PROJECT
from hilsim.screen import compiled
from hilsim.study.store import Store
from hilsim.text import tokenizer_file

Capture = pytest.CaptureFixture[str]
FALSE = Plan("a false plan", "", "", "", "", "", "", "", ())
TRUE = Plan("what was made", "", "", "", "", "", "", "", ())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("HILSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plan_cache, "KNOWN", {})
    progress.announce_once.cache_clear()
    return tmp_path / "cache"


def mode(place: Path) -> int:
    return stat.S_IMODE(place.lstat().st_mode)


def test_folders_and_files_are_their_owners_alone(cache: Path) -> None:
    before = os.umask(0)  # whatever the user's own habits are
    try:
        plan_cache.cached(("a",), lambda: TRUE)
    finally:
        os.umask(before)
    (file,) = (cache / "plans").iterdir()
    assert (mode(cache), mode(file.parent), mode(file)) == (0o700, 0o700, 0o600)


def test_a_named_folder_keeps_its_own_mode(cache: Path) -> None:
    cache.mkdir(mode=0o755)
    assert private_folder("plans") == cache / "plans"
    assert (mode(cache), mode(cache / "plans")) == (0o755, 0o700)


def open_to_all(place: Path) -> None:
    place.chmod(0o777 if place.is_dir() else 0o666)


def linked(place: Path) -> None:
    """Moved elsewhere, with a link in its place."""
    moved = place.rename(place.with_name(f"{place.name}-elsewhere"))
    place.symlink_to(moved)


SPOILED = {"the cache": ".", "its folder": "plans", "the file": "plans/FILE"}


@pytest.mark.parametrize("spoil", [None, open_to_all, linked])
@pytest.mark.parametrize("part", SPOILED)
def test_a_plan_that_others_could_have_written_is_not_believed(
    part: str, spoil: Callable[[Path], None] | None, cache: Path, capsys: Capture
) -> None:
    """Where nothing is spoiled the planted plan is believed: so the check decides."""
    plan_cache.cached(("a",), lambda: TRUE)
    plan_cache.KNOWN.clear()
    (file,) = (cache / "plans").iterdir()
    file.write_text(FALSE.dumps())
    place = cache / SPOILED[part].replace("FILE", file.name)
    if spoil is not None:
        spoil(place)
    expected = FALSE if spoil is None else TRUE
    assert plan_cache.cached(("a",), lambda: TRUE) == expected
    told = capsys.readouterr().err
    if spoil is None:
        assert told == ""
    else:
        why = "a symbolic link" if spoil is linked else "one that every user of this machine can write to"
        assert told == f"{place} is {why}: not used as a cache. Remove it, or name another folder in HILSIM_CACHE.\n"


def test_what_another_user_put_there_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    folder = private_folder("plans")
    assert folder is not None
    (folder / "file").touch(0o600)
    assert is_private_file(folder / "file")
    monkeypatch.setattr(caches.os, "geteuid", lambda: 4242)
    assert private_folder("plans") is None
    assert not is_private_file(folder / "file")
    assert "of another user" in capsys.readouterr().err


def test_nothing_is_written_through_a_link(cache: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    cache.mkdir()
    (cache / "plans").symlink_to(theirs)
    plan_cache.cached(("a",), lambda: TRUE)
    assert not list(theirs.iterdir())


def test_a_link_in_place_of_a_plan_is_replaced_and_not_followed(cache: Path, tmp_path: Path) -> None:
    plan_cache.cached(("a",), lambda: TRUE)
    plan_cache.KNOWN.clear()
    (file,) = (cache / "plans").iterdir()
    file.unlink()
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    file.symlink_to(theirs)
    plan_cache.cached(("a",), lambda: TRUE)
    assert theirs.read_text() == "precious"
    assert not file.is_symlink()


def test_no_cache_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("/dev/null/nowhere", "\0", str(tmp_path / ("a" * 300))):
        monkeypatch.setattr(caches, "cache_folder", lambda name=name: Path(name))
        assert private_folder("plans") is None
    monkeypatch.undo()
    assert mode(scratch_folder()) == 0o700


def test_machine_code_is_kept_in_a_private_folder_or_not_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba unpickles what lies there."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "unchanged")
    cache.mkdir()
    (cache / "loops").mkdir()
    (cache / "loops").chmod(0o777)
    assert not compiled.use_loop_cache()
    assert numba.config.CACHE_DIR == "unchanged"
    (cache / "loops").rmdir()
    assert compiled.use_loop_cache()
    folder = Path(numba.config.CACHE_DIR)
    assert folder.is_relative_to(cache / "loops")
    assert {mode(place) for place in (folder, folder.parent)} == {0o700}


def test_a_mark_of_another_user_proves_no_tokenizer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark says that a tokenizer was tried in a process with limits; whoever can write one could skip that."""
    tried: list[str] = []

    def refuse(*given: object, **named: object) -> dict[str, str]:
        tried.append("tried")
        return {"kind": "Panic", "error": "no tokenizer"}

    monkeypatch.setattr(tokenizer_file.limited, "ask", refuse)
    with pytest.raises(CheckpointError, match="Panic"):
        tokenizer_file.prove("text", Path("tokenizer.json"))
    folder = private_folder("tokenizers")
    assert folder is not None
    digest = tokenizer_file.hashlib.sha256(f"{tokenizer_file.tokenizers.__version__}\ntext".encode()).hexdigest()[:32]
    (folder / digest).touch(0o666)
    (folder / digest).chmod(0o666)
    with pytest.raises(CheckpointError, match="Panic"):
        tokenizer_file.prove("text", Path("tokenizer.json"))
    (folder / digest).chmod(0o600)
    tokenizer_file.prove("text", Path("tokenizer.json"))
    assert len(tried) == 2


# The stored points of a study.


def opened(file: Path) -> None:
    with Store(file, {"ground": "one"}, "a study", {"cores": "1"}):
        pass


def test_a_store_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        opened(tmp_path / "study.sqlite")
    finally:
        os.umask(before)
    assert mode(tmp_path / "study.sqlite") == 0o600
    opened(tmp_path / "study.sqlite")


@pytest.mark.parametrize(("spoil", "why"), [(open_to_all, "every user of this machine can write"), (linked, "link")])
def test_a_store_that_others_could_have_written_is_refused(
    spoil: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.sqlite"
    opened(file)
    spoil(file)
    with pytest.raises(InputError, match=why):
        opened(file)


def test_a_study_writes_nothing_through_a_link(tmp_path: Path, capsys: Capture) -> None:
    theirs = tmp_path / "theirs"
    (tmp_path / "study.sqlite").symlink_to(theirs)  # to nothing that is there yet
    study = {
        "name": "one",
        "scenario": str(PROJECT / "scenarios/paper_table.yaml"),
        "axes": [{"key": "seed", "values": [1]}],
    }
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study))
    assert main(["study", str(file), "--out", str(tmp_path), "--workers", "1"]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert not theirs.exists()
