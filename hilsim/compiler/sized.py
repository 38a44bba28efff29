"""Graphs of decoders at many sizes from one export: how many rows a pass has, and how many positions are cached.

A decoder is exported once at sizes that occur nowhere else, so that every number in the graph shows how many rows and
cached positions it stands for; at other sizes the numbers are put in and shapes worked out anew. One row, no cached
position and one of them are kinds of their own, as PyTorch treats lengths of 0 and 1 in its own way. What cannot be
read so is exported at each size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from hilsim.compiler.nodes import tensors_of
from hilsim.compiler.program import Subject, copied, exported
from hilsim.errors import InputError

ROWS = (1 << 20) + 7
CACHED = 2047 * ROWS + ROWS // 2  # as far from a multiple of ROWS as can be
MOST_ROWS = 1024  # of how many rows a number may be made: heads of a group, or of a layer
BEYOND = 1 << 60  # "to the end", which is no size

MetaModel = Callable[[int, int], Subject]  # the subject at so many rows and so many positions in all
KNOWN: dict[tuple[object, ...], ExportedProgram | None] = {}
MADE: dict[tuple[object, ...], ExportedProgram] = {}  # programs at sizes: units and formats that are tried share them


def program_at(meta_model: MetaModel, rows: int, context: int, alike: tuple[object, ...]) -> ExportedProgram:
    """The program of a meta model at a size, free to be changed. Those of equal `alike` differ in their sizes alone.

    Raises `InputError`.
    """
    key = (*alike, rows, context)
    if key not in MADE:
        MADE[key] = made_at(meta_model, rows, context, alike)
    return copied(MADE[key])


def made_at(meta_model: MetaModel, rows: int, context: int, alike: tuple[object, ...]) -> ExportedProgram:
    """The same, made for the first time."""
    cached = max(context - rows, 0)
    general = (ROWS if rows > 1 else 1, CACHED if cached > 1 else cached)
    key = (*alike, *general)
    if key not in KNOWN:
        KNOWN[key] = general_program(meta_model, *general)
    template = KNOWN[key]
    subject = meta_model(rows, context)
    if template is not None and rows <= context:
        try:
            return at_size(template, subject, rows, cached)
        except (ValueError, RuntimeError, TypeError):
            KNOWN[key] = None  # so it is not tried again
    return exported(subject)


def general_program(meta_model: MetaModel, rows: int, cached: int) -> ExportedProgram | None:
    """The program at sizes that stand for any; None where it cannot be exported at such."""
    try:
        return exported(meta_model(rows, rows + cached))
    except (InputError, RuntimeError, ValueError, MemoryError):
        return None


def at_size(template: ExportedProgram, subject: Subject, rows: int, cached: int) -> ExportedProgram:
    """The template's program at the size of a subject. Raises ValueError where a number does not say what it is of."""

    def size(number: int) -> int:
        return read(number, rows, cached)

    program = copied(template)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    module = subject.module
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    given = iter(pytree.tree_leaves((subject.inputs, subject.kwargs)))
    inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    with mode, torch.no_grad():
        for node in program.graph.nodes:
            before = [tuple(map(size, tensor.shape)) for tensor in tensors_of(node)]
            if node.op == "placeholder":
                spec = inputs[node.name]
                like = next(given) if spec.kind == InputKind.USER_INPUT else held.get(str(spec.target))
                if not isinstance(like, Tensor):
                    raise ValueError(f"{node.name} is neither an input nor a parameter")
                node.meta["val"] = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype)
            elif node.op == "call_function":
                node.args = resized(node.args, size)
                node.kwargs = resized(node.kwargs, size)
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: source.meta["val"])
                node.meta["val"] = node.target(*args, **kwargs)
            if before != [tuple(tensor.shape) for tensor in tensors_of(node)]:
                raise ValueError(f"{node.name} has another shape at this size")
    program.state_dict.update({name: held[name] for name in program.state_dict if name in held})
    program.constants.update({name: held[name] for name in program.constants if name in held})
    program.graph_module.recompile()
    return program


def read(number: int, rows: int, cached: int) -> int:
    """A number of the template at another size."""
    if number < ROWS // 4 or number > BEYOND:
        return number
    many = round(number / CACHED)
    left = number - many * CACHED
    times = round(left / ROWS)
    rest = left - times * ROWS
    if many > 1 or abs(times) > MOST_ROWS or abs(rest) > ROWS // 4:
        raise ValueError(f"{number} is no sum of rows, cached positions and a small number")
    return many * cached + times * rows + rest


def resized(arguments: Any, size: Callable[[int], int]) -> Any:
    """Arguments of a node with every whole number at another size."""
    return fx.node.map_aggregate(arguments, lambda one: size(one) if type(one) is int else one)
