"""`agent --test`: check that a running agent follows the protocol and show what was found."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from hilsim.commands.agent_settings import address_of, token_of
from hilsim.errors import Fault, InputError
from hilsim.hardware.conformance.checks import CHECKS
from hilsim.hardware.conformance.exchanges import AgentUnderTest
from hilsim.hardware.conformance.suite import CheckResult, Outcome, findings

COLOURS: dict[Outcome, str] = {"passed": "green", "failed": "bold red", "left out": "dim"}


def run_conformance(options: argparse.Namespace) -> int:
    """`agent --test`: 0 where every check passed, 1 where one failed."""
    subject = subject_of(options)
    table = has_rich()
    found = []
    print(f"{len(CHECKS)} checks of {options.test}", flush=True)
    for finding in findings(subject):
        found.append(finding)
        if not table:
            print(f"{finding.outcome:8}  {finding.name}: {finding.found}", flush=True)
    if table:
        show(found)
    counts = {outcome: sum(finding.checks for finding in found if finding.outcome == outcome) for outcome in COLOURS}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if counts["failed"] else 0


def subject_of(options: argparse.Namespace) -> AgentUnderTest:
    """The agent that the arguments name. Raises `InputError` where they are wrong or no agent answers."""
    faults: list[Fault] = []
    address = options.test.removeprefix("tcp://")
    if address == options.test:
        faults.append(Fault("--test", options.test, "no tcp://", "tcp://HOST:PORT"))
    host, port = address_of(address, "--test", faults)
    token = token_of(options.token_file, faults)
    if len(options.model) > 1:
        faults.append(Fault("--model", ", ".join(options.model), "several", "the one to test with, by its name"))
    beside = {
        "--engine": options.engine, "--option": options.option, "--device": options.device,
        "--threads": options.threads, "--name": options.name,
    }  # fmt: skip
    for name, value in beside.items():
        if value:
            faults.append(Fault(name, str(value), "--test beside it", "one of the two", "It starts no agent."))
    if not faults:
        subject = AgentUnderTest(host, port, token, *options.model)
        try:
            with subject.connected():
                return subject
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            faults.append(Fault("--test", options.test, found, "a running agent"))
    raise InputError(faults)


def has_rich() -> bool:
    """Whether tables can be drawn."""
    try:
        importlib.import_module("rich")
    except ModuleNotFoundError:
        return False
    return True


def show(found: Sequence[CheckResult]) -> None:
    """The findings as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", box=None, pad_edge=False)
    for finding in found:
        table.add_row(finding.name, Text(finding.outcome, COLOURS[finding.outcome]), Text(finding.found))
    Console().print(table)
