"""Rewritten programs as ONNX, for converters that read nothing else: traced, and held against the original again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from hilsim.compiler.agreement import Inputs, agreement_of
from hilsim.compiler.onnx_read import INSTALL, MOST
from hilsim.compiler.program import quiet
from hilsim.compiler.rewrite.proof import run, tensors_of
from hilsim.errors import first_line
from hilsim.files import written

OPSET = 17  # what the oldest tools here read: TensorRT 8.5 and the DLA's
COMPARED = 8  # random inputs
aten = torch.ops.aten


def rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """An RMS norm in mean and product: ONNX has it as one operator from opset 23 on alone."""
    mean = (x * x).mean(tuple(range(-len(shape), 0)), keepdim=True)
    normed = x * torch.rsqrt(mean + (torch.finfo(x.dtype).eps if eps is None else eps))
    return normed if weight is None else normed * weight


def batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, momentum: float, eps: float
) -> tuple[Tensor, None, None]:
    return F.batch_norm(x, mean, variance, weight, bias, False, momentum, eps), None, None


def converted(x: Tensor, **kwargs: Any) -> Tensor:
    return x.to(kwargs.get("dtype") or x.dtype)


# Core operators that the exporter lacks, as those that it has.
SPELLED: dict[Any, Callable[..., Any]] = {
    aten.rms_norm.default: rms_norm,
    aten._softmax.default: lambda x, dim, half: torch.softmax(x, dim),
    aten._log_softmax.default: lambda x, dim, half: torch.log_softmax(x, dim),
    aten._native_batch_norm_legit_no_training.default: batch_norm,
    aten._to_copy.default: converted,
    aten._adaptive_avg_pool2d.default: lambda x, size: F.adaptive_avg_pool2d(x, size),
    aten.clone.default: lambda x, **kwargs: x,
    aten.view.default: lambda x, size: x.reshape(size),  # ONNX has no strides, and its tensors no views
    aten.grid_sampler_2d.default: torch.grid_sampler,
    aten.grid_sampler_3d.default: torch.grid_sampler,
}


class Spelled(fx.Interpreter):
    """Runs a program's graph in operators that the exporter knows."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super().call_function(SPELLED.get(target, target), args, kwargs)


class Held(nn.Module):
    """A program's module, whose parameters become constants of the trace."""

    def __init__(self, module: fx.GraphModule):
        super().__init__()
        self.module = [module]  # in a list, as a program's module refuses to change its mode

    def forward(self, *inputs: Tensor) -> Any:
        return Spelled(self.module[0]).run(*inputs)


def write_onnx(
    program: ExportedProgram,
    inputs: Inputs,
    file: Path,
    original: ExportedProgram | None = None,
    names: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> str:
    """Write a program as ONNX; a line about it, or about why not.

    `inputs` gives those of a seed. onnxruntime computes the file over `COMPARED` of them, which is held against
    `original` (default: the program itself). `names` are those of the file's inputs and outputs.
    """
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError:
        return f"{file.name}: not written, as that takes {INSTALL}"
    assert onnx
    if why := refusal(program):
        return f"{file.name}: not written ({why})"
    module, reference = program.module(), (original or program).module()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        with quiet(), written(file) as path, torch.no_grad():
            torch._C._jit_set_onnx_log_output_stream("stderr")  # not into a document on standard output
            torch.onnx.export(
                Held(module), inputs(0), str(path), dynamo=False, opset_version=OPSET,
                input_names=[*names[0]] or None, output_names=[*names[1]] or None,
            )  # fmt: skip
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            entries = [entry.name for entry in session.get_inputs()]

            def theirs(given: tuple[Any, ...]) -> list[Tensor]:
                leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
                results = session.run(None, {name: leaf.numpy() for name, leaf in zip(entries, leaves, strict=True)})
                return [torch.from_numpy(result) for result in results]

            agreement = agreement_of(lambda given: tensors_of(run(reference, (given, {}))[0]), theirs, inputs, COMPARED)
            if not agreement.good:
                raise ValueError(f"onnxruntime is off: {agreement}")
    except (
        Exception
    ) as error:  # the exporter and onnxruntime fail in many ways, and the program is written all the same
        return f"{file.name}: not written ({first_line(error)[:160]})"
    return f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB; by onnxruntime over {agreement}"


def refusal(program: ExportedProgram) -> str:
    """Why ONNX cannot hold a program, or ""."""
    if program.range_constraints:
        return "its sizes vary"
    held = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if held >= MOST:
        return f"its weights are {held / 2**30:.1f} GiB, and one ONNX file holds 2; the .pt2 beside it has them"
    strange = {
        str(tensor.dtype).removeprefix("torch.") for tensor in program.state_dict.values() if tensor.is_complex()
    }
    return f"ONNX has no tensors of {' or '.join(sorted(strange))}" if strange else ""
