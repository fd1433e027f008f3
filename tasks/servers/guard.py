"""What stands before a server of ours on the loopback, so that no web page but its own can use it.

The loopback keeps other machines out, but any page in a browser of this one may send a request to it. CORS hides the
answer and lets what a form could send arrive all the same, sockets it does not concern, and a page whose own name is
turned to 127.0.0.1 (DNS rebinding) counts as the server's. So a request must ask for this machine by name, and where
it tells of the page it comes from, as browsers do with all that may change something, that page must be the server's.
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
"""Hosts that are served; the port is free, for a tunnel may begin at another one."""


class OwnPagesOnly:
    """An ASGI application that refuses foreign hosts and foreign pages with 403, and is shown in nobody's frame."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        is_own = THIS_MACHINE.fullmatch(host) and origin in (None, f"http://{host}")
        if is_own:
            return await self._app(scope, receive, _unframed(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = PlainTextResponse(
            f"host {host!r}, origin {origin!r}: this server answers to 127.0.0.1 and localhost, and pages of its own; "
            "from another machine use a tunnel (ssh -L)\n",
            403,
        )
        await refusal(scope, receive, send)


def _unframed(send: Send) -> Send:
    """A page in the frame of another would let that one guide the clicks."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return sending
