"""Packages that only some questions need, and how to install them."""

from __future__ import annotations

from importlib.util import find_spec

from hilsim.errors import Fault, InputError

# The extra of pyproject.toml that brings each.
EXTRAS = {
    "matplotlib": "plots",
    "numba": "studies",
    "pandas": "studies",
    "pyarrow": "studies",
    "optuna": "search",
    "distributed": "clusters",
    "shtab": "completion",
}


def how_to_install(package: str) -> str:
    """The command that installs a package of an extra."""
    return f"pip install 'hilsim[{EXTRAS[package]}]'"


def require_package(package: str, asked_by: str, remedy: str = "") -> None:
    """Raises `InputError` where a package of an extra is not installed; `asked_by` is what needs it."""
    if find_spec(package) is None:
        install = f"{how_to_install(package)}{remedy}."
        raise InputError([Fault(asked_by, "", f"no {package}", "it installed", install)])
