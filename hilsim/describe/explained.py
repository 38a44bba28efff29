"""The keys of described files that a user asks about by a word."""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.describe.keys import Key, keys_of, name_of, parent_of
from hilsim.describe.names import key_hint
from hilsim.describe.schema import RECORDS
from hilsim.errors import Fault, InputError


def kind_of(word: str) -> str:
    """A kind of file. Raises `InputError` for another word."""
    if word not in RECORDS:
        raise InputError([Fault("explain", "KEY", repr(word), f"one of {', '.join(RECORDS)}", key_hint(word, RECORDS))])
    return word


def explained(word: str) -> tuple[list[Key], bool]:
    """The keys that a word means, and whether it is those of a whole file or block, to be listed in short.

    A word is a kind of file, a key or the end of a dotted one, or KIND:KEY, also with a dot between them.
    Raises `InputError` for what is none.
    """
    kind, colon, path = word.partition(":")
    if word in RECORDS:
        return [key for key in keys_of(word) if "." not in key.path], True
    kinds = [kind_of(kind)] if colon else list(RECORDS)
    known = [key for one in kinds for key in keys_of(one)]
    wanted = without_places(path if colon else word).strip(".")
    found = [key for key in known if plain(key) == wanted]
    found = found or [key for key in known if plain(key).endswith(f".{wanted}")]
    found = found or [key for key in known if key.earlier and f".{earlier(key)}".endswith(f".{wanted}")]
    head, _, rest = word.partition(".")
    if not found and not colon and head in RECORDS and rest:
        return explained(f"{head}:{rest}")
    if not found or not wanted:
        names = dict.fromkeys(name for key in known for name in (plain(key), plain(key).rpartition(".")[2]))
        raise InputError(
            [
                Fault(
                    "explain", "KEY", repr(word), f"a key, or a kind of file: {', '.join(RECORDS)}",
                    key_hint(wanted, names) or "`hilsim explain scenario` lists the keys of a scenario.",
                )
            ]
        )  # fmt: skip
    inside = [
        key for key in known if any(plain(key).startswith(f"{plain(one)}.") and key.kind == one.kind for one in found)
    ]
    return (found, False) if not inside else ([*found, *inside], len(found) + len(inside) > 3)


def nested(word: str, shown: Sequence[Key]) -> list[str]:
    """Further keys inside blocks whose name, now or before, a word is, each as KIND:KEY; none for a kind of file."""
    among = {(key.kind, key.path) for key in shown}
    found = (
        f"{kind}:{plain(key)}"
        for kind in RECORDS
        for key in keys_of(kind)
        if "." in key.path and word in (name_of(key), key.earlier) and (kind, key.path) not in among
    )
    return [] if word in RECORDS else list(dict.fromkeys(found))


def plain(key: Key) -> str:
    """A key's path without the places of lists and names."""
    return without_places(key.path)


def earlier(key: Key) -> str:
    """A key's path as it was written before, without the places of lists and names; "" where it never had another."""
    return f"{without_places(parent_of(key))}.{key.earlier}" if key.earlier else ""


def without_places(path: str) -> str:
    """A path without the places of lists and names."""
    return path.replace("[]", "").replace(".NAME", "")
