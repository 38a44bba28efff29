"""hilsim: speculative decoding over two chips of one car, simulated before there is a board.

    import hilsim

    setup = hilsim.load("orin_8295", {"policy.draft_tokens": 7})
    print(hilsim.simulate(setup))

docs/api.md is the reference. Names are imported when they are first used, so that `import hilsim` is quick
and a board's agent runs with the standard library alone.
"""

from __future__ import annotations

from importlib import import_module

from hilsim._version import __version__ as __version__

TYPE_CHECKING = False  # typing would cost more to import than all the rest
if TYPE_CHECKING:
    from hilsim import engine, policy
    from hilsim.api import calibrate, campaign, check, compare, evaluate, explore, load, simulate, sweep, validate
    from hilsim.describe.setup import Setup
    from hilsim.errors import (
        CheckpointError,
        CompileError,
        Fault,
        HilsimError,
        InputError,
        PlacementError,
        ScenarioError,
        SimulationError,
    )
    from hilsim.show.campaigned import Campaigned
    from hilsim.show.check import Checked
    from hilsim.show.exploration import Explored
    from hilsim.show.frames import Records
    from hilsim.show.run import Run
    from hilsim.show.validation import Calibrated, Validated

__all__ = [
    "Calibrated",
    "Campaigned",
    "Checked",
    "CheckpointError",
    "CompileError",
    "Explored",
    "Fault",
    "HilsimError",
    "InputError",
    "PlacementError",
    "Records",
    "Run",
    "ScenarioError",
    "Setup",
    "SimulationError",
    "Validated",
    "calibrate",
    "campaign",
    "check",
    "compare",
    "engine",
    "evaluate",
    "explore",
    "load",
    "policy",
    "simulate",
    "sweep",
    "validate",
]
# Where names come from, other than the functions of hilsim/api.py.
HOMES = {
    "Calibrated": "hilsim.show.validation",
    "Campaigned": "hilsim.show.campaigned",
    "Checked": "hilsim.show.check",
    "CheckpointError": "hilsim.errors",
    "CompileError": "hilsim.errors",
    "Explored": "hilsim.show.exploration",
    "Fault": "hilsim.errors",
    "HilsimError": "hilsim.errors",
    "InputError": "hilsim.errors",
    "PlacementError": "hilsim.errors",
    "Records": "hilsim.show.frames",
    "Run": "hilsim.show.run",
    "ScenarioError": "hilsim.errors",
    "Setup": "hilsim.describe.setup",
    "SimulationError": "hilsim.errors",
    "Validated": "hilsim.show.validation",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'hilsim' has no attribute {name!r}")
    if name in ("engine", "policy"):
        return import_module(f"hilsim.{name}")
    found = globals()[name] = getattr(import_module(HOMES.get(name, "hilsim.api")), name)
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
