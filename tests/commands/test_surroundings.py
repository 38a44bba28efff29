"""A full disk, a read-only folder, no home, an output that nobody reads: in every command a clean end, with words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hilsim.commands.arguments import require_sources
from hilsim.commands.main import parse
from hilsim.errors import InputError
from tests.commands.lines import COMMANDS, ENDLESS, LONG, UNANSWERED, furnished, line_of
from tests.commands.test_ending import require_clean
from tests.warm import Done, Surroundings, Warm

NOBODY = 65534
WITHOUT_NAME = 54321  # a user that the system knows nothing of, as in a container
TRIED = [command for command in COMMANDS if command not in (*ENDLESS, *LONG)]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    opened = Warm()
    yield opened
    opened.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="hilsim-surroundings-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def ended(command: tuple[str, ...], warm: Warm, folder: Path, around: Surroundings) -> Done:
    """How a command ends there; whatever comes, it keeps what every command promises."""
    running = warm.start(line_of(command), folder, around)
    done = running.ended(seconds=240)
    require_clean(done, running, folder)
    assert done.status in (0, 1, 2), (done.status, done.errors)
    if done.status == 2:
        assert done.errors.strip(), "refused without a message"
    return done


def new_files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def accepts(words: list[str]) -> bool:
    """Whether a command line is one that a command begins to work on."""
    try:
        require_sources(parse(words))
    except (SystemExit, InputError):
        return False
    return True


def test_every_command_has_a_line_that_it_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would end at once, and no signal and no surroundings would ever meet it."""
    monkeypatch.chdir(furnished(tmp_path / "usual"))
    assert [command for command in COMMANDS if not accepts(line_of(command))] == []
    assert not accepts(["campaign", "x"])  # the control
    assert not accepts(["quality", "--no-such-option"])


@pytest.mark.slow
@pytest.mark.parametrize("command", TRIED, ids=" ".join)
def test_every_command_in_every_surroundings(command: tuple[str, ...], warm: Warm, place: Path) -> None:
    """Each once as usual, to know what it prints and writes."""
    usual = furnished(place / "usual")
    before = new_files(usual)
    plain = ended(command, warm, usual, Surroundings())
    assert plain.status in ((2,) if command in UNANSWERED else (0, 1)), f"it refuses its own line: {plain.errors}"
    assert command not in UNANSWERED or "expected an agent that answers" in plain.errors
    written = new_files(usual) - before

    for name, output in (("a closed pipe", "closed"), ("a full device", "/dev/full")):
        done = ended(command, warm, furnished(place / name), Surroundings(output=output))
        if plain.output:
            assert done.status == 2, name
            assert len([line for line in done.errors.splitlines() if "standard output: found" in line]) == 1, name

    full = furnished(place / "full")
    done = ended(command, warm, full, Surroundings(most_file_bytes=64, output="/dev/null"))
    if any((usual / file).stat().st_size > 64 for file in written):
        assert done.status == 2, "the disk is full"

    locked = furnished(place / "locked")
    locked.chmod(0o555)
    nobody = NOBODY if os.geteuid() == 0 else None
    done = ended(command, warm, locked, Surroundings(user=nobody, output="/dev/null"))
    locked.chmod(0o755)
    assert new_files(locked) == before
    if written:
        assert done.status == 2, "the folder is read-only"

    homes: list[Surroundings] = [Surroundings({"HOME": None, "HILSIM_CACHE": None, "XDG_CACHE_HOME": None})]
    homes.append(Surroundings({"HOME": "/dev/null/none", "HILSIM_CACHE": None, "XDG_CACHE_HOME": None}))
    for number, around in enumerate(homes):
        done = ended(command, warm, furnished(place / f"home {number}"), around)
        assert done.status == plain.status, done.errors


def test_a_full_disk_and_a_closed_pipe_have_words_of_their_own(warm: Warm, place: Path) -> None:
    expected = {"/dev/full": "no space left on device; expected room for all that is printed",
                "closed": "a closed pipe; expected a reader until the end"}  # fmt: skip
    for number, (output, words) in enumerate(expected.items()):
        done = ended(("explain",), warm, furnished(place / str(number)), Surroundings(output=output))
        assert f"standard output: found {words}" in done.errors


def test_a_user_that_the_system_does_not_know_has_no_home(warm: Warm, place: Path) -> None:
    folder = furnished(place / "container")
    folder.chmod(0o777)
    user = WITHOUT_NAME if os.geteuid() == 0 else None  # only root becomes another user
    gone: dict[str, str | None] = {"HOME": None, "HILSIM_CACHE": None, "XDG_CACHE_HOME": None}
    done = ended(("chip",), warm, folder, Surroundings(gone, user=user))
    assert done.status == 0, done.errors
    done = ended(("simulate",), warm, folder, Surroundings(gone, user=user))
    assert done.status == 0, done.errors
