"""Files beside a table, `--plot` and `--csv`: refused before the work, written whole after it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from hilsim.commands.arguments import place
from hilsim.errors import Fault, InputError
from hilsim.files import place_faults, written
from hilsim.versions import require_package

PICTURES = (".png", ".svg", ".pdf")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The two options."""
    parser.add_argument("--plot", metavar="FILE", type=place, help="also a picture (PNG, SVG or PDF)")
    parser.add_argument("--csv", metavar="FILE", type=place, help="also a CSV")


def require_outputs(options: argparse.Namespace) -> None:
    """Refuse what could not be written."""
    if options.plot is not None:
        require_plot(options.plot)
    if options.csv is not None:
        require_place(options.csv, "--csv")


def write_outputs(
    options: argparse.Namespace, draw: Callable[[Path, str], None], table: Callable[[TextIO], None]
) -> None:
    """Call `draw` with a path and the kind of picture, `table` with an open file, where the command line names them."""
    if options.plot is not None:
        with written(options.plot) as path:
            draw(path, options.plot.suffix[1:])
    if options.csv is not None:
        with written(options.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            table(file)


def add_html(parser: argparse.ArgumentParser, contents: str) -> None:
    """The option of a page."""
    parser.add_argument("--html", metavar="FILE", type=place, help=f"also one self-contained page: {contents}")


def require_html(options: argparse.Namespace) -> None:
    """Refuse a page that could not be written before the work, not after it."""
    if options.html is not None:
        require_package("bokeh", "--html")
        require_place(options.html, "--html")


def require_place(file: Path, option: str) -> None:
    """Refuse a place that cannot be written to before the work, not after it."""
    if faults := place_faults(file, option):
        raise InputError(faults)


def require_plot(file: Path) -> None:
    """Refuse a picture that could not be drawn before the work, not after it."""
    if file.suffix not in PICTURES:
        found = repr(file.suffix) if file.suffix else "no ending"
        raise InputError([Fault(str(file), "--plot", found, f"a name that ends in {', '.join(PICTURES)}")])
    require_package("matplotlib", "--plot")
    require_place(file, "--plot")
