"""Self-speculative decoding (SSD-Q1 in Qualcomm Genie): the target forecasts its own drafts as it verifies.

target chip   ▓last token and tree, each with its forecast tokens▓     one masked pass a round, no draft, no link

Forecast tokens are trained embeddings. The row of the i-th of them after a node expects the token that comes i places
after the node's own next one; those after the last accepted node make the next tree: at depth d the likeliest
`branches[d]` tokens of that row, below every node of the level above. A request's first pass has nothing to verify.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.describe.policy import Ssd
from hilsim.sampling.proposals import TokenTree
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.tree import verified_tree
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, hand_over


def ssd(context: RunContext, request: Request, policy: Ssd) -> Process:
    """Verify the tree of the last forecasts and make new ones in one pass, until the request is answered."""
    forecasts: Sequence[tuple[int, ...]] = ()  # the likeliest tokens of each level of the next tree
    while request.speculates:
        shape = policy.shape.cut(request.room - 1)
        if shape.depth == 0:
            yield from decode(context, request)
            continue
        start, fits = context.now, len(request.tokens) + shape.depth + policy.forecast <= request.context
        if context.source.by_chance:
            proposed = context.trees.draft_tree(request, shape)
        else:
            proposed = tree_of(forecasts[: shape.depth])
            if fits:
                proposed = with_forecasts(proposed, policy)
        opened, verdict = yield from verified_tree(context, request, policy, start, proposed, shape.depth)
        place = proposed.place(opened.tokens[: verdict.accepted])
        forecasts = verdict.likeliest[(place + 1) * policy.forecast :][: len(policy.branches)]
        yield from hand_over(context, request, opened)


def tree_of(levels: Sequence[tuple[int, ...]]) -> TokenTree:
    """Every token of a level below every node of the level above."""
    tree, level = TokenTree((), ()), [-1]
    for tokens in levels:
        first = len(tree.tokens)
        tree = tree.grown((token, parent) for parent in level for token in tokens)
        level = list(range(first, len(tree.tokens)))
    return tree


def with_forecasts(tree: TokenTree, policy: Ssd) -> TokenTree:
    """The tree, and below the last committed token and every node a chain of forecast tokens."""
    tokens, parents, probes = list(tree.tokens), list(tree.parents), []
    wanted = (*policy.branches, *[0] * policy.forecast)[: policy.forecast]
    for node in range(-1, len(tree.tokens)):
        for number, count in enumerate(wanted):
            parents.append(node if number == 0 else len(tokens) - 1)
            tokens.append(-1 - number)
            probes.append(count)
    return TokenTree(tuple(tokens), tuple(parents), tuple(probes))
