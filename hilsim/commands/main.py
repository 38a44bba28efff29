"""The command line: arguments, exit status, and the one place where errors become messages.

Exit status: 0 done; 1 ran, and the answer is bad news; 2 the input is at fault; 130 interrupted. Heavy packages are
imported by the command that needs them, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hilsim import __version__
from hilsim.commands.agent import add_agent, run_agent
from hilsim.commands.arguments import MOST_SEED, folder, number, place, require_sources, source, whole
from hilsim.commands.hardware import add_profile, add_recorded, calibrate_recorded, run_profile
from hilsim.commands.link_end import add_link_end, run_link_end
from hilsim.commands.studies import add_explore, add_study, run_explore, run_study

if TYPE_CHECKING:
    from hilsim.commands.check import CheckOptions

DONE, BAD_NEWS, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
EXAMPLES = """examples:
  python simulate.py scenarios/orin_8295.yaml
  python simulate.py scenarios/orin_8295.yaml --set link=1000base-t1 --set policy.draft_tokens=3
  python simulate.py scenarios/orin_8295.yaml --json > report.json
  python simulate.py scenarios/orin_8295.yaml --realtime 1      (at the passenger's pace)
"""


def simulate_main(arguments: Sequence[str]) -> int:
    """`simulate.py`: run one scenario, live on the terminal, and report."""
    parser = argparse.ArgumentParser(
        prog="simulate.py",
        description="Simulate a language model split over two chips of a car, with real small models and timed chips.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_scenario(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of the live dashboard")
    parser.add_argument("--trace", metavar="FILE", type=place, help="write a trace that Perfetto opens")
    parser.add_argument(
        "--out", metavar="DIR", type=place, help="write report.json, trace.json, tables (CSV) and pictures"
    )
    parser.add_argument(
        "--realtime",
        metavar="FACTOR",
        type=number(1e-6, 1e6, ", such as 1 or 0.1"),
        help="wall seconds per simulated second: 1 is the passenger's pace",
    )
    parser.add_argument(
        "--uncertainty",
        metavar="N",
        type=whole(10, 100_000, ", such as 200"),
        default=0,
        help="error bars: replay with N sets of figures drawn",
    )
    parser.add_argument(
        "--shadow", action="store_true", help="where boards execute the steps: how far off the chip model is, by kind"
    )
    parser.add_argument(
        "--link-ends",
        metavar="TARGET,DRAFT",
        type=link_ends,
        help="with --realtime 1 and agents behind both units: also run it really, over a link between these link-ends",
    )
    parser.add_argument("--version", action="version", version=f"hilsim {__version__}")

    options = parser.parse_args(arguments)

    def command() -> int:
        require_sources(options)
        from hilsim.commands.simulate import RunOptions, run_scenario

        run = RunOptions(
            file=options.scenario,
            overrides=overrides_of(options),
            json=options.json,
            plain=options.plain,
            trace=options.trace,
            out=options.out,
            realtime=options.realtime,
            uncertainty=options.uncertainty,
            shadow=options.shadow,
            link_ends=options.link_ends,
        )
        return run_scenario(run)

    return guarded(command)


def main(arguments: Sequence[str]) -> int:
    """`python -m hilsim COMMAND`."""
    parser = argparse.ArgumentParser(
        prog="python -m hilsim", description="Tools around the simulator; to run a scenario use simulate.py."
    )
    parser.add_argument("--version", action="version", version=f"hilsim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="does it compile, does it fit? findings, rewrites, the memory ledger")
    add_scenario(check, optional=True)
    check.add_argument("--largest-context", action="store_true", help="also the longest context that still fits")
    check.add_argument("--profile", metavar="NAME", help="hold units against this compiler's rules (chips/profiles)")
    check.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    check.add_argument("--write", metavar="DIR", type=place, help="save the rewritten programs, compared first")
    check.add_argument(
        "--module", metavar="SPEC", help="instead of a scenario: PACKAGE.MODULE:FACTORY or FILE.py:FACTORY"
    )
    check.add_argument("--chip", metavar="NAME", help="where the module goes")
    check.add_argument("--unit", metavar="NAME", help="which unit of the chip (default: the first that fits)")
    check.add_argument("--precision", metavar="NAME", help="number format there (default: the first that runs)")
    record = commands.add_parser("record", help="let the real models speak once and write a transcript to replay")
    add_scenario(record)
    record.add_argument("--out", metavar="FILE", type=place, required=True, help="the transcript, e.g. talk.npz")
    record.add_argument(
        "--depth",
        metavar="N",
        type=whole(1, 1000, ", such as 16"),
        default=16,
        help="tokens of every continuation (16)",
    )
    add_explore(commands)
    add_study(commands)
    add_agent(commands)
    add_link_end(commands)
    add_profile(commands)
    train = commands.add_parser("train", help="train tokenizer, target and drafts from the corpus")
    train.add_argument("--out", metavar="DIR", type=place, required=True, help="where the checkpoint folders go")
    train.add_argument("--corpus", metavar="DIR", type=folder, default="models/corpus", help="the dialogues")
    train.add_argument("--work", metavar="DIR", type=place, help="where unfinished work is kept (default: OUT/work)")
    train.add_argument("--seed", metavar="N", type=whole(0, MOST_SEED), default=1)
    train.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    train.add_argument("--float32", action="store_true", help="for processors without bfloat16; about twice the time")
    card = commands.add_parser("card", help="measure the stand-ins' losses and acceptance and write the model card")
    card.add_argument("--models", metavar="DIR", type=folder, default="models")
    card.add_argument(
        "--dialogues", metavar="N", type=whole(1, 10_000), default=40, help="conversations per part and setting"
    )
    validate = commands.add_parser("validate", help="how well do the chips predict? predicted against measured figures")
    validate.add_argument(
        "--csv", metavar="FILE", type=source,
        help="a team's own figures instead of the shipped ones, or llama-bench's output (columns: docs/logs.md)",
    )  # fmt: skip
    validate.add_argument("--chip", metavar="NAME", help="the chip of llama-bench's rows, which do not name a board")
    validate.add_argument(
        "--trace", metavar="FILE", type=source,
        help="instead: your log of a real two-device run (JSON; its format: docs/logs.md), replayed and predicted",
    )  # fmt: skip
    validate.add_argument("--plot", metavar="FILE", type=place, help="also a scatter plot (PNG, SVG or PDF)")
    validate.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    validate.add_argument("--skip-bad", action="store_true", help="skip rows of unknown devices or precisions")
    calibrate = commands.add_parser("calibrate", help="fit a chip's constants to measurements and write its file")
    calibrate.add_argument(
        "file", metavar="FILE", nargs="?", type=source,
        help="measurements (CSV; default: the shipped ones), or a recording of a board's steps (.jsonl)",
    )  # fmt: skip
    subject = calibrate.add_mutually_exclusive_group(required=True)
    subject.add_argument("--chip", metavar="NAME", help="the chip to fit, by name or file, with rows of its own")
    subject.add_argument("--family", metavar="NAME", help="the family to fit, over all its chips")
    calibrate.add_argument("--out", metavar="FILE", type=place, help="where the fitted file goes")
    calibrate.add_argument(
        "--fit", metavar="NAME", action="append", default=[], help="a further constant of the chip; repeatable"
    )
    calibrate.add_argument("--skip-bad", action="store_true", help="skip rows of unknown devices or precisions")
    add_recorded(calibrate)
    chip = commands.add_parser("chip", help="a chip's figures and sources, or what a model or network takes on it")
    chip.add_argument("chip", metavar="NAME", help="a chip by name, NAME@MODE or file")
    chip.add_argument("--model", metavar="NAME", help="time the steps of this model on every unit")
    chip.add_argument(
        "--context", metavar="N", type=whole(2, 10**7), default=1024, help="context compiled or filled by half"
    )
    chip.add_argument(
        "--network", metavar="GMACS,PARAMS_M,OPERATORS", type=network, help="time a network, e.g. 4.35,3.2,254"
    )

    options = parser.parse_args(arguments)

    def command() -> int:
        require_sources(options)
        if options.command == "study":
            return run_study(options)
        if options.command == "explore":
            return run_explore(options)
        if options.command == "agent":
            return run_agent(options)
        if options.command == "link-end":
            return run_link_end(options)
        if options.command == "profile":
            return run_profile(options)
        from hilsim.commands import simulate as app
        from hilsim.commands.check import check_command

        if options.command == "chip":
            from hilsim.commands import fidelity as app_fidelity

            return app_fidelity.show_chip(options.chip, options.model, options.context, options.network)
        if options.command == "validate":
            from hilsim.commands import fidelity as app_fidelity

            if options.trace is not None:
                given = {
                    "--csv": options.csv,
                    "--chip": options.chip,
                    "--plot": options.plot,
                    "--skip-bad": options.skip_bad,
                }
                beside = [name for name, value in given.items() if value]
                return app_fidelity.validate_trace(options.trace, beside=beside, as_json=options.json)
            return app_fidelity.validate(
                options.csv, chip=options.chip, plot=options.plot, as_json=options.json, skip_bad=options.skip_bad
            )
        if options.command == "calibrate":
            if (status := calibrate_recorded(options)) is not None:
                return status
            from hilsim.commands import fidelity as app_fidelity

            return app_fidelity.calibrate(
                options.file,
                chip=options.chip,
                family=options.family,
                out=options.out,
                fit=options.fit,
                skip_bad=options.skip_bad,
            )
        if options.command == "check":
            return check_command(check_options(options))
        if options.command == "record":
            from hilsim.runs.record import record as record_scenario

            return record_scenario(options.scenario, overrides_of(options), options.out, options.depth)
        if options.command == "train":
            work = options.work or options.out / "work"
            return app.train(
                options.corpus, options.out, work, seed=options.seed, quick=options.quick, float32=options.float32
            )
        return app.write_card(options.models, options.dialogues)

    return guarded(command)


def check_options(options: argparse.Namespace) -> CheckOptions:
    """What `check` was asked for. Raises `InputError` where that is neither a scenario nor a module, or both."""
    from hilsim.commands.check import CheckOptions
    from hilsim.errors import Fault, InputError

    only_module = {"--chip": options.chip, "--unit": options.unit, "--precision": options.precision}
    if (options.scenario is None) == (options.module is None):
        found = "neither a scenario nor --module" if options.module is None else "a scenario and --module"
        raise InputError([Fault("check", "", found, "one of the two")])
    if options.module is None and (stray := [name for name, value in only_module.items() if value is not None]):
        raise InputError([Fault("check", ", ".join(stray), "a scenario, which says that itself", "--set, or --module")])
    if options.module is not None and options.largest_context:
        raise InputError([Fault("check", "--largest-context", "a module, which has no context", "a scenario")])
    pinned = [] if options.profile is None or options.module is not None else [f"compile.profile={options.profile}"]
    return CheckOptions(
        scenario=options.scenario,
        overrides=[*overrides_of(options), *pinned],
        largest=options.largest_context,
        json=options.json,
        write=options.write,
        module=options.module,
        chip=options.chip,
        unit=options.unit,
        precision=options.precision,
        profile=options.profile,
    )


def add_scenario(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The arguments that every command on a scenario takes."""
    parser.add_argument(
        "scenario",
        metavar="SCENARIO",
        nargs="?" if optional else None,
        type=source,
        help="a scenario file, e.g. scenarios/orin_8295.yaml",
    )
    parser.add_argument(
        "--set", metavar="PATH=VALUE", action="append", default=[], help="change one value of the scenario; repeatable"
    )
    parser.add_argument("--seed", metavar="N", help="another seed (same as --set seed=N)")


def overrides_of(options: argparse.Namespace) -> list[str]:
    """All --set arguments, --seed among them."""
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    return [*options.set, *seed]


def link_ends(text: str) -> dict[str, str]:
    """The addresses of both ends of a link, by role."""
    from hilsim.describe.address import Address

    ends = text.split(",")
    try:
        for end in ends:
            Address.parse(end)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {error}") from None
    if len(ends) != 2:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected two addresses, the target's and the draft's")
    return dict(zip(("target", "draft"), ends, strict=True))


def network(text: str) -> object:
    """A network as GMACS,PARAMS_M,OPERATORS."""
    from hilsim.describe.compiled import NetworkLoad

    try:
        gmacs, params_m, operators = (float(part) for part in text.split(","))
    except ValueError:
        gmacs = params_m = operators = -1.0
    if not (1e-9 <= gmacs < 1e9 and 0 <= params_m < 1e9 and 0 <= operators < 1e9 and operators == int(operators)):
        expected = "GMACs, millions of parameters and operators, such as 4.35,3.2,254"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return NetworkLoad(gmacs, params_m / 1000, int(operators))


def guarded(command: Callable[[], int]) -> int:
    """Run a command; whatever is the user's to mend becomes a message and a status, never a traceback."""
    from hilsim.errors import HilsimError, memory_short

    if sys.stdout is None:
        complain("standard output: found none; expected an open stream. Use --out DIR and > /dev/null.")
        return BAD_INPUT
    try:
        status = command()
        sys.stdout.flush()
    except HilsimError as error:
        complain(str(error))
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        complain(str(stop) or "interrupted; nothing half-written was left behind")
        return INTERRUPTED
    except (MemoryError, RuntimeError, ImportError) as error:
        if (short := memory_short(error, "what this command computes")) is None:
            raise
        complain(str(short))
        return BAD_INPUT
    except OSError as error:
        if error.filename is not None:
            raise  # a file of ours: files.py names those
        # Python would complain again when it flushes at exit: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        found = "a closed pipe" if isinstance(error, BrokenPipeError) else (error.strerror or str(error)).lower()
        complain(f"standard output: found {found}; expected a reader until the end. Or write files with --out DIR.")
        return BAD_INPUT
    return status


def complain(text: str) -> None:
    """One message on standard error, with control characters made harmless."""
    safe = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    try:
        print(safe, file=sys.stderr)
    except (OSError, UnicodeError):
        print(ascii(safe), file=sys.stderr)
