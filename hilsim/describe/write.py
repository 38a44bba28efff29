"""From records back to text: YAML with a figure a line, figures changed inside a file, and `--set` as it is typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from hilsim.describe.catalogue import find_scenario, located
from hilsim.describe.figure import Figure, Record
from hilsim.describe.load import with_override
from hilsim.describe.strict_yaml import dotted, parse
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import read_text
from hilsim.places import DATA

WIDTH = 10_000  # a figure never breaks its line


class _Inline(dict[str, object]):
    """A mapping written in one line."""


class _Dumper(yaml.SafeDumper):
    """Preserves the order of keys and writes figures in one line."""


def _inline(dumper: _Dumper, value: _Inline) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


_Dumper.add_representer(_Inline, _inline)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def typed(overrides: Sequence[str]) -> str:
    """Changes of a scenario as they are typed behind a command, quoted for a shell."""
    return " ".join(f"--set {shlex.quote(override)}" for override in overrides)


def typed_scenario(file: Path, overrides: Sequence[str]) -> str:
    """A scenario and its changes as they are typed behind a command."""
    return f"{shlex.quote(typed_file(file))} {typed(overrides)}".strip()


def typed_file(file: Path) -> str:
    """A scenario as it is typed: by its path from here where it lies below, else its name where that finds it."""
    if file.is_relative_to(Path.cwd()):
        return str(file.relative_to(Path.cwd()))
    try:
        return file.stem if find_scenario(file.stem) == file else str(file)
    except InputError:
        return str(file)


def to_yaml(record: Record) -> str:
    """A described thing as the text of its file; what is absent is not written."""
    return yaml.dump(plain(record), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)


def figure_text(figure: Figure) -> str:
    """One figure as a line of YAML writes it."""
    return yaml.dump(plain(figure), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True).strip()


def plain(value: object) -> object:
    """A record as mappings; anything with a provenance (`source`) and no parts goes on one line."""
    if isinstance(value, Record):
        fields = {field.alias or name: plain(getattr(value, name)) for name, field in type(value).model_fields.items()}
        found = {name: item for name, item in fields.items() if not absent(item)}
        flat = all(not isinstance(item, dict) for item in found.values())
        return _Inline(found) if "source" in found and flat else found
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and any(isinstance(item, Record) for item in value):
        return [plain(item) for item in value]
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return int(value)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def absent(item: object) -> bool:
    """Whether a field is as if it had not been written."""
    return item is None or item in ("", (), {})


def with_changed_figures(text: str, file: str, changed: Mapping[str, Figure]) -> str:
    """A file's text with some of its figures replaced; comments and everything else stay as they are.

    Each figure must be a mapping in braces behind its key (`name: {value: ...}`), on as many lines as it likes; raises
    `ScenarioError` where one is not.
    """
    document = parse(text, file)
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    edits = []
    places = {dotted(place): place for place in document.lines}
    for path, figure in changed.items():
        place = places[path]
        number = document.lines[place]
        brace = re.compile(rf"\s*{re.escape(str(place[-1]))}\s*:\s*(?={{)").match(text, starts[number - 1])
        if brace is None:
            expected = "it in braces behind its key ({value: ...})"
            raise ScenarioError([Fault(file, f"{path} (line {number})", "a figure written out in lines", expected)])
        begin = brace.end()
        edits.append((begin, end_of_braces(text, begin), figure_text(figure)))
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def end_of_braces(text: str, begin: int) -> int:
    """The position behind the brace that closes the one at `begin`; quoted text does not count."""
    depth = 0
    for found in re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|[{}]').finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0:
            return found.end()
    raise ValueError("braces that never close")


def scenario_text(file: Path, overrides: Sequence[str], comments: Sequence[str]) -> str:
    """A scenario with overrides in place as the text of a file of its own, to be read from any folder.

    `comments` go to its head. Paths inside the project stay relative to it, others become absolute.
    """
    document = parse(read_text(file), str(file))
    for override in overrides:
        document = with_override(document, override)
    data = found_from_anywhere(document.data, file)
    assert isinstance(data, dict)
    whole = {key: value for key, value in data.items() if value is not None and value != []}
    text = yaml.safe_dump(whole, sort_keys=False, width=WIDTH, allow_unicode=True, default_flow_style=None)
    return "".join(f"# {line}\n" for line in comments) + text


def found_from_anywhere(value: object, file: Path) -> object:
    """A scenario's plain data with the files that it names written so that they are found from any folder."""
    if isinstance(value, dict):
        return {key: found_from_anywhere(item, file) for key, item in value.items()}
    if isinstance(value, list):
        return [found_from_anywhere(item, file) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    place = located(value, file)
    if not place.exists():
        return value
    place = place.resolve()
    return str(place.relative_to(DATA)) if place.is_relative_to(DATA) else str(place)
