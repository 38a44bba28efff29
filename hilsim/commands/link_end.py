"""`link-end`: One end of a link on which a distributed run sends its messages; how the process starts and ends."""

from __future__ import annotations

import argparse
import threading
from functools import partial

from hilsim.commands.arguments import Commands, place
from hilsim.errors import Fault, InputError

EXAMPLES = """examples, on two machines with a secret in the file `token`:
  %(prog)s --listen 10.0.0.1:7301 --peer-listen 10.0.1.1:7302 --token-file token
  %(prog)s --listen 10.0.0.2:7301 --peer 10.0.1.1:7302 --token-file token
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "link-end",
        help="beside a board: one end of the link that carries the messages of a distributed run",
        description="Send a distributed run's messages from here to the other end of a link, and report what arrives.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:7301",
        help="address for the simulator; port 0 takes a free one (127.0.0.1:7301)",
    )
    peer = parser.add_mutually_exclusive_group(required=True)
    peer.add_argument("--peer-listen", metavar="HOST:PORT", help="address at which this end waits for the other one")
    peer.add_argument("--peer", metavar="HOST:PORT", help="address at which the other end waits (its --peer-listen)")
    needed = "required if other machines can connect"
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=place,
        help=f"file with a secret that simulator and other end must send; {needed}",
    )
    parser.add_argument(
        "--inject",
        action="store_true",
        help="let the simulator have messages dropped, held back, copied or changed here on purpose",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted (130) or terminated (0)."""
    from hilsim.commands.agent import Terminated, end_on_sigterm
    from hilsim.commands.agent_settings import address_of, is_loopback, token_of
    from hilsim.hardware.agent.listen import address_text, listening, serve
    from hilsim.hardware.agent.machine import device_facts
    from hilsim.hardware.agent.serve import Service
    from hilsim.hardware.distributed.injected_link import Outbox
    from hilsim.hardware.distributed.link_end import Peer, served

    faults: list[Fault] = []
    listen = address_of(options.listen, "--listen", faults)
    where = "--peer" if options.peer_listen is None else "--peer-listen"
    host, port = address_of(options.peer or options.peer_listen, where, faults)
    token = token_of(options.token_file, faults)
    doors = {"--listen": listen[0], "--peer-listen": host if options.peer is None else ""}
    for option, name in doors.items():
        if options.token_file is None and name and not is_loopback(name):
            expected = "a token where other machines can connect"
            faults.append(Fault(option, name, "no --token-file", expected, "Give a --token-file."))
    if options.peer is not None and not port:
        faults.append(Fault("--peer", options.peer, "port 0", "the port that the other end listens on"))
    if faults:
        raise InputError(faults)
    device = device_facts(None, "link end", None) | {"inject": options.inject}
    service = Service(runners={}, device=device, token=token, heartbeat_s=1.0, most_body_bytes=1)
    peer = Peer(service, Outbox() if options.inject else None)
    end_on_sigterm(peer.service.farewell)
    try:
        listener = listening(*listen)
        if options.peer is None:
            door = listening(host, port, "--peer-listen")
            device["peer"] = address_text(door.getsockname())
            threading.Thread(target=peer.accept, args=(door,), name="peer", daemon=True).start()
        else:
            threading.Thread(target=peer.knock, args=(host, port), name="peer", daemon=True).start()
        print(f"listening on {address_text(listener.getsockname())}", flush=True)
        serve(listener, partial(served, peer))
    except Terminated:
        return 0
    raise AssertionError("serving has no end of its own")
