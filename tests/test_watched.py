"""Progress as a watcher sees it, when there is nobody to tell it to."""

import logging
import threading

import httpx
import pytest

from tasks.report.progress import _Told


def test_a_server_that_is_away_is_asked_now_and_then_and_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told, asked, first = _Told("rendering", logging.getLogger("test")), [], threading.Event()

    def away(*now: object) -> None:
        asked.append(now)
        first.set()
        raise httpx.ConnectError("nobody listens")

    monkeypatch.setattr(told, "_send", away)
    sender = threading.Thread(target=told.send_until_closed)
    sender.start()
    assert first.wait(60)
    told.tell(1.0, "done")
    told.closed.set()
    sender.join()
    assert asked == [(0.0, "starting"), (1.0, "done")]
