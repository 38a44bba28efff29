"""Screened runs held against the event simulation, number by number."""

from __future__ import annotations

from hilsim.describe.setup import Setup
from hilsim.measure.metrics import Active, busy_ns, deliveries, token_instants
from hilsim.screen.costs import Tables
from hilsim.screen.request import (
    ACCEPTED,
    ARRIVED,
    CLAUSE,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT_BUSY,
    DRAFTED,
    DRAFTS,
    FINISHED,
    FIRST,
    ROUNDS,
    TARGET_BUSY,
    UP_BUSY,
    UP_BYTES,
)
from hilsim.screen.screening import screened
from hilsim.screen.tokens import Answers
from hilsim.sim.run import simulate
from hilsim.sources.source import LogitsSource


def differences(setup: Setup, words: Answers, source: LogitsSource, tables: Tables) -> list[str]:
    """Where a screened run is not the event simulation's; every instant, count, byte and occupied nanosecond."""
    policy = setup.scenario.policy
    found = screened(setup, policy, words, tables).requests
    trace = simulate(setup, source)
    rounds, busy = deliveries(trace), busy_ns(trace.spans, Active(trace.requests))
    wrong = []

    def hold(what: str, ours: int, theirs: int) -> None:
        if ours != theirs:
            wrong.append(f"{what}: {ours} instead of {theirs}")

    hold("requests", len(found), len(trace.requests))
    for ours, record in zip(found, trace.requests, strict=False):
        told = rounds[record.number]
        drafted = [one for one in told if one.drafted]
        instants = token_instants(told)
        name = f"request {record.number}"
        hold(f"{name} arrived", ours[ARRIVED], record.arrived_ns)
        hold(f"{name} first token", ours[FIRST], instants[0])
        hold(f"{name} first clause", ours[CLAUSE], instants[record.clause_tokens - 1])
        hold(f"{name} finished", ours[FINISHED], record.finished_ns)
        hold(f"{name} rounds", ours[ROUNDS], len(told))
        hold(f"{name} drafts", ours[DRAFTS], len(drafted))
        hold(f"{name} drafted", ours[DRAFTED], sum(one.drafted for one in drafted))
        hold(f"{name} accepted", ours[ACCEPTED], sum(one.accepted for one in drafted))
    total = found.sum(axis=0)
    drafting = setup.draft is not None and policy.needs_draft
    same = drafting and setup.draft.track == setup.target.track
    hold("target busy", total[TARGET_BUSY] + (total[DRAFT_BUSY] if same else 0), busy.get(setup.target.track, 0))
    if drafting and not same:
        hold("draft busy", total[DRAFT_BUSY], busy.get(setup.draft.track, 0))
    for way, occupied, nbytes in zip(trace.directions, (UP_BUSY, DOWN_BUSY), (UP_BYTES, DOWN_BYTES), strict=False):
        hold(f"{way} busy", total[occupied], busy.get(way, 0))
        hold(f"{way} bytes", total[nbytes], sum(span.nbytes for span in trace.spans if span.track == way))
    return wrong
