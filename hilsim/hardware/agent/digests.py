"""The digest by which two sides compare a vocabulary. Standard library only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"


def tokenizer_digest(folder: Path) -> str | None:
    """SHA-256 over every token id with its text, in order; None where the folder has no vocabulary that can be read.

    Two tokenizers with the same digest give the same ids the same text. How text is cut into ids is left out, as it
    happens on one side only.
    """
    try:
        document = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        vocabulary = entries_of(document)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not vocabulary:
        return None
    text = json.dumps(sorted(vocabulary.items()), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def entries_of(document: Any) -> dict[int, str]:
    """Token ids and their texts: of the model (a mapping, or a list with scores), then what was added."""
    listed = document["model"]["vocab"]
    if isinstance(listed, dict):
        entries = {int(id): str(text) for text, id in listed.items()}
    else:
        entries = {id: str(entry[0]) for id, entry in enumerate(listed)}
    entries |= {int(entry["id"]): str(entry["content"]) for entry in document.get("added_tokens") or []}
    return entries
