"""Names as people spell them: what a spelling means, and when a look-alike may be suggested.

One resolver for chips, power modes, links, models, families, runtimes, rule profiles, units and precisions. A spelling
is resolved where case, blanks, dashes and underscores, a maker's name in front, an organisation before a slash or a
word such as "-Instruct" are all that differs from the name, the title or a name in `known_as`; and a chip also by its
part number alone. Where that means several things, none is chosen.

A suggestion may never lead to another thing, so it is made only where all numbers agree and every word differs by a
slip of the keyboard at most (`slip`), or where the spelling is a part of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Names of makers and product lines, which people put in front of a name or leave out.
MAKERS = frozenset(["nvidia", "qualcomm", "snapdragon", "jetson", "samsung", "meta", "ibm", "google", "microsoft"])
# Words that name a board around a chip, or how a model was trained: neither changes what is described.
IDLE = {
    "chip": frozenset(["adp", "qrd", "crd", "evk", "devkit", "developer", "kit", "module", "soc", "board"]),
    "model": frozenset(["instruct", "chat", "it", "hf"]),
    "mode": frozenset({"mode"}),
}
# How weights are stored, at the end of a model's name: part of the placement here (`precision`), so only suggested.
STORED = re.compile(r"[-_. ]+(gguf|awq|gptq|int[48]|fp8|fp16|bf16|i?q\d(_[k01])?(_[sml])?|w\d+a\d+|[48]-?bit)$", re.I)
# The last words of keys that are units, as people read them.
UNITS = {
    "ms": "ms", "s": "s", "h": "h", "us": "us", "bytes": "bytes", "tokens": "tokens", "c": "degrees Celsius", "w": "W",
    "gmacs": "GMAC", "hz": "Hz", "minutes": "min", "rows": "rows", "m": "million", "mb": "MB", "gb": "GB",
}  # fmt: skip
PART_NUMBER = 4  # digits that are enough of a name


@dataclass(frozen=True)
class KnownName:
    """One thing that can be named: `name` is what files call it, aliases and title what people do."""

    name: str
    aliases: tuple[str, ...] = ()
    title: str = ""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write it; of a title also what stands before its first comma."""
        titles = (self.title, self.title.partition(",")[0]) if split_name(self.title) else ()
        return (self.name, *self.aliases, *titles)


@lru_cache(maxsize=8192)
def split_name(text: str) -> tuple[str, ...]:
    """Runs of letters and of digits, in lower case: "SA8295P" is sa, 8295, p."""
    return tuple(re.findall(r"[^\W\d_]+|\d+", text.lower()))


def key(parts: Iterable[str]) -> str:
    """Several words joined into one; only numbers side by side stay apart, since 3.21 is not 32.1."""
    text = ""
    for part in parts:
        text += f"-{part}" if part.isdigit() and text[-1:].isdigit() else part
    return text


def agree(one: str, other: str) -> bool:
    """Whether two spellings differ in case, and in signs between words, at most."""
    return key(split_name(one)) == key(split_name(other))


def resolve(value: str, known: Sequence[KnownName], kind: str = "") -> tuple[str, ...]:
    """The names that a spelling means: one where it is clear, several where it is not, none where it means nothing.

    What is written exactly as a name is that name, and names go before titles and aliases.
    """
    if any(one.name == value for one in known):
        return (value,)
    for own_only in (True, False):
        found = [one for one in known if means(value, one, kind, own_only=own_only)]
        if found:
            return tuple(dict.fromkeys(one.name for one in found))
    if kind == "chip":
        return tuple(dict.fromkeys(one.name for one in known if has_part_number(value, one)))
    return ()


def one_of(value: str, names: Iterable[str]) -> str:
    """The name that a spelling means, or the spelling as it is."""
    meant = resolve(value, [KnownName(name) for name in names])
    return meant[0] if len(meant) == 1 else value


def means(value: str, one: KnownName, kind: str, *, own_only: bool) -> bool:
    """Whether a spelling differs from one of the names in what does not matter alone."""
    spellings = (one.name,) if own_only else one.spellings
    borne = {word for spelling in one.spellings for word in split_name(spelling)} & MAKERS
    wanted = forms(split_name(value.rpartition("/")[2] if kind == "model" else value), kind, borne)
    return any(wanted & forms(split_name(spelling), kind, borne) for spelling in spellings)


def forms(parts: tuple[str, ...], kind: str, borne: set[str]) -> set[str]:
    """A name as compared: whole, and without what people add to it or leave out."""
    idle = IDLE.get(kind, frozenset())
    bare = parts
    while len(bare) > 1 and bare[0] in borne:
        bare = bare[1:]
    rest = tuple(word for word in bare if word not in idle)
    return {key(some) for some in (parts, bare, rest) if some}


def has_part_number(value: str, one: KnownName) -> bool:
    """Whether the spelling is a part of a name, with a number long enough to be nothing else's."""
    parts = split_name(value)
    long = any(part.isdigit() and len(part) >= PART_NUMBER for part in parts)
    return long and any(within(parts, split_name(spelling)) for spelling in one.spellings)


def within(parts: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Whether words occur side by side, in order, in others."""
    return any(whole[start : start + len(parts)] == parts for start in range(len(whole) - len(parts) + 1))


def hint(value: str, known: Iterable[KnownName], kind: str = "") -> str:
    """What thing may have been meant, as a sentence; "" where nothing is near enough to be the same one."""
    return did_you_mean(near(value, list(known), kind))


def key_hint(value: str, known: Iterable[str]) -> str:
    """What key, metric or option a slip of the keyboard may have made this of, as a sentence; or ""."""
    return did_you_mean(nearest(value, known))


def nearest(value: str, known: Iterable[str]) -> list[str]:
    """The one key that a slip of the keyboard may have made this of, or that is this and a unit, as `pause_ms` of
    `pause`; none where there are two of them, or none.
    """
    things = [KnownName(name) for name in known]
    with_unit = [name for name in (f"{value}_{unit}" for unit in UNITS) if any(one.name == name for one in things)]
    return slips(value, things, numbers_agree=True) or (with_unit if len(with_unit) == 1 else [])


def did_you_mean(names: Sequence[str]) -> str:
    """Whether one of these was meant."""
    quoted = [repr(name) for name in names]
    return f"Did you mean {' or '.join(filter(None, (', '.join(quoted[:-1]), quoted[-1])))}?" if quoted else ""


def near(value: str, known: Sequence[KnownName], kind: str = "") -> list[str]:
    """The names that a spelling is a part of, or that a slip made it of; four at most, as more are no help."""
    meant = list(resolve(value, known, kind))
    if not meant and kind == "model" and STORED.search(value):
        return near(STORED.sub("", value), known, kind)
    parts = split_name(value)
    if not meant and any((len(part) >= 2 and not part.isdigit()) or len(part) >= PART_NUMBER for part in parts):
        meant = [one.name for one in known if any(within(parts, split_name(text)) for text in one.spellings)]
    return (meant or slips(value, known, numbers_agree=kind != "profile")) if len(meant) <= 4 else []


def slips(value: str, known: Iterable[KnownName], *, numbers_agree: bool) -> list[str]:
    """The one name that the fewest slips lead to; none where there are two of them, or where none is near enough."""
    found = sorted((least, one.name) for one in known if (least := least_slip(value, one, numbers_agree)) is not None)
    best = list(dict.fromkeys(name for least, name in found if least == found[0][0]))
    return best if len(best) == 1 else []


def least_slip(value: str, one: KnownName, numbers_agree: bool) -> int | None:
    """How many slips the nearest spelling of a thing is away; None where none is near enough."""
    found = [least for spelling in one.spellings if (least := slip(value, spelling, numbers_agree)) is not None]
    return min(found, default=None)


def slip(wrong: str, right: str, numbers_agree: bool = True) -> int | None:
    """How many slips of the keyboard lie between two names, None where they may be two things.

    All numbers agree, and so do words of up to three letters, as those mostly are units, kinds and series. A longer
    word may differ by one letter (or two neighbours swapped), from seven letters on by two, and not in its first one:
    "modle" is model and "temprature" temperature; "orin-nx" is no orin-nano, "sync" no async. Where numbers need not
    agree (of years), two neighbouring digits may be swapped.
    """
    ours, theirs = split_name(wrong), split_name(right)
    if key(ours) == key(theirs):
        return 0
    if len(ours) != len(theirs):
        return None
    total = 0
    for one, other in zip(ours, theirs, strict=True):
        if one == other:
            continue
        longer, distance = max(len(one), len(other)), edits(one, other)
        allowed = 0 if longer <= 3 or one[0] != other[0] else 1 + (longer >= 7)
        if one.isdigit() or other.isdigit():
            allowed = 0 if numbers_agree or sorted(one) != sorted(other) else 1
        if distance > allowed:
            return None
        total += distance
    return total


def edits(one: str, other: str) -> int:
    """Letters added, left out, changed, or swapped with a neighbour, between two words."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, start=1):
        row = [i]
        for j, wanted in enumerate(other, start=1):
            least = min(row[j - 1] + 1, rows[-1][j] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]


def longest_beginning(value: str, known: Sequence[KnownName]) -> str | None:
    """The name of which a spelling is the longest beginning of `value`, for texts that hold more than a name, or None.

    What follows the beginning may be anything but another memory size: a board of another memory is another board.
    """
    wanted = normal(value) + "-"
    best, found = 0, None
    for one in known:
        names = tuple(map(normal, (one.name, *one.aliases)))
        for alias in names:
            if len(alias) > best and wanted.startswith(alias + "-") and same_size(wanted[len(alias) :], names):
                best, found = len(alias), one.name
    return found


def normal(name: str) -> str:
    """A name in lower case, every run of other characters one '-', sizes without a gap (8gb)."""
    plain_name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return re.sub(r"(\d)-gb(?=-|$)", r"\1gb", plain_name)


def same_size(rest: str, names: tuple[str, ...]) -> bool:
    """Whether what follows an alias names no memory size, or one that the names have, or they have none."""
    named, own = (set(re.findall(r"\b\d+gb\b", text)) for text in (rest, " ".join(names)))
    return not named or not own or bool(named & own)
