"""Runs in Prefect that ended long ago, with their tasks, artifacts and logs."""

from collections.abc import Sequence
from datetime import datetime

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun
from prefect.exceptions import ObjectNotFound

PAGE = 200
"""Runs in one answer of the server."""


def runs_before(before: datetime) -> list[FlowRun]:
    """The runs that ended before then."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
        end_time=FlowRunFilterEndTime(before_=before),
    )
    with get_client(sync_client=True) as client:
        return all_runs(client, wanted)


def all_runs(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """The runs that a filter finds, page by page."""
    found: list[FlowRun] = []
    while len(page := client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=len(found))) == PAGE:
        found += page
    return found + page


def remove_runs(runs: Sequence[FlowRun]) -> None:
    """Remove them; the server removes their tasks and logs with them, and not their artifacts."""
    with get_client(sync_client=True) as client:
        for run in runs:
            mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            for artifact in client.read_artifacts(artifact_filter=mine):
                client.delete_artifact(artifact.id)
            try:
                client.delete_flow_run(run.id)
            except ObjectNotFound:  # with its parent, or by hand meanwhile
                continue
