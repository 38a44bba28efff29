"""A finding: one node, or one whole graph, against one rule of one profile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hilsim.describe.profile import Evidence, Severity


@dataclass(frozen=True)
class Finding:
    """`node`, `operator`, `module`, `line` are empty where the finding is about the graph as a whole.

    `rewrites` are the names of rewrites that could fix it, `remedy` is advice as text.
    """

    graph: str
    rule: str
    severity: Severity
    profile: str
    reason: str
    source: str
    evidence: Evidence
    remedy: str = ""
    rewrites: tuple[str, ...] = ()
    node: str = ""
    operator: str = ""
    module: str = ""
    call: int = 0
    line: str = ""

    @property
    def place(self) -> str:
        """Node, module path and call, and source line, as far as there are any."""
        call = f" call {self.call + 1}" if self.call else ""
        somewhere = bool(self.node or self.module or self.line)  # sizes are about no module
        parts = [self.node, f"{module_text(self.module)}{call}" if somewhere else "", self.line]
        return ", ".join(part for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def module_text(module: str) -> str:
    """A module in words: its path, which the outermost one has none of."""
    return module or "the module itself"
