"""Reads `tokenizer.json`, checked completely before the `tokenizers` library sees it.

The library checks little: ids beyond the vocabulary, counts of 2^31 and cycles end in panics, in a killed process, or
never. Ids are checked here; a file with more than plain parts is then tried once in a process with limits, and the
result is remembered by its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Tokenizer

from hilsim.caches import FILE_MODE, is_private_file, private_folder
from hilsim.errors import CheckpointError, Fault
from hilsim.files import is_text, read_text
from hilsim.text import limited

MODELS = {"BPE": dict, "WordLevel": dict, "WordPiece": dict, "Unigram": list}  # and what their vocabulary is
SET_ASIDE = ("padding", "truncation", "post_processor")  # for batches and training; a chat prompt takes none of them
PROBE_BYTES = 2 * 2**30
MOST_IDS = 2**22  # the largest vocabularies have 2^18
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
PLAIN_MODEL = {"type", "vocab", "merges", "dropout", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges",
               "continuing_subword_prefix", "end_of_word_suffix"}  # fmt: skip
EXPECTED = "a tokenizer of the `tokenizers` library"


def read_tokenizer(path: Path) -> tuple[Tokenizer, str | None]:
    """The tokenizer of a file, without padding, truncation and templates of its own, and the token it would pad with.

    Raises `CheckpointError`.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, str(error)) from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise unreadable(path, "not an object with a model")
    places = list(faults_of(document))
    if places:
        raise CheckpointError([Fault(str(path), *parts) for parts in places[:20]])
    if any(document.get(name) is not None for name in SET_ASIDE):
        text = json.dumps(document | dict.fromkeys(SET_ASIDE))
    if not is_plain(document):
        prove(text, path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise unreadable(path, str(error)) from None
    moved = [
        Fault(str(path), f"added_tokens[{place}].id", str(token["id"]),
              f"{tokenizer.token_to_id(token['content'])}, the id that {token['content']!r} gets")
        for place, token in enumerate(document.get("added_tokens") or ())
        if tokenizer.token_to_id(token["content"]) != token["id"]
    ]  # fmt: skip
    if moved:
        raise CheckpointError(moved[:20])
    padding = document.get("padding")
    pad = padding.get("pad_token") if isinstance(padding, dict) else None
    return tokenizer, pad if isinstance(pad, str) else None


def unreadable(path: Path, why: str) -> CheckpointError:
    """The fault of a file that is not a tokenizer."""
    return CheckpointError([Fault(str(path), "", f"an unreadable tokenizer ({why})", EXPECTED)])


def prove(text: str, path: Path) -> None:
    """Try a tokenizer in a process with limits. Raises `CheckpointError`; a file that passed is not tried again."""
    digest = hashlib.sha256(f"{tokenizers.__version__}\n{text}".encode(errors="surrogatepass")).hexdigest()[:32]
    folder = private_folder("tokenizers")
    if folder is not None and is_private_file(folder / digest):
        return
    try:
        answer = limited.ask(3 + len(text) // 2**20, PROBE_BYTES, do="probe", text=text)
    except limited.ProcessDied as died:
        raise unreadable(path, f"{died}") from None
    if "error" in answer:
        raise unreadable(path, f"{answer['kind']}: {answer['error']}")
    if folder is not None:
        with contextlib.suppress(OSError):  # where it cannot be marked it is tried again next time
            (folder / digest).touch(FILE_MODE)


Parts = tuple[str, str, str] | tuple[str, str, str, str]  # of a fault: place, found, expected, remedy


def faults_of(document: dict[str, Any]) -> Iterator[Parts]:
    """What is wrong with ids, texts and counts."""
    model = document["model"]
    kind = model.get("type", "BPE" if "merges" in model else "Unigram" if "unk_id" in model else None)
    if not isinstance(kind, str) or kind not in MODELS:
        yield "model.type", short(kind), f"one of {', '.join(MODELS)}"
        return
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, MODELS[kind]) or not vocabulary:
        wanted = "an object of tokens and ids" if MODELS[kind] is dict else "a list of pieces and scores"
        yield "model.vocab", short(vocabulary), wanted
        return
    if model.get("dropout"):
        remedy = 'Set "dropout" to null: it is for training, and makes ids random.'
        yield "model.dropout", short(model["dropout"]), "none", remedy
    ids: dict[str, int] = {}
    if isinstance(vocabulary, list):
        yield from piece_faults(model)
        ids = {piece[0]: place for place, piece in enumerate(vocabulary) if is_piece(piece)}
    else:
        ids = {text: token for text, token in vocabulary.items() if is_id(token) and is_text(text)}
        if len(ids) < len(vocabulary):
            wrong = next(text for text in vocabulary if text not in ids)
            yield f"model.vocab[{wrong!a}]", short(vocabulary[wrong]), f"text with an id from 0 to {MOST_IDS}"
        if len(set(ids.values())) < len(ids):
            yield "model.vocab", "an id shared by several tokens", "an id for each token"
        if kind == "BPE":
            yield from merge_faults(model, ids)
    unknown = model.get("unk_token")
    if isinstance(unknown, str) and kind != "Unigram" and unknown not in ids and not is_added(document, unknown):
        yield "model.unk_token", short(unknown), "a token of model.vocab"
    yield from added_faults(document.get("added_tokens"), ids)


def piece_faults(model: dict[str, Any]) -> Iterator[Parts]:
    """What is wrong with pieces and their scores."""
    pieces, unknown = model["vocab"], model.get("unk_id")
    wrong = next((place for place, piece in enumerate(pieces) if not is_piece(piece)), None)
    if wrong is not None:
        yield f"model.vocab[{wrong}]", short(pieces[wrong]), "a piece and its score"
    elif len({piece[0] for piece in pieces}) < len(pieces):
        yield "model.vocab", "a piece that occurs twice", "each piece once"
    if unknown is not None and not (is_id(unknown) and unknown < len(pieces)):
        yield "model.unk_id", short(unknown), f"an id below {len(pieces)}, the pieces of model.vocab"


def merge_faults(model: dict[str, Any], ids: dict[str, int]) -> Iterator[Parts]:
    """The first merge that names something that is not a token."""
    merges, prefix = model.get("merges"), model.get("continuing_subword_prefix") or ""
    if not isinstance(merges, list):
        yield "model.merges", short(merges), "a list of pairs of tokens"
        return
    for place, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            yield f"model.merges[{place}]", short(merge), "a pair of tokens"
            return
        made = pair[0] + pair[1].removeprefix(prefix if isinstance(prefix, str) else "")
        if missing := [part for part in (*pair, made) if part not in ids]:
            yield f"model.merges[{place}]", short(merge), f"tokens of model.vocab, which lacks {missing[0]!r}"
            return


def added_faults(added: Any, ids: dict[str, int]) -> Iterator[Parts]:
    """What is wrong with tokens that are added to a model's own."""
    if added is None:
        return
    if not isinstance(added, list):
        yield "added_tokens", short(added), "a list of tokens"
        return
    seen: dict[str, int] = {}
    owners = {token: text for text, token in ids.items()}
    for place, token in enumerate(added):
        where = f"added_tokens[{place}]"
        if not isinstance(token, dict):
            yield where, short(token), "a token with id and content"
            continue
        content, number = token.get("content"), token.get("id")
        if not isinstance(content, str) or not content or not is_text(content):
            yield f"{where}.content", short(content), "text"
        elif not isinstance(number, int) or not is_id(number):
            yield f"{where}.id", short(number), f"a whole number from 0 to {MOST_IDS}"
        elif content in seen:
            yield where, f"{short(content)} again", f"each token once (it is also added_tokens[{seen[content]}])"
        elif ids.get(content, number) != number:
            yield f"{where}.id", short(number), f"{ids[content]}, the id of {short(content)} in model.vocab"
        elif owners.get(number, content) != content:
            yield f"{where}.id", f"{number} for {short(content)}", f"an id of its own: {short(owners[number])} has it"
        else:
            seen[content] = place
            owners[number] = content
        for flag in FLAGS:
            if not isinstance(token.get(flag, False), bool):
                yield f"{where}.{flag}", short(token[flag]), "true or false"


def is_plain(document: dict[str, Any]) -> bool:
    """Whether a file that has no fault has parts alone whose work is in proportion to the text: a byte-level BPE."""
    model = document["model"]
    before, after = document.get("pre_tokenizer") or {}, document.get("decoder") or {}
    byte_level = {"type": "ByteLevel"}
    return (
        set(document) <= {"version", "added_tokens", "normalizer", "pre_tokenizer", "decoder", "model", *SET_ASIDE}
        and document.get("version") == "1.0"
        and document.get("normalizer") is None
        and all(isinstance(part, dict) and byte_level.items() <= part.items() for part in (before, after))
        and all(isinstance(value, bool) for part in (before, after) for key, value in part.items() if key != "type")
        and model.get("type") == "BPE"
        and set(model) <= PLAIN_MODEL
        and not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and all(set(token) == {"id", "content", *FLAGS} for token in document.get("added_tokens") or ())
        and all(len(text) <= 1000 for text in model["vocab"])
    )


def is_id(value: Any) -> bool:
    """Whether a value can be the number of a token."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_IDS


def is_piece(value: Any) -> bool:
    """Whether a value is a piece with a finite score."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and is_text(value[0])
        and isinstance(value[1], (int, float))
        and abs(value[1]) < 1e9
    )


def is_added(document: dict[str, Any], text: str) -> bool:
    """Whether a text is among the added tokens."""
    added = document.get("added_tokens")
    return isinstance(added, list) and any(isinstance(token, dict) and token.get("content") == text for token in added)


def short(value: Any) -> str:
    """A value as it fits into a message."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
