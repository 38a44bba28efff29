"""ONNX files: operators as onnxruntime computes them, findings under nodes' names, one message for a bad file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hilsim.commands.main import main
from hilsim.compiler import onnx_read
from hilsim.compiler.named_module import size_of
from hilsim.compiler.onnx_files import onnx_subject
from hilsim.compiler.onnx_operators import OPERATORS
from hilsim.compiler.program import exported, quiet
from hilsim.errors import InputError
from tests.documents import document_of

pytestmark = pytest.mark.usefixtures("at_home")

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
np = pytest.importorskip("numpy")
helper, TensorProto, numpy_helper = onnx.helper, onnx.TensorProto, onnx.numpy_helper

RANDOM = np.random.RandomState(0)


def drawn(*shape: int) -> Any:
    return RANDOM.randn(*shape).astype("float32")


def numbers(*values: int) -> Any:
    return np.array(values, dtype="int64")


KINDS = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "float64": TensorProto.DOUBLE,
}


def saved(
    folder: Path, nodes: list[Any], inputs: dict[str, Any], held: dict[str, Any] | None = None, *, outputs: int = 1,
    opset: int = 20, out: str = "float32", domain: str = "",
) -> Path:  # fmt: skip
    """A file of nodes whose results y0, y1 and so on are outputs; inputs are shapes, or (type, shape)."""
    values = []
    for name, shape in inputs.items():
        kind, sizes = shape if isinstance(shape, tuple) else ("float32", shape)
        values.append(helper.make_tensor_value_info(name, KINDS[kind], sizes))
    results = [helper.make_tensor_value_info(f"y{place}", KINDS[out], None) for place in range(outputs)]
    constants = [numpy_helper.from_array(value, name) for name, value in (held or {}).items()]
    graph = helper.make_graph(nodes, "graph", values, results, constants)
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def node(op: str, takes: str, **attributes: Any) -> Any:
    """A node whose result is y0; `takes` are names, - for none."""
    names = ["" if name == "-" else name for name in takes.split()]
    gives = [f"y{place}" for place in range(attributes.pop("gives", 1))]
    return helper.make_node(op, names, gives, name=f"/part/{op}", **attributes)


X = {"x": [2, 3, 4, 4]}
FLAT = {"x": [2, 6]}
# One operator each: (node, inputs, constants, further settings of the file).
Case = tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]
PLAIN = [
    "Abs", "Neg", "Exp", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Erf", "Sigmoid", "Tanh", "Relu",
    "Floor", "Ceil", "Round", "Sign", "Identity", "Softsign", "Softplus", "Mish", "HardSwish", "Gelu", "Elu", "Selu",
    "Celu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Softmax", "LogSoftmax", "GlobalAveragePool",
    "GlobalMaxPool", "LpNormalization", "Flatten",
]  # fmt: skip
CASES: dict[str, Case] = {op: (node(op, "x"), X, {}, {}) for op in PLAIN}
CASES |= {
    op: (node(op, "x k"), X, {"k": np.abs(drawn(4)) + 0.5}, {})
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
}
CASES |= {
    op: (node(op, "x k"), X, {"k": drawn(4)}, {"out": "bool"})
    for op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
}
CASES |= {
    op: (node(op, "a b"), {"a": ("bool", [2, 3]), "b": ("bool", [2, 3])}, {}, {"out": "bool"})
    for op in ("And", "Or", "Xor")
}
CASES |= {
    f"Reduce{kind}": (node(f"Reduce{kind}", "x axes", keepdims=0), {"x": [2, 3, 4]}, {"axes": numbers(1, -1)}, {})
    for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
}
CASES |= {
    "reduced by an attribute": (node("ReduceMean", "x", axes=[1]), X, {}, {"opset": 13}),
    "Pow": (node("Pow", "x k"), X, {"k": np.array(2.0, dtype="float32")}, {}),
    "Sqrt": (node("Sqrt", "k"), X, {"k": np.abs(drawn(4))}, {}),
    "quotient of integers": (node("Div", "i k"), {"i": ("int64", [4])}, {"k": numbers(2, -3, 5, 7)}, {"out": "int64"}),
    "Mod": (node("Mod", "i k"), {"i": ("int64", [4])}, {"k": numbers(2, -3, 5, 7)}, {"out": "int64"}),
    "Not": (node("Not", "b"), {"b": ("bool", [3])}, {}, {"out": "bool"}),
    "Where": (node("Where", "b x k"), {"b": ("bool", [3, 1]), "x": [3, 4]}, {"k": drawn(4)}, {}),
    "PRelu": (node("PRelu", "x k"), X, {"k": drawn(3, 1, 1)}, {}),
    "PRelu along the last axis": (node("PRelu", "x k"), {"x": [2, 3, 3]}, {"k": drawn(1, 1, 3)}, {}),
    "Clip": (node("Clip", "x low high"), X, {"low": np.float32(-0.5), "high": np.float32(0.5)}, {}),
    "Clip of old": (node("Clip", "x", min=-0.5, max=0.5), X, {}, {"opset": 10}),
    "softmax over several axes": (node("Softmax", "x", axis=1), X, {}, {"opset": 11}),
    "MatMul": (node("MatMul", "x k"), X, {"k": drawn(4, 5)}, {}),
    "Gemm": (node("Gemm", "x k b", alpha=0.5, beta=2.0, transA=1), FLAT, {"k": drawn(2, 5), "b": drawn(5)}, {}),
    "Einsum": (node("Einsum", "x k", equation="bchw,wk->bkch"), X, {"k": drawn(4, 5)}, {}),
    "Conv": (node("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1]), X, {"w": drawn(5, 3, 3, 3), "b": drawn(5)}, {}),
    "Conv in one dimension": (node("Conv", "x w", dilations=[2], group=2), {"x": [1, 4, 9]}, {"w": drawn(4, 2, 3)}, {}),
    "Conv by padding": (node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), X, {"w": drawn(2, 3, 3, 3)}, {}),
    "ConvTranspose": (node("ConvTranspose", "x w", pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1]), X,
                      {"w": drawn(3, 2, 3, 3)}, {}),
    "MaxPool": (node("MaxPool", "x", kernel_shape=[3, 2], pads=[1, 0, 2, 1], strides=[2, 1]), X, {}, {}),
    "AveragePool": (node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1], strides=[2, 2]), X, {}, {}),
    "AveragePool that counts": (node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1),
                                X, {}, {}),
    "BatchNormalization": (node("BatchNormalization", "x s b m v"), X,
                           {"s": drawn(3), "b": drawn(3), "m": drawn(3), "v": np.abs(drawn(3)) + 1}, {}),
    "InstanceNormalization": (node("InstanceNormalization", "x s b"), X, {"s": drawn(3), "b": drawn(3)}, {}),
    "LayerNormalization": (node("LayerNormalization", "x s b", axis=-2), X, {"s": drawn(4, 4), "b": drawn(4, 4)}, {}),
    "GroupNormalization": (node("GroupNormalization", "x s b", num_groups=2), {"x": [1, 4, 5]},
                           {"s": drawn(4), "b": drawn(4)}, {"opset": 21}),
    "LRN": (node("LRN", "x", size=3), X, {}, {}),
    "Reshape": (node("Reshape", "x k"), X, {"k": numbers(0, -1, 2)}, {}),
    "Pad of a flat tensor": (node("Pad", "x k", mode="reflect"), FLAT, {"k": numbers(0, 2, 0, 1)}, {}),
    "Squeeze": (node("Squeeze", "x k"), {"x": [2, 1, 3, 1]}, {"k": numbers(1)}, {}),
    "Unsqueeze": (node("Unsqueeze", "x k"), FLAT, {"k": numbers(0, -1)}, {}),
    "Transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), X, {}, {}),
    "Concat": (node("Concat", "x k x", axis=1), X, {"k": drawn(2, 2, 4, 4)}, {}),
    "Split": (node("Split", "x k", axis=1, gives=2), X, {"k": numbers(1, 2)}, {"outputs": 2}),
    "Slice": (node("Slice", "x s e a t"), X, {"s": numbers(1, -1), "e": numbers(9, -9), "a": numbers(2, 3),
                                             "t": numbers(2, -2)}, {}),
    "Slice backwards": (node("Slice", "x s e a t"), X, {"s": numbers(-1), "e": numbers(-(2**63)), "a": numbers(1),
                                                       "t": numbers(-1)}, {}),
    "Gather": (node("Gather", "x k", axis=1), X, {"k": np.array([[0, 2], [1, 1]])}, {}),
    "Gather of one": (node("Gather", "x k", axis=-1), X, {"k": np.array(1)}, {}),
    "Gather from the end": (node("Gather", "x k", axis=2), X, {"k": numbers(-1, 0)}, {}),
    "lookup": (node("Gather", "t i"), {"i": ("int64", [2, 3])}, {"t": drawn(5, 4)}, {}),
    "GatherElements": (node("GatherElements", "x k", axis=1), FLAT, {"k": np.array([[0, 5], [1, 1]])}, {}),
    "GatherND": (node("GatherND", "x k"), X, {"k": np.array([[0, 2], [1, 1]])}, {}),
    "ScatterElements": (node("ScatterElements", "x k v", axis=1), FLAT, {"k": np.array([[0, 5], [1, 2]]),
                                                                         "v": drawn(2, 2)}, {}),
    "ScatterND": (node("ScatterND", "x k v"), FLAT, {"k": np.array([[0, 2], [1, 1]]), "v": drawn(2)}, {}),
    "Expand": (node("Expand", "x k"), {"x": [3, 1]}, {"k": numbers(2, 1, 4)}, {}),
    "Tile": (node("Tile", "x k"), FLAT, {"k": numbers(2, 3)}, {}),
    "Pad": (node("Pad", "x k v"), FLAT, {"k": numbers(1, 0, 0, 2), "v": np.float32(3.0)}, {}),
    "Pad by mirroring": (node("Pad", "x k", mode="reflect"), X, {"k": numbers(0, 0, 1, 2, 0, 0, 0, 1)}, {}),
    "Pad by the edge": (node("Pad", "x k", mode="edge"), X, {"k": numbers(0, 0, 0, 2, 0, 0, 0, 1)}, {}),
    "Resize": (node("Resize", "x - k", nearest_mode="floor", coordinate_transformation_mode="asymmetric"), X,
               {"k": np.array([1, 1, 2, 2], dtype="float32")}, {}),
    "Resize to a size": (node("Resize", "x - - k", mode="linear"), X, {"k": numbers(2, 3, 7, 6)}, {}),
    "Resize by corners": (node("Resize", "x - - k", mode="cubic", coordinate_transformation_mode="align_corners"), X,
                          {"k": numbers(2, 3, 7, 6)}, {}),
    "DepthToSpace": (node("DepthToSpace", "x", blocksize=2), {"x": [1, 8, 2, 3]}, {}, {}),
    "DepthToSpace by columns": (node("DepthToSpace", "x", blocksize=2, mode="CRD"), {"x": [1, 8, 2, 3]}, {}, {}),
    "SpaceToDepth": (node("SpaceToDepth", "x", blocksize=2), X, {}, {}),
    "GridSample": (node("GridSample", "x g"), {"x": [1, 2, 4, 4], "g": [1, 3, 3, 2]}, {}, {}),
    "TopK": (node("TopK", "x k", axis=1, gives=2), FLAT, {"k": numbers(3)}, {}),
    "ArgMax": (node("ArgMax", "x", axis=1), X, {}, {"out": "int64"}),
    "CumSum": (node("CumSum", "x k"), X, {"k": np.array(2)}, {}),
    "OneHot": (node("OneHot", "i d v", axis=1), {"i": ("int64", [2, 3])}, {"d": numbers(4),
               "v": np.array([0.5, 2.0], "f")}, {}),
    "Trilu": (node("Trilu", "x k", upper=0), FLAT, {"k": np.array(1)}, {}),
    "Cast": (node("Cast", "x", to=TensorProto.DOUBLE), FLAT, {}, {"out": "float64"}),
    "LSTM": (node("LSTM", "x w r b", hidden_size=4, gives=1), {"x": [5, 2, 3]},
             {"w": drawn(1, 16, 3), "r": drawn(1, 16, 4), "b": drawn(1, 32)}, {}),
    "LSTM both ways": (node("LSTM", "x w r", hidden_size=4, direction="bidirectional", gives=3), {"x": [5, 2, 3]},
                       {"w": drawn(2, 16, 3), "r": drawn(2, 16, 4)}, {"outputs": 3}),
    "GRU": (node("GRU", "x w r b", hidden_size=4, linear_before_reset=1), {"x": [5, 2, 3]},
            {"w": drawn(1, 12, 3), "r": drawn(1, 12, 4), "b": drawn(1, 24)}, {}),
    "RNN": (node("RNN", "x w r", hidden_size=4), {"x": [5, 2, 3]}, {"w": drawn(1, 4, 3), "r": drawn(1, 4, 4)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_compute_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    made, inputs, held, settings = CASES[name]
    subject, note, _ = onnx_subject(saved(tmp_path, [made], inputs, held, **settings))
    assert "as onnxruntime computes them" in note
    assert len(subject.inputs) == len(inputs)


def test_most_operators_are_among_the_cases() -> None:
    tried = {made.op_type for made, _, _, _ in CASES.values()}
    assert len(tried) >= 100
    assert tried <= OPERATORS.keys()


def test_a_wrong_operator_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, inputs, held, settings = CASES["Gemm"]
    monkeypatch.setitem(OPERATORS, "Gemm", lambda node, x, y, b: x.t() @ y + b)
    with pytest.raises(InputError, match=r"off by .* of its largest number"):
        onnx_subject(saved(tmp_path, [made], inputs, held, **settings))


def network(folder: Path) -> Path:
    """A small network with a computed shape, whose nodes have an exporter's names."""
    steps = [
        ("Conv", "x w", "a", "/stem/conv/Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Erf", "a", "e", "/stem/act/Erf", {}),
        ("Shape", "e", "s", "/head/Shape", {}),
        ("Gather", "s first", "n", "/head/Gather", {}),
        ("Concat", "n rest", "shape", "/head/Concat", {"axis": 0}),
        ("Reshape", "e shape", "f", "/head/Reshape", {}),
        ("MatMul", "f k", "y0", "/head/MatMul", {}),
    ]
    nodes = [helper.make_node(op, ins.split(), [out], name=name, **more) for op, ins, out, name, more in steps]
    held = {"w": drawn(4, 3, 3, 3), "first": numbers(0), "rest": numbers(-1), "k": drawn(64, 2)}
    return saved(folder, nodes, {"x": ["batch", 3, 4, 4]}, held)


def test_shapes_are_folded_and_nodes_keep_their_names(tmp_path: Path) -> None:
    subject, _, _ = onnx_subject(network(tmp_path))
    program = exported(subject)
    calls = [entry for entry in program.graph.nodes if entry.op == "call_function"]
    assert [str(entry.target).split(".")[1] for entry in calls] == ["convolution", "erf", "view", "mm"]
    assert sorted(program.state_dict) == ["value_0_w", "value_1_k"]


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["check", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_check_names_the_node(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = network(tmp_path)
    status, out, _ = check(capsys, "--onnx", str(file), "--chip", "drive-orin-x", "--profile", "orin_dla", "--json")
    (plan,) = json.loads(out)["plans"]
    erf = [found for found in plan["graphs"][0]["findings"] if found["operator"] == "aten.erf.default"]
    assert [(found["severity"], found["module"], found["line"]) for found in erf] == [("error", "stem.act.Erf", "")]
    assert any("as onnxruntime computes them" in note for note in plan["notes"])
    assert status == 0


def test_a_rewritten_file_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = network(tmp_path)
    status, _, err = check(capsys, "--onnx", str(file), "--chip", "sa8295p", "--write", str(tmp_path / "out"))
    assert (status, err) == (0, "")
    assert {made.name for made in (tmp_path / "out").iterdir()} == {"module.pt2", "module.onnx", "module-plan.json"}
    onnx_subject(tmp_path / "out" / "module.onnx")  # as onnxruntime computes it
    # What was written is read again as a program.
    status, out, _ = check(capsys, "--program", str(tmp_path / "out" / "module.pt2"), "--chip", "sa8295p")
    assert status == 0
    assert "module.pt2 on sa8295p.npu" in out


def refused(file: Path, sizes: dict[str, int] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        onnx_subject(file, sizes)
    return str(caught.value)


def test_bad_files_get_one_message_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = node("Relu", "x")
    assert "no such file" in refused(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    assert "no ONNX model" in refused(tmp_path / "text.onnx")
    assert "opset 99" in refused(saved(tmp_path, [relu], X, opset=99))
    assert "opset 7" in refused(saved(tmp_path, [relu], X, opset=7))
    custom = helper.make_node("Attention", ["x"], ["y0"], name="/attn", domain="com.microsoft")
    then = helper.make_node("Attention", ["y0"], ["y1"], domain="com.microsoft")
    text = refused(saved(tmp_path, [custom, then], X, domain="com.microsoft", outputs=2))
    assert "2 times com.microsoft.Attention" in text
    assert "node attn" in text
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "branch", [], [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])  # fmt: skip
    iffy = helper.make_node("If", ["b"], ["y0"], then_branch=branch, else_branch=branch)
    assert "If with the subgraph" in refused(saved(tmp_path, [iffy], {**X, "b": ("bool", [])}))
    assert "StringNormalizer" in refused(saved(tmp_path, [node("StringNormalizer", "x")], X))
    assert "'time' without a size" in refused(saved(tmp_path, [relu], {"x": [1, "time", 3]}))
    subject, _, _ = onnx_subject(tmp_path / "model.onnx", {"time": 7})
    assert subject.inputs[0].shape == (1, 7, 3)
    assert "--size" in refused(tmp_path / "model.onnx", {"tim": 7})
    computed = node("Reshape", "x s")
    text = refused(saved(tmp_path, [computed], {"x": [4], "s": ("int64", [1])}))
    assert "input 2 of Reshape computed from data" in text
    monkeypatch.setattr(onnx_read, "MOST", 64)
    assert "GiB in one file" in refused(saved(tmp_path, [relu], X))


def test_files_that_are_no_models_at_all(tmp_path: Path) -> None:
    assert "a folder" in refused(tmp_path)
    (tmp_path / "empty.onnx").touch()
    assert "an empty file" in refused(tmp_path / "empty.onnx")
    whole = network(tmp_path).read_bytes()
    cut = tmp_path / "cut.onnx"
    for share in (0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole[: int(len(whole) * share)])
        assert refused(cut).count("\n") <= 1
    cut.write_bytes(b"PK\x03\x04" + whole[4:])
    assert "no ONNX model" in refused(cut)


def chain(*steps: str) -> list[Any]:
    """Additions by what they take and give: "x y z" gives z of x and y."""
    return [helper.make_node("Add", names[:-1], names[-1:], name=names[-1]) for names in map(str.split, steps)]


@pytest.mark.parametrize(("steps", "part"), [
    (["x b a", "a x b", "b x y0"], "a cycle through a, b"),
    (["a x y0", "x x a"], "which node a gives later"),
    (["x x a", "x x a", "a x y0"], "which node a gives too"),
    (["x z y0"], "node y0: found the input 'z', which nothing gives"),
    (["x x a"], "the output 'y0', which nothing gives"),
])  # fmt: skip
def test_graphs_that_cannot_be_computed_get_one_message(tmp_path: Path, steps: list[str], part: str) -> None:
    with pytest.raises(InputError) as caught:
        onnx_subject(saved(tmp_path, chain(*steps), X))
    (fault,) = [one for one in caught.value.faults if "which nothing gives" not in one.found or part in str(one)]
    assert part in str(fault)


def test_constants_by_their_type(tmp_path: Path) -> None:
    def of(kind: int, takes: str = "x k") -> Path:
        file = saved(tmp_path, [node("Add", takes)], {"x": [4]})
        model = onnx.load(file)
        model.graph.initializer.append(helper.make_tensor("k", kind, [4], [1, 2, 3, 4]))
        onnx.save(model, file)
        return file

    assert "FLOAT8E5M2" in refused(of(TensorProto.FLOAT8E5M2))
    for kind in (TensorProto.BFLOAT16, TensorProto.INT4):  # read; but onnxruntime adds no float and such a number
        assert "onnxruntime does not run" in refused(of(kind))
    sparse = saved(tmp_path, [node("Add", "x k")], {"x": [4]})
    model = onnx.load(sparse)
    values, places = numpy_helper.from_array(drawn(2), "k"), numpy_helper.from_array(numbers(0, 2))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    onnx.save(model, sparse)
    assert "a sparse constant (k)" in refused(sparse)


class Grouped(nn.Module):
    """Attention whose queries share heads of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.pair, self.out = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, rows, _ = x.shape
        q = self.query(x).view(batch, rows, 4, 8).transpose(1, 2)
        k, v = self.pair(x).view(batch, rows, 2, 2, 8).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(
            q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), is_causal=True
        )
        made: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, rows, 32))
        return made


class Recurrent(nn.Module):
    """A recurrent layer's outputs alone."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x)[0]
        return made


EXPORTED: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "convolutions": (nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4)), (1, 3, 16, 16)),
    "encoder": (nn.Sequential(
        nn.LayerNorm(32), Grouped(), nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)), (1, 7, 32)),
    "lstm": (Recurrent(nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True)), (1, 7, 8)),
    "gru": (Recurrent(nn.GRU(8, 16, batch_first=True)), (1, 7, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTED)
def test_what_torch_exports_is_read(name: str, tmp_path: Path) -> None:
    module, shape = EXPORTED[name]
    with quiet():
        torch.onnx.export(module.eval(), (torch.randn(shape),), tmp_path / "made.onnx", dynamo=False, opset_version=17)
    _, note, _ = onnx_subject(tmp_path / "made.onnx")
    assert "as onnxruntime computes them" in note


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    file = network(tmp_path)
    model = onnx.load(file)
    onnx.save_model(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    onnx_subject(file)
    data = tmp_path / "weights.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:100])
    assert "of 100 bytes" in refused(file)
    data.unlink()
    text = refused(file)
    assert "no file 'weights.bin', which holds w and" in text
    assert text.count("weights.bin") == 1


@pytest.mark.parametrize("place", ["../weights.bin", "ABSOLUTE", "link.bin"])
def test_external_data_comes_from_the_files_own_folder_alone(place: str, tmp_path: Path) -> None:
    """A file from elsewhere cannot have others read: a path that leads out of its folder, and a link, are refused."""
    (tmp_path / "in").mkdir()
    file = network(tmp_path / "in")
    model = onnx.load(file)
    onnx.save_model(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    onnx_subject(file)
    (tmp_path / "in/weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "in/link.bin").symlink_to(tmp_path / "weights.bin")
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place.replace("ABSOLUTE", str(tmp_path / "weights.bin"))
    file.write_bytes(model.SerializeToString())
    assert "external data that is not read" in refused(file)


def test_without_the_packages_the_message_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = network(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert "pip install 'hilsim[onnx]'" in refused(file)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert "without the package onnx" in refused(file)


@pytest.mark.parametrize("text", ["length", "=3", "length=0", "length=x", "length=-3"])
def test_sizes_are_names_and_numbers(text: str) -> None:
    with pytest.raises(InputError, match="--size"):
        size_of(text)


def test_programs_of_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.erf(self.inner(self.inner(x)))

    file = tmp_path / "twice.pt2"
    torch.export.save(torch.export.export(Twice(), (torch.randn(2, 4),)), file)
    status, out, _ = check(capsys, "--program", str(file), "--chip", "sa8295p", "--profile", "sa8295_2023", "--json")
    (plan,) = document_of("check --json", out)["plans"]
    findings = plan["graphs"][0]["findings"]
    assert status == 0
    shared = [found for found in findings if found["rule"] == "shared-calls"]
    assert [found["module"] for found in shared] == ["inner"]
    assert any(found["operator"] == "aten.erf.default" and "test_onnx_files.py" in found["line"] for found in findings)


def test_bad_programs_get_one_message_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def message_of(file: Path) -> str:
        status, out, err = check(capsys, "--program", str(file), "--chip", "sa8295p")
        assert (status, out) == (2, "")
        assert "Traceback" not in err
        return err

    assert "no such file" in message_of(tmp_path / "none.pt2")
    torch.save({"weight": torch.ones(3)}, tmp_path / "weights.pt2")
    assert "no archive of an exported program" in message_of(tmp_path / "weights.pt2")
    assert "a folder" in message_of(tmp_path)
    (tmp_path / "text.pt2").write_text("no program")
    (tmp_path / "empty.pt2").touch()
    for name in ("text.pt2", "empty.pt2"):
        assert "no archive of an exported program" in message_of(tmp_path / name)
    program = torch.export.export(nn.Linear(2, 2), (torch.randn(1, 2),))
    torch.export.save(program, tmp_path / "fine.pt2")
    whole = (tmp_path / "fine.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    assert "no archive of an exported program" in message_of(tmp_path / "cut.pt2")
    of_another(tmp_path / "fine.pt2", tmp_path / "old.pt2")
    text = message_of(tmp_path / "old.pt2")
    assert "a program of torch 2.5.0" in text
    assert "Export it anew" in text


def of_another(source: Path, file: Path) -> None:
    """The same program as an older release would have saved it: another schema, another torch."""
    import zipfile

    with zipfile.ZipFile(source) as before, zipfile.ZipFile(file, "w") as behind:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith(".json") and "models/" in name:
                document = json.loads(content)
                document["torch_version"], document["schema_version"] = "2.5.0", {"major": 5, "minor": 1}
                content = json.dumps(document).encode()
            behind.writestr(name, content)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--onnx", "a.onnx", "--program", "b.pt2"], "--onnx and --program"),
        (["--module", "a:b", "--onnx", "a.onnx"], "--module and --onnx"),
        (["--program", "b.pt2", "--size", "n=3"], "--size"),
        (["--onnx", "a.onnx", "--largest-context"], "--largest-context"),
    ],
)
def test_one_subject_at_a_time(capsys: pytest.CaptureFixture[str], arguments: list[str], part: str) -> None:
    status, _, err = check(capsys, *arguments, "--chip", "sa8295p")
    assert status == 2
    assert part in err
