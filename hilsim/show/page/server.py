"""The server of a scenario tried by hand: Bokeh's, on an address of one's own, for browsers that call it by its name.

A page elsewhere cannot use it: a request whose Host is another name is not answered (so that a name which is bound to
this address later reaches nothing), and a connection whose Origin is another page is refused.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from bokeh.document import Document
from bokeh.models.widgets.markups import Div
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import HostMatches, Rule, RuleRouter

from hilsim.describe.address import listening_fault
from hilsim.errors import InputError
from hilsim.places import PACKAGE
from hilsim.show.numbers import clean
from hilsim.show.page.by_hand import HandPage
from hilsim.study.by_hand import ByHand

MOST_PAGES = 8  # open at once: each has a session with its own figures
MOST_MESSAGE_BYTES = 2**20  # from a browser, which sends places in lists
FULL = f"<p>{MOST_PAGES} pages are open, as many as this server has. Close one, wait 15 s, and load this one again.</p>"


def serve(tried: ByHand, host: str, port: int, names: Sequence[str], *, open_browser: bool, warning: str = "") -> None:
    """Serve pages until interrupted, to browsers that call this machine by one of `names`, as URLs have them.

    Prints the address, and the warning before it. Raises `InputError` where it cannot listen there.
    """
    server, address = started(tried, host, port, names)
    if warning:
        print(warning, file=sys.stderr, flush=True)
    print(f"listening on {address}", flush=True)
    if open_browser:
        webbrowser.open(address)
    try:
        server.io_loop.start()
    finally:
        server.stop(wait=False)


def started(tried: ByHand, host: str, port: int, names: Sequence[str]) -> tuple[BaseServer, str]:
    """A server that listens, and its address; it answers once its loop runs."""
    try:
        sockets, at = bind_sockets(host, port)
    except (OSError, ValueError) as error:  # ValueError: what can be no address
        raise InputError([listening_fault(host, port, error, "--", "; is `hilsim serve` running already?")]) from None
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.CRITICAL)  # it names options of another command
    logging.getLogger("tornado.application").addFilter(in_one_line)
    pages = Pages(tried)
    application = BokehTornado(
        {"/": pages.opened},
        extra_websocket_origins=[f"{name}:{at}" for name in names],
        websocket_max_message_size_bytes=MOST_MESSAGE_BYTES,
    )
    known = "|".join(map(re.escape, names))
    server = HTTPServer(RuleRouter([Rule(HostMatches(f"^(?:{known})$"), application)]))
    server.add_sockets(sockets)
    running = BaseServer(IOLoop.current(), application, server)
    running.start()
    return running, f"http://{names[0]}:{at}/"


def in_one_line(record: logging.LogRecord) -> bool:
    """Make a line of what a request raised in Bokeh's own code: it is no browser's, or its page was open for too long.

    What the code of a page raises keeps its traceback.
    """
    if record.exc_info and (error := record.exc_info[1]) is not None:
        files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
        if not any(Path(file).is_relative_to(PACKAGE) for file in files):
            what = record.getMessage().partition("\n")[0]
            record.msg, record.args = f"{clean(what)}: {type(error).__name__}: {clean(str(error))}", ()
            record.exc_info = record.exc_text = None
    return True


class Pages:
    """The pages that are open."""

    def __init__(self, tried: ByHand):
        self.tried, self.open = tried, 0

    def opened(self, shell: Document) -> None:
        """Fill the page of a browser that has just connected."""
        if self.open >= MOST_PAGES:
            shell.add_root(Div(text=FULL))
            return
        HandPage(self.tried, shell)
        shell.on_session_destroyed(self.closed)
        self.open += 1

    def closed(self, context: object) -> None:
        """A browser has gone."""
        self.open -= 1
