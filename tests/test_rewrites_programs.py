"""Rewrites inside whole programs: sampling heads, files, fakes; siamese modules, integer widths and fixed lengths."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from hilsim.compiler.rewrite.apply import apply, decompositions, insert, traced
from hilsim.compiler.rewrite.integers import int64_to_int32
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.rewrite.registry import by_name
from hilsim.compiler.rewrite.siamese import calls, one_call, two_encoders, two_graphs
from hilsim.compiler.rewrite.widths import to_fixed_widths


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def export(module: nn.Module, *args: Any, shapes: Any = None) -> ExportedProgram:
    program: ExportedProgram = torch.export.export(module, args, dynamic_shapes=shapes, strict=False)
    return program.run_decompositions(decompositions())


def reloaded(program: ExportedProgram) -> ExportedProgram:
    """The program as it comes out of a file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def targets(program: ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes}


class Head(nn.Module):
    """Logits to a token: the k best, their law, a draw by noise; top-k in the middle and at the output."""

    def __init__(self, k: int = 5):
        super().__init__()
        self.lift = nn.Linear(8, 40)
        self.k = k

    def forward(self, hidden: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best = torch.topk(self.lift(hidden), self.k)
        law = torch.softmax(best.values, -1).cumsum(-1)
        place = (law > noise).long().argmax(-1, keepdim=True)
        return torch.gather(best.indices, -1, place), best.values, (law > noise).any(-1)


class Cut(nn.Module):
    """Scores below the k-th largest masked."""

    def forward(self, scores: Tensor) -> Tensor:
        edge = torch.topk(scores, 4).values[..., -1:]
        return torch.softmax(torch.where(scores < edge, -torch.inf, scores), -1)


class Masked(nn.Module):
    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        return torch.softmax(scores.masked_fill(mask, -torch.inf), -1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("way", ["topk_by_rounds", "topk_by_chunks"])
def test_a_sampling_head_is_rewritten_whole(rank: int, way: str) -> None:
    module, lead = Head(1 if rank == 1 else 2), (2, 3)[: rank - 1]
    args = normal(*lead, 8), torch.rand(*lead, 1, generator=torch.Generator().manual_seed(2))
    original, program = export(module, *args), export(module, *args)
    for name in (way, "cumsum_by_matmul", "gather_by_mask", "any_by_maximum"):
        assert len(apply(program, by_name(name))) == 1
    gone = {"topk", "cumsum", "gather", "any", "getitem"}
    assert not [target for target in targets(program) if target.split(".")[1:2] and target.split(".")[1] in gone]
    assert prove_programs(original, program, args, cases=200).passed
    assert prove_programs(original, reloaded(program), args, cases=20).passed


def test_inserted_nodes_tell_where_they_come_from_and_outputs_keep_their_names_right() -> None:
    program = export(Head(), normal(3, 8), normal(3, 1))
    node = next(n for n in program.graph.nodes if "topk" in n.name)
    rewrite = by_name("topk_by_rounds")
    inserted = insert(program, node, traced(rewrite, node), rewrite.name)
    assert {n.meta["rewritten"] for n in inserted} == {("topk_by_rounds", "topk")}
    assert all(n.meta["nn_module_stack"] == node.meta["nn_module_stack"] for n in inserted)
    assert all("val" in n.meta for n in inserted)
    program.validate()


def test_a_program_of_any_length_is_rewritten_too() -> None:
    module, shapes = Cut(), ({0: Dim("rows", min=2, max=9)},)
    original, program = (export(module, normal(3, 40), shapes=shapes) for _ in range(2))
    apply(program, by_name("topk_by_threshold"))
    assert not any("topk" in target for target in targets(program))
    for rows in (2, 7):
        scores = normal(rows, 40)
        assert torch.equal(original.module()(scores), program.module()(scores))


def test_masks_become_additive_where_only_a_softmax_looks() -> None:
    args = normal(4, 6), normal(4, 6) > 0.5
    original, program = export(Masked(), *args), export(Masked(), *args)
    done = apply(program, by_name("where_by_additive_mask")) or apply(program, by_name("masked_fill_by_additive_mask"))
    assert len(done) == 1
    assert torch.allclose(original.module()(*args), program.module()(*args))
    plain = export(type("Plain", (nn.Module,), {"forward": lambda self, x, m: torch.where(m, x, -torch.inf)})(), *args)
    assert apply(plain, by_name("where_by_additive_mask")) == []


def test_attention_matches_where_rows_see_nothing() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x, mask)

    scores = torch.where(normal(5, 5) > 0, 0.0, -torch.inf)
    scores[2] = -torch.inf
    for mask in (scores, scores == 0):
        for kind in (torch.float32, torch.float16):
            x, given = normal(1, 2, 5, 4).to(kind), mask if mask.dtype is torch.bool else mask.to(kind)
            program = export(Attention(), x, given)
            apply(program, by_name("attention_by_matmul"))
            expected, found = Attention()(x, given), program.module()(x, given)
            assert torch.allclose(expected, found, atol=1e-6 if kind is torch.float32 else 2e-3)
            assert not found[..., 2, :].any()


def refused(name: str, module: nn.Module, *args: Any) -> str:
    program = export(module, *args)
    rewrite = by_name(name)
    return next(rewrite.fits(n) for n in program.graph.nodes if str(n.target) in rewrite.operators)


class Call(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


REFUSALS = [
    ("topk_by_rounds", lambda x: torch.topk(x, 2, 0).values, "last axis"),
    ("topk_by_rounds", lambda x: torch.topk(x, 200).values, "200 rounds"),
    ("topk_by_chunks", lambda x: torch.topk(x[:, :12], 4).values, "too short"),
    ("topk_by_threshold", lambda x: torch.topk(x, 4), "indices are used"),
    ("topk_by_threshold", lambda x: torch.topk(x, 4).values[:, 1:], "more than the smallest"),
    ("index_by_index_select", lambda x: x[:, torch.arange(3) + 1] + x[x[:, 0] > 0][:1, :3], "mask"),
    ("index_put_by_mask", lambda x: x.index_put((torch.arange(3),), x[:3], accumulate=True), "adds up"),
    ("sort_by_rounds", lambda x: torch.sort(x), "300 rounds"),
    ("gelu_by_exp", functional.gelu, "by erf"),
    ("gelu_by_tanh", lambda x: functional.gelu(x, approximate="tanh"), "by tanh"),
    ("einsum_by_bmm", lambda x: torch.einsum("...i,ij->...j", x, x.mT), "ellipsis"),
    ("attention_by_matmul", lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5), "dropout"),
]


@pytest.mark.parametrize(("name", "function", "why"), REFUSALS, ids=lambda part: part if isinstance(part, str) else "")
def test_a_rewrite_says_why_it_does_not_fit(name: str, function: Any, why: str) -> None:
    if "mask" in why:
        pytest.skip("a boolean index has no fixed length; torch exports it as nonzero")
    assert why in refused(name, Call(function), normal(4, 300))


def test_a_given_node_that_does_not_fit_is_an_error() -> None:
    program = export(Call(lambda x: torch.topk(x, 2, 0).values), normal(4, 3))
    with pytest.raises(ValueError, match="topk_by_rounds does not fit topk: it does not run along the last axis"):
        apply(program, by_name("topk_by_rounds"), [n for n in program.graph.nodes if n.name == "topk"])


def test_a_wrong_program_is_not_proven() -> None:
    args = normal(3, 8), torch.rand(3, 1)
    module = Head()
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.lift.weight[0, 0] += 1e-3
    assert not prove_programs(export(module, *args), export(other, *args), args, cases=10).passed


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
    mixing = Call2(Centred())
    with pytest.raises(ValueError, match="see each other"):
        one_call(mixing, VIEWS, "inner")


class Call2(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        first = self.inner(x)[0]
        return first + self.inner(y)[0]


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
    original, program = export(Tokens(), tokens), None
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
    padded = to_fixed_widths(Causal(True), args, {0: 1, 1: 1}, (4, 8))
    assert padded.prove().passed
    assert [padded.width(n) for n in (1, 4, 5, 8)] == [4, 4, 8, 8]
    assert padded(normal(1, 3, 4), torch.arange(3).unsqueeze(0))[0].shape == (1, 3, 4)
    with pytest.raises(ValueError, match="a length of 9 is beyond the widest program"):
        padded.width(9)


def test_fixed_widths_are_refused_where_real_positions_see_the_padding() -> None:
    args = normal(1, 7, 4), torch.arange(7).unsqueeze(0)
    with pytest.raises(ValueError, match="real positions see the padding"):
        to_fixed_widths(Causal(False), args, {0: 1, 1: 1}, (4, 8)).prove()
