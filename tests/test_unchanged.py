"""What was made of a file is made again once the file has changed, and not before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hilsim import unchanged
from hilsim.unchanged import made_once


def settled(file: Path, text: str) -> None:
    """Write a file, and wait until its last change counts as settled."""
    file.write_text(text)
    while unchanged.state_of(file) is None:
        time.sleep(0.005)


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    @made_once(4)
    def text_of(prefix: str, file: Path) -> str:
        read.append(file.name)
        return prefix + file.read_text()

    monkeypatch.setattr(unchanged, "SETTLED_NS", 20_000_000)
    file = tmp_path / "file"
    settled(file, "one")
    assert [text_of("", file), text_of("", file), text_of("x", file), text_of("x", file)] == ["one"] * 2 + ["xone"] * 2
    assert len(read) == 2
    before = file.stat()
    settled(file, "two")  # as long as before
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # and with the old time of change
    assert text_of("", file) == "two"
    file.unlink()
    settled(file, "new")
    assert text_of("", file) == "new"


def test_a_file_that_changed_just_now_is_always_read(tmp_path: Path) -> None:
    file, read = tmp_path / "file", []

    @made_once(4)
    def text_of(of: Path) -> str:
        read.append(of)
        return of.read_text()

    for text in ("a", "b", "c"):
        file.write_text(text)
        assert text_of(file) == text
    assert len(read) == 3
