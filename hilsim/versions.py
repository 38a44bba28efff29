"""Which versions a result rests on, and what is installed."""

from __future__ import annotations

import platform

import hilsim
from hilsim.extras import EXTRAS, how_to_install

USED = ("simpy", "numpy", "torch")  # packages that numbers could depend on


def version_of(package: str) -> str | None:
    """The version of a package, which is not imported; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow, and --help does without

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """What ran: hilsim, Python and the packages that numbers could depend on."""
    found = {"hilsim": hilsim.__version__, "python": platform.python_version()}
    return found | {package: version_of(package) or "absent" for package in USED}


def installed() -> str:
    """The versions of hilsim and of what it uses, a line each; of a missing package how to install it."""
    lines = versions() | {"pydantic": version_of("pydantic") or "absent"}
    for package in EXTRAS:
        lines[package] = version_of(package) or f"not installed: {how_to_install(package)}"
    return "\n".join(f"{name} {found}" for name, found in lines.items())
