"""A headless Chromium for tests, driven by its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_SECONDS = 300


class Page:
    """One page. `requests` holds every address it has asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.requests: list[str] = []
        self._socket, self._sent = socket, 0
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; events that arrive meanwhile are looked through for requests."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(PATIENCE_SECONDS))
            if message.get("method") in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                told = message["params"]
                self.requests.append(told["request"]["url"] if "request" in told else told["url"])
            if message.get("id") == self._sent:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := self.evaluate(script):
                return found
            time.sleep(0.2)
        text = self.evaluate("document.body.innerText")
        raise AssertionError(f"never true: {script}\n{text}")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )

    def picture(self, path: Path) -> None:
        """What the window shows, as a PNG; a picture of the whole page would resize it, and some load anew then."""
        data = self.call("Page.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 900, dark: bool = False, names: str = "") -> Iterator[Page]:
    """A page in a browser of its own, which keeps everything in `folder`; `names` are rules for host names."""
    assert CHROMIUM
    options = ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
               "remote-debugging-port=0", f"user-data-dir={folder}", f"window-size={width},{height}",
               f"host-resolver-rules={names}")  # fmt: skip
    command = [CHROMIUM, *(f"--{option}" for option in options), "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and not (port.is_file() and port.read_text().strip()):
            time.sleep(0.1)
        number, _ = port.read_text().split()
        with connect(f"ws://127.0.0.1:{number}{_first_page(number)}", max_size=2**28) as socket:
            page = Page(socket)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            page.call("Emulation.setEmulatedMedia", features=[scheme])
            yield page
    finally:
        process.terminate()
        process.wait(30)


def _first_page(port: str) -> str:
    """The path of the first page's socket."""
    import httpx

    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for target in httpx.get(f"http://127.0.0.1:{port}/json/list").json():
            if target["type"] == "page":
                return str(target["webSocketDebuggerUrl"]).partition(port)[2]
        time.sleep(0.1)
    raise AssertionError("the browser shows no page")
