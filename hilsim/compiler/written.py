"""Rewritten programs on disk: each is compared with its original over random inputs before it is saved."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from hilsim.compiler.agreement import CASES, Agreement, Inputs, agreement_of, require_agreement
from hilsim.compiler.choose import plan_graph
from hilsim.compiler.compile_check import profile_of, site_of
from hilsim.compiler.deployed import stand_in_program
from hilsim.compiler.nodes import is_random
from hilsim.compiler.onnx_written import write_onnx
from hilsim.compiler.plan import Plan
from hilsim.compiler.planner import Prepared, graph_rows, plan_module
from hilsim.compiler.program import SAME_MODULES, Subject, exported, quiet, subject_of
from hilsim.compiler.rewrite.proof import prove_programs, run, tensors_of
from hilsim.compiler.rewrite.siamese import two_graphs
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.registry import mended
from hilsim.describe.head import Head
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import CompileError
from hilsim.files import written
from hilsim.networks.network import load_network
from hilsim.progress import Notify


def write_scenario(setup: Setup, plans: dict[int, Plan], folder: Path, notify: Notify) -> list[str]:
    """Save the stand-ins' graphs and the networks beside them as rewritten; returns a line a file."""
    context, reports = setup.scenario.context_tokens, []
    for index, part in enumerate(setup.parts):
        profile = profile_of(setup, part)
        if index not in plans or profile is None:
            continue
        site = site_of(part, profile, setup.scenario.compile)
        if not isinstance(part, Placed):
            subject = replace(
                subject_of(part.placement.module, Path(setup.file).parent), name=f"network {part.placement.name}"
            )
            plan, prepared = plan_module(
                subject, site, notify, unit=part.track, precision=part.precision, role="network"
            )
            reports += write_module(plan, prepared, folder, notify, part.placement.name)
        elif part.stand_in is not None:
            reports += write_decoder(part, site, min(context, 1024), folder, notify)
            reports.append(write_plan(plans[index], folder, part.role))
        else:
            reports.append(f"{part.role}: no stand-in, so there is no program to write")
    return reports


def write_decoder(placed: Placed, site: CompileSite, context: int, folder: Path, notify: Notify) -> Iterator[str]:
    """Every graph of a stand-in, weights and all."""
    assert placed.stand_in is not None
    network = load_network(placed.stand_in)
    for name, rows in graph_rows(placed, context).items():
        notify(f"{placed.role}: {name}")
        subject = stand_in_program(f"{placed.role} {name}", network, rows, context, placed.head)
        program = exported(subject)
        plan_graph(name, rows, program, site)
        program, what = mended(program, site)
        inputs = partial(decoder_inputs, subject, network.config.vocab_size)
        original, file = exported(subject), folder / f"{placed.role}-{name.replace(' ', '-')}"
        yield saved(program, file.with_suffix(".pt2"), with_mended(compared(original, program, inputs), what))
        yield write_onnx(program, inputs, file.with_suffix(".onnx"), original, decoder_names(placed.head))


def decoder_inputs(subject: Subject, vocabulary: int, seed: int) -> tuple[Any, ...]:
    """Random tokens over a random cache at the example's positions and mask."""
    generator = torch.Generator().manual_seed(seed)
    tokens, positions, mask, keys, values, *extra = subject.inputs
    drawn = torch.randint(vocabulary, tokens.shape, generator=generator)
    past = [torch.randn(cache.shape, generator=generator) * 0.3 for cache in (keys, values)]
    open_mask = torch.where(torch.rand(mask.shape, generator=generator) < 0.5, 0.0, mask) if seed % 2 else mask
    noise = [torch.rand(extra[0].shape, generator=generator), extra[1]] if extra else []
    return (drawn, positions, open_mask, *past, *noise)


def decoder_names(head: Head) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a decoder's inputs and outputs in an ONNX file, caches among them."""
    takes, gives = ("tokens", "positions", "mask", "keys", "values"), ("new_keys", "new_values")
    if head.name == "top_k_sampling":
        return (*takes, "uniform", "sharpness"), ("ids", *gives)
    outputs = {"argmax": ("ids",), "top_k": ("top_logits", "ids")}.get(head.name, ("logits",))
    return takes, (*outputs, *gives)


def compared(original: ExportedProgram, rewritten: ExportedProgram, inputs: Inputs, cases: int = CASES) -> Agreement:
    """Run both over `inputs(seed)`. Raises `CompileError` where they disagree."""
    with quiet():
        before, after = original.module(), rewritten.module()

    def outputs(module: GraphModule, given: tuple[Any, ...]) -> list[Tensor]:
        return tensors_of(run(module, (given, {}))[0])

    return require_agreement(agreement_of(partial(outputs, before), partial(outputs, after), inputs, cases))


def write_module(
    plan: Plan, prepared: dict[str, Prepared], folder: Path, notify: Notify, name: str = "module"
) -> list[str]:
    """Save a module's rewritten programs beside their plan."""
    reports = []
    for graph, planned in prepared.items():
        notify(f"{name}: {graph}")
        program, what = mended(planned.program, planned.site)
        part = replace(planned, program=program)
        draws = any(is_random(node) for node in part.program.graph.nodes)
        agreement = "not compared, as it draws random numbers" if draws else agreed(part, f"{name}, {graph}")
        agreement = with_mended(agreement, what)
        suffix = "" if graph == "whole" else f"-{graph.replace(' ', '-')}"
        for place, program in enumerate(pieces(part), 1):
            stage = "" if program is part.program else f"-stage-{place}"
            reports.append(saved(program, folder / f"{name}{suffix}{stage}.pt2", agreement))
            if program is part.program and not part.subject.kwargs and not draws:
                inputs = partial(drawn_inputs, part.subject.inputs)
                reports.append(write_onnx(program, inputs, folder / f"{name}{suffix}.onnx"))
    return [*reports, write_plan(plan, folder, name)]


def drawn_inputs(example: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Inputs like the example's: itself for seed 0, else floats of its mean and spread, and its integers mixed."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.numel() or leaf.is_complex():
            return leaf
        if not leaf.dtype.is_floating_point:
            return leaf.flatten()[torch.randint(leaf.numel(), leaf.shape, generator=generator)]
        numbers = leaf.float()
        spread = float(numbers.std(correction=0)) or 1.0
        return (torch.randn(leaf.shape, generator=generator) * spread + numbers.mean()).to(leaf.dtype)

    made: tuple[Any, ...] = pytree.tree_map(drawn, example) if seed else example
    return made


def with_mended(agreement: object, what: str) -> str:
    """How programs agreed, and what was slow in the original and is not in what is written."""
    return f"{agreement}; {what}" if what else str(agreement)


def agreed(part: Prepared, name: str) -> str:
    """A module's programs, original and rewritten, over random inputs. Raises `CompileError` where they disagree."""
    with quiet():
        proof = prove_programs(
            exported(part.subject), part.program, part.subject.inputs, cases=CASES, exactness="rounding"
        )
    if not proof.passed:
        why = f"the rewritten program disagrees with its original: {proof.detail}"
        raise CompileError([f"{name}: {why}. Nothing was written."])
    return f"{proof.cases} random inputs: largest difference {proof.worst_difference:.1e}"


def pieces(part: Prepared) -> list[ExportedProgram]:
    """The program, or its stages where each call of a module is a graph of its own."""
    apart = [use.module for use in part.uses if use.name == "two_graphs"]
    if len(apart) != 1:
        return [part.program]
    names = part.program.graph_module.meta.get(SAME_MODULES, {})
    paths = [path for path, first in names.items() if first == apart[0]] or apart
    return [stage.program for stage in two_graphs(part.program, paths).stages]


def saved(program: ExportedProgram, file: Path, agreement: object) -> str:
    """Write one program whole; a line about it."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer)
    with written(file) as path:
        path.write_bytes(buffer.getvalue())
    return f"{file.name}: {len(buffer.getvalue()) / 2**20:.1f} MiB; {agreement}"


def write_plan(plan: Plan, folder: Path, name: str) -> str:
    """The plan beside its programs."""
    file = folder / f"{name}-plan.json"
    with written(file) as path:
        path.write_text(json.dumps(plan.as_json(), indent=2) + "\n", encoding="utf-8")
    return file.name
