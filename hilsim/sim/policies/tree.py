"""A token tree of fixed shape (SpecInfer 2305.09781, Sequoia 2402.12374): more guesses a round, one masked verify.

draft chip   ▓root▓▓level 1▓▓level 2▓       a pass a level, as many rows as the level above has nodes
link                                 ▸ids▸           ◂path and token◂
target chip                                ▓all nodes▓

Tokens are the target's own, followed down the tree, so any rule that emits those is exact whatever the tree proposes.
Both chips retain the keys and values of the accepted path; moving them together is charged no time.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul

from hilsim.cost.step import Phase
from hilsim.describe.drafting import level_passes
from hilsim.describe.policy import Tree
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import RunContext, decode, draft_passes, inform, send_drafts, target_step, tell


def tree(context: RunContext, request: Request, policy: Tree) -> Process:
    """Draft a tree, verify it whole, keep one path, until the request is answered."""
    nodes = list(accumulate(policy.branches, mul))  # of each level
    while request.speculates:
        # The target adds a token of its own, so deeper levels are never used; the graph's shape is fixed.
        depth = min(len(policy.branches), request.room - 1)
        if depth == 0:
            yield from decode(context, request)
            continue
        yield from inform(context, request)
        start, before, cached = context.now, len(request.tokens), request.target_cached
        proposed = context.trees.draft_tree(request, policy.branches[:depth])
        executed = level_passes(context.head, tuple(nodes[:depth]), before - request.draft_cached)
        yield from draft_passes(context, request, executed, branching=True)
        yield from send_drafts(context, request, proposed)
        path, verdict = context.trees.verify_tree(request, proposed)
        step = context.board.target.step(Phase.VERIFY, before - cached + policy.nodes, cached, tree=True)
        yield from target_step(context, request, step)
        opened = context.commit(
            request,
            start,
            verdict.tokens(path),
            verdict.margins,
            drafted=len(proposed.tokens),
            accepted=verdict.accepted,
            depth=depth,
            single_ns=context.board.target.single_ns(cached),
        )
        request.after_verdict(before, depth, verdict.accepted, context.head)
        yield from tell(context, request, opened, policy.nodes + 1, path=verdict.accepted)
