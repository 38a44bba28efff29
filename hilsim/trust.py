"""Whose code may run: the one place that decides whether a file may be executed.

Code is what Python imports, calls or unpickles: policies, modules of networks, engines, saved programs. It runs where
both its own file and the file that names it are the user's: inside hilsim's own folder, the home folder of the user,
or the folders of installed packages; symbolic links are followed before anything is compared. A file or folder on the
way to it that belongs to another user, or that others can write to, makes it a stranger's. `--allow-code`, or
`allow_code=True`, runs it all the same. docs/threat_model.md says against what this protects.
"""

from __future__ import annotations

import grp
import os
import pwd
import site
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, partial
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import ParamSpec, TypeVar

from hilsim.errors import Fault, InputError
from hilsim.places import DATA, PACKAGE

ALLOWED = ContextVar("ALLOWED", default=False)
OURS = "hilsim.networks."  # modules that any scenario may name: they build networks and nothing else
EXPECTED = "code inside hilsim's folder or your own, named by a file there"
REMEDY = "Read it first. Then add --allow-code (allow_code=True in Python), or move both into your home folder."
ROOT = 0
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def code_allowed(allowed: bool) -> Iterator[None]:
    """Whether code of strangers may run in this block."""
    before = ALLOWED.set(allowed)
    try:
        yield
    finally:
        ALLOWED.reset(before)


def is_code_allowed() -> bool:
    """Whether the user allows code of strangers here."""
    return ALLOWED.get()


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """The function with what is allowed here, for another process or thread, whose own default is nothing."""
    return partial(call_allowed, is_code_allowed(), function)


def call_allowed(allowed: bool, function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Call a function where code of strangers may or may not run."""
    with code_allowed(allowed):
        return function(*given, **named)


def require_code(named: str, files: Sequence[Path], source: str, place: str, *named_in: Path) -> None:
    """Raises `InputError` where the user has to allow what `named` would run; `code_fault` has the arguments."""
    if fault := code_fault(named, files, source, place, *named_in):
        raise InputError([fault])


def code_fault(named: str, files: Sequence[Path], source: str, place: str, *named_in: Path) -> Fault | None:
    """Why the user has to allow the code in `files`, or None.

    `named` is what names it, as it is written, `source` and `place` where that stands; `named_in` are the files that
    name it, none where the command line does.
    """
    if is_code_allowed():
        return None
    runs = f"{named!r}, which would run {' and '.join(map(str, files)) or named}"
    why = next((f" ({why})" for file in files if (why := stranger(file))), None)
    why = why or next((f", named by {file} ({why})" for file in named_in if (why := stranger(file))), None)
    return None if why is None else Fault(source, place, runs + why, EXPECTED, REMEDY)


def stranger(file: Path) -> str | None:
    """Why a file or folder counts as a stranger's, or None where it is the user's own; links are followed."""
    try:
        place = file.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        return f"it cannot be looked up: {error}"
    root = next((root for root in own_folders() if place.is_relative_to(root)), None)
    if root is None:
        links = "" if place == Path(os.path.abspath(file)) else f"it is a link to {place}, "
        return f"{links}outside hilsim's folder and yours"
    above = place.parents[: len(place.parts) - len(root.parts)]
    return next((why for one in (place, *above) if (why := changeable(one, root))), None)


def changeable(place: Path, root: Path) -> str | None:
    """Who else can change a file or folder, or None; `root` is the user's or hilsim's folder that it lies in."""
    try:
        found = place.stat()
    except OSError as error:
        return f"{place} cannot be looked up: {error}"
    # Who owns hilsim's own code decides already what runs here: in a container a checkout may be another user's.
    owners = {os.geteuid(), ROOT} | ({PACKAGE.stat().st_uid} if root == project() else set())
    if found.st_uid not in owners:
        return f"{place} belongs to another user, {user_name(found.st_uid)}"
    if others := writers(found):
        return f"{others} can write to {place}"
    return None


def writers(found: os.stat_result) -> str | None:
    """Who besides the owner can write to something, or None; a group of the user alone is nobody else."""
    if found.st_mode & stat.S_IWOTH:
        return "every user of this machine"
    if found.st_mode & stat.S_IWGRP and not is_private(found.st_gid, found.st_uid):
        return f"the group {group_name(found.st_gid)}"
    return None


def is_private(group: int, owner: int) -> bool:
    """Whether a group is the one that systems make for a single user: of that user's name, without other members."""
    with suppress(KeyError):
        entry, name = grp.getgrgid(group), pwd.getpwuid(owner).pw_name
        return entry.gr_name == name and set(entry.gr_mem) <= {name}
    return False


def user_name(user: int) -> str:
    """A user's name, or the number where there is none."""
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return str(user)


def group_name(group: int) -> str:
    """A group's name, or the number where there is none."""
    with suppress(KeyError):
        return grp.getgrgid(group).gr_name
    return str(group)


def project() -> Path:
    """hilsim's own folder: the checkout, or the installed package."""
    return PACKAGE if DATA == PACKAGE / "data" else PACKAGE.parent


def own_folders() -> list[Path]:
    """hilsim's folder, the home folder where it really is the user's, and those of installed packages."""
    found = [project(), *installed()]
    home = Path(os.path.expanduser("~"))
    with suppress(OSError, RuntimeError):
        home = home.resolve(strict=True)
        if home.is_absolute() and home.stat().st_uid == os.geteuid():
            found.insert(1, home)
    return [place for place in found if place != Path(place.anchor)]


@cache
def installed() -> tuple[Path, ...]:
    """Folders from which this Python imports its library and installed packages."""
    named = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(dict.fromkeys(Path(place).resolve() for place in (*named, *site.getsitepackages())))


def import_folders(folder: Path | None) -> list[Path]:
    """Where modules that the user names are looked for before anything else: a scenario's folder, the current one.

    A stranger's folder is none of them, unless that is allowed: whatever lies there would be imported in place of a
    package that is not installed.
    """
    places = [place for place in (folder, Path.cwd()) if place is not None]
    return [place for place in places if is_code_allowed() or stranger(place) is None]


def code_files(package: str, folder: Path | None) -> list[Path]:
    """The files that run where PACKAGE.MODULE is imported or FILE.py is loaded, as far as can be said without it.

    FILE.py counts from the folder, else from the current one; a package is looked for there as well, then among what is
    installed. Empty where there is no such thing.
    """
    places = [place for place in (folder, Path.cwd()) if place is not None]
    if package.endswith(".py"):
        return [place / package for place in places if (place / package).is_file()][:1]
    names = package.split(".")
    if names[0] in sys.modules:  # which an import takes, whatever lies elsewhere under that name
        found = sys.modules[names[0]].__spec__
    else:
        found = PathFinder.find_spec(names[0], [str(place) for place in places]) or top_level(names[0])
    files: list[Path] = []
    for depth in range(1, len(names) + 1):
        if found is None:
            break
        if found.has_location and found.origin is not None:
            files.append(Path(found.origin))
        inside = found.submodule_search_locations
        if inside is None or depth == len(names):
            break
        found = PathFinder.find_spec(".".join(names[: depth + 1]), list(inside))
    return files


def top_level(name: str) -> ModuleSpec | None:
    """Where a top-level module lies on Python's path; nothing is imported for it."""
    with suppress(ValueError, ImportError):
        return find_spec(name)
    return None


def leave_strangers_folder() -> None:
    """Take the current folder off Python's path where it is a stranger's: `python -m` puts it first.

    Else a file there would be imported in place of any package that is looked for later.
    """
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here) and stranger(Path(here)) is not None:
        del sys.path[0]
