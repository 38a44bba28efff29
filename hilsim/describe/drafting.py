"""Draft heads, small networks over the target's hidden states: the shapes they are deployed in, what they run a round.

With h the target's width and its other sizes as they are in one layer:

| kind   | reads of a token         | weights beside those of its layers     | output head             | passes  |
| eagle  | 1 state                  | 2h x h: fused with the embedding       | the target's            | a token |
| eagle3 | 3 states                 | 3h x h: fused; wider first projections | its own                 | a token |
| mtp    | 1 state                  | as eagle                               | the target's            | a token |
| medusa | 1, of the last token     | h x h a residual block, no layers      | one a position, its own | one     |
| block  | as many as it has layers | layers x h x h: fused                  | the target's            | one     |

Sources: EAGLE (arXiv 2401.15077), EAGLE-3 (2503.01840, and its layer in vllm `llama_eagle3.py`), MTP (DeepSeek-V3,
2412.19437, section 2.2), Medusa (2401.10774), DFlash (2602.06036, z-lab/Qwen3-8B-DFlash-b16). What eagle3 has beside
its layer is held and not timed: states are fused once a round, outside the graph; its first query, key and value read
states and embedding side by side, and with them published rounds came out 5 % too long in place of 4 (batch 8).

A trimmed head (FR-Spec, arXiv 2502.14856) has logits of its `entries` alone and holds those rows itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

from hilsim.describe.layers import LayerKind
from hilsim.describe.model import Architecture, Model

HeadKind = Literal["eagle", "eagle3", "mtp", "medusa", "block"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)
MOST_PASSES = 4096  # rounds whose passes are remembered
ONE_PASS: tuple[HeadKind, ...] = ("medusa", "block")  # kinds that propose all tokens of a round at once
TARGETS_HEAD: tuple[HeadKind, ...] = ("eagle", "mtp", "block")  # kinds that use the target's own output head
FUSED = 3  # layers of the target that eagle3 reads
SOURCES: dict[HeadKind, str] = {
    "eagle": "arXiv 2401.15077",
    "eagle3": "arXiv 2503.01840",
    "mtp": "arXiv 2412.19437",
    "medusa": "arXiv 2401.10774",
    "block": "arXiv 2602.06036",
}


def layers_or_usual(kind: HeadKind, layers: int | None) -> int:
    """Layers of a head: of medusa the residual blocks of each position, of others the target's; the published number
    where none is given.
    """
    return layers or (5 if kind == "block" else 1)


def states_read(kind: HeadKind, layers: int) -> int:
    """Hidden states of the target, of so many of its layers, that a head reads of a token."""
    return FUSED if kind == "eagle3" else layers if kind == "block" else 1


def head_model(
    target: Model, kind: HeadKind, layers: int | None = None, entries: int | None = None, positions: int = 1
) -> Model:
    """The deployed shape of a draft head, derived from its target's; heads of different shapes have different names.

    `entries` is of a trimmed head, `positions` the tokens that a medusa head proposes.
    """
    count, heads = layers_or_usual(kind, layers), positions if kind == "medusa" else 1
    shape, shared = target.architecture.alike(count * heads), kind in TARGETS_HEAD and entries is None
    update = {
        "kind": "assumed",
        "source": f"a draft head ({kind}, {SOURCES[kind]}) of {target.name}'s sizes",
        "kinds": layer_kinds(kind, shape, count),
        "tied_head": shape.tied_head and shared,
        "lookup": 0,
    }
    sizes = ((layers, "layers"), (heads if heads > 1 else None, "positions"), (entries, "entries"))
    written = [f"{size}-{what}" for size, what in sizes if size is not None]
    return target.model_copy(
        update={
            "name": "-".join((target.name, kind, *written)),
            "title": f"{kind} head of {target.title}",
            "known_as": (),
            "role": "draft",
            "architecture": shape.model_copy(update=update),
            "head_entries": entries or target.head_entries,
            "output_heads": heads if heads > 1 else None,
            "vision": None,
            "adapter": None,
            "notes": "",
        }
    )


def layer_kinds(kind: HeadKind, shape: Architecture, layers: int) -> tuple[LayerKind, ...]:
    """The layers of a head of this shape; the fusing matrix counts with the first."""
    square = shape.hidden**2
    if kind == "medusa":
        return (LayerKind(layers=shape.layers, intermediate=0, heads=0, kv_heads=0, further=square),)
    fusing = {"eagle": 2, "mtp": 2, "eagle3": 0, "block": layers}[kind] * square
    if not fusing:
        return ()
    rest = (LayerKind(layers=layers - 1),) if layers > 1 else ()
    return (LayerKind(layers=1, further=fusing), *rest)


def held_beside(kind: HeadKind | None, shape: Architecture) -> int:
    """Weights that a head of this shape holds and that its passes do not count."""
    if kind != "eagle3":
        return 0
    return FUSED * shape.hidden**2 + shape.hidden * (shape.heads + 2 * shape.kv_heads) * shape.head_dim


@lru_cache(MOST_PASSES)
def passes(kind: HeadKind | None, drafted: int, unread: int) -> tuple[tuple[int, int], ...]:
    """Rows and wanted logits of each pass that proposes `drafted` tokens; `kind` None is a draft model.

    `unread` tokens of the conversation are not in the draft's cache yet: the first pass reads them.
    """
    if kind == "medusa":
        return ((1, drafted),)
    if kind == "block":
        return ((unread + drafted, drafted),)
    return ((unread, 1), *((1, 1),) * (drafted - 1))


def level_passes(
    kind: HeadKind | None, levels: tuple[int, ...], unread: int, padded: int | None = None
) -> tuple[tuple[int, int], ...]:
    """`passes` of a token tree of so many nodes a level: the logits of a whole level, or of all levels at once.

    With `padded` every pass but the first reads a whole tree of so many rows, from where the conversation ends.
    """
    if kind in ONE_PASS:
        return passes(kind, len(levels), unread)
    return ((unread, 1), *((padded or nodes, nodes) for nodes in levels[:-1]))


def retained(kind: HeadKind | None, before: int, fed: int, accepted: int) -> int:
    """Positions that the draft's cache keeps after a verdict on what was drafted from `before` tokens.

    A model keeps those of accepted tokens that it was `fed`. A head read states of its own there and reads the target's
    in the next round; of a block it keeps what the target had read by then, and medusa has no cache.
    """
    if kind is None:
        return before + min(accepted, fed)
    return 0 if kind == "medusa" else before - 1 if kind == "block" else before


def states_wanted(kind: HeadKind, positions: int) -> int:
    """Of so many new positions those whose hidden states a head reads."""
    return min(positions, 1) if kind == "medusa" else positions
