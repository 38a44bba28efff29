"""Rewritten programs as ONNX, for converters that read nothing else: traced, and held against the program again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from hilsim.compiler.onnx_files import CLOSE, INSTALL
from hilsim.compiler.program import quiet
from hilsim.files import written

OPSET = 17  # what the oldest tools here read: TensorRT 8.5 and the DLA's


class Held(nn.Module):
    """A function as a module, whose parameters become constants of the trace."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = [function]  # in a list, as a program's module refuses to change its mode

    def forward(self, *inputs: Any) -> Any:
        return self.function[0](*inputs)


def write_onnx(program: ExportedProgram, inputs: Sequence[Any], file: Path) -> str:
    """Write a program as ONNX; a line about it, or about why not."""
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError:
        return f"{file.name}: not written, as that takes {INSTALL}"
    if program.range_constraints:
        return f"{file.name}: not written, as its sizes vary"
    assert onnx
    module = program.module()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        with quiet(), written(file) as path, torch.no_grad():
            torch.onnx.export(Held(module), tuple(inputs), str(path), dynamo=False, opset_version=OPSET)
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            given = [leaf for leaf in pytree.tree_leaves(tuple(inputs)) if isinstance(leaf, Tensor)]
            names = [value.name for value in session.get_inputs()]
            theirs = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
            apart = distance(pytree.tree_leaves(module(*inputs)), theirs)
            if apart > CLOSE:
                raise ValueError(f"onnxruntime is off by {apart:.1e}")
    except (
        Exception
    ) as error:  # the exporter and onnxruntime fail in many ways, and the program is written all the same
        why = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        return f"{file.name}: not written ({why})"
    return (
        f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB; as onnxruntime computes it, to {apart:.0e} of the largest"
    )


def distance(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The largest difference of outputs, each of its own largest number."""
    found = [0.0]
    for mine, other in zip([leaf for leaf in ours if isinstance(leaf, Tensor)], theirs, strict=True):
        wanted = mine.double()
        if wanted.numel():
            apart = (torch.from_numpy(other).double() - wanted).abs().max()
            found.append((apart / wanted.abs().max().clamp_min(1e-9)).item())
    return max(found)
