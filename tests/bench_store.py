"""Runs of the bench as files: what was measured, on which machine, of which commit; and the table in docs/speed.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hilsim.files import written
from hilsim.places import CODE as PROJECT
from hilsim.versions import versions
from tests.bench_rows import Row, as_markdown

STORED = PROJECT / "out" / "bench"
DOCS, DOCS_JSON = PROJECT / "docs" / "speed.md", PROJECT / "docs" / "speed.json"
BEGIN, END = "<!-- written by python -m tests.bench --docs -->\n", "<!-- end of what it writes -->\n"


def machine() -> dict[str, Any]:
    """What makes figures of two runs comparable."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(),
            "machine": platform.machine()}  # fmt: skip


def load_average() -> list[float]:
    """How busy the machine has been in the last 1, 5 and 15 minutes; empty where it does not say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def commit() -> str:
    """The commit that is measured, with a plus where files have changed since; empty outside a repository."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return ""

    changed = "+" if git("status", "--porcelain", "--untracked-files=no").strip() else ""
    return git("rev-parse", "--short=12", "HEAD").strip() + changed


class Run:
    """One run of the bench: what it stands for, and its figures by section, as far as they are measured."""

    def __init__(self, about: Mapping[str, Any], sections: Mapping[str, dict[str, Any]]):
        self.about, self.sections = dict(about), dict(sections)

    @classmethod
    def begin(cls) -> Run:
        """A run without figures yet."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"date": now, "commit": commit(), "machine": machine(), "load_average": load_average()}
        return cls({**about, "system": platform.platform(), "versions": versions()}, {})

    @classmethod
    def read(cls, file: Path) -> Run:
        """A run from its file."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(found["about"], found["sections"])

    def write(self, file: Path) -> None:
        """Write the file, whole; its folder is made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with written(file) as path:
            document = {"about": self.about, "sections": self.sections}
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @property
    def file_name(self) -> str:
        """A name by which runs sort as they were made."""
        return f"{self.about['date'].replace(':', '')}.json"


def last_of(folder: Path, found: Run) -> Run | None:
    """The last stored run of the same machine before this one; None where there is none."""
    files = [file for file in sorted(folder.glob("*.json")) if file.name < found.file_name]
    runs = (Run.read(file) for file in reversed(files))
    return next((run for run in runs if run.about["machine"] == found.about["machine"]), None)


def docs_block(run: Run, rows: Sequence[Row], missing: Sequence[str] = ()) -> str:
    """What docs/speed.md says of a run; `missing` are sections that were not measured in it."""
    about = run.about
    at = ", ".join(f"{name} {about['versions'][name]}" for name in ("python", "torch", "numpy", "simpy"))
    busy = f"; load average at its start {about['load_average'][0]:g}" if about["load_average"] else ""
    sentence = (
        f"Measured on {about['date'][:10]} at commit {about['commit']}: {about['machine']['processor']}, "
        f"{about['machine']['cores']} cores, {at}{busy}."
    ) + (f" Not measured: {', '.join(missing)}." if missing else "")
    return f"{sentence}\n\n{as_markdown(rows)}\n"


def with_block(page: str, block: str) -> str:
    """The page with another block between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{block}{END}{tail}"
