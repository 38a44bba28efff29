"""Does an agent keep to the protocol? Any agent, in any language: it is asked over the network, as a simulator would.

`python -m hilsim agent --test tcp://HOST:PORT` runs the checks of `conformance_checks` one after another. They need the
standard library alone, so that a board can be its own tester.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hilsim.hardware.conformance.checks import CHECKS
from hilsim.hardware.conformance.exchanges import AgentUnderTest, Failed, NotApplicable, Unmet
from hilsim.hardware.wire.frames import Closed, FrameError

Outcome = Literal["passed", "failed", "left out"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check, or of several that were left out."""

    name: str
    statement: str
    outcome: Outcome
    found: str
    checks: int = 1


def findings(
    subject: AgentUnderTest, checks: Sequence[Callable[[AgentUnderTest], str]] = CHECKS
) -> Iterator[CheckResult]:
    """Run the checks in their order, up to one that cannot even shake hands."""
    for number, check in enumerate(checks, 1):
        name, statement = check.__name__.replace("_", " "), (check.__doc__ or "").strip()
        try:
            outcome, found = held(check, subject)
        except Unmet as unmet:
            yield CheckResult(name, statement, "failed", str(unmet))
            if left := len(checks) - number:
                yield CheckResult(f"the other {left}", "", "left out", "nothing can be asked without a handshake", left)
            return
        except OSError as error:
            outcome, found = "failed", f"{type(error).__name__}: {error}"
        yield CheckResult(name, statement, outcome, found)


def held(check: Callable[[AgentUnderTest], str], subject: AgentUnderTest) -> tuple[Outcome, str]:
    """Run one check on the agent."""
    try:
        return "passed", check(subject)
    except NotApplicable as reason:
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
