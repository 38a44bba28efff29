"""Proof by trial: the operator and its replacement on random and adversarial inputs, compared as strictly as promised.

The replacement is run as the graph that would be inserted, not as the Python function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.func import functional_call
from torch.utils import _pytree as pytree

from hilsim.compiler.rewrite.apply import trace
from hilsim.compiler.rewrite.record import Domain, Exactness, Rewrite

# Rounding allowed, in units of the type's epsilon times the largest magnitude of the output: sums of a few hundred
# terms in another order stay below it, a wrong formula does not.
SLACK = {torch.float64: 64.0, torch.float32: 64.0, torch.float16: 4.0, torch.bfloat16: 4.0}

PLAIN = ("normal", "scaled", "small", "ties", "equal", "outlier", "duplicates", "zeros")
INFINITE = ("some -inf", "row of -inf", "mostly -inf", "some inf", "both inf")


@dataclass(frozen=True)
class Proof:
    """What the trials showed."""

    rewrite: str
    cases: int
    worst_difference: float  # largest absolute difference seen, in the outputs' unit
    other_ties: int  # cases in which equal values were given other indices
    passed: bool
    detail: str  # the first case that failed, or "" if none


def prove(rewrite: Rewrite, *args: Any, cases: int = 1000, seed: int = 0, target: str = "", **kwargs: Any) -> Proof:
    """Run an operator and its rewrite on `cases` inputs of the shapes and types of the example arguments.

    Floats are drawn anew from the rewrite's domain (single numbers stay, they are constants); integers from the range
    that the example spans, so that indices stay in range; booleans as coins. `target` names the operator where a
    rewrite replaces several.
    """
    leaves, spec = pytree.tree_flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*tensors: Tensor) -> Any:
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            inner_args, inner_kwargs = pytree.tree_unflatten(filled, spec)
            return rewrite.used(function(*inner_args, **inner_kwargs))

        return call

    examples = [leaves[place] for place in places]
    operator = overload(target or rewrite.operators[0])
    replacement, original = trace(bound(rewrite.called(operator)), examples), bound(operator)
    strict_nan, ordered = rewrite.domain == "any", in_order(args, kwargs)
    judge = OutputComparison(rewrite.exactness, rewrite.bound, strict_nan=strict_nan, in_order=ordered)
    with torch.no_grad():
        for kinds, tensors in draws(examples, rewrite.domain, cases, seed):
            judge.look(original(*tensors), replacement(*tensors), tensors[0], kinds)
    return judge.proof(rewrite.name, cases)


def prove_programs(
    original: ExportedProgram,
    rewritten: ExportedProgram,
    args: Sequence[Any],
    cases: int = 100,
    seed: int = 0,
    exactness: Exactness = "rounding",
    domain: Domain = "moderate",
    slack: float = 1.0,
    kwargs: Mapping[str, Any] | None = None,
) -> Proof:
    """Run two programs on inputs like the example arguments. Parameters must hold values, so not for a model of fakes.

    Keyword inputs are like those that the original was exported with, unless `kwargs` says otherwise. Each program
    gets inputs of its own, and has to leave them alike.

    Integers are compared by value, whatever their width. Except with
    "bits", integer outputs may differ in cases made of ties, and in no other. `slack` multiplies the rounding allowed:
    a deep network adds its own to every layer's.
    """
    if kwargs is None:
        kwargs = (original.example_inputs or ((), {}))[1]
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    before, after = original.module(), rewritten.module()
    judge = OutputComparison(exactness, 0.0, strict_nan=True, whole=True, slack=slack)
    with torch.no_grad():
        for kinds, tensors in draws([leaves[place] for place in places], domain, cases, seed):
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            inputs = pytree.tree_unflatten(filled, spec)
            (wanted, ours), (found, theirs) = (run(program, inputs) for program in (before, after))
            judge.look(wanted, found, None, kinds)
            judge.look(ours, theirs, None, [*kinds, "as the programs left them"])
    return judge.proof("program", cases)


class OutputComparison:
    """Compares outputs case by case and records the largest difference."""

    def __init__(
        self,
        exactness: Exactness,
        bound: float,
        strict_nan: bool,
        whole: bool = False,
        in_order: bool = True,
        slack: float = 1.0,
    ):
        self.exactness, self.bound, self.strict_nan, self.whole = exactness, bound, strict_nan, whole
        self.in_order, self.slack = in_order, slack
        self.worst, self.ties, self.detail = 0.0, 0, ""

    def proof(self, name: str, cases: int) -> Proof:
        return Proof(name, cases, self.worst, self.ties, not self.detail, self.detail)

    def look(self, expected: Any, found: Any, source: Tensor | None, kinds: Sequence[str]) -> None:
        """Compare the outputs of one case; `source` is what returned indices point into."""
        wanted, given = tensors_of(expected), tensors_of(found)
        why = "" if len(wanted) == len(given) else f"{len(given)} outputs instead of {len(wanted)}"
        chosen = self.exactness == "values" and not self.whole and len(wanted) == 2
        if not why and chosen and source is not None:
            why = self.choice(wanted, given, source)
        elif not why:
            pairs = enumerate(zip(wanted, given, strict=True))
            why = next((f"output {place}: {fault}" for place, (a, b) in pairs if (fault := self.pair(a, b, kinds))), "")
        if why and not self.detail:
            self.detail = f"{why} (inputs: {', '.join(kinds)})"

    def choice(self, wanted: Sequence[Tensor], given: Sequence[Tensor], source: Tensor) -> str:
        """Values and indices into the source's last axis: same values, from where the indices say, none twice."""
        values = [x if self.in_order else torch.sort(x, -1).values for x in (wanted[0], given[0])]
        if fault := self.pair(values[0], values[1], ()):
            return f"values: {fault}"
        if given[1].dim() < source.dim():  # max along an axis that is not kept
            wanted, given = ([x.unsqueeze(-1) for x in parts] for parts in (wanted, given))
        indices = given[1]
        if indices.shape != wanted[1].shape or indices.dtype != wanted[1].dtype:
            return f"indices are {tuple(indices.shape)} {indices.dtype}"
        if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= source.shape[-1]):
            return "an index is out of range"
        rising = torch.sort(indices, -1).values
        if bool((rising[..., 1:] == rising[..., :-1]).any()):
            return "an index is given twice"
        if not torch.equal(torch.gather(source, -1, indices), given[0]):
            return "an index points at another value"
        self.ties += not torch.equal(indices, wanted[1])
        return ""

    def pair(self, wanted: Tensor, given: Tensor, kinds: Sequence[str]) -> str:
        """What is wrong with one output, or ""."""
        if self.whole and not wanted.dtype.is_floating_point and not given.dtype.is_floating_point:
            given = given.to(wanted.dtype)
        if wanted.shape != given.shape or wanted.dtype != given.dtype:
            return f"{tuple(given.shape)} {given.dtype} instead of {tuple(wanted.shape)} {wanted.dtype}"
        if not wanted.dtype.is_floating_point:
            if torch.equal(wanted, given):
                return ""
            tied = {"ties", "equal", "duplicates", "zeros"} & set(kinds)
            if self.exactness != "bits" and self.whole and tied:
                self.ties += 1
                return ""
            return f"{int((wanted != given).sum())} of {wanted.numel()} integers or booleans differ"
        undefined = wanted.isnan()
        if self.strict_nan and not torch.equal(undefined, given.isnan()):
            return "NaN in other places"
        wanted, given = wanted[~undefined], given[~undefined]
        infinite = wanted.isinf()
        if not torch.equal(wanted[infinite], given[infinite]):
            return "infinities differ"
        wanted, given = wanted[~infinite], given[~infinite]
        if not wanted.numel():
            return ""
        size = wanted.double().abs().max().item()
        difference = (wanted.double() - given.double()).abs().max().item()
        self.worst = max(self.worst, difference)
        slack = self.slack * SLACK.get(wanted.dtype, 4.0) * torch.finfo(wanted.dtype).eps * size
        allowed = slack + self.bound if self.exactness == "rounding" else 0.0
        return "" if difference <= allowed else f"differ by {difference:.3g}, allowed {allowed:.3g}"


def tensors_of(outputs: Any) -> list[Tensor]:
    """The tensors among outputs, in order."""
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def run(module: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Any, Any]:
    """Outputs for positional and keyword inputs, and the inputs as the module left them.

    What it writes, into its inputs or its buffers, reaches no other run: programs of one module share its buffers.
    """
    buffers, (args, kwargs) = cloned((dict(module.named_buffers()), inputs))
    return functional_call(module, buffers, args, kwargs), (args, kwargs)


def cloned(inputs: Any) -> Any:
    """The same inputs in memory of their own."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)


def in_order(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the values stand in order: a top-k with sorted=False may give them in any."""
    return bool(kwargs.get("sorted", args[4] if len(args) > 4 and isinstance(args[4], bool) else True))


def overload(name: str) -> Callable[..., Any]:
    """The operator of a target's name, such as "aten.topk.default"."""
    space, packet, variant = name.split(".")
    operator: Callable[..., Any] = getattr(getattr(getattr(torch.ops, space), packet), variant)
    return operator


def draws(examples: Sequence[Tensor], domain: Domain, cases: int, seed: int) -> Any:
    """Yield (kind of each input, inputs): each kind for all inputs at once first, then every input its own kind."""
    generator = torch.Generator().manual_seed(seed)
    kinds = PLAIN + INFINITE if domain == "any" else PLAIN
    for case in range(cases):
        if case < 3 * len(kinds):
            picked = [kinds[case % len(kinds)]] * len(examples)
        else:
            picked = [kinds[int(torch.randint(len(kinds), (), generator=generator))] for _ in examples]
        yield picked, [draw(e, kind, domain, generator) for e, kind in zip(examples, picked, strict=True)]


def draw(example: Tensor, kind: str, domain: Domain, generator: torch.Generator) -> Tensor:
    """A tensor of the example's shape and type, of one kind."""
    shape = example.shape
    uniform = torch.rand(shape, generator=generator)
    if example.dtype is torch.bool:
        share = {"equal": 1.0, "zeros": 0.0, "small": 0.1, "scaled": 0.9}.get(kind, 0.5)
        return uniform < share
    if not example.dtype.is_floating_point:
        low, high = (int(example.min()), int(example.max())) if example.numel() else (0, 0)
        if kind in ("equal", "zeros"):
            return torch.full(shape, low if kind == "zeros" else high, dtype=example.dtype)
        return torch.randint(low, high + 1, shape, generator=generator).to(example.dtype)
    if not shape:
        return example  # single numbers are constants: a fill, a floor
    made = torch.randn(shape, generator=generator)
    huge = 30.0 if domain == "moderate" else math.sqrt(torch.finfo(example.dtype).max) / 16
    if kind == "scaled":
        made = made * (4.0 if domain == "moderate" else 1000.0)
    elif kind == "small":
        made = made * 1e-3
    elif kind == "ties":
        made = torch.randint(-3, 4, shape, generator=generator).float()
    elif kind == "equal":
        made = made[..., :1].expand(shape)
    elif kind == "zeros":
        made = torch.where(uniform < 0.5, 0.0, -0.0)
    elif kind == "duplicates":
        half = made.shape[-1] // 2
        made = torch.cat([made[..., :half], made[..., :half], made[..., 2 * half :]], -1)
    elif kind == "outlier":
        made = torch.where(torch.arange(shape[-1]) == int(uniform.sum()) % max(shape[-1], 1), made * huge, made)
    return with_infinities(made, uniform, kind).to(example.dtype).clone()


def with_infinities(made: Tensor, uniform: Tensor, kind: str) -> Tensor:
    """The same with infinities laid over it, as the kind asks."""
    if kind in ("some -inf", "both inf"):
        made = torch.where(uniform < 0.2, -math.inf, made)
    if kind == "mostly -inf":
        made = torch.where(uniform < 0.8, -math.inf, made)
    if kind in ("some inf", "both inf"):
        made = torch.where(uniform > 0.9, math.inf, made)
    if kind == "row of -inf":
        made = made.clone()
        made.reshape(-1, made.shape[-1])[0] = -math.inf
    return made
