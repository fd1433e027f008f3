"""The lab as a service on one machine: both servers with their UIs, the deployments, and a worker for each pool."""

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from t2v_models.config import LabError
from t2v_models.files import bytes_in_words, locked, size
from tasks.mlflow.server import settings
from tasks.mlflow.store import without_passwords
from tasks.report.console import say
from tasks.servers import up_note
from tasks.servers.postgres import databases
from tasks.servers.runtime import SERVER_SETTINGS, check_prefect
from tasks.servers.supervisor import Services, answers, end, free_port

ROOT = Path(__file__).parents[2]
LIMITS = {"cpu": None, "gpu": 1}
"""How many runs the worker of each pool takes at a time: a GPU takes one; on `cpu` the queues have limits."""
QUERY_SECONDS = 5
"""Between two questions of a worker for runs; Prefect's 10 would be waited for at every stage of a lab on the pools."""
LOOK_SECONDS = 1.0
"""Between two looks at whether everything still runs."""
RUNS_SECONDS = 5.0
"""Between two looks at runs that their worker does not look after."""


def serve(work: Path, prefect_port: int, mlflow_port: int, postgres: str | None = None) -> None:
    """Start everything, print the addresses, and wait; Ctrl-C stops everything.

    Only the loopback is listened on. All state is under `work`, or in PostgreSQL. A server that `PREFECT_API_URL` or
    `MLFLOW_TRACKING_URI` names is used instead of one of ours. What ends by itself is started again.

    Args:
        work: folder of all data and state.
        prefect_port: for the Prefect server, unless it is taken.
        mlflow_port: for the MLflow server, unless it is taken.
        postgres: URL of a PostgreSQL server for the databases of both.

    Raises:
        LabError: a part does not start, or keeps ending: which, and where its log is; another `t2v up` has this folder.
    """
    if not (ROOT / "prefect.yaml").is_file():
        raise LabError(
            f"there is no prefect.yaml in {ROOT}: run 't2v up' from a checkout installed with 'pip install -e .'"
        )
    if prefect_port == mlflow_port != 0:
        raise LabError(f"--prefect-port and --mlflow-port are both {prefect_port}: give each its own, or 0 for any")
    work = work.absolute()
    if already := up_note.running(work):
        raise LabError(
            f"'t2v up' runs already for {work}: Prefect is at {already.prefect} and MLflow at "
            f"{without_passwords(already.mlflow)}; stop process {already.up.split()[0]} to start it anew"
        )
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    os.environ["T2V_WORK"] = str(work)  # for deploying, and for the workers and their runs, as the servers' addresses
    started, since = time.monotonic(), datetime.now(UTC)
    with locked(work / "up.lock", 0, "starts or stops 't2v up'"):
        _end_leftovers(work)
        say("starting Prefect, MLflow, deployments and workers: 70 s of a core the first time, 50 later")
        with Services(work / "logs", ROOT, lambda parts: up_note.note(work, parts=parts)) as services:
            try:
                prefect, mlflow = servers(services, work, prefect_port, mlflow_port, postgres)
                _start_lab(services, prefect)
                services.wait("mlflow", f"{mlflow}/health")
                up_note.note(work, prefect=prefect, mlflow=mlflow)
                say(f"Prefect  {prefect}\nMLflow   {without_passwords(mlflow)}\nlogs     {work / 'logs'}")
                say(f"work     {work} has {bytes_in_words(size(work))}; 't2v clean' removes what is old")
                say(f"ready after {time.monotonic() - started:.0f} s; Ctrl-C stops everything")
                _look_after(services, since, work / "logs")
            except KeyboardInterrupt:
                for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave half of it behind
                    signal.signal(number, signal.SIG_IGN)
                say("stopping")
        up_note.remove(work)


def servers(
    services: Services, work: Path, prefect_port: int, mlflow_port: int, postgres: str | None = None
) -> tuple[str, str]:
    """Addresses of the two servers; those that the environment does not name are started here, and not waited for.

    Raises:
        LabError: a server that is named does not answer.
    """
    prefect, mlflow = os.environ.get("PREFECT_API_URL"), os.environ.get("MLFLOW_TRACKING_URI")
    if prefect:
        check_prefect(prefect)
    if mlflow and not answers(f"{mlflow}/health"):
        raise LabError(
            f"MLFLOW_TRACKING_URI is {without_passwords(mlflow)}, but no MLflow server answers there; start it or "
            "unset the variable, and one is started here"
        )
    stores = databases(postgres) if postgres else {"prefect": None, "mlflow": f"sqlite:///{work}/mlflow.db"}
    if not prefect:
        port = port_for(prefect_port, "Prefect", "PREFECT_API_URL", "/api")
        prefect = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": stores["prefect"]} if stores["prefect"] else {}
        services.start(
            "prefect", "uvicorn", "--factory", "tasks.servers.server:application", "--host", "127.0.0.1",
            "--port", str(port), "--log-level", "warning", environment=SERVER_SETTINGS | database,
        )  # fmt: skip
    if not mlflow:
        port = port_for(mlflow_port, "MLflow", "MLFLOW_TRACKING_URI", "")
        mlflow = os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        services.start(
            "mlflow", "uvicorn", "--factory", "tasks.mlflow.server:application", "--host", "127.0.0.1",
            "--port", str(port), "--log-level", "warning",
            environment=settings(str(stores["mlflow"]), work / "mlflow-artifacts"),
        )  # fmt: skip
    return prefect.removesuffix("/api"), mlflow


def port_for(port: int, what: str, variable: str, path: str) -> int:
    """A free port, `port` if it is. A server there is not used unasked: its runs may belong to another work folder."""
    address = f"http://127.0.0.1:{port}{path}"
    if answers(f"{address}/health"):
        say(f"{what} answers at port {port} already: to use that one, stop this and set {variable}={address}")
    return free_port(port, what)


def _start_lab(services: Services, prefect: str) -> None:
    """Pools, rules, deployments, and a worker for each pool, as soon as Prefect answers."""
    services.start("setup", "python", "-m", "flows.cli.deployments", "--no-prompt", "deploy", "--all")
    from tasks.servers.orchestration import set_up
    from tasks.servers.orphans import worker_name  # both import Prefect, which the servers' start hides

    services.wait("prefect", f"{prefect}/api/health")
    set_up()
    for pool, limit in LIMITS.items():
        limited = ("--limit", str(limit)) if limit else ()
        services.start(
            f"worker-{pool}", "prefect", "worker", "start", "--pool", pool, "--type", "process",
            "--name", worker_name(pool), *limited, environment={"PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS)},
        )  # fmt: skip
    services.finish("setup")


def _look_after(services: Services, since: datetime, logs: Path) -> None:
    """Start again what ends, for ever; runs that ended with their worker are marked, so that they are started again."""
    from tasks.servers import orphans
    from tasks.servers.orphans import worker_name

    workers = {f"worker-{pool}": worker_name(pool) for pool in LIMITS}
    lost = dict.fromkeys(workers.values(), datetime.now(UTC))  # first those of an earlier `t2v up` that was killed
    look = 0.0
    while True:
        if time.monotonic() >= look:
            lost = {name: ended for name, ended in lost.items() if orphans.mark_killed(name, ended)}
            orphans.keep_living(workers.values())
            orphans.mark_never_begun()
            orphans.give_up(logs)
            orphans.end_cancelled(workers.values())
            orphans.put_back_forgotten(since)
            services.rotate()
            look = time.monotonic() + RUNS_SECONDS
        time.sleep(LOOK_SECONDS)
        if ended := services.revive():
            lost |= {workers[part]: datetime.now(UTC) for part in ended if part in workers}
            look = 0.0


def _end_leftovers(work: Path) -> None:
    """After a kill of `t2v up` its servers and workers still run; they are ended, and their runs go on in new ones."""
    left = up_note.written(work)
    found = [p for p in map(up_note.process, left.parts.values()) if p] if left else []
    if found:
        say(f"ending {len(found)} processes of a 't2v up' that was killed")
        end([process.pid for process in found])
