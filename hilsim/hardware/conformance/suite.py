"""Does an agent keep to the protocol? Any agent, in any language: it is asked over the network, as a simulator would.

`python -m hilsim agent --test tcp://HOST:PORT` runs the checks of `conformance_checks` one after another. They need the
standard library alone, so that a board can be its own tester.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hilsim.errors import Fault, InputError
from hilsim.hardware.agent.arguments import address_of, token_of
from hilsim.hardware.conformance.checks import CHECKS
from hilsim.hardware.conformance.exchanges import Failed, LeftOut, Subject, Unmet
from hilsim.hardware.wire.frames import Closed, FrameError

Outcome = Literal["passed", "failed", "left out"]
COLOURS: dict[Outcome, str] = {"passed": "green", "failed": "bold red", "left out": "dim"}


@dataclass(frozen=True)
class Finding:
    """What came of one check, or of several that had no occasion."""

    name: str
    claim: str
    outcome: Outcome
    found: str
    checks: int = 1


def findings(subject: Subject, checks: Sequence[Callable[[Subject], str]] = CHECKS) -> Iterator[Finding]:
    """Run the checks in their order, up to one that cannot even shake hands."""
    for number, check in enumerate(checks, 1):
        name, claim = check.__name__.replace("_", " "), (check.__doc__ or "").strip()
        try:
            outcome, found = held(check, subject)
        except Unmet as unmet:
            yield Finding(name, claim, "failed", str(unmet))
            if left := len(checks) - number:
                yield Finding(f"the other {left}", "", "left out", "nothing can be asked without a handshake", left)
            return
        except OSError as error:
            outcome, found = "failed", f"{type(error).__name__}: {error}"
        yield Finding(name, claim, outcome, found)


def held(check: Callable[[Subject], str], subject: Subject) -> tuple[Outcome, str]:
    """Hold the agent against one check."""
    try:
        return "passed", check(subject)
    except LeftOut as reason:
        return "left out", str(reason)
    except Failed as failure:
        return "failed", str(failure)
    except TimeoutError:
        return "failed", "no answer in time"
    except Closed as closed:
        return "failed", "the connection ended" + (" in the middle of a frame" if closed.inside else "")
    except FrameError as error:
        return "failed", f"an answer that is no frame: {error}"
    except (KeyError, TypeError, ValueError) as error:  # an answer without a field that it must have, or a wrong one
        return "failed", f"an answer that cannot be used ({type(error).__name__}: {error})"


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


def subject_of(options: argparse.Namespace) -> Subject:
    """The agent that the arguments name. Raises `InputError` where they are wrong or nobody is there."""
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
        subject = Subject(host, port, token, *options.model)
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


def show(found: Sequence[Finding]) -> None:
    """The findings as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", box=None, pad_edge=False)
    for finding in found:
        table.add_row(finding.name, Text(finding.outcome, COLOURS[finding.outcome]), Text(finding.found))
    Console().print(table)
