"""How far the tests are: on a terminal one line that is written over, elsewhere a new line now and then."""

import time

import pytest

LINES = 40
"""Written where no terminal is, from the first test to the last."""


class Progress:
    """A plugin of pytest that counts finished tests, also those of other processes, in place of dots."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal, self._start, self._done = terminal, time.monotonic(), 0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dot for a test that has passed; a letter for all else."""
        return ("passed", "", "PASSED") if report.when == "call" and report.passed else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_line(f"failed: {report.nodeid}")

    def pytest_runtest_logfinish(self, location: tuple[str, int | None, str]) -> None:
        self._done += 1
        total = self._session.testscollected
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        line = f"{self._done} of {total} tests, {minutes}:{seconds:02}, {location[0]}"
        if self._terminal.isatty:
            self._terminal.rewrite(line, erase=True)
        elif self._done * LINES // total > (self._done - 1) * LINES // total:
            self._terminal.ensure_newline()
            self._terminal.write_line(line)
