"""A module of any length as programs of fixed widths, with padding; for compilers without dynamic shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from hilsim.compiler.program import decompositions
from hilsim.compiler.rewrite.proof import OutputComparison, Proof, draw, run

Axes = tuple[int, ...]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # positional and by name
FILLS = (0.0, 1.0, -3.0, 50.0)


class Padded:
    """Programs of fixed widths that answer like the module where real positions do not see the padding.

    `prove` tells whether they do not; a causal or a masked network qualifies, one that averages over positions does
    not. Padding stands behind the real positions. Inputs and outputs count as the leaves of their nested structure.
    """

    def __init__(
        self,
        module: nn.Module,
        programs: Mapping[int, ExportedProgram],
        axes: Mapping[int, Axes],
        example: Inputs,
        out_axes: Sequence[Axes],
        shortest: int = 1,
    ):
        self.module, self.axes, self.example = module, dict(axes), example
        self.programs = dict(sorted(programs.items()))
        self.runs = {width: program.module() for width, program in self.programs.items()}
        self.out_axes, self.shortest = out_axes, shortest

    def width(self, length: int) -> int:
        """The smallest width that holds a length; ValueError where none does."""
        for width in self.programs:
            if length <= width:
                return width
        raise ValueError(f"a length of {length} is beyond the widest program ({max(self.programs)})")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Pad to the next width up, run, cut the outputs back to the length."""
        # The places of leaves follow the order that keywords were exported in.
        return self.answer((args, {name: kwargs[name] for name in [*self.example[1], *kwargs] if name in kwargs}))

    def answer(self, inputs: Inputs, fill: float = 0.0) -> Any:
        """The outputs for positional and keyword inputs, padded with a value. Inputs and buffers stay as they are."""
        leaves, spec = pytree.tree_flatten(inputs)
        place, (axis, *_) = next(iter(self.axes.items()))
        length = leaves[place].shape[axis]
        width = self.width(length)
        padded = [pad(x, self.axes[p], width, fill) if p in self.axes else x for p, x in enumerate(leaves)]
        made, _ = run(self.runs[width], pytree.tree_unflatten(padded, spec))
        outputs, spec = pytree.tree_flatten(made)
        return pytree.tree_unflatten(
            [cut(x, axes, length) for x, axes in zip(outputs, self.out_axes, strict=True)], spec
        )

    def prove(self, cases: int = 20, seed: int = 0) -> Proof:
        """Compare with the module itself over random lengths and several paddings; ValueError where it shows through.

        Lengths are those that the module takes. Integer inputs are padded with values of the example's range.
        """
        generator = torch.Generator().manual_seed(seed)
        judge = OutputComparison("rounding", 0.0, strict_nan=True, whole=True)
        leaves, spec = pytree.tree_flatten(self.example)
        with torch.no_grad():
            for _ in range(cases):
                length = int(torch.randint(self.shortest, max(self.programs) + 1, (), generator=generator))
                drawn = [
                    sample(x, self.axes.get(place, ()), length, generator) if isinstance(x, Tensor) else x
                    for place, x in enumerate(leaves)
                ]
                inputs = pytree.tree_unflatten(drawn, spec)
                expected, _ = run(self.module, inputs)
                for fill in FILLS:
                    found = self.answer(inputs, fill)
                    judge.look(expected, found, None, (f"length {length}", f"padding {fill:g}"))
                    if judge.detail:
                        raise ValueError(
                            f"real positions see the padding: {judge.detail}; mask it, or compile each length"
                        )
        return judge.proof("to_fixed_widths", cases * len(FILLS))


def to_fixed_widths(
    module: nn.Module,
    args: Sequence[Any],
    axes: Mapping[int, Axes],
    widths: Sequence[int],
    shortest: int = 1,
    kwargs: Mapping[str, Any] | None = None,
) -> Padded:
    """Export a module once per width. `axes` says, by leaf of the inputs, which of its axes are the length.

    Lengths below `shortest` do not count. Raises ValueError for no width, and torch's own error where a width cannot be
    exported.
    """
    if not widths or not axes:
        raise ValueError("to_fixed_widths needs at least one width and one argument with a length")
    example = (tuple(args), dict(kwargs or {}))

    def at(width: int) -> ExportedProgram:
        inner, named = resized(example, axes, width)
        program: ExportedProgram = torch.export.export(module, inner, named or None, strict=False)
        core: ExportedProgram = program.run_decompositions(decompositions())
        return core

    programs = {width: at(width) for width in sorted(set(widths))}
    seen = programs
    if len(programs) == 1 and (shorter := min(programs) - 1) >= max(shortest, 1):
        # One width alone does not tell a length from a size that happens to be the same.
        seen = {**programs, shorter: at(shorter)}
    return Padded(module, programs, axes, example, output_axes(seen), max(shortest, 1))


def resized(inputs: Any, axes: Mapping[int, Axes], width: int) -> Any:
    """Nested inputs at another length."""
    leaves, spec = pytree.tree_flatten(inputs)
    return pytree.tree_unflatten([resize(x, axes.get(place, ()), width) for place, x in enumerate(leaves)], spec)


def resize(x: Any, axes: Axes, width: int) -> Any:
    """An example of another length: cut, or padded with zeros, along each of the axes."""
    for axis in axes:
        x = x.narrow(axis, 0, width) if x.shape[axis] >= width else pad(x, (axis,), width, 0.0)
    return x


def pad(x: Tensor, axes: Axes, width: int, fill: float) -> Tensor:
    """The tensor filled up behind along each of the axes. Integers and booleans repeat a position or take 0."""
    for axis in axes:
        gap = [*x.shape]
        gap[axis] = width - x.shape[axis]
        if x.dtype.is_floating_point or not fill or not x.shape[axis]:
            more = torch.full(gap, fill, dtype=x.dtype, device=x.device)
        else:  # any other valid value will do, and values that are there are valid
            more = x.narrow(axis, int(fill) % x.shape[axis], 1).expand(gap)
        x = torch.cat([x, more], axis)
    return x


def cut(x: Any, axes: Axes, length: int) -> Any:
    for axis in axes:
        x = x.narrow(axis, 0, length)
    return x


def sample(x: Tensor, axes: Axes, length: int, generator: torch.Generator) -> Tensor:
    """A random tensor like the example, of a given length along the axes if it has any."""
    return draw(resize(x, axes, length), "normal", "moderate", generator)


def output_axes(programs: Mapping[int, ExportedProgram]) -> list[Axes]:
    """Which axes of each output are the length: those that follow the width."""
    shapes = {width: output_shapes(program) for width, program in programs.items()}
    return [
        tuple(axis for axis in range(len(first)) if all(made[place][axis] == width for width, made in shapes.items()))
        for place, first in enumerate(next(iter(shapes.values())))
    ]


def output_shapes(program: ExportedProgram) -> list[tuple[int, ...]]:
    """The shapes of a program's user outputs; empty for what is no tensor."""
    shapes = {node.name: tuple(node.meta["val"].shape) for node in program.graph.nodes if is_tensor(node)}
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    return [shapes[spec.arg.name] if isinstance(spec.arg, TensorArgument) else () for spec in specs]


def is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)
