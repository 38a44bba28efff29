"""Compile plans as data: in short for a run's document, and what several views of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hilsim.compiler.plan import Chosen, Plan


def plan_in_short(plan: Plan) -> dict[str, Any]:
    """A plan in brief, as in a run's document."""
    return {
        "subject": plan.subject,
        "unit": plan.unit,
        "precision": plan.precision,
        "profile": plan.profile,
        "outcome": plan.outcome,
        "refused_operators": refused_operators(plan),
        "rewrites": [
            {"name": use.name, "for": target_of(use), "in": use.module, "exactness": use.exactness, "bytes": use.bytes}
            for use in first_uses(plan)
        ],
        "graphs": [
            {
                "name": graph.name,
                "costs_ms": plan.more_seconds(graph) * 1000,
                "rewrites_ms": sum(use.seconds for use in graph.chosen) * 1000,
                "crossings": graph.crossings,
            }
            for graph in plan.graphs
        ],
        "rewrite_bytes": plan.rewrite_bytes,
        "memory": [{"what": what, "bytes": nbytes} for what, nbytes in plan.items],
        "notes": list(plan.notes),
    }


def refused_operators(plan: Plan) -> list[str]:
    """Operators, or modules called again, with an error; each once."""
    errors = [found for graph in plan.graphs for found in graph.findings if found.severity == "error"]
    return list(dict.fromkeys(found.operator or f"{found.rule} {found.module}" for found in errors))


def first_uses(plan: Plan) -> list[Chosen]:
    """Each rewrite of each operator once, as the first graph has it."""
    found: dict[tuple[str, str, str], Chosen] = {}
    for graph in plan.graphs:
        for use in graph.chosen:
            found.setdefault(key_of(use), use)
    return list(found.values())


def key_of(use: Chosen) -> tuple[str, str, str]:
    """What makes two uses the same: rewrite, operator, and the module where that is what is rewritten."""
    return use.name, use.operator, use.module if use.operator == "module call" else ""


def target_of(use: Chosen) -> str:
    """What is rewritten."""
    return f"module {use.module}" if use.operator == "module call" else use.operator


def assumed_rules(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Rules that made findings and that no vendor or project documents."""
    found = []
    for plan in plans:
        for graph in plan.graphs:
            for finding in graph.findings:
                if finding.evidence == "documented" or finding.severity != "error":
                    continue
                line = {
                    "figure": f"{plan.profile}.{finding.operator or finding.rule}",
                    "value": "refused",
                    "kind": finding.evidence,
                    "source": finding.source,
                }
                if line not in found:
                    found.append(line)
    return found
