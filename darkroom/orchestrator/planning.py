"""Planned runs survive that a deployment is renewed: none is lost, none comes twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State


def due(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """Planned runs whose time has come, such as nights during which nothing was served."""
    from prefect.client.schemas.filters import FlowRunFilterExpectedStartTime
    from prefect.exceptions import ObjectNotFound

    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return []
    return _planned(client, deployment.id, FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)))


def plan_again(client: SyncPrefectClient, deployment: UUID, due: list[FlowRun], since: datetime) -> None:
    """What Prefect may have forgotten while the deployment was renewed, `since` then.

    Renewing deletes planned runs, and in some versions the late ones among them (prefect#17764): those are planned
    again. The scheduler plans from the present on: a night that came due between its deletion and that would be lost.
    Nothing comes twice (prefect#18894), because a schedule with a slug keeps its id, by which Prefect knows its runs.
    """
    from prefect.client.schemas.actions import DeploymentFlowRunCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Scheduled, to_state_create

    for run in due:
        try:
            client.read_flow_run(run.id)
        except ObjectNotFound:
            # Not its next start: that moves while a run waits for another, and the night would move with it.
            state: State[Any] = Scheduled(scheduled_time=run.expected_start_time)
            # Planned by an older darkroom, it may have parameters that the forms of this one refuse: that is for the
            # run to say.
            planned = DeploymentFlowRunCreate(
                state=to_state_create(state), parameters=run.parameters, enforce_parameter_schema=False
            )
            client.request(
                "POST",
                "/deployments/{id}/create_flow_run",
                path_params={"id": deployment},
                json=planned.model_dump(mode="json", exclude_unset=True),
            )
    client.request(
        "POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json={"start_time": since.isoformat()}
    )


def _planned(client: SyncPrefectClient, deployment: UUID, start: object = None) -> list[FlowRun]:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "deployment_id": FlowRunFilterDeploymentId(any_=[deployment]),
                "state": FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                "expected_start_time": start,
            }
        )
    )
