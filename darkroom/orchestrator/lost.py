"""Runs whose worker is no more: a night goes on from where it was, anything else is closed.

Without this such a run would stay `Running` for ever and, with a limit of one, hold the place of the next night until
its lease ends (five minutes), or for good where the server has forgotten the lease.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from darkroom.orchestrator.deployments import DEPLOYMENTS, POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun, State

# A run that takes its machine down with it each time must not be tried for ever.
MOST_ATTEMPTS: Final = 3
GOES_ON: Final = "The server or the worker ended while this run was at work. It goes on from what was finished."
ENDED: Final = "The server or the worker ended while this run was at work. Start it again: it goes on from there."

_WORKER = re.compile(r"darkroom (?P<host>\S+) (?P<pid>\d+)")


@dataclass(frozen=True)
class Lost:
    """How many runs were found that nobody worked on."""

    going_on: int = 0
    closed: int = 0

    def as_text(self) -> str:
        """For a person; empty: there was none."""
        told = []
        if self.going_on:
            told.append(f"{self.going_on} interrupted run(s) go on.")
        if self.closed:
            told.append(f"{self.closed} run(s) ended with the last server or worker, and are closed.")
        return " ".join(told)


def worker_name() -> str:
    """Of the worker in this process: whoever comes later can tell whether it is alive."""
    return f"darkroom {socket.gethostname()} {os.getpid()}"


def mend_lost_runs(client: SyncPrefectClient, *, fresh: bool) -> Lost:
    """Find the runs that nobody works on any more; those of nights go on, the others are closed.

    `fresh`: the server has just started, so whatever it believes to be at work is not. Otherwise only runs are lost
    whose worker was one of ours, on this machine, and has died.
    """
    lost = [run for run in _at_work(client) if fresh or _is_gone(run)]
    going_on = sum(_mend(client, run) for run in lost)
    return Lost(going_on, len(lost) - going_on)


def hand_over(client: SyncPrefectClient, run_id: UUID) -> bool:
    """Plan a night again whose worker is about to end, before anybody is told that it failed.

    Anything else is left as it is: nobody is told of it, and a backfill has processes to stop first.
    """
    run = client.read_flow_run(run_id)
    cancelling = run.state is None or run.state.is_cancelling()
    if cancelling or not _interrupted(run) or _deployment_of(client, run) not in _NIGHTLY:
        return False
    return _mend(client, run)


def go_on_later(client: SyncPrefectClient, ended: Iterable[UUID]) -> int:
    """Plan the runs again that ended because their worker did, unless they have seen to it; returns how many go on."""
    runs = [client.read_flow_run(run) for run in ended]
    waiting = sum(run.state is not None and run.state.is_scheduled() for run in runs)
    return waiting + sum(_mend(client, run) for run in runs if _interrupted(run))


def _interrupted(run: FlowRun) -> bool:
    """One that completed or failed, or that a person cancelled, has come to its own end."""
    state = run.state
    return state is not None and (state.is_crashed() or not (state.is_final() or state.is_scheduled()))


def _mend(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether the run goes on."""
    from prefect.states import AwaitingRetry, Cancelled, Crashed

    _close_children(client, run)
    state: State[Any] | None = None
    going_on = False
    if run.state is not None and run.state.is_cancelling():
        state = Cancelled(message="It ended together with its worker.")
    elif _deployment_of(client, run) in _GOING_ON and run.run_count < MOST_ATTEMPTS:
        # At its planned start, not now: before the later nights that wait, too.
        state = AwaitingRetry(scheduled_time=run.expected_start_time, message=GOES_ON)
        going_on = True
    elif run.state is not None and not run.state.is_crashed():
        state = Crashed(message=ENDED)
    if state is not None:
        client.set_flow_run_state(run.id, state, force=True)
    return going_on


_GOING_ON = frozenset(entry.name for entry in DEPLOYMENTS if entry.goes_on)
_NIGHTLY = frozenset(entry.name for entry in DEPLOYMENTS if entry.nightly)


def _deployment_of(client: SyncPrefectClient, run: FlowRun) -> str | None:
    return client.read_deployment(run.deployment_id).name if run.deployment_id is not None else None


def _at_work(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        WorkPoolFilter,
        WorkPoolFilterName,
    )

    return client.read_flow_runs(
        flow_run_filter=_unfinished(),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[entry.name for entry in DEPLOYMENTS])),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


def _unfinished(parent: UUID | None = None) -> FlowRunFilter:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterParentFlowRunId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    # A run that asks a person is paused in its process: nobody would take the answer any more.
    at_work = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED]
    return FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=at_work)),
        parent_flow_run_id=None if parent is None else FlowRunFilterParentFlowRunId(any_=[parent]),
    )


def _close_children(client: SyncPrefectClient, run: FlowRun) -> None:
    """The nights of a backfill died with it, and none of them has a deployment of its own."""
    from prefect.states import Crashed

    for child in client.read_flow_runs(flow_run_filter=_unfinished(parent=run.id)):
        client.set_flow_run_state(child.id, Crashed(message="The run that it belongs to has ended."), force=True)


def _is_gone(run: FlowRun) -> bool:
    """Whether its worker was one of ours, on this machine, and has died."""
    found = _WORKER.fullmatch(str(run.labels.get("prefect.worker.name", "")))
    if found is None or found["host"] != socket.gethostname():
        return False
    pid = int(found["pid"])
    if pid == os.getpid():  # this process has no runs yet: it was another one, in a container that began anew
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
