"""ONNX files as modules: read, checked, computed by PyTorch, and held against onnxruntime before any finding.

What depends on shapes and constants alone is worked out when the file is read. Every node is a module under its own
name, so that a finding names the node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hilsim.compiler.onnx_node import KNOWN_INPUTS, KNOWN_TENSORS, OnnxNode
from hilsim.compiler.onnx_operators import OPERATORS
from hilsim.compiler.onnx_quantised import MOVING, ONE, ROUNDING, TensorFormat, format_of, laid_along, spelled_out
from hilsim.compiler.onnx_read import INSTALL, constants_in, fault, nodes_of, read, torch_type, type_name
from hilsim.compiler.program import Subject, quiet
from hilsim.errors import Fault, InputError, first_line

if TYPE_CHECKING:
    import onnx

CLOSE = 1e-3  # of the largest number: sums in another order stay far below
# Of a quantised file: the share of numbers that may be rounded to another step, and how far that may carry them.
FEW, STEPS = 0.02, 0.05
SEED = 11
NO_SHAPE = ("Shape", "Size")  # of these only the shape of the input counts


def onnx_subject(file: Path, sizes: dict[str, int] | None = None) -> tuple[Subject, str, tuple[TensorFormat, ...]]:
    """A file's graph as a module with example inputs, a note about what was compared, and its quantised tensors.

    `sizes` are those of dimensions that the file gives names. Raises `InputError`.
    """
    model = read(file)
    nodes = list(spelled_out(nodes_of(model, file)))
    inputs = example_inputs(model, file, sizes or {})
    types = {tensor.name: type_name(tensor.data_type) for tensor in model.graph.initializer}
    outputs = [value.name for value in model.graph.output]
    module = OnnxModule(file, nodes, constants_in(model, file), outputs, inputs, types)
    note = compared(module, file, inputs)
    module.stop_rounding()
    return Subject(file.name, module.eval(), tuple(inputs.values())), note, tuple(module.formats.values())


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
                shape.append(sizes.get(name, max(dim.dim_value, 1)))
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

    def stop_rounding(self) -> None:
        """From now on a node that quantises gives what it takes."""
        self._node = replace(self._node, attributes={**self._node.attributes, "rounds": False})

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
        types: dict[str, str],
    ):
        """`types` are those of the constants, as the file has them."""
        super().__init__()
        self.formats: dict[str, TensorFormat] = {}  # of quantised tensors and constants, by name
        self._types = types
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
        known = {**constants, ONE: torch.ones(())}
        values = {**known, **inputs}
        for written in nodes:
            node = self.carried(file, from_the_front(written, known, values), known)
            plainly, wholly = KNOWN_INPUTS.get(node.op, ()), KNOWN_TENSORS.get(node.op, ())
            arguments: dict[int, Any] = {}
            for place, name in enumerate(node.takes):
                if not name:
                    arguments[place] = None
                elif place in plainly + wholly:
                    if name not in known:
                        expected = "a constant, or what shapes alone decide"
                        remedy = (
                            "Fix the shapes when you export, or fold constants: onnxsim, polygraphy surgeon sanitize."
                        )
                        found = f"input {place + 1} of {node.op} computed from data ({name})"
                        raise InputError([fault(file, found, expected, remedy, f"node {node.name}")])
                    numbers = known[name]
                    arguments[place] = numbers if place in wholly else numbers.tolist() if numbers.numel() else None
            step = Step(node, arguments)
            computed = step.computed()
            made = self.tried(file, step, [values[name] for name in computed])
            results = dict(zip(node.gives, made, strict=False))
            values.update(results)
            self.note_format(file, node, known, values)
            if node.op == "DynamicQuantizeLinear":
                known.update(list(results.items())[1:])
            if node.op in NO_SHAPE or all(name in known for name in computed):
                known.update(results)
                continue
            self.put(node.name, step)
            self._steps.append(step)
            for name in computed:
                if name in known:
                    self.hold(name, known[name])
        return known

    def carried(self, file: Path, node: OnnxNode, known: dict[str, Tensor]) -> OnnxNode:
        """A node on tensors that are quantised; where it dequantises by another scale it gets the tensor's own.

        Raises `InputError` for one that computes with the integers themselves.
        """
        held = [self.formats[name] for name in node.takes if name in self.formats and not self.formats[name].constant]
        if not held or node.op in ROUNDING:
            return node
        if node.op == "DequantizeLinear":
            scale, zero = (known.get(name, torch.zeros(())) for name in (*node.takes, "")[1:3])
            if held[0].same_scale(scale, zero):
                return node
            return replace(node, attributes={**node.attributes, "from": (held[0].scale, held[0].zero)})
        if node.op not in MOVING:
            found = f"{node.op} of integers that {held[0].tensor} was quantised to"
            expected = f"DequantizeLinear before it, or one of {', '.join(MOVING)}"
            raise InputError([fault(file, found, expected, "", f"node {node.name}")])
        self.formats.update({name: replace(held[0], tensor=name, how="") for name in node.gives})
        return node

    def note_format(self, file: Path, node: OnnxNode, known: dict[str, Tensor], values: dict[str, Tensor]) -> None:
        """Keep the format that a node gives a tensor, or takes of a constant. Raises `InputError`."""
        of_constant = node.op == "DequantizeLinear" and node.takes[0] in known and node.takes[0] not in self.formats
        if node.op not in ROUNDING and not of_constant:
            return
        made = format_of(node, known, values[node.takes[0]], self._types)
        self.formats[made.tensor] = made

    def stop_rounding(self) -> None:
        """Compute in floats from now on, as a compiler's rules see the graph."""
        for step in self._steps:
            if step.given.op in ROUNDING:
                step.stop_rounding()

    def tried(self, file: Path, step: Step, computed: list[Tensor]) -> tuple[Any, ...]:
        """What a node yields. Raises `InputError` where it is of a form that is not read here."""
        try:
            with torch.no_grad():
                made = step(*computed)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
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

    def as_floats(self, name: str, numbers: Tensor) -> Tensor:
        """An output of onnxruntime as it is carried here: what integers of a quantised one stand for."""
        found = self.formats.get(name)
        if found is None or found.constant or numbers.dtype.is_floating_point:
            return numbers
        scale, zero = (laid_along(part, numbers, 1, 0) for part in (found.scale, found.zero))
        return (numbers.float() - zero) * scale

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self._inputs, inputs, strict=True))
        values |= {name: getattr(self, own) for name, own in self._held.items()}
        for step in self._steps:
            made = step(*[values[name] for name in step.computed()])
            values.update(zip(step.given.gives, made if isinstance(made, (tuple, list)) else (made,), strict=False))
        return tuple(values[name] for name in self._outputs)


def from_the_front(node: OnnxNode, known: dict[str, Tensor], values: dict[str, Tensor]) -> OnnxNode:
    """A node that gathers at known places, with places counted from the end (-1) counted from the front."""
    if node.op != "Gather" or len(node.takes) != 2 or node.takes[1] not in known:
        return node
    if not bool((known[node.takes[1]] < 0).any()):
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
    settings = onnxruntime.SessionOptions()
    if module.formats:  # as the file says, and not in the integers that it is fused into
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        theirs = session.run(None, {name: value.numpy() for name, value in given.items()})
    except Exception as error:  # onnxruntime's errors have no common class
        why = first_line(error)
        raise InputError([fault(file, f"a model that onnxruntime does not run ({why})", "one that it runs")]) from None
    with torch.no_grad(), quiet():
        ours = module(*inputs.values())
    worst = rounded_apart = 0.0
    for name, mine, other in zip(module._outputs, ours, theirs, strict=True):
        wanted = module.as_floats(name, torch.from_numpy(other))
        if wanted.shape != mine.shape:
            raise InputError([differing(file, f"output {name} of another shape")])
        if not wanted.numel():
            continue
        apart = (mine.double() - wanted.double()).abs() / wanted.double().abs().max().clamp_min(1e-9)
        largest, share = apart.max().item(), (apart > CLOSE).double().mean().item()
        if module.formats and share <= FEW and largest <= STEPS:
            rounded_apart = max(rounded_apart, share)
        elif not largest <= CLOSE:
            raise InputError([differing(file, f"output {name} off by {largest:.1e} of its largest number")])
        worst = max(worst, largest)
    note = (
        f"{len(ours)} output{'s' if len(ours) > 1 else ''} as onnxruntime computes them, to {worst:.0e} of the largest"
    )
    return f"{note} ({rounded_apart:.1%} rounded to another step)." if rounded_apart else f"{note}."


def differing(file: Path, found: str) -> Fault:
    remedy = "Please file this: an operator is read otherwise here. --module checks the PyTorch module instead."
    return fault(file, found, "what onnxruntime computes", remedy)
