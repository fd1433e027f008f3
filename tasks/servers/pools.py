"""A stage of the lab on its work pool: a run of its deployment, waited for through crashes and restarts."""

import hashlib
import json
import time
from typing import Any

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.states import Cancelling

from t2v_models.config import LabError
from tasks.report.console import say
from tasks.servers.orchestration import was_cancelled
from tasks.servers.orphans import AWAY

POLL_SECONDS = 2.0
RESTART_SECONDS = 60.0
"""A crashed run is put back into its queue by a rule of the server (`orchestration`), which needs a moment."""


def run_on_pool(deployment: str, parameters: dict[str, Any]) -> None:
    """Start a run of a deployment, or find the one that this run has started before it crashed, and wait for its end.

    It is cancelled with this run, and where this one was begun by hand, with whatever stops that. A run of a deployment
    that is only stopped goes on later.

    Args:
        deployment: as `train/stage`.
        parameters: of its flow, as JSON.

    Raises:
        LabError: the server has no such deployment; the run did not complete: what it said.
    """
    digest = hashlib.sha256(json.dumps([deployment, parameters], sort_keys=True).encode()).hexdigest()
    key = f"{runtime.flow_run.id}-{digest}"
    try:
        ended = _ended(_started(deployment, parameters, key))
    except (KeyboardInterrupt, TerminationSignal):
        try:
            if runtime.deployment.id is None or was_cancelled():
                _cancel(key)
        except AWAY:
            say(f"the Prefect server is away: a run of {deployment} may go on, cancel it there")
        raise
    assert ended.state
    if not ended.state.is_completed():
        raise LabError(
            f"the run '{ended.name}' did not complete ({ended.state.name}: {ended.state.message}); mend it, then a new "
            "run of the lab goes on from what is done"
        )


def _started(deployment: str, parameters: dict[str, Any], key: str) -> FlowRun:
    try:
        started = run_deployment(deployment, parameters=parameters, idempotency_key=key, timeout=0)
    except ObjectNotFound as error:
        raise LabError(
            f"this Prefect server has no deployment {deployment!r}: start 't2v up', or set the lab's place to 'here'"
        ) from error
    assert isinstance(started, FlowRun)  # a coroutine only inside an event loop
    return started


def _cancel(key: str) -> None:
    wanted = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=wanted):
            client.set_flow_run_state(run.id, Cancelling(message="the run that wants it was stopped"))


def _ended(run: FlowRun) -> FlowRun:
    """The run in its last state; a crashed one is about to be started again."""
    crashed_since: float | None = None
    with get_client(sync_client=True) as client:
        while True:
            run = client.read_flow_run(run.id)
            assert run.state
            if run.state.is_crashed():
                crashed_since = crashed_since or time.monotonic()
                if time.monotonic() - crashed_since > RESTART_SECONDS:
                    return run
            elif run.state.is_final():
                return run
            else:
                crashed_since = None
            time.sleep(POLL_SECONDS)
