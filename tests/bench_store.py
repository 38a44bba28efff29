"""Runs of the bench as files: what was measured, on which machine, of which commit; and the table in docs/speed.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hilsim.errors import Fault, InputError
from hilsim.files import reason, written
from hilsim.places import CODE as PROJECT
from hilsim.show.numbers import three_digits
from hilsim.versions import versions
from tests.bench_rows import Row, as_markdown

STORED = PROJECT / "out" / "bench"
DOCS, DOCS_JSON = PROJECT / "docs" / "speed.md", PROJECT / "docs" / "speed.json"
README, WIDTH = PROJECT / "README.md", 135
BEGIN, END = "<!-- written by python -m tests.bench --docs -->\n", "<!-- end of what it writes -->\n"
README_BEGIN, README_END = "<!-- by python -m tests.bench --docs -->", "<!-- end -->"
ABOUT = ("date", "commit", "machine", "load_average", "versions")
# What the README has of a run: the section and key of a figure, and the words around it.
HEADLINES = (
    ("start-up", "check_s", "`hilsim check` takes {} s"),
    ("start-up", "replayed_s", "a replayed run {} s"),
    ("decoding", "target, ratio", "decoding runs at {} times the rate of `transformers`"),
    ("events", "sync_of_bare", "the event path at {} of that of bare SimPy"),
    ("screened", "placements_per_s", "a core of the explorer tries {} configurations a second"),
)


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
        """A run from its file. Raises `InputError` for one that cannot be read or holds something else."""
        expected = "a stored run of the bench"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            about = {**found["about"]}
            sections = {
                name: {**section, "figures": {**section["figures"]}} for name, section in found["sections"].items()
            }
            strange = [
                key for one in sections.values() for key, figure in one["figures"].items() if not is_figure(figure)
            ]
            strange += [key for key in ABOUT if key not in about]
        except OSError as error:
            raise InputError([Fault(str(file), "", reason(error), expected)]) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError([Fault(str(file), "", "another file", expected)]) from None
        if strange:
            raise InputError([Fault(str(file), "", f"no usable {', '.join(strange)}", expected)])
        return cls(about, sections)

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


def is_figure(value: object) -> bool:
    """Whether a value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def last_of(folder: Path, found: Run) -> dict[str, Run]:
    """By section of a run, the last stored one before it, of the same machine, that has the section too."""
    files = [file for file in sorted(folder.glob("*.json")) if file.name < found.file_name]
    last: dict[str, Run] = {}
    for file in reversed(files):
        if len(last) == len(found.sections):
            break
        run = Run.read(file)
        if run.about["machine"] == found.about["machine"]:
            last |= {name: run for name in found.sections if name in run.sections and name not in last}
    return last


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


def readme_block(run: Run) -> str:
    """What the README says of a run: some of its figures, in a sentence."""
    parts = [
        words.format(three_digits(run.sections[section]["figures"][key]))
        for section, key, words in HEADLINES
        if key in run.sections.get(section, {"figures": {}})["figures"]
    ]
    machine = run.about["machine"]
    at = f"On {machine['cores']} cores of {machine['processor']} ({run.about['date'][:10]}) "
    sentence = at + (", ".join(parts) if parts else "nothing of it is measured") + "."
    return "\n" + textwrap.fill(sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")


def with_block(page: str, block: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with another block between its marks."""
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}{block}{end}{tail}"
