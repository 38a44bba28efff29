"""The command line: its commands, exit status, and the one place where errors become messages.

Exit status: 0 done; 1 ran, and the answer is bad news; 2 the input is at fault; 130, 143 and 129 ended by Ctrl-C,
SIGTERM and SIGHUP. Every command is a module of this folder with `add_arguments` and `run`; heavy packages are imported
by `run`, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from hilsim.commands.arguments import Parser, campaign, folder, place, require_sources, scenario, source, study
from hilsim.study.threads import single_threaded
from hilsim.trust import code_allowed, leave_strangers_folder

BAD_INPUT = 2
COMMANDS = {
    "simulate": "simulate", "check": "check", "record": "record", "explore": "explore", "study": "study",
    "agent": "agent", "link-end": "link_end", "profile": "profile", "train": "train", "card": "card",
    "import": "import_logs", "validate": "validate", "calibrate": "calibrate", "chip": "chip",
    "measure-first": "measure_first", "acceptance": "acceptance", "modes": "modes", "quality": "quality",
    "new": "new", "explain": "explain", "campaign": "campaign", "serve": "serve",
}  # fmt: skip
MANY_THREADED = ("agent", "train")  # a board computes with all it has; training multiplies large matrices
MODULE, SCRIPT = "python -m hilsim", "simulate.py"
SHELLS = ("bash", "zsh", "fish")
# Objects: Python's own 700 makes it look for garbage among modules that are being loaded; a short run makes 110,000.
GARBAGE_AFTER, USUAL = 200_000, 700
LONG_LIVED = ("agent", "link-end", "serve")  # what each connection leaves behind would add up
COMPLETED = (source, scenario, study, campaign, folder, place)  # types of options that take a path


def run_command_line() -> int:
    """The console script `hilsim`, and `python -m hilsim`."""
    if (prog := MODULE if os.path.basename(sys.argv[0]) == "__main__.py" else "hilsim") == MODULE:
        leave_strangers_folder()
    return whole_process(sys.argv[1:], prog)


def run_script() -> int:
    """`simulate.py`."""
    return whole_process(["simulate", *sys.argv[1:]], SCRIPT)


def simulate_main(arguments: Sequence[str]) -> int:
    """The command `simulate` as the script runs it, in a process that goes on."""
    return main(["simulate", *arguments], SCRIPT)


def whole_process(arguments: Sequence[str], prog: str) -> int:
    """Run the one command of a process and return its exit status, with which the process is then to end."""
    gc.set_threshold(GARBAGE_AFTER)
    ended: list[int] = []
    atexit.register(leave, ended)  # the first to be registered, so the last to be called
    status = main(arguments, prog)
    # Nothing is left to do: Ctrl-C ends what follows without the tracebacks of libraries.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    ended.append(status)
    return status


def leave(ended: Sequence[int]) -> None:
    """End a process whose command has ended with a status, and whose threads and exit handlers have as well.

    Python would look through all records and modules for garbage and free them one by one, which takes a tenth of a
    second, and of a process with PyTorch several.
    """
    if not ended:
        return
    with contextlib.suppress(OSError, ValueError):  # Python itself complains of what it cannot flush
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(ended[0])


def main(arguments: Sequence[str], prog: str = MODULE) -> int:
    """Run one command and return its exit status."""

    def command() -> int:
        options = parse(arguments, prog)
        require_sources(options)
        if options.command not in MANY_THREADED:
            single_threaded()  # before NumPy is imported
        if options.command in LONG_LIVED:
            gc.set_threshold(USUAL)
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # none is used, and looking for them takes long
        with code_allowed(getattr(options, "allow_code", False)):
            status: int = import_module(f"hilsim.commands.{COMMANDS[options.command]}").run(options)
        return status

    return guarded(command)


def parse(arguments: Sequence[str], prog: str = MODULE) -> argparse.Namespace:
    """The options of a command line, which is `typed` among them; faults in them, --help and --version end the process,
    as argparse does.
    """
    # One command's module is enough, unless the help or a mistyped command has to name them all.
    names = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    options, unknown = (parser := parser_of(names, prog)).parse_known_args(arguments)
    if unknown:
        refuse(unknown, options.command, parser, prog)
    options.typed = shlex.join(["hilsim", *arguments])
    return options


def refuse(unknown: Sequence[str], command: str, parser: argparse.ArgumentParser, prog: str) -> NoReturn:
    """End over arguments that a command does not take, with those that may have been meant, or whose they are."""
    from hilsim.describe.names import key_hint

    ours = command_parsers(parser)[command]
    every = command_parsers(parser_of(COMMANDS, prog))
    sentences = []
    for option in (word.partition("=")[0] for word in unknown if word.startswith("--")):
        others = [name for name, other in every.items() if option in other._option_string_actions]
        known = [name for name in ours._option_string_actions if name.startswith("--")]
        sentences.append(key_hint(option, known) or (f"{option} is of {', '.join(others)}." if others else ""))
    ours.error(" ".join(filter(None, [f"unrecognized arguments: {' '.join(unknown)}.", *sentences])))


def command_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def parser_of(names: Sequence[str] | dict[str, str], prog: str) -> argparse.ArgumentParser:
    """The parser with some commands."""
    parser = Parser(
        prog=prog,
        description="Simulate speculative decoding over two chips of a car: its time, memory, compilation and text.",
    )
    parser.add_argument("--version", action=ShowVersions, help="show the versions of hilsim and of what it uses")
    parser.add_argument(
        "--completion", metavar="SHELL", choices=SHELLS, action=PrintCompletion,
        help=f"print a completion script: {', '.join(SHELLS)}",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        module = import_module(f"hilsim.commands.{COMMANDS[name]}")
        module.add_arguments(commands)
        command = commands.choices[name]
        command.description = command.description or (module.__doc__ or "").partition(": ")[2]
    if prog == SCRIPT:
        script = commands.choices["simulate"]
        script.prog = prog
        script.epilog = (script.epilog or "").replace("%(prog)s", f"python {SCRIPT}")
        script.add_argument("--version", action=ShowVersions, help="show the versions of hilsim and of what it uses")
    return parser


class ShowVersions(argparse.Action):
    """`--version`."""

    def __init__(self, **given: Any):
        super().__init__(**given, nargs=0, default=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from hilsim.versions import installed

        print(installed())
        parser.exit()


class PrintCompletion(argparse.Action):
    """`--completion SHELL`: a script for the console command, with files and folders where options take them."""

    def __call__(self, parser: argparse.ArgumentParser, _: argparse.Namespace, shell: Any, *rest: object) -> None:
        from hilsim.versions import require_package

        require_package("shtab", "--completion")
        import shtab

        whole = parser_of(COMMANDS, "hilsim")
        for command in command_parsers(whole).values():
            for action in command._actions:
                if action.type in COMPLETED:
                    vars(action)["complete"] = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
        print(shtab.complete(whole, shell))
        parser.exit()


def guarded(command: Callable[[], int]) -> int:
    """Run a command; errors that the user can fix become a message and an exit status, never a traceback."""
    from hilsim.commands.ending import ending_by_signals
    from hilsim.errors import HilsimError, memory_short

    if sys.stdout is None:
        complain("standard output: found none; expected an open stream. Use --out DIR and > /dev/null.")
        return BAD_INPUT
    with ending_by_signals() as ending:
        try:
            with ending:
                status = command()
            sys.stdout.flush()
        except HilsimError as error:
            complain(str(error))
            return BAD_INPUT
        except KeyboardInterrupt as stop:
            complain(str(stop) or f"{ending.word}; nothing half-written was left behind")
            give_up_output(flush=True)
            return ending.status
        except SystemExit as stop:
            if not isinstance(stop.__context__, BrokenPipeError):
                raise
            return not_printed("a closed pipe")  # Rich ends the process so, without a word
        except (MemoryError, RuntimeError, ImportError) as error:
            if (short := memory_short(error, "what this command computes")) is None:
                raise
            complain(str(short))
            return BAD_INPUT
        except OSError as error:
            if error.filename is not None:
                raise  # a file of ours: files.py names those
            closed = isinstance(error, BrokenPipeError)
            return not_printed("a closed pipe" if closed else (error.strerror or str(error)).lower(), closed=closed)
    return status


def not_printed(found: str, *, closed: bool = True) -> int:
    """Report that standard output, `closed` or full, does not take what is printed; the exit status."""
    give_up_output()
    expected = "a reader until the end" if closed else "room for all that is printed"
    remedy = "Or write files with --out DIR." if closed else "Free some, or print elsewhere."
    complain(f"standard output: found {found}; expected {expected}. {remedy}")
    return BAD_INPUT


def give_up_output(*, flush: bool = False) -> None:
    """Python flushes at exit, and would complain again: give what cannot be written somewhere to go."""
    with contextlib.suppress(OSError):
        if flush:
            sys.stdout.flush()
            return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """One message on standard error, with control characters made harmless; none where nothing can be written there."""
    safe = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):  # the terminal is gone, or the disk is full
        try:
            print(safe, file=sys.stderr)
        except UnicodeError:
            print(ascii(safe), file=sys.stderr)
