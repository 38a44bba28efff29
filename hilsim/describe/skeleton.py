"""New files of a kind: a commented skeleton, or a described one under another name."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

from hilsim.describe.catalogue import FOLDERS, file_of
from hilsim.describe.figure import NAME
from hilsim.describe.names import key_hint
from hilsim.errors import Fault, InputError
from hilsim.files import read_text
from hilsim.places import DATA

KINDS = ("scenario", "chip", "link", "model", "study", "campaign")
SCHEMA_LINE = "# yaml-language-server: $schema="
SCHEMAS = DATA / "scenarios" / "schemas"


def usual_place(kind: str, name: str) -> Path:
    """Where a new file goes: the folder that its kind is looked for in, if there is one here, else here."""
    folder = Path(FOLDERS.get(kind, "."))
    return (folder if folder.is_dir() else Path()) / f"{name}.yaml"


def new_file(kind: str, name: str, like: str | None, file: Path) -> str:
    """The text of a new `file`. Raises `InputError` for a kind or name that cannot be, and for an unknown `like`."""
    faults = []
    if kind not in KINDS:
        faults.append(Fault("new", "KIND", repr(kind), f"one of {', '.join(KINDS)}", key_hint(kind, KINDS)))
    if not re.match(NAME, name) or len(name) > 100:
        faults.append(Fault("new", "NAME", repr(name), "letters, digits, dots, dashes and underscores, at most 100"))
    if faults:
        raise InputError(faults)
    if like is None:
        body = files("hilsim.describe").joinpath("skeletons", f"{kind}.yaml").read_text(encoding="utf-8")
        body = body.replace("{name}", name).replace("{file}", str(file))
    else:
        body = re.sub(
            r"^name: .*$", f"name: {name}", read_text(file_of(kind, like, Path("--like"))), count=1, flags=re.MULTILINE
        )
    return with_schema_line(kind, body, file)


def with_schema_line(kind: str, text: str, file: Path) -> str:
    """A file's text, whose first line names the JSON Schema of its kind for an editor (yaml-language-server)."""
    first, _, rest = text.partition("\n")
    return f"{SCHEMA_LINE}{schema_place(kind, file)}\n{rest if first.startswith(SCHEMA_LINE) else text}"


def schema_place(kind: str, file: Path) -> str:
    """The shipped JSON Schema of a kind, as an editor finds it from `file`: relative inside the project."""
    schema, here = SCHEMAS / f"{kind}.json", Path(os.path.abspath(file)).parent
    return os.path.relpath(schema, here) if here.is_relative_to(DATA) else str(schema)
