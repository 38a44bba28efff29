"""Which versions a result rests on, and what is installed."""

from __future__ import annotations

import platform
from importlib.util import find_spec

from hilsim._version import __version__
from hilsim.errors import Fault, InputError

USED = ("simpy", "numpy", "torch")  # packages that numbers could depend on
# The extra of pyproject.toml that brings each package which only some questions need.
EXTRAS = {
    "matplotlib": "plots", "numba": "studies", "pandas": "studies", "pyarrow": "studies", "optuna": "search",
    "distributed": "clusters", "shtab": "completion", "bokeh": "pages", "prometheus_client": "metrics",
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
    found = {"hilsim": __version__, "python": platform.python_version()}
    return found | {package: version_of(package) or "absent" for package in USED}


def installed() -> str:
    """The versions of hilsim and of what it uses, a line each; of a missing package how to install it."""
    lines = versions() | {"pydantic": version_of("pydantic") or "absent"}
    for package in EXTRAS:
        lines[package] = version_of(package) or f"not installed: {how_to_install(package)}"
    return "\n".join(f"{name} {found}" for name, found in lines.items())


def how_to_install(package: str) -> str:
    """The command that installs a package of an extra."""
    return f"pip install 'hilsim[{EXTRAS[package]}]'"


def require_package(package: str, asked_by: str, otherwise: str = "") -> None:
    """Raises `InputError` where a package of an extra is not installed; `asked_by` is the option that needs it."""
    if find_spec(package) is None:
        remedy = f"Run {how_to_install(package)}{otherwise}."
        raise InputError([Fault(asked_by, "", f"no {package}", "it installed", remedy)])
