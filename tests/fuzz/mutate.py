"""Mutations: bytes, trees, numbers and lines of an input, changed as a disk, a hand or an enemy might."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Sequence
from typing import Any

import yaml

ODDITIES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 1e-320, 0.5, 1e308, 2**31, 2**63, -(2**63), 10**40,
    "", " ", "x", "\0", "\ud800", "é" * 40, "x" * 5000, "1e999", ".nan", "../../etc/passwd", "~",
    [], {}, [[]], {"": None}, {"x": {"y": []}}, [0] * 300, ["x"] * 300,
)  # fmt: skip
# Sizes that no figure should have, as a file or a hand could write them.
EXTREMES = (
    "0", "-1", "1e-320", "1e-300", "1e-9", "1e9", "1e18", "1e300", "2147483648", "9223372036854775808", "1" * 39,
)  # fmt: skip
SCRAPS = (
    "", "0", "-1", "1e9", "1e999", ".nan", ".inf", "12:30", "yes", "null", "~", "true", "[]", "{}", "[1, 2]", "'", '"',
    "{a: b}", "- x", "x" * 300, '"\\uD800"', "or.in", "!!str 5", "!!map {}", "!!python/name:os.system", "&a", "*a",
    "<<: *a", "%", "\t", "\u0000", "\ud7ff", "€", "0x10", "?", "|", ">", "---", "...", "99999999999999999999999999",
    "npu", "models/target", "../..", "/", "{{", "#", ":", ",",
)  # fmt: skip


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """A file with flipped bits, or cut, or a piece of it doubled, removed, or replaced by noise."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not data:
            break
        start = chance.randrange(len(data))
        piece = slice(start, start + chance.choice((1, 4, 16, 200)))
        match chance.randrange(6):
            case 0:
                data[start] ^= 1 << chance.randrange(8)
            case 1:
                del data[start:]
            case 2:
                data[start:start] = data[piece]
            case 3:
                del data[piece]
            case 4:
                data[piece] = chance.randbytes(len(data[piece]))
            case _:
                data[start:start] = chance.choice(
                    (b"\0", b"\xff\xfe", b"-", b"9" * 30, b"1e999", b"{", b"[" * 2000, b"\n")
                )
    return bytes(data)


def changed_tree(document: Any, chance: random.Random) -> Any:
    """A JSON-like document with a few of its nodes replaced by oddities, removed, doubled, renamed, moved or nested."""
    root = [copy.deepcopy(document)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = [(root, 0), *nodes(root[0])]
        holder, key = chance.choice(places)
        match chance.randrange(7):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(chance.choice(ODDITIES))
            case 3 if holder is not root:
                del holder[key]
            case 4:
                other, place = chance.choice(places)
                holder[key] = copy.deepcopy(other[place])
            case 5 if isinstance(holder, dict):
                holder[chance.choice(("", "x", f"{key}s", str(key).upper()))] = holder.pop(key)
            case _:
                for _ in range(chance.choice((1, 3, 60))):
                    holder[key] = chance.choice((lambda node: [node], lambda node: {"x": node}))(holder[key])
    return root[0]


def nodes(document: Any) -> list[tuple[Any, Any]]:
    """Every place below a document, as (its holder, key or index)."""
    found, left = [], [document]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            left.append(node[key])
    return found


def json_bytes(document: Any) -> bytes:
    """A document as a JSON file; half characters and numbers that JSON does not know are written as Python does."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def changed_json(good: bytes, chance: random.Random) -> bytes:
    """A JSON file with its bytes changed (one in three) or its tree."""
    if chance.randrange(3) == 0:
        return changed_bytes(good, chance)
    return json_bytes(changed_tree(json.loads(good), chance))


def yaml_bytes(document: Any) -> bytes:
    """A document as YAML; what no YAML file holds (half characters) is written as Python does."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=10_000).encode("utf-8", "surrogatepass")


def with_extremes(text: str, chance: random.Random) -> str:
    """A YAML text with one or two of its numbers replaced by extremes."""
    for _ in range(chance.choice((1, 2))):
        numbers = list(re.finditer(r"(?<=[ \[{:,])-?\d+(\.\d+)?(?=[,}\]\s])", text))
        if numbers:
            spot = chance.choice(numbers)
            text = text[: spot.start()] + chance.choice(EXTREMES) + text[spot.end() :]
    return text


def with_near_numbers(text: str, chance: random.Random) -> str:
    """A text with one or two of its numbers a little or some times more or less: most are still right."""
    for _ in range(chance.choice((1, 2))):
        numbers = list(re.finditer(r"(?<=[ \[{:,=])\d+(\.\d+)?(?=[,}\]\s])", text))
        if numbers:
            spot = chance.choice(numbers)
            value = float(spot[0]) if "." in spot[0] else int(spot[0])
            near = chance.choice((value + 1, value - 1, value * 2, value * 10, value / 2, value * 0.999, -value))
            text = text[: spot.start()] + repr(near) + text[spot.end() :]
    return text


def changed_lines(text: str, chance: random.Random) -> str:
    """A text as a tired engineer or a broken disk could leave it: lines lost, doubled, indented, cut, with scraps."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(9):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, chance.choice(lines))
            case 2:
                lines[at] = f"{lines[at].partition(':')[0]}: {chance.choice(SCRAPS)}"
            case 3:
                lines[at] = " " * chance.randint(0, 5) + lines[at].strip()
            case 4:
                lines[at] = lines[at].replace(chance.choice("abcdeinorst0123456789"), chance.choice(SCRAPS), 1)
            case 5:
                lines[at] = lines[at][: chance.randint(0, len(lines[at]))]
            case 6:
                lines = lines[: at + 1]
            case 7:
                lines[at] += chance.choice(SCRAPS)
            case _:
                middle = chance.randint(0, len(lines[at]))
                lines[at] = lines[at][:middle] + chr(chance.randrange(1, 0x2FFF)) + lines[at][middle:]
        lines = lines or [""]
    return "\n".join(lines)


def changed_yaml(good: bytes, chance: random.Random) -> bytes:
    """A YAML file with its bytes, its tree, its lines or its numbers changed, each as often."""
    match chance.randrange(5):
        case 0:
            return changed_bytes(good, chance)
        case 1:
            return yaml_bytes(changed_tree(yaml.safe_load(good), chance))
        case 2:
            return with_extremes(good.decode(), chance).encode()
        case 3:
            return with_near_numbers(good.decode(), chance).encode()
        case _:
            return changed_lines(good.decode(), chance).encode("utf-8", "replace")


def changed_words(words: Sequence[str], strange: Sequence[str], chance: random.Random, *, keep: int = 1) -> list[str]:
    """A command line with some words lost, added or replaced by strange ones; the first `keep` stay."""
    line = list(words)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randint(keep, max(keep, len(line) - 1))
        match chance.randrange(4):
            case 0:
                del line[at : at + 1]
            case 1:
                line.insert(at, chance.choice(strange))
            case _:
                line[at : at + 1] = [chance.choice(strange)]
    return line
