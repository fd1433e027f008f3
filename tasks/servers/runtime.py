"""The surroundings of a run: where libraries may write, what they may say, and the one Prefect API server.

`prepare` comes first, before Prefect or MLflow are imported: both read their settings on import. This file imports
neither at its top, so that the command line can call it before anything else.
"""

import logging
import os
import re
import selectors
import shlex
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from t2v_models import files
from t2v_models.config import LabError
from t2v_models.files import locked
from tasks.servers.up_note import running

WORK = Path(os.environ.get("T2V_WORK", "work"))
"""Where everything is written unless a command says otherwise; `t2v up` sets it for the runs of its workers."""
READY_SECONDS = 300
"""At a load of 17 on two cores a fresh database took more than 120 s to migrate; a quiet machine needs a tenth."""
FLUSH_SECONDS = 30
"""How long the last task states may take to leave this process."""
LOG_BYTES = 5_000_000
"""Of `server.log`, after which a new one is begun."""
SERVER_SETTINGS = {
    "PREFECT_UI_API_URL": "/api",  # of the same origin, whatever name or tunnel the page was opened by
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # block types register themselves on first use
    # many states in one transaction; one each, as by default, keeps a core busy
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",  # Prefect cuts 0.5 to 0 and spins
    # events are most of the database, and only its rules read them; the logs of removed runs go once a day
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P1D",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
}
"""Of every Prefect server that is started here."""


class OneLineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The console of Prefect's loggers: one line a record, never a traceback.

    A failing run is left out: its exception reaches the command line, which prints it once. The whole record, with its
    traceback, is in the Prefect API.
    """

    def __init__(self, stream: IO[str] | None = None, styles: Any = None) -> None:
        super().__init__(stream)

    def filter(self, record: logging.LogRecord) -> bool:
        """False for the records of a failing flow or task run."""
        of_a_run = record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))
        endings = ("Finished in state", "Crash detected")
        tells_its_end = bool(record.exc_info) or record.getMessage().startswith(endings)
        return not (of_a_run and tells_its_end) and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        """`warning: the first line of the message`."""
        first, *_ = record.getMessage().splitlines() or [""]
        return f"{record.levelname.lower()}: {first}"


def to_try(work: Path, *arguments: str) -> str:
    """A command of `t2v` as one types it in a shell, with `--work` where it is not the default; prompts that begin with
    a minus, as numbers do, stand last."""
    last = [one for one in arguments if re.match(r"-[\d.]", one)]
    others = [one for one in arguments if one not in last]
    where = [] if work == WORK else ["--work", str(work)]
    return shlex.join(["t2v", *others, *where, *(["--", *last] if last else [])])


def prepare(work: Path) -> None:
    """Set the environment of this process and its children, except what the user has set.

    Prefect's state goes to `work/prefect`, telemetry is off, and the terminal hears warnings only, one line each; run
    logs of level INFO still reach the Prefect API. Prefect starts no server by itself: that would answer every page.

    Nothing is written. Call it before Prefect or MLflow are imported: the option `--work` of every command does.
    """
    home = Path(work).absolute() / "prefect"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": f"{__name__}.{OneLineHandler.__name__}",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # by which a server finds runs that were killed
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # metrics wait in memory and are sent again anyway
        "GIT_PYTHON_REFRESH": "quiet",
    }
    if found := running(work):
        settings |= {"PREFECT_API_URL": f"{found.prefect}/api", "MLFLOW_TRACKING_URI": found.mlflow}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    # it is made once a command has something to keep: one that is refused leaves nothing
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")


@contextmanager
def prefect_api(work: Path) -> Iterator[str]:
    """The URL of the API server of this run, exported for process pools and Dask workers.

    With `PREFECT_API_URL` set that server is used. Otherwise one is started on a free port of the loopback, with its
    database and `server.log` in `work/prefect`, and stopped at the end, when every state of this run is recorded.

    Raises:
        LabError: the given server does not answer, or ours does not start; `work` is no folder that can be written.
    """
    files.check_writable(Path(work), "--work")
    home = Path(work).absolute() / "prefect"
    with files.writing(home):  # Prefect, once imported, warns where the folder above its own is missing
        home.mkdir(parents=True, exist_ok=True)
    given = os.environ.get("PREFECT_API_URL")
    if given:
        check_prefect(given)
        from prefect.settings import PREFECT_API_URL, temporary_settings

        # Prefect that was imported before `prepare` knows no address, and starts a server that answers every page
        with temporary_settings({PREFECT_API_URL: given}), _for_all_threads():
            yield given
        return
    with ExitStack() as stack:
        url = stack.enter_context(api_server(home))
        stack.enter_context(asking(url, home))
        yield url


@contextmanager
def api_server(home: Path) -> Iterator[str]:
    """One server process; it ends when its standard input closes, so also when this process is killed."""
    log = home / "server.log"
    with ExitStack() as stack:
        # two servers that migrate one database at once spoil it
        with locked(home / "starting.lock", READY_SECONDS, "starts a Prefect server"):
            url, process = _start(home, log)
            stack.callback(_stop, process)
            import prefect.settings  # noqa: F401  (seconds of work that the other core can do meanwhile)

            _await_ready(process, log)
        yield url


def _start(home: Path, log: Path) -> tuple[str, subprocess.Popen[bytes]]:
    files.rotate(log, LOG_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.servers.server", str(listening.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=[listening.fileno()],
            env=_server_environment(home),
            start_new_session=True,  # Ctrl-C is for the run; the server leaves after it
        )
        return f"http://127.0.0.1:{listening.getsockname()[1]}/api", process


def _server_environment(home: Path) -> dict[str, str]:
    console = "PREFECT_LOGGING_HANDLERS_CONSOLE_"  # the log file gets whole records
    return (
        {k: v for k, v in os.environ.items() if not k.startswith(console)}
        | SERVER_SETTINGS
        | {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
            # half of what a task costs it, for a feed of events that nobody looks at; states are recorded without
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
    )


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        answered = selector.select(READY_SECONDS)
    if not answered or process.stdout.readline() != b"ready\n":
        found = f"ended with code {process.wait()}" if answered else f"was not ready after {READY_SECONDS} s"
        raise LabError(f"the Prefect server {found}; read {log} for the reason, or start `prefect server start` "
                       "yourself and set PREFECT_API_URL")  # fmt: skip


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close the server's standard input and wait until it has written everything and left."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        process.wait(timeout=FLUSH_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    finally:
        process.stdout.close()


@contextmanager
def asking(url: str, home: Path) -> Iterator[None]:
    """Prefect in this process and its children talks to `url`; at the end, all it has to say has been sent."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings

    # A heartbeat only serves to find dead runs later, which this server does not outlive; it costs a second a flow.
    ours = {PREFECT_API_URL: url, PREFECT_HOME: home, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    os.environ["PREFECT_API_URL"] = url
    try:
        with temporary_settings(ours), _for_all_threads():
            try:
                yield
            finally:
                _flush()
    finally:
        del os.environ["PREFECT_API_URL"]


@contextmanager
def _for_all_threads() -> Iterator[None]:
    """The settings of this context, also for threads that inherit none.

    Such threads fall back to settings read on import, which know no URL, and then start a server each: the process
    pool's message thread does (seen with Prefect 3.8.8).
    """
    import prefect.context

    read_on_import = prefect.context.GLOBAL_SETTINGS_CONTEXT
    prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.get_settings_context()
    try:
        yield
    finally:
        prefect.context.GLOBAL_SETTINGS_CONTEXT = read_on_import


def _flush() -> None:
    """Send the events (task states) and log lines that still wait in this process."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        logging.getLogger(worker.__name__).setLevel(logging.ERROR)  # it would warn that it is still at work
        worker.drain_all(timeout=FLUSH_SECONDS, at_exit=True)


def check_prefect(url: str) -> None:
    """Ask a Prefect server that was given.

    Raises:
        LabError: it does not answer, or wants another password.
    """
    import httpx

    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    try:
        with httpx.Client(base_url=url, timeout=10, auth=(user, password) if user else None) as client:
            client.get("health").raise_for_status()  # which asks nobody for a password
            refused = client.get("admin/version").status_code == httpx.codes.UNAUTHORIZED
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LabError(f"PREFECT_API_URL is {url}, but no Prefect server answers there ({error}); start it or unset "
                       "the variable, and the run starts its own") from error  # fmt: skip
    if refused:
        raise LabError(
            f"the Prefect server at {url} wants a password: set PREFECT_API_AUTH_STRING as where it was started"
        )
