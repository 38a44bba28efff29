"""Types of tensors, numbers known at build time, axes and ranks against what toolchains have; passes proven equal."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hilsim.compiler.choose import plan_graph
from hilsim.compiler.findings import Finding
from hilsim.compiler.plan import GraphPlan
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rewrite.axes import MOST, steps
from hilsim.compiler.rewrite.complex_pairs import complex_by_pairs
from hilsim.compiler.rewrite.formats import PASSES
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.rules import RuleBook
from hilsim.compiler.site import CompileSite
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import Profile, formats_of, load_profile, number_formats
from hilsim.describe.scenario import Compile
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from tests.modules_for_findings import Plain

Y2023, TODAY, V73, TRT8, TRT10, DLA = NAMES = (
    "sa8295_2023", "sa8295_today", "hexagon_v73", "orin_trt_8_6", "orin_trt_10", "orin_dla"
)  # fmt: skip
CHIPS = {DLA: ("drive-orin-x", "gpu"), TRT8: ("drive-orin-x", "gpu"), TRT10: ("drive-orin-x", "gpu")}
PASS = {entry.name: entry for entry in PASSES}


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@cache
def profile(name: str) -> Profile:
    return load_profile(name, PROJECT / "scenarios")


def found(function: Any, inputs: tuple[Tensor, ...], under: str, activations: Any = "fp16") -> list[Finding]:
    module = function if isinstance(function, nn.Module) else Plain(function)
    return RuleBook(profile(under), activations).findings(exported(Subject("m", module, inputs)), "g")


def of_rule(findings: list[Finding], rule: str) -> list[Finding]:
    return [one for one in findings if one.rule == rule]


def planned(function: Any, inputs: tuple[Tensor, ...], under: str) -> tuple[GraphPlan, Any, Any]:
    """A module's plan under a profile, its program before, and as rewritten."""
    chip, unit = CHIPS.get(under, ("sa8295p", "npu"))
    record = load_chip(chip, Path("test")).units[unit]
    site = CompileSite(record, next(iter(record.precisions.values())), profile(under), Compile())
    module = function if isinstance(function, nn.Module) else Plain(function)
    program = exported(Subject("m", module, inputs))
    before = copied(program)
    return plan_graph("whole", 1, program, site), before, program


# What each toolchain does with a cast to a type and back: by the sources that formats.yaml names.
CASTS = {
    "float64": {Y2023: "error", TODAY: "warning", V73: "warning", TRT8: "warning", TRT10: "warning", DLA: "warning"},
    "bfloat16": {Y2023: "error", TODAY: "error", V73: "error", TRT8: "error", TRT10: "", DLA: "error"},
    "uint8": {Y2023: "", TODAY: "", V73: "", TRT8: "error", TRT10: "error", DLA: "error"},
    "int8": {Y2023: "", TODAY: "", V73: "", TRT8: "warning", TRT10: "warning", DLA: "warning"},
    "int16": {Y2023: "", TODAY: "", V73: "", TRT8: "error", TRT10: "error", DLA: "error"},
    "int32": {Y2023: "", TODAY: "", V73: "", TRT8: "", TRT10: "", DLA: "error"},
    "float16": {Y2023: "", TODAY: "", V73: "", TRT8: "", TRT10: "", DLA: ""},
    "complex64": dict.fromkeys(NAMES, "error"),
    "complex128": dict.fromkeys(NAMES, "error"),
    "float8_e4m3fn": {Y2023: "error", TODAY: "error", V73: "error", TRT8: "error", TRT10: "warning", DLA: "error"},
    "float8_e5m2": dict.fromkeys(NAMES, "error"),
}


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_to_a_type_is_held_against_every_toolchain(name: str) -> None:
    kind = getattr(torch, name)
    program = exported(Subject("m", Plain(lambda x: x.to(kind).to(torch.float32) * 2), (numbers(3, 4),)))
    for under, severity in CASTS[name].items():
        told = of_rule(RuleBook(profile(under), "fp16").findings(program, "g"), "number-format")
        assert {one.severity for one in told} == ({severity} if severity else set()), under
        for one in told:
            assert name in one.reason
            assert one.source
            assert one.evidence == "documented"


def test_types_of_constants_and_of_inputs_count_as_those_inside() -> None:
    table = torch.arange(6, dtype=torch.int16)
    told = of_rule(found(lambda x: x + table, (numbers(6),), TRT8), "number-format")
    assert [(one.severity, one.operator) for one in told] == [("error", "aten.add.Tensor")]
    assert of_rule(found(lambda x: x + 1, (torch.zeros(4, dtype=torch.bfloat16),), TRT8), "number-format")
    assert not of_rule(found(lambda x: x + 1, (torch.zeros(4, dtype=torch.bfloat16),), TRT10), "number-format")


def test_what_is_folded_when_the_graph_is_built_may_have_any_type() -> None:
    turns = torch.polar(torch.ones(4), torch.arange(4.0))
    assert not of_rule(found(lambda x: x * torch.view_as_real(turns), (numbers(4, 2),), TRT8), "number-format")


def test_bytes_are_fine_at_the_ends_of_a_graph_and_nowhere_else() -> None:
    picture = torch.zeros(2, 3, dtype=torch.uint8)

    def errors(function: Any, x: Tensor) -> list[str]:
        return [one.operator for one in of_rule(found(function, (x,), TRT8), "number-format")]

    assert errors(lambda x: x.to(torch.float32) / 255, picture) == []
    assert errors(lambda x: (x * 255).to(torch.uint8), numbers(2, 3)) == []
    assert errors(lambda x: x.to(torch.int32) + 1, picture) == ["aten._to_copy.default"]
    assert errors(lambda x: x[0].to(torch.float32), picture) != []
    assert errors(lambda x: x + 1, picture) == ["aten.add.Tensor"]


def test_a_profile_may_say_otherwise_and_of_an_unknown_type_nothing_is_known() -> None:
    says = number_formats()["tensorrt_gpu"][0].model_copy(update={"types": ("int16",), "why": "a plugin has them"})
    mine = profile(TRT8).model_copy(update={"formats": (says,)})
    assert formats_of(mine)["int16"].standing == "native"
    program = exported(Subject("m", Plain(lambda x: x.to(torch.int16).float()), (numbers(3),)))
    assert not of_rule(RuleBook(mine, "fp16").findings(program, "g"), "number-format")
    book = RuleBook(mine, "fp16")
    del book.formats["int16"]
    (told,) = of_rule(book.findings(program, "g"), "number-format")
    assert (told.severity, told.evidence) == ("warning", "assumed")


class Rotary(nn.Module):
    """Rotary positions as complex turns, the pairs beside each other; frequencies by position are looked up."""

    def __init__(self, length: int, dim: int):
        super().__init__()
        rates = 1e4 ** (-torch.arange(0, dim, 2) / dim)
        angles = torch.outer(torch.arange(length).float(), rates)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, q: Tensor, k: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        turns = self.turns.index_select(0, start).unsqueeze(0).unsqueeze(2)
        pairs = [torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) for x in (q, k)]
        q, k = (torch.view_as_real(x * turns).flatten(-2) for x in pairs)
        return q, k


class Spectrum(nn.Module):
    """Complex arithmetic of other kinds."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = torch.complex(x, y)
        turned = (z * (0.5 + 2j) + 1.5).conj() * z - z / 3
        turned = torch.cat([turned, turned.permute(1, 0).permute(1, 0)], 0)[1:]
        return turned.real, turned.imag * 2, turned.abs()


COMPLEX = {
    "rotary": (Rotary(32, 8), (numbers(2, 6, 3, 8), numbers(2, 6, 1, 8), torch.tensor([0, 3, 31, 7, 8, 30]))),
    "spectrum": (Spectrum(), (numbers(4, 3), numbers(4, 3) * 2)),
    "polar": (Plain(lambda x, y: torch.view_as_real(torch.polar(x, y) * torch.polar(x, -y))), (numbers(5), numbers(5))),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_become_pairs_that_say_the_same(name: str) -> None:
    module, inputs = COMPLEX[name]
    before, after = (exported(Subject(name, module, inputs)) for _ in range(2))
    assert complex_by_pairs(after) > 0
    proof = prove_programs(before, after, inputs, cases=120)
    assert proof.passed, proof
    for under in NAMES:
        assert not of_rule(
            [one for one in RuleBook(profile(under), "fp16").findings(after, "g") if "complex" in one.reason],
            "number-format",
        )


def test_a_wrong_turn_is_seen_by_the_proof() -> None:
    module, inputs = COMPLEX["rotary"]
    right = exported(Subject("right", module, inputs))
    other = Rotary(32, 8)
    other.turns = other.turns.conj_physical()
    wrong = exported(Subject("wrong", other, inputs))
    complex_by_pairs(wrong)
    assert not prove_programs(right, wrong, inputs, cases=20).passed


def test_complex_inputs_and_operators_without_a_form_are_refused() -> None:
    given = torch.complex(numbers(3), numbers(3))
    with pytest.raises(ValueError, match=r"input .* is complex"):
        complex_by_pairs(exported(Subject("m", Plain(lambda x: x.real + 1), (given,))))
    with pytest.raises(ValueError, match="no form"):
        complex_by_pairs(exported(Subject("m", Plain(lambda x: torch.complex(x, x).exp().real), (numbers(3),))))


def test_plans_use_the_passes_where_a_type_is_refused() -> None:
    module, inputs = COMPLEX["rotary"]
    for under in (TODAY, TRT8):
        graph, before, after = planned(module, inputs, under)
        assert "complex_by_pairs" in [use.name for use in graph.chosen]
        assert not graph.away
        assert prove_programs(before, after, inputs, cases=30).passed
    graph, before, after = planned(lambda x: (x == x.amax()).to(torch.uint8).float() * x, (numbers(3, 4),), TRT8)
    assert [use.name for use in graph.chosen] == ["small_integers_to_int32"]
    assert not graph.refusals
    assert prove_programs(before, after, (numbers(3, 4),), cases=60, exactness="bits").passed


RETYPED = {
    "float64_to_float32": (lambda x: (x.double().exp() / 3).sum(-1).float(), (numbers(3, 4),)),
    "small_integers_to_int32": (
        lambda x, y: (torch.where(x > 3, x, y) + 1).to(torch.int32) * 2,
        (torch.randint(0, 90, (3, 4), dtype=torch.uint8), torch.randint(0, 90, (3, 4), dtype=torch.uint8)),
    ),
}


@pytest.mark.parametrize("name", RETYPED)
def test_programs_in_another_type_say_the_same_and_have_no_tensor_of_the_old_one(name: str) -> None:
    function, inputs = RETYPED[name]
    before, after = (exported(Subject(name, Plain(function), inputs)) for _ in range(2))
    assert PASS[name].run(after) > 0
    exactness = PASS[name].exactness
    assert prove_programs(before, after, inputs, cases=120, exactness=exactness).passed
    values = [node.meta.get("val") for node in after.graph.nodes if node.op == "call_function"]
    assert not [value for value in values if str(getattr(value, "dtype", ""))[6:] in PASS[name].types]


def test_bfloat16_as_float32_is_more_exact_than_before() -> None:
    x = numbers(64)
    program = exported(Subject("m", Plain(lambda x: (x.bfloat16() * 3 + 1).float()), (x,)))
    before = (program.module()(x) - (x * 3 + 1)).abs().max()
    PASS["bfloat16_to_float32"].run(program)
    assert (program.module()(x) - (x * 3 + 1)).abs().max() < before / 100


# Numbers that are known when the graph is built: as a literal, in a buffer, folded, as the end of a range.
FAR = torch.tensor([1, 2**33])
VALUES = [
    (lambda x: x + 2**40, (torch.arange(4),), "constant-range"),
    (lambda x: x + 2**20, (torch.arange(4),), ""),
    (lambda x: x * FAR, (torch.arange(2),), "constant-range"),
    (lambda x: x + torch.full((4,), -(2**35)), (torch.arange(4),), "constant-range"),
    (lambda x: x + torch.arange(2**31, 2**31 + 4), (torch.arange(4),), "constant-range"),
    (lambda x: torch.where(x > 1, x, torch.iinfo(torch.int64).min), (torch.arange(4),), "constant-range"),
    (lambda x: x[1:] + 1, (torch.arange(4),), ""),  # "to the end" is 2^63 - 1, and no operand
]


@pytest.mark.parametrize(("function", "inputs", "rule"), VALUES)
def test_integers_beyond_32_bits_are_reported_where_int64_becomes_int32(function: Any, inputs: Any, rule: str) -> None:
    assert {one.rule for one in found(function, inputs, TRT8) if one.severity == "error"} == ({rule} if rule else set())
    assert not of_rule(found(function, inputs, TRT10), "constant-range")


LOW = torch.full((4, 4), torch.finfo(torch.float32).min).triu(1)
HALVES = [
    (lambda x: x.masked_fill(x > 0, -1e38), "error"),
    (lambda x: x.masked_fill(x > 0, float("-inf")), ""),
    (lambda x: x.masked_fill(x > 0, -3e4), ""),
    (lambda x: x + LOW, "error"),
    (lambda x: x * 70000, "error"),
    (lambda x: x.clamp(max=1e9), ""),
    (lambda x: x / (x.abs() + 1e-12), "warning"),
    (lambda x: x / (x.abs() + 1e-6), ""),
]


@pytest.mark.parametrize(("function", "severity"), HALVES)
def test_floats_beyond_fp16_are_reported_where_activations_are_fp16(function: Any, severity: str) -> None:
    told = of_rule(found(function, (numbers(4, 4),), TODAY), "constant-range")
    assert {one.severity for one in told} == ({severity} if severity else set())
    assert not of_rule(found(function, (numbers(4, 4),), TODAY, "fp32"), "constant-range")
    if severity == "error":  # and half floats of the module's own say so themselves
        assert "beyond fp16" in told[0].reason


SHOWN = [  # function, inputs, the rewrite that proves the clamp
    (lambda x: torch.softmax(x.masked_fill(x > 0, -1e9), -1), (numbers(4, 4),), TODAY, "choice_within_fp16"),
    (lambda x: torch.softmax(x + LOW, -1), (numbers(4, 4),), TRT8, "mask_within_fp16"),
    (
        lambda x, m: torch.softmax(x + (1.0 - m.float()) * torch.finfo(torch.float32).min, -1),
        (numbers(4, 4), torch.ones(4, dtype=torch.int32)),
        TRT8,
        "factor_within_fp16",
    ),
    (lambda x: x + (x < 2**40).long(), (torch.arange(4),), TRT8, "comparison_beyond_int32"),
    (lambda x: x.clamp(0, 2**40) + 1, (torch.arange(4),), TRT8, "clamp_within_int32"),
]


@pytest.mark.parametrize(
    ("function", "inputs", "under", "name"), SHOWN, ids=lambda part: part if isinstance(part, str) else ""
)
def test_a_constant_that_does_not_fit_is_cut_where_that_is_proven(
    function: Any, inputs: Any, under: str, name: str
) -> None:
    graph, before, after = planned(function, inputs, under)
    assert name in {use.name for use in graph.chosen}
    assert not graph.away
    assert not graph.refusals
    assert prove_programs(before, after, inputs, cases=40, exactness="rounding").passed


def test_a_constant_that_does_not_fit_is_refused_where_nothing_proves_a_cut() -> None:
    graph, _, _ = planned(lambda x: x + 2**40, (torch.arange(4),), TRT8)
    assert "1,099,511,627,776 is beyond int32" in graph.refusals[0]
    graph, _, _ = planned(lambda x: x.masked_fill(x > 0, -1e9) * 2, (numbers(4, 4),), TODAY)  # no softmax hides it
    assert graph.away


def test_truth_values_and_integers_are_not_the_same_to_bitwise_operators() -> None:
    mask, whole = torch.ones(2, 3, dtype=torch.bool), torch.arange(6).reshape(2, 3).int()

    def told(function: Any, x: Tensor, under: str) -> list[tuple[str, str, tuple[str, ...]]]:
        return [
            (one.severity, one.rule, one.rewrites) for one in found(function, (x,), under) if "bitwise" in one.operator
        ]

    assert told(lambda x: ~x, mask, TODAY) == [("error", "operator-missing", ("bitwise_not_by_comparison",))]
    assert told(lambda x: ~x, whole, TODAY) == [("error", "operator-missing", ("bitwise_not_by_difference",))]
    assert told(lambda x: ~x, mask, TRT8) == []  # an ONNX export writes Not
    assert told(lambda x: ~x, whole, TRT8) == [("warning", "operator-unknown", ("bitwise_not_by_difference",))]
    assert told(lambda x: x ^ x.flip(0), mask, TRT8) == []
    assert told(lambda x: x ^ x.flip(0), whole, TRT8)[0][:2] == ("error", "operator-missing")
    assert told(lambda x: x | x.flip(0), mask, TODAY) == [("warning", "operator-unknown", ("or_by_sum",))]


@pytest.mark.parametrize(("function", "inputs"), [
    (lambda x: ~x, (numbers(3, 4) > 0,)), (lambda x: ~x, (torch.arange(-3, 5),)),
    (lambda x, y: (x ^ y).float(), (numbers(3, 4) > 0, numbers(4) > 0)),
])  # fmt: skip
def test_bitwise_operators_are_rewritten_exactly(function: Any, inputs: Any) -> None:
    graph, before, after = planned(function, inputs, TODAY)
    assert not graph.away
    assert prove_programs(before, after, inputs, cases=60, exactness="bits").passed


def test_alternative_readings_hold_for_the_toolchains_that_they_are_known_of() -> None:
    ids, x = torch.zeros(2, 2, dtype=torch.int64), numbers(2, 3)

    def add(x: Tensor, ids: Tensor) -> Tensor:
        return x.scatter_add(1, ids, x)

    assert {one.rule for one in found(add, (x, ids), TODAY) if "scatter" in one.operator} == {"operator-unknown"}
    assert {one.rule for one in found(add, (x, ids), TRT10) if "scatter" in one.operator} == {"scatter-reduction"}
    assert {one.rule for one in found(lambda x: x.fmod(2), (x,), TODAY)} == {"operator-unknown"}
    assert found(lambda x: x.fmod(2), (x,), TRT8) == []


class Convolved(nn.Module):
    """One layer by the name of its class."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


PICTURE = numbers(1, 4, 16, 16)
ON_DLA = [
    (lambda x: torch.cat((x, x), 1), ""), (lambda x: torch.cat((x, x), 2), "concat-channels"),
    (lambda x: torch.cat((x, x), -1), "concat-channels"), (lambda x: torch.cat((x, x), 0), "concat-channels"),
    (lambda x: torch.softmax(x, 1), ""), (lambda x: torch.softmax(x, 0), "softmax-axis"),
    (nn.Conv2d(4, 4, 3, stride=2, padding=1), ""), (nn.Conv2d(4, 4, 3, stride=9, padding=1), "convolution-window"),
    (nn.Conv2d(4, 4, 1, dilation=33), "convolution-window"), (nn.Conv2d(4, 4, 5, padding=33), "convolution-window"),
    (nn.ConvTranspose2d(4, 4, 2, 2), ""), (nn.ConvTranspose2d(4, 4, 3, 2, 1), "deconvolution-window"),
    (nn.ConvTranspose2d(4, 4, 2, 2, groups=2), "deconvolution-window"),
    (nn.AvgPool2d(8), ""), (nn.AvgPool2d(9), "pooling-window"), (nn.MaxPool2d(3, 2, 1), ""),
    (nn.MaxPool2d(2, dilation=2), "pooling-window"),
    (lambda x: x + x.relu(), ""), (lambda x: x * x[:, :, :1, :1], ""), (lambda x: x * x[:, :1, :1, :1], ""),
    (lambda x: x * x[:, :, :, :1], "elementwise-broadcast"), (lambda x: x + x[:, :1], "elementwise-broadcast"),
    (lambda x: x + torch.ones(4, 1, 1), ""), (lambda x: x[:, 1:], ""), (lambda x: x[:, None, 1:], "slice-4d"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "rule"), ON_DLA)
def test_axes_windows_and_stretched_operands_on_the_dla(function: Any, rule: str) -> None:
    told = [one for one in found(function, (PICTURE,), DLA) if one.severity == "error"]
    assert {one.rule for one in told} == ({rule} if rule else set())


def test_a_volume_of_three_dimensions_is_convolved_nowhere_on_the_dla() -> None:
    told = found(nn.Conv3d(2, 2, 3), (numbers(1, 2, 5, 5, 5),), DLA)
    assert [one.rule for one in told] == ["convolution-window"]


# Windows and their way back, pixels to channels and back, as published vision networks write them.
def windows(x: Tensor) -> Tensor:
    b, h, w, c = x.shape
    return x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)


def back(x: Tensor) -> Tensor:
    return x.view(1, 2, 2, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(1, 8, 8, -1)


def unshuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, h // 2, w // 2)


def shuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, h * 2, w * 2)


MANY = {
    "windows": (windows, (numbers(1, 8, 8, 3),)),
    "windows back": (back, (numbers(4, 16, 3),)),
    "pixels to channels": (unshuffled, (numbers(1, 3, 4, 4),)),
    "channels to pixels": (shuffled, (numbers(1, 8, 3, 3),)),
    "within six": (
        lambda x: (
            torch.softmax(windows_of(x) * 2 + windows_of(x)[:, :1], -1).permute(0, 1, 3, 2, 4, 5).reshape(1, 8, 8, 3)
        ),
        (numbers(1, 8, 8, 3),),
    ),
}


def windows_of(x: Tensor) -> Tensor:
    return x.view(1, 2, 4, 2, 4, 3).permute(0, 1, 3, 2, 4, 5)


@pytest.mark.parametrize("name", MANY)
def test_six_dimensions_come_down_to_five_and_say_the_same(name: str) -> None:
    function, inputs = MANY[name]
    graph, before, after = planned(function, inputs, TODAY)
    assert any(
        one.rule == "rank" and one.severity == "error" and one.evidence == "documented" for one in graph.findings
    )
    assert all(one.rewrites for one in graph.findings if one.rule == "rank" and "clone" not in one.operator)
    assert not graph.away, graph.away
    computed = [node for node in after.graph.nodes if node.op == "call_function"]
    assert max(node.meta["val"].dim() for node in computed) <= MOST
    assert prove_programs(before, after, inputs, cases=60, exactness="rounding").passed


def test_every_permutation_is_a_few_of_five_blocks() -> None:
    generator = torch.Generator().manual_seed(5)
    for rank in (6, 7, 8):
        for _ in range(12):
            order = tuple(torch.randperm(rank, generator=generator).tolist())
            done = list(range(rank))
            for blocks, moved in steps(order):
                assert len(blocks) <= MOST
                done = [done[axis] for block in moved for axis in blocks[block]]
            assert tuple(done) == order
            assert len(steps(order)) <= 3


def test_five_dimensions_stay_as_they_are_and_nine_are_too_many_for_tensorrt() -> None:
    x = numbers(1, 8, 8)
    assert not found(lambda x: x.view(1, 2, 4, 2, 4).permute(0, 1, 3, 2, 4), (x,), TODAY)
    assert {one.rule for one in found(lambda x: x.reshape(1, 2, 1, 2, 1, 2, 1, 1, 8).relu(), (x,), TRT8)} == {"rank"}


def test_wrong_figures_in_a_profile_are_refused(tmp_path: Path) -> None:
    text = (PROJECT / "chips/profiles/orin_dla.yaml").read_text()
    entry = '{types: [TYPE], standing: STANDING, evidence: assumed, why: "mine", source: "mine"}'
    unknown = entry.replace("TYPE", "float65").replace("STANDING", "native")
    halfway = entry.replace("TYPE", "int16").replace("STANDING", "becomes")
    for old, new, place in (
        ("kernel: [1, 32]", "kernel: [32, 1]", "kernel"),
        ("notes:", f"formats:\n  - {unknown}\nnotes:", "types"),
        ("notes:", f"formats:\n  - {halfway}\nnotes:", "becomes"),
    ):
        file = tmp_path / "mine.yaml"
        file.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=place):
            load_profile(str(file), PROJECT / "scenarios")


def test_findings_go_into_json() -> None:
    for one in found(lambda x: x.double() + 1e39, (numbers(3),), TRT8):
        assert json.loads(json.dumps(one.as_json()))["rule"] in ("number-format", "constant-range")
    assert replace(PASSES[0], name="x").name == "x"
