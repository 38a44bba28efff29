"""`calibrate`: Fit a chip's constants to measured figures, or to a recording of a board's steps, and write its file."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, place, source
from hilsim.commands.validate import print_skipped


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("calibrate", help="fit a chip's constants to measurements and write its file")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", type=source,
        help="measurements (CSV or a log; default: the shipped ones), or a recording of a board's steps (.jsonl)",
    )  # fmt: skip
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--chip", metavar="NAME", help="the chip to fit, by name or file; needs measurements of it")
    subject.add_argument("--family", metavar="NAME", help="the family to fit, over all its chips")
    parser.add_argument("--out", metavar="FILE", type=place, help="where the fitted file goes")
    parser.add_argument(
        "--fit", metavar="NAME", action="append", default=[], help="another constant of the chip to fit; repeatable"
    )
    parser.add_argument("--skip-bad", action="store_true", help="skip rows of unknown devices or precisions")
    only = parser.add_argument_group("with a recording")
    only.add_argument(
        "--model", metavar="RECORDED=NAME", action="append", default=[],
        help="the described model (models/) that a recorded one is, where their names differ; repeatable",
    )  # fmt: skip
    only.add_argument("--unit", metavar="NAME", help="the chip's unit that was recorded (default: its only one)")
    only.add_argument("--precision", metavar="NAME", help="its number format (default: the only one)")


def run(options: argparse.Namespace) -> int:
    """Fit and write. Returns 1 where rows are doubtful, or where no constants agree with the steps."""
    from hilsim.errors import Fault, InputError
    from hilsim.fidelity.chip_file import require_chip_file
    from hilsim.hardware.measured.calibrate import holds_recording

    recorded = options.file is not None and holds_recording(options.file)
    stray = {"--family": options.family, "--fit": options.fit, "--skip-bad": options.skip_bad}
    if not recorded:
        stray = {"--model": options.model, "--unit": options.unit, "--precision": options.precision}
    if given := [name for name, value in stray.items() if value]:
        found = "a recording" if recorded else "measurements"
        expected = "--chip alone: all constants are fitted to the steps" if recorded else "a recording (.jsonl)"
        raise InputError([Fault("calibrate", ", ".join(given), found, expected)])
    require_chip_file(options.out)
    return fit_steps(options) if recorded else fit_rows(options)


def fit_rows(options: argparse.Namespace) -> int:
    """What was fitted, how well it is known and how well it predicts; then warnings and notes on the rows."""
    from rich.console import Console
    from rich.text import Text

    from hilsim.fidelity.chip_file import write_chip
    from hilsim.fidelity.from_file import calibrate
    from hilsim.show.fidelity import calibration_table, left_out_lines, remark_lines

    found = calibrate(
        options.file, chip=options.chip, family=options.family,
        name=None if options.out is None else options.out.stem, constants=options.fit,
        skipped=print_skipped if options.skip_bad else None,
    )  # fmt: skip
    write_chip(found.text, options.out)
    console = Console()
    console.print(calibration_table(found.calibration.record.title, found.calibration.figures))
    console.print(f"\n{found.calibration.residuals}")
    for sentence in found.calibration.account:
        console.print(Text(sentence))
    if found.left_out:
        console.print(left_out_lines(found.left_out))
    for line in remark_lines([str(doubt) for doubt in found.doubts], found.notes):
        console.print(line)
    console.print(f"Written: {options.out}" if options.out is not None else "Nothing was written (no --out).")
    return 1 if found.doubts else 0


def fit_steps(options: argparse.Namespace) -> int:
    """A chip file whose constants are fitted to the steps of a recording."""
    from rich.console import Console

    from hilsim.fidelity.chip_file import as_file, write_chip
    from hilsim.hardware.measured.calibrate import calibrate
    from hilsim.hardware.recordings.recording import read_recording
    from hilsim.show.step_times import print_calibration

    recording = read_recording(options.file)
    found = calibrate(recording, options.chip, models=options.model, unit=options.unit, precision=options.precision)
    write_chip(as_file(found.record, None if options.out is None else options.out.stem), options.out)
    print_calibration(Console(), found, recording.torn, options.out)
    return 1 if found.far_off else 0
