"""How a process ends that does not unload its libraries: as Python would, but for that."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from t2v_models.processes import end_at_once

class Library:
    def __del__(self):
        print("unloaded")

kept = Library()

def work():
    print("said", end="")
    {last}

end_at_once(work)
"""


@pytest.mark.parametrize(
    ("last", "code", "error"),
    [
        ("", 0, ""),
        ("sys.exit(143)", 143, ""),
        ("sys.exit('a word')", 1, ""),
        ("raise ValueError('no luck')", 1, "ValueError: no luck\n"),
    ],
)
def test_a_process_that_ends_at_once_has_said_all_and_has_the_code_that_python_would_give(
    last: str, code: int, error: str
) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(last=last)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "said")
    assert done.stderr.endswith(error) and bool(done.stderr) == bool(error)
