"""Chat templates: Jinja programs that write a conversation as one text, rendered as `transformers` renders them.

A template comes with a folder from elsewhere and is a program: a loop in a loop can run for ever, a string can be
doubled until memory ends. A template that is evidently linear in its conversation is rendered here; others are
rendered in a process with limits (`limited`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from os import environ
from typing import Any

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, str]
MOST_CHARACTERS = 2**22  # of a rendered conversation: no context holds a million tokens of it
LINEAR = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Name, nodes.Const, nodes.Getattr,
    nodes.Getitem, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Filter,
)  # fmt: skip


class Generation(Extension):
    """`{% generation %}` around what the assistant writes: training needs its place, a prompt does not."""

    def __init__(self, environment: Environment):
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller: Macro) -> str:
        """The text between the tags; names that are set there stay local to it."""
        return str(caller())


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """The Jinja environment that chat templates expect."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = today
    made.filters["tojson"] = to_json
    return made


def refuse(message: str) -> None:
    """`raise_exception` of templates, which they call for a conversation that they do not accept."""
    raise TemplateError(str(message))


def today(form: str) -> str:
    """The date as a template writes it: now, or at SOURCE_DATE_EPOCH where runs of two days shall be the same."""
    fixed = environ.get("SOURCE_DATE_EPOCH", "")
    return (datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now()).strftime(form)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which no prompt wants."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


compiled = lru_cache(maxsize=32)(lambda template: environment().from_string(template))


def rendered(template: str, special: Mapping[str, str], messages: Sequence[Message], cue: bool) -> str:
    """A conversation as one text; `cue` asks for the assistant's next answer. Raises whatever the template raises."""
    text: str = compiled(template).render(
        messages=[dict(message) for message in messages],
        tools=None,
        documents=None,
        add_generation_prompt=cue,
        **special,
    )
    if len(text) > MOST_CHARACTERS:
        raise OverflowError(f"{len(text)} characters; a conversation has at most {MOST_CHARACTERS}")
    return text


def is_linear(template: str) -> bool:
    """Whether rendering takes work in proportion to the conversation: one loop over the messages, nothing stored,
    called or multiplied. Raises what parsing raises.
    """
    return all(isinstance(node, LINEAR) and not grows(node) for node in walk(environment().parse(template)))


def walk(root: nodes.Node) -> Sequence[nodes.Node]:
    """A node and all below it."""
    found = [root]
    for node in found:
        found += node.iter_child_nodes()
    return found


def grows(node: nodes.Node) -> bool:
    """Whether a node of a linear kind can still take more than linear work."""
    if isinstance(node, nodes.For):
        over_messages = isinstance(node.iter, nodes.Name) and node.iter.name == "messages"
        return not over_messages or node.recursive or node.test is not None or bool(list(below(node, nodes.For)))
    if isinstance(node, nodes.Filter):
        return node.name != "trim" or bool(node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
    return False


def below(node: nodes.Node, kind: type[nodes.Node]) -> Sequence[nodes.Node]:
    """Nodes of a kind inside another."""
    return [inner for inner in walk(node)[1:] if isinstance(inner, kind)]
