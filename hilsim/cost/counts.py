"""What a network's shape says about its weights, cache and operations. Each count is one line of arithmetic."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from hilsim.describe.layers import Experts, LayerKind, Recurrent, Vision
from hilsim.describe.model import Architecture, Model


@lru_cache(maxsize=1024)
def body_weights(shape: Architecture) -> int:
    """Matrix weights of all layers, all experts among them: attention or recurrence, and feed-forward.

    Norms, biases and convolutions (< 0.1 %) are left out.
    """
    return sum(
        kind.layers * (mixer_weights(shape, kind) + feed_forward_weights(shape, kind)) for kind in shape.layer_kinds
    )


def mixer_weights(shape: Architecture, kind: LayerKind) -> int:
    """What lets the rows of one layer see each other: query, key, value and output, or a recurrence's projections."""
    if kind.recurrent is not None:
        return shape.hidden * recurrent_columns(kind.recurrent) + kind.further
    query = shape.hidden * sizes(kind, "heads", "head_dim")
    key_value = 2 * shape.hidden * sizes(kind, "kv_heads", "head_dim") if kind.cached else 0
    return (3 if kind.gated else 2) * query + key_value + kind.further


def recurrent_columns(layer: Recurrent) -> int:
    """Numbers projected from a row and back: query, key, value, gate, scalars, output."""
    queries, values = layer.key_heads * layer.key_dim, layer.value_heads * layer.value_dim
    return 2 * queries + 3 * values + layer.scalars * layer.value_heads


def feed_forward_weights(shape: Architecture, kind: LayerKind) -> int:
    """Gate, up and down of one layer; with experts all of theirs, the shared one's and the router's."""
    if kind.experts is None:
        return 3 * shape.hidden * sizes(kind, "intermediate")
    return expert_weights(shape, kind.experts) * kind.experts.count + always_read(shape, kind.experts)


def expert_weights(shape: Architecture, experts: Experts) -> int:
    """Gate, up and down of one expert."""
    return 3 * shape.hidden * experts.intermediate


def always_read(shape: Architecture, experts: Experts) -> int:
    """Weights of a mixture of experts that every row goes through: the router's and the shared expert's."""
    return shape.hidden * (experts.count + 3 * experts.shared_intermediate)


def experts_touched(experts: Experts, rows: int) -> float:
    """Distinct experts that `rows` rows go through on average, each through `active` of `count` at random.

    E (1 - (1 - k / E)^n): real routers favour some experts and related rows the same ones, so that it is an upper end.
    """
    return experts.count * (1 - (1 - experts.active / experts.count) ** rows)


def read_weights(shape: Architecture, rows: int) -> float:
    """Matrix weights of the layers that a pass of `rows` rows reads: without the experts that none goes through."""
    unread = (
        kind.layers * expert_weights(shape, kind.experts) * (kind.experts.count - experts_touched(kind.experts, rows))
        for kind in shape.layer_kinds
        if kind.experts is not None
    )
    return body_weights(shape) - sum(unread)


def weights_by_rows(shape: Architecture, rows: int) -> list[tuple[float, float]]:
    """Matrix weights of the layers that a pass of `rows` rows reads, and how many rows each of them multiplies.

    Every row goes through the weights that all share; an expert is given its part of them, at least one.
    """
    found = [(float(body_weights(shape)), float(rows))]
    for kind in shape.layer_kinds:
        if kind.experts is not None:
            whole = kind.layers * expert_weights(shape, kind.experts)
            touched = experts_touched(kind.experts, rows)
            found[0] = (found[0][0] - whole * kind.experts.count, float(rows))
            found.append((whole * touched, rows * kind.experts.active / touched))
    return found


def active_weights(shape: Architecture) -> int:
    """Matrix weights of the layers that one row is multiplied by."""
    return round(read_weights(shape, 1))


def head_weights(model: Model) -> int:
    """Weights of all output heads: hidden x rows of each, read once a step whether tied or not."""
    return model.rows_a_position * model.architecture.hidden * model.row_entries


def table_numbers(model: Model) -> int:
    """Numbers of the embedding table, and of further ones that are looked up."""
    return model.vocabulary.entries * (model.architecture.hidden + model.architecture.lookup)


@lru_cache(maxsize=1024)
def kv_numbers_per_token(shape: Architecture) -> int:
    """Cached numbers a position: a key and a value per attending layer and key/value head."""
    return sum(kind.layers * kind_kv(kind) for kind in shape.layer_kinds if kind.cached)


def kv_numbers(shape: Architecture, positions: int) -> int:
    """Cached numbers held of so many positions of one sequence: of layers with a window at most that many each."""
    return sum(
        kind.layers * kind_kv(kind) * within(positions, kind.window) for kind in shape.layer_kinds if kind.cached
    )


def kv_numbers_read(shape: Architecture, positions: int) -> int:
    """Cached numbers that a pass reads: as held, and once more by every layer that reads another's cache."""
    return sum(kind.layers * kind_kv(kind) * within(positions, kind.window) for kind in shape.layer_kinds)


def expanded_numbers(shape: Architecture, positions: int) -> int:
    """Numbers that a pass writes where an export copies each key/value head for all query heads that share it."""
    return sum(
        kind.layers * 2 * sizes(kind, "heads", "head_dim") * within(positions, kind.window)
        for kind in shape.layer_kinds
        if kind_kv(kind) and sizes(kind, "heads") > sizes(kind, "kv_heads")
    )


def kind_kv(kind: LayerKind) -> int:
    """Numbers a position of one layer's cache: a key and a value per key/value head; none of a recurrence."""
    return 0 if kind.recurrent is not None else 2 * sizes(kind, "kv_heads", "head_dim")


def within(positions: int, window: int | None) -> int:
    """The smaller of the two, in arithmetic that arrays of positions do as well."""
    return positions if window is None else (positions + window - abs(positions - window)) // 2


@lru_cache(maxsize=1024)
def state_bytes(shape: Architecture) -> int:
    """Bytes of one sequence's recurrent states, whatever its length: matrices, and the rows before a convolution."""
    found = 0
    for kind in shape.layer_kinds:
        if (layer := kind.recurrent) is not None:
            queries, values = layer.key_heads * layer.key_dim, layer.value_heads * layer.value_dim
            matrices = layer.value_heads * layer.key_dim * layer.value_dim * layer.state_bits // 8
            found += kind.layers * (matrices + 2 * (layer.kernel - 1) * (2 * queries + values))
    return found


def matmul_operations(weights: int, rows: int) -> int:
    """Multiplications and additions of products with so many weights: 2 a weight and row."""
    return 2 * weights * rows


def attention_operations(shape: Architecture, rows: int, context: float) -> float:
    """Scores and mixing: 2 x 2 operations per layer, query head, head dimension, row and visible position (mean)."""
    found = 0.0
    for kind in shape.layer_kinds:
        if kind.recurrent is None:
            visible = context if kind.window is None else (context + kind.window - abs(context - kind.window)) / 2
            found += 4 * kind.layers * sizes(kind, "heads", "head_dim") * rows * visible
    return found


def recurrence_operations(shape: Architecture, rows: int) -> int:
    """Of a recurrence 6 a number of its state and row: what it says of a key, the update, what it says of a query."""
    found = 0
    for kind in shape.layer_kinds:
        if (layer := kind.recurrent) is not None:
            found += 6 * kind.layers * layer.value_heads * layer.key_dim * layer.value_dim * rows
    return found


def adapter_weights(model: Model) -> int:
    """Weights of one LoRA adapter: rank x (rows + columns) of query, key, value, output, gate, up and down.

    Experts have none; a recurrence has them on its two projections.
    """
    if model.adapter is None:
        return 0
    shape, found = model.architecture, 0
    for kind in shape.layer_kinds:
        sides = 0
        if kind.recurrent is not None:
            sides += 2 * shape.hidden + recurrent_columns(kind.recurrent)
        else:
            query, key_value = sizes(kind, "heads", "head_dim"), sizes(kind, "kv_heads", "head_dim")
            sides += 2 * (shape.hidden + query) + (2 * (shape.hidden + key_value) if kind.cached else 0)
        sides += 0 if kind.experts is not None else 3 * (shape.hidden + sizes(kind, "intermediate"))
        found += kind.layers * sides * model.adapter.rank
    return found


def vision_weights(model: Model) -> int:
    """Weights of the vision tower: patches, layers, and the mergers that make tokens of patches; 0 without one."""
    if (tower := model.vision) is None:
        return 0
    merged = tower.hidden * tower.merge**2
    mergers = tower.projectors * merged * (merged + model.architecture.hidden)
    return 3 * tower.frames * tower.patch**2 * tower.hidden + tower.layers * tower_layer(tower) + mergers


def vision_operations(model: Model, tokens: int) -> int:
    """Operations that make so many image tokens: weights of layers a patch, of mergers a token, attention over all."""
    if (tower := model.vision) is None:
        return 0
    patches = tokens * tower.merge**2
    layers = tower.layers * tower_layer(tower)
    attention = 4 * tower.layers * tower.hidden * patches**2
    return 2 * (layers * patches + (vision_weights(model) - layers) * tokens) + attention


def tower_layer(tower: Vision) -> int:
    """Weights of one layer of a vision tower."""
    return 4 * tower.hidden**2 + tower.matrices * tower.hidden * tower.intermediate


def sizes(kind: LayerKind, *names: str) -> int:
    """The product of sizes of a kind that its architecture has completed."""
    return prod(getattr(kind, name) for name in names)


def parameters(model: Model) -> int:
    """Weights of the whole model as its name counts them: layers, tables, the head where it is another table."""
    head = 0 if model.architecture.tied_head and model.head_entries is None else head_weights(model)
    return body_weights(model.architecture) + table_numbers(model) + head + vision_weights(model)
