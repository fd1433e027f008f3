"""The Prefect API server: that of `t2v up`, which uvicorn serves, and that of one run, which is this file as a process.

`tasks.servers.runtime` starts that process and nobody else should. It listens on a socket it inherits, says `ready` on
its standard output, and lives until its standard input closes. That happens when the run stops it and also when the run
is killed, so no server outlives its run. It leaves only after every event it has received is in the database: task runs
reach the server as events, and uvicorn alone would drop them.
"""

import asyncio
import os
import socket
import sys
import threading
import time

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.utilities.messaging.memory import METRICS, Topic
from starlette.types import ASGIApp

from tasks.servers.database import write_in_turn
from tasks.servers.guard import OwnPagesOnly

SETTLED_SECONDS = 0.3
"""No event for this long, and none waiting: all has arrived."""
CLOSING_SECONDS = 20.0
"""A server that cannot settle or close in this time is left behind without further words."""


def application() -> ASGIApp:
    """The API with its UI, schedules and rules."""
    write_in_turn()
    return OwnPagesOnly(create_app(final=True))


class Server(uvicorn.Server):
    """A uvicorn server that announces itself."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then write one line for the run that waits for it."""
        await super().startup(sockets)
        os.write(1, b"ready\n")
        os.dup2(2, 1)  # whatever is printed from here on belongs in the log


async def settled(longest: float = CLOSING_SECONDS) -> None:
    """Return when every event received so far has been handed to the database writers."""
    deadline = time.monotonic() + longest
    seen, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        waiting = sum(subscription._queue.qsize() for subscription in Topic.by_name("events")._subscriptions)
        published = METRICS["events"]["published"]
        if waiting or published != seen:
            seen, since = published, time.monotonic()
        elif time.monotonic() - since >= SETTLED_SECONDS:
            return
        await asyncio.sleep(0.05)


async def serve(listening: socket.socket) -> None:
    """Serve until standard input closes."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        threading.Thread(target=_leave_at_last, daemon=True).start()
        loop.call_soon_threadsafe(closed.set)

    write_in_turn()
    app = OwnPagesOnly(create_app(ephemeral=True, final=True))
    server = Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    threading.Thread(target=wait_for_the_end, daemon=True).start()
    serving = asyncio.create_task(server.serve([listening]))
    stop = asyncio.create_task(closed.wait())
    await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await settled()
        server.should_exit = True
    await serving


def _leave_at_last() -> None:
    time.sleep(2 * CLOSING_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
    sys.stdout.flush()
    os._exit(0)  # the database's helper threads are done; waiting for the interpreter to unload costs a second
