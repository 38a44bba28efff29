"""The engine's class from what `--engine` names, and engines made of it. Nothing else is ever loaded."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from hilsim.errors import Fault, InputError
from hilsim.hardware.agent.engine import Engine
from hilsim.trust import code_files, require_code

CHECKPOINT = "hilsim.hardware.agent.checkpoint:Checkpoint"
METHODS = ("load", "prefill", "step", "rewind", "close")
Make = Callable[[], Engine]


def engine_class(spec: str) -> type:
    """The class that FILE.py:CLASS or PACKAGE.MODULE:CLASS names. Raises `InputError`."""
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise refused(spec, "no colon between module and class", "FILE.py:CLASS or PACKAGE.MODULE:CLASS")
    require_code(spec, code_files(place, None), "--engine", "")
    try:
        module = from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except FileNotFoundError:
        raise refused(spec, "no such file", "a Python file that can be read") from None
    except ModuleNotFoundError as error:
        remedy = f"Install {error.name}, or name another engine."
        raise refused(spec, f"no module {error.name!r}", "an engine that can be imported", remedy) from None
    except (Exception, SystemExit) as error:  # an imported file may raise anything
        found = f"an import that failed ({type(error).__name__}: {error})"
        raise refused(spec, found, "an engine that can be imported") from error
    found_class = getattr(module, name, None)
    if not inspect.isclass(found_class):
        known = [key for key, value in vars(module).items() if inspect.isclass(value) and is_engine(value)]
        no_engine = f"a class with {', '.join(METHODS)}, and there is none in {place}"
        raise refused(spec, f"no class {name!r}", f"one of {', '.join(known)}" if known else no_engine)
    if missing := [method for method in METHODS if not callable(getattr(found_class, method, None))]:
        raise refused(spec, f"a class without {', '.join(missing)}", "the methods of hilsim.engine.Engine")
    return found_class


def is_engine(candidate: type) -> bool:
    """Whether a class has all an engine needs."""
    return all(callable(getattr(candidate, method, None)) for method in METHODS)


def from_file(file: Path) -> ModuleType:
    """A Python file as a module; what lies beside it may be imported."""
    file = file.resolve()
    if not file.is_file():
        raise FileNotFoundError(file)
    spec = importlib.util.spec_from_file_location(f"own_engine_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses look themselves up there
    sys.path.insert(0, str(file.parent))
    spec.loader.exec_module(module)
    return module


def makers(
    engine: type, spec: str, models: Mapping[str, Path], options: Mapping[str, str]
) -> dict[str, Callable[[], Engine]]:
    """For each model what makes its engine. Raises `InputError` where the options are not the class's."""
    parameters = inspect.signature(engine)
    try:
        parameters.bind(Path(), **options)
    except TypeError as error:
        expected = f"what {engine.__name__}{parameters} takes"
        raise InputError([Fault("--option", spec, str(error), expected)]) from None
    return {name: maker(engine, path, options) for name, path in models.items()}


def maker(engine: type, path: Path, options: Mapping[str, str]) -> Make:
    def make() -> Engine:
        made: Engine = engine(path, **options)
        return made

    return make


def refused(spec: str, found: str, expected: str, remedy: str = "") -> InputError:
    """The one fault of a spec."""
    return InputError([Fault("--engine", spec, found, expected, remedy)])
