"""Models against rule profiles: the cells of a table, its CSV rows and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hilsim.show.compile import refused_operators
from hilsim.show.kinds import BAD, DRAFT, GOOD, INK, TARGET
from hilsim.show.numbers import duration
from hilsim.show.plots.canvas import canvas
from hilsim.show.table import Table
from hilsim.study.profiles import CompileResult

COLOURS = {"as it is": GOOD, "rewritten": TARGET, "in pieces": DRAFT, "refused": BAD}


COSTED = ("as it is", "rewritten")  # outcomes with a cost: work off the unit is not timed here
MARKS = {"as it is": "ok", "rewritten": "r", "in pieces": "p", "refused": "refused"}
WORDS = {
    "as it is": "ok: as it is",
    "rewritten": "2r +T: 2 operators rewritten, T more a pass of 8 rows",
    "in pieces": "2p 9x: 2 operators run elsewhere, the unit is left 9 times",
    "refused": "refused",
}
LEGEND = (
    "ok: as it is; Nr +T: N operators rewritten, which adds T to a pass of 8 rows (to a prompt, for a network); "
    "Np Mx: N operators run off the unit, which a pass leaves M times. Models are taken as Llama-family decoders of "
    "their sizes: logit caps, further norms and biases of their own are left out."
)


def cell_text(cell: CompileResult) -> str:
    """A cell in at most a dozen characters: refused operators, outcome, cost."""
    plan = cell.plan
    if plan.outcome in ("as it is", "refused"):
        return MARKS[plan.outcome]
    if plan.outcome == "in pieces":
        return f"{len(refused_operators(plan))}p {plan.graphs[-1].crossings}x"
    return f"{len(refused_operators(plan))}{MARKS[plan.outcome]} +{duration(cell.more_ms)}"


def cells_table(cells: Sequence[CompileResult]) -> Table:
    """A table with a row for each model and profile; `more_ms` in milliseconds a pass."""
    rows = []
    for cell in cells:
        plan, graph = cell.plan, cell.plan.graphs[-1]
        rows.append(
            {
                "model": cell.model,
                "profile": cell.profile,
                "chip": cell.chip,
                "precision": plan.precision,
                "outcome": plan.outcome,
                "refused": " ".join(refused_operators(plan)),
                "rewrites": " ".join(dict.fromkeys(use.name for use in graph.chosen)),
                "crossings": graph.crossings,
                "pieces": graph.pieces,
                "more_ms": f"{cell.more_ms:.4f}" if plan.outcome in COSTED else None,
            }
        )
    return Table.of(rows)


def draw(cells: Sequence[CompileResult], profiles: Sequence[str], path: Path, kind: str) -> None:
    """A grid coloured by outcome, with the cost of an 8-row pass in it."""
    from matplotlib.patches import Patch, Rectangle

    models = list(dict.fromkeys(cell.model for cell in cells))
    figure = canvas(1.4 * len(profiles) + 2.1, 0.4 * len(models) + 1.2)
    axes = figure.subplots()
    for cell in cells:
        x, y = profiles.index(cell.profile), models.index(cell.model)
        axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=COLOURS[cell.plan.outcome]))
        axes.text(x, y, cell_text(cell), ha="center", va="center", fontsize=9, color=INK)
    axes.set_xlim(-0.55, len(profiles) - 0.45)
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.set_xticks(range(len(profiles)), profiles, fontsize=9)
    axes.set_yticks(range(len(models)), [model.rpartition(":")[2] for model in models], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.legend(
        handles=[Patch(color=COLOURS[outcome], label=label) for outcome, label in WORDS.items()],
        loc="outside lower center", ncols=2, frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path, format=kind, dpi=120)
