"""Numbers and sentences as a person reads them, and other people's text made harmless. No terminal, no colour."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from hilsim.units import GIB, ms

CAUSES = {
    "draft": "drafting tokens that were accepted",
    "transfer": "messages on the link",
    "verify": "steps of the target",
    "wait": "waiting for a unit, the link or a handshake",
    "waste": "tokens drafted and rejected, and unused verify rows",
}


def clean(text: str) -> str:
    """Text from models and files with nothing left that a terminal would obey.

    Control characters become their pictures, line breaks a mark, invisible format characters vanish, and what
    cannot be shown at all becomes the replacement character.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    if code < 0x20:
        return {"\n": " ⏎ ", "\t": " "}.get(character, chr(0x2400 + code))
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Zl" | "Zp" | "Zs":
            return " "
        case "Cc" | "Cs" | "Co" | "Cn":
            return "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
    return character


def milliseconds(value: float) -> str:
    """Milliseconds with three digits that matter: 3562, 81.8, 0.03."""
    size = abs(value)
    decimals = 0 if size >= 100 or value == 0 else 1 if size >= 10 else 2
    return f"{value:.{decimals}f}"


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent for what people meet."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def duration(value_ms: float) -> str:
    """A duration with its unit: microseconds, milliseconds, or seconds from one second on."""
    if abs(value_ms) >= 1000:
        return f"{value_ms / 1000:.{2 if abs(value_ms) < 99_500 else 0}f} s"
    if 0 < abs(value_ms) < 0.1:
        return f"{milliseconds(1000 * value_ms)} µs"
    return f"{milliseconds(value_ms)} ms"


def duration_of_ns(value_ns: float) -> str:
    """A duration in nanoseconds, as `duration` writes it."""
    return duration(ms(value_ns))


def percent(share: float) -> str:
    """A share between 0 and 1; what is not nothing is never shown as 0."""
    if 0 < share < 0.005:
        return "<1 %"
    return f"{100 * share:.0f} %"


def gibibytes(size_bytes: float) -> str:
    """Bytes as GiB with two decimals."""
    return f"{size_bytes / GIB:.2f}"


def mebibytes(size_bytes: float) -> str:
    """Bytes as MiB, or KiB where that is less than a tenth."""
    mib = size_bytes / 2**20
    return f"{mib:.1f} MiB" if mib >= 0.1 else f"{size_bytes / 2**10:.1f} KiB"


def byte_count(size_bytes: float) -> str:
    """Bytes in powers of ten, as links are rated, with three digits."""
    factor, unit = next(
        (one for one in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size_bytes >= 0.9995 * one[0]), (1.0, "B")
    )
    return f"{three_digits(size_bytes / factor)} {unit}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 token, 2 tokens."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nice_step(at_least: float) -> int:
    """The next 1, 2 or 5 times a power of ten, for axes."""
    if at_least <= 1:
        return 1
    power = 10 ** math.floor(math.log10(at_least))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= at_least))


def shortened(text: str, width: int) -> str:
    """At most `width` characters, the loss marked."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def abbreviate(texts: Sequence[str], width: int) -> list[str]:
    """Texts of one kind in little room: where one is too long, all without the words that all begin and end with.

    What differs is never cut; it may still be longer than `width`.
    """
    words = [text.split(" ") for text in texts]
    if len(set(texts)) < 2 or all(len(text) <= width for text in texts):
        return list(texts)
    shortest = min(map(len, words))
    first = next((place for place in range(shortest) if len({row[place] for row in words}) > 1), shortest)
    left = shortest - first
    last = next((place for place in range(left) if len({row[-1 - place] for row in words}) > 1), left)
    return [
        " ".join(["…"] * (first > 0) + row[first : len(row) - last] + ["…"] * (last > 0)) if first or last else text
        for row, text in zip(words, texts, strict=True)
    ]


def described(record: dict[str, Any], name: str) -> str:
    """A record of the scenario in a line: the value of `name`, then its parameters."""
    inside = [
        f"{key} ({described(value, '')})" if isinstance(value, dict) else f"{key} {listed(value)}"
        for key, value in record.items()
        if key != name and value is not None
    ]
    return ", ".join([str(record[name]), *inside] if name else inside)


def listed(value: object) -> str:
    """A value of the scenario, lists without their brackets."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
