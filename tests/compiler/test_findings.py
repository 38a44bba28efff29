"""What the rule book says of small modules: every finding of every one, derived by hand from table and profiles."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hilsim.compiler.deployed import deployed_config, meta_model
from hilsim.compiler.findings import Finding
from hilsim.compiler.limits import decoder_limits, module_limits
from hilsim.compiler.nodes import constants_of, place_of
from hilsim.compiler.operator_costs import products_of
from hilsim.compiler.program import Subject, exported, subject_of
from hilsim.compiler.rules import RuleBook
from hilsim.describe.catalogue import FOLDERS, load_chip, load_named
from hilsim.describe.head import ArgMaxHead, Head, LogitsHead, TopKHead, TopKSamplingHead
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.profile import STANDINGS, Profile, Standing, load_profile, operators, spellings
from hilsim.errors import InputError, ScenarioError
from hilsim.networks.config import NetworkConfig
from hilsim.places import CODE as PROJECT
from tests import modules_for_findings as small
from tests.modules_for_findings import Plain, WithWeight

Y2023, TODAY, V73, TRT8, TRT10, DLA = NAMES = (
    "sa8295_2023", "sa8295_today", "hexagon_v73", "orin_trt_8_6", "orin_trt_10", "orin_dla"
)  # fmt: skip
EVERYWHERE = dict.fromkeys(NAMES, "")


@cache
def profile(name: str) -> Profile:
    return load_profile(name, PROJECT / "scenarios")


def told(found: list[Finding]) -> set[str]:
    """Findings as "severity rule operator", or the module where a finding is about none of its operators."""
    return {f"{finding.severity} {finding.rule} {finding.operator or finding.module}" for finding in found}


def short(text: str) -> set[str]:
    """The same from a line of a case: "error topk-k topk; note int64 ids", `aten.` and `.default` left out."""
    return {line.strip() for line in text.split(";") if line.strip()}


def shortened(found: list[Finding]) -> set[str]:
    return {line.replace(" aten.", " ").removesuffix(".default").strip() for line in told(found)}


@dataclass(frozen=True)
class Case:
    """A module, its inputs, and what is found under each profile ("profile" or "profile int16")."""

    module: nn.Module
    inputs: tuple[Any, ...]
    expected: dict[str, str]
    dynamic: dict[str, Any] | None = field(default=None)


def x(*shape: int) -> Tensor:
    return torch.ones(shape)


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


ROWS, LENGTH = Dim("rows", min=2, max=9), Dim("length", min=2, max=64)
# A topk, sort, argmax makes int64 indices: a note where they become int32, an error on the DLA.
TOPK = "note int64 topk"
TOPK_2023 = "error operator-missing topk; note int64 topk"
TOPK_DLA = "warning operator-unknown topk; error int64 topk"

CASES = {
    "topk on the last axis": Case(
        Plain(lambda x: torch.topk(x, 3)), (x(2, 8),),
        {Y2023: TOPK_2023, TODAY: TOPK, V73: TOPK, TRT8: TOPK, TRT10: "", DLA: TOPK_DLA},
    ),
    "topk on another axis": Case(
        Plain(lambda x: torch.topk(x, 1, dim=0)), (x(2, 8),),
        {
            Y2023: TOPK_2023, TODAY: f"error topk-last-axis topk; {TOPK}", V73: f"error topk-last-axis topk; {TOPK}",
            TRT8: TOPK, TRT10: "", DLA: TOPK_DLA,
        },
    ),
    "topk on the first of five axes": Case(
        Plain(lambda x: torch.topk(x, 1, dim=0)), (x(2, 1, 1, 2, 3),),
        {
            TODAY: f"error topk-last-axis topk; {TOPK}", TRT8: f"error topk-axis topk; {TOPK}",
            TRT10: "error topk-axis topk",
        },
    ),
    "the smallest by topk": Case(
        Plain(lambda x: torch.topk(x, 3, largest=False)), (x(2, 8),),
        {
            Y2023: TOPK_2023, TODAY: f"warning topk-largest topk; {TOPK}", V73: TOPK, TRT8: TOPK, TRT10: "",
            DLA: TOPK_DLA,
        },
    ),
    "topk unsorted": Case(
        Plain(lambda x: torch.topk(x, 3, sorted=False)), (x(2, 8),),
        {TODAY: TOPK, TRT8: TOPK, TRT10: "error topk-sorted topk"},
    ),
    "topk of 5000": Case(
        Plain(lambda x: torch.topk(x, 5000)), (x(1, 6000),),
        {Y2023: TOPK_2023, TODAY: TOPK, TRT8: f"error topk-k topk; {TOPK}", TRT10: "error topk-k topk", DLA: TOPK_DLA},
    ),
    "topk of 3840, the most": Case(
        Plain(lambda x: torch.topk(x, 3840)), (x(1, 6000),), {TRT8: TOPK, TRT10: ""},
    ),
    # Blank in three columns and read as nothing else: unknown. Today's v68 sorts numbers of 8 and 16 bits.
    "sort": Case(
        Plain(lambda x: torch.sort(x)), (x(2, 8),),
        {
            Y2023: "warning operator-unknown sort; note int64 sort", TODAY: "error sort-fp sort; note int64 sort",
            f"{TODAY} int8": "note int64 sort", f"{TODAY} int16": "note int64 sort",
            V73: "error sort-fp sort; note int64 sort", TRT8: "warning operator-unknown sort; note int64 sort",
            TRT10: "warning operator-unknown sort", DLA: "warning operator-unknown sort; error int64 sort",
        },
    ),
    "sort of columns": Case(
        Plain(lambda x: torch.sort(x, 0)), (x(2, 8),),
        {f"{TODAY} int8": "error topk-last-axis sort; note int64 sort",
         TODAY: "error topk-last-axis sort; error sort-fp sort; note int64 sort"},
    ),
    "siamese": Case(
        small.Siamese(), (x(2, 4), x(2, 4)),
        {**dict.fromkeys(NAMES, "note shared-calls encoder"), Y2023: "error shared-calls encoder"},
    ),
    "siamese, three calls of a nested module": Case(
        small.NestedSiamese(), (x(2, 4),),
        {**dict.fromkeys(NAMES, "note shared-calls tower.encoder"), Y2023: "error shared-calls tower.encoder"},
    ),
    "one encoder under two names": Case(
        small.TwoNames(), (x(2, 4), x(2, 4)),
        {**dict.fromkeys(NAMES, "note shared-calls said"), Y2023: "error shared-calls said"},
    ),
    "two encoders": Case(small.TwoEncoders(), (x(2, 4), x(2, 4)), EVERYWHERE),
    "siamese by function": Case(
        WithWeight(lambda x, w: F.linear(x, w) - F.linear(2 * x, w), 4, 4), (x(2, 4),),
        {**dict.fromkeys(NAMES, "note shared-calls"), Y2023: "warning shared-calls"},
    ),
    "siamese by function, the weight turned twice": Case(
        WithWeight(lambda x, w: x @ w.t() - (2 * x) @ w.t(), 4, 4), (x(2, 4),), {Y2023: "warning shared-calls"}
    ),
    "siamese by function, the weight scaled once": Case(
        WithWeight(lambda x, w: (lambda v: F.linear(x, v) - F.linear(2 * x, v))(w * 0.5), 4, 4), (x(2, 4),),
        {Y2023: "warning shared-calls"},
    ),
    "two halves of a weight": Case(  # each half is at work once
        WithWeight(lambda x, w: F.linear(x, w[:2]) - F.linear(2 * x, w[2:]), 4, 4), (x(2, 4),), EVERYWHERE
    ),
    "one weight of two parameters": Case(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), (x(2, 4),),
                                         {Y2023: "", TODAY: ""}),
    "a table looked up and multiplied": Case(small.TiedInside(), (ids(3),), {TODAY: "note int64 ids"}),
    "a table of cosines used twice": Case(small.Turned(), (x(2, 4), x(2, 4)), EVERYWHERE),
    "a frozen weight used twice": Case(small.Frozen(), (x(2, 4), x(2, 4)), {Y2023: "warning shared-calls"}),
    "an LSTM": Case(
        small.Unrolled(), (x(1, 3, 4),),
        {Y2023: "error operator-missing lstm.input", TODAY: "warning operator-partial lstm.input"},
    ),
    "an LSTM of one step": Case(
        small.Unrolled(), (x(1, 1, 4),),
        {Y2023: "error operator-missing lstm.input", TODAY: "warning operator-partial lstm.input"},
    ),
    "attention of one input": Case(small.SelfAttention(), (x(3, 4),), {Y2023: "", TODAY: ""}),
    "one layer in a loop": Case(
        small.Repeated(), (x(2, 4),),
        {**dict.fromkeys(NAMES, "note shared-calls layer"), Y2023: "error shared-calls layer"},
    ),
    "tied head": Case(
        small.Tied(), (ids(3),),
        {
            Y2023: "note gather-indices embedding; note int64 ids; note tied-tensor embedding",
            TODAY: "note int64 ids; note tied-tensor embedding", TRT10: "note tied-tensor embedding",
            DLA: "error reconstruction embedding; error int64 embedding; note int64 ids; note tied-tensor embedding",
        },
    ),
    "tied weights, biases apart": Case(small.TiedWeights(), (x(2, 4),), dict.fromkeys(NAMES, "note tied-tensor first")),
    "a scalar in many places": Case(small.ScalarEverywhere(), (x(2, 4),), EVERYWHERE),
    "a scalar of one dimension in many places": Case(small.ScalarEverywhere(1), (x(2, 4),), EVERYWHERE),
    "roll": Case(Plain(lambda x: x.roll(3, -1)), (x(2, 8),), EVERYWHERE),  # two slices and a cat, no gather
    "cumsum": Case(
        Plain(lambda x: x.cumsum(-1)), (x(2, 8),),
        {**EVERYWHERE, Y2023: "error operator-missing cumsum", DLA: "warning operator-unknown cumsum"},
    ),
    "gather": Case(
        Plain(lambda x, places: x.gather(-1, places)), (x(2, 8), ids(2, 3)),
        {
            Y2023: "error operator-missing gather; note int64 inputs_1", TODAY: "note int64 inputs_1", TRT10: "",
            TRT8: "note int64 inputs_1",
            DLA: "warning operator-unknown gather; error int64 gather; note int64 inputs_1",
        },
    ),
    "cache by index_put": Case(
        small.Cache(), (x(2, 4), ids(2)),
        {
            Y2023: "error operator-missing index_put; note int64 place; warning state-inside",
            TODAY: "note int64 place; warning state-inside",
            TRT10: "warning state-inside",
            DLA: "warning operator-unknown index_put; error int64 index_put; note int64 place; warning state-inside",
        },
    ),
    "cache by scatter": Case(
        Plain(lambda cache, places, keys: cache.scatter(0, places, keys)), (x(8, 4), ids(2, 4), x(2, 4)),
        {
            Y2023: "error operator-missing scatter.src; note int64 inputs_1", TODAY: "note int64 inputs_1", TRT10: "",
            DLA: "error reconstruction scatter.src; error int64 scatter.src; note int64 inputs_1",
        },
    ),
    # A product of one-hot rows adds up; ScatterND of TensorRT 10 does not.
    "adding by index_put": Case(
        Plain(lambda x, places, y: x.index_put((places,), y, accumulate=True)), (x(8, 4), ids(2), x(2, 4)),
        {
            TRT10: "error scatter-reduction index_put", TRT8: "note int64 inputs_1",
            TODAY: "note int64 inputs_1; error scatter-reduction index_put",  # the builder never reads `accumulate`
        },
    ),
    "adding by index_add": Case(  # exported as index_put
        Plain(lambda x, places, y: x.index_add(0, places, y)), (x(8, 4), ids(2), x(2, 4)),
        {TRT10: "error scatter-reduction index_put"},
    ),
    "scatter_add": Case(
        Plain(lambda x, places, y: x.scatter_add(0, places, y)), (x(8, 4), ids(2, 4), x(2, 4)),
        {TRT10: "warning scatter-reduction scatter_add", TRT8: "note int64 inputs_1"},
    ),
    "scatter_reduce": Case(
        Plain(lambda x, places, y: x.scatter_reduce(0, places, y, "amax")), (x(8, 4), ids(2, 4), x(2, 4)),
        {TRT10: "warning scatter-reduction scatter_reduce.two"},
    ),
    "scatter of a number": Case(
        Plain(lambda cache, places: cache.scatter(0, places, 2.0)), (x(8, 4), ids(2, 4)),
        {
            Y2023: "error operator-missing scatter.value; note int64 inputs_1", f"{TODAY} int8": "note int64 inputs_1",
            TODAY: "error scatter-fp scatter.value; note int64 inputs_1", TRT10: "",
        },
    ),
    # The export makes a `where` of it; the fill is a constant.
    "mask by masked_fill": Case(
        Plain(small.masked_softmax), (x(2, 8), x(2, 8) > 0), {**EVERYWHERE, DLA: "error reconstruction where.self"}
    ),
    "einsum of activations": Case(
        Plain(lambda x, y: torch.einsum("bij,bjk->bik", x, y)), (x(2, 3, 4), x(2, 4, 5)),
        {
            **EVERYWHERE, Y2023: "error operator-missing einsum", DLA: "warning operator-unknown einsum",
            f"{TODAY} int16": "error no-16x16-matmul einsum", f"{TODAY} int8": "", f"{V73} int16": "",
        },
    ),
    "einsum with an ellipsis": Case(
        Plain(lambda x, y: torch.einsum("...ij,...jk->...ik", x, y)), (x(2, 3, 4), x(2, 4, 5)),
        {TRT8: "error einsum-equation einsum", TRT10: "", TODAY: ""},
    ),
    "einsum along a diagonal": Case(
        Plain(lambda x, y: torch.einsum("ii, ij -> ij", x, y)), (x(4, 4), x(4, 4)),
        {TRT8: "error einsum-equation einsum", TRT10: ""},
    ),
    "einsum that stretches": Case(
        Plain(lambda x, y: torch.einsum("bij,bjk->bik", x, y)), (x(1, 3, 4), x(2, 4, 5)),
        {TRT8: "error einsum-equation einsum", TRT10: ""},
    ),
    "einsum with a weight first": Case(
        WithWeight(lambda x, w: torch.einsum("ij,jk->ik", w, x), 4, 4), (x(4, 2),),
        {f"{TODAY} int16": "", f"{Y2023} int16": "error operator-missing einsum"},
    ),
    "einsum of two activations and a weight": Case(
        WithWeight(lambda x, w: torch.einsum("ij,jk,kl->il", w, x, x), 4, 4), (x(4, 4),),
        {f"{TODAY} int16": "error no-16x16-matmul einsum", f"{TODAY} int8": ""},
    ),
    "einsum with a weight": Case(
        WithWeight(lambda x, w: torch.einsum("ij,jk->ik", x, w), 4, 4), (x(2, 4),), {f"{TODAY} int16": ""}
    ),
    # The number is told as one that leaves the graph, not as a size.
    "a number for the host": Case(
        Plain(lambda x: x * x.sum().item()), (x(2, 4),),
        {
            TODAY: "warning operator-unknown _local_scalar_dense; error value-to-host _local_scalar_dense",
            TRT10: "warning operator-unknown _local_scalar_dense; warning value-to-host _local_scalar_dense",
        },
    ),
    # Blank but for today's v68; read as bmm, mul, add, softmax elsewhere.
    "attention with a boolean mask": Case(
        Plain(lambda q, k, v, seen: F.scaled_dot_product_attention(q, k, v, attn_mask=seen)),
        (x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), x(3, 5) > 0),
        {
            **EVERYWHERE, DLA: "error constant-second-operand scaled_dot_product_attention",
            f"{Y2023} int16": "error no-16x16-matmul scaled_dot_product_attention",
            f"{TODAY} int16": "error no-16x16-matmul scaled_dot_product_attention", f"{V73} int16": "",
            f"{TODAY} int8": "",
        },
    ),
    "product of activations": Case(
        Plain(torch.bmm), (x(2, 3, 4), x(2, 4, 5)),
        {
            **EVERYWHERE, DLA: "error constant-second-operand bmm", f"{Y2023} int16": "error no-16x16-matmul bmm",
            f"{TODAY} int16": "error no-16x16-matmul bmm", f"{V73} int16": "", f"{TODAY} int8": "",
        },
    ),
    "product of an activation with itself": Case(
        Plain(lambda x: x @ x), (x(4, 4),),
        {**EVERYWHERE, DLA: "error constant-second-operand mm", f"{TODAY} int16": "error no-16x16-matmul mm"},
    ),
    "product with a weight": Case(
        WithWeight(torch.matmul, 4, 5), (x(3, 4),), {**EVERYWHERE, f"{Y2023} int16": "", f"{TODAY} int16": ""}
    ),
    "product with a weight first": Case(
        WithWeight(lambda x, w: w @ x, 4, 4), (x(4, 3),),
        {f"{Y2023} int16": "", f"{TODAY} int16": "", DLA: "error constant-second-operand mm"},
    ),
    "addmm of activations onto a weight": Case(  # what is added is no factor
        WithWeight(lambda x, w: torch.addmm(w, x, x), 4, 4), (x(4, 4),),
        {f"{Y2023} int16": "error no-16x16-matmul addmm", f"{TODAY} int16": "error no-16x16-matmul addmm"},
    ),
    "linear of activations": Case(
        Plain(F.linear), (x(3, 4), x(5, 4)),
        {
            **dict.fromkeys((Y2023, TODAY, V73, TRT8, TRT10), ""), f"{TODAY} int8": "error constant-weight linear",
            f"{TODAY} int16": "error constant-weight linear", f"{Y2023} int16": "error no-16x16-matmul linear",
            f"{Y2023} int8": "",
        },
    ),
    "linear of a weight by an activation": Case(
        WithWeight(lambda x, w: F.linear(w, x), 5, 4), (x(3, 4),),
        {f"{TODAY} int8": "error constant-weight linear", TODAY: "", f"{Y2023} int16": ""},
    ),
    "attention over constant keys": Case(  # the second product is of two activations all the same
        small.Memory(values=False), (x(1, 2, 3, 4), x(1, 2, 5, 4)),
        {f"{TODAY} int16": "error no-16x16-matmul scaled_dot_product_attention", TODAY: ""},
    ),
    "attention over constant keys and values": Case(
        small.Memory(values=True), (x(1, 2, 3, 4),), {f"{TODAY} int16": "", TODAY: ""}
    ),
    "truth values and": Case(
        Plain(lambda x, y: (x > 0) & (y > 0)), (x(3, 4), x(3, 4)),
        {
            TODAY: "", f"{TODAY} int8": "error bitwise-fp bitwise_and.Tensor",
            f"{TODAY} int16": "error bitwise-fp bitwise_and.Tensor",
            Y2023: "", TRT8: "", TRT10: "",  # an ONNX export writes And
        },
    ),
    "integers and": Case(
        Plain(lambda x, y: x & y), (ids(3).int(), ids(3).int()),
        {f"{TODAY}{of}": "error bitwise-fp bitwise_and.Tensor" for of in ("", " int8", " int16")},
    ),
    "product with a turned weight": Case(
        WithWeight(lambda x, w: x @ w.t(), 5, 4), (x(3, 4),), {**EVERYWHERE, f"{Y2023} int16": "", f"{TODAY} int16": ""}
    ),
    "addmm with a weight": Case(
        WithWeight(lambda x, w: torch.addmm(x, x, w), 4, 4), (x(4, 4),),
        {**EVERYWHERE, f"{Y2023} int16": "", f"{TODAY} int16": ""},
    ),
    "addmm of activations": Case(
        Plain(lambda b, x, y: torch.addmm(b, x, y)), (x(3, 5), x(3, 4), x(4, 5)),
        {f"{Y2023} int16": "error no-16x16-matmul addmm", f"{TODAY} int16": "error no-16x16-matmul addmm", DLA: ""},
    ),
    "linear": Case(nn.Linear(4, 5), (x(3, 4),), {**EVERYWHERE, f"{Y2023} int16": "", f"{TODAY} int16": ""}),
    "a length that varies": Case(
        small.Encoder(), (x(3, 4),),
        {**dict.fromkeys((Y2023, TODAY, V73, DLA), "error dynamic-shape placeholder"), TRT8: "", TRT10: ""},
        {"x": {0: LENGTH}},
    ),
    "arithmetic on a length that varies": Case(
        Plain(small.folded_sizes), (x(2, 6, 4),),
        {
            Y2023: "error dynamic-shape placeholder; error operator-missing sym_size.int",
            TODAY: "error dynamic-shape placeholder; warning operator-unknown sym_size.int",
            TRT8: "", TRT10: "", DLA: "error dynamic-shape placeholder; error build-time-only sym_size.int",
        },
        {"inputs": ({1: LENGTH},)},
    ),
    # The check of the length that the data make is a sym_size of its own.
    "nonzero": Case(
        Plain(torch.nonzero), (x(2, 8),),
        {
            Y2023: "error operator-missing nonzero; error operator-missing sym_size.int; note int64 nonzero",
            TODAY: "error bernoulli-project nonzero; error data-dependent-size nonzero; "
            "warning operator-unknown sym_size.int; note int64 nonzero",
            V73: "warning operator-partial nonzero; error data-dependent-size nonzero; "
            "warning operator-unknown sym_size.int; note int64 nonzero",
            TRT8: "warning data-dependent-size nonzero; note int64 nonzero",
            TRT10: "warning data-dependent-size nonzero",
            DLA: "warning operator-unknown nonzero; error data-dependent-size nonzero; "
            "error build-time-only sym_size.int; error int64 nonzero",
        },
    ),
    "multinomial": Case(
        Plain(lambda x: torch.multinomial(x.softmax(-1), 1)), (x(2, 8),),
        {
            **dict.fromkeys((Y2023, TODAY, V73, TRT8), "error operator-missing multinomial; note int64 multinomial"),
            TRT10: "error operator-missing multinomial",
            DLA: "warning operator-unknown multinomial; error int64 multinomial",
        },
    ),
    "random numbers": Case(
        Plain(lambda x: x + torch.rand(2, 8)), (x(2, 8),),
        {
            Y2023: "warning operator-unknown rand", TODAY: "error rand-8-bit rand", f"{TODAY} int8": "", TRT10: "",
            V73: "warning operator-partial rand", DLA: "warning operator-unknown rand",
        },
    ),
    "softmax over 4096": Case(
        Plain(lambda x: x.softmax(-1)), (x(2, 4096),), {**EVERYWHERE, DLA: "error softmax-axis _softmax"}
    ),
    "softmax over 4096 alone": Case(Plain(lambda x: x.softmax(-1)), (x(1, 4096),), EVERYWHERE),
    "softmax over 9000 alone": Case(
        Plain(lambda x: x.softmax(-1)), (x(1, 9000),),
        {**EVERYWHERE, DLA: "error softmax-axis _softmax; error dimension-size _softmax"},
    ),
    "a dimension of 8193": Case(Plain(torch.relu), (x(1, 8193),), {**EVERYWHERE, DLA: "error dimension-size relu"}),
    "a dimension of 8192": Case(Plain(torch.relu), (x(1, 8192),), EVERYWHERE),
    "a batch of 4097": Case(Plain(torch.relu), (x(4097, 2),), {**EVERYWHERE, DLA: "error dimension-size relu"}),
    "a batch of 4096": Case(Plain(torch.relu), (x(4096, 2),), EVERYWHERE),
    "a layer 5000 wide": Case(nn.Linear(4, 5000), (x(2, 4),), EVERYWHERE),  # a weight's first dimension is no batch
    "six dimensions": Case(
        Plain(torch.relu), (x(1, 1, 1, 2, 2, 2),),
        {**EVERYWHERE, Y2023: "error rank relu", TODAY: "error rank relu", V73: "error rank relu"},
    ),
    "five dimensions": Case(Plain(torch.relu), (x(1, 1, 2, 2, 2),), EVERYWHERE),
    "six dimensions by another name": Case(
        Plain(lambda x: torch.relu(x).clone()), (x(1, 1, 1, 2, 2, 2),), {TODAY: "error rank relu"}
    ),
    "argmax of five dimensions": Case(
        Plain(lambda x: x.argmax(-1)), (x(1, 1, 2, 2, 2),),
        {
            **dict.fromkeys((Y2023, TODAY, V73), "error argmax-rank argmax; note int64 argmax"),
            TRT10: "", DLA: "warning operator-unknown argmax; error int64 argmax",
        },
    ),
    "int64 inputs": Case(
        Plain(lambda places: places * 2), (ids(3),),
        {
            **dict.fromkeys((Y2023, TODAY, V73, TRT8), "note int64 inputs_0"), TRT10: "",
            DLA: "error int64 mul.Tensor; note int64 inputs_0",
        },
    ),
    # What the DLA cannot do is told at every node; a mask that was made of ids is none of them, nor a constant index.
    "work on ids": Case(
        Plain(lambda x, ids: torch.where(((ids + 1) * 2 > 3).view(1, 3), x, 0.0)), (x(2, 3), ids(3)),
        {
            TODAY: "note int64 inputs_1",
            DLA: "error int64 add.Tensor; error int64 mul.Tensor; error int64 gt.Scalar; error operator-missing "
            "gt.Scalar; error reconstruction where.self; note int64 inputs_1",
        },
    ),
    "ids that nothing reads": Case(Plain(lambda x, ids: x * 2), (x(2, 3), ids(3)), {DLA: "note int64 inputs_1"}),
    "a constant index": Case(small.Indexed(), (x(2, 8),), {DLA: "warning operator-unknown index.Tensor", TRT8: ""}),
    "int32 inputs": Case(
        Plain(lambda places: places * 2), (ids(3).int(),), {**EVERYWHERE, DLA: "error number-format mul.Tensor"}
    ),
    "layer norm": Case(
        nn.LayerNorm(4), (x(3, 4),),
        {
            **EVERYWHERE, DLA: "warning operator-unknown native_layer_norm", f"{V73} int16": "", f"{TODAY} int8": "",
            f"{TODAY} int16": "warning layernorm-16-bit native_layer_norm",
        },
    ),
    "rms norm": Case(
        small.Normed(), (x(3, 4),),
        {**EVERYWHERE, Y2023: "error operator-missing rms_norm", DLA: "error operator-missing rms_norm"},
    ),
    "gelu": Case(
        nn.GELU(), (x(3, 4),),
        {**EVERYWHERE, DLA: "warning operator-unknown gelu"},
    ),
    "isnan": Case(
        Plain(torch.isnan), (x(3, 4),),
        {
            **EVERYWHERE, Y2023: "error operator-missing isnan", DLA: "warning operator-unknown isnan",
            f"{TODAY} int8": "error fp-only isnan", f"{TODAY} int16": "error fp-only isnan",
            V73: "warning operator-partial isnan",
        },
    ),
    # Not quantised today, and a blank elsewhere: read there as the maximum of a mask of numbers.
    "any of a mask": Case(
        Plain(lambda seen: seen.any(-1)), (x(2, 8) > 0,),
        {
            Y2023: "", TODAY: "", f"{TODAY} int8": "error fp-only any.dim", V73: "warning operator-partial any.dim",
            TRT10: "", DLA: "error operator-missing any.dim",
        },
    ),
    "branches": Case(
        small.Branches(small.doubled, small.raised), (x(2, 4),),
        {
            Y2023: "error operator-missing cond", TODAY: "error bernoulli-project cond",
            V73: "warning operator-partial cond", TRT8: "", TRT10: "",
            DLA: "warning operator-unknown sum.dim_IntList; error operator-missing gt.Scalar; "
            "warning operator-unknown cond",
        },
    ),
    "what branches do": Case(
        small.Branches(small.raised, small.drawn), (x(2, 4),),
        {
            Y2023: "error operator-missing cond; error operator-missing multinomial",
            TODAY: "error bernoulli-project cond; error operator-missing multinomial",
            TRT8: "error operator-missing multinomial", TRT10: "error operator-missing multinomial",
        },
    ),
    "an operator without a row": Case(
        Plain(lambda x: torch.linalg.qr(x)[1]), (x(4, 4),), dict.fromkeys(NAMES, "warning operator-unknown linalg_qr")
    ),
    "an operator of somebody's own": Case(
        small.Twisted(), (x(2, 4),), dict.fromkeys(NAMES, "warning operator-unknown hilsim_tests.twist")
    ),
    "a mask of constants": Case(Plain(small.causal), (x(2, 4, 4),), EVERYWHERE),
}  # fmt: skip


@cache
def program_of(name: str) -> ExportedProgram:
    case = CASES[name]
    return exported(Subject(name, case.module, case.inputs, case.dynamic))


def findings(name: str, under: str) -> list[Finding]:
    """Of a case under "profile" or "profile activations"."""
    of, _, activations = under.partition(" ")
    return RuleBook(profile(of), activations or "fp16").findings(program_of(name), name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_every_finding_is_reported_and_no_other(name: str) -> None:
    expected = CASES[name].expected
    assert {under: shortened(findings(name, under)) for under in expected} == {
        under: short(text) for under, text in expected.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_findings_give_reason_source_and_remedy(name: str) -> None:
    for under in CASES[name].expected:
        for found in findings(name, under):
            assert found.graph == name
            assert found.profile == under.split()[0]
            assert found.reason
            assert len(found.source) > 3
            assert found.evidence in ("documented", "reported", "assumed")
            assert found.severity == "note" or found.remedy or found.rewrites, found
            assert json.loads(json.dumps(found.as_json()))["rule"] == found.rule


def line_of(mark: str) -> str:
    """File and line of a marked line, as findings tell it."""
    lines = inspect.getsource(small).splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if line.endswith(f"# at {mark}")]
    return f"tests/modules_for_findings.py:{number}"


def one(name: str, under: str, rule: str) -> Finding:
    """The one finding of a rule."""
    (found,) = [found for found in findings(name, under) if found.rule == rule]
    return found


def test_findings_name_module_and_line() -> None:
    program = exported(Subject("picker", small.Picker(), (x(2, 8),)))
    missing, _ = RuleBook(profile(Y2023), "fp16").findings(program, "g")
    assert (missing.node, missing.module, missing.call) == ("topk", "head.picker", 0)
    assert missing.line == line_of("best three")
    assert missing.place == f"topk, head.picker, {line_of('best three')}"
    assert missing.evidence == "reported"  # a team's word, not a vendor's
    assert "topk_by_rounds" in missing.rewrites


@pytest.mark.parametrize(
    ("name", "module", "calls"),
    [("siamese", "encoder", 2), ("siamese, three calls of a nested module", "tower.encoder", 3),
     ("one encoder under two names", "said", 2)],
)  # fmt: skip
def test_a_module_called_again_is_one_finding_with_its_calls(name: str, module: str, calls: int) -> None:
    found = one(name, Y2023, "shared-calls")
    assert (found.module, found.call, found.line) == (module, calls - 1, line_of("encoder"))
    assert f"called {calls} times with the same 4 parameters" in found.reason
    assert found.evidence == "reported"
    assert found.rewrites == ("two_encoders", "one_call")  # two graphs that share weights need a context that may
    assert f"{module} call {calls}" in found.place


def test_a_parameter_used_twice_is_named_with_its_later_use() -> None:
    found = one("siamese by function", Y2023, "shared-calls")
    assert found.reason.startswith("weight is used 2 times within one call of the module itself: ")
    assert (found.module, found.call, found.line) == ("", 0, line_of("with weight"))
    assert found.place == f"the module itself, {line_of('with weight')}"
    assert not found.rewrites  # modules can be told apart, uses inside of one cannot


def test_a_module_called_again_is_not_reported_for_its_parameters_too() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = WithWeight(lambda x, w: F.linear(F.linear(x, w), w), 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(self.pair(x))

    (found,) = RuleBook(profile(Y2023), "fp16").findings(exported(Subject("twice", Twice(), (x(2, 4),))), "g")
    assert "module pair is called 2 times" in found.reason


def test_a_tie_inside_of_which_one_use_repeats_is_both() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(self.first(x), self.first.weight), self.first.weight)

    found = RuleBook(profile(TODAY), "fp16").findings(exported(Subject("both", Both(), (x(2, 4),))), "g")
    assert sorted(finding.rule for finding in found) == ["shared-calls", "tied-tensor"]
    assert "first.weight is used by the module itself and first" in next(
        finding.reason for finding in found if finding.rule == "tied-tensor"
    )


def test_nodes_of_a_second_call_say_so() -> None:
    nodes = {place.node: (place.module, place.call) for place in map(place_of, program_of("siamese").graph.nodes)}
    assert nodes["relu"] == ("encoder", 0)
    assert nodes["relu_1"] == ("encoder", 1)
    assert nodes["linear_3"] == ("encoder.down", 1)


def test_tied_tensor_names_both_modules() -> None:
    found = one("tied head", TODAY, "tied-tensor")
    assert "embedding and head" in found.reason
    assert "no siamese network" in found.reason
    assert found.line == line_of("tied")  # where the second of them is used


def test_inputs_are_reported_with_the_line_that_first_uses_them() -> None:
    varies = one("a length that varies", TODAY, "dynamic-shape")
    assert varies.place == f"x, the module itself, {line_of('encoder')}"
    assert one("cache by index_put", TODAY, "int64").place == f"place, the module itself, {line_of('cache')}"
    unread = one("ids that nothing reads", DLA, "int64")
    assert unread.place == "inputs_1, the module itself"  # no line uses it


def test_what_leaves_for_the_host_is_no_size() -> None:
    found = one("a number for the host", TODAY, "value-to-host")
    assert found.reason.startswith("the value leaves the graph for the host")
    assert ".item()" in found.remedy
    assert one("nonzero", TODAY, "data-dependent-size").reason.startswith("the size of aten.nonzero.default's result")


def test_integers_that_are_refused_are_reported_node_by_node() -> None:
    """So that each of them leaves the unit; the inputs alone would be one note."""
    found = [finding for finding in findings("work on ids", DLA) if finding.rule == "int64"]
    assert [(finding.severity, finding.node) for finding in found] == [
        ("error", "add"), ("error", "mul"), ("error", "gt"), ("note", "inputs_1")
    ]  # fmt: skip


def test_sizes_are_about_no_module_and_have_remedies() -> None:
    unit = load_chip("sa8295p", PROJECT / "scenarios").units["npu"]
    assert unit.graph_limit is not None
    most = round(unit.graph_limit.si)
    assert not list(module_limits(most, most, unit, TODAY, "g"))
    (cut,) = module_limits(most + 1, most, unit, TODAY, "g")
    (refused,) = module_limits(most + 1, most + 1, unit, TODAY, "g")
    assert (cut.severity, refused.severity) == ("note", "error")
    assert "fewer bits a weight" in cut.remedy
    assert refused.remedy == "split that parameter, or fewer bits a weight"
    assert (cut.place, refused.place) == ("", "")
    target = load_setup(PROJECT / "scenarios/orin_8295_greedy.yaml").target
    told = {found.rule: found for found in decoder_limits(target, TODAY, 2048, 1)}
    assert sorted(told) == ["context-size", "graph-size"]
    assert "a smaller context" in told["context-size"].remedy
    assert told["graph-size"].reason.endswith("in 3 parts, the least of a pipeline")
    assert told["graph-size"].remedy == ""  # fewer bits make no fewer parts
    cut_by_size = load_setup(PROJECT / "scenarios/target_8b.yaml").target
    (size,) = (found for found in decoder_limits(cut_by_size, TODAY, 2048, 1) if found.rule == "graph-size")
    assert "2 GiB a graph: cut into" in size.reason
    assert "fewer bits a weight" in size.remedy


def test_findings_inside_a_branch_are_reported_at_the_branch() -> None:
    found = one("what branches do", TRT10, "operator-missing")
    assert (found.node, found.operator) == ("cond", "aten.multinomial.default")
    assert found.line == line_of("branches")
    assert not found.rewrites  # nothing can be put into a graph inside of the graph


def test_cache_and_unknown_operators_are_found_at_their_lines() -> None:
    assert one("cache by index_put", Y2023, "operator-missing").line == line_of("cache")
    unknown = one("an operator of somebody's own", TODAY, "operator-unknown")
    assert unknown.line == line_of("twisted")
    assert unknown.evidence == "assumed"
    assert "not in the operator table" in unknown.reason


@pytest.mark.parametrize("of", [Y2023, TODAY, V73, DLA])
def test_fixed_shapes_are_asked_for_once_a_dimension(of: str) -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    dims = {0: ROWS, 1: LENGTH}  # two inputs, one pair of dimensions
    program = exported(Subject("sum", Sum(), (x(3, 4), x(3, 4)), {"x": dims, "y": dims}))
    found = RuleBook(profile(of), "fp16").findings(program, "g")
    assert Counter(finding.rule for finding in found) == {"dynamic-shape": 2}
    assert all(finding.node == "x" and finding.rewrites == ("fixed_widths",) for finding in found)
    assert not RuleBook(profile(TRT10), "fp16").findings(program, "g")


@pytest.mark.parametrize(
    ("shifts", "dims"), [(3, -1), (-3, 1), (5, ()), (9, 1), (0, 0), ((1, 2), (0, 1)), ((1, -4), (1, 1))]
)  # fmt: skip
def test_rolls_stay_what_they_were(shifts: Any, dims: Any) -> None:
    numbers = torch.arange(28.0).view(4, 7)
    module = exported(Subject("roll", Plain(lambda x: x.roll(shifts, dims)), (numbers,))).module()
    assert torch.equal(module(numbers), numbers.roll(shifts, dims))


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("einsum of activations", 2 * 2 * 3 * 4 * 5),  # bij,bjk->bik: a multiplication and an addition for each bijk
        ("einsum with a weight", 2 * 2 * 4 * 4),
        ("product of activations", 2 * 2 * 3 * 4 * 5),
        ("product of an activation with itself", 2 * 4 * 4 * 4),
        ("addmm with a weight", 2 * 4 * 4 * 4),
        ("linear", 2 * 3 * 4 * 5),
        ("attention with a boolean mask", 2 * 2 * (2 * 3 * 5 * 4)),  # two heads; two products
    ],
)
def test_products_cost_what_they_multiply(name: str, operations: int) -> None:
    program = program_of(name)
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    assert products_of(nodes, constants_of(program)) == operations


def test_a_word_of_the_team_can_be_taken_back() -> None:
    """Without the ruling top-k passes in 2023, without the switch a siamese network does."""
    mild = profile(Y2023)
    rulings = tuple(ruling for ruling in mild.rulings if "aten.topk.default" not in ruling.operators)
    mild = mild.model_copy(
        update={"rulings": rulings, "shared_calls": mild.shared_calls.model_copy(update={"value": True})}
    )
    book = RuleBook(mild, "fp16")
    assert shortened(book.findings(program_of("topk on the last axis"), "g")) == short(TOPK)
    assert told(book.findings(program_of("siamese"), "g")) == {"note shared-calls encoder"}
    assert told(book.findings(program_of("cumsum"), "g")) == {"error operator-missing aten.cumsum.default"}


def test_a_rule_taken_out_is_not_reported() -> None:
    """For every profile and condition: what a case shows of a rule comes from that rule and from nowhere else."""
    for of in NAMES:
        shown = {found.rule for name, case in CASES.items() if of in case.expected for found in findings(name, of)}
        for rule in {condition.rule for condition in profile(of).conditions} & shown:
            left = tuple(condition for condition in profile(of).conditions if condition.rule != rule)
            book = RuleBook(profile(of).model_copy(update={"conditions": left}), "fp16")
            for name, case in CASES.items():
                if of in case.expected:
                    assert rule not in {found.rule for found in book.findings(program_of(name), "g")}


# What each word in a cell says, by the README of the table.
WORDS: dict[str, Standing] = {
    "listed": "supported", "yes": "supported", "native": "supported",
    "unlisted": "unsupported", "no": "unsupported", "none": "unsupported", "none (DLA SW only)": "unsupported",
    "partial": "partial", "reconstruction": "partial", "build-time only": "partial",
    "native, constant 2nd input only": "partial", "yes (SDK 2.45+)": "partial", "": "unknown",
}  # fmt: skip
SINCE = {"yes (from 8.5)": 8.5, "yes (from 8.6)": 8.6, "yes (from 10.0)": 10.0}


@pytest.mark.parametrize("of", NAMES)
def test_every_cell_is_judged_as_it_reads(of: str) -> None:
    bare = profile(of).model_copy(update={"rulings": ()})
    book = RuleBook(bare, "fp16")
    for name, row in operators().items():
        cell = row.cells[bare.column]
        said = book.judgement(name)
        if cell in SINCE:
            assert said.standing == ("supported" if (bare.release or 0) >= SINCE[cell] else "unsupported"), name
        elif cell or book.reading(name) is None:
            assert said.standing == WORDS[cell], name
        else:  # a blank that is read as other operators: as good as the worst of them
            parts = [book.judgement(part).standing for part in spellings()[name].reads]
            assert said.standing == max(parts, key=STANDINGS.index), name
            assert said.why.startswith(f"{name} is read as ")
        assert len(said.source) > 3


def test_every_spelling_reads_what_is_there() -> None:
    known = {*operators(), *spellings()}
    for name, spelling in spellings().items():
        assert set(spelling.reads) <= known, name
        assert name not in spelling.reads, name


def test_what_nobody_listed_is_unknown() -> None:
    for of in NAMES:
        assert RuleBook(profile(of), "fp16").judgement("aten.no_such.default").standing == "unknown"


def test_every_rule_has_a_source() -> None:
    folder = PROJECT / FOLDERS["profile"]
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(NAMES)
    for of in NAMES:
        told = profile(of)
        sources = [entry.source for entry in (*told.rulings, *told.conditions)]
        sources += [switch.source for switch in (told.dynamic_shapes, told.shared_calls, told.shared_context)]
        assert all(len(source) > 10 for source in sources), of
        for row in operators().values():
            assert row.source


@pytest.mark.parametrize(
    ("old", "new", "place", "remedy"),
    [
        ("why: mine", "wy: mine", "conditions[0].wy (line 13)", "an unknown key"),
        ("dtypes: [bool]", "dtypes: [boole]", "conditions[0].dtypes[0] (line 15)", "'bool', 'int', 'float'"),
        ("equation: plain", "equation: fancy", "conditions[0].equation (line 16)", "'plain'"),
        ("accumulate: false", "accumulate: true", "conditions[0].accumulate (line 17)", "False"),
        ("factors: [0, 1]", "factors: [0]", "conditions[0]", "two operands or more"),
        ("integers: native", "integers: natively", "integers (line 6)", "'native'"),
        ("aten.topk.default", "aten.topkk.default", "aten.topkk.default", "operators of the table"),
    ],
)
def test_a_slip_in_a_profile_of_ones_own_is_reported_with_its_place(
    tmp_path: Path, old: str, new: str, place: str, remedy: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    assert load_profile("mine.yaml", tmp_path / "scenario.yaml").name == "mine"
    assert MINE.count(old) == 1
    file.write_text(MINE.replace(old, new))
    with pytest.raises(ScenarioError) as caught:
        load_profile("mine.yaml", tmp_path / "scenario.yaml")
    for part in ("mine.yaml", place, remedy):
        assert part in str(caught.value)


MINE = """\
name: mine
title: A compiler of my own
units: [npu]
column: qnn_htp_2025
elsewhere: cpu
integers: native
dynamic_shapes: {value: true, evidence: assumed, source: my own word}
shared_calls: {value: true, evidence: assumed, source: my own word}
shared_context: {value: true, evidence: assumed, source: my own word}
conditions:
  - rule: my-rule
    operators: [aten.topk.default]
    why: mine
    source: my own word
    dtypes: [bool]
    equation: plain
    accumulate: false
    factors: [0, 1]
"""


# Whole decoders.
LLAMA = NetworkConfig(vocab_size=64, hidden_size=64, intermediate_size=128, layers=2, heads=4, kv_heads=2, head_dim=16,
                      max_positions=512, tied=True)  # fmt: skip
QWEN = replace(LLAMA, qk_norm=True, qkv_bias=True)
PLAIN = {"note int64 tokens", "note tied-tensor network.embedding"}
NO_RMS = {"error operator-missing aten.rms_norm.default"}
GATHERS = {"note gather-indices aten.embedding.default", "note gather-indices aten.index_select.default"}


@cache
def decoder(stand_in: NetworkConfig, rows: int, head: Head) -> ExportedProgram:
    """Llama 3.2 3B at its own sizes, with the stand-in's features."""
    model = load_named("model", Model, "llama-3.2-3b", PROJECT / "scenarios")
    config = deployed_config(model, stand_in, 512)
    return exported(meta_model(f"target decode x{rows}", config, rows, 512, head))


@pytest.mark.parametrize("stand_in", [LLAMA, QWEN], ids=["llama", "qwen"])
@pytest.mark.parametrize("rows", [1, 8, 128])
def test_plain_decoders_raise_no_alarm(stand_in: NetworkConfig, rows: int) -> None:
    program = decoder(stand_in, rows, LogitsHead())

    def under(of: str, activations: Any = "fp16") -> set[str]:
        return told(RuleBook(profile(of), activations).findings(program, "g"))

    assert under(TODAY) == PLAIN
    assert under(TODAY, "int8") == PLAIN
    assert under(TODAY, "int16") == PLAIN | {"error no-16x16-matmul aten.bmm.default"}
    assert under(V73, "int16") == PLAIN
    assert under(TRT8) == PLAIN
    assert under(TRT10) == {"note tied-tensor network.embedding"}
    assert under(Y2023) == PLAIN | GATHERS | NO_RMS


@pytest.mark.parametrize(
    ("head", "missing"),
    [
        (ArgMaxHead(name="argmax"), ()),
        (TopKHead(name="top_k", k=8), ("topk",)),
        (TopKSamplingHead(name="top_k_sampling", k=8), ("topk", "cumsum", "gather")),
    ],
    ids=["argmax", "top_k", "top_k_sampling"],
)
def test_heads_of_decoders(head: Head, missing: tuple[str, ...]) -> None:
    program = decoder(LLAMA, 8, head)
    expected = {f"error operator-missing aten.{name}.default" for name in missing}
    assert told(RuleBook(profile(Y2023), "fp16").findings(program, "g")) == PLAIN | GATHERS | NO_RMS | expected
    assert told(RuleBook(profile(TODAY), "fp16").findings(program, "g")) == PLAIN
    assert told(RuleBook(profile(TRT10), "fp16").findings(program, "g")) == {"note tied-tensor network.embedding"}
    found = [found for found in RuleBook(profile(Y2023), "fp16").findings(program, "g") if "rms" not in found.operator]
    assert {error.module for error in found if error.severity == "error"} <= {"sampler"}


def test_shipped_matcher_is_siamese() -> None:
    program = exported(subject_of("hilsim.networks.intent:matcher"))
    assert told(RuleBook(profile(Y2023), "fp16").findings(program, "g")) == {
        "error shared-calls encoder", "error operator-missing aten.rms_norm.default", "note int64 said_ids",
        "note gather-indices aten.embedding.default",
    }  # fmt: skip
    assert told(RuleBook(profile(TODAY), "fp16").findings(program, "g")) == {
        "note shared-calls encoder", "note int64 said_ids"
    }  # fmt: skip


# What cannot be exported, or is no module at all.
DATA = "that depends on the data"


@pytest.mark.parametrize(
    ("function", "place", "parts"),
    [
        (small.decided, "decided", (DATA, "torch.where or torch.cond")),
        (small.counted, "counted", (DATA, "torch.where or torch.cond")),
        (small.failing, "failing", ("ValueError: no such passenger",)),
        (small.misshapen, "misshapen", ("an export that failed",)),
        (small.objects, "", ("an export that failed", "object")),
        (small.leaving, "leaving", ("SystemExit: 3",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_exported_is_reported_with_its_line(function: Any, place: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        exported(Subject("mine", Plain(function), (x(2, 8),)))
    text = str(caught.value)
    assert text.startswith("mine: ")
    assert "Traceback" not in text
    assert text.count("\n") == 0
    assert "expected a module that torch.export can take" in text
    if place:
        assert line_of(place) in text
    for part in parts:
        assert part in text


def test_wrong_inputs_are_no_traceback() -> None:
    for inputs in ((), (x(2, 4), x(2, 4)), (None,), ("text",), (x(2, 3),)):
        with pytest.raises(InputError, match="an export that failed"):
            exported(Subject("mine", small.Encoder(), inputs))


def test_wrong_dynamic_shapes_are_no_traceback() -> None:
    for shapes in ({"z": {0: ROWS}}, {"x": {1: ROWS}}, {"x": {7: ROWS}}, "rubbish"):
        with pytest.raises(InputError) as caught:
            exported(Subject("mine", small.Encoder(), (x(3, 4),), shapes))
        assert "Traceback" not in str(caught.value)


HERE = "tests.modules_for_findings"


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("no_colon", ("--module: no_colon", "PACKAGE.MODULE:FACTORY", "The factory takes nothing")),
        (":build", ("PACKAGE.MODULE:FACTORY",)),
        ("tests:", ("PACKAGE.MODULE:FACTORY",)),
        ("no.such.place:build", ("no module 'no'", "Run from the folder that holds it")),
        (".relative:build", ("an import that failed",)),
        (f"{HERE}:biuld", ("no 'biuld' in tests.modules_for_findings", "Did you mean 'build'?")),
        (f"{HERE}:NoSuchThing", ("no 'NoSuchThing'", "The factory takes nothing")),
        (f"{HERE}:constant", ("a int", "a function that returns (module, inputs)")),
        (f"{HERE}:build_badly", ("a factory that failed (KeyError: 'weights')", "build badly")),
        (f"{HERE}:build_exit", ("a factory that failed (SystemExit: 3)",)),
        (f"{HERE}:build_number", ("a factory that returns int",)),
        (f"{HERE}:build_strings", ("a factory that returns tuple", "(module, inputs)")),
        (f"{HERE}:raised", ("a factory that failed (TypeError",)),
    ],
)
def test_what_is_no_factory_is_reported(spec: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        subject_of(spec)
    text = str(caught.value)
    assert "Traceback" not in text
    assert text.count("\n") == 0
    for part in parts:
        assert (line_of(part) if part == "build badly" else part) in text


def test_factories_give_modules_inputs_and_dynamic_shapes() -> None:
    plain, dynamic = subject_of(f"{HERE}:build"), subject_of(f"{HERE}:build_dynamic")
    assert [tuple(given.shape) for given in plain.inputs] == [(2, 4)]
    assert plain.dynamic_shapes is None
    book = RuleBook(profile(TODAY), "fp16")
    assert told(book.findings(exported(plain), "g")) == set()
    assert told(book.findings(exported(dynamic), "g")) == {"error dynamic-shape placeholder"}
