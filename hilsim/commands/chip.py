"""`chip`: A chip's figures and their sources, or the times of a model or a network on it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from hilsim.commands.arguments import Commands, whole


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "chip", help="a chip's figures and their sources, or the times of a model or a network on it"
    )
    parser.add_argument("chip", metavar="NAME", help="a chip by name, NAME@MODE or file")
    parser.add_argument("--model", metavar="NAME", help="time the steps of this model on every unit")
    parser.add_argument(
        "--context", metavar="N", type=whole(2, 10**7), default=1024,
        help="context length that the model is compiled for; steps are timed with half of it filled (1024)",
    )  # fmt: skip
    parser.add_argument(
        "--network", metavar="GMACS,PARAMS_M,OPERATORS", type=network, help="time a network, e.g. 4.35,3.2,254"
    )


def network(text: str) -> object:
    """A network as GMACS,PARAMS_M,OPERATORS."""
    from hilsim.describe.compiled import NetworkLoad

    try:
        gmacs, params_m, operators = (float(part) for part in text.split(","))
    except ValueError:
        gmacs = params_m = operators = -1.0
    if not (1e-9 <= gmacs < 1e9 and 0 <= params_m < 1e9 and 0 <= operators < 1e9 and operators == int(operators)):
        expected = "GMACs, millions of parameters and operators, such as 4.35,3.2,254"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return NetworkLoad(gmacs, params_m / 1000, int(operators))


def run(options: argparse.Namespace) -> int:
    """Print the chip's card."""
    from pathlib import Path

    from rich.console import Console

    from hilsim.describe.catalogue import config_of, load_chip, load_named
    from hilsim.describe.model import Model
    from hilsim.show.chip_card import print_card

    here, model = Path("--model"), None
    with argument("--chip", "chip"):
        chip = load_chip(options.chip, Path("--chip"))
    if options.model is not None:
        with argument("--model", "--model"):
            model = load_named("model", Model, options.model, here)
    print_card(Console(), chip, model, options.context, options.network)
    if model is not None and config_of(options.model, here) is not None:
        print(f"Note: {model.notes}")
    return 0


@contextmanager
def argument(named_in: str, name: str) -> Iterator[None]:
    """Faults in a name that an argument gives, with the argument as their only place: no "--model: model: ..."."""
    from dataclasses import replace

    from hilsim.describe.catalogue import PATH
    from hilsim.errors import InputError

    try:
        yield
    except InputError as error:
        places = (name.removeprefix("--"), PATH)
        faults = [
            replace(one, file=name, place="" if one.place in places else one.place) if one.file == named_in else one
            for one in error.faults
        ]
        raise type(error)(faults) from None
