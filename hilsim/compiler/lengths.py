"""Modules that take any length, for compilers that take fixed shapes: one graph for each of a few lengths, padded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from hilsim.compiler.choose import Place
from hilsim.compiler.findings import Finding
from hilsim.compiler.nodes import tensors_of
from hilsim.compiler.program import Subject, quiet
from hilsim.compiler.rewrite.widths import resize, to_fixed_widths

WIDTHS = (8, 32, 128)  # as language models are compiled; the module's own bounds cut them


@dataclass(frozen=True)
class Lengths:
    """`sized`: by graph its length and the module at it; just the module where there is nothing to fix.

    `example` is the length of the example inputs. A `refusal` says why padding does not do.
    """

    sized: dict[str, tuple[int, Subject]]
    example: int = 1
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""


def fixed_lengths(subject: Subject, program: ExportedProgram, place: Place) -> Lengths:
    """The lengths to compile a module for. Where padding shows through, the module stays whole and is refused."""
    as_it_is = {"whole": (1, subject)}
    findings = tuple(found for found in place.book.findings(program, "whole") if found.rule == "dynamic-shape")
    if not findings or not place.may_use("fixed_widths"):
        return Lengths(as_it_is)
    axes, symbols = lengths_of(program)
    if len(symbols) != 1:
        return Lengths(as_it_is, refusal=f"{len(symbols)} dimensions vary independently; fix all but one of them")
    example = next(subject.inputs[position].shape[axis] for position, axis in axes.items())
    widths = widths_for(program, example)
    try:
        with quiet():
            to_fixed_widths(subject.module, subject.inputs, axes, widths).prove()
    except (ValueError, RuntimeError) as error:
        return Lengths(as_it_is, refusal=f"fixed widths do not do: {str(error).splitlines()[0]}")
    sized = {}
    for width in widths:
        inputs = tuple(
            resize(given, axes[position], width) if position in axes else given
            for position, given in enumerate(subject.inputs)
        )
        sized[f"width {width}"] = (width, replace(subject, inputs=inputs, dynamic_shapes=None))
    wide = ", ".join(map(str, widths))
    note = f"Any length becomes {len(widths)} graphs, {wide} wide, padded; real positions do not see it."
    return Lengths(sized, example, findings, (note,))


def lengths_of(program: ExportedProgram) -> tuple[dict[int, int], set[str]]:
    """By place among the inputs the axis that varies, and the symbols that such axes have."""
    axes: dict[int, int] = {}
    symbols: set[str] = set()
    for position, (_, sizes) in enumerate(user_inputs(program)):
        for axis, size in enumerate(sizes):
            if isinstance(size, torch.SymInt):
                axes[position] = axis
                symbols.add(str(size))
    return axes, symbols


def user_inputs(program: ExportedProgram) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Names and shapes of the inputs that a user passes."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            found = tensors_of(nodes[spec.arg.name])
            yield spec.arg.name, tuple(found[0].shape) if found else ()


def widths_for(program: ExportedProgram, example: int) -> list[int]:
    """A few lengths within the bounds that the module was exported with, the longest of them included."""
    bounds = [(int(found.lower), found.upper) for found in program.range_constraints.values()]
    low = max((lower for lower, _ in bounds), default=1)
    uppers = [int(upper) for _, upper in bounds if str(upper).isdecimal() and int(upper) <= 8192]
    longest = min(uppers) if uppers else max(example, WIDTHS[-1])
    return sorted({width for width in WIDTHS if low <= width < longest} | {longest})
