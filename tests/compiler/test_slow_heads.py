"""Repeated key and value heads: found in every spelling, mended to the same numbers in groups; groups are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hilsim.compiler.language import carried, products_in
from hilsim.compiler.nodes import operator_of, place_of
from hilsim.compiler.onnx_files import onnx_subject
from hilsim.compiler.planner import plan_module
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.heads import copied_of, put_product
from hilsim.compiler.slow.registry import mend, slow_places
from hilsim.compiler.written import write_module
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from hilsim.progress import silent
from tests.compiler.slow_forms import (
    ATTENTIONS,
    GROUPED,
    HEADS,
    KV,
    REPEATED,
    WIDTH,
    Form,
    Product,
    inputs,
    repeat_kv,
    scores,
)  # fmt: skip

HERE = Path("test")


def program_of(form: Form, batch: int = 1, *, dynamic: bool = False) -> ExportedProgram:
    shapes = ({}, {2: Dim.DYNAMIC}) if dynamic else None
    return exported(Subject("product", Product(form), inputs(batch), shapes))


def names_of(program: ExportedProgram) -> list[str]:
    return [place.pattern.name for place in slow_places(program)]


def most_numbers(program: ExportedProgram, operators: Sequence[str]) -> list[int]:
    """The numbers of the second operand of products."""
    found: list[Any] = [node for node in program.graph.nodes if operator_of(node) in operators]
    return [node.args[1].meta["val"].numel() for node in found]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", REPEATED)
def test_repeated_heads_become_groups_of_exactly_the_same_numbers(name: str, batch: int) -> None:
    program = program_of(REPEATED[name], batch)
    assert names_of(program).count("repeat_kv") == 1
    mended = copied(program)
    assert mend(mended) == {"repeat_kv": 1}
    assert "repeat_kv" not in names_of(mended)
    assert torch.equal(program.module()(*inputs(batch)), mended.module()(*inputs(batch)))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_over_repeated_heads_is_mended(name: str) -> None:
    program = program_of(ATTENTIONS[name], 2)
    mended = copied(program)
    assert set(names_of(program)) == {"repeat_kv"}
    assert mend(mended)
    assert names_of(mended) == []
    proof = prove_programs(program, mended, inputs(2), cases=30)
    assert proof.passed, proof.detail


@pytest.mark.parametrize("name", ["repeat_kv", "tile", "stacked heads", "einsum", "repeated before rotation"])
def test_a_length_known_at_run_time_is_mended_for_every_length(name: str) -> None:
    program = program_of(REPEATED[name], dynamic=True)
    mended = copied(program)
    assert mend(mended) == {"repeat_kv": 1}
    q, k = inputs()
    for length in (2, 5, 9):
        keys = torch.cat((k, k), 2)[:, :, :length].contiguous()
        assert torch.equal(program.module()(q, keys), mended.module()(q, keys))


@pytest.mark.parametrize("name", GROUPED)
def test_what_repeats_nothing_is_left_alone(name: str) -> None:
    assert names_of(program_of(GROUPED[name], 2)) == []


def test_a_batch_that_is_copied_is_called_one() -> None:
    """Four beams over one memory of as many heads; left to the product, nothing is copied."""
    program = program_of(lambda self, q, k: q[:, :KV] @ k[:1].expand(4, -1, -1, -1).transpose(2, 3), 4)
    assert [(place.pattern.name, place.detail) for place in slow_places(program)] == [
        ("repeat_batch", "each entry 4 times")
    ]
    mended = copied(program)
    assert mend(mended) == {"repeat_batch": 1}
    assert torch.equal(program.module()(*inputs(4)), mended.module()(*inputs(4)))
    assert names_of(program_of(lambda self, q, k: q @ k[:1].repeat(1, 2, 1, 1).transpose(2, 3), 4)) == ["repeat_kv"]
    assert names_of(program_of(lambda self, q, k: q[:, :KV] @ k[:1].transpose(2, 3), 4)) == []


def test_the_product_reads_each_key_once() -> None:
    program = program_of(REPEATED["repeat_kv"])
    assert most_numbers(program, ["aten.bmm.default"]) == [4 * 5 * 8]
    mend(program)
    assert most_numbers(program, ["aten.bmm.default"]) == [2 * 5 * 8]


@pytest.mark.parametrize("name", [name for name in REPEATED if name != "keys first"])
def test_keys_are_counted_before_they_are_repeated_however_that_is_spelled(name: str) -> None:
    program = program_of(REPEATED[name])
    facts = Facts(program)
    (product,) = (one for one in products_in(program, facts.constants) if not one.weights)
    heads = {"one key head": 1, "cache and new rows repeated": 2 * KV}.get(name, KV)
    assert carried(product.operands[1], facts.constants, facts.copies) == heads * 5 * WIDTH


def test_groups_in_a_wrong_order_are_found_out() -> None:
    """The negative control: heads that are repeated in turn, grouped as if all were repeated over again."""
    program = program_of(REPEATED["repeat_kv"])
    wrong = copied(program)
    facts = Facts(wrong)
    (node,) = (node for node in facts.nodes if operator_of(node) == "aten.bmm.default")
    operands: Any = node.args
    known = copied_of(facts.copies, operands[1])
    assert known is not None
    put_product(node, replace(known, axes=(known.axes[0][::-1], *known.axes[1:])), 1, wrong)
    assert not torch.equal(program.module()(*inputs()), wrong.module()(*inputs()))
    assert not prove_programs(program, wrong, inputs(), cases=20).passed


def test_heads_in_no_regular_order_are_left() -> None:
    """A head more for the first group than for the second: no groups of equal size."""
    assert names_of(program_of(scores(lambda self, k: k[:, [0, 0, 0, 1]]))) == []


def test_weights_that_are_expanded_are_folded_and_no_finding() -> None:
    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(1, 8, 5))

        def forward(self, q: Tensor) -> Tensor:
            return q.flatten(0, 1) @ self.w.expand(4, 8, 5)

    assert names_of(exported(Subject("weights", Weights(), (inputs()[0],)))) == []


class Plain(nn.Module):
    """Attention of grouped queries as checkpoints have it: projections, rotation left out, repeat_kv, output."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, HEADS * WIDTH), nn.Linear(16, KV * WIDTH), nn.Linear(16, KV * WIDTH)
        self.out = nn.Linear(HEADS * WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (-1, WIDTH)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = torch.softmax(q @ repeat_kv(k).transpose(2, 3) * WIDTH**-0.5, -1) @ repeat_kv(v)
        made: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return made


def test_a_plain_export_is_written_in_groups_and_compared(tmp_path: Path) -> None:
    """`--write`: the saved program repeats nothing and gives the same numbers."""
    torch.manual_seed(0)
    subject = Subject("plain", Plain(), (torch.randn(1, 6, 16),))
    unit = load_chip("sa8797p", HERE).units["npu"]
    profile = load_profile(unit.profiles[0], HERE)
    for rewrites, left in (("auto", 0), ("none", 2)):
        site = CompileSite(unit, unit.precisions["w8a16"], profile, Compile(rewrites=rewrites))
        plan, prepared = plan_module(subject, site, silent, unit="npu", precision="w8a16")
        folder = tmp_path / rewrites
        folder.mkdir()
        lines = write_module(plan, prepared, folder, silent)
        program = torch.export.load(folder / "module.pt2")
        assert names_of(program).count("repeat_kv") == left
        assert any("mended: repeat_kv at 2 places" in line for line in lines) == (not left)
        assert torch.allclose(program.module()(*subject.inputs), subject.module(*subject.inputs), atol=1e-5)


def test_a_file_of_onnx_is_read_for_the_same_pattern(tmp_path: Path) -> None:
    """Unsqueeze, Expand, Reshape, as exporters to ONNX write it; Tile; Gather."""
    spelled = {
        "expand": [("Unsqueeze", ["k", "two"], "u"), ("Expand", ["u", "wide"], "e"), ("Reshape", ["e", "out"], "r")],
        "tile": [("Tile", ["k", "times"], "r")],
        "gather": [("Gather", ["k", "heads"], "r")],
    }
    held = {"two": [2], "wide": [1, 2, 2, 5, 8], "out": [1, 4, 5, 8], "times": [1, 2, 1, 1], "heads": [0, 0, 1, 1]}
    for name, steps in spelled.items():
        nodes = [
            helper.make_node(kind, given, [made], **({"axis": 1} if kind == "Gather" else {}))
            for kind, given, made in steps
        ]
        nodes += [
            helper.make_node("Transpose", ["r"], ["t"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q", "t"], ["o"]),
        ]
        used = {given for _, names, _ in steps for given in names} & held.keys()
        shapes = {"q": [1, 4, 3, 8], "k": [1, 2, 5, 8], "o": [1, 4, 3, 5]}
        values = {key: helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items()}
        tensors = [helper.make_tensor(key, TensorProto.INT64, [len(held[key])], held[key]) for key in sorted(used)]
        graph = helper.make_graph(nodes, name, [values["q"], values["k"]], [values["o"]], tensors)
        file = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
        subject, *_ = onnx_subject(file)
        program = exported(subject)
        (found,) = slow_places(program)
        assert place_of(found.nodes[0]).module.lower().startswith(name)
        mended = copied(program)
        assert mend(mended) == {"repeat_kv": 1}, name
        (ours,), (theirs,) = (one.module()(*inputs()) for one in (program, mended))
        assert torch.equal(ours, theirs), name


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Phi3"])
def test_checkpoints_of_transformers_are_found_and_mended(family: str, attention: str) -> None:
    """A prompt of a tiny model of each family: keys and values of both layers, or one attention a layer."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    given = (torch.arange(8)[None],)
    program = exported(Subject(family, Logits(network), given))
    mended = copied(program)
    assert mend(mended)["repeat_kv"] == (4 if attention == "eager" else 2)
    proof = prove_programs(program, mended, given, cases=5, slack=16)
    assert proof.passed, proof.detail


class Logits(nn.Module):
    """A model of transformers without its cache."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.network(input_ids=tokens, use_cache=False).logits
        return made
