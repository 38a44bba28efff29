"""Every rewrite is proven on a thousand random inputs and the adversarial ones, and wrong variants are rejected."""

from __future__ import annotations

import operator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hilsim.compiler.rewrite import activations, constants, indexing, topk, writing
from hilsim.compiler.rewrite.apply import apply
from hilsim.compiler.rewrite.proof import OutputComparison, overload, prove
from hilsim.compiler.rewrite.registry import REWRITES, Rewrite, by_name, rewrites_for

Call = tuple[tuple[Any, ...], dict[str, Any]]
INF = float("inf")


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def whole(low: int, high: int, *shape: int) -> Tensor:
    """Integers that reach both ends: proofs draw from the range that the example spans."""
    made = torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0))
    made.view(-1)[:2] = torch.tensor([low, high - 1])[: made.numel()]
    return made


def coins(*shape: int) -> Tensor:
    return normal(*shape) > 0


def call(*args: Any, **kwargs: Any) -> Call:
    return args, kwargs


HALF, BRAIN = torch.float16, torch.bfloat16

# Arguments whose shapes, types and ranges each rewrite is proven for; ranks 1 to 4, k of 1 and n among them.
EXAMPLES: dict[str, list[Call]] = {
    "topk_by_rounds": [
        call(normal(7), 1),
        call(normal(3, 6), 6),
        call(normal(2, 2, 9), 4, -1, True, False),
        call(normal(1), 1),
        call(normal(2, 1, 2, 5), 3, 3),
        call(normal(3, 9), 4, -1, False),
        call(whole(-3, 9, 2, 7), 3),
        call(normal(3, 8, dtype=HALF), 2),
    ],
    "topk_by_chunks": [
        call(normal(47), 3),
        call(normal(3, 64), 2),
        call(normal(2, 2, 50), 1),
        call(normal(3, 61), 2, -1, False),
        call(normal(1, 2, 2, 41), 2, -1, True, False),
        call(whole(-4, 4, 2, 53), 2),
    ],
    "topk_by_threshold": [
        call(normal(30), 7),
        call(normal(3, 12), 1),
        call(normal(3, 12), 12),
        call(normal(2, 1, 2, 17), 5, -1, False),
        call(normal(3, 20, dtype=HALF), 6),
    ],
    "gather_by_index_select": [
        call(normal(7), 0, whole(0, 7, 4)),
        call(normal(3, 5), 1, whole(0, 5, 2, 6)),
        call(normal(2, 3, 4), 1, whole(0, 3, 2, 5, 4)),
        call(whole(-9, 9, 3, 5), -1, whole(0, 5, 3, 2)),
    ],
    "index_select_by_matmul": [call(normal(6, 5), 0, whole(0, 6, 4)), call(normal(2, 5, 3), 1, whole(0, 5, 7))],
    "embedding_by_index_select": [call(normal(9, 4), whole(0, 9, 2, 3)), call(normal(9, 4), whole(0, 9, 5), 0)],
    "index_by_index_select": [
        call(normal(6, 3), [whole(-6, 6, 4)]),
        call(normal(3, 4, 5), [None, whole(0, 4, 2, 3)]),
        call(normal(3, 4, 5), [whole(-3, 3, 4), None, whole(0, 5, 4)]),
        call(normal(3, 4, 5), [None, whole(0, 4, 2, 1), whole(0, 5, 3)]),
        call(whole(0, 9, 5), [whole(0, 5, 3)]),
    ],
    "scatter_by_mask": [
        call(normal(7), 0, whole(0, 7, 4), normal(4)),
        call(normal(3, 5), 1, whole(0, 5, 3, 6), normal(3, 7)),
        call(normal(2, 4, 3), 1, whole(0, 4, 2, 2, 3), normal(2, 2, 3)),
    ],
    "scatter_value_by_mask": [
        call(normal(3, 5), 1, whole(0, 5, 3, 2), -INF),
        call(whole(0, 5, 4, 3), 0, whole(0, 4, 2, 3), 7),
    ],
    "scatter_add_by_mask": [call(normal(3, 5), 1, whole(0, 5, 3, 6), normal(3, 7))],
    "index_put_by_mask": [
        call(normal(6, 3), [whole(-6, 6, 4)], normal(4, 3)),
        call(normal(2, 5, 3), [None, whole(0, 5, 2)], normal(2, 2, 3)),
        call(normal(3, 4, 5), [whole(0, 3, 4), None, whole(0, 5, 4)], normal(4, 4)),
        call(normal(6), [whole(0, 6, 3)], normal(1)),
    ],
    "slice_scatter_by_cat": [
        call(normal(6, 3), normal(2, 3), 0, 1, 3),
        call(normal(2, 5), normal(2, 2), 1, -2, 9223372036854775807),
        call(normal(2, 5), normal(2, 5), 1),
    ],
    "select_scatter_by_cat": [call(normal(6, 3), normal(3), 0, 0), call(normal(2, 5, 3), normal(2, 3), 1, -1)],
    "cumsum_by_shifts": [
        call(normal(9), 0),
        call(normal(2, 8, 3), 1),
        call(whole(-50, 50, 3, 13), -1),
        call(coins(3, 5), 1),
        call(normal(2, 1), 1),
    ],
    "any_by_maximum": [
        call(coins(3, 4), -1),
        call(coins(2, 3, 4), 1, True),
        call(whole(0, 2, 3, 4), 0),
        call(normal(3, 4), 1),
    ],
    "any_dims_by_maximum": [call(coins(2, 3, 4), [0, 2]), call(coins(2, 3, 4), None, True)],
    "any_all_by_maximum": [call(coins(3, 4))],
    "argmax_by_places": [
        call(normal(3, 5), -1),
        call(normal(2, 5, 3), 1, True),
        call(normal(3, 4)),
        call(whole(0, 4, 9), 0),
    ],
    "argmin_by_places": [call(normal(3, 5), -1), call(normal(3, 4), None, True)],
    "max_by_parts": [call(normal(3, 5), -1), call(normal(2, 3, 5), 2, True)],
    "min_by_parts": [call(normal(3, 5), -1), call(normal(2, 3, 5), 2, True)],
    "sort_by_rounds": [call(normal(3, 5)), call(normal(2, 2, 7), -1, True), call(normal(4), 0)],
    "sort_stable_by_rounds": [call(normal(3, 5), stable=False, descending=True)],
    "einsum_by_bmm": [
        call("ij,jk->ik", [normal(3, 4), normal(4, 5)]),
        call("bhqd,bhkd->bhqk", [normal(2, 2, 3, 4), normal(2, 2, 5, 4)]),
        call("bi,bj->bij", [normal(3, 2), normal(3, 4)]),
        call("ij,kj", [normal(3, 4), normal(2, 4)]),
        call("ab,bc,cd->da", [normal(2, 3), normal(3, 4), normal(4, 2)]),
        call("ij->j", [normal(3, 4)]),
        call("ijk,kl->jl", [normal(2, 3, 4), normal(4, 2)]),
        call("i,i->", [normal(5), normal(5)]),
    ],
    "attention_by_matmul": [
        call(normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 6)),
        call(normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 3), None, 0.0, True),
        call(normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4), coins(3, 5), scale=0.3),
        call(normal(1, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4), normal(1, 1, 3, 5)),
        call(normal(1, 4, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4), None, 0.0, True, enable_gqa=True),
    ],
    "rms_norm_by_parts": [
        call(normal(3, 8), [8], normal(8), 1e-6),
        call(normal(2, 3, 4), [3, 4]),
        call(normal(3, 8, dtype=BRAIN), [8], normal(8, dtype=BRAIN)),
        call(normal(3, 8, dtype=HALF), [8], None, 1e-5),
    ],
    "layer_norm_by_parts": [
        call(normal(3, 8), [8], normal(8), normal(8), 1e-5),
        call(normal(2, 3, 4), [3, 4], None, None, 1e-5),
    ],
    "linear_by_matmul": [
        call(normal(2, 3, 4), normal(5, 4), normal(5)),
        call(normal(4), normal(5, 4)),
        call(normal(3, 4, dtype=BRAIN), normal(5, 4, dtype=BRAIN)),
    ],
    "addmm_by_matmul": [
        call(normal(5), normal(3, 4), normal(4, 5)),
        call(normal(3, 5), normal(3, 4), normal(4, 5), beta=0.5, alpha=2),
    ],
    "sigmoid_by_exp": [call(normal(4, 9))],
    "tanh_by_exp": [call(normal(4, 9))],
    "silu_by_exp": [call(normal(4, 9)), call(normal(4, 9, dtype=BRAIN))],
    "gelu_by_exp": [call(normal(4, 9), approximate="tanh")],
    "gelu_by_polynomial": [call(normal(4, 9))],
    "gelu_by_tanh": [call(normal(4, 9))],
    "hardsigmoid_by_bounds": [call(normal(4, 9))],
    "hardswish_by_bounds": [call(normal(4, 9))],
    "softplus_by_exp": [call(normal(4, 9)), call(normal(4, 9), 2.0, 5.0)],
    "where_by_additive_mask": [
        call(coins(4, 6), normal(4, 6), torch.tensor(-INF)),
        call(coins(6), normal(4, 6), torch.tensor(-INF)),
    ],
    "where_first_by_additive_mask": [call(coins(4, 6), torch.tensor(-INF), normal(4, 6))],
    "where_by_arithmetic": [
        call(coins(4, 6), normal(4, 6), normal(6)),
        call(coins(4, 1), normal(4, 6), torch.tensor(0.0)),
    ],
    "masked_fill_by_additive_mask": [call(normal(4, 6), coins(6), -INF)],
    "masked_fill_by_where": [call(normal(4, 6), coins(4, 1), -INF), call(whole(0, 9, 4), coins(4), 3)],
    "not_by_comparison": [call(coins(3, 4)), call(normal(3, 4))],
    "bitwise_not_by_comparison": [call(coins(3, 4))],
    "and_by_product": [call(coins(3, 4), coins(4))],
    "or_by_sum": [call(coins(3, 4), coins(4))],
}
EXAMPLES["norm_by_squares"] = [
    call(normal(3, 6), 2, [-1], True),
    call(normal(7)),
    call(normal(2, 3, 4), 2, [0, 2]),
    call(normal(2, 5), 2, [1]),
]
SIX = (2, 3, 1, 2, 3, 2)
EXAMPLES |= {
    "permute_by_fewer_axes": [
        call(normal(*SIX), [0, 1, 3, 2, 4, 5]),
        call(normal(2, 3, 2, 2, 2, 3), [5, 3, 1, 4, 2, 0]),
        call(normal(2, 2, 3, 2, 2, 1, 2, 2), [6, 1, 4, 0, 7, 2, 5, 3]),
        call(whole(0, 9, 2, 2, 1, 3, 2, 2), [-1, 0, 2, 1, 3, 4]),
    ],
    "unary_by_fewer_axes": [call(normal(*SIX))],
    "binary_by_fewer_axes": [
        call(normal(*SIX), normal(*SIX)),
        call(normal(2, 3, 2, 2, 3, 2), normal(2, 1, 1, 2, 1, 1)),
        call(normal(*SIX), normal(3, 2)),
    ],
    "where_by_fewer_axes": [call(coins(*SIX), normal(*SIX), normal(3, 2))],
    "softmax_by_three_axes": [call(normal(*SIX), -1, False), call(normal(*SIX), 1, False)],
    "reduction_by_three_axes": [call(normal(*SIX), [-1], True), call(normal(*SIX), [1])],
    "cat_by_three_axes": [call([normal(*SIX), normal(2, 3, 1, 4, 3, 2)], 3)],
    "slice_by_three_axes": [call(normal(*SIX), 4, 1, 9223372036854775807), call(normal(*SIX), 1, 0, 3, 2)],
    "index_select_by_three_axes": [call(normal(*SIX), 3, whole(0, 2, 5)), call(normal(*SIX), -1, whole(0, 2, 3))],
    "gather_by_three_axes": [call(normal(*SIX), 3, whole(0, 2, 2, 3, 1, 4, 3, 2))],
    "embedding_by_one_axis": [call(normal(9, 4), whole(0, 9, 2, 1, 3, 2, 2))],
    "linear_by_two_axes": [call(normal(2, 1, 3, 2, 4), normal(5, 4), normal(5))],
    "bitwise_not_by_difference": [call(whole(-5, 9, 3, 4)), call(whole(-128, 128, 9).to(torch.int8))],
    "xor_by_difference": [call(coins(3, 4), coins(4))],
}
CELL = [normal(*shape) * 0.5 for shape in ((20, 4), (20, 5), (20,), (20,))]
BACK = [normal(*shape) * 0.3 for shape in ((20, 4), (20, 5), (20,), (20,))]
GATES = [normal(*shape) * 0.5 for shape in ((15, 4), (15, 5), (15,), (15,))]
PLAINER = [normal(*shape) * 0.5 for shape in ((5, 4), (5, 5), (5,), (5,))]
EXAMPLES |= {
    "lstm_by_cells": [
        call(normal(3, 2, 4), [normal(1, 2, 5), normal(1, 2, 5)], CELL, True, 1, 0.0, False, False, False),
        call(normal(2, 3, 4), [normal(2, 2, 5), normal(2, 2, 5)], [*CELL, *BACK], True, 1, 0.0, False, True, True),
        call(normal(3, 2, 4), [normal(1, 2, 5), normal(1, 2, 5)], CELL[:2], False, 1, 0.0, False, False, False),
    ],
    "gru_by_cells": [
        call(normal(3, 2, 4), normal(1, 2, 5), GATES, True, 1, 0.0, False, False, False),
        call(normal(2, 3, 4), normal(1, 2, 5), GATES[:2], False, 1, 0.0, False, False, True),
    ],
    "rnn_tanh_by_cells": [call(normal(3, 2, 4), normal(1, 2, 5), PLAINER, True, 1, 0.0, False, False, False)],
    "rnn_relu_by_cells": [call(normal(3, 2, 4), normal(1, 2, 5), PLAINER, True, 1, 0.0, False, False, False)],
    "prelu_by_bounds": [call(normal(2, 3, 4), normal(3)), call(normal(2, 3), normal(1))],
    "instance_norm_by_parts": [
        call(normal(2, 3, 4, 5), normal(3), normal(3), None, None, True, 0.1, 1e-5, False),
        call(normal(2, 3, 7), None, None, None, None, True, 0.1, 1e-5, False),
    ],
    "group_norm_by_parts": [
        call(normal(2, 4, 3, 5), normal(4), normal(4), 2, 4, 15, 2, 1e-5),
        call(normal(2, 4, 6), None, None, 2, 4, 6, 1, 1e-5),
    ],
    "adaptive_pool_by_blocks": [call(normal(2, 3, 4, 6), [2, 3]), call(normal(3, 4, 6), [1, 6])],
}
EXAMPLES |= {
    "comparison_beyond_int32": [call(whole(-9, 9, 3, 4), 2**40), call(whole(-9, 9, 5), -(2**33))],
    "clamp_within_int32": [call(whole(-9, 9, 3, 4), 0, 2**40), call(whole(-9, 9, 3, 4), -(2**40))],
    "fill_within_fp16": [call(normal(4, 6), coins(4, 6), -1e9)],
    "choice_within_fp16": [
        call(coins(4, 6), normal(4, 6), torch.tensor(-3.4e38)),
        call(coins(4, 6), torch.tensor(-1e9), torch.tensor(0.0)),
    ],
    "mask_within_fp16": [call(normal(4, 6), torch.where(coins(4, 6), 0.0, -3.4e38))],
    "factor_within_fp16": [call(coins(4, 6), -3.4e38)],
}
# Rewrites of several operators: the arguments of each, as they take different ranks.
FLAT, DEEP = (2, 3, 4, 5), (1, 2, 3, 4, 5)
EXAMPLES |= {
    "resize_by_products": [call(normal(1, 3, 4), [8], False, None), call(normal(1, 2, 5), None, True, [2.0])],
    "nearest_by_repeats": [call(normal(1, 3, 4), [8], None)],
    "pad_by_cat": [call(normal(2, 3, 4), [2, 1])],
    "shuffle_by_permute": [call(normal(2, 4, 6, 4), 2), call(normal(4, 2, 2), 2)],
}
SAME_RANK = {
    "resize_by_products": [
        ("aten.upsample_bilinear2d.vec", call(normal(*FLAT), [8, 7], False, None)),
        ("aten.upsample_bilinear2d.vec", call(normal(*FLAT), None, True, [2.0, 1.5])),
        ("aten.upsample_bicubic2d.vec", call(normal(*FLAT), [8, 7], False, None)),
        ("aten.upsample_bicubic2d.vec", call(normal(*FLAT), None, True, [2.0, 1.5])),
        ("aten.upsample_trilinear3d.vec", call(normal(*DEEP), [6, 4, 7], False, None)),
    ],
    "nearest_by_repeats": [
        ("aten.upsample_nearest2d.vec", call(normal(*FLAT), None, [3.0, 2.0])),
        ("aten.upsample_nearest3d.vec", call(normal(*DEEP), [6, 4, 10], None)),
    ],
    "pad_by_cat": [
        ("aten.reflection_pad2d.default", call(normal(*FLAT), [2, 1, 0, 3])),
        ("aten.replication_pad2d.default", call(normal(*FLAT), [2, 6, 0, 3])),
        ("aten.reflection_pad3d.default", call(normal(*DEEP), [2, 1, 0, 3, 1, 1])),
        ("aten.replication_pad3d.default", call(normal(*DEEP), [2, 1, 0, 3, 1, 1])),
    ],
}  # fmt: skip
EXAMPLES["gather_by_mask"] = [*EXAMPLES["gather_by_index_select"], call(coins(3, 5), 1, whole(0, 5, 3, 4))]
EXAMPLES["embedding_by_matmul"] = EXAMPLES["embedding_by_index_select"]
EXAMPLES["cumsum_by_matmul"] = EXAMPLES["cumsum_by_shifts"]


def test_every_rewrite_has_examples_and_a_name_of_its_own() -> None:
    assert sorted(EXAMPLES) == sorted(rewrite.name for rewrite in REWRITES)


CASES = [(rewrite, place) for rewrite in REWRITES for place in range(len(EXAMPLES[rewrite.name]))]


@pytest.mark.parametrize(("rewrite", "place"), CASES, ids=lambda part: getattr(part, "name", str(part)))
def test_rewrite_equals_its_operator(rewrite: Rewrite, place: int) -> None:
    args, kwargs = EXAMPLES[rewrite.name][place]
    elsewhere = {target for target, _ in SAME_RANK.get(rewrite.name, ())}
    for target in rewrite.operators:
        if target in elsewhere:
            continue
        # A thousand for the first example; the further ones show other shapes and types.
        proof = prove(rewrite, *args, cases=300 if place else 1000, target=target, **kwargs)
        assert proof.passed, proof


OTHERS = [(by_name(name), target, given) for name, entries in SAME_RANK.items() for target, given in entries]


@pytest.mark.parametrize(("rewrite", "target", "given"), OTHERS, ids=lambda part: str(getattr(part, "name", part))[:40])
def test_rewrites_of_several_operators_equal_each_of_them(rewrite: Rewrite, target: str, given: Call) -> None:
    args, kwargs = given
    assert prove(rewrite, *args, cases=300, target=target, **kwargs).passed
    assert not set(rewrite.operators) - {name for name, _ in SAME_RANK[rewrite.name]} - {
        "aten.upsample_linear1d.vec", "aten.upsample_nearest1d.vec", "aten.reflection_pad1d.default",
        "aten.replication_pad1d.default",
    }  # fmt: skip


# What a replacement may be made of, so that it does not need a rewrite itself.
PLAIN = {
    "add", "sub", "mul", "div", "amax", "amin", "argmax", "eq", "ge", "gt", "le", "lt", "where", "cat", "slice",
    "select", "unsqueeze", "squeeze", "view", "permute", "expand", "clone", "bmm", "mm", "sum", "mean", "rsqrt",
    "sqrt", "exp",
    "_softmax", "_to_copy", "index_select", "arange", "full", "full_like", "scalar_tensor", "logical_and",
    "linear", "sigmoid", "tanh", "relu", "split_with_sizes", "clamp", "floor", "stack",
    "logical_not", "logical_or", "addmm", "maximum", "minimum", "neg", "reciprocal", "log",
}  # fmt: skip


class Alone(torch.nn.Module):
    """One operator, followed by what the rewrite insists on."""

    def __init__(self, rewrite: Rewrite, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        super().__init__()
        self.rewrite, self.target, self.given, self.kwargs = rewrite, target, args, kwargs

    def forward(self, *tensors: Tensor) -> Any:
        rest = iter(tensors)

        def fill(x: Any) -> Any:
            if isinstance(x, list):
                return [fill(entry) for entry in x]
            if isinstance(x, Tensor):
                return next(rest) if x.dim() else torch.full((), x.item())
            return x

        found = overload(self.target)(*[fill(x) for x in self.given], **self.kwargs)
        if self.rewrite.name == "topk_by_threshold":
            return found[0][..., -1]
        if "additive" in self.rewrite.name or "within_fp16" in self.rewrite.name:
            return torch.softmax(found, -1)
        return found[0] if "layer_norm" in self.target or "group_norm" in self.target else found


# The mask of mask_within_fp16 is a buffer, no input: that one is in test_number_formats.
OF_INPUTS = [rewrite for rewrite in REWRITES if rewrite.name != "mask_within_fp16"]


@pytest.mark.parametrize("rewrite", OF_INPUTS, ids=lambda rewrite: rewrite.name)
@pytest.mark.slow
def test_rewritten_program_runs_and_keeps_nothing_of_the_operator(rewrite: Rewrite) -> None:
    elsewhere = {target for target, _ in SAME_RANK.get(rewrite.name, ())}
    operators = [target for target in rewrite.operators if target not in elsewhere]
    for (args, kwargs), target in product(EXAMPLES[rewrite.name][:2][-1:], operators):
        tensors = tuple(x for x in pytree.tree_leaves(args) if isinstance(x, Tensor) and x.dim())
        module = Alone(rewrite, target, args, kwargs)
        program = torch.export.export(module, tensors, strict=False).run_decompositions({})
        done = apply(program, rewrite)
        assert len(done) == 1
        for node in done[0]:
            assert node.meta["rewritten"][0] == rewrite.name
            # Those for tensors of many dimensions keep their operator, on fewer.
            keeps = str(node.target) in rewrite.operators
            assert not keeps or rewrite.contiguous or rewrite in constants.REWRITES
            made = node.meta["val"]
            assert (
                not isinstance(made, Tensor) or made.dim() < 6 or "view" in str(node.target) or not rewrite.contiguous
            )
            folded = rewrite.name == "resize_by_products"  # its matrices are worked out when the graph is built
            plainly = node.target in (operator.mul, operator.getitem) or str(node.target).split(".")[1] in PLAIN
            assert keeps or folded or plainly
        expected, found = module(*tensors), program.module()(*tensors)
        judge = OutputComparison(rewrite.exactness, rewrite.bound, strict_nan=True, in_order=False)
        judge.look(expected, found, tensors[0], ())
        assert not judge.detail


# Each wrong in one place that a careless port gets wrong.
def rounds_by_value(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, indices = [], []
    for _ in range(k):
        values.append(x.amax(-1, keepdim=True))
        indices.append(x.argmax(-1, keepdim=True))
        x = torch.where(x == values[-1], -INF, x)
    return torch.cat(values, -1), torch.cat(indices, -1)


def rounds_without_open_positions(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, indices = [], []
    for _ in range(k):
        values.append(x.amax(-1, keepdim=True))
        indices.append(x.argmax(-1, keepdim=True))
        x = torch.where(torch.arange(x.shape[-1]) == indices[-1], -INF, x)
    return torch.cat(values, -1), torch.cat(indices, -1)


def three_steps(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    cut = topk.threshold(x, k, steps=3).expand(*x.shape[:-1], k)
    return cut, torch.zeros(cut.shape, dtype=torch.int64)


def infinite_range(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    for _ in range(60):
        middle = low / 2 + high / 2
        enough = topk.count(x >= middle) >= k
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    cut = torch.amin(torch.where(x >= low, x, INF), -1, keepdim=True).expand(*x.shape[:-1], k)
    return cut, torch.zeros(cut.shape, dtype=torch.int64)


def fewer_chunks(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    parts = x.reshape(-1, 8, 8)
    best = topk.rounds(parts.amax(-1), k - 1)[1]
    kept = indexing.one_hot(best, 8).any(-2).unsqueeze(-1)
    return topk.rounds(torch.where(kept, parts, -INF).reshape(-1, 64), k)


def off_by_one(x: Tensor, dim: int, index: Tensor) -> Tensor:
    return indexing.gather_mask(x, dim, torch.where(index > 0, index - 1, index))


def by_product(x: Tensor, dim: int, index: Tensor) -> Tensor:
    return (indexing.one_hot(index, x.shape[-1]).to(x.dtype) * x.unsqueeze(-2)).sum(-1)


def wrong_triangle(x: Tensor, dim: int) -> Tensor:
    return x @ torch.ones(x.shape[-1], x.shape[-1]).tril()


def strict_triangle(x: Tensor, dim: int) -> Tensor:
    return x @ torch.ones(x.shape[-1], x.shape[-1]).triu(1)


def first_wins(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return writing.scatter_src(x, dim, index.flip(dim), src.flip(dim))


def unmasked_rows_spread(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **kwargs: Any) -> Tensor:
    scores = q @ k.transpose(-2, -1) * kwargs["scale"] + (mask.float() - 1) * 1e30
    return torch.softmax(scores, -1) @ v


def no_epsilon(x: Tensor, shape: list[int], weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True)) * weight


def any_by_sum(x: Tensor, dim: int) -> Tensor:
    return x.float().sum(dim) > 1


WRONG: list[tuple[str, Any, int]] = [
    ("topk_by_rounds", rounds_by_value, 1),
    ("topk_by_rounds", rounds_without_open_positions, 1),
    ("topk_by_threshold", three_steps, 0),
    ("topk_by_threshold", infinite_range, 0),
    ("topk_by_chunks", fewer_chunks, 1),
    ("gather_by_mask", off_by_one, 1),
    ("gather_by_mask", by_product, 0),
    ("cumsum_by_matmul", wrong_triangle, 0),
    ("cumsum_by_matmul", strict_triangle, 0),
    ("scatter_by_mask", first_wins, 1),
    ("attention_by_matmul", unmasked_rows_spread, 2),
    ("rms_norm_by_parts", no_epsilon, 0),
    ("any_by_maximum", any_by_sum, 0),
    ("norm_by_squares", lambda x, ord=2, dim=None, keepdim=False, dtype=None: x.abs().sum(dim, keepdim=keepdim), 0),
    ("gelu_by_polynomial", activations.gelu_tanh, 0),
    ("where_by_arithmetic", lambda mask, x, y: mask.float() * x, 0),
    ("permute_by_fewer_axes", lambda x, dims: x.reshape([x.shape[dim] for dim in dims]), 1),
    (
        "binary_by_fewer_axes",
        lambda op, x, y: op(x.reshape(-1), y.expand(x.shape).flip(0).reshape(-1)).view(x.shape),
        0,
    ),
    ("softmax_by_three_axes", lambda op, x, dim, half: op(x.reshape(-1, 2), -1, half).reshape(x.shape), 1),
    ("bitwise_not_by_difference", lambda x: -x, 0),
    ("xor_by_difference", lambda x, y: x | y, 0),
]


@pytest.mark.parametrize(("name", "function", "place"), WRONG, ids=lambda part: getattr(part, "__name__", None))
def test_a_wrong_variant_is_rejected(name: str, function: Any, place: int) -> None:
    args, kwargs = EXAMPLES[name][place]
    proof = prove(replace(by_name(name), function=function), *args, cases=300, **kwargs)
    assert not proof.passed
    assert proof.detail


def test_the_approximations_stay_within_their_bounds() -> None:
    grid = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    true = torch.nn.functional.gelu(grid)
    for function, bound in (
        (activations.gelu_tanh, activations.TANH_BOUND),
        (activations.gelu_polynomial, activations.POLYNOMIAL_BOUND),
    ):
        worst = (function(grid) - true).abs().max().item()
        assert bound / 4 < worst <= bound


def test_threshold_outlives_outliers_overflow_and_neighbouring_floats() -> None:
    top = torch.finfo(torch.float32).max
    near = torch.nextafter(torch.ones(()), torch.tensor(2.0)).item()
    row = torch.tensor([top, -top, 1.0, near, 1.0, 1e-45, -0.0, INF, -INF, -INF, 1e30])
    for k in range(1, len(row) + 1):
        assert topk.threshold(row, k).item() == torch.topk(row, k).values[-1].item()


def test_rewrites_are_found_by_operator_and_name() -> None:
    assert rewrites_for("aten.topk.default")[0].name == "topk_by_chunks"
    assert [rewrite.name for rewrite in rewrites_for("aten.relu.default")] == ["unary_by_fewer_axes"]
    assert rewrites_for("aten.no_such_operator.default") == ()
    with pytest.raises(KeyError, match="topk_by_rounds"):
        by_name("topk_by_magic")
