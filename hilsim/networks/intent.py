"""The Siamese network that matches what a passenger said against known commands: one encoder, called twice.

Owns the network, its folder (`models/intent`), and factories that a compiler takes. Its parameters serve both
sentences, which is what compilers of NPUs have refused. Training is `training.intent`'s job; words are cut by the
stand-ins' own tokenizer, of which no copy is kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from hilsim.describe.config_json import CONFIG, Fields, read_object
from hilsim.errors import CheckpointError, Fault
from hilsim.networks.checkpoint import MISMATCH
from hilsim.networks.network import Embedding, Linear
from hilsim.networks.tensors import load_tensors, some, weights_file
from hilsim.places import DATA
from hilsim.text.tokenizer import load_tokenizer

FOLDER = DATA / "models" / "intent"
TOKENIZER = DATA / "models" / "target"
MODEL_TYPE = "intent-siamese"
REMEDY = "Restore models/intent, or make it again: python -m hilsim.training.intent --out models/intent"
# Finite and within float16, so that an NPU can add it too; exp(-10000) is 0 in every format.
UNSEEN = 1e4

Pair = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class IntentConfig:
    """The shape of an encoder. `tokens` is the one length of sentence it takes: graphs of NPUs are fixed."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    tokens: int
    eps: float = 1e-6


SHIPPED = IntentConfig(vocab_size=2048, hidden=128, layers=3, heads=4, intermediate=384, tokens=32)
# MiniLM-L6's size: 6 layers, hidden 384, 12 heads, intermediate 1536, vocabulary 30522. Source: the model cards
# sentence-transformers/all-MiniLM-L6-v2 (22.7 M parameters) and nreimers/MiniLM-L6-H384-uncased, config.json.
MINILM_L6 = IntentConfig(vocab_size=30_522, hidden=384, layers=6, heads=12, intermediate=1536, tokens=64)


class Norm(nn.Module):
    """Root-mean-square norm over the last dimension, with a gain."""

    def __init__(self, config: IntentConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden))
        self.eps = config.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class EncoderAttention(nn.Module):
    """Attention of every token to every token, spelled out in products so that a compiler sees plain operators."""

    def __init__(self, config: IntentConfig):
        super().__init__()
        self.heads, self.head_dim = config.heads, config.hidden // config.heads
        self.query, self.key, self.value, self.output = (Linear(config.hidden, config.hidden) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`x`: (batch, tokens, hidden); `bias`: (batch, 1, 1, tokens), added to the scores of each key."""
        batch, tokens, hidden = x.shape
        split = (batch, tokens, self.heads, self.head_dim)
        query, key, value = (part(x).view(split).transpose(1, 2) for part in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(2, 3)) * (1.0 / math.sqrt(self.head_dim)) + bias
        mixed = torch.matmul(scores.softmax(-1), value)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, hidden))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: IntentConfig):
        super().__init__()
        self.attention_norm, self.mlp_norm = Norm(config), Norm(config)
        self.attention = EncoderAttention(config)
        self.up, self.down = Linear(config.hidden, config.intermediate), Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A sentence to a vector of length one; sentences that mean the same lie close together."""

    def __init__(self, config: IntentConfig):
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden)
        self.positions = nn.Parameter(torch.empty(config.tokens, config.hidden))
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))
        self.norm = Norm(config)
        self.projection = Linear(config.hidden, config.hidden, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`ids`: int64 (batch, tokens); `mask`: float32 (batch, tokens), 1 for a token, 0 where the row is
        filled up. Returns (batch, hidden) of length one, or zeros for a sentence without tokens.

        A batch may be cut to its longest sentence: what is filled up changes nothing.
        """
        batch, tokens = ids.shape
        # The shape decides, so an exported graph of full length has no slice in it.
        positions = self.positions if tokens == self.config.tokens else self.positions[:tokens]
        x = self.embedding(ids) + positions
        bias = ((mask - 1.0) * UNSEEN).view(batch, 1, 1, tokens)
        for block in self.blocks:
            x = block(x, bias)
        said = mask.unsqueeze(2)
        mean = (self.norm(x) * said).sum(1) / (said.sum(1) + self.config.eps)
        vector: Tensor = self.projection(mean)
        return vector * (vector.square().sum(1, keepdim=True) + self.config.eps).rsqrt()


class Siamese(nn.Module):
    """Two sentences to one similarity. Both pass the same encoder: its parameters are shared, not copied."""

    def __init__(self, config: IntentConfig):
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, said_ids: Tensor, said_mask: Tensor, known_ids: Tensor, known_mask: Tensor) -> Tensor:
        """Cosine similarity (batch,) of what was said and a known command; inputs as `Encoder.forward`'s."""
        said = self.encoder(said_ids, said_mask)
        known = self.encoder(known_ids, known_mask)
        return (said * known).sum(1)  # type: ignore[no-any-return]


def initialise(model: nn.Module, seed: int) -> None:
    """Normal(0, 0.02) matrices, zero biases, norms at one, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.02, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()


def matcher() -> tuple[Siamese, Pair]:
    """The shipped matcher and the inputs of one call, as a compiler wants them."""
    model = load_matcher(FOLDER)
    words, tokens = sentence_tokenizer(), model.encoder.config.tokens
    said = encode(["it is far too warm in here, turn the heat down"], words, tokens)
    return model, (*said, *encode(["lower the temperature"], words, tokens))


def matcher_22m() -> tuple[Siamese, Pair]:
    """The same network at MiniLM-L6's size, drawn from a seed: for costs and compilers, not for sense.

    22.5 M parameters; MiniLM's 22.7 M count positions up to 512, token types and biased norms, which are not here.
    Works under a `FakeTensorMode`, where it takes no memory.
    """
    model = Siamese(MINILM_L6)
    initialise(model, seed=1)
    ids = torch.ones(1, MINILM_L6.tokens, dtype=torch.int64)
    mask = torch.ones(1, MINILM_L6.tokens)
    return model.eval().requires_grad_(False), (ids, mask, ids.clone(), mask.clone())


def match(said: str, known: Sequence[str]) -> list[tuple[str, float]]:
    """Known commands with their cosine similarity to what was said, best first; equals stay in the given order.

    Letter case and marks at the ends do not count. What has no words is like nothing: 0.
    """
    if not known:
        return []
    encoder, words = shipped()
    vectors = embed(encoder, [said, *known], words)
    likeness = (vectors[1:] @ vectors[0]).tolist()
    return sorted(zip(known, likeness, strict=True), key=lambda pair: -pair[1])


@cache
def shipped() -> tuple[Encoder, Tokenizer]:
    """The shipped encoder and its tokenizer, loaded once. Raises `CheckpointError` where they do not go together."""
    encoder = load_matcher(FOLDER).encoder
    file = FOLDER / CONFIG
    trained_on, found = read_object(file).get("tokenizer_sha256"), tokenizer_digest()
    if trained_on != found:
        place = str(TOKENIZER / "tokenizer.json")
        raise CheckpointError(
            [Fault(str(file), "tokenizer_sha256", str(trained_on)[:12], f"{found[:12]}, the digest of {place}", REMEDY)]
        )
    return encoder, sentence_tokenizer()


def sentence_tokenizer() -> Tokenizer:
    """The stand-ins' tokenizer, reading special tokens as plain words."""
    tokenizer = load_tokenizer(TOKENIZER).tokenizer
    tokenizer.encode_special_tokens = True  # the library's name for: encode them as text
    return tokenizer


def tokenizer_digest() -> str:
    """SHA-256 of the tokenizer's file: ids mean nothing under another one."""
    return hashlib.sha256((TOKENIZER / "tokenizer.json").read_bytes()).hexdigest()


def token_ids(text: str, words: Tokenizer) -> list[int]:
    """Ids of a sentence as speech recognition would write it: lower case, no marks at its ends.

    A blank before the first word makes it the same token there as anywhere else.
    """
    plain = " ".join(text.lower().split()).strip(" .,;:!?")
    return list(words.encode(f" {plain}", add_special_tokens=False).ids) if plain else []


def encode(texts: Sequence[str], words: Tokenizer, tokens: int) -> tuple[Tensor, Tensor]:
    """`ids` int64 and `mask` float32, both (len(texts), tokens), as `Encoder.forward` takes them.

    Longer sentences lose their end: one in two hundred of the corpus has more than 32 tokens.
    """
    ids = torch.zeros(len(texts), tokens, dtype=torch.int64)
    mask = torch.zeros(len(texts), tokens)
    for row, text in enumerate(texts):
        found = token_ids(text, words)[:tokens]
        ids[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        mask[row, : len(found)] = 1.0
    return ids, mask


@torch.inference_mode()
def embed(encoder: Encoder, texts: Sequence[str], words: Tokenizer, rows: int = 256) -> Tensor:
    """Vectors (len(texts), hidden) of many sentences, `rows` of like length at a time, filled up no further."""
    ids, mask = encode(texts, words, encoder.config.tokens)
    vectors = torch.empty(len(texts), encoder.config.hidden)
    for chosen in torch.split(mask.sum(1).argsort(stable=True), rows):
        longest = max(1, int(mask[chosen].sum(1).max()))
        vectors[chosen] = encoder(ids[chosen, :longest], mask[chosen, :longest])
    return vectors


def load_matcher(folder: Path) -> Siamese:
    """The matcher of a folder, in float32. Raises `CheckpointError` with every fault found."""
    if not (folder / CONFIG).is_file():
        found = f"no {CONFIG}" if folder.is_dir() else "no such folder"
        expected = "a folder with config.json and model.safetensors"
        raise CheckpointError([Fault(str(folder), "", found, expected, REMEDY)])
    config = parse_config(read_object(folder / CONFIG), str(folder / CONFIG))
    try:
        tensors = {name: tensor.as_tensor() for name, tensor in load_tensors(folder).items()}
    except CheckpointError as error:
        faults = [Fault(fault.file, fault.place, fault.found, fault.expected, REMEDY) for fault in error.faults]
        raise CheckpointError(faults) from None
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Siamese(config).state_dict().items()}
    check_tensors(tensors, shapes, str(weights_file(folder)))
    model = Siamese(config)
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, strict=True)
    return model.eval().requires_grad_(False)


def check_tensors(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], file: str) -> None:
    """Raise what is missing, unknown, misshapen or no number among `tensors`."""
    faults = []
    if missing := sorted(shapes.keys() - tensors.keys()):
        found = f"no such tensor ({len(missing)} of {len(shapes)} missing)"
        faults.append(Fault(file, some(missing), found, f"a tensor of shape {shapes[missing[0]]}", REMEDY))
    if unknown := sorted(tensors.keys() - shapes.keys()):
        faults.append(Fault(file, some(unknown), "an unknown tensor", "the tensors of an encoder", REMEDY))
    for name in sorted(tensors.keys() & shapes.keys()):
        shape = tuple(tensors[name].shape)
        if shape != shapes[name]:
            faults.append(Fault(file, name, f"shape {shape}", f"shape {shapes[name]}", f"{MISMATCH} {REMEDY}"))
        elif not tensors[name].isfinite().all():
            faults.append(Fault(file, name, "values that are not finite", "finite weights", REMEDY))
    if faults:
        raise CheckpointError(faults)


def document_of(config: IntentConfig) -> dict[str, Any]:
    """`config.json` of a matcher; names follow Hugging Face's where the idea is the same."""
    return {
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "tokens": config.tokens,
        "rms_norm_eps": config.eps,
    }


def parse_config(document: dict[str, Any], file: str) -> IntentConfig:
    """The inverse of `document_of`; `file` is only for messages."""
    fields = Fields(document, file)
    fields.choice("model_type", None, (MODEL_TYPE,), REMEDY)
    hidden, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    if hidden % heads and not fields.faults:
        fields.fault("num_attention_heads", f"a divisor of {hidden}, the hidden size")
    config = IntentConfig(
        vocab_size=fields.whole("vocab_size"),
        hidden=hidden,
        layers=fields.whole("num_hidden_layers", most=1024),
        heads=heads,
        intermediate=fields.whole("intermediate_size"),
        tokens=fields.whole("tokens", most=4096),
        eps=fields.number("rms_norm_eps"),
    )
    if fields.faults:
        raise CheckpointError(fields.faults)
    return config
