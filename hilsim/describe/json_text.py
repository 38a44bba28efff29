"""The text of a file that may be JSON, and its objects: those of a list, of lines or a single one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hilsim.errors import Fault, ScenarioError

CUT = "Was the file cut while it was written or copied?"


@dataclass(frozen=True)
class TextFile:
    """A file's name and text."""

    file: str
    text: str

    @property
    def is_json(self) -> bool:
        return self.text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first object of JSON, of its list or lines; empty where there is none that is whole."""
        try:
            return next(json_objects(self.text), (0, {}))[1] if self.is_json else {}
        except (ValueError, RecursionError):
            return {}

    @cached_property
    def objects(self) -> list[tuple[int, dict[str, Any]]]:
        """All objects with their first lines. Raises `ScenarioError` where the JSON is not whole."""
        try:
            return list(json_objects(self.text))
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}"
            raise ScenarioError([Fault(self.file, place, error.msg.lower(), "whole JSON", CUT)]) from None
        except (ValueError, RecursionError) as error:
            raise ScenarioError([Fault(self.file, "", str(error).lower(), "JSON that Python can read")]) from None


def json_objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON list, of JSON lines or a single one, with their first lines.

    Raises `json.JSONDecodeError`, or `RecursionError`, where something else follows.
    """
    decoder, at, line = json.JSONDecoder(), 0, 1
    while found := re.compile(r"[\s,\[]*(?=\{)").match(text, at):
        line += text.count("\n", at, found.end())
        value, end = decoder.raw_decode(text, found.end())
        yield line, value
        line, at = line + text.count("\n", found.end(), end), end
    if text[at:].strip() != ("]" if text.lstrip().startswith("[") else ""):
        raise json.JSONDecodeError("something other than an object, or no end", text, at)
