"""Modules, ONNX files and saved programs: judged under every profile or refused; and profiles of one's own, applied."""

from __future__ import annotations

import io
import random
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from hilsim.compiler.choose import plan_graph
from hilsim.compiler.onnx_operators import OPERATORS
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rules import RuleBook
from hilsim.compiler.site import CompileSite
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from hilsim.places import CODE as PROJECT
from tests.compiler.test_onnx_files import network
from tests.fuzz import commands
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_bytes, changed_json, changed_yaml

NAMES = ("sa8295_2023", "sa8295_today", "hexagon_v73", "orin_trt_8_6", "orin_trt_10", "orin_dla")
TYPES = (
    torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8,
    torch.int16, torch.int32, torch.int64, torch.complex64,
)  # fmt: skip
CHAINS = 20  # random chains of operators in a module
Step = tuple[int, int, int]


def step(x: Tensor, how: Step) -> Tensor:
    """One random operator on a tensor of any type and rank."""
    kind, a, b = how
    rank = max(x.dim(), 1)
    dim, other = a % rank, b % rank
    choices: tuple[Any, ...] = (
        lambda: x.to(TYPES[a % len(TYPES)]),
        lambda: x.transpose(dim, other),
        lambda: x.unsqueeze(a % (x.dim() + 1)),
        lambda: x.permute([(axis + a) % rank for axis in range(rank)]),
        lambda: x.reshape(-1),
        lambda: x + (2**40, -1e38, 3, 0.5, 1e-12)[a % 5],
        lambda: x * x.flip(dim),
        lambda: ~x,
        lambda: x ^ x.flip(dim),
        lambda: x & x,
        lambda: torch.cat((x, x), dim),
        lambda: x.narrow(dim, 0, max(x.shape[dim] - 1, 1)),
        lambda: torch.softmax(x, dim),
        lambda: x.sum(dim),
        lambda: x.amax(dim, keepdim=True),
        lambda: torch.where(x > 0, x, x.flip(dim)),
        lambda: x.masked_fill(x == 0, (-1e38, 7, float("-inf"))[a % 3]),
        lambda: torch.view_as_real(torch.complex(x, x)),
        lambda: torch.view_as_complex(torch.stack((x, x), -1)).conj().real,
        lambda: x.reshape(*x.shape, 1, 1).expand(*x.shape, 2, 2),
        lambda: x.topk(1, dim).values,
        lambda: x.argmax(dim),
        lambda: x.fmod(3),
        lambda: x.cumsum(dim),
        lambda: nn.functional.gelu(x),
        lambda: x - x[..., :1],
    )
    found: Tensor = choices[kind % len(choices)]()
    return found


class Chains(nn.Module):
    """Several chains of random operators; those that PyTorch itself refuses are left out."""

    def __init__(self, seed: int, x: Tensor):
        super().__init__()
        chance = random.Random(seed)
        self.chains: list[list[Step]] = []
        for _ in range(CHAINS):
            now, chain = x, []
            for _ in range(chance.randint(1, 4)):
                how = (chance.randrange(1 << 16), chance.randrange(1 << 16), chance.randrange(1 << 16))
                try:
                    then = step(now, how)
                except (RuntimeError, TypeError, IndexError, ValueError):
                    continue
                if then.numel() and then.dim() <= 8 and then.numel() < 5000:
                    now = then
                    chain.append(how)
            self.chains.append(chain)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = []
        for chain in self.chains:
            now = x
            for how in chain:
                now = step(now, how)
            made.append(now)
        return tuple(made)


def judged(path: Path) -> None:
    """A module from the seed in a file, held against every profile and planned under one of two."""
    seed = int(path.read_text())
    x = torch.randn([(2, 3, 1, 4)[(seed >> place) % 4] for place in range(seed % 5 + 1)])
    program = exported(Subject(f"chains {seed}", Chains(seed, x), (x,)))
    for name in NAMES:
        for one in RuleBook(load_profile(name, PROJECT / "scenarios"), "fp16").findings(program, "g"):
            assert one.reason
            assert one.source
    name, chip, unit = (("sa8295_today", "sa8295p", "npu"), ("orin_trt_8_6", "drive-orin-x", "gpu"))[seed % 2]
    record = load_chip(chip, path).units[unit]
    site = CompileSite(record, next(iter(record.precisions.values())), load_profile(name, path), Compile())
    plan_graph("g", 1, copied(program), site)


@cache
def small() -> ExportedProgram:
    """A module with something for every kind of rule."""
    x = torch.ones(2, 3, 1, 2)
    return exported(Subject("small", Chains(3, x), (x,)))


def ruled(path: Path) -> None:
    """A profile of one's own, loaded and applied."""
    RuleBook(load_profile(str(path), path), "fp16").findings(small(), "g")


def module(chance: random.Random) -> Input:
    return "seed.txt", str(chance.randrange(10**6)).encode()


def profile(chance: random.Random) -> Input:
    good = (PROJECT / f"chips/profiles/{chance.choice(NAMES)}.yaml").read_bytes()
    return "profile.yaml", changed_bytes(good, chance) if chance.random() < 0.5 else changed_yaml(good, chance)


@cache
def onnx_file() -> bytes:
    """A small network with a computed shape."""
    with tempfile.TemporaryDirectory() as folder:
        return network(Path(folder)).read_bytes()


@cache
def saved_program() -> bytes:
    """A small program as `torch.export.save` writes it."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "linear.pt2"
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.randn(1, 2),)), file)
        return file.read_bytes()


def broken_onnx(chance: random.Random) -> Input:
    """Bytes changed, or the graph: operators, inputs, outputs, attributes, shapes, the opset."""
    if chance.random() < 0.4:
        return "model.onnx", changed_bytes(onnx_file(), chance)
    model = onnx.load_from_string(onnx_file())
    graph = model.graph
    for _ in range(chance.choice((1, 1, 2))):
        node = chance.choice(graph.node)
        match chance.randrange(8):
            case 0:
                node.op_type = chance.choice((*sorted(OPERATORS), "Loop", "NotThere", ""))
            case 1:
                node.input[chance.randrange(len(node.input))] = chance.choice(("", "x", "w", "y0", "nowhere"))
            case 2:
                graph.node.remove(node)
            case 3:
                for attribute in node.attribute:
                    attribute.ints[:] = [chance.choice((-1, 0, 1, 3, 2**40)) for _ in attribute.ints]
                    attribute.i = chance.choice((-1, 0, 1, 7, 2**40))
            case 4:
                graph.initializer[chance.randrange(len(graph.initializer))].dims[0] = chance.choice(
                    (0, 1, -1, 5, 2**40)
                )
            case 5:
                size = graph.input[0].type.tensor_type.shape.dim[chance.randrange(4)]
                size.dim_value = chance.choice((0, 1, -1, 5, 2**31))
            case 6:
                model.opset_import[0].version = chance.choice((0, 1, 8, 9, 13, 24, 25, 10**6))
            case _:
                node.output[0] = chance.choice(("", "x", "y0", "a"))
    return "model.onnx", model.SerializeToString()


def broken_program(chance: random.Random) -> Input:
    """The archive's bytes changed, or a file in it: its JSON as a tree, anything else as bytes."""
    if chance.random() < 0.3:
        return "model.pt2", changed_bytes(saved_program(), chance)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved_program())) as before, zipfile.ZipFile(made, "w") as behind:
        changed = chance.choice(before.namelist())
        for name in before.namelist():
            content = before.read(name)
            if name == changed:
                content = (changed_json if name.endswith(".json") else changed_bytes)(content, chance)
            behind.writestr(name, content)
    return "model.pt2", made.getvalue()


def check_onnx(path: Path) -> None:
    commands.run(["check", "--onnx", commands.FILE, "--chip", "sa8295p"], path)


def check_program(path: Path) -> None:
    commands.run(["check", "--program", commands.FILE, "--chip", "sa8295p", "--allow-code"], path)


KINDS = [
    Kind("module", module, judged, 6, (0.5, 1.0)),
    Kind("profile that is applied", profile, ruled, 200),
    Kind("ONNX file", broken_onnx, check_onnx, 150, (0.01, 0.9)),
    Kind("saved program", broken_program, check_program, 80, (0.01, 0.9)),
]
