"""What a person sees in the Prefect UI while work goes on: a progress artifact, and a line in the log now and then.

Both are sent by a thread, so that a server that is slow or away holds nobody up: progress is told again, not kept.
"""

import contextvars
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from uuid import UUID

ARTIFACT_SECONDS = 5.0
"""Between two updates of a progress artifact, each a request to the server."""
TICK_SECONDS = 20.0
"""Between two looks at the clock while a stage of a lab is at work."""
LOG_SECONDS = 60.0
"""Between two lines in the log."""
AWAY_SECONDS = 60.0
"""How long an artifact waits for a server that is away, as the states of a run do; then it is left out."""

STARTING = "starting"
"""What is said before anything is told."""

Result = TypeVar("Result")


def run_logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger] | None":
    """The logger of the Prefect run this is called in; None outside one."""
    if "prefect.context" not in sys.modules:  # no run without it; importing it here would write to the user's home
        return None
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.logging import get_run_logger

    return get_run_logger() if FlowRunContext.get() or TaskRunContext.get() else None


def show_artifact(create: Callable[..., object], *arguments: Any, key: str, **settings: Any) -> None:
    """Create an artifact of Prefect; a server that is gone for good costs the artifact, never the run."""
    import httpx
    from prefect.exceptions import PrefectException

    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            _forget_earlier(key)
            create(*arguments, key=key, **settings)
            return
        except (httpx.HTTPError, PrefectException) as error:
            if time.monotonic() > deadline:
                logging.getLogger(__name__).warning("the Prefect server is away, an artifact is left out: %s", error)
                return
            time.sleep(1)


@contextmanager
def reported(title: str) -> Iterator[Callable[[float, str], None]]:
    """Shows progress in the run's UI by calling `(share done in [0, 1], note)`; outside a run it does nothing."""
    log = run_logger()
    if log is None:
        yield lambda share, note: None
        return
    told = _Told(title, log)
    # the copy carries the run, so that the artifact belongs to it
    sender = threading.Thread(target=contextvars.copy_context().run, args=(told.send_until_closed,), daemon=True)
    sender.start()
    try:
        yield told.tell
        told.finish()
    finally:
        told.closed.set()
        sender.join()


@contextmanager
def planned(title: str, seconds: Mapping[str, float]) -> Iterator[Callable[[str], None]]:
    """Shows how far a whole lab is, which stage of how many and the time left, by calling with a stage as it begins.

    Args:
        title: of the artifact.
        seconds: how long each stage may take, in their order; what is left is told by how long the others took.
    """
    names, whole, ended = list(seconds), sum(seconds.values()), threading.Event()
    place, since = 0, time.monotonic()

    def begin(name: str) -> None:
        nonlocal place, since
        place, since = max(place, names.index(name)), time.monotonic()  # on the pools stages overlap
        show()

    def show() -> None:
        name = names[place]
        here = min(time.monotonic() - since, 0.95 * seconds[name])
        share = (sum(seconds[n] for n in names[:place]) + here) / whole
        tell(share, f"stage {place + 1} of {len(names)}: {name}")

    def tick() -> None:
        while not ended.wait(TICK_SECONDS):
            show()

    with reported(title) as tell:
        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield begin
        finally:
            ended.set()
            ticking.join()


def concluded(result: Result, sentence: str) -> Result:
    """What a flow returns: its result with the sentence that says what came out, which stands in the state of the run
    and with it in the last line of its log. Prefect gives the result to whoever has called the flow.
    """
    if run_logger() is None:
        return result
    from prefect.states import Completed

    return cast(Result, Completed(message=sentence, data=result))


class _Told:
    """The newest progress, and what of it has been sent."""

    def __init__(self, title: str, log: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        self.closed = threading.Event()
        self._title, self._log = title, log
        self._start = time.monotonic()
        self._first: float | None = None  # a resumed run does not begin at 0
        self._now = (0.0, STARTING)
        self._artifact: UUID | None = None

    def tell(self, share: float, note: str) -> None:
        """Keep it for the thread."""
        self._first = share if self._first is None else self._first
        self._now = (min(share, 1.0), note)

    def finish(self) -> None:
        """All is done, also where there was nothing to tell of."""
        _, note = self._now
        self._now = (1.0, "done" if note == STARTING else note)

    def send_until_closed(self) -> None:
        """The thread: the newest progress every few seconds, and once more at the end."""
        import httpx
        from prefect.exceptions import PrefectException

        sent, logged, going, pause = None, time.monotonic(), True, 0.0
        while going:
            going, pause = not self.closed.wait(pause), ARTIFACT_SECONDS
            if time.monotonic() - logged >= LOG_SECONDS or not going:
                logged = time.monotonic()
                self._log.info("%s: %s", self._title, self._sentence(*self._now))
            if (now := self._now) != sent:  # it may move on while it is sent
                try:
                    self._send(*now)
                    sent = now
                except (httpx.HTTPError, PrefectException) as error:
                    logging.getLogger(__name__).info("the Prefect server is away: %s", error)

    def _send(self, done: float, note: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        share, text = 100 * done, f"{self._title}: {self._sentence(done, note)}"
        if self._artifact is None:
            key = re.sub(r"[^a-z0-9]+", "-", self._title.lower())
            _forget_earlier(key)
            artifact = create_progress_artifact(share, key=key, description=text)
            assert isinstance(artifact, UUID)  # a coroutine only inside an event loop
            self._artifact = artifact
        else:
            update_progress_artifact(self._artifact, share, description=text)

    def _sentence(self, share: float, note: str) -> str:
        seconds = time.monotonic() - self._start
        done = share - (self._first or 0)
        left = f", about {span(seconds * (1 - share) / done)} left" if done > 0 and share < 1 else ""
        return f"{share:.0%}, {note}, {span(seconds)} so far{left}"


def _forget_earlier(key: str) -> None:
    """Remove the artifact that an earlier start of this run, which was killed, has left: it would stand beside."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
    from prefect.runtime import flow_run

    if flow_run.id is None:  # outside a run an artifact belongs to nobody
        return
    of_this_run = ArtifactFilter(
        key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run.id)])
    )
    with get_client(sync_client=True) as client:
        for artifact in client.read_artifacts(artifact_filter=of_this_run):
            client.delete_artifact(artifact.id)


def span(seconds: float) -> str:
    """`48 s`, `3 min 20 s`, `2 h 5 min`: as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
