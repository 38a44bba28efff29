"""The search itself: a planted bug is found, shrunk, and kept where a test reads it again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.found import kept, kind_of
from tests.fuzz.kind import Input, Kind
from tests.fuzz.search import Search
from tests.fuzz.shrink import shrunk


def read_planted(path: Path) -> None:
    """A reader with a bug: it fails on an x and, in another line, a y."""
    first, _, rest = path.read_text().partition("x")
    if rest and "y" in first + rest:
        raise KeyError("planted")


def letters(chance: random.Random) -> Input:
    return "letters.txt", "\n".join(chance.choice("abcdefxy") * 9 for _ in range(30)).encode()


PLANTED = Kind("planted", letters, read_planted, 1)


def test_a_planted_bug_is_found_shrunk_and_kept_as_a_test(tmp_path: Path) -> None:
    notes: list[str] = []
    search = Search([PLANTED], 1, notes.append, folder=tmp_path)
    search.run(2.0)
    (file,) = kept(tmp_path)
    assert list(search.found.values()) == [file]
    assert sorted(file.read_text()) == ["x", "y"]
    assert kind_of(file, {"planted": PLANTED}) is PLANTED
    assert search.tried.total() > 20
    assert "raised: KeyError: 'planted'" in notes[0]
    with pytest.raises(KeyError):  # the control: the file that was kept fails
        read_planted(file)


def test_shrinking_keeps_what_fails_and_no_more() -> None:
    asked: list[bytes] = []

    def fails(data: bytes) -> bool:
        asked.append(data)
        return data.count(b"a") >= 3 and b"z" in data

    assert sorted(shrunk(b"bab\nzaa\nccc" * 50, fails)) == sorted(b"aaaz")
    assert shrunk(b"bab\nzaa", fails, most_tries=0) == b"bab\nzaa"
