"""The `link-end` command as argparse sees it, and how it starts and ends."""

from __future__ import annotations

import argparse
import threading
from functools import partial

from hilsim.commands.arguments import place
from hilsim.errors import Fault, InputError

EXAMPLES = """examples, on two machines with a secret in the file `token`:
  python -m hilsim link-end --listen 10.0.0.1:7301 --peer-listen 10.0.1.1:7302 --token-file token
  python -m hilsim link-end --listen 10.0.0.2:7301 --peer 10.0.1.1:7302 --token-file token
"""


def add_link_end(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `link-end` command."""
    end = commands.add_parser(
        "link-end",
        help="beside a board: one end of a link on which a distributed run sends its messages",
        description="Send the messages of a distributed run from here to the other end of a link, and tell what comes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    end.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:7301", help="for commands; port 0 is any (127.0.0.1:7301)"
    )
    peer = end.add_mutually_exclusive_group(required=True)
    peer.add_argument("--peer-listen", metavar="HOST:PORT", help="where the other end of the link finds this one")
    peer.add_argument("--peer", metavar="HOST:PORT", help="where the other end of the link listens")
    end.add_argument(
        "--token-file", metavar="FILE", type=place, help="a secret that client and other end must know; needed beyond"
        " this machine",
    )  # fmt: skip


def run_link_end(options: argparse.Namespace) -> int:
    """Serve until interrupted (130) or terminated (0)."""
    from hilsim.commands.agent import Terminated, end_on_sigterm
    from hilsim.commands.agent_settings import address_of, is_loopback, token_of
    from hilsim.hardware.agent.listen import listening, serve, spelled
    from hilsim.hardware.agent.machine import device_facts
    from hilsim.hardware.agent.serve import Service
    from hilsim.hardware.distributed.link_end import Peer, served

    faults: list[Fault] = []
    listen = address_of(options.listen, "--listen", faults)
    where = "--peer" if options.peer_listen is None else "--peer-listen"
    host, port = address_of(options.peer or options.peer_listen, where, faults)
    token = token_of(options.token_file, faults)
    doors = {"--listen": listen[0], "--peer-listen": host if options.peer is None else ""}
    for option, name in doors.items():
        if options.token_file is None and name and not is_loopback(name):
            expected = "a token where others than this machine can connect"
            faults.append(Fault(option, name, "no --token-file", expected, "Give a --token-file."))
    if options.peer is not None and not port:
        faults.append(Fault("--peer", options.peer, "port 0", "the port that the other end listens on"))
    if faults:
        raise InputError(faults)
    device = device_facts(None, "link end", None)
    peer = Peer(Service(runners={}, device=device, token=token, heartbeat_s=1.0, most_body_bytes=1))
    end_on_sigterm(peer.service.farewell)
    try:
        listener = listening(*listen)
        if options.peer is None:
            door = listening(host, port, "--peer-listen")
            device["peer"] = spelled(door.getsockname())
            threading.Thread(target=peer.accept, args=(door,), name="peer", daemon=True).start()
        else:
            threading.Thread(target=peer.knock, args=(host, port), name="peer", daemon=True).start()
        print(f"listening on {spelled(listener.getsockname())}", flush=True)
        serve(listener, partial(served, peer))
    except Terminated:
        return 0
    raise AssertionError("serving has no end of its own")
