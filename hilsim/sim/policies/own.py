"""Loads a policy from a user's own file, checks its parameters before anything runs, and reports its failures."""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

import simpy

from hilsim.describe.catalogue import located
from hilsim.describe.policy import Own
from hilsim.errors import Fault, HilsimError, InputError
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.trust import require_code


def loaded(policy: Own, scenario: str) -> Callable[..., Process]:
    """The function of a user's policy. Raises `InputError` where it is missing or does not take its parameters.

    Exceptions while the file is read become a fault as well, and those of the function later (`watched`).
    """
    name, _, function_name = policy.function.rpartition(":")
    file = located(name, Path(scenario))

    def fault(found: str, expected: str, remedy: str = "") -> InputError:
        return InputError([Fault(scenario, "policy.function", f"{policy.function!r}, {found}", expected, remedy)])

    if not file.is_file():
        raise fault("and no such file", "a Python file beside the scenario or in the project")
    require_code(policy.function, [file], scenario, "policy.function", Path(scenario))
    spec = importlib.util.spec_from_file_location(f"own_policy_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file can raise anything
        raise fault(f"which fails with {type(error).__name__}: {error}", "a file that Python can read") from error
    function = getattr(module, function_name, None)
    if not inspect.isgeneratorfunction(function):
        known = [name for name, value in vars(module).items() if inspect.isgeneratorfunction(value)]
        expected = f"a generator function of that file: {', '.join(known)}" if known else "a generator function"
        raise fault("which is not a generator function", expected, "It must yield.")
    try:
        inspect.signature(function).bind(None, None, **policy.parameters)
    except TypeError as error:
        expected = f"what {function_name}{inspect.signature(function)} takes"
        raise InputError([Fault(scenario, "policy.parameters", str(error), expected)]) from None
    return watched(function, policy, scenario)


def watched(function: Callable[..., Process], policy: Own, scenario: str) -> Callable[..., Process]:
    """The function, its failures raised as faults of the scenario: the line that failed, or an unfinished answer."""

    def fault(found: str, expected: str) -> InputError:
        return InputError([Fault(scenario, "policy.function", f"{policy.function!r}, {found}", expected)])

    def run(context: RunContext, request: Request) -> Process:
        try:
            yield from function(context, request, **policy.parameters)
        except (HilsimError, GeneratorExit, simpy.Interrupt):
            raise
        except (Exception, SystemExit) as error:  # a user's function can raise anything
            lines = [
                frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.name == function.__name__
            ]
            where = f" in line {lines[-1]}" if lines else ""
            raise fault(f"which fails{where} with {type(error).__name__}: {error}", "a function that runs") from error
        if request.speculates:
            raise fault("which ends before the answer does", "a loop while request.speculates")

    return run
