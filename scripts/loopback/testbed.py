"""The testbed of a distributed run: two agents and both ends of a link between them, started and ended again.

In two namespaces with a shaped link, or all on this machine's loopback.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.address import Address
from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.link_wires import End, LinkEnds
from scripts.loopback.namespaces import Shape, Side, refusal, two_namespaces
from scripts.loopback.processes import serving

LOOPBACK = "127.0.0.1"
PEER_PORT = 7302
# What TCP carries in a packet of 1500 bytes beside 52 of headers (IPv4 20, TCP 20, its time stamps 12), and what such a
# packet takes on the wire besides, the 38 bytes of Ethernet included.
PAYLOAD_BYTES, HEADERS_BYTES = 1448, 90
NETEM = "tc netem"
CABLE = "a cable of hilsim's own between TUN devices, as this kernel has no netem"


@dataclass(frozen=True)
class Testbed:
    """Agents by role, the link as it is described, the ends that sit at it, and what counts its bytes."""

    agents: Mapping[str, str]  # tcp://HOST:PORT
    token_file: Path | None
    link: Path
    ends: LinkEnds
    shaped_by: str  # as text; empty where the link is not shaped


@contextmanager
def testbed(models: Mapping[str, Path], shape: Shape | None, *, inject: bool) -> Iterator[Testbed]:
    """Start an agent for each role's model and a link, shaped where `shape` is given; end them after the block.

    With `inject` all of them may be made to fail on purpose.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hilsim-")))
        link, token, secret = folder / "link.yaml", None, None
        if shape is None:
            sides: dict[str, Side] = {}
            shaped_by = ""
            link.write_text(loopback(), encoding="utf-8")
        else:
            network = stack.enter_context(two_namespaces(shape))
            sides, shaped_by = network.sides, NETEM if network.shaped_by == "netem" else CABLE
            link.write_text(shaped(shape, shaped_by), encoding="utf-8")
            token, secret = folder / "token", secrets.token_hex(32)
            token.touch(0o600)
            token.write_text(secret, encoding="ascii")
        guarded = () if token is None else ("--token-file", str(token))

        def started(role: str, *arguments: str) -> str:
            """A process of hilsim on a role's side, and where it listens."""
            host = LOOPBACK if shape is None else sides[role].control
            prefix = () if shape is None else sides[role].prefix
            if inject:
                arguments = (*arguments, "--inject", *([f"{host}:0"] if arguments[0] == "agent" else []))
            return stack.enter_context(serving([*arguments, "--listen", f"{host}:0", *guarded], prefix))

        def end(role: str, *arguments: str) -> End:
            """One end of the link."""
            found = End(Address.parse(started(role, "link-end", *arguments)), secret)
            stack.callback(found.close)
            return found

        agents = {role: started(role, "agent", "--model", f"{role}={model}") for role, model in models.items()}
        peer = f"{LOOPBACK}:0" if shape is None else f"{sides['target'].link}:{PEER_PORT}"
        target = end("target", "--peer-listen", peer)
        draft = end("draft", "--peer", str(target.facts.device["peer"]))

        def carried() -> dict[str, int]:
            return {"up": sides["draft"].carried_bytes(), "down": sides["target"].carried_bytes()}

        ends = {"target": target, "draft": draft}
        yield Testbed(agents, token, link, LinkEnds(ends, carried if sides else None), shaped_by)


def settings(place: Testbed, setup: Setup) -> list[str]:
    """The `--set` arguments that put a scenario's roles on the testbed. Tokens are recorded, so agents give times."""
    found = [f"link={place.link}"]
    for role, placed in setup.roles.items():
        backend = {"backend": place.agents[role], "words": "stand_in"}
        if place.token_file is not None:
            backend["token_file"] = str(place.token_file)
        found.append(f"units.{placed.chip.name}/{placed.placement.unit}={json.dumps(backend)}")
    return found


def shape_of(bits_s: float, delay_s: float) -> Shape | None:
    """The shape of the link; None, with a message, where only loopback is possible."""
    if why := refusal():
        print(f"no namespaces here ({why}): all on loopback, and nothing is shaped", file=sys.stderr)
        return None
    return Shape(bits_s, delay_s)


def stand_ins(setup: Setup) -> dict[str, Path]:
    """What each agent runs, by role."""
    return {role: placed.stand_in for role, placed in setup.roles.items() if placed.stand_in is not None}


def shaped(shape: Shape, shaped_by: str) -> str:
    """The description of a link that was given a rate and a delay."""
    bytes_s = shape.bits_s / 8
    rate = bytes_s * PAYLOAD_BYTES / (PAYLOAD_BYTES + HEADERS_BYTES) / 1e6
    headers_us = HEADERS_BYTES / bytes_s * 1e6
    share = f"{PAYLOAD_BYTES} of {PAYLOAD_BYTES + HEADERS_BYTES} bytes are a message's"
    return f"""
name: shaped
title: A link of {shape.bits_s / 1e6:g} Mbit/s and {shape.delay_s * 1e3:g} ms
rate: {{value: {rate:.9g}, unit: MB/s, kind: datasheet, source: "as set in {shaped_by}; {share}"}}
message_overhead: {{value: {headers_us:.9g}, unit: us, kind: datasheet,
  source: "the headers of a message's first packet, {HEADERS_BYTES} bytes; software is in the control plane"}}
propagation: {{value: {shape.delay_s * 1e3:.9g}, unit: ms, kind: datasheet, source: "as set in {shaped_by}"}}
"""


def loopback() -> str:
    """The description of this machine's loopback."""
    return """
name: loopback
title: This machine's loopback
rate: {value: 1000, unit: MB/s, kind: assumed, range: [300, 5000], source: "a copy in and a copy out of the kernel"}
message_overhead: {value: 10, unit: us, kind: assumed, range: [5, 50], source: "two calls into the kernel"}
propagation: {value: 0, unit: us, kind: assumed, source: "the same memory"}
"""
