"""A token tree (SpecInfer 2305.09781, Sequoia 2402.12374, EAGLE-2 2406.16858): more guesses a round, one masked verify.

draft chip   ▓root▓▓level 1▓▓level 2▓       a pass a level, as many rows as nodes of the level above are read on from
link                                 ▸ids▸           ◂path and token◂
target chip                                ▓all nodes▓

Tokens are the target's own, followed down the tree, so any rule that emits those is exact whatever the tree proposes.
Both chips retain the keys and values of the accepted path; moving them together is charged no time.
"""

from __future__ import annotations

from hilsim.cost.step import Phase
from hilsim.describe.drafting import level_passes
from hilsim.describe.policy import Tree, TreePolicy
from hilsim.sampling.proposals import TokenTree
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, draft_passes, inform, send_drafts, target_step, tell


def tree(context: RunContext, request: Request, policy: Tree) -> Process:
    """Draft a tree, verify it whole, keep one path, until the request is answered."""
    while request.speculates:
        # The target adds a token of its own, so deeper levels are never used; the graph's shape is fixed.
        shape = policy.shape.cut(request.room - 1)
        if shape.depth == 0:
            yield from decode(context, request)
            continue
        yield from inform(context, request)
        start, before = context.now, len(request.tokens)
        proposed = context.trees.draft_tree(request, shape)
        read_on = tuple(nodes for _, nodes in shape.growth)
        executed = level_passes(context.head, read_on, before - request.draft_cached, policy.padded_rows)
        yield from draft_passes(context, request, executed, branching=True, anew=policy.padded)
        yield from send_drafts(context, request, proposed)
        opened, verdict = yield from verified_tree(context, request, policy, start, proposed, shape.depth)
        request.after_verdict(before, shape.depth, verdict.accepted, context.head)
        yield from tell(context, request, opened, policy.shape.nodes + 1, path=verdict.accepted)


def verified_tree(
    context: RunContext, request: Request, policy: TreePolicy, start_ns: int, proposed: TokenTree, depth: int
) -> Process:
    """One masked pass over as many rows as the policy's graph has, and its verdict, committed.

    Returns the open `Round` and the `Verdict`. `depth` is how many tokens might have been accepted.
    """
    before, cached, target = len(request.tokens), request.target_cached, context.board.target
    path, verdict = context.trees.verify_tree(request, proposed)
    yield from target_step(
        context, request, target.step(Phase.VERIFY, before - cached + policy.rows - 1, cached, tree=True)
    )
    opened = context.commit(
        request,
        start_ns,
        verdict.tokens(path),
        verdict.margins,
        drafted=proposed.candidates,
        accepted=verdict.accepted,
        depth=depth,
        single_ns=target.single_ns(cached),
    )
    request.after_block(before, depth, verdict.accepted)
    return opened, verdict
