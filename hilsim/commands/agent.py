"""`agent`: On the board, run models for a simulator elsewhere; how the process starts and ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hilsim.commands.arguments import Commands, add_allow_code, place

if TYPE_CHECKING:
    from hilsim.hardware.agent.injected import Injection
    from hilsim.hardware.agent.serve import Service

EXAMPLES = """examples:
  %(prog)s --model target=models/target --model draft=models/draft-2m
  %(prog)s --model draft=npu/draft.bin --engine my_engine.py:MyEngine --option cores=2
  %(prog)s --test tcp://127.0.0.1:7295
"""


GRACE_S = 3.0  # after SIGTERM for an ordinary end; then the process exits wherever it is


class Terminated(BaseException):
    """SIGTERM: the agent is asked to end, and does."""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "agent",
        help="on the board: run models for a simulator elsewhere, and time them",
        description="Run models on this machine for a simulator, which may be elsewhere, and time every step.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", metavar="[NAME=]PATH", action="append", default=[],
        help="a model and the name it is served under (default: that of the folder or file); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--engine", metavar="SPEC", help="FILE.py:CLASS or PACKAGE.MODULE:CLASS (default: checkpoints, by PyTorch)"
    )
    add_allow_code(parser)
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a keyword argument for the engine; repeatable",
    )
    parser.add_argument("--device", metavar="NAME", help="where checkpoints run: cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--threads", metavar="N", help="threads of checkpoints on a CPU (1)")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:7295",
        help="address to listen on; port 0 takes a free one (127.0.0.1:7295)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=place,
        help="file with a secret that clients must send; required if other machines can connect",
    )
    parser.add_argument(
        "--heartbeat", metavar="SECONDS", default="1", help="seconds between heartbeats during long steps (1)"
    )
    parser.add_argument("--most-body-mib", metavar="MIB", default="16", help="largest message that is accepted (16)")
    parser.add_argument("--name", metavar="TEXT", help="name of this device in reports")
    parser.add_argument(
        "--inject",
        metavar="HOST:PORT",
        help="let this agent hang, slow down, reset and be lost on purpose, as asked for at this address (port 0: any)",
    )
    parser.add_argument(
        "--test", metavar="ADDRESS", help="instead: test whether a running agent, tcp://HOST:PORT, follows the protocol"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted (130) or terminated (0); or test another agent."""
    if options.test is not None:
        from hilsim.commands.agent_test import run_conformance

        return run_conformance(options)
    from hilsim.commands.agent_settings import settings_of
    from hilsim.hardware.agent.listen import address_text, listening, serve
    from hilsim.hardware.agent.machine import device_facts
    from hilsim.hardware.agent.serve import Service, served

    services: list[Service] = []

    def farewell() -> None:
        for service in services:
            service.farewell()

    end_on_sigterm(farewell)
    runners = {}
    try:
        settings = settings_of(options)
        runners = settings.runners
        device = next((getattr(runner.engine, "device", None) for runner in runners.values()), None)
        service = Service(
            runners=runners,
            device=device_facts(settings.name, settings.engine, None if device is None else str(device)),
            token=settings.token,
            heartbeat_s=settings.heartbeat_s,
            most_body_bytes=settings.most_body_bytes,
        )
        services.append(service)
        listener = listening(settings.host, settings.port)
        if settings.inject is not None and settings.injection is not None:
            door = listening(*settings.inject, "--inject")
            take_injections(settings.injection, service, listener, door)
        print(f"listening on {address_text(listener.getsockname())}", flush=True)
        serve(listener, partial(served, service))
    except Terminated:
        return 0
    finally:
        for runner in runners.values():
            runner.close()
    raise AssertionError("serving has no end of its own")


def take_injections(injection: Injection, service: Service, listener: socket.socket, door: socket.socket) -> None:
    """Have a thread take faults at a door of their own, whose address the agent states among its facts."""
    from hilsim.hardware.agent.injected import served
    from hilsim.hardware.agent.listen import address_text, serve

    addresses = {"--listen": address_text(listener.getsockname()), "--inject": address_text(door.getsockname())}
    service.device = {**service.device, "inject": addresses["--inject"]}
    given = [argument for option in addresses.items() for argument in option]
    beside = replace(service, runners={}, device={}, conversation=None)

    def restart() -> None:
        """Begin anew in the same process: where it listens is settled now, and the last of an option counts."""
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *given])

    converse = partial(served, beside, injection, restart)
    threading.Thread(target=serve, args=(door, converse), name="injections", daemon=True).start()


def end_on_sigterm(farewell: Callable[[], None]) -> None:
    """Have SIGTERM raise `Terminated`, and end the process where that does not.

    Python raises between two of its own instructions. A runtime that is loading may stay in one call for minutes, and
    what is raised inside a callback is swallowed. So a thread learns of the signal by itself (the C handler writes to
    its socket at once), gives `GRACE_S` and then reports the end and exits the process at once.
    """
    signal.signal(signal.SIGTERM, terminated)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while signal.SIGTERM not in ours.recv(64):
            pass
        time.sleep(GRACE_S)
        with contextlib.suppress(OSError):
            farewell()
        theirs.close()  # must live until now
        os._exit(0)

    threading.Thread(target=watch, name="end", daemon=True).start()


def terminated(signal_number: int, frame: object) -> None:
    """Leave whatever is under way, an engine's call included, and end."""
    raise Terminated
