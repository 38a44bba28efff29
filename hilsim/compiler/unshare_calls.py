"""Unshares modules that are called twice where a compiler refuses that, the most exact way first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch.export import ExportedProgram

from hilsim.compiler.choose import EXACTNESS
from hilsim.compiler.findings import Finding
from hilsim.compiler.nodes import constants_of, numel, parameters_of
from hilsim.compiler.operator_costs import work_of_all
from hilsim.compiler.plan import Chosen, Option
from hilsim.compiler.program import Subject, exported_once, quiet
from hilsim.compiler.rewrite.siamese import one_call, two_encoders, two_graphs
from hilsim.compiler.shared import Shared, parameter_name, shared_in
from hilsim.compiler.site import CompileSite

WAYS = {
    "two_encoders": ("a copy of the parameters for every further call", "bits", ""),
    "one_call": ("both inputs in one call, a batch of two", "rounding", "a batch of two may round otherwise than one"),
    "two_graphs": ("a graph for each call, in one context that shares weights", "bits", ""),
}


def calls_apart(
    subject: Subject, program: ExportedProgram, site: CompileSite, refused: Sequence[Finding]
) -> tuple[ExportedProgram, tuple[Chosen, ...]]:
    """The program without the modules that are refused for being called again, and how that was done."""
    chosen: list[Chosen] = []
    for found in refused:
        shared = next((part for part in shared_in(program) if part.modules[0] == found.module), None)
        if shared is None:
            continue
        # Only one module at a time can be batched; copies can be made of several.
        alone = len(refused) == 1 and subject.dynamic_shapes is None
        names = [name for name in found.rewrites if name != "one_call" or alone]
        ways = [way for name in names if (way := way_of(name, subject, program, site, shared)) is not None]
        if not ways:
            continue
        ways.sort(key=lambda way: (EXACTNESS.index(way.exactness), way.seconds, way.bytes))
        first, *others = ways
        if first.name == "one_call":
            with quiet():
                program = one_call(subject.module, subject.inputs, shared.modules[0], kwargs=subject.kwargs)
        else:
            two_encoders(program, shared.modules)
        options = tuple(Option(way.name, way.seconds, way.bytes, way.exactness, way.caveat) for way in others)
        chosen.append(replace(first, others=options))
    return program, tuple(chosen)


def way_of(name: str, subject: Subject, before: ExportedProgram, site: CompileSite, shared: Shared) -> Chosen | None:
    """One way to unshare calls, and its cost over leaving them as they are; None where it does not work."""
    if not site.may_use(name):
        return None
    path = shared.modules[0]
    held = [tensor for key, tensor in parameters_of(before).items() if parameter_name(before, key) in shared.names]
    doubled = round(sum(map(numel, held)) * site.precision.weight_bits.si / 8) * (shared.calls - 1)
    try:
        if name == "one_call":
            with quiet():
                made = one_call(subject.module, subject.inputs, path, kwargs=subject.kwargs)
        else:
            made = exported_once(subject)
            if name == "two_graphs":
                two_graphs(made, shared.modules)  # that it can be cut; in numbers it is two encoders, weights once
            two_encoders(made, shared.modules)
    except ValueError:
        return None
    more = work_of_all(made.graph.nodes, constants_of(made)) - work_of_all(before.graph.nodes, constants_of(before))
    title, exactness, caveat = WAYS[name]
    source = "pytorch/executorch PR 6657" if name == "two_graphs" else "general technique"
    return Chosen(
        name=name, title=title, operator="module call", module=path, nodes=shared.calls, exactness=exactness,
        caveat=caveat, source=source, work=more, seconds=site.seconds(more),
        held_bytes=doubled if name == "two_encoders" else 0,
    )  # fmt: skip
