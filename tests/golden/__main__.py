"""Run the manifest's commands again: python -m tests.golden [--only PATTERN] [--jobs N] [--check]

Prints every value that changed and the wall times, and stores both; with --check stores nothing, and the exit status is
1 where something differs. Compile plans come from the user's cache folder or HILSIM_CACHE: name an empty one there to
have all of them made again, which takes minutes more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatch

from tests.golden.entries import ENTRIES
from tests.golden.manifest import FOLDER, differences, processor, spelled, store, stored, values_of

WALL = FOLDER.parent / "wall.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__.partition("\n")[2])
    parser.add_argument("--only", metavar="PATTERN", default="*", help="entries whose name matches, such as 'papers/*'")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="commands at once (1)")
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(arguments)
    entries = [entry for entry in ENTRIES if fnmatch(entry.name, options.only)]
    if not entries:
        parser.error(f"--only {options.only} matches none of {', '.join(entry.name for entry in ENTRIES)}")
    before = wall_times()
    after: dict[str, float] = {}
    changed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(values_of, entry): entry for entry in entries}
        for done in as_completed(running):
            entry, (values, took) = running[done], done.result()
            after[entry.name] = round(took, 1)
            old = stored(entry)
            lines = ["new"] if old is None else differences(old, values)
            changed += bool(lines)
            was = f"{before[entry.name]:.1f} s" if entry.name in before else "-"
            print(f"{entry.name}: {len(lines)} differ; {was} -> {took:.1f} s", flush=True)
            for line in lines:
                print(f"  {line}", flush=True)
            if lines and not options.check:
                store(entry, values)
    names = {entry.name for entry in ENTRIES}
    for file in sorted(FOLDER.rglob("*.json")):
        name = file.relative_to(FOLDER).with_suffix("").as_posix()
        if name not in names and fnmatch(name, options.only):
            changed += 1
            print(f"{name}: gone, no entry has this name")
            if not options.check:
                file.unlink()
    print(f"{len(entries)} entries, {changed} changed; {sum(after.values()):.0f} s of commands")
    if options.check:
        return int(changed > 0)
    seconds = {name: took for name, took in (wall_times() | after).items() if name in names}
    WALL.write_text(spelled({"processor": processor(), "seconds": seconds}) + "\n", encoding="utf-8")
    return 0


def wall_times() -> dict[str, float]:
    """Seconds by entry, as stored."""
    found: dict[str, float] = json.loads(WALL.read_text(encoding="utf-8"))["seconds"] if WALL.is_file() else {}
    return found


if __name__ == "__main__":
    sys.exit(main())
