"""Exported programs: from a PyTorch module to a graph of core ATen operators, or a message that says why not.

Composite operators that toolchains know as one (attention, einsum, RMS norm, linear) stay whole; a profile decides
whether they have to be taken apart.
"""

from __future__ import annotations

import difflib
import importlib
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, default_decompositions, export

from hilsim.errors import Fault, InputError

aten = torch.ops.aten
SAME_MODULES = "same modules"  # where a program keeps which paths name one module
KEPT = (
    aten.scaled_dot_product_attention.default,
    aten.einsum.default,
    aten.rms_norm.default,
    aten.linear.default,
)


@dataclass(frozen=True)
class Subject:
    """A module as it is compiled: with the example inputs that fix its shapes."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic_shapes: Any = None


def exported(subject: Subject) -> ExportedProgram:
    """The subject's graph. Raises `InputError` with the user's own line where it cannot be exported."""
    try:
        with quiet(), torch.no_grad():
            program = export(subject.module.eval(), subject.inputs, dynamic_shapes=subject.dynamic_shapes, strict=False)
            made: ExportedProgram = program.run_decompositions(decompositions())
            made.graph_module.meta[SAME_MODULES] = same_modules(subject.module)
            return made
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        raise InputError([fault_of(error, subject.name)]) from None


def same_modules(module: nn.Module) -> dict[str, str]:
    """By path, the first path of the same module, for modules that have several."""
    first: dict[int, str] = {}
    return {path: first.setdefault(id(part), path) for path, part in module.named_modules(remove_duplicate=False)}


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's table without what stays whole, and with a roll made of slices, as deployed decoders have it."""
    table = dict(default_decompositions())
    for operator in KEPT:
        table.pop(operator, None)
    table[aten.roll.default] = rolled
    return table


def rolled(x: Tensor, shifts: list[int], dims: list[int] | tuple[int, ...] = ()) -> Tensor:
    """`torch.roll` as slices and concatenations; PyTorch's own decomposition gathers."""
    if not dims:
        return rolled(x.reshape(-1), shifts, [0]).reshape(x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        length = x.shape[dim]
        cut = (length - shift) % length if length else 0
        if cut:
            x = torch.cat((x.narrow(dim, cut, length - cut), x.narrow(dim, 0, cut)), dim)
    return x


@contextmanager
def quiet() -> Iterator[None]:
    """Export warns, logs and prints about itself; what matters to a user comes as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)


REASONS = (
    (
        "GuardOnDataDependent",
        "control flow or a size that depends on the data",
        "torch.where or torch.cond, or fixed sizes",
    ),
    ("Could not guard on data-dependent", "control flow that depends on the data", "torch.where or torch.cond"),
    ("data-dependent", "control flow or a size that depends on the data", "torch.where or torch.cond, or fixed sizes"),
)


def fault_of(error: BaseException, name: str) -> Fault:
    """What went wrong in a module, in the user's terms: the line of theirs that did it, and what would export."""
    text = f"{type(error).__name__}: {error}"
    # The export's own explanation repeats the place it knows better than the traceback does.
    for mark, found, remedy in REASONS:
        if mark in text:
            return Fault(name, place_in(error), found, "a module that torch.export can take", f"Use {remedy}.")
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if len(first) > 300:
        first = first[:300] + " ..."
    return Fault(name, place_in(error), f"an export that failed ({first})", "a module that torch.export can take")


def place_in(error: BaseException) -> str:
    """The innermost line outside of PyTorch and hilsim's own export."""
    inside = (str(Path(torch.__file__).parent), str(Path(__file__)))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inside)]
    frames = [frame for frame in frames if not frame.filename.startswith("<") and "importlib" not in frame.filename]
    if not frames:
        return ""
    return f"{frames[-1].filename}:{frames[-1].lineno}"


def subject_of(spec: str) -> Subject:
    """The module that `package.module:factory` makes; the factory returns (module, inputs[, dynamic shapes]).

    Raises `InputError` where there is no such thing, or it returns something else.
    """
    package, colon, factory = spec.partition(":")
    if not colon or not package or not factory:
        remedy = "The factory takes nothing and returns (module, inputs)."
        raise InputError(
            [Fault("--module", spec, "no PACKAGE.MODULE:FACTORY", "such as my_models.intent:build", remedy)]
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    expected = "an importable module with that factory"
    try:
        holder = importlib.import_module(package)
    except ModuleNotFoundError as error:
        remedy = "Run from the folder that holds it, or install it."
        raise InputError([Fault(spec, "", f"no module {error.name!r}", expected, remedy)]) from None
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        found = f"an import that failed ({type(error).__name__}: {error})"
        raise InputError([Fault(spec, place_in(error), found, expected)]) from None
    made = getattr(holder, factory, None)
    if made is None:
        known = [name for name, made in vars(holder).items() if callable(made) and not name.startswith("_")]
        near = difflib.get_close_matches(factory, known, 1)
        remedy = f"Did you mean {near[0]!r}?" if near else "The factory takes nothing and returns (module, inputs)."
        raise InputError([Fault(spec, "", f"no {factory!r} in {package}", expected, remedy)])
    if not callable(made):
        raise InputError([Fault(spec, "", f"a {type(made).__name__}", "a function that returns (module, inputs)")])
    try:
        parts = made()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # as above
        found = f"a factory that failed ({type(error).__name__}: {error})"
        raise InputError([Fault(spec, place_in(error), found, "(module, inputs)")]) from None
    if not isinstance(parts, tuple) or len(parts) not in (2, 3) or not isinstance(parts[0], nn.Module):
        found = f"a factory that returns {type(parts).__name__}"
        raise InputError([Fault(spec, "", found, "(module, inputs) or (module, inputs, dynamic shapes)")])
    inputs = parts[1] if isinstance(parts[1], tuple) else (parts[1],)
    return Subject(spec, parts[0], inputs, parts[2] if len(parts) == 3 else None)
