"""What a network's shape says about its weights, cache and operations. Each count is one line of arithmetic."""

from __future__ import annotations

from hilsim.describe.model import Architecture, Model


def body_weights(shape: Architecture) -> int:
    """Matrix weights of all layers: query, key, value, output, gate, up, down.

    Norms and biases (< 0.1 %) are left out.
    """
    query = shape.hidden * shape.heads * shape.head_dim
    key_value = 2 * shape.hidden * shape.kv_heads * shape.head_dim
    feed_forward = 3 * shape.hidden * shape.intermediate
    return shape.layers * (2 * query + key_value + feed_forward)


def head_weights(model: Model) -> int:
    """Weights of the output head: hidden x vocabulary, read once a step whether tied or not."""
    return model.architecture.hidden * model.vocabulary.entries


def kv_numbers_per_token(shape: Architecture) -> int:
    """Cached numbers a position: a key and a value per layer and key/value head."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim


def matmul_operations(model: Model, rows: int, head_rows: int) -> int:
    """Multiplications and additions of the weight products: 2 a weight and row."""
    return 2 * (body_weights(model.architecture) * rows + head_weights(model) * head_rows)


def attention_operations(shape: Architecture, rows: int, context: float) -> float:
    """Scores and mixing: 2 x 2 operations per layer, query head, head dimension, row and visible position (mean)."""
    return 4 * shape.layers * shape.heads * shape.head_dim * rows * context


def parameters(model: Model) -> int:
    """Weights of the whole model as its name counts them: layers, head, and the embedding where it is another table."""
    tables = 1 if model.architecture.tied_head else 2
    return body_weights(model.architecture) + tables * head_weights(model)
