"""Findings: one node, or one whole graph, against one rule of one profile; and what compiles and is slow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hilsim.describe.figure import Kind
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


@dataclass(frozen=True, kw_only=True)
class SlowFinding:
    """What compiles and takes longer than it must: a pattern of nodes in one graph.

    Times are seconds a pass, over all layers of the deployed model: `takes_s` as it is, `could_s` of the better form,
    `low_s` to `high_s` the gain over the ranges of assumed rates, `kind` the evidence for them. `factor` is how many
    times as long the whole pass takes as it would with this alone mended, `factor_low` and `factor_high` its range.
    `count` is of nodes over all layers; `nodes` is empty where the finding is about the graph as a whole. `rewrite` is
    a rewrite's name or "", `exactness` what it keeps. `beyond_s` is what of `takes_s` the clock's time of the pass
    lacks: it has products, launches of a network, and the work of a head behind the logits. `source` is the pattern's,
    `figures` those of rates and of how operators are lowered.
    """

    graph: str
    name: str
    title: str
    module: str = ""
    line: str = ""
    nodes: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    count: int = 0
    takes_s: float
    could_s: float = 0.0
    low_s: float
    high_s: float
    factor: float = 1.0
    factor_low: float = 1.0
    factor_high: float = 1.0
    kind: Kind = "assumed"
    rewrite: str = ""
    exactness: str = ""
    remedy: str
    source: str
    figures: tuple[str, ...] = ()
    beyond_s: float = 0.0

    @property
    def gain_s(self) -> float:
        """Seconds a pass that the better form saves."""
        return self.takes_s - self.could_s

    @property
    def place(self) -> str:
        """Module path and source line of the first node, as far as there are any."""
        return ", ".join(part for part in (self.module, self.line) if part)


def module_text(module: str) -> str:
    """A module in words: its path, which the outermost one has none of."""
    return module or "the module itself"
