"""What the recognisers find: a pattern, with why it is slow and what to write instead, and its places in a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.export import ExportedProgram

from hilsim.compiler.nodes import value_of
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.rewrite.apply import laid_out, one_mode, spliced, trace
from hilsim.compiler.rewrite.record import Exactness

ORIGIN = ("stack_trace", "nn_module_stack")


@dataclass(frozen=True)
class Pattern:
    """A pattern that compiles and costs more than it has to.

    `exactness` is what its better form keeps. `applies`: whether that form can be put into the graph; else it changes
    what goes in or comes out, and `remedy` says what to write in the module's own code.
    """

    name: str
    title: str
    remedy: str
    exactness: Exactness
    source: str
    applies: bool = True


def nothing(clock: PassTime) -> float:
    """What a better form takes that does without all of the nodes."""
    return 0.0


@dataclass(frozen=True)
class SlowPlace:
    """One place of a graph that has a pattern.

    `nodes` take the time, the first one names the place; `kept` says how many seconds a pass the better form takes.
    `put` puts that into the program that the nodes are of, in place; it raises `ValueError` where the shapes have none.
    `detail` says what of the title is special here.
    """

    pattern: Pattern
    nodes: tuple[fx.Node, ...]
    kept: Callable[[PassTime], float] = nothing
    put: Callable[[ExportedProgram], None] | None = None
    detail: str = ""


def put_function(
    node: fx.Node, name: str, function: Callable[..., Any], taken: Sequence[fx.Node], like: object = None
) -> fx.Node:
    """A plain function of the values of some nodes, before a node, as the operators that it is made of; its result.

    With `like`, a fake tensor, the result lies in memory as that does. Raises `ValueError` where it cannot be traced.
    """

    def ordered(*values: Any) -> Any:
        made = function(*values)
        return made if like is None else laid_out(made, like)

    result, _ = spliced(node, trace(ordered, [value_of(source) for source in taken]), taken, name)
    assert isinstance(result, fx.Node)
    return result


def put_call(node: fx.Node, name: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
    """One operator, kept whole, before a node, with that node's origin."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta.update({key: node.meta[key] for key in ORIGIN if key in node.meta})
    fakes = dict(zip(new.all_input_nodes, one_mode([value_of(source) for source in new.all_input_nodes]), strict=True))
    with unset_fake_temporarily():
        given, named = fx.node.map_arg((new.args, new.kwargs), fakes.__getitem__)
        new.meta["val"], new.meta["rewritten"] = target(*given, **named), (name, node.name)
    return new
