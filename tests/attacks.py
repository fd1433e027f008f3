"""What a web page may try against a server on the loopback of the machine that shows it.

Three kinds of pages: one of a foreign origin, one of another server on this machine, and one whose own name has been
turned to 127.0.0.1 in the meantime, which the browser then takes for a page of the server (DNS rebinding).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from tests.browser import Page

EVIL = "evil.test"
REBOUND = f"MAP *.{EVIL} 127.0.0.1, MAP {EVIL} 127.0.0.1"
"""For a browser: what DNS would say."""

TRIES = """
(async (url, body) => {
  const found = {}, text = JSON.stringify(body);
  const trying = async (name, act) => { try { found[name] = await act() } catch (error) { found[name] = error.name } };
  const answer = async (path, options) => (await fetch(path, options)).status;
  const typed = type => ({method: 'POST', body: text, headers: {'Content-Type': type}});
  await trying('read', () => answer(url));
  await trying('json', () => answer(url, typed('application/json')));
  await trying('plain', () => answer(url, typed('text/plain')));
  await trying('blind plain', () => answer(url, {...typed('text/plain'), mode: 'no-cors'}));
  await trying('blind bare', () => answer(url, {method: 'POST', body: new Blob([text]), mode: 'no-cors'}));
  await trying('beacon', () => navigator.sendBeacon(url, text));
  for (const [tag, from] of [['img', 'src'], ['script', 'src'], ['video', 'src'], ['link', 'href']])
    await trying(tag, () => new Promise(done => {
      const shown = Object.assign(document.createElement(tag), {rel: 'stylesheet', [from]: url});
      shown.onload = shown.onloadedmetadata = () => done('shown'), shown.onerror = () => done('refused');
      document.body.append(shown);
    }));
  await trying('socket', () => new Promise(done => {
    const socket = new WebSocket(url.replace('http', 'ws'));
    socket.onopen = () => done('open'), socket.onerror = () => done('refused');
  }));
  await trying('form', () => new Promise(done => {
    document.body.innerHTML = `<iframe name=there></iframe><form method=post target=there enctype=text/plain
      action='${url}'><input name='{"form":"' value='"}'></form>`;
    document.querySelector('iframe').onload = () => done('sent');
    document.querySelector('form').submit();
  }));
  await trying('frame', () => new Promise(done => {
    document.body.innerHTML = `<iframe src='${url}'></iframe>`;
    document.querySelector('iframe').onload = () => done('loaded');
  }));
  return found;
})"""


def by_page(page: Page, at: str, url: str, body: Any) -> dict[str, Any]:
    """What became of each try of the page at an address to read `url` and to post `body` to it.

    A status, or what was raised; 0 is of an answer that the page may not look at.
    """
    page.open(at)
    page.wait(f"location.href.startsWith({json.dumps(at)}) && document.body != null")
    found: dict[str, Any] = page.evaluate(f"{TRIES}({json.dumps(url)}, {json.dumps(body)})")
    return found


def by_all_pages(page: Page, url: str, body: Any) -> None:
    """All pages try, and none may read anything."""
    with foreign_page() as foreign:
        for at in (foreign, foreign.replace(EVIL, "127.0.0.1")):
            found = by_page(page, at, url, body)
            assert found["read"] == found["json"] == found["plain"] == "TypeError", (at, found)
            assert found["socket"] == "refused"
    rebound = httpx.URL(url).copy_with(host=EVIL)
    found = by_page(page, str(rebound), str(rebound), body)
    assert found["read"] == found["json"] == found["plain"] == 403, found
    assert found["socket"] == "refused"


@contextmanager
def foreign_page() -> Iterator[str]:
    """The address of an empty page of another origin, as a browser with `REBOUND` finds it."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<body></body>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{EVIL}:{server.server_port}/"
        finally:
            server.shutdown()


def by_http(url: str, body: Any) -> None:
    """The same as a browser would send it: nothing may be accepted, and no answer be shown to the page."""
    port = httpx.URL(url).port
    for host in (f"{EVIL}:{port}", f"10.{EVIL}:{port}", f"127.0.0.1.{EVIL}:{port}", f"localhost.{EVIL}:{port}"):
        for origin in ({}, {"Origin": f"http://{host}"}):
            headers = {"Host": host} | origin
            assert httpx.get(url, headers=headers, timeout=60).status_code == 403, headers
            assert httpx.post(url, headers=headers, json=body, timeout=60).status_code == 403, headers
    foreign = (f"http://{EVIL}", "null", f"http://127.0.0.1.{EVIL}:{port}", f"http://{EVIL}:{port}")
    for origin in (*foreign, "http://127.0.0.1:9", "http://localhost:9"):
        answer = httpx.get(url, headers={"Origin": origin}, timeout=60)
        assert answer.headers.get("access-control-allow-origin") is None, origin
        for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
            posted = httpx.post(url, headers={"Origin": origin} | kind, content=json.dumps(body), timeout=60)
            assert posted.status_code == 403, (origin, kind)
