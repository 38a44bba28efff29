"""Reading and writing files so that nothing half-written stays and every failure has a name."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hilsim.errors import Fault, InputError, Misfit

MAX_TEXT_BYTES = 64 * 2**20
MOST_NAME_BYTES = 255  # of one name in a path, on every usual file system
MOST_FOLDERS = 200  # in each other; pathlib makes them by recursion
WEIGHTS, PIECE_BYTES = "model.safetensors", 2**18  # of a checkpoint folder; read at a time
VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
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


def expanded(text: str) -> str:
    """A path with ~ and $NAME or ${NAME} filled in. Raises `Misfit` where there is none."""
    for name in dict.fromkeys(short or braced for short, braced in VARIABLE.findall(text)):
        if name not in os.environ:
            raise Misfit(f"{text!r}, where ${name} is not set", f"a path, or ${name} set before (export {name}=...)")
    filled = os.path.expanduser(os.path.expandvars(text))
    if filled.startswith("~"):
        raise Misfit(f"{text!r}, where {filled.partition('/')[0]} is no user's home folder", "a path")
    return filled


def encoding_of(data: bytes) -> str:
    """The encoding that a byte order mark states, without the mark in the text; UTF-8 where there is none."""
    return next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), "utf-8")


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with names that end so, sorted; none where the folder cannot be looked into."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == suffix)
    except (OSError, ValueError):
        return []


MOST_NEAR = 8  # files that a message lists, those with the likest names first


def unreadable(path: Path, most_bytes: int | None = None) -> Fault | None:
    """Why a path is no file to read from, or None; nothing is opened, so that nothing can block.

    Only regular files of at most `most_bytes` are read. A pipe is none, nor `/dev/stdin` behind one, nor the `<(...)`
    of a shell: files are read more than once (for their digest, in every process of a study), and names in them are
    relative to where they lie.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        import difflib  # of a file that is missing alone

        here = [file.name for file in files_in(path.parent, path.suffix)]
        near = dict.fromkeys([*difflib.get_close_matches(path.name, here, MOST_NEAR), *here])
        more = f" and {len(near) - MOST_NEAR} more" if len(near) > MOST_NEAR else ""
        remedy = f"That folder holds: {', '.join([*near][:MOST_NEAR])}{more}." if near else "Check the path."
        return Fault(str(path), "", "no such file", "a readable file", remedy)
    except (OSError, ValueError) as error:
        return Fault(str(path), "", reason(error), "a readable file")
    kind = next((words for is_it, words in KINDS if is_it(found.st_mode)), None)
    if kind is not None:
        remedy = "" if stat.S_ISDIR(found.st_mode) else "Write what it gives into a file first, and name that."
        return Fault(str(path), "", kind, "a readable file", remedy)
    if most_bytes is not None and found.st_size > most_bytes:
        return Fault(str(path), "", f"{found.st_size} bytes", f"a text of at most {most_bytes} bytes")
    return None


KINDS = (
    (stat.S_ISDIR, "a folder (directory)"),
    (stat.S_ISFIFO, "a pipe, which can be read only once"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device, which has no end"),
    (stat.S_ISBLK, "a block device"),
)


def require_readable(path: Path, most_bytes: int | None = None) -> None:
    """Raise `InputError` where a path is no regular file, before anything opens it."""
    if fault := unreadable(path, most_bytes):
        raise InputError([fault])


def reason(error: Exception) -> str:
    """What the system says of a path or a socket, in lower case."""
    return str(getattr(error, "strerror", None) or error).lower()


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, or as its byte order mark says.

    Raises `InputError` when it is missing, unreadable, huge or no text.
    """
    require_readable(path, MAX_TEXT_BYTES)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError([Fault(str(path), "", reason(error), "a readable file")]) from None
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
    temporary = temporary_name(path)
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
                        reason(error),
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


def place_faults(file: Path, option: str, *, make: bool = True) -> list[Fault]:
    """What would keep a file from being written, found before a long run and not after it; makes missing folders."""
    try:
        found = file.stat()
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:
        return [Fault(str(file), option, reason(error), "the name of a file to write")]
    if found is not None and not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "something that is no file"
        return [Fault(str(file), option, kind, "the name of a file to write")]
    # A name may be too long only with what is put around it while it is unfinished.
    if len(os.fsencode(temporary_name(file).name)) > MOST_NAME_BYTES:
        return [Fault(str(file), option, f"a name of {len(file.name)} letters", "a shorter name")]
    return folder_faults(file.parent, option, make=make)


def temporary_name(file: Path) -> Path:
    """The name of a file until it is completely written."""
    return file.with_name(f".{file.name}.{os.getpid()}.part")


def folder_faults(folder: Path, option: str, *, make: bool = True) -> list[Fault]:
    """What would keep files from being written into a folder, which is made where it is missing, if `make` says so."""
    try:
        if len(folder.parts) > MOST_FOLDERS:
            raise ValueError(f"{len(folder.parts)} folders in each other")
        there = folder
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            os.fspath(folder).encode("utf-8")
            there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        tempfile.TemporaryFile(dir=there).close()
    except (OSError, ValueError) as error:
        return [Fault(str(folder), option, reason(error), "a folder that can be written to", "Choose another.")]
    return []


def weights_digest(folder: Path) -> str | None:
    """SHA-256 of model.safetensors, or of all shards in the order of their names; None where there are none."""
    files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def pieces(file: Path) -> Iterator[memoryview]:
    """The bytes of a file in pieces, each of which is there until the next one: memory that is new takes time."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    with file.open("rb", buffering=0) as stream:
        while length := stream.readinto(buffer):
            yield buffer[:length]
