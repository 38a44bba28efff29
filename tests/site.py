"""The documentation site, built as `make docs` does."""

from __future__ import annotations

import os
import subprocess
import sys

from hilsim.places import CODE as PROJECT


def build_site(*options: str) -> subprocess.CompletedProcess[str]:
    """Build it, strictly; `options` are MkDocs' own."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", *options]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=PROJECT, env=quiet, capture_output=True, text=True, check=False)
