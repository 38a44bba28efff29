"""Exported programs: from a PyTorch module to a graph of core ATen operators, or a message that says why not.

Composite operators that toolchains know as one (attention, einsum, norms, linear, recurrent layers, resizing, padding)
stay whole; a profile decides whether they have to be taken apart.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import io
import logging
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, default_decompositions, export

from hilsim.describe.names import key_hint
from hilsim.errors import Fault, InputError
from hilsim.trust import code_files, import_folders, require_code

aten = torch.ops.aten
PARTS = ("module", "args", "kwargs", "dynamic_shapes")  # what a factory may return by name
SAME_MODULES = "same modules"  # where a program keeps which paths name one module
KEPT = (
    aten.scaled_dot_product_attention.default,
    aten.einsum.default,
    aten.rms_norm.default,
    aten.linear.default,
    # One node a layer: unrolled into steps a sequence of 400 makes thousands of them.
    aten.lstm.input,
    aten.gru.input,
    aten.rnn_tanh.input,
    aten.rnn_relu.input,
    aten.instance_norm.default,
    aten.upsample_linear1d.vec,
    aten.upsample_bicubic2d.vec,
    aten.upsample_trilinear3d.vec,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.channel_shuffle.default,
    aten.prelu.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.softplus.default,
)


@dataclass(frozen=True)
class Subject:
    """A module as it is compiled: with the example inputs that fix its shapes, or as it was exported before."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    dynamic_shapes: Any = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    program: ExportedProgram | None = None


def exported(subject: Subject) -> ExportedProgram:
    """The subject's graph. Raises `InputError` with the user's own line where it cannot be exported."""
    try:
        with quiet(), torch.no_grad():
            program = subject.program or export(
                subject.module.eval(),
                subject.inputs,
                subject.kwargs or None,
                dynamic_shapes=subject.dynamic_shapes,
                strict=False,
            )
            made: ExportedProgram = program.run_decompositions(decompositions())
            made.graph_module.meta[SAME_MODULES] = same_modules(subject.module)
            return made
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        raise InputError([fault_of(error, subject.name)]) from None


ONCE: WeakKeyDictionary[nn.Module, list[tuple[Subject, ExportedProgram]]] = WeakKeyDictionary()


def exported_once(subject: Subject) -> ExportedProgram:
    """The subject's graph, exported once a process for the same module and inputs; each caller has a copy to change.

    For units, number formats and profiles that are tried one after another: none of them changes what is exported.
    """
    made = ONCE.setdefault(subject.module, [])
    for known, program in made:
        same = known.inputs is subject.inputs and known.kwargs is subject.kwargs
        if same and known.dynamic_shapes is subject.dynamic_shapes:
            return copied(program)
    program = exported(subject)
    made.append((replace(subject, module=nn.Module()), program))  # the module itself would keep its key alive
    return copied(program)


def copied(program: ExportedProgram) -> ExportedProgram:
    """The same program with a graph of its own; parameters and constants are shared."""
    graph = copy.deepcopy(program.graph)
    for node, original in zip(graph.nodes, program.graph.nodes, strict=True):
        node.name = original.name  # a copy renames what is called as a builtin is, `input` for one
    made = ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict=dict(program.state_dict),
        range_constraints=dict(program.range_constraints),
        module_call_graph=copy.copy(program.module_call_graph),
        example_inputs=program.example_inputs,
        constants=dict(program.constants),
        verifiers=program.verifiers,
    )
    made.graph_module.meta.update(program.graph_module.meta)
    return made


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
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Of violated constraints the first line says whose they are, the first point of the list below it what they are.
    points = [line.removeprefix("- ") for line in lines[1:] if line.startswith("- ")]
    parts = (lines[0] if lines else type(error).__name__, *points[:1])
    first = " ".join(part if len(part) <= 300 else part[:300] + " ..." for part in parts)
    return Fault(name, place_in(error), f"an export that failed ({first})", "a module that torch.export can take")


def place_in(error: BaseException) -> str:
    """The innermost line of the user's own; "" where only PyTorch, other packages or Python itself were running."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if of_the_user(frame.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def of_the_user(file: str) -> bool:
    """Whether a file is neither installed, nor Python's or PyTorch's, nor generated, nor this one."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    library = (sysconfig.get_paths()["stdlib"], str(Path(torch.__file__).parent), __file__)
    within = any(path.is_relative_to(Path(root).resolve()) for root in library)
    return not within and not {"site-packages", "dist-packages"} & {*path.parts}


def subject_of(spec: str, folder: Path | None = None) -> Subject:
    """The module that `package.module:factory` makes, from a folder, the current one, or what is installed.

    The factory returns (module, inputs[, dynamic shapes]) or a dictionary of `PARTS`. It runs once a process and
    spec, and what it prints goes to standard error. Raises `InputError` where there is no such thing, or it returns
    something else.
    """
    return made_by(spec, None if folder is None else folder.resolve())


@cache
def made_by(spec: str, folder: Path | None) -> Subject:
    """What the factory makes, kept; a failure is not, for a cache keeps no exceptions."""
    with beside(folder), redirect_stdout(sys.stderr):  # standard output may be a document
        factory = factory_of(spec, folder)
        try:
            parts = factory()
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # a user's module may fail in any way
            found = f"a factory that failed ({type(error).__name__}: {error})"
            raise InputError([Fault(spec, place_in(error), found, "(module, inputs)")]) from None
    return subject_from(spec, parts)


@contextmanager
def beside(folder: Path | None) -> Iterator[None]:
    """Lets imports find what lies in the folder or the current one, before anything else.

    Takes back what it put there and no more: user code that extends the path itself may need that later on.
    """
    places = [str(place) for place in import_folders(folder)]
    sys.path[:0] = places
    try:
        yield
    finally:
        for place in places:
            if place in sys.path:
                sys.path.remove(place)


def factory_of(spec: str, folder: Path | None) -> Callable[[], Any]:
    """The function that a spec names. Raises `InputError` where it cannot be had."""
    package, colon, name = spec.rpartition(":")
    if not colon or not package or not name:
        remedy = "The factory takes nothing and returns (module, inputs)."
        found, such = "no PACKAGE.MODULE:FACTORY or FILE.py:FACTORY", "such as my_models.intent:build"
        raise InputError([Fault("--module", spec, found, such, remedy)])
    expected = "an importable module with that factory"
    require_code(spec, code_files(package, folder), spec, "")
    try:
        holder = from_file(package, folder) if package.endswith(".py") else importlib.import_module(package)
        factory = getattr(holder, name, None)
    except ModuleNotFoundError as error:
        put = "" if folder is None else f"Put it into {folder}. Else: "
        remedy = f"{put}Run from the folder that holds it, or install it."
        kind = "file" if error.name == package and package.endswith(".py") else "module"
        raise InputError([Fault(spec, "", f"no {kind} {error.name!r}", expected, remedy)]) from None
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        found = f"an import that failed ({type(error).__name__}: {error})"
        raise InputError([Fault(spec, place_in(error), found, expected)]) from None
    if factory is None:
        known = [key for key, value in vars(holder).items() if callable(value) and not key.startswith("_")]
        remedy = key_hint(name, known) or "The factory takes nothing and returns (module, inputs)."
        raise InputError([Fault(spec, "", f"no {name!r} in {package}", expected, remedy)])
    if not callable(factory):
        raise InputError([Fault(spec, "", f"a {type(factory).__name__}", "a function that returns (module, inputs)")])
    made: Callable[[], Any] = factory
    return made


def from_file(path: str, folder: Path | None) -> ModuleType:
    """A Python file as a module; its path counts from the folder, else from the current one."""
    found = code_files(path, folder)
    if not found:
        raise ModuleNotFoundError(f"no file {path}", name=path)
    file = found[0]
    name = file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as classes look themselves up there
    sys.path.insert(0, str(file.parent))  # what lies beside it may be imported, later too
    spec.loader.exec_module(module)
    return module


def subject_from(spec: str, parts: Any) -> Subject:
    """What a factory returned as a subject. Raises `InputError` for anything else than it may return."""
    named: dict[Any, Any] = {}
    if isinstance(parts, dict):
        named = parts
        faults = [fault_of_part(spec, key) for key in parts if key not in PARTS]
        if faults:
            raise InputError(faults)
    elif isinstance(parts, tuple) and len(parts) in (2, 3):
        named = dict(zip(("module", "args", "dynamic_shapes"), parts, strict=False))
    if not isinstance(named.get("module"), nn.Module):
        found = f"a factory that returns {type(parts).__name__}" + (" without a module" if named is parts else "")
        expected = f"(module, inputs), (module, inputs, dynamic shapes) or a dictionary of {', '.join(PARTS)}"
        raise InputError([Fault(spec, "", found, expected)])
    inputs, kwargs = named.get("args", ()), named.get("kwargs", {})
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise InputError([Fault(spec, "kwargs", f"a {type(kwargs).__name__}", "a dictionary of inputs by name")])
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return Subject(spec, named["module"], inputs, named.get("dynamic_shapes"), dict(kwargs))


def fault_of_part(spec: str, key: object) -> Fault:
    found = f"a factory that returns the key {key!r}"
    return Fault(spec, "", found, f"the keys {', '.join(PARTS)}", key_hint(str(key), PARTS))
