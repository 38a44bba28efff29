"""Do the notebooks of docs/notebooks still run, and print what is stored in them? Without --check they are stored anew.

Each runs in an empty folder, so that what it writes is not left in docs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
LIMIT_S = 300  # of one cell
SVG_OR_PNG = ("image/png", "image/svg+xml")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def read(file: Path) -> Any:
    """A notebook as it is stored."""
    import nbformat

    return nbformat.read(file, as_version=4)


def executed(file: Path) -> Any:
    """The notebook with what its cells print now, and nothing of this machine. A cell that raises ends it."""
    from nbclient import NotebookClient

    notebook = read(file)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=LIMIT_S, resources=where, record_timing=False)
        client.execute(env=os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT), "PATH": path})
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "text" in output:  # of a command, as a terminal shows it
            output.text = COLOURS.sub("", output.text).replace("\r\n", "\n")
    notebook.metadata = {"language_info": {"name": "python"}}
    return notebook


def printed(notebook: Any) -> list[str]:
    """What the cells print, as text, a text a cell; of a picture that there is one."""
    found = []
    for cell in notebook.cells:
        texts = []
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            pictures = any(kind in data for kind in SVG_OR_PNG)
            texts.append("a picture" if pictures else output.get("text") or data.get("text/plain", ""))
        found.append("".join(texts))
    return found


def main() -> int:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="store nothing; 1 where something else is printed")
    options = parser.parse_args()
    changed = 0
    for file in sorted(FOLDER.glob("*.ipynb")):
        notebook = executed(file)
        same = printed(notebook) == printed(read(file))
        changed += not same
        print(f"{file.name}: {'as stored' if same else 'prints something else'}", flush=True)
        if not options.check:
            nbformat.write(notebook, file)
    return int(options.check and changed > 0)


if __name__ == "__main__":
    sys.exit(main())
