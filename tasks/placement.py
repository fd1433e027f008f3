"""A stage of the lab on its work pool: a run of its deployment, waited for through crashes and restarts."""

import hashlib
import json
import time
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelling

from t2v_models.config import LabError
from tasks.orchestration import was_cancelled

POLL_SECONDS = 2.0
RESTART_SECONDS = 60.0
"""A crashed run is put back into its queue by a rule of the server (`tasks.orchestration`), which needs a moment."""


def run_on_pool(deployment: str, parameters: dict[str, Any]) -> None:
    """Start a run of a deployment, or find the one that this run has started before it crashed, and wait for its end.

    Args:
        deployment: as `train/stage`.
        parameters: of its flow, as JSON.

    Raises:
        LabError: the server has no such deployment; the run did not complete: what it said.
    """
    key = hashlib.sha256(json.dumps([deployment, parameters], sort_keys=True).encode()).hexdigest()
    try:
        started = run_deployment(deployment, parameters=parameters, idempotency_key=f"{flow_run.id}-{key}", timeout=0)
    except ObjectNotFound as error:
        raise LabError(
            f"this Prefect server has no deployment {deployment!r}: start 't2v up', or set the lab's place to 'here'"
        ) from error
    assert isinstance(started, FlowRun)  # a coroutine only inside an event loop
    try:
        ended = _ended(started)
    except TerminationSignal:
        if was_cancelled():  # and not only stopped, to go on later
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(started.id, Cancelling(message="the run that wants it was cancelled"))
        raise
    assert ended.state
    if not ended.state.is_completed():
        raise LabError(
            f"the run '{ended.name}' did not complete ({ended.state.name}: {ended.state.message}); mend it, then a new "
            "run of the lab goes on from what is done"
        )


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
