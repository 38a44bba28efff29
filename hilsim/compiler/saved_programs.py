"""Exported programs from files (`torch.export.save`): read as they are, with their modules' names and source lines."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch
from torch.export import load, unflatten

from hilsim.compiler.program import Subject, quiet
from hilsim.errors import Fault, InputError, first_line
from hilsim.files import require_readable
from hilsim.trust import require_code


def program_subject(file: Path) -> Subject:
    """The program of a `.pt2` file, with its example inputs. Raises `InputError` where there is none."""
    require_readable(file)
    # `torch.export.load` evaluates the sizes that a file spells as text, and unpickles what it cannot read otherwise.
    require_code(str(file), [file], "--program", "")
    try:
        with quiet():
            program = load(str(file))
            module = unflatten(program)
    except Exception as error:  # every release of PyTorch fails in its own way on files of another
        raise InputError([fault_of(file, error)]) from None
    args, kwargs = program.example_inputs or ((), {})
    return Subject(file.name, module, tuple(args), None, dict(kwargs), program)


def fault_of(file: Path, error: Exception) -> Fault:
    """Why a program could not be read: no such archive, or one of another PyTorch."""
    here, expected = torch.__version__.partition("+")[0], "a program saved by torch.export.save"
    saved = torch_of(file)
    if saved is None:
        return Fault(
            str(file), "", "no archive of an exported program", expected, "torch.save and torch.jit.save make others."
        )
    why = first_line(error)[:200]
    of = f"a program of torch {saved}" if saved != here else "a program that does not load"
    remedy = f"Export it anew with torch {here}, or check it where torch {saved} is installed."
    return Fault(str(file), "", f"{of} ({why})", f"{expected} of torch {here}", remedy)


def torch_of(file: Path) -> str | None:
    """The release of PyTorch that saved a program; "unknown" where it does not say, None where it is no program."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            documents = [name for name in names if name.endswith(".json") and "models/" in name]
            for name in documents:
                release = json.loads(archive.read(name)).get("torch_version")
                if release:
                    return str(release).partition("+")[0]
            known = documents or any(name.endswith("serialized_exported_program.json") for name in names)
            return "unknown" if known else None
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
