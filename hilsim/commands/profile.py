"""`profile`: Time steps of many shapes on a board, into a recording for `calibrate`; Ctrl-C ends it early."""

from __future__ import annotations

import argparse
import sys

from hilsim.commands.arguments import Commands, place, source, whole, wholes
from hilsim.commands.outputs import require_place

MOST_ROWS = 2**20  # positions in one step, or cached
EXAMPLES = """examples:
  %(prog)s tcp://192.168.1.20:7295 --out board.jsonl --token-file token
  %(prog)s tcp://127.0.0.1:7295 --out board.jsonl --rows 1,2,4,8 --cached 0,512 --prompts 64,256
then:
  python -m hilsim calibrate board.jsonl --chip computer-cpu --out my-board.yaml
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "profile",
        help="time many steps on a board behind an agent, for calibrate",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", metavar="tcp://HOST:PORT", help="where the board's agent listens")
    parser.add_argument(
        "--out", metavar="FILE", type=place, required=True,
        help="the recording; one that exists gets another session",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="NAME", action="append", default=[], help="one of its models (default: all); repeatable"
    )
    parser.add_argument(
        "--rows", metavar="N,...", type=wholes(1, MOST_ROWS), help="numbers of positions computed in a step"
    )
    parser.add_argument(
        "--cached", metavar="N,...", type=wholes(0, MOST_ROWS), help="numbers of positions in the cache before a step"
    )
    parser.add_argument("--prompts", metavar="N,...", type=wholes(1, MOST_ROWS), help="prompt lengths, in tokens")
    parser.add_argument(
        "--repeats",
        metavar="N",
        type=whole(1, 1000),
        default=7,
        help="timed runs of each shape; their median is used (7)",
    )
    parser.add_argument(
        "--warm-up", metavar="N", type=whole(0, 1000), default=3, help="untimed runs of each shape before those (3)"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", type=source, help="file with the secret that the agent requires"
    )


def run(options: argparse.Namespace) -> int:
    """Profile the board and show the new session."""
    from contextlib import closing

    from rich.console import Console

    from hilsim.describe.address import Address
    from hilsim.errors import InputError, Misfit
    from hilsim.hardware.measured.profile import ProfileGrid, taken
    from hilsim.hardware.measured.rig import token_in
    from hilsim.hardware.measured.sweep import load_models, record_steps
    from hilsim.hardware.recordings.recording import read_recording
    from hilsim.hardware.wire.client import Agent
    from hilsim.show.step_times import print_profile

    try:
        address = Address.parse(options.address)
    except Misfit as error:
        raise InputError([error.fault("profile", "", "an address")]) from None
    token = None if options.token_file is None else token_in(options.token_file)
    require_place(options.out, "--out")
    with closing(Agent(address, token)) as agent:
        models = load_models(agent, options.model)
        doubts, unjudged = record_steps(
            agent, models, options.out, ProfileGrid(options.rows, options.cached, options.prompts),
            warm_up=options.warm_up, repeats=options.repeats, notify=lambda note: print(note, file=sys.stderr),
        )  # fmt: skip
    session = read_recording(options.out).sessions[-1]
    header = session.header
    print_profile(Console(), header.device, taken(session.entries), doubts, unjudged, str(options.out))
    return 0
