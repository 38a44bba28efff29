"""`make fuzz`: break hilsim with fresh inputs for a stated time; what fails becomes a file that a test reads again.

    python -m tests.fuzz --seconds 600 [--seed N] [--kind NAME]

Exit status: 0 nothing found; 1 something found; 130 interrupted, whatever was found.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time

from hilsim.study.threads import single_threaded

single_threaded()  # before NumPy and PyTorch are loaded

from tests.fuzz.kinds import KINDS  # noqa: E402
from tests.fuzz.search import Search  # noqa: E402

EVERY_S = 10  # between two lines of progress


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, metavar="S", help="how long (600)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), metavar="N", help="default: a fresh one")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only this kind; repeatable")
    options = parser.parse_args()
    kinds = [KINDS[name] for name in options.kind or KINDS]
    began = last = time.monotonic()

    def progress(search: Search) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY_S:
            last = time.monotonic()
            print(summary(search, last - began), file=sys.stderr, flush=True)

    search = Search(kinds, options.seed, lambda text: print(text, flush=True), progress)
    print(f"seed {options.seed}, {options.seconds:g} s, {len(kinds)} kinds", flush=True)
    stopped = False
    try:
        search.run(options.seconds)
    except KeyboardInterrupt:
        stopped = True
    print(summary(search, time.monotonic() - began))
    for name, count in sorted(search.tried.items()):
        print(f"{count:7d} {name}")
    for cause, file in search.found.items():
        print(f"FOUND {cause}\n      {file}")
    if search.found:
        print("python -m pytest tests/fuzz/test_found.py reads them again.")
    return 130 if stopped else int(bool(search.found))


def summary(search: Search, seconds: float) -> str:
    """How far a search is, in one line."""
    counts = f"{search.tried.total()} inputs, {search.refused} refused, {len(search.found)} found"
    return f"{seconds:.0f} s: {counts}"


if __name__ == "__main__":
    # Compile plans of broken scenarios are not for the user's own folder.
    with tempfile.TemporaryDirectory(prefix="hilsim-plans-") as cache:
        os.environ.setdefault("HILSIM_CACHE", cache)
        sys.exit(main())
