"""Servers and workers as child processes: each with a log, started again when it ends, all stopped together."""

import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import psutil

from t2v_models import files
from t2v_models.config import LabError
from tasks.report.console import say
from tasks.servers.up_note import identity

READY_SECONDS = 300
STOP_SECONDS = 20
"""A part that has not ended by itself after this long is killed."""
ONE_LINE = "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS"
"""`tasks.servers.runtime` sets it for people at a terminal; a log file gets whole records."""
LOG_BYTES = 5_000_000
"""MLflow's log grows by some 0.7 MB an hour of use."""
ENDINGS, WINDOW_SECONDS = 5, 600
"""A part that ends so often in so long is not started again: something is wrong that a person must see."""


@dataclass
class Part:
    """One process that should always be there."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    ended: list[float] = field(default_factory=list)
    """When it ended although nobody had asked for it (`time.monotonic`)."""


class Services:
    """The parts of one `t2v up`; a context that ends every part at its end, those started last first.

    Args:
        logs: folder of their logs.
        folder: where they run.
        note: is told `processes` whenever a part has been started, so that a killed `t2v up` leaves none unknown.
    """

    def __init__(self, logs: Path, folder: Path, note: Callable[[dict[str, str]], None] = lambda parts: None) -> None:
        self._logs, self._folder, self._note = logs, folder, note
        self._parts: dict[str, Part] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, *_: object) -> None:
        for stage in (("worker",), ("",)):  # workers tell the servers how their runs ended
            end([p.process.pid for p in self._parts.values() if p.name.startswith(stage) and p.process.poll() is None])
        for part in self._parts.values():
            part.process.wait()

    def start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a part; its output is added to `<logs>/<name>.log`."""
        log = self._logs / f"{name}.log"
        told = environment or {}
        with _undisturbed():
            self._parts[name] = Part(name, command, told, log, self._launch(log, command, told))
            self._note(self.processes())

    def finish(self, name: str) -> None:
        """Wait for a part that does one thing and ends.

        Raises:
            LabError: it fails.
        """
        part = self._parts[name]
        if code := part.process.wait():
            raise LabError(f"'{' '.join(part.command)}' has {_ending(code)}: read {part.log}")
        del self._parts[name]
        self._note(self.processes())

    def wait(self, name: str, url: str) -> None:
        """Until `url` answers; what is no part of ours was asked before.

        Raises:
            LabError: the part ends before it answers, or takes too long.
        """
        part, deadline = self._parts.get(name), time.monotonic() + READY_SECONDS
        if part is None:
            return
        while time.monotonic() < deadline and part.process.poll() is None:
            if answers(url):
                return
            time.sleep(0.5)
        raise LabError(f"nothing answers at {url}: read {part.log} for the reason, or choose another port")

    def processes(self) -> dict[str, str]:
        """Each part's process as `tasks.servers.up_note.identity`."""
        return {p.name: identity(p.process.pid) for p in self._parts.values() if p.process.poll() is None}

    def rotate(self) -> None:
        """Keep every log below twice `LOG_BYTES`, the older half in `<name>.log.1`."""
        for log in self._logs.glob("*.log"):
            files.rotate(log, LOG_BYTES)

    def revive(self) -> list[str]:
        """Start again what has ended; the names of those parts.

        Raises:
            LabError: a part keeps ending.
        """
        dead = [part for part in self._parts.values() if part.process.poll() is not None]
        for part in dead:
            now = time.monotonic()
            part.ended = [then for then in part.ended if now - then < WINDOW_SECONDS] + [now]
            how = _ending(part.process.returncode)
            if len(part.ended) >= ENDINGS:
                raise LabError(f"{part.name} has {how} {ENDINGS} times: read {part.log} and start 't2v up' again")
            say(f"{part.name} has {how} and is started again; its log is {part.log}")
            with _undisturbed():
                part.process = self._launch(part.log, part.command, part.environment)
                self._note(self.processes())
        return [part.name for part in dead]

    def _launch(self, log: Path, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A process in a session of its own: Ctrl-C is for `t2v up`, which ends it in its turn."""
        tool, *arguments = command
        told = {k: v for k, v in os.environ.items() if k != ONE_LINE}
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(Path(sys.executable).with_name(tool)), *arguments],  # of this environment, whatever PATH says
                cwd=self._folder, env={**told, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip


def end(pids: Sequence[int]) -> None:
    """End processes with all they have started: asked first, and killed when they do not go."""
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    family = found + [child for process in found for child in process.children(recursive=True)]
    for process in found:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for process in left:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def answers(url: str) -> bool:
    """Whether a server answers there with success."""
    try:  # not httpx, which reads all certificates anew for each question: 0.1 s of a core that starts servers
        with urlopen(_request(url), timeout=5) as answer:
            return int(answer.status) == 200
    except (OSError, ValueError):  # away, refusing, or not a URL
        return False


def _request(url: str) -> Request:
    """A question to a URL; its `user:password@`, which urllib takes for a part of the host, goes into a header."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    secret = b64encode(unquote(user).encode()).decode()
    return Request(parts._replace(netloc=host).geturl(), headers={"Authorization": f"Basic {secret}"} if user else {})


def free_port(port: int, what: str) -> int:
    """`port` if nothing listens there, else another one, which is said."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
            say(f"port {port} is taken: {what} gets {probe.getsockname()[1]}")
        return int(probe.getsockname()[1])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block; a process they found half started would be known to nobody."""
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for waited in came:
        signal.raise_signal(waited)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _ending(code: int) -> str:
    return f"been killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
