"""Files of a checkpoint folder that need no PyTorch to be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hilsim.errors import CheckpointError, Fault
from hilsim.files import read_text


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds."""
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError([Fault(str(path), f"line {error.lineno}", error.msg, "a JSON document")]) from None
    except (ValueError, RecursionError) as error:  # endless digits, endless nesting
        raise CheckpointError([Fault(str(path), "", str(error), "a JSON document")]) from None
    if not isinstance(document, dict):
        raise CheckpointError([Fault(str(path), "", f"a JSON {type(document).__name__}", "a JSON object")])
    return document
