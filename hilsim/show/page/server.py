"""The server of a scenario tried by hand: Bokeh's, on an address of one's own, for browsers that call it by its name.

A page elsewhere cannot use it: a request whose Host is another name is not answered (so that a name which is bound to
this address later reaches nothing), and a connection whose Origin is another page is refused.
"""

from __future__ import annotations

import logging
import re
import webbrowser
from collections.abc import Sequence

from bokeh.document import Document
from bokeh.models.widgets.markups import Div
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.routing import HostMatches, Rule, RuleRouter

from hilsim.errors import Fault, InputError
from hilsim.files import reason
from hilsim.show.page.by_hand import HandPage
from hilsim.study.by_hand import ByHand

MOST_PAGES = 8  # open at once: each has a session with its own figures
MOST_MESSAGE_BYTES = 2**20  # from a browser, which sends places in lists
FULL = f"<p>{MOST_PAGES} pages are open, as many as this server has. Close one, wait 15 s, and load this one again.</p>"


def serve(tried: ByHand, host: str, port: int, names: Sequence[str], *, open_browser: bool) -> None:
    """Serve pages until interrupted, to browsers that call this machine by one of `names`.

    Prints the address. Raises `InputError` where it cannot listen there.
    """
    server, address = started(tried, host, port, names)
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
        remedy = "Choose another port, or 0 for any that is free; is `hilsim serve` running already?"
        raise InputError(
            [Fault("--port", f"{host}:{port}", reason(error), "an address to listen on", remedy)]
        ) from None
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.CRITICAL)  # it names options of another command
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
