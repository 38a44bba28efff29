"""A module of any length as programs of fixed widths, with padding; for compilers without dynamic shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from hilsim.compiler.program import decompositions
from hilsim.compiler.rewrite.proof import Judge, Proof, draw, tensors_of

FILLS = (0.0, 1.0, -3.0, 50.0)


class Padded:
    """Programs of fixed widths that answer like the module where real positions do not see the padding.

    `prove` tells whether they do not; a causal or a masked network qualifies, one that averages over positions does
    not. Padding stands behind the real positions.
    """

    def __init__(
        self,
        module: nn.Module,
        programs: Mapping[int, ExportedProgram],
        axes: Mapping[int, int],
        example: Sequence[Any],
    ):
        self.module, self.programs, self.axes, self.example = (
            module,
            dict(sorted(programs.items())),
            dict(axes),
            example,
        )
        self.runs = {width: program.module() for width, program in self.programs.items()}
        self.out_axes = output_axes(self.programs)

    def width(self, length: int) -> int:
        """The smallest width that holds a length; ValueError where none does."""
        for width in self.programs:
            if length <= width:
                return width
        raise ValueError(f"a length of {length} is beyond the widest program ({max(self.programs)})")

    def __call__(self, *args: Any, fill: float = 0.0) -> Any:
        """Pad to the next width up, run, cut the outputs back to the length."""
        place, axis = next(iter(self.axes.items()))
        length = args[place].shape[axis]
        width = self.width(length)
        padded = [pad(x, self.axes[p], width, fill) if p in self.axes else x for p, x in enumerate(args)]
        leaves, spec = pytree.tree_flatten(self.runs[width](*padded))
        cut = [x if a is None else x.narrow(a, 0, length) for x, a in zip(leaves, self.out_axes, strict=True)]
        return pytree.tree_unflatten(cut, spec)

    def prove(self, cases: int = 20, seed: int = 0) -> Proof:
        """Compare with the module itself over random lengths and several paddings; ValueError where it shows through.

        Integer inputs are padded with values of the example's range.
        """
        generator = torch.Generator().manual_seed(seed)
        judge = Judge("rounding", 0.0, strict_nan=True, whole=True)
        with torch.no_grad():
            for _ in range(cases):
                length = int(torch.randint(1, max(self.programs) + 1, (), generator=generator))
                args = [
                    sample(x, self.axes.get(place), length, generator) if isinstance(x, Tensor) else x
                    for place, x in enumerate(self.example)
                ]
                expected = tensors_of(self.module(*args))
                for fill in FILLS:
                    judge.look(expected, self(*args, fill=fill), None, (f"length {length}", f"padding {fill:g}"))
                    if judge.detail:
                        raise ValueError(
                            f"real positions see the padding: {judge.detail}; mask it, or compile each length"
                        )
        return judge.proof("to_fixed_widths", cases * len(FILLS))


def to_fixed_widths(module: nn.Module, args: Sequence[Any], axes: Mapping[int, int], widths: Sequence[int]) -> Padded:
    """Export a module once per width. `axes` says which axis of which positional argument is the length.

    Raises ValueError for no width, and torch's own error where a width cannot be exported.
    """
    if not widths or not axes:
        raise ValueError("to_fixed_widths needs at least one width and one argument with a length")
    programs = {}
    for width in sorted(set(widths)):
        resized = [resize(x, axes[place], width) if place in axes else x for place, x in enumerate(args)]
        programs[width] = torch.export.export(module, tuple(resized), strict=False).run_decompositions(decompositions())
    return Padded(module, programs, axes, args)


def resize(x: Tensor, axis: int, width: int) -> Tensor:
    """An example of another length: cut, or padded with zeros."""
    return x.narrow(axis, 0, width) if x.shape[axis] >= width else pad(x, axis, width, 0.0)


def pad(x: Tensor, axis: int, width: int, fill: float) -> Tensor:
    """The tensor filled up behind along an axis. Integers and booleans repeat their last position or take 0."""
    gap = [*x.shape]
    gap[axis] = width - x.shape[axis]
    if x.dtype.is_floating_point or not fill:
        return torch.cat([x, torch.full(gap, fill, dtype=x.dtype, device=x.device)], axis)
    # Any other valid value will do, and values that are there are valid.
    return torch.cat([x, x.narrow(axis, int(fill) % x.shape[axis], 1).expand(gap)], axis)


def sample(x: Tensor, axis: int | None, length: int, generator: torch.Generator) -> Tensor:
    """A random tensor like the example, of a given length along the axis if it has one."""
    if axis is not None:
        x = resize(x, axis, length)
    return draw(x, "normal", "moderate", generator)


def output_axes(programs: Mapping[int, ExportedProgram]) -> list[int | None]:
    """Which axis of each output is the length: the one that follows the width."""
    shapes = {width: [tuple(x.shape) for x in values(program)] for width, program in programs.items()}
    axes: list[int | None] = []
    for place in range(len(next(iter(shapes.values())))):
        rank = len(next(iter(shapes.values()))[place])
        fits = [a for a in range(rank) if all(outputs[place][a] == width for width, outputs in shapes.items())]
        axes.append(fits[0] if fits else None)
    return axes


def values(program: ExportedProgram) -> list[Any]:
    """The fakes of a program's user outputs."""
    known = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [known[name] for name in program.graph_signature.user_outputs if isinstance(name, str)]
