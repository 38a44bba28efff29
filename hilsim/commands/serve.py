"""`serve`: Explore one scenario by hand, on a page in the browser whose controls are its main choices."""

from __future__ import annotations

import argparse
import re
import signal

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, whole
from hilsim.describe.address import browsers_name
from hilsim.errors import Fault, InputError

PORT = 5006  # of Bokeh's server
NAME = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
EXAMPLES = """examples:
  %(prog)s scenarios/orin_8295.yaml
  %(prog)s orin_8295_greedy --port 0 --no-browser
  %(prog)s orin_8295 --host 0.0.0.0 --expose lab-machine,10.0.0.5     (others can use it; IPv6 as fd00::5)
"""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the server is asked to end, and does."""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "serve",
        help="explore one scenario by hand, on a page in the browser",
        description="Serve a page whose controls are a scenario's main choices: link, widths, drafted tokens, policy, "
        "acceptance, precision, payload. It answers by screening, and has the --set line to copy.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_scenario(parser)
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen (default: this machine alone)"
    )
    parser.add_argument(
        "--port", metavar="PORT", type=whole(0, 65535), default=PORT,
        help=f"the port (default: {PORT}; 0: any that is free)",
    )  # fmt: skip
    parser.add_argument(
        "--expose", metavar="NAME,NAME", type=names,
        help="listen where other machines can connect, too, and answer those that call this one by these names; "
        "there is no password",
    )  # fmt: skip
    opening = parser.add_mutually_exclusive_group()
    opening.add_argument("--open", action="store_true", help="open the page in the browser of this machine")
    opening.add_argument("--no-browser", action="store_true", help="only print the address (the default)")


def names(text: str) -> list[str]:
    """Names or addresses by which browsers call a machine."""
    found = {name: browsers_name(name) for name in (name.strip().lower() for name in text.split(","))}
    if not all(re.fullmatch(NAME, name, re.ASCII) or called != name for name, called in found.items()):
        expected = "names or addresses with commas between them, none in brackets"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return list(dict.fromkeys(found.values()))


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted (130) or terminated (0)."""
    from hilsim.commands.agent_settings import is_loopback
    from hilsim.versions import require_package

    require_package("bokeh", "serve")
    here = is_loopback(options.host)
    if not here and options.expose is None:
        expected = "this machine's own address, such as 127.0.0.1"
        remedy = "Add --expose NAME,... with the names by which others call this machine; there is no password."
        raise InputError([Fault("--host", "", repr(options.host), expected, remedy)])
    if here and options.expose is not None:
        raise InputError(
            [Fault("--expose", "", f"--host {options.host}", "an address that others reach", "Add --host.")]
        )
    signal.signal(signal.SIGTERM, terminated)
    try:
        from hilsim.show.page.server import serve
        from hilsim.study.by_hand import ByHand

        tried = ByHand(options.scenario, overrides_of(options))
        if here:
            known, warning = [*dict.fromkeys((browsers_name(options.host), "127.0.0.1", "localhost"))], ""
        else:
            known = options.expose
            warning = f"anyone who reaches {options.host} can use this page: there is no password"
        serve(tried, options.host, options.port, known, open_browser=options.open, warning=warning)
    except Terminated:
        return 0
    raise AssertionError("serving has no end of its own")


def terminated(number: int, frame: object) -> None:
    """Leave whatever is under way, and end."""
    raise Terminated
