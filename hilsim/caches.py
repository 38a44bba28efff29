"""Folders for what takes long to make: written and read by their owner alone.

They lie in HILSIM_CACHE, else in the user's cache folder. Whatever can be changed by others, or is another user's, is
left alone, with a note; symbolic links in them are never followed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hilsim.progress import SHOWN, announce_once
from hilsim.trust import user_name, writers

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def cache_folder() -> Path:
    """HILSIM_CACHE, else hilsim's folder in the user's cache folder; whether or not it is there."""
    own = os.environ.get("HILSIM_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hilsim"


def private_folder(*names: str) -> Path | None:
    """A folder of the cache, made where it is missing, that only its owner can write to and read; None without one."""
    try:
        folder = cache_folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        for name in ("", *names):
            folder = folder / name
            if not os.path.lexists(folder):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if why := unsafe(folder.lstat(), stat.S_ISDIR, "no folder"):
                ignore(folder, why)
                return None
            if name:  # the outermost may be a folder that the user named, for other things as well
                folder.chmod(FOLDER_MODE)
    except (OSError, ValueError, RuntimeError):  # of another kind, of no home folder
        return None
    return folder


@cache
def scratch_folder() -> Path:
    """A private folder for this process alone, where there is no cache; it is removed at the end."""
    folder = tempfile.mkdtemp(prefix="hilsim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def is_private_file(file: Path) -> bool:
    """Whether a file of a `private_folder` may be read: a regular one of this user's that no other user can change."""
    try:
        why = unsafe(file.lstat(), stat.S_ISREG, "no plain file")
    except (OSError, ValueError):
        return False
    if why:
        ignore(file, why)
    return why is None


def unsafe(found: os.stat_result, is_kind: Callable[[int], bool], otherwise: str) -> str | None:
    """Why something in the cache is not used, or None; `is_kind` says of a mode whether it is what it has to be."""
    if stat.S_ISLNK(found.st_mode):
        return "a symbolic link"
    if not is_kind(found.st_mode):
        return otherwise
    if found.st_uid != os.geteuid():
        return f"of another user ({user_name(found.st_uid)})"
    others = writers(found)
    return None if others is None else f"one that {others} can write to"


def ignore(place: Path, why: str) -> None:
    """Say that something in the cache is left alone, once."""
    if SHOWN.get():
        announce_once(f"{place} is {why}: not used as a cache. Remove it, or name another folder in HILSIM_CACHE.")
