"""Modules that take any length, for compilers that take fixed shapes: one graph for each of a few lengths, padded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from hilsim.compiler.findings import Finding
from hilsim.compiler.nodes import tensors_of
from hilsim.compiler.program import Subject, quiet
from hilsim.compiler.rewrite.widths import resized, to_fixed_widths
from hilsim.compiler.site import CompileSite
from hilsim.errors import first_line

WIDTHS = (8, 32, 128)  # as language models are compiled; the module's own bounds cut them


@dataclass(frozen=True)
class FixedLengths:
    """`sized`: by graph its length and the module at it; just the module where there is nothing to fix.

    `example` is the length of the example inputs. A `refusal` says why padding does not do.
    """

    sized: dict[str, tuple[int, Subject]]
    example: int = 1
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""


def fixed_lengths(subject: Subject, program: ExportedProgram, site: CompileSite) -> FixedLengths:
    """The lengths to compile a module for. Where padding shows through, the module stays whole and is refused."""
    as_it_is = {"whole": (1, subject)}
    findings = tuple(found for found in site.book.findings(program, "whole") if found.rule == "dynamic-shape")
    if not findings or not site.may_use("fixed_widths"):
        return FixedLengths(as_it_is)
    axes, symbols = lengths_of(program)
    if len(symbols) != 1:
        return FixedLengths(as_it_is, refusal=f"{len(symbols)} dimensions vary independently; fix all but one of them")
    (symbol,) = symbols
    if not symbol.isidentifier():
        return FixedLengths(
            as_it_is, refusal=f"a dimension is computed from a length ({symbol}); make it the length itself"
        )
    place_of_first, (axis, *_) = next(iter(axes.items()))
    example = pytree.tree_leaves((subject.inputs, subject.kwargs))[place_of_first].shape[axis]
    shortest, longest = bounds_of(program, symbol)
    widths = widths_for(shortest, longest, example)
    try:
        with quiet():
            to_fixed_widths(subject.module, subject.inputs, axes, widths, shortest, subject.kwargs).prove()
    except (ValueError, RuntimeError) as error:
        return FixedLengths(as_it_is, refusal=f"fixed widths do not work: {first_line(error)}")
    sized = {}
    for width in widths:
        inputs, kwargs = resized((subject.inputs, subject.kwargs), axes, width)
        sized[f"width {width}"] = (width, replace(subject, inputs=inputs, kwargs=kwargs, dynamic_shapes=None))
    wide = ", ".join(map(str, widths))
    note = f"Any length becomes {len(widths)} graphs, {wide} wide, padded; real positions do not see it."
    return FixedLengths(sized, example, findings, (note,))


def lengths_of(program: ExportedProgram) -> tuple[dict[int, tuple[int, ...]], set[str]]:
    """By leaf of the inputs the axes that vary, and the symbols that such axes have."""
    axes: dict[int, tuple[int, ...]] = {}
    symbols: set[str] = set()
    for place, (_, sizes) in enumerate(user_inputs(program)):
        varying = tuple(axis for axis, size in enumerate(sizes) if isinstance(size, torch.SymInt))
        if varying:
            axes[place] = varying
            symbols |= {str(sizes[axis]) for axis in varying}
    return axes, symbols


def user_inputs(program: ExportedProgram) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Names and shapes of the inputs that a user passes."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            found = tensors_of(nodes[spec.arg.name])
            yield spec.arg.name, tuple(found[0].shape) if found else ()


def bounds_of(program: ExportedProgram, symbol: str) -> tuple[int, int | None]:
    """The shortest and the longest that a length may be, as the module was exported; None without a limit."""
    for key, found in program.range_constraints.items():
        if str(key) == symbol:
            return max(1, int(found.lower)), int(found.upper) if str(found.upper).isdecimal() else None
    return 1, None


def widths_for(shortest: int, longest: int | None, example: int) -> list[int]:
    """A few lengths within the bounds, the longest of them included; one beyond 8192 is no bound."""
    if longest is None or longest > 8192:
        longest = max(example, WIDTHS[-1])
    return sorted({width for width in WIDTHS if shortest <= width < longest} | {longest})
