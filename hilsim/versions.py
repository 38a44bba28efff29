"""Which versions a result rests on, and what is installed."""

from __future__ import annotations

import platform
from importlib.util import find_spec

import hilsim
from hilsim.errors import Fault, InputError

USED = ("simpy", "numpy", "torch")  # packages that numbers could depend on
EXTRAS = {
    "plot": "matplotlib", "study": "pyarrow", "search": "optuna", "cluster": "distributed", "screen": "numba",
    "completion": "shtab",
}  # fmt: skip


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
    for extra, package in EXTRAS.items():
        lines[package] = version_of(package) or f"not installed: {how_to_install(extra)}"
    return "\n".join(f"{name} {found}" for name, found in lines.items())


def how_to_install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install hilsim[{extra}]"


def require_extra(extra: str, option: str) -> None:
    """Raise `InputError` where the package behind an extra, which an option needs, is not installed."""
    package = EXTRAS[extra]
    if find_spec(package) is None:
        raise InputError([Fault(option, "", f"no {package}", "it installed", f"Run {how_to_install(extra)}.")])
