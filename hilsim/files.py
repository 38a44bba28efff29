"""Reading and writing files so that nothing half-written stays and every failure has a name."""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hilsim.errors import Fault, InputError

MAX_TEXT_BYTES = 64 * 2**20
# Byte order marks as spreadsheets and Windows editors write them; UTF-32's begins with UTF-16's, so it comes first.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8; escapes in YAML and JSON can spell half characters that cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def exists(path: Path) -> bool:
    """Whether something is there; a name that no file can have, or a folder that cannot be looked into, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def encoding_of(data: bytes) -> str:
    """The encoding that a byte order mark states, without the mark in the text; UTF-8 where there is none."""
    return next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), "utf-8")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or as its byte order mark says.

    Raises `InputError` when it is missing, a folder, unreadable, huge or no text.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise InputError(
                [Fault(str(path), "", f"{path.stat().st_size} bytes", f"a text of at most {MAX_TEXT_BYTES} bytes")]
            )
        data = path.read_bytes()
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:8] if path.parent.is_dir() else []
        hint = f"That folder holds: {', '.join(near)}." if near else "Check the path."
        raise InputError([Fault(str(path), "", "no such file", "a readable file", hint)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found = "a folder (directory)" if isinstance(error, IsADirectoryError) else reason.lower()
        raise InputError([Fault(str(path), "", found, "a readable file")]) from None
    encoding = encoding_of(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            [
                Fault(
                    str(path),
                    f"byte {error.start}",
                    f"0x{data[error.start]:02x}, which is no {encoding.removesuffix('-sig').upper()}",
                    "a text file in UTF-8",
                    "Is this the right file, and saved as text?",
                )
            ]
        ) from None


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` on success, removed on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            yield temporary
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                [
                    Fault(
                        str(path),
                        "",
                        (error.strerror or str(error)).lower(),
                        "a place that can be written to",
                        "Choose another folder or make room.",
                    )
                ]
            ) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder` to write several files to; they move up together on success."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir()):
            os.replace(file, folder / file.name)


def place_faults(file: Path, option: str) -> list[Fault]:
    """What would keep a file from being written, found before a long run and not after it; makes missing folders."""
    if exists(file) and file.is_dir():
        return [Fault(str(file), option, "a folder", "the name of a file to write")]
    return folder_faults(file.parent, option)


def folder_faults(folder: Path, option: str) -> list[Fault]:
    """What would keep files from being written into a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return [Fault(str(folder), option, reason, "a folder that can be written to", "Choose another.")]
    return []


def kept_folder() -> Path:
    """Where things are kept between runs that take long to make: HILSIM_CACHE, else the user's cache folder."""
    own = os.environ.get("HILSIM_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hilsim"
