"""Servers on the loopback and the pages of a browser: what those of others may not do, and what our own still may."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
import uvicorn
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tasks.servers.guard import OwnPagesOnly
from tests.attacks import EVIL, REBOUND, by_all_pages, by_http, by_page, foreign_page
from tests.browser import CHROMIUM, browser


class Told:
    """An application that answers everything, lets everybody read, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.asked.append("socket")
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
        else:
            body = (await receive())["body"].decode()
            self.asked.append(f"{scope['method']} {scope['path']} {body}".strip())
            inside = "<script>fetch('/framed', {method: 'POST'})</script>"
            allowed = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
            await HTMLResponse(inside, headers=allowed)(scope, receive, send)


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of an application, as long as the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        thread = Thread(target=asyncio.run, args=(server.serve([listening]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_requests_of_foreign_hosts_and_origins_never_reach_the_application() -> None:
    told = Told()
    with served(OwnPagesOnly(told)) as url:
        by_http(f"{url}/x", {})
        for headers in ({"Origin": "http://127.0.0.1:9"}, {"Origin": url.replace("http", "https")}, {"Host": ""},
                        [("Origin", url), ("Origin", f"http://{EVIL}")]):  # fmt: skip
            assert httpx.post(url, headers=headers).status_code == 403
        for site in ("cross-site", "same-site"):
            for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe"), ("cors", "empty")):
                fetched = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
                assert httpx.get(url, headers=fetched).status_code == 403
        with pytest.raises(InvalidStatus, match="403"), connect(url.replace("http", "ws"), origin=f"http://{EVIL}"):
            pass
        assert [ask for ask in told.asked if not ask.startswith("GET /x")] == []
        told.asked.clear()
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert httpx.post(url, headers=link).status_code == 403, "a browser may be set not to send Origin"
        for headers in (link, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
            assert httpx.get(url, headers=headers).status_code == 200
        assert told.asked == ["GET /"] * 3
        told.asked.clear()
        for host in (url, url.replace("127.0.0.1", "localhost")):
            own = httpx.post(host, headers={"Origin": host})
            assert (own.status_code, own.headers["x-frame-options"]) == (200, "SAMEORIGIN")
            with connect(host.replace("http", "ws"), origin=host):
                pass
        tunnel = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
        assert httpx.post(url, headers=tunnel).status_code == 200
        assert told.asked == ["POST /", "socket"] * 2 + ["POST /"]


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_a_page_can_use_an_open_server_in_every_way_and_a_guarded_one_in_none(tmp_path: Path) -> None:
    """That the open one is used shows that the tries are real: what is refused would else have come about."""
    post = 'POST /x {"a":1}'
    with browser(tmp_path / "browser", names=REBOUND) as page, foreign_page() as foreign:
        told = Told()
        with served(told) as url:
            found = by_page(page, foreign, f"{url}/x", {"a": 1})
            assert [found[way] for way in ("read", "json", "plain", "socket")] == [200, 200, 200, "open"]
            assert told.asked.count(post) == 5
            assert {"GET /x", "socket", 'POST /x {"form":"="}', "POST /framed"} <= set(told.asked)
            rebound = f"http://{EVIL}:{url.rsplit(':')[-1]}/x"
            assert by_page(page, rebound, rebound, {"a": 1})["read"] == 200
        told = Told()
        with served(OwnPagesOnly(told)) as url:
            by_all_pages(page, f"{url}/x", {"a": 1})
            assert told.asked == []


def flows(server: str) -> list[str]:
    return [flow["name"] for flow in httpx.post(f"{server}/flows/filter", json={}, timeout=60).json()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # prefect's own
def test_the_prefect_server_of_a_run_takes_nothing_that_a_foreign_page_could_send(server: str) -> None:
    by_http(f"{server}/flows/", {"name": "evil"})
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{server.replace('http', 'ws')}/events/in", origin=f"http://{EVIL}")
    assert "evil" not in flows(server)
    assert httpx.post(f"{server}/flows/", content='{"name": "bare"}', timeout=60).is_success
    assert "bare" in flows(server), "so it takes a body without a type, which every page may send without asking"


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
@pytest.mark.filterwarnings("ignore")  # prefect's own
def test_no_page_in_a_browser_reaches_the_prefect_server_of_a_run(server: str, tmp_path: Path) -> None:
    with browser(tmp_path / "browser", names=REBOUND) as page:
        by_all_pages(page, f"{server}/flows/", {"name": "evil"})
        by_all_pages(page, f"{server}/events/in", [])
    assert "evil" not in flows(server)
