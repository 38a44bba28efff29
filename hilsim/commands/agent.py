"""The `agent` command as argparse sees it, and how it starts and ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from hilsim.commands.arguments import place

EXAMPLES = """examples:
  python -m hilsim agent --model target=models/target --model draft=models/draft-2m
  python -m hilsim agent --model draft=npu/draft.bin --engine my_engine.py:MyEngine --option cores=2
  python -m hilsim agent --test tcp://127.0.0.1:7295
"""


GRACE_S = 3.0  # after SIGTERM for what is under way to be left; then the process ends as it is


class Terminated(BaseException):
    """SIGTERM: the agent is asked to end, and does."""


def add_agent(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `agent` command."""
    agent = commands.add_parser(
        "agent",
        help="on the board: run models for a simulator elsewhere, and time them",
        description="Run models on this machine for a simulator, which may be elsewhere, and time every step.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    agent.add_argument(
        "--model", metavar="[NAME=]PATH", action="append", default=[],
        help="what to run, under which name (without one, that of the folder or file); repeatable",
    )  # fmt: skip
    agent.add_argument(
        "--engine", metavar="SPEC", help="FILE.py:CLASS or PACKAGE.MODULE:CLASS (default: checkpoints, by PyTorch)"
    )
    agent.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="something for the engine; repeatable"
    )
    agent.add_argument("--device", metavar="NAME", help="of checkpoints: cpu, cuda or cuda:N (cpu)")
    agent.add_argument("--threads", metavar="N", help="of checkpoints on a CPU (1)")
    agent.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:7295", help="port 0 is any (127.0.0.1:7295)")
    agent.add_argument(
        "--token-file", metavar="FILE", type=place, help="a secret that clients must know; needed beyond this machine"
    )
    agent.add_argument("--heartbeat", metavar="SECONDS", default="1", help="between signs of life in long steps (1)")
    agent.add_argument("--most-body-mib", metavar="MIB", default="16", help="largest message that is taken (16)")
    agent.add_argument("--name", metavar="TEXT", help="what this device is called in reports")
    agent.add_argument(
        "--test", metavar="ADDRESS", help="instead: hold a running agent, tcp://HOST:PORT, against the protocol"
    )


def run_agent(options: argparse.Namespace) -> int:
    """Serve until interrupted (130) or terminated (0); or test another agent."""
    if options.test is not None:
        from hilsim.commands.agent_test import run_conformance

        return run_conformance(options)
    from hilsim.commands.agent_settings import settings_of
    from hilsim.hardware.agent.listen import listening, serve, spelled
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
        print(f"listening on {spelled(listener.getsockname())}", flush=True)
        serve(listener, partial(served, service))
    except Terminated:
        return 0
    finally:
        for runner in runners.values():
            runner.close()
    raise AssertionError("serving has no end of its own")


def end_on_sigterm(farewell: Callable[[], None]) -> None:
    """Have SIGTERM raise `Terminated`, and end the process where that does not.

    Python raises between two of its own instructions. A runtime that is loading may stay in one call for minutes, and
    what is raised inside a callback is swallowed. So a thread learns of the signal by itself (the C handler writes to
    its socket at once), gives `GRACE_S` and then says farewell and ends the process without asking anything further.
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
        theirs.close()  # kept until now
        os._exit(0)

    threading.Thread(target=watch, name="end", daemon=True).start()


def terminated(signal_number: int, frame: object) -> None:
    """Leave whatever is under way, an engine's call included, and end."""
    raise Terminated
