"""Recognises a file that was given where another kind was expected, so that the message can name what reads it.

Recognised are hilsim's own kinds and those that the tools around it write. A kind that hilsim does not read comes with
the place of its figures in the columns of a CSV of measurements.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from hilsim.errors import Fault, InputError
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.formats import TITLES, format_of
from hilsim.fidelity.table import SYNONYMS, columns_of
from hilsim.files import encoding_of, exists, read_text

PIECE = 4096
IMPORT = "python -m hilsim import FILE"
FIGURES = "measured figures (CSV)"
STEP_LOG = "the step log of a two-device run (JSON)"
JSON = "JSON of a kind that is not known"
TABLE = "Save it as CSV; a spreadsheet's 'CSV UTF-8' is read as it is."
SCENARIO = "python simulate.py scenarios/orin_8295.yaml --set"
CONVERSATIONS = f"{SCENARIO} workload.conversations=FILE"
TRANSCRIPT = (
    "With SCENARIO the one that it was recorded with: python simulate.py SCENARIO "
    "--set logits.kind=transcript --set logits.file=FILE"
)
PREDICTED = "It holds predictions, no measurement."
PACKED = {b"\x1f\x8b": "gunzip -k", b"BZh": "bunzip2 -k", b"\xfd7zXZ": "unxz -k", b"\x28\xb5\x2f\xfd": "unzstd"}
ZIPS = {
    b".npy": ("a transcript of hilsim or another .npz", TRANSCRIPT),
    b"xl/": ("a workbook of a spreadsheet", TABLE),
    b"[Content_Types]": ("a workbook of a spreadsheet", TABLE),
    b"mimetypeapplication/vnd.oasis": ("a workbook of a spreadsheet", TABLE),
}  # fmt: skip
BINARY = {
    b"GGUF": ("weights (GGUF)", "Measure them with llama-bench -o csv, whose rows are read."),
    b"%PDF": ("a PDF", TABLE),
    b"\xd0\xcf\x11\xe0": ("a workbook of a spreadsheet", TABLE),
    b"SQLite format 3": ("a database", TABLE),
    b"\x89PNG": ("a picture", TABLE),
}
# JSON by keys that an object, or the first of a list, has; the first line whose keys are all there counts.
OBJECTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("draft_times",), STEP_LOG, "python -m hilsim validate --trace FILE"),
    (("verify_times",), STEP_LOG, "python -m hilsim validate --trace FILE"),
    (("strategy", "metrics"), STEP_LOG, "python -m hilsim validate --trace FILE"),
    (("recording",), "a recording of a board's steps", "python -m hilsim calibrate FILE --chip NAME"),
    (("traceEvents",), "a timeline for Perfetto (simulate.py --trace)", "Open it in Perfetto."),
    (("scenario", "digest", "versions"), "a report of simulate.py", PREDICTED),
    (("rows", "summaries"), "a report of validate", "Give the CSV that it was made of."),
    (("samples", "missing"), "a report of validate --trace", "Give the log that it was made of."),
    (("turns",), "conversations", CONVERSATIONS),
    (("conversations",), "conversations (ShareGPT)", CONVERSATIONS),
    (("model_type", "architectures"), "a checkpoint's config.json", "It describes a model and measures nothing."),
    (("model_type", "hidden_size"), "a checkpoint's config.json", "It describes a model and measures nothing."),
)  # fmt: skip
# YAML by keys that begin a line somewhere in it.
BLOCKS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("target", "policy"), "a scenario", "python simulate.py FILE"),
    (("axes",), "a study", "python -m hilsim study FILE"),
    (("units", "memory"), "a chip", "python -m hilsim chip FILE"),
    (("architecture", "vocabulary"), "a model", "Name it in a row's model column."),
)  # fmt: skip


@dataclass(frozen=True)
class FileKind:
    """A kind of file: its name, and the command or sentence on what to do with it, with FILE for its path."""

    name: str
    use: str

    def remedy(self, file: Path) -> str:
        """The sentence for one file, with a command that can be pasted into a shell."""
        use = self.use.replace("FILE", shlex.quote(str(file)))
        return f"Use: {use}" if use.startswith("python") else use


def kind_of(file: Path) -> FileKind | None:
    """The kind of a file, or None where none is recognised or nothing can be read."""
    if not exists(file) or not file.is_file():
        return None
    try:
        with file.open("rb") as stream:
            head = stream.read(PIECE)
    except OSError:
        return None
    if (binary := binary_kind(head)) is not None or (encoding_of(head) == "utf-8" and b"\0" in head):
        return binary
    try:
        text = read_text(file)
    except InputError:
        return None
    contents = Contents(str(file), text)
    if kind := json_kind(contents) if contents.is_json else table_kind(contents):
        return kind
    found = format_of(contents)
    return FileKind(found.title, IMPORT) if found is not None else yaml_kind(text)


def is_log(kind: FileKind | None) -> bool:
    """Whether it is a kind that `import` reads."""
    return kind is not None and kind.name in TITLES


def require_kind(file: Path, *expected: str) -> str | None:
    """The kind of a file if it is one of these or none that is recognised; an `InputError` that names it if not."""
    kind = kind_of(file)
    if kind is not None and kind.name not in expected:
        raise InputError([Fault(str(file), "", kind.name, expected[0], kind.remedy(file))])
    return None if kind is None else kind.name


def binary_kind(head: bytes) -> FileKind | None:
    """A packed or binary file by its first bytes."""
    for magic, command in PACKED.items():
        if head.startswith(magic):
            return FileKind("a compressed file", f"Unpack it first: {command} FILE")
    if head.startswith(b"PK\x03\x04"):
        found = next(
            (kind for member, kind in ZIPS.items() if member in head), ("a zip archive", "Unpack it first: unzip FILE")
        )
        return FileKind(*found)
    return next((FileKind(*kind) for magic, kind in BINARY.items() if head.startswith(magic)), None)


def json_kind(contents: Contents) -> FileKind | None:
    """A JSON file, or one of JSON lines, by the keys of its first object; None where it has none that is whole."""
    first = contents.first
    if (found := format_of(contents)) is not None:
        return FileKind(found.title, IMPORT)
    for needed, name, use in OBJECTS:
        if set(first).issuperset(needed):
            return FileKind(name, use)
    if {"model", "kind", "metric", "value"} <= set(columns_of(list(first))):
        return FileKind("measured figures in JSON", "Write these keys as CSV columns, and every record as a row.")
    if not first:
        return None
    return FileKind(JSON, f"Its keys begin with {', '.join(repr(key)[1:-1][:30] for key in list(first)[:6])}.")


def table_kind(contents: Contents) -> FileKind | None:
    """A table with two of our columns, or what hilsim writes itself; None of what the formats of logs recognise."""
    columns = set(contents.columns)
    if {"point", "state"} <= columns:
        return FileKind("the results of a study", PREDICTED)
    if len(columns & set(SYNONYMS)) >= 2 and format_of(contents) is None:
        return FileKind(FIGURES, "python -m hilsim validate --csv FILE")
    return None


def yaml_kind(text: str) -> FileKind | None:
    """A YAML file by the keys that begin its lines."""
    keys = set(re.findall(r"^[ -]*([A-Za-z_]+):(?:\s|$)", text, flags=re.MULTILINE))
    for needed, name, use in BLOCKS:
        if keys.issuperset(needed):
            return FileKind(f"{name} (YAML)" if name.startswith("a ") else name, use)
    return None
