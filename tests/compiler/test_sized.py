"""Decoders at many sizes from one export are, node by node, what an export at each size gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import ExportedProgram

from hilsim.compiler import sized
from hilsim.compiler.deployed import meta_model
from hilsim.compiler.program import Subject, exported
from hilsim.describe.head import Head, LogitsHead, TopKSamplingHead
from hilsim.networks.config import NetworkConfig

SIZES = {
    "vocab_size": 640, "hidden_size": 48, "intermediate_size": 80, "heads": 6, "kv_heads": 2, "head_dim": 8,
    "max_positions": 64, "tied": True, "windows": None, "layers": 2,
}  # fmt: skip


def told(program: ExportedProgram) -> list[Any]:
    """Everything that rules and prices read of a program."""
    nodes = []
    for node in program.graph.nodes:
        value = node.meta.get("val")
        values = value if isinstance(value, list | tuple) else [value]
        tensors = [(tuple(x.shape), x.stride(), x.dtype) for x in values if isinstance(x, torch.Tensor)]
        place = (node.meta.get("stack_trace"), str(node.meta.get("nn_module_stack")))
        nodes.append((node.name, node.op, str(node.target), str(node.args), str(node.kwargs), tensors, place))
    held = {**program.state_dict, **program.constants}
    return [*nodes, {name: (tuple(x.shape), x.dtype) for name, x in held.items()}, str(program.graph_signature)]


@pytest.mark.parametrize("head", [LogitsHead(name="logits"), TopKSamplingHead(name="top_k_sampling", k=40)])
@pytest.mark.slow
def test_a_program_at_a_size_is_its_export(head: Head) -> None:
    made: list[int] = []

    def at(rows: int, context: int) -> Subject:
        made.append(rows)
        config = NetworkConfig(**{**SIZES, "max_positions": context})  # type: ignore[arg-type]
        return meta_model("decoder", config, rows, context, head)

    for rows, context in ((1, 64), (1, 31), (5, 64), (16, 52), (7, 9), (8, 4), (3, 4)):
        program = sized.program_at(at, rows, context, ("test", repr(head)))
        assert told(program) == told(exported(at(rows, context))), (rows, context)
    templates = [key for key in sized.KNOWN if key[0] == "test" and key[1] == repr(head)]
    assert all(sized.KNOWN[key] is not None for key in templates)
    assert len(templates) < 5  # one row; several; with one position cached, or none


def test_numbers_say_what_they_are_of_or_are_refused() -> None:
    rows, cached = 7, 100
    for many, times, rest in ((0, 0, 4096), (0, 1, 0), (0, 24, 0), (1, 1, 0), (1, 0, -1), (0, 3, 128_000)):
        number = many * sized.CACHED + times * sized.ROWS + rest
        assert sized.read(number, rows, cached) == many * cached + times * rows + rest
    assert sized.read(2**63 - 1, rows, cached) == 2**63 - 1
    for number in (
        sized.ROWS * 128_256,
        sized.ROWS * 2048,
        sized.ROWS // 2,
        sized.CACHED * 3,
        sized.ROWS * sized.CACHED,
    ):
        with pytest.raises(ValueError, match="no sum"):
            sized.read(number, rows, cached)
