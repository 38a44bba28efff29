"""All figures inside a record by their dotted paths, and a record with other figures at some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from hilsim.describe.chip import Ability, Widths
from hilsim.describe.figure import Figure, Record

R = TypeVar("R", bound=Record)


def figures(record: Record, prefix: str = "") -> dict[str, Figure | Widths | Ability]:
    """Every figure inside a record by its dotted path, for lists of assumptions."""
    found: dict[str, Figure | Widths | Ability] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, (Figure, Widths, Ability)):
            found[path] = value
        elif isinstance(value, Record):
            found |= figures(value, path)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Record):
                    found |= figures(item, f"{path}.{key}")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Record):
                    found |= figures(item, f"{path}[{index}]")
    return found


def with_figures(record: R, changed: Mapping[str, Figure]) -> R:
    """The record with other figures at some of its paths (as `figures` names them)."""
    here: dict[str, object] = {}
    below: dict[str, dict[str, Figure]] = {}
    for path, figure in changed.items():
        head, _, rest = path.partition(".")
        if rest:
            below.setdefault(head, {})[rest] = figure
        else:
            here[head] = figure
    for head, inside in below.items():
        name, bracket, index = head.partition("[")
        value = getattr(record, name)
        if bracket:
            items = list(here.get(name, value))  # type: ignore[call-overload]
            position = int(index.rstrip("]"))
            items[position] = with_figures(items[position], inside)
            here[name] = tuple(items)
        elif isinstance(value, dict):
            here[name] = value | {
                key: with_figures(value[key], part) for key, part in by_first_key(inside, value).items()
            }
        else:
            here[name] = with_figures(value, inside)
    return record.model_copy(update=here)


def by_first_key(paths: Mapping[str, Figure], keys: Iterable[str]) -> dict[str, dict[str, Figure]]:
    """Paths below a dictionary, parted by its keys, which may hold dots themselves."""
    parted: dict[str, dict[str, Figure]] = {}
    for path, figure in paths.items():
        key = max((key for key in keys if path.startswith(key + ".")), key=len)
        parted.setdefault(key, {})[path[len(key) + 1 :]] = figure
    return parted
