"""Stages of a lab on their work pools: runs of their deployments, each started as soon as those it needs are done, and
waited for through crashes and restarts."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
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
RESTART_SECONDS = 120.0
"""A crashed run is put back into its queue by a rule of the server (`orchestration`), which needs a moment."""


@dataclass(frozen=True)
class PoolStage:
    """A run of a deployment."""

    name: str
    deployment: str
    """As `train/stage`."""
    parameters: dict[str, Any]
    """Of its flow, as JSON."""
    after: tuple[str, ...] = ()
    """Names of the stages that must have completed before it starts."""

    @property
    def key(self) -> str:
        """The same for this stage of this run, also after a crash: the server starts it once."""
        digest = hashlib.sha256(json.dumps([self.deployment, self.parameters], sort_keys=True).encode()).hexdigest()
        return f"{runtime.flow_run.id}-{digest}"


def run_on_pools(stages: Sequence[PoolStage], working: Callable[[str], AbstractContextManager[None]]) -> None:
    """Start each stage as soon as those it needs are done, or find the run that was started before a crash; wait for
    all.

    They are cancelled with this run, and where this one was begun by hand, with whatever stops that. A run of a
    deployment that is only stopped goes on later. Where one fails, those that do not need it still end.

    Args:
        stages: in an order in which they could run one after the other.
        working: entered with the name of a stage while that is at work.

    Raises:
        LabError: the server has no such deployment; a run did not complete: what it said.
    """
    waiting, done, failed = list(stages), set[str](), list[FlowRun]()
    active: dict[str, _Waited] = {}
    with get_client(sync_client=True) as client, ExitStack() as at_work:
        try:
            while waiting or active:
                for stage in [s for s in waiting if done.issuperset(s.after)]:
                    waiting.remove(stage)
                    clock = at_work.enter_context(ExitStack())
                    clock.enter_context(working(stage.name))
                    active[stage.name] = _Waited(_started(stage), clock)
                if not active:  # what is left needs a stage that failed
                    break
                for name, waited in list(active.items()):
                    if ended := waited.look(client):
                        active.pop(name).clock.close()
                        assert ended.state
                        if ended.state.is_completed():
                            done.add(name)
                        else:
                            failed.append(ended)
                if active:
                    time.sleep(POLL_SECONDS)
        except (KeyboardInterrupt, TerminationSignal):
            try:
                if runtime.deployment.id is None or was_cancelled():
                    _cancel([stage.key for stage in stages])
            except AWAY:
                say("the Prefect server is away: runs of this lab's stages may go on, cancel them there")
            raise
    if failed:
        state = failed[0].state
        assert state
        raise LabError(
            f"the run '{failed[0].name}' did not complete ({state.name}: {state.message}); mend it, then a new run of "
            "the lab goes on from what is done"
        )


@dataclass
class _Waited:
    """A run that was started."""

    run: FlowRun
    clock: ExitStack
    """Closed at its end."""
    crashed_since: float | None = None

    def look(self, client: SyncPrefectClient) -> FlowRun | None:
        """The run in its last state, once that is final; a crashed one is about to be started again."""
        self.run = client.read_flow_run(self.run.id)
        assert self.run.state
        if not self.run.state.is_crashed():
            self.crashed_since = None
            return self.run if self.run.state.is_final() else None
        self.crashed_since = self.crashed_since or time.monotonic()
        return self.run if time.monotonic() - self.crashed_since > RESTART_SECONDS else None


def _started(stage: PoolStage) -> FlowRun:
    try:
        started = run_deployment(stage.deployment, parameters=stage.parameters, idempotency_key=stage.key, timeout=0)
    except ObjectNotFound as error:
        raise LabError(
            f"this Prefect server has no deployment {stage.deployment!r}: start 't2v up', or set the lab's place to "
            "'here'"
        ) from error
    assert isinstance(started, FlowRun)  # a coroutine only inside an event loop
    return started


def _cancel(keys: list[str]) -> None:
    wanted = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=wanted):
            client.set_flow_run_state(run.id, Cancelling(message="the run that wants it was stopped"))
