"""Which versions a result rests on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import hilsim


def versions() -> dict[str, str]:
    """What ran: hilsim, Python and the packages that numbers could depend on."""
    found = {"hilsim": hilsim.__version__, "python": platform.python_version()}
    for package in ("simpy", "numpy", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
