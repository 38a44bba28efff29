"""ONNX files as modules: read, checked, computed by PyTorch, and held against onnxruntime before any finding.

What depends on shapes and constants alone is worked out when the file is read. Every node is a module under its own
name, so that a finding names the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hilsim.compiler.onnx_node import KNOWN_INPUTS, OnnxNode
from hilsim.compiler.onnx_operators import OPERATORS
from hilsim.compiler.program import Subject, quiet
from hilsim.errors import Fault, InputError, first_line

if TYPE_CHECKING:
    import onnx

OPSETS = (9, 24)  # from the first to the last whose operators are read here
MOST = 1 << 31  # bytes that one protobuf message takes
CLOSE = 1e-3  # of the largest number: sums in another order stay far below
SEED = 11
INSTALL = "pip install 'hilsim[onnx]'"
NO_SHAPE = ("Shape", "Size")  # of these only the shape of the input counts


def onnx_subject(file: Path, sizes: dict[str, int] | None = None) -> tuple[Subject, str]:
    """A file's graph as a module with example inputs, and a note about what was compared. Raises `InputError`.

    `sizes` are those of dimensions that the file gives names.
    """
    model = read(file)
    nodes = nodes_of(model, file)
    inputs = example_inputs(model, file, sizes or {})
    module = OnnxModule(file, nodes, constants_in(model, file), [value.name for value in model.graph.output], inputs)
    note = compared(module, file, inputs)
    return Subject(file.name, module.eval(), tuple(inputs.values())), note


def package(file: Path) -> Any:
    """The package that reads ONNX. Raises `InputError` where it is not installed."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise InputError(
            [fault(file, "an ONNX file without the package onnx", "onnx and onnxruntime", INSTALL)]
        ) from None
    return onnx


def fault(file: Path, found: str, expected: str, remedy: str = "", place: str = "") -> Fault:
    return Fault(str(file), place, found, expected, remedy)


def read(file: Path) -> onnx.ModelProto:
    """The file's model, functions put in, external data read. Raises `InputError` for anything that is none."""
    reader = package(file)
    if not file.is_file():
        raise InputError([fault(file, "no such file", "an ONNX file")])
    if file.stat().st_size >= MOST:
        size = f"{file.stat().st_size / 2**30:.1f} GiB in one file"
        remedy = "Save it with external data: onnx.save_model(model, file, save_as_external_data=True)."
        raise InputError([fault(file, size, "at most 2 GiB, which is all that protobuf reads", remedy)])
    try:
        model = reader.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common class
        why = first_line(error)
        raise InputError([fault(file, f"no ONNX model ({why})", "an ONNX file")]) from None
    if not model.graph.node and not model.graph.output:
        raise InputError([fault(file, "no ONNX model (an empty graph)", "an ONNX file")])
    if faults := [*opset_faults(model, file), *data_faults(model, file)]:
        raise InputError(faults)
    reader.external_data_helper.load_external_data_for_model(model, str(file.parent))
    whole: onnx.ModelProto = reader.inliner.inline_local_functions(model) if model.functions else model
    return whole


def opset_faults(model: onnx.ModelProto, file: Path) -> Iterator[Fault]:
    """What is wrong with the file's opset."""
    first, last = OPSETS
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and not first <= entry.version <= last:
            remedy = (
                f"Export with opset_version={last}, or convert: onnx.version_converter.convert_version(model, {last})."
            )
            yield fault(file, f"opset {entry.version}", f"opset {first} to {last}", remedy)


def data_faults(model: onnx.ModelProto, file: Path) -> Iterator[Fault]:
    """External data that is not there, or shorter than the file says."""
    missing: dict[str, list[str]] = {}
    for tensor in model.graph.initializer:
        if not tensor.external_data:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        data = file.parent / where.get("location", "")
        needed = int(where.get("offset", 0)) + int(where.get("length", 0))
        if not data.is_file():
            missing.setdefault(f"no file {where.get('location')!r}", []).append(tensor.name)
        elif data.stat().st_size < needed:
            found = f"{where['location']!r} of {data.stat().st_size} bytes, where {needed} are needed"
            missing.setdefault(found, []).append(tensor.name)
    for found, names in missing.items():
        held = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        remedy = f"Put the external data into {file.parent}."
        yield fault(file, f"{found}, which holds {held}", "its external data beside it", remedy)


def nodes_of(model: onnx.ModelProto, file: Path) -> list[OnnxNode]:
    """The graph's nodes. Raises `InputError` with every operator that is not read here."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSETS[0])
    names, found = unique_names(model), []
    faults: dict[tuple[str, str, str], list[str]] = {}
    for name, node in zip(names, model.graph.node, strict=True):
        inner = [item.name for item in node.attribute if item.HasField("g") or item.graphs]
        if node.domain not in ("", "ai.onnx"):
            key, why = f"{node.domain}.{node.op_type}", "operators of the domain ai.onnx"
            remedy = "Export without fusions for one runtime, or spell it out in operators of ai.onnx."
        elif inner:
            key, why = f"{node.op_type} with the subgraph {' and '.join(inner)}", "a graph without subgraphs"
            remedy = "Fold the branch or unroll the loop when you export: onnxsim, or a fixed number of rounds."
        elif node.op_type not in OPERATORS:
            key, why = node.op_type, "operators that are read here (hilsim/compiler/onnx_operators.py)"
            remedy = "Spell it out in others, or check the PyTorch module with --module."
        else:
            attributes = {item.name: plain(item) for item in node.attribute}
            if node.op_type == "Cast":
                attributes["to"] = torch_type(attributes["to"], file, name)
            found.append(OnnxNode(name, node.op_type, opset, tuple(node.input), tuple(node.output), attributes))
            continue
        faults.setdefault((key, why, remedy), []).append(name)
    if faults:
        raise InputError([
            fault(file, key if len(at) == 1 else f"{len(at)} times {key}", why, remedy, f"node {at[0]}")
            for (key, why, remedy), at in faults.items()
        ])  # fmt: skip
    return found


def unique_names(model: onnx.ModelProto) -> list[str]:
    """Names of nodes as paths of modules: the exporter's own, or the operator and its place."""
    taken: set[str] = set()
    found = []
    for place, node in enumerate(model.graph.node):
        parts = [re.sub(r"\W", "_", part) for part in re.split(r"[/.]", node.name) if part]
        name = ".".join(part if not hasattr(nn.Module, part) else f"{part}_" for part in parts)
        name = name or f"{node.op_type}_{place}"
        found.append(name if name not in taken else f"{name}_{place}")
        taken.add(found[-1])
    return found


def plain(item: onnx.AttributeProto) -> Any:
    """An attribute as plain data."""
    import onnx

    if item.type == onnx.AttributeProto.TENSOR:
        return torch.from_numpy(onnx.numpy_helper.to_array(item.t).copy())
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [part.decode() if isinstance(part, bytes) else part for part in value]
    return value


def torch_type(number: int, file: Path, place: str) -> torch.dtype:
    """A type of ONNX as PyTorch's. Raises `InputError` where there is none."""
    import onnx

    name = onnx.TensorProto.DataType.Name(number)
    known = {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
    dtype = getattr(torch, known, None)
    if not isinstance(dtype, torch.dtype):
        raise InputError([fault(file, f"the type {name}", "a type that PyTorch has", "", place)])
    return dtype


def constants_in(model: onnx.ModelProto, file: Path) -> dict[str, Tensor]:
    """Initializers by name."""
    import onnx

    found = {}
    for tensor in model.graph.initializer:
        torch_type(tensor.data_type, file, tensor.name)
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            found[tensor.name] = torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
        else:
            found[tensor.name] = torch.from_numpy(array.copy())
    return found


def example_inputs(model: onnx.ModelProto, file: Path, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Random inputs of the file's shapes. Raises `InputError` where a size is not known."""
    held = {tensor.name for tensor in model.graph.initializer}
    generator = torch.Generator().manual_seed(SEED)
    found: dict[str, Tensor] = {}
    faults, named = [], set()
    for value in model.graph.input:
        if value.name in held:
            continue
        if not value.type.HasField("tensor_type"):
            faults.append(fault(file, f"{value.name}, which is no tensor", "inputs that are tensors"))
            continue
        shape = []
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            name = dim.dim_param or f"{value.name}.{place}"
            named.add(name)
            if dim.dim_value > 0 or name in sizes or not place:
                shape.append(sizes.get(name, dim.dim_value or 1))
                continue
            remedy = f"Give it: --size {name}=128. A first dimension without a size is taken as 1."
            faults.append(fault(file, f"a dimension {name!r} without a size", "sizes", remedy, f"input {value.name}"))
        found[value.name] = drawn(shape, torch_type(value.type.tensor_type.elem_type, file, value.name), generator)
    if strange := sorted(sizes.keys() - named):
        faults.append(
            fault(file, ", ".join(strange), f"dimensions of its inputs: {', '.join(sorted(named))}", "", "--size")
        )
    if faults:
        raise InputError(faults)
    return found


def drawn(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A random tensor: floats around 0, integers 0 and 1, which any table has."""
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(2, tuple(shape), generator=generator).to(dtype)


class Step(nn.Module):
    """One node: its operator on what is computed; what is known is held."""

    def __init__(self, node: OnnxNode, known: dict[int, Any]):
        super().__init__()
        self._node, self._known = node, known  # names that no node of a file has

    def forward(self, *computed: Tensor | None) -> Any:
        node, known, given = self._node, self._known, iter(computed)
        arguments = [known[place] if place in known else next(given) for place in range(len(node.takes))]
        return OPERATORS[node.op](node, *arguments)

    def computed(self) -> list[str]:
        """Names of what it takes beyond the plain numbers."""
        return [name for place, name in enumerate(self._node.takes) if place not in self._known]

    @property
    def given(self) -> OnnxNode:
        return self._node


class OnnxModule(nn.Module):
    """A graph node by node. Raises `InputError` where an input of a node has to be known and is computed."""

    def __init__(
        self,
        file: Path,
        nodes: list[OnnxNode],
        constants: dict[str, Tensor],
        outputs: list[str],
        inputs: dict[str, Tensor],
    ):
        super().__init__()
        self._inputs, self._outputs = list(inputs), outputs
        self._steps: list[Step] = []
        self._held: dict[str, str] = {}  # values that are known, by the name of the buffer or parameter that holds them
        known = self.fold(file, nodes, constants, inputs)
        for name in outputs:
            if name in known:
                self.hold(name, known[name])

    def fold(
        self, file: Path, nodes: list[OnnxNode], constants: dict[str, Tensor], inputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Work out what is known, and make a module of every other node; all values known."""
        known, values = dict(constants), {**constants, **inputs}
        for written in nodes:
            node = from_the_front(written, known, values)
            plainly = KNOWN_INPUTS.get(node.op, ())
            arguments: dict[int, Any] = {}
            for place, name in enumerate(node.takes):
                if not name:
                    arguments[place] = None
                elif place in plainly:
                    if name not in known:
                        expected = "a constant, or what shapes alone decide"
                        remedy = (
                            "Fix the shapes when you export, or fold constants: onnxsim, polygraphy surgeon sanitize."
                        )
                        found = f"input {place + 1} of {node.op} computed from data ({name})"
                        raise InputError([fault(file, found, expected, remedy, f"node {node.name}")])
                    arguments[place] = known[name].tolist() if known[name].numel() else None
            step = Step(node, arguments)
            computed = step.computed()
            made = self.tried(file, step, [values[name] for name in computed])
            results = dict(zip(node.gives, made, strict=False))
            values.update(results)
            if node.op in NO_SHAPE or all(name in known for name in computed):
                known.update(results)
                continue
            self.put(node.name, step)
            self._steps.append(step)
            for name in computed:
                if name in known:
                    self.hold(name, known[name])
        return known

    def tried(self, file: Path, step: Step, computed: list[Tensor]) -> tuple[Any, ...]:
        """What a node yields. Raises `InputError` where it is of a form that is not read here."""
        try:
            with torch.no_grad():
                made = step(*computed)
        except (ValueError, RuntimeError, TypeError, IndexError, KeyError) as error:
            why = first_line(error)
            expected = f"a form of {step.given.op} that is read here"
            raise InputError(
                [fault(file, f"{step.given.op}: {why}", expected, "", f"node {step.given.name}")]
            ) from None
        return tuple(made) if isinstance(made, (tuple, list)) else (made,)

    def put(self, path: str, step: Step) -> None:
        """A node's module at its path."""
        *around, last = path.split(".")
        place: nn.Module = self
        for part in around:
            if not isinstance(getattr(place, part, None), nn.Module):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        before = getattr(place, last, None)
        if isinstance(before, nn.Module):  # a node that is named as what holds others
            for name, inner in before.named_children():
                step.add_module(name, inner)
            delattr(place, last)
        place.add_module(last, step)

    def hold(self, name: str, value: Tensor) -> None:
        """A known value, as a parameter or a buffer."""
        if name in self._held:
            return
        own = f"value_{len(self._held)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
        self._held[name] = own
        if value.dtype.is_floating_point and value.dim():
            self.register_parameter(own, nn.Parameter(value, requires_grad=False))
        else:
            self.register_buffer(own, value)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self._inputs, inputs, strict=True))
        values |= {name: getattr(self, own) for name, own in self._held.items()}
        for step in self._steps:
            made = step(*[values[name] for name in step.computed()])
            values.update(zip(step.given.gives, made if isinstance(made, (tuple, list)) else (made,), strict=False))
        return tuple(values[name] for name in self._outputs)


def from_the_front(node: OnnxNode, known: dict[str, Tensor], values: dict[str, Tensor]) -> OnnxNode:
    """A node that gathers at known places, with places counted from the end (-1) counted from the front."""
    if node.op != "Gather" or node.takes[1] not in known or not bool((known[node.takes[1]] < 0).any()):
        return node
    x, places = values[node.takes[0]], known[node.takes[1]]
    name = f"{node.takes[1]} of {node.name}"
    known[name] = values[name] = places.remainder(x.shape[node.get("axis", 0)])
    return replace(node, takes=(node.takes[0], name))


def compared(module: OnnxModule, file: Path, inputs: dict[str, Tensor]) -> str:
    """Hold the module against onnxruntime on the example inputs. Raises `InputError` where they disagree."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise InputError([fault(file, "an ONNX file without onnxruntime", "onnx and onnxruntime", INSTALL)]) from None
    onnxruntime.set_default_logger_severity(4)
    given = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in inputs.items()}
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        theirs = session.run(None, {name: value.numpy() for name, value in given.items()})
    except Exception as error:  # onnxruntime's errors have no common class
        why = first_line(error)
        raise InputError([fault(file, f"a model that onnxruntime does not run ({why})", "one that it runs")]) from None
    with torch.no_grad(), quiet():
        ours = module(*inputs.values())
    worst = 0.0
    for name, mine, other in zip(module._outputs, ours, theirs, strict=True):
        wanted = torch.from_numpy(other)
        size = wanted.double().abs().max().clamp_min(1e-9) if wanted.numel() else torch.tensor(1.0)
        same = wanted.shape == mine.shape
        apart = ((mine.double() - wanted.double()).abs().max() / size).item() if same and wanted.numel() else 0.0
        if not same or not apart <= CLOSE:
            found = (
                f"output {name} off by {apart:.1e} of its largest number" if same else f"output {name} of another shape"
            )
            remedy = "Please file this: an operator is read otherwise here. --module checks the PyTorch module instead."
            raise InputError([fault(file, found, "what onnxruntime computes", remedy)])
        worst = max(worst, apart)
    return (
        f"{len(ours)} output{'s' if len(ours) > 1 else ''} as onnxruntime computes them, to {worst:.0e} of the largest."
    )
