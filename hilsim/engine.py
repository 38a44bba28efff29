"""What the author of a board's engine needs, and the only module to import it from: see docs/tutorials/engine.md.

It needs the standard library alone, as the agent does.
"""

from hilsim.hardware.agent.engine import Engine, EngineFacts, Output
from hilsim.hardware.agent.subprocess_engine import Subprocess

__all__ = ["Engine", "EngineFacts", "Output", "Subprocess"]
