"""How a process ends that does not unload its libraries: as Python would, but for that."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys, threading, time
from t2v_models.ending import end_at_once

class Library:
    def __del__(self):
        print("unloaded")

kept = Library()

def work():
    print("said, ", end="")
    atexit.register(print, "all is closed", end="")
    threading.Thread(target=lambda: (time.sleep(0.1), print("waited for, ", end=""))).start()
    {last}

end_at_once(work)
"""


@pytest.mark.parametrize(
    ("last", "code", "error"),
    [
        ("", 0, ""),
        ("sys.exit(143)", 143, ""),
        ("sys.exit('a word')", 1, "a word\n"),
        ("raise ValueError('no luck')", 1, "ValueError: no luck\n"),
    ],
)
def test_a_process_that_ends_at_once_ends_as_python_would_but_for_what_it_would_unload(
    last: str, code: int, error: str
) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(last=last)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "said, waited for, all is closed")
    assert done.stderr.endswith(error) and bool(done.stderr) == bool(error)
