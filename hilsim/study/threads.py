"""One thread a process: points run beside each other, sums of many threads could round other last bits, and the passes
of small networks are slower by several threads than by one: by ten times where another process takes a core.
"""

from __future__ import annotations

import os

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def single_threaded() -> None:
    """Have the libraries of this process and its children use one thread; to be called before they are imported.

    What the user has set stays.
    """
    for name in LIMITS:
        os.environ.setdefault(name, "1")
