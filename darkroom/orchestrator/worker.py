"""A process worker that can end its runs so that the server learns of it. Imports Prefect: import it late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from darkroom.errors import WrongUse
from darkroom.orchestrator.lost import worker_name
from darkroom.orchestrator.quiet import hide_noise
from darkroom.orchestrator.run_main import HAND_OVER
from tasks.memory import return_free_memory

_GRACE_SECONDS = 20.0
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class _AsDeployed(ProcessJobConfiguration):
    """The command, folder and environment of a run are its deployment's: with others it would be another program."""

    @classmethod
    async def resolve_for_flow_run(cls, flow_run: FlowRun, **where: Any) -> Self:
        """Raises: WrongUse for a run that brings other job variables."""
        deployment = where.get("deployment")
        if deployment is None and flow_run.deployment_id is not None:
            deployment = await where["client"].read_deployment(flow_run.deployment_id)
        # The form begins with those of the deployment, and sends them along.
        known = getattr(deployment, "job_variables", None) or {}
        other = sorted(name for name, value in (flow_run.job_variables or {}).items() if known.get(name) != value)
        if other:
            raise WrongUse(
                "This run brings job variables of its own: another command, or another environment to run in.",
                expected="those of its deployment, or none",
                found=", ".join(other),
                todo="leave Job Variables in the form as they are, or empty; the environment of all runs is said by "
                "darkroom.toml, and by that of darkroom serve",
            )
        return await super().resolve_for_flow_run(flow_run, **{**where, "deployment": deployment})


class EndingWorker(ProcessWorker):
    """Prefect's worker kills its processes when it stops, and their runs stay `Running` for ever.

    With a limit of one run, such a run would block every later night.
    """

    job_configuration = _AsDeployed

    @classmethod
    def __dispatch_key__(cls) -> str:
        # Prefect knows its workers by type, and this one must not take the place of Prefect's own.
        return f"darkroom-{cls.type}"

    def __init__(self, work_pool_name: str) -> None:
        hide_noise()
        super().__init__(work_pool_name=work_pool_name, name=worker_name())
        self._processes: dict[int, UUID] = {}
        self._turns: dict[UUID, UUID] = {}
        self._one_at_a_time: dict[UUID, bool] = {}
        self._runs = 0
        self._ending = False

    async def end_runs(self) -> list[UUID]:
        """Take no more runs, ask those at work to hand over or end, and wait for it; returns which they were."""
        self._ending = True
        asked = list(self._processes.values())
        self._signal(HAND_OVER)
        if not await self._all_ended(_GRACE_SECONDS):
            self._signal(signal.SIGKILL)
            await self._all_ended(_GRACE_SECONDS)
        return asked

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Prefect's poll for due runs; none once the end has begun."""
        return [] if self._ending else await super().get_and_submit_flow_runs()

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        deployments = {
            run.deployment_id for run in (entry.flow_run for entry in flow_run_response) if run.deployment_id
        }
        for deployment in deployments - self._one_at_a_time.keys():
            limit = (await self.client.read_deployment(deployment)).global_concurrency_limit
            self._one_at_a_time[deployment] = limit is not None and limit.limit == 1
        return await super()._submit_scheduled_flow_runs(self._in_turn(flow_run_response))

    def _in_turn(self, found: list[WorkerFlowRunResponse]) -> list[WorkerFlowRunResponse]:
        """Of a deployment that has one run at a time only the oldest, and only when none is at work here.

        Prefect would try all nights that wait, again and again, with two lines in the log each time, score them in no
        order, and let each wait for half a minute although its turn has come.
        """
        at_work = {*self._submitting_flow_run_ids, *self._processes.values()}
        in_turn = []
        for entry in sorted(found, key=lambda entry: entry.flow_run.expected_start_time or _LONG_AGO):
            run = entry.flow_run
            if run.deployment_id is not None and self._one_at_a_time[run.deployment_id]:
                if self._turns.get(run.deployment_id) in at_work:
                    continue
                self._turns[run.deployment_id] = run.id
                at_work.add(run.id)
            in_turn.append(entry)
        return in_turn

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Prefect's start of one run in a process, which is remembered."""
        started = _Started(self._processes, flow_run.id, task_status)
        self._runs += 1
        try:
            return await super().run(flow_run, configuration, started)
        finally:
            self._runs -= 1
            self._processes.pop(started.pid, None)
            return_free_memory()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    async def _all_ended(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._runs:
                    await asyncio.sleep(0.1)
        return not self._runs


class _Started(anyio.abc.TaskStatus[int]):
    """Notes the process of a run before the worker is told that it started."""

    def __init__(self, processes: dict[int, UUID], run: UUID, told: anyio.abc.TaskStatus[int] | None) -> None:
        self._processes = processes
        self._run = run
        self._told = told
        self.pid = -1

    def started(self, value: Any = None) -> None:
        self.pid = value
        self._processes[value] = self._run
        if self._told is not None:
            self._told.started(value)
