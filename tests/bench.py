"""All speeds in one table: `make bench`, or `python -m tests.bench [--only SECTION ...] [--docs]`.

Every figure stands beside what it is compared with, measured in the same run where that is possible: bare SimPy, a live
run, bare forward passes, `transformers`; else an aim. A run is stored under out/bench/ and compared with the last one
of the same machine that has the section too. Sections run one after the other, each in a process of its own; one that
fails is named at the end. Whatever ends the bench, what was measured is stored.
Nothing is asserted about a speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hilsim.errors import InputError
from hilsim.files import written
from hilsim.places import CODE as PROJECT
from hilsim.show.table import Table
from tests.bench_rows import COLUMNS, LESS, Row, Rule, regressions, rows_of
from tests.bench_store import (
    DOCS,
    DOCS_JSON,
    README,
    README_BEGIN,
    README_END,
    STORED,
    Run,
    docs_block,
    last_of,
    readme_block,
    with_block,
)

# How much worse than in the last run is named: ratios within a run differ by a tenth from run to run, figures by more.
OF_RATIO, OF_FIGURE = 0.10, 0.30
MILLION_IN_60_S = 1e6 / 60 / 2  # configurations a second and core
CORE_US_EACH = 60e6 * 2 / 1e6  # microseconds of a core for one of them
INTERRUPTED = "interrupted"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Section:
    """A module of `tests` whose `measure()` gives figures by key, and how they are shown."""

    module: str
    rules: Sequence[Rule]
    environment: Mapping[str, str] = field(default_factory=dict)


SECTIONS = {
    "start-up": Section("bench_start", (
        Rule("nothing_.+"),
        Rule("help_s", "hilsim --help (aim: 0.1 s)", "s", "Python that does nothing", "nothing_s"),
        Rule("check_s", "hilsim check, plans kept (aim: 0.5 s)", "s", "Python that does nothing", "nothing_s"),
        Rule("replayed_s", "simulate.py, replayed (aim: 0.6 s)", "s", "Python that does nothing", "nothing_s"),
        Rule("live_s", "simulate.py, live", "s", "Python that does nothing", "nothing_s"),
        Rule("(.+)_cpu_s", r"\1: processor time", "s", "Python that does nothing", "nothing_cpu_s"),
        Rule("(.+)_mib", r"\1: memory", "MiB"),
    )),
    "events": Section("bench_events", (
        Rule("(.+)_(?:unkept_)?of_bare"),
        Rule("(.+)_unkept_rounds_per_s", r"\1, trace dropped", "rounds/s", "bare SimPy", r"\1_bare_rounds_per_s"),
        Rule("(.+)_rounds_per_s", r"\1, trace kept", "rounds/s", "bare SimPy", r"\1_bare_rounds_per_s"),
    )),
    "screened": Section("bench_screen", (
        Rule("(.+)_rounds_per_s", r"\1", "rounds/s"),
        Rule("placements_per_s", "configurations, one core", "1/s", "aim: a million in 60 s", MILLION_IN_60_S),
        Rule(r"us_each_(\d+)", r"one of \1 configurations, ranked", "us", "aim: a million in 60 s", CORE_US_EACH),
    )),
    "recording": Section("bench_record", (
        Rule("(.+), times_faster"),
        Rule("(.+), recording_s", r"\1 recorded, one thread", "s", "live run", r"\1, live_s"),
    ), ONE_THREAD),
    "studies": Section("bench_studies", (
        Rule("store_points"),
        Rule(r"dask_\d+_nothing_(of_.+|point_ms)"),  # points that do nothing: their rate alone says something
        Rule("(.+)_us_a_(task|point)", r"\1, a \2", "us"),
        Rule("store_open_s", "a store of many points is opened", "s", "aim", 1.0),
        Rule("(.+)_points_per_s", r"\1", "points/s"),
        Rule("(.+)_of_processes", r"\1: useful share of its processor time", "share", "aim", 0.9),
        Rule("(.+)_of_cores", r"\1: useful share of the cores", "share", "aim", 0.9),
        Rule(r"workers_(\d+)_(\d+)_ms", r"\1 workers, points of \2 ms: useful share, modelled", "share"),
    )),
    "serve": Section("bench_serve", (
        Rule("screened_(.+)_ms", r"answer to a change: \1, screened", "ms", "aim", 200.0),
        Rule("events_(.+)_ms", r"answer to a change: \1, by events", "ms", "aim", 200.0),
        Rule("figures_ms", "figures of the run, in pieces", "ms"),
        Rule("longest_piece_ms", "the longest piece of these", "ms"),
    )),
    "run": Section("bench_run", (
        Rule("(.+)_over_forward", r"\1: over bare forward passes", "times", "bare forward passes", 1.0),
        Rule("dashboard_share", "dashboard: share of the run", "share"),
        Rule("dashboard_frames"),
    )),
    "decoding": Section("bench_decode", (
        Rule("(.*?)_?ratio"),
        Rule("(.*)hilsim_tokens_s", r"\1one thread", "tokens/s", "transformers", r"\1transformers_tokens_s"),
    ), ONE_THREAD),
}  # fmt: skip
CHILD = """\
import json, resource
from tests.{module} import measure
figures = measure()
print(json.dumps([figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10]))"""


class SectionError(Exception):
    """A section gave no figures, and why."""


def measured(section: Section) -> dict[str, Any]:
    """The figures of a section, from a process of its own; how long that took and how much memory it held.

    Raises `SectionError`.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(module=section.module)],
        cwd=PROJECT, env=os.environ | section.environment, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SectionError(f"ended with status {done.returncode}")
    try:
        figures, mib = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError, TypeError):
        raise SectionError("printed no figures") from None
    return {"figures": figures, "took_s": round(time.perf_counter() - began, 1), "peak_mib": round(mib)}


def run_sections(
    names: Sequence[str], found: Run, store: Callable[[], None], measure: Callable[[Section], dict[str, Any]] = measured
) -> dict[str, str]:
    """Measure sections into a run, which is stored after each; those that were not measured, and why.

    Ctrl-C ends all that are left.
    """
    failed: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        print(f"{number} of {len(names)}: {name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            found.sections[name] = measure(SECTIONS[name])
            store()
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            return failed | {left: INTERRUPTED for left in names[number - 1 :] if left not in found.sections}
        except SectionError as error:
            print(error, file=sys.stderr)
            failed[name] = str(error)
            continue
        print("{took_s:.0f} s, {peak_mib} MiB".format(**found.sections[name]), file=sys.stderr)
    return failed


def rows_in(found: Run) -> list[Row]:
    """The table of a run, its sections in the order in which they are listed here."""
    return [
        row
        for name, section in SECTIONS.items()
        if name in found.sections
        for row in rows_of(name, found.sections[name]["figures"], section.rules)
    ]


def show(found: Run, earlier: Mapping[str, Run]) -> None:
    """Print the table, and what is worse than before: than in the earlier run of each section."""
    rows = rows_in(found)
    sections = [place for place in range(1, len(rows)) if rows[place].section != rows[place - 1].section]
    Table(COLUMNS, [row.cells for row in rows], left=2, sections=sections).print()
    print(f"Less is better of figures in {', '.join(LESS)}; more of the others.")
    if missing := [name for name in SECTIONS if name in found.sections and name not in earlier]:
        print(f"No earlier run of this machine has {', '.join(missing)}.")
    if not earlier:
        return
    before = [row for name, run in earlier.items() for row in rows_in(run) if row.section == name]
    worse = regressions(before, rows, of_ratio=OF_RATIO, of_figure=OF_FIGURE)
    against: dict[str, list[str]] = {}
    for name, run in earlier.items():
        against.setdefault(f"{run.about['date']} ({run.about['commit']})", []).append(name)
    runs = "; ".join(f"{run}: {', '.join(names)}" for run, names in against.items())
    print(
        f"Against {runs}; by more than {OF_RATIO:.0%} of a ratio within a run, or {OF_FIGURE:.0%} of a figure without "
        f"one: {'worse are' if worse else 'nothing is worse.'}"
    )
    for change in worse:
        print(f"  {change}")


def page_of(found: Run, page: str) -> str:
    """The page with the table of a run."""
    missing = [name for name in SECTIONS if name not in found.sections]
    return with_block(page, docs_block(found, rows_in(found), missing))


def readme_of(found: Run, readme: str) -> str:
    """The README with the sentence of a run."""
    return with_block(readme, readme_block(found), README_BEGIN, README_END)


def write_docs(found: Run) -> None:
    """Put the table into docs/speed.md, the run beside it, and a sentence into the README."""
    found.write(DOCS_JSON)
    for file, renewed in ((DOCS, page_of), (README, readme_of)):
        page = renewed(found, file.read_text(encoding="utf-8"))
        with written(file) as path:
            path.write_text(page, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=list(SECTIONS),
                        help=f"some of {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, default=STORED, help="where runs are stored")
    parser.add_argument(
        "--docs", action="store_true", help="also write docs/speed.md, docs/speed.json and the sentence in README.md"
    )
    parser.add_argument("--stored", metavar="FILE", type=Path, help="show a stored run; nothing is measured")
    options = parser.parse_args()
    try:
        return bench(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def bench(options: argparse.Namespace) -> int:
    """Measure, or read what was; show it; write what is wanted. Returns the exit status."""
    failed: dict[str, str] = {}
    if options.stored is not None:
        found = Run.read(options.stored)
    else:
        found = Run.begin()
        file = options.out / found.file_name
        failed = run_sections(options.only, found, partial(found.write, file))
        print(f"stored: {file}" if found.sections else "nothing was measured")
    if found.sections:
        show(found, last_of(options.out, found))
    for name, why in failed.items():
        print(f"not measured: {name}: {why}", file=sys.stderr)
    if failed:
        return 130 if INTERRUPTED in failed.values() else 1
    if options.docs:
        write_docs(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
