"""The deployments `train`, `score`, `evaluate`, …: what `darkroom serve` registers; prefect.yaml says it, too."""

from __future__ import annotations

import importlib
import os
import site
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.errors import DarkroomError, OrchestratorError, WrongUse
from darkroom.project import FILE, Project

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

POOL = "darkroom"
SCHEDULE_SLUG = "nightly"
HEARTBEAT_SECONDS = "60"


@dataclass(frozen=True)
class Deployment:
    """One flow; its form opens with the project's places and settings that it takes: parameters of these names.

    `goes_on`: a run that died with its worker is taken up again by the next, without being asked.
    """

    name: str
    entrypoint: str
    description: str
    places: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    nightly: bool = False
    goes_on: bool = False

    def parameters(self, project: Project, folder: Path | None = None) -> dict[str, Any]:
        """What the form opens with; paths in full where a folder is given."""
        places = {
            name: getattr(project, name) if folder is None else project.place(name, folder) for name in self.places
        }
        return {**places, **{name: value for name, value in project.nightly().items() if name in self.settings}}


DEPLOYMENTS = (
    Deployment(
        name="train",
        entrypoint="flows.train.train",
        description="Train a classifier on labelled folders, and seal it as a bundle.",
        places=("models",),
    ),
    Deployment(
        name="score",
        entrypoint="flows.score.score",
        description="Score a night of new images: prove, take in, look, validate, compare, commit, report.",
        places=("bundle", "inbox", "results"),
        settings=("night", "intake", "run"),
        nightly=True,
        goes_on=True,
    ),
    Deployment(
        name="backfill",
        entrypoint="flows.backfill.backfill",
        description="Score many past nights, the oldest first, and say night by night what came of it.",
        places=("bundle", "inbox", "results"),
        settings=("intake", "run"),
        goes_on=True,
    ),
    Deployment(
        name="verify",
        entrypoint="flows.verify.verify",
        description="Prove a bundle: every digest, then every golden image.",
        places=("bundle",),
    ),
    Deployment(
        name="reseal",
        entrypoint="flows.reseal.reseal",
        description="After an upgrade: how far a bundle's golden images have moved; once agreed, its next version.",
        places=("bundle",),
    ),
    Deployment(
        name="adopt",
        entrypoint="flows.adopt.adopt",
        description="Make a bundle of a model that was made elsewhere, and find out how its images were prepared.",
        places=("models",),
    ),
    Deployment(
        name="audit",
        entrypoint="flows.audit.audit",
        description="Look for what flatters a bundle's validation accuracy, and tell it again without.",
        places=("bundle",),
    ),
    Deployment(
        name="diagnose",
        entrypoint="flows.diagnose.diagnose",
        description="Say which mistake makes the predictions that somebody got elsewhere.",
        places=("bundle",),
    ),
    Deployment(
        name="evaluate",
        entrypoint="flows.evaluate.evaluate",
        description="Join labels that arrived later to what was scored: accuracy beside what was estimated.",
        places=("bundle", "results"),
    ),
    Deployment(
        name="explain",
        entrypoint="flows.explain.explain",
        description="Say in one sentence why the prediction of one image may be wrong.",
        places=("bundle",),
    ),
    Deployment(
        name="quarantine",
        entrypoint="flows.quarantine.quarantine",
        description="List the files that could not be scored; release them for the next run, or delete their copies.",
        places=("results",),
    ),
)


def bundle_exists(folder: Path, project: Project) -> bool:
    """Whether the bundle that the nightly run would use can be found."""
    from tasks.bundle import find_bundle

    try:
        find_bundle(Path(project.place("bundle", folder)))
    except DarkroomError:
        return False
    return True


def check_folder(client: SyncPrefectClient, folder: Path) -> None:
    """Raises WrongUse where this server's nights are those of another folder: registering would take its schedule."""
    from prefect.exceptions import ObjectNotFound

    try:
        score = client.read_deployment_by_name("score/score")
    except ObjectNotFound:
        return
    other = (score.job_variables or {}).get("working_dir")
    if other is not None and Path(other) != folder.absolute() and Path(other).is_dir():
        raise WrongUse(
            "This Prefect server, or its database, belongs to another project.",
            file=folder,
            expected=other,
            todo="serve that folder; or give this project a database and a port of its own: "
            "PREFECT_HOME=… darkroom serve --port 4210; or delete the deployment score in the UI, if the other is over",
        )


def make_pool(client: SyncPrefectClient) -> None:
    """Create the work pool where it is missing."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        pool = client.read_work_pool(POOL)
        if pool.type != ProcessWorker.type:
            raise OrchestratorError(
                f"There is a work pool {POOL} of another type on this server.",
                expected=ProcessWorker.type,
                found=pool.type,
                todo="delete or rename that pool, or use another server",
            ) from None


def register(client: SyncPrefectClient, folder: Path, project: Project, *, schedule_is_active: bool) -> None:
    """Create or renew the deployments, with paths below `folder`; nights that are due stay due."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.types.entrypoint import EntrypointType

    from darkroom.orchestrator import planning

    for deployment in DEPLOYMENTS:
        flow = _flow(deployment.entrypoint)
        since = datetime.now(UTC)
        due = planning.due(client, f"{flow.name}/{deployment.name}")
        wanted = flow.to_deployment(
            name=deployment.name,
            description=deployment.description,
            parameters=deployment.parameters(project, folder),
            schedules=[_nightly(project, active=schedule_is_active)] if deployment.nightly else [],
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
            if deployment.nightly
            else None,
            work_pool_name=POOL,
            job_variables=_job(folder, project),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        _know_no_other_parameter(wanted)
        identity = wanted.apply()
        planning.plan_again(client, identity, due, since)


def _know_no_other_parameter(deployment: RunnerDeployment) -> None:
    """Let the server refuse a parameter that the flow does not have: a run that gets one is told to have crashed."""
    from prefect.utilities.callables import ParameterSchema

    class Closed(ParameterSchema):
        additionalProperties: bool  # noqa: N815  # a word of JSON schema

    known = deployment._parameter_openapi_schema.model_dump()
    deployment._parameter_openapi_schema = Closed(**known, additionalProperties=False)


def _flow(entrypoint: str) -> Any:
    module, _, name = entrypoint.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OrchestratorError(
            f"The flow {entrypoint} of darkroom cannot be imported.",
            found=error,
            todo="install darkroom again; if the current folder holds Python files named flows or tasks, "
            "use the command darkroom and not python -m",
        ) from error


def check_schedule(project: Project) -> None:
    """Before a server starts. Raises WrongUse where the schedule is not understood, or leaves nights out."""
    from pydantic import ValidationError

    from darkroom.orchestrator.clock_changes import nights_left_out

    try:
        _nightly(project, active=False)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise WrongUse(
            f"The setting schedule.{name} has a wrong value.",
            file=FILE,
            expected="five fields such as 0 2 * * *",
            found=first.get("input"),
            todo="mend the line, and start again",
        ) from None
    left_out = nights_left_out(project.schedule, datetime.now(UTC).date())
    if left_out:
        raise WrongUse(
            "With this schedule.cron a night would be left out when the clocks change at midnight.",
            file=FILE,
            expected="an hour that exists every day, such as 0 2 * * *",
            found=f"{project.schedule.cron} in {project.schedule.timezone}: no run for {left_out[0]}",
            todo="mend the line, and start again",
        )


def _nightly(project: Project, *, active: bool) -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron=project.schedule.cron, timezone=project.schedule.timezone)
    return DeploymentScheduleCreate(schedule=schedule, active=active, slug=SCHEDULE_SLUG)


def _job(folder: Path, project: Project) -> dict[str, Any]:
    # A path typed into the form is below the folder that was served. That folder may hold `tasks` or `flows` of the
    # user's own, and Python would find them before ours: -P keeps it off the path.
    job: dict[str, Any] = {
        "working_dir": str(folder.absolute()),
        "command": f'"{sys.executable}" -P -m darkroom.orchestrator.run_main',
    }
    # A run says every minute that it lives: by its silence `darkroom notify` knows one that was killed.
    job["env"] = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS, **project.environment(folder)}
    home = Path(__file__).parents[2]
    if home.name != "site-packages" and str(home) not in site.getsitepackages():
        job["env"]["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    return job
