"""Quantised ONNX files: computed as onnxruntime computes them, read as number formats, checked as the float graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hilsim.compiler.onnx_files import onnx_subject
from hilsim.compiler.onnx_quantised import TensorFormat, mismatch, rounded, summary
from hilsim.compiler.program import exported, quiet
from hilsim.describe.catalogue import load_chip
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from tests.compiler.test_onnx_files import check, drawn, helper, node, np, numpy_helper, onnx, saved

quantization = pytest.importorskip("onnxruntime.quantization")
TYPES = quantization.QuantType


class Pictures(nn.Module):
    """Convolutions, a pooling between them, a product at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)
        self.second, self.last = nn.Conv2d(8, 8, 3, stride=2), nn.Linear(72, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(self.pool(torch.relu(self.first(x)))))
        made: torch.Tensor = self.last(x.flatten(1))
        return made


class Products(nn.Module):
    """Products with constants and of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(x)
        made: torch.Tensor = self.narrow(torch.relu(torch.softmax(x @ x.transpose(1, 2), -1) @ x))
        return made


NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "pictures": (Pictures, (1, 3, 16, 16)),
    "products": (Products, (2, 5, 16)),
}


class Drawn(quantization.CalibrationDataReader):  # type: ignore[misc]
    """A few random inputs to find ranges by."""

    def __init__(self, shape: tuple[int, ...]):
        random = np.random.RandomState(3)
        self.inputs = iter([{"x": random.randn(*shape).astype("float32")} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self.inputs, None)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The networks as float ONNX files."""
    torch.manual_seed(0)
    found = {}
    for name, (build, shape) in NETWORKS.items():
        found[name] = tmp_path_factory.mktemp(name) / "float.onnx"
        with quiet():
            torch.onnx.export(
                build().eval(), (torch.randn(shape),), found[name], dynamo=False, input_names=["x"], opset_version=17
            )
    return found


def static(source: Path, shape: tuple[int, ...], **settings: Any) -> Path:
    """A file quantised by onnxruntime."""
    file = source.with_name("quantised.onnx")
    operators = ["Conv", "MatMul", "MaxPool", "Reshape"]
    quantization.quantize_static(source, file, Drawn(shape), op_types_to_quantize=operators, **settings)
    return file


def operators_of(file: Path) -> list[str]:
    """The operators of its exported graph that compute."""
    moves = ("view", "expand", "permute", "_assert_tensor_metadata", "getitem")
    calls = [entry for entry in exported(onnx_subject(file)[0]).graph.nodes if entry.op == "call_function"]
    names = [getattr(entry.target, "__name__", "").partition(".")[0] for entry in calls]
    return [name for name in names if name not in moves]


CASES = [
    ("pictures", quantization.QuantFormat.QDQ, TYPES.QUInt8, True),
    ("pictures", quantization.QuantFormat.QOperator, TYPES.QUInt8, False),
    ("pictures", quantization.QuantFormat.QOperator, TYPES.QInt8, True),
    ("pictures", quantization.QuantFormat.QDQ, TYPES.QUInt16, True),
    ("products", quantization.QuantFormat.QDQ, TYPES.QInt8, False),
    ("products", quantization.QuantFormat.QOperator, TYPES.QUInt8, True),
]


@pytest.mark.parametrize(("name", "layout", "activations", "channels"), CASES)
def test_pairs_become_formats_and_the_graph_is_the_float_one(
    floats: dict[str, Path], name: str, layout: Any, activations: Any, channels: bool
) -> None:
    settings = {"quant_format": layout, "per_channel": channels, "activation_type": activations}
    file = static(floats[name], NETWORKS[name][1], weight_type=TYPES.QInt8, **settings)
    _, note, formats = onnx_subject(file)
    assert "as onnxruntime computes them" in note
    kind = {TYPES.QUInt8: "uint8", TYPES.QInt8: "int8", TYPES.QUInt16: "uint16"}[activations]
    assert {one.type for one in formats if not one.constant} == {kind}
    weights = [one for one in formats if one.constant and one.type == "int8"]
    assert len(weights) == 2
    assert {one.how for one in weights} == {"per channel" if channels else "per tensor"}
    assert operators_of(file) == operators_of(floats[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_formats_that_are_found_at_run_time(floats: dict[str, Path], name: str) -> None:
    file = floats[name].with_name("dynamic.onnx")
    quantization.quantize_dynamic(floats[name], file)
    assert "DynamicQuantizeLinear" in {one.op_type for one in onnx.load(file).graph.node}
    _, note, formats = onnx_subject(file)
    assert "as onnxruntime computes them" in note
    assert {str(one) for one in formats if not one.constant} == {"uint8 found at run time"}


def test_weights_of_four_bits_in_blocks(tmp_path: Path) -> None:
    kind = onnx.TensorProto.INT4
    weights = helper.make_tensor("w", kind, [8, 4], [place % 16 - 8 for place in range(32)])
    scales = numpy_helper.from_array(np.abs(drawn(2, 4)) + 0.1, "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "f"], ["y0"]),
    ]
    file = saved(tmp_path, nodes, {"x": [2, 8]}, opset=21)
    model = onnx.load(file)
    model.graph.initializer.extend([weights, scales])
    onnx.save(model, file)
    _, note, formats = onnx_subject(file)
    assert "as onnxruntime computes them" in note
    assert [str(one) for one in formats] == ["int4 in blocks"]


def test_integers_that_come_in_and_go_out(tmp_path: Path) -> None:
    scale, zero = np.float32(0.05), np.array(7, "uint8")
    nodes = [
        helper.make_node("DequantizeLinear", ["i", "s", "z"], ["a"]),
        helper.make_node("MatMul", ["a", "k"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "s", "z"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[1, 0]),  # moves integers as they are
        helper.make_node("DequantizeLinear", ["t", "s2", "z"], ["y0"]),  # by another scale than they came by
    ]
    held = {"s": scale, "z": zero, "s2": np.float32(0.02), "k": drawn(4, 3)}
    file = saved(tmp_path, nodes, {"i": ("int64", [2, 4])}, held)
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, file)
    _, note, _ = onnx_subject(file)
    assert "as onnxruntime computes them" in note


def test_a_wrong_rounding_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, kind: str) -> torch.Tensor:
        return ((x / scale).floor() + zero - zero) * scale

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y0"]),
    ]
    file = saved(tmp_path, nodes, {"x": [40, 40]}, {"s": np.float32(0.02)})
    onnx_subject(file)
    monkeypatch.setattr("hilsim.compiler.onnx_quantised.rounded", cut)
    with pytest.raises(InputError, match="off by"):
        onnx_subject(file)


def test_rounding_is_half_to_even_and_cut_at_the_ends() -> None:
    x, one = torch.tensor([0.5, 1.5, -0.5, 300.0, -300.0]), torch.ones(())
    assert rounded(x, one, 0 * one, "int8").tolist() == [0, 2, 0, 127, -128]
    assert rounded(x, one, 0 * one, "uint8").tolist() == [0, 2, 0, 255, 0]


@pytest.mark.parametrize(("made", "held", "part"), [
    ([node("QuantizeLinear", "x s")], {}, "input 2 of QuantizeLinear computed from data"),
    ([helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("Cast", ["q"], ["y0"], to=1)],
     {"s": np.float32(0.1)}, "Cast of integers that q was quantised to"),
    ([node("QuantizeLinear", "x s", output_dtype=onnx.TensorProto.FLOAT8E4M3FN)], {"s": np.float32(0.1)},
     "it quantises to float8e4m3fn"),
    ([node("QuantizeLinear", "x s")], {"s": np.ones(3, "float32")}, "3 scales along axis 1"),
])  # fmt: skip
def test_what_is_not_read_is_one_message(tmp_path: Path, made: Any, held: Any, part: str) -> None:
    inputs = {"x": [2, 4]} | ({} if held else {"s": []})
    with pytest.raises(InputError) as caught:
        onnx_subject(saved(tmp_path, made, inputs, held, opset=21))
    (fault,) = caught.value.faults
    assert part in str(fault)


def test_the_check_says_what_the_file_is_quantised_to(
    capsys: pytest.CaptureFixture[str], floats: dict[str, Path]
) -> None:
    file = static(floats["pictures"], NETWORKS["pictures"][1], activation_type=TYPES.QUInt8)
    status, out, _ = check(capsys, "--onnx", str(file), "--chip", "sa8295p", "--precision", "fp16")
    text = " ".join(out.split())
    assert status == 0
    assert "2 constants int8 per tensor" in text
    assert "whose activations are fp16; those of the file are int8" in text
    _, out, _ = check(capsys, "--onnx", str(file), "--chip", "sa8295p", "--precision", "w8a8")
    assert "those of the file are" not in " ".join(out.split())


def test_a_summary_counts_and_a_precision_is_held_against_it() -> None:
    one = torch.ones(())
    made = [TensorFormat("w", "int8", 1, True, "per tensor", one, one)] * 2
    assert summary([]) == ""
    assert "2 constants int8 per tensor;" in summary(made)
    precisions = load_chip("sa8295p", PROJECT / "scenarios").units["npu"].precisions
    assert mismatch(made, "fp16", precisions["fp16"]) == ""  # weights alone: activations are floats
    assert "those of the file are floats" in mismatch(made, "w8a8", precisions["w8a8"])
