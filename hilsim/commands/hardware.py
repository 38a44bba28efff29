"""The commands about boards as argparse sees them: `profile`, and `calibrate` with a recording."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import place, source, whole, wholes

MOST_ROWS = 2**20  # positions in one step, or cached

PROFILE = """examples:
  python -m hilsim profile tcp://192.168.1.20:7295 --out board.jsonl --token-file token
  python -m hilsim profile tcp://127.0.0.1:7295 --out board.jsonl --rows 1,2,4,8 --cached 0,512 --prompts 64,256
  python -m hilsim calibrate board.jsonl --chip computer-cpu --out my-board.yaml     (what it is for)
"""


def add_profile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The `profile` command."""
    profile = commands.add_parser(
        "profile",
        help="time many steps on a board behind an agent, for calibrate",
        description="Time steps of many shapes on a board and write them into a recording. Ctrl-C keeps what is there.",
        epilog=PROFILE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    profile.add_argument("address", metavar="tcp://HOST:PORT", help="where the board's agent listens")
    profile.add_argument(
        "--out", metavar="FILE", type=place, required=True, help="the recording; one that is there gets a session more"
    )
    profile.add_argument("--model", metavar="NAME", action="append", default=[], help="one of its models; repeatable")
    profile.add_argument("--rows", metavar="N,...", type=wholes(1, MOST_ROWS), help="positions computed in a step")
    profile.add_argument(
        "--cached", metavar="N,...", type=wholes(0, MOST_ROWS), help="positions in the cache before a step"
    )
    profile.add_argument("--prompts", metavar="N,...", type=wholes(1, MOST_ROWS), help="lengths of prompts")
    profile.add_argument(
        "--repeats", metavar="N", type=whole(1, 1000), default=7, help="times each; the median counts (7)"
    )
    profile.add_argument("--warm-up", metavar="N", type=whole(0, 1000), default=3, help="times each before that (3)")
    profile.add_argument("--token-file", metavar="FILE", type=source, help="the secret that the agent asks for")


def run_profile(options: argparse.Namespace) -> int:
    """Profile a board."""
    from hilsim.commands.profile import ProfileOptions, profile
    from hilsim.hardware.measured.profile import Grid

    return profile(
        ProfileOptions(
            address=options.address,
            out=options.out,
            models=options.model,
            grid=Grid(options.rows, options.cached, options.prompts),
            warm_up=options.warm_up,
            repeats=options.repeats,
            token_file=options.token_file,
        )
    )


def add_recorded(calibrate: argparse.ArgumentParser) -> None:
    """What `calibrate` takes with a recording alone."""
    only = calibrate.add_argument_group("with a recording")
    only.add_argument(
        "--model", metavar="RECORDED=NAME", action="append", default=[],
        help="which model of models/ one of the recording's is, where names differ; repeatable",
    )  # fmt: skip
    only.add_argument("--unit", metavar="NAME", help="the chip's unit that was recorded (default: its only one)")
    only.add_argument("--precision", metavar="NAME", help="its number format (default: the only one)")


def calibrate_recorded(options: argparse.Namespace) -> int | None:
    """Calibrate from a recording; None where the file is none."""
    from hilsim.commands.profile import CalibrateOptions, calibrate, holds_recording
    from hilsim.errors import Fault, InputError

    recorded = options.file is not None and holds_recording(options.file)
    stray = {"--family": options.family, "--fit": options.fit, "--skip-bad": options.skip_bad}
    if not recorded:
        stray = {"--model": options.model, "--unit": options.unit, "--precision": options.precision}
    if given := [name for name, value in stray.items() if value]:
        found = "a recording" if recorded else "measurements"
        expected = "--chip alone, and everything that the steps tell is fitted" if recorded else "a recording (.jsonl)"
        raise InputError([Fault("calibrate", ", ".join(given), found, expected)])
    if not recorded:
        return None
    return calibrate(
        CalibrateOptions(options.file, options.chip, options.out, options.model, options.unit, options.precision)
    )
