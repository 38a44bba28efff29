"""ONNX files read and checked: their opset, external data, the order of their graph, operators and types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hilsim.compiler.onnx_node import OnnxNode
from hilsim.compiler.onnx_operators import OPERATORS
from hilsim.compiler.onnx_quantised import INTEGER
from hilsim.errors import Fault, InputError, first_line
from hilsim.files import require_readable

if TYPE_CHECKING:
    import onnx

OPSETS = (9, 24)  # from the first to the last whose operators are read here
MOST = 1 << 31  # bytes that one protobuf message takes
INSTALL = "pip install 'hilsim[onnx]'"
NARROW = {"INT4": "int8", "UINT4": "uint8", "INT2": "int8", "UINT2": "uint8"}  # held in these


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
    require_readable(file)
    if not file.stat().st_size:
        raise InputError([fault(file, "an empty file", "an ONNX file")])
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
    if faults := [*opset_faults(model, file), *data_faults(model, file), *graph_faults(model, file)]:
        raise InputError(faults)
    try:
        reader.external_data_helper.load_external_data_for_model(model, str(file.parent))
    except reader.checker.ValidationError as error:  # of places outside the folder, and of links
        why = first_line(error)[:300]
        raise InputError(
            [fault(file, f"external data that is not read ({why})", "its external data beside it")]
        ) from None
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


def graph_faults(model: onnx.ModelProto, file: Path) -> Iterator[Fault]:
    """Values that two nodes give, that none gives, or that come too late; sparse constants, and no output."""
    graph = model.graph
    if not graph.output:
        yield fault(file, "a graph without outputs", "at least one", "Is the file whole?")
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        yield fault(file, f"a sparse constant ({name})", "dense ones", "Write it out when you export.")
    made: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in made:
                found = f"{name!r}, which node {label(graph, made[name])} gives too"
                yield fault(file, found, "a name of its own for every value", "", f"node {label(graph, place)}")
            made.setdefault(name, place)
    there = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    late: dict[int, list[str]] = {}
    for place, node in enumerate(graph.node):
        for name in node.input:
            if name in there:
                continue
            if name not in made:
                remedy = "Is the file whole, and was the graph cut?"
                at = f"node {label(graph, place)}"
                yield fault(
                    file, f"the input {name!r}, which nothing gives", "inputs, constants and results", remedy, at
                )
            elif made[name] >= place:
                late.setdefault(place, []).append(name)
        there |= {*node.output}
    for value in graph.output:
        if value.name not in there:
            yield fault(
                file, f"the output {value.name!r}, which nothing gives", "results of nodes", "Is the file whole?"
            )
    if late:
        yield order_fault(graph, late, made, file)


def order_fault(graph: onnx.GraphProto, late: dict[int, list[str]], made: dict[str, int], file: Path) -> Fault:
    """The fault of nodes that take what comes later: a cycle, or an order that could be put right."""
    waiting = {place: {made[name] for name in node.input if name in made} for place, node in enumerate(graph.node)}
    while ready := [place for place, before in waiting.items() if not before & waiting.keys()]:
        for place in ready:
            del waiting[place]
    if waiting:
        names = [label(graph, place) for place in list(waiting)[:4]]
        found = f"a cycle through {', '.join(names)}{' and more' if len(waiting) > 4 else ''}"
        return fault(file, found, "a graph whose nodes take what comes before them")
    place, (name, *_) = next(iter(late.items()))
    remedy = "Sort its nodes: onnx-graphsurgeon's toposort, or onnxsim."
    found = f"the input {name!r}, which node {label(graph, made[name])} gives later"
    return fault(file, found, "nodes in an order in which they can be computed", remedy, f"node {label(graph, place)}")


def label(graph: onnx.GraphProto, place: int) -> str:
    """A node's name in messages: its own, or its operator and place."""
    return graph.node[place].name or f"{graph.node[place].op_type} {place + 1}"


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
        elif node.op_type not in OPERATORS and node.op_type not in INTEGER:
            key, why = node.op_type, "operators that are read here (hilsim/compiler/onnx_operators.py)"
            remedy = "Spell it out in others, or check the PyTorch module with --module."
        else:
            try:
                attributes = {item.name: plain(item) for item in node.attribute}
            except ValueError as error:
                raise InputError([fault(file, str(error), "attributes that can be read", "", f"node {name}")]) from None
            if node.op_type == "Cast":
                attributes["to"] = torch_type(attributes.get("to", 0), file, name)
            if node.op_type == "QuantizeLinear" and attributes.get("output_dtype"):
                attributes["type"] = type_name(attributes["output_dtype"])
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


def type_name(number: int) -> str:
    """A type of ONNX by its name in lower case."""
    import onnx

    known = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)).lower() if known else f"number {number}"


def torch_type(number: int, file: Path, place: str) -> torch.dtype:
    """A type of ONNX as PyTorch's. Raises `InputError` where there is none."""
    name = type_name(number)
    dtype = getattr(torch, {"float": "float32", "double": "float64"}.get(name, name), None)
    if not isinstance(dtype, torch.dtype):
        raise InputError([fault(file, f"the type {name.upper()}", "a type that PyTorch has", "", place)])
    return dtype


def constants_in(model: onnx.ModelProto, file: Path) -> dict[str, Tensor]:
    """Initializers by name."""
    import onnx

    found = {}
    for tensor in model.graph.initializer:
        narrow = NARROW.get(type_name(tensor.data_type).upper())
        if not narrow:
            torch_type(tensor.data_type, file, tensor.name)
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except ValueError as error:
            held = f"the constant {tensor.name} of {list(tensor.dims)}"
            raise InputError([fault(file, f"{held} ({error})", "numbers that fill its shape")]) from None
        if narrow:
            found[tensor.name] = torch.from_numpy(array.astype(narrow))
            continue
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            found[tensor.name] = torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
        else:
            found[tensor.name] = torch.from_numpy(array.copy())
    return found
