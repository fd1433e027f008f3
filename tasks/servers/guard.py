"""What stands before a server of ours on the loopback, so that no web page but its own can use it.

The loopback keeps other machines out, but any page in a browser of this one may send a request to it. CORS hides the
answer and lets what a form could send arrive all the same, sockets it does not concern, and a page whose own name is
turned to 127.0.0.1 (DNS rebinding) counts as the server's. So a request must ask for this machine by name, and where
it tells of the page it comes from, that page must be the server's. Browsers name the page, `Origin`, with all that may
change something, and say of the rest, as of a picture or a script that a page shows, whether it is for a page of the
same server (`Sec-Fetch-Site`, W3C Fetch Metadata). To follow a link to a page of ours is not the other page's request.
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
        host, origin = headers.get("host", ""), ", ".join(headers.getlist("origin"))
        is_own = headers.get("sec-fetch-site", "none") in ("same-origin", "none") or _follows_a_link(scope, headers)
        if THIS_MACHINE.fullmatch(host) and origin in ("", f"http://{host}") and is_own:
            return await self._app(scope, receive, _unframed(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = PlainTextResponse(
            f"host {host!r}, origin {origin!r}: this server answers to 127.0.0.1 and localhost, and pages of its own; "
            "from another machine use a tunnel (ssh -L)\n",
            403,
        )
        await refusal(scope, receive, send)


def _follows_a_link(scope: Scope, headers: Headers) -> bool:
    """Whether the answer becomes a page of its own, in a window and not in a frame; what a form posts does not."""
    kind = (scope.get("method"), headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return kind == ("GET", "navigate", "document")


def _unframed(send: Send) -> Send:
    """A page in the frame of another would let that one guide the clicks."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return sending
