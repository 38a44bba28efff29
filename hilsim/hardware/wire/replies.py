"""Reads an agent's frames as docs/protocol.md defines them; anything else raises `AgentFault`.

An agent is not trusted: every figure is checked, every text is cut to what a terminal may show.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.hardware.wire.exchange import AgentFault, FaultKind, ModelFacts, StepRequest, StepResult, not_finite
from hilsim.hardware.wire.frames import MOST_BODY_BYTES, VERSION, Frame, limits_fault

MOST_NS = 2**62
MOST_TEXT = 300
NEW_LINE = re.compile(r"\s*[\r\n]\s*")
LONGEST_HEARTBEAT_S = 600.0
# What an agent's error means here; any other code is a refusal with the agent's own text.
KINDS: dict[object, FaultKind] = {
    "version": "version", "garbage": "garbage", "too_large": "garbage", "engine": "engine", "stopping": "died",
}  # fmt: skip


class Declined(AgentFault):
    """A step that the agent refused or its engine broke at; what it is asked next it may answer."""


@dataclass(frozen=True)
class AgentFacts:
    """What an agent reports about itself and the machine that it runs on."""

    agent: str
    device: Mapping[str, Any]
    clock: Mapping[str, Any]
    models: tuple[str, ...]
    heartbeat_s: float
    most_body_bytes: int


def proof_of(welcome: Frame, token: str | None) -> str | None:
    """What shows that we know the token, without sending it; None where none is asked for."""
    if welcome.kind == "refused":
        raise AgentFault("refused", message_of(welcome))
    if welcome.kind == "error":
        raise fault_of(welcome)
    if welcome.kind != "welcome":
        raise garbage(f"{shown(welcome.kind)} where a welcome belongs")
    versions = welcome.fields.get("protocol")
    if not isinstance(versions, list) or any(type(version) is not int for version in versions):
        raise garbage("a welcome without a list of protocol versions")
    if VERSION not in versions:
        raise AgentFault(
            "version", f"protocol {', '.join(map(str, versions[:8])) or 'none'}, where {VERSION} is expected"
        )
    asked, nonce = welcome.fields.get("token"), welcome.fields.get("nonce")
    if type(asked) is not bool or not isinstance(nonce, str) or not nonce.isascii():
        raise garbage("a welcome without a nonce, or without whether it asks for a token")
    if not asked:
        return None
    if token is None:
        raise AgentFault("refused", "it asks for a token, and none is given")
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()


def agent_facts(welcome: Frame, ready: Frame) -> AgentFacts:
    """The agent's facts from its handshake."""
    fields = ready.fields
    heartbeat_s = number(fields, "heartbeat_s", 1e-3, LONGEST_HEARTBEAT_S)
    most = whole(fields, "most_body_bytes", 1, MOST_NS)
    names = fields.get("models")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise garbage("`ready` without a list of models")
    return AgentFacts(
        agent=plain(welcome.fields.get("agent", "unnamed")),
        device=plain_map(fields, "device"),
        clock=plain_map(fields, "clock"),
        models=tuple(map(plain, names)),
        heartbeat_s=heartbeat_s,
        most_body_bytes=min(most, MOST_BODY_BYTES),
    )


def model_facts(loaded: Frame, model: str) -> ModelFacts:
    """What an agent reports about a model it has loaded."""
    fields = loaded.fields
    if fields.get("model") != model:
        raise garbage(f"`loaded` of model {shown(fields.get('model'))}, where {model!r} was asked for")
    widths, gives = fields.get("widths"), fields.get("gives")
    if widths is not None and (not isinstance(widths, list) or any(type(width) is not int for width in widths)):
        raise garbage(f"widths {shown(widths)}, where null or rising whole numbers belong")
    if (
        not isinstance(gives, list)
        or "tokens" not in gives
        or any(given not in ("logits", "tokens") for given in gives)
    ):
        raise garbage(f"gives {shown(gives)}, where tokens, or logits and tokens belong")
    digests = [fields.get(name) for name in ("tokenizer", "digest")]
    if any(digest is not None and not isinstance(digest, str) for digest in digests):
        raise garbage("`loaded` with a digest that is no text")
    tokenizer, digest = (None if digest is None else plain(digest) for digest in digests)
    vocabulary, context = (whole(fields, name, 1, MOST_NS) for name in ("vocabulary", "context"))
    if fault := limits_fault(vocabulary, context, widths):
        raise garbage(f"{fault.found}, where {fault.expected} belongs")
    return ModelFacts(
        name=model,
        vocabulary=vocabulary,
        context=context,
        widths=None if widths is None else tuple(widths),
        gives=tuple(sorted(set(gives))),
        tokenizer=tokenizer,
        digest=digest,
    )


def answer_of(done: Frame, ask: StepRequest, vocabulary: int, wall_ns: int, at_ns: int) -> StepResult:
    """The answer to a step."""
    fields = done.fields
    rows, ids = None, None
    if ask.want == "logits":
        rows = array_of(done, "logits", "f4", (ask.wanted, vocabulary)).astype(np.float32, copy=False)
        if broken := not_finite(rows, len(ask.tokens)):
            raise garbage(broken)
    elif ask.want == "tokens":
        found = array_of(done, "ids", "i4", (ask.wanted,))
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < vocabulary:
            raise garbage(f"token ids from {found.min()} to {found.max()}, in a vocabulary of {vocabulary}")
        ids = tuple(map(int, found))
    return StepResult(
        duration_ns=whole(fields, "duration_ns", 1, MOST_NS),
        rows=rows,
        ids=ids,
        wall_ns=wall_ns,
        prepared_rows=whole(fields, "prepared_rows", 0, len(ask.tokens)),
        energy_mj=number_or_none(fields, "energy_mj", 0.0, 1e12),
        temperature_c=number_or_none(fields, "temperature_c", -273.15, 1e4),
        clock_ns=whole(fields, "clock_ns", 0, MOST_NS),
        at_ns=at_ns,
    )


def array_of(frame: Frame, name: str, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A tensor that has to be there, of this dtype and shape."""
    tensor = frame.tensors.get(name)
    if tensor is None:
        raise garbage(f"`{frame.kind}` without {name}")
    if (tensor.dtype, tensor.shape) != (dtype, shape):
        raise garbage(f"{name} of {tensor.dtype} {list(tensor.shape)}, where {dtype} {list(shape)} belongs")
    return np.frombuffer(tensor.data, f"<{dtype}").reshape(shape)


def fault_of(error: Frame) -> AgentFault:
    """An agent's `error` as our fault; `Declined` where the conversation goes on."""
    code, fatal = error.fields.get("code"), error.fields.get("fatal")
    kind = KINDS.get(code, "refused") if isinstance(code, str) else "garbage"
    # The text of a fault includes its kind.
    found = plain(error.fields.get("message", "no message")) if code == kind else message_of(error)
    if kind in ("engine", "refused") and fatal is not True:
        return Declined(kind, found)
    return AgentFault(kind, found)


def message_of(frame: Frame) -> str:
    """Code and message of an `error` or `refused`."""
    return f"{plain(frame.fields.get('code', 'no code'))}: {plain(frame.fields.get('message', 'no message'))}"


def garbage(found: str) -> AgentFault:
    """The fault of an answer that breaks the protocol."""
    return AgentFault("garbage", found)


def whole(fields: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """A whole number of a message."""
    value = fields.get(key)
    if type(value) is not int or not least <= value <= most:
        raise garbage(f"{key} {shown(value)}, where a whole number from {least} to {most} belongs")
    return value


def number(fields: Mapping[str, Any], key: str, least: float, most: float) -> float:
    """A finite number of a message; JSON can spell infinity as 1e999."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise garbage(f"{key} {shown(value)}, where a number from {least:g} to {most:g} belongs")
    return float(value)


def number_or_none(fields: Mapping[str, Any], key: str, least: float, most: float) -> float | None:
    """A number that a device may not know."""
    return None if fields.get(key) is None else number(fields, key, least, most)


def shown(value: object) -> str:
    """A value from an agent as text that is safe to print."""
    text = plain(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def plain(value: object) -> str:
    """A value as text on one line, without what would move a terminal's cursor or cannot be written."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "something nested too deeply"
    text = NEW_LINE.sub("; ", text[:MOST_TEXT].strip("\r\n"))
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def plain_map(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object of a message with plain texts and numbers; what is neither is written out as text."""
    value = fields.get(key)
    if not isinstance(value, dict):
        raise garbage(f"`ready` without {key}")
    return {plain(name): entry if is_plain(entry) else plain(entry) for name, entry in value.items()}


def is_plain(value: object) -> bool:
    """Whether a value is null, true, false, or a number that any reader of JSON takes."""
    return value is None or (isinstance(value, int | float) and abs(value) <= MOST_NS)
