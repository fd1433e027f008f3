"""How a process ends without unloading its libraries. Light, for the first line of a command."""

import atexit
import os
import sys
from collections.abc import Callable


def end_at_once(work: Callable[[], object]) -> None:
    """Do all the work of this process, whose end is then Python's own, but for its libraries: they are not unloaded.

    Python's end looks through all their objects, with torch for half a second of a core: several by the clock on a busy
    machine, where a process that was told to stop may be killed after ten. Threads are waited for, and what has been
    registered with `atexit` since this was called is done.
    """
    code = 1

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(end)  # what is registered first is done last
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
