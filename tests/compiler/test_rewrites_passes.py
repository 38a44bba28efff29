"""Passes over whole programs: modules called twice, 32-bit integers, fixed widths; and surgery without memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.nn import functional

from hilsim.compiler.rewrite.apply import apply
from hilsim.compiler.rewrite.integers import int64_to_int32
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.rewrite.registry import by_name
from hilsim.compiler.rewrite.siamese import calls, one_call, two_encoders, two_graphs
from hilsim.compiler.rewrite.widths import to_fixed_widths
from tests.compiler.test_rewrites_programs import Head, export, normal, reloaded


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.register_buffer("scale", torch.full((4,), 1.5))
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
        x = self.norm(torch.relu(self.first(x))) * self.scale + self.shift
        return x * gain, x


class Pair(nn.Module):
    """Two views through one encoder; the first is used before the second is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, raw = self.encoder(x, gain=2.0)
        early = raw.sum(-1)
        right, _ = self.encoder(y * 2, gain=2.0)
        return self.head(torch.cat([left, right], -1)), early


class Chain(Pair):
    """The second call reads what the first one made."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, raw = self.encoder(x)
        return self.head(torch.cat([left, self.encoder(left + y)[0]], -1)), raw


VIEWS = normal(3, 4), normal(3, 4) + 1


def call_sites(program: ExportedProgram, parameter: str) -> int:
    name = {v: k for k, v in program.graph_signature.inputs_to_parameters.items()}.get(parameter)
    return sum(len(node.users) for node in program.graph.nodes if node.name == name)


@pytest.mark.parametrize("kind", [Pair, Chain])
def test_copies_of_the_parameters_give_the_same_bits_and_survive_a_file(kind: type[Pair]) -> None:
    module = kind()
    original, program = export(module, *VIEWS), export(module, *VIEWS)
    assert len(calls(program, "encoder")) == 2
    assert call_sites(program, "encoder.first.weight") == 2
    made = two_encoders(program, "encoder")
    assert len(made) == 6
    assert "encoder.first.weight_copy1" in program.state_dict
    assert call_sites(program, "encoder.first.weight") == call_sites(program, "encoder.first.weight_copy1") == 1
    program.validate()
    assert prove_programs(original, program, VIEWS, cases=50, exactness="bits").passed
    assert prove_programs(original, reloaded(program), VIEWS, cases=50, exactness="bits").passed
    with torch.no_grad():
        program.state_dict["encoder.norm.bias_copy1"][0] += 1e-6
    assert not prove_programs(original, program, VIEWS, cases=50, exactness="bits").passed


@pytest.mark.parametrize("kind", [Pair, Chain])
def test_one_graph_per_call_gives_the_same_bits(kind: type[Pair]) -> None:
    module = kind()
    program = export(module, *VIEWS)
    stages = two_graphs(program, "encoder")
    assert len(stages.stages) == 2
    for stage in stages.stages:
        stage.program.validate()
        reloaded(stage.program)
        assert call_sites(stage.program, "encoder.first.weight") == 1
    for seed in range(20):
        x, y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))
        for expected, found in zip(program.module()(x, y), stages(x, y), strict=True):
            assert torch.equal(expected, found)


def test_one_call_with_both_inputs_is_the_same_up_to_rounding() -> None:
    module = Pair()
    program = one_call(module, VIEWS, "encoder")
    assert len(calls(program, "encoder")) <= 1
    assert call_sites(program, "encoder.first.weight") == 1
    assert prove_programs(export(module, *VIEWS), program, VIEWS, cases=200).passed


class Aliased(Pair):
    """One encoder under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self.encoder

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        left, raw = self.encoder(x)
        return self.head(torch.cat([left, self.other(y)[0]], -1)), raw


def test_a_module_with_two_names_is_found_by_both() -> None:
    module = Aliased()
    original, program = export(module, *VIEWS), export(module, *VIEWS)
    with pytest.raises(ValueError, match="called 1 times"):
        two_encoders(program, "encoder")
    assert len(two_encoders(program, ["encoder", "other"])) == 6
    assert prove_programs(original, program, VIEWS, cases=20, exactness="bits").passed


def test_calls_are_still_known_after_a_file() -> None:
    assert len(calls(reloaded(export(Pair(), *VIEWS)), "encoder")) == 2


class Centred(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x - x.mean(0), x


class Branching(Pair):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        return super().forward(x, y) if x.sum() > 0 else super().forward(y, x)


def test_one_call_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="needs the output of an earlier one"):
        one_call(Chain(), VIEWS, "encoder")
    with pytest.raises(ValueError, match="different shapes"):
        one_call(Pair(), (normal(3, 4), normal(1, 4)), "encoder")
    with pytest.raises(ValueError, match="cannot be traced"):
        one_call(Branching(), VIEWS, "encoder")
    with pytest.raises(ValueError, match="called 1 times"):
        one_call(Pair(), VIEWS, "head")
    mixing = Twice(Centred())
    with pytest.raises(ValueError, match="see each other"):
        one_call(mixing, VIEWS, "inner")


class Twice(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        first = self.inner(x)[0]
        return first * 2 + self.inner(y)[0]


def test_surgery_needs_no_memory() -> None:
    with FakeTensorMode():
        module, views = Pair(), (torch.empty(3, 4), torch.empty(3, 4))
        program, again = export(module, *views), export(module, *views)
        head = export(Head(), torch.empty(2, 8), torch.empty(2, 1))
    assert len(two_encoders(program, "encoder")) == 6
    assert len(two_graphs(again, "encoder").stages) == 2
    assert call_sites(one_call(module, views, "encoder"), "encoder.first.weight") == 1
    assert len(apply(head, by_name("topk_by_chunks"))) + len(apply(head, by_name("topk_by_rounds"))) == 1
    assert int64_to_int32(head) > 0


class Tokens(nn.Module):
    """Token numbers in and out, positions from a buffer, counts, and a choice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.register_buffer("place", torch.arange(6))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        rows = self.table(tokens)
        best, where = torch.topk(rows, 2, -1)
        mask = torch.arange(6) <= self.place.unsqueeze(-1)
        self.seen += tokens.shape[0]
        written = torch.zeros_like(tokens).scatter(1, where[:, :, 0], tokens)
        picked = tokens[torch.arange(3).unsqueeze(-1), where[:, :, 1]]
        return rows.argmax(-1) + tokens, torch.gather(tokens, 1, where[..., 0]), best, mask.sum(-1), written, picked


@pytest.mark.parametrize("keep", [False, True])
def test_no_long_integers_stay_inside(keep: bool) -> None:
    tokens = torch.randint(0, 10, (3, 6), generator=torch.Generator().manual_seed(0))
    tokens[0, :2] = torch.tensor([0, 9])
    original = export(Tokens(), tokens)
    program = copy.deepcopy(original)
    assert int64_to_int32(program, keep_outputs=keep) > 0
    program.validate()
    assert prove_programs(original, reloaded(program), (tokens,), cases=100, exactness="values").passed
    long = [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and getattr(node.meta.get("val"), "dtype", None) is torch.int64
    ]
    for node in long:
        # Operators that answer in int64 are cast at once; casts back stand in front of outputs only.
        assert all(user.op == "output" or user.kwargs.get("dtype") is torch.int32 for user in node.users)
    kinds = {x.dtype for x in program.module()(tokens) if not x.dtype.is_floating_point}
    assert kinds == {torch.int64 if keep else torch.int32}


class Causal(nn.Module):
    def __init__(self, causal: bool):
        super().__init__()
        self.causal = causal

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return functional.scaled_dot_product_attention(x, x, x, is_causal=self.causal), tokens + 1


def test_fixed_widths_answer_like_any_length_where_padding_is_not_seen() -> None:
    args = normal(1, 7, 4), torch.arange(7).unsqueeze(0)
    padded = to_fixed_widths(Causal(True), args, {0: (1,), 1: (1,)}, (4, 8))
    assert padded.prove().passed
    assert [padded.width(n) for n in (1, 4, 5, 8)] == [4, 4, 8, 8]
    assert padded(normal(1, 3, 4), torch.arange(3).unsqueeze(0))[0].shape == (1, 3, 4)
    with pytest.raises(ValueError, match="a length of 9 is beyond the widest program"):
        padded.width(9)


def test_fixed_widths_are_refused_where_real_positions_see_the_padding() -> None:
    args = normal(1, 7, 4), torch.arange(7).unsqueeze(0)
    with pytest.raises(ValueError, match="real positions see the padding"):
        to_fixed_widths(Causal(False), args, {0: (1,), 1: (1,)}, (4, 8)).prove()


class Square(nn.Module):
    """A sum over what came before; the width of the data is the only width of the programs."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, int]:
        assert x.shape[0] >= 3
        return torch.tril(mask) @ x, torch.tril(mask), 3


def test_a_square_mask_is_padded_along_both_axes_and_lengths_keep_their_minimum() -> None:
    padded = to_fixed_widths(Square(), (normal(5, 8), normal(5, 5)), {0: (0,), 1: (0, 1)}, (8,), shortest=3)
    assert padded.out_axes == [(0,), (0, 1), ()]
    assert padded.prove().passed
    assert [tuple(x.shape) for x in padded(normal(4, 8), normal(4, 4))[:2]] == [(4, 8), (4, 4)]
    with pytest.raises(AssertionError):
        to_fixed_widths(Square(), (normal(5, 8), normal(5, 5)), {0: (0,), 1: (0, 1)}, (8, 9)).prove()


class Writing(nn.Module):
    """Changes its input and a buffer of its own."""

    def __init__(self, by: float = 2.0) -> None:
        super().__init__()
        self.by = by
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        answer = x * 2 + self.runs
        x.mul_(self.by)
        return answer


def test_what_a_module_writes_does_not_reach_the_other_run() -> None:
    given = normal(3, 4)
    kept, module = given.clone(), Writing()
    assert prove_programs(export(module, given), export(module, given), (given,), exactness="bits").passed
    proof = prove_programs(export(module, given), export(Writing(3.0), given), (given,))
    assert "as the programs left them" in proof.detail
    assert to_fixed_widths(module, (given,), {0: (0,)}, (4, 8)).prove().passed
    assert torch.equal(given, kept)
    assert torch.equal(module.runs, torch.zeros(()))


class WritingPair(Pair):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        answer = super().forward(x.clone(), y)
        x.add_(1)
        return answer


def test_one_call_leaves_the_example_inputs_alone() -> None:
    views = normal(3, 4), normal(3, 4)
    kept = views[0].clone()
    one_call(WritingPair(), views, "encoder")
    assert torch.equal(views[0], kept)
    with pytest.raises(ValueError, match="keyword inputs"):
        one_call(Pair(), VIEWS, "encoder", kwargs={"scale": 1.0})
