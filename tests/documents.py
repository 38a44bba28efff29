"""Documents of commands held against the table of what their keys mean."""

from __future__ import annotations

import json
from typing import Any

from hilsim.show.json_documents import without_meaning


def document_of(command: str, printed: str) -> Any:
    """A printed document of one of `json_documents.DOCUMENTS`, each of whose keys has a meaning."""
    document = json.loads(printed)
    assert without_meaning(command, document) == []
    return document
