"""What the Prefect server is told once: the work pools, and what happens to a run that is killed.

A run sends a sign of life every 30 s. One that falls silent is marked as crashed, and a crashed run of a deployment is
put back into its queue; the worker that takes it goes on from its files. Both rules are automations of the server, so
they hold for workers on any machine and can be seen, and paused, in its UI.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import Abort, ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed

from t2v_models.config import LabError
from t2v_models.processes import cores

POOLS = {
    "cpu": "rendering, judging and small trainings; each queue takes as many runs at a time as its limit says",
    "gpu": "training; each worker takes one run at a time",
}
STAGES = "stages"
"""The queue of the pool `cpu` for stages of labs on the pools. Such labs hold a place in the other one while they wait,
and as many as there are places would wait for ever."""
HEARTBEAT_SECONDS = 30
"""The least Prefect allows; `tasks.servers.runtime.prepare` and the deployments set it for every run."""
SILENCE_SECONDS = 90
"""Two signs of life may be late or lost."""
REST_SECONDS = 30
"""Between a crash and the next start; on a busy machine a worker needs half of it to bury the process."""
MOVED_ON = ("Scheduled", "AwaitingRetry", "Pending", "Submitting", "Running", "Completed", "Cancelled", "Failed")
"""States after a crash in which the run needs no help; the rule knows them by name."""
MISSED = timedelta(hours=1)
"""A scheduled run that is so late when `t2v up` starts is left out."""
CRASHES = 10
"""A run that has crashed so often is not worth another start; `tasks.servers.orphans` counts."""

GOES_ON = "t2v: a crashed run goes on"
SILENT = f"no sign of life for {SILENCE_SECONDS} s: the process was killed or its machine is gone"
"""What is said of a silent run."""
LIVES = "was taken for dead, but its process lives"
"""What is said of it where that turns out; it is no start."""

_DEPLOYED = {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}
_EACH_RUN = {"prefect.resource.id": "prefect.flow-run.*"}

AUTOMATIONS = (
    AutomationCore(
        name="t2v: a silent run has crashed",
        description=f"Every {HEARTBEAT_SECONDS} s a run gives a sign of life; after {SILENCE_SECONDS} s without one "
        "its process was killed or its machine is gone.",
        trigger=EventTrigger(
            match=_EACH_RUN, match_related=_DEPLOYED, for_each={"prefect.resource.id"}, posture=Posture.Proactive,
            # each of them is a sign of life too, and the wait for the next begins with it
            after={f"prefect.flow-run.{sign}" for sign in ("Pending", "Submitting", "Running", "heartbeat")},
            expect={"prefect.flow-run.*"}, threshold=1, within=timedelta(seconds=SILENCE_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=SILENT)],
    ),
    AutomationCore(
        name=GOES_ON,
        description="All work of the lab can be done again: what is finished is left alone, a training goes on from "
        "its checkpoint. So a crashed run of a deployment is put back into its queue.",
        trigger=EventTrigger(
            match=_EACH_RUN, match_related=_DEPLOYED, for_each={"prefect.resource.id"}, posture=Posture.Proactive,
            # not at once: a worker that is given a run whose process it has not buried yet ends (Prefect 3.8.8)
            after={"prefect.flow-run.Crashed"}, expect={f"prefect.flow-run.{state}" for state in MOVED_ON},
            threshold=1, within=timedelta(seconds=REST_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name="AwaitingRetry", state=StateType.SCHEDULED,
                message="crashed; the next free worker goes on from what is finished",
            )
        ],
    ),
)  # fmt: skip


def set_up() -> None:
    """Create the work pools with their limits, and the automations, on the server that `PREFECT_API_URL` names.

    A rule that is there is left alone, paused or not: an update makes the server forget the runs that the rule waits
    for, and one that had just crashed was never started again.

    Raises:
        LabError: a pool of the same name is of another type.
    """
    from prefect.workers.process import ProcessWorker  # heavy, and flows import this file

    with get_client(sync_client=True) as client:
        for name, description in POOLS.items():
            template = ProcessWorker.get_default_base_job_template()
            pool = WorkPoolCreate(name=name, description=description, type="process", base_job_template=template)
            try:
                found_type = client.read_work_pool(name).type  # it may be paused or limited, and stays so
            except ObjectNotFound:
                found_type = client.create_work_pool(pool).type
            if found_type != "process":
                raise LabError(
                    f"the Prefect server has a work pool {name!r} of type {found_type!r} and the lab needs one of type "
                    "'process': give it another name there, or use another server"
                )
        _limit_queues(client)
        for automation in AUTOMATIONS:
            found = client.read_automations_by_name(automation.name)
            if not found:
                client.create_automation(automation)
            elif (found[0].trigger, found[0].actions) != (automation.trigger, automation.actions):
                client.update_automation(found[0].id, automation)
        _leave_out_missed(client)


def _limit_queues(client: SyncPrefectClient) -> None:
    """As many runs at a time as this machine has cores; a person may change it, so this is done once."""
    try:
        client.read_work_queue_by_name(STAGES, "cpu")
    except ObjectNotFound:
        client.create_work_queue(STAGES, concurrency_limit=cores(), work_pool_name="cpu")
        client.update_work_queue(client.read_work_queue_by_name("default", "cpu").id, concurrency_limit=cores())


def _leave_out_missed(client: SyncPrefectClient) -> None:
    """What a schedule wanted while no lab was up is not made up for: three missed nights are not three labs at noon."""
    missed = FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled", "Late"])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC) - MISSED),
    )
    for run in client.read_flow_runs(flow_run_filter=missed):
        if run.auto_scheduled:
            client.set_flow_run_state(run.id, Cancelled(message="left out: no lab was up at its hour"), force=True)


def check_starts() -> None:
    """Called by a flow before it works: tasks of the process that was killed are closed, which would otherwise be shown
    as running.

    Raises:
        Abort: this run was cancelled before it crashed.
    """
    if flow_run.run_count > 1:
        end_if_cancelled("cancelled; a new run goes on from what is finished")
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run.id)]))
        with get_client(sync_client=True) as client:
            for left in client.read_task_runs(flow_run_filter=mine):
                # a task that stands for a stage is taken up again together with its run
                if left.state and left.state.is_running() and not left.state.state_details.child_flow_run_id:
                    client.set_task_run_state(left.id, Crashed(message="its process was killed"), force=True)


def end_if_cancelled(message: str) -> None:
    """End this run as cancelled, if a person has asked for that.

    Raises:
        Abort: so it is.
    """
    if was_cancelled():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(flow_run.id), Cancelled(message=message), force=True)
        raise Abort(message)


def was_cancelled() -> bool:
    """Whether a person has asked for the end of this run, and it has not come to it yet."""
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(UUID(flow_run.id)), key=lambda state: state.timestamp)
    asked = [state.type for state in states if state.type in (StateType.CANCELLING, StateType.CANCELLED)]
    return asked[-1:] == [StateType.CANCELLING]
