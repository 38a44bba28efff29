"""Passes over whole programs that take out types a toolchain lacks: wide floats, small integers, complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram

from hilsim.compiler.rewrite.complex_pairs import complex_by_pairs
from hilsim.compiler.rewrite.integers import TypeChange, retyped
from hilsim.compiler.rewrite.record import Exactness

SMALL = ("uint8", "int8", "int16", "uint16")


@dataclass(frozen=True)
class TypePass:
    """A pass: the types that it takes out, in place, and what it keeps; `run` counts nodes that changed or came in."""

    name: str
    title: str
    types: tuple[str, ...]
    exactness: Exactness
    run: Callable[[ExportedProgram], int]
    caveat: str = ""
    source: str = "general technique"


def into(name: str, goal: torch.dtype, *sources: torch.dtype) -> Callable[[ExportedProgram], int]:
    """A pass that makes tensors of some types those of another; uint8 goes through float32, as TensorRT casts it."""
    changes = [TypeChange(name, source, goal, torch.float32 if source is torch.uint8 else None) for source in sources]
    return lambda program: sum(retyped(program, change) for change in changes)


INT32 = (
    "the answers are the same only while no value leaves the range of the small type, where it would wrap around; "
    "outputs become int32"
)
FLOATS = "one cast behind each input, 32-bit floats inside"

PASSES = (
    TypePass("float64_to_float32", FLOATS, ("float64",), "rounding",
         into("float64_to_float32", torch.float32, torch.float64),
         "24 bits of precision instead of 53, and nothing beyond 3.4e38; outputs become float32"),
    TypePass("bfloat16_to_float32", FLOATS, ("bfloat16",), "rounding",
         into("bfloat16_to_float32", torch.float32, torch.bfloat16),
         "more exact than bfloat16: answers differ where bfloat16 rounded; outputs become float32"),
    TypePass("small_integers_to_int32", "one cast behind each input, 32-bit integers inside", SMALL, "bits",
         into("small_integers_to_int32", torch.int32, *(getattr(torch, name) for name in SMALL)), INT32),
    TypePass("complex_by_pairs", "real and imaginary parts as tensors of their own", ("complex64", "complex128"),
         "rounding", complex_by_pairs, source="precomputed cos and sin, as in pytorch/executorch static_llama.py"),
)  # fmt: skip
