"""Backfill: score many past nights, the oldest first, and say night by night what came of it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Crashed, Failed, Pending
from pydantic import Field

from darkroom.errors import DarkroomError, WrongUse
from darkroom.forms import DAY, titled
from darkroom.night import folder_of_night, is_a_folder_a_night
from darkroom.pages import address_of
from darkroom.progress import tell
from darkroom.results import commits
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.storage import storage_at
from darkroom.summary import NightSummary
from flows.backfilled import Backfilled, NightOutcome
from flows.in_the_ui import show
from flows.naming import named
from flows.night_process import NightProcess, NightProcesses
from flows.parameters import BundlePath, InboxPath, IntakeForm, ResultsPath, RunForm
from flows.score import score
from tasks.bundle import find_bundle, open_bundle
from tasks.held import held
from tasks.intake import inbox_text
from tasks.report.untrusted import in_markdown, visible

MOST_NIGHTS: Final = 366
AT_ONCE: Final = 8
NIGHTS_FAILED: Final = "Nights failed"


@flow(name="backfill", flow_run_name=named("{start}", " to {end}", " {bundle}"))
def backfill(
    start: Annotated[date, titled("First night", pattern=DAY)],
    end: Annotated[date, titled("Last night", pattern=DAY)],
    bundle: BundlePath,
    inbox: InboxPath,
    results: ResultsPath = Path("results"),
    at_once: Annotated[int, Field(ge=1, le=AT_ONCE), titled("Nights at once")] = 1,
    only_missing: Annotated[bool, titled("Only missing nights")] = True,
    intake: IntakeForm = IntakeOptions(),
    run: RunForm = RunOptions(),
) -> Backfilled:
    """Score every night from `start` to `end`, the oldest first; a night that fails does not stop the others.

    Args:
        start: The night to begin with.
        end: The night to end with; it is scored, too.
        bundle: Folder of a bundle, or models/NAME for the version in use.
        inbox: The nights' folders, as in inbox/{night:%Y-%m-%d}. One folder for all nights cannot be backfilled.
        results: Folder for predictions, drift, quarantine and pages.
        at_once: Nights that are scored at the same time, each in a process of its own.
        only_missing: Leave out the nights that this bundle has scored already.
        intake: What is taken from each night's folder.
        run: How the work is cut, and what is shown.

    """
    nights = nights_between(start, end, inbox)
    # One version for all nights, also where another is put into use meanwhile.
    version = open_bundle(find_bundle(bundle))
    known = {} if not only_missing else scored_before(results, version.id, inbox, nights)
    wanted = [night for night in nights if night not in known]
    get_run_logger().info("%d nights to score, %d left out", len(wanted), len(known))
    asked = Asked(version.path, inbox, results, intake, run)
    outcomes = known | {outcome.night: outcome for outcome in score_nights(wanted, asked, at_once)}
    told = Backfilled(bundle_id=version.id, nights=tuple(outcomes[night] for night in nights))
    report_nights(told)
    return ended(told)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Asked:
    """What is the same for all nights."""

    bundle: Path
    inbox: str
    results: Path
    intake: IntakeOptions
    run: RunOptions

    def parameters(self, night: date) -> dict[str, Any]:
        """Of the run of one night."""
        return {
            "bundle": self.bundle,
            "inbox": self.inbox,
            "results": storage_at(self.results).name,
            "night": NightOptions(night=night),
            "intake": self.intake,
            # Prometheus is told of the last night, and that is none of these.
            "run": self.run.model_copy(update={"metrics": ""}),
        }


def nights_between(start: date, end: date, inbox: str) -> list[date]:
    """The nights, the oldest first, both ends included.

    Raises: WrongUse that names the parameter.
    """
    # No time zone is asked for here: only what is not yet today anywhere on Earth cannot be meant.
    today = (datetime.now(UTC) + timedelta(hours=14)).date()
    if end < start:
        raise WrongUse(
            "The last night is before the first.", parameter="end", expected=f"not before {start}", found=end
        )
    if end > today:
        raise WrongUse("The last night has not been yet.", parameter="end", expected=f"not after {today}", found=end)
    count = (end - start).days + 1
    if count > MOST_NIGHTS:
        raise WrongUse(
            "There are too many nights from the first to the last.",
            parameter="end",
            expected=f"at most {MOST_NIGHTS}",
            found=count,
            todo="backfill them piece by piece",
        )
    nights = [start + timedelta(days=day) for day in range(count)]
    if not is_a_folder_a_night(inbox) or len({folder_of_night(inbox, night) for night in nights}) < count:
        raise WrongUse(
            "This inbox does not have a folder for each night, so nobody can tell which images are of which night.",
            parameter="inbox",
            expected="a path that holds the whole date, such as inbox/{night:%Y-%m-%d}",
            found=inbox,
            todo="the images in one growing folder are all scored by the next run of `score`",
        )
    return nights


def scored_before(results: Path, bundle: str, inbox: str, nights: Sequence[date]) -> dict[date, NightOutcome]:
    """The nights that this bundle has seen images of, or keeps back for a person. An empty night may have got some."""
    folders = {night: inbox_text(folder_of_night(inbox, night)) for night in nights}
    known = {}
    for commit in commits(results, bundle):
        if folders.get(commit.night) == commit.inbox and (commit.counts.scored or commit.counts.quarantined):
            told = f"Scored before: {commit.verdict}, {commit.counts.scored} images, commit {commit.number}."
            known[commit.night] = NightOutcome(
                night=commit.night, came="left out", told=told, report=commit.summary.report
            )
    for intent in held(results):
        if intent.bundle == bundle and folders.get(intent.night) == intent.inbox:
            told = f"Kept back, and waits for a person: darkroom release {intent.run} --reason '…'."
            known[intent.night] = NightOutcome(night=intent.night, came="left out", told=told)
    return known


def score_nights(nights: Sequence[date], asked: Asked, at_once: int) -> Iterator[NightOutcome]:
    """Each night in a run of `score` of its own, `at_once` of them at the same time; in the order in which they end."""
    parent = UUID(str(flow_run.id))
    processes: queue.SimpleQueue[NightProcess] = queue.SimpleQueue()
    log = get_run_logger()

    def score_one(night: date) -> NightOutcome:
        process = processes.get()
        try:
            return score_night(night, asked, parent, process)
        finally:
            processes.put(process)

    count = min(at_once, len(nights))
    with NightProcesses(count) as started, ThreadPoolExecutor(max(count, 1)) as threads:
        for process in started.all:
            processes.put(process)
        waiting = {threads.submit(score_one, night) for night in nights}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for outcome in sorted((future.result() for future in done), key=lambda outcome: outcome.night):
                    log.info(outcome.as_text())
                    tell("nights", len(nights) - len(waiting), len(nights), f"{outcome.night} {outcome.came}")
                    yield outcome
        except BaseException:
            for future in waiting:
                future.cancel()
            for process in started.all:
                process.end()
            raise


def score_night(night: date, asked: Asked, parent: UUID, process: NightProcess) -> NightOutcome:
    """One night in that process; what goes wrong is its outcome."""
    child = None
    try:
        child = begun(night, asked.parameters(night), parent)
        told = process.score(str(child))
        if "summary" in told:
            return NightOutcome.of(NightSummary.model_validate(told["summary"]))
        error = told["error"]
        details = [f"{name} {error[name]}" for name in ("file", "expected", "found") if error.get(name)]
        return _failed(night, f"{error['error']}: " + "; ".join([error["what"], *details]))
    except DarkroomError as error:
        if child is not None:
            _crashed(child, str(error))
        return _failed(night, "; ".join(line.strip() for line in str(error).splitlines()))
    except Exception as error:  # such as a server that does not answer for a while: the next night may find it again
        return _failed(night, f"{type(error).__name__}: {error}")


def begun(night: date, parameters: dict[str, Any], parent: UUID) -> UUID:
    """A run of `score` below the backfill's, for another process to carry out.

    Not by calling the flow: Prefect tells sub-runs apart by their number, and a backfill that is run again, without the
    nights that are done, would be given the runs of others.
    """
    with get_client(sync_client=True) as client:
        beside = client.create_task_run(one_night, parent, dynamic_key=f"{night}-{uuid4().hex}", name=f"night {night}")
        child = client.create_flow_run(
            score, name=f"score {night}", parameters=score.serialize_parameters(parameters), state=Pending(),
            parent_task_run_id=beside.id,
        )  # fmt: skip
        return child.id


@task(name="night", cache_policy=NO_CACHE)
def one_night() -> None:
    """What the backfill's graph shows in the place of the run of one night; it has no work of its own."""


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_nights(told: Backfilled) -> None:
    """Night by night, in the log and in the Prefect UI."""
    get_run_logger().info(told.headline)
    rows = [
        f"| {_linked(one)} | {one.came} | {one.scored} | {one.quarantined} | {in_markdown(one.told)} |"
        for one in told.nights
    ]
    table = "\n".join(["| night | | scored | quarantined | |", "|---|---|---:|---:|---|", *rows])
    show("backfill", told.bundle_id, f"## {in_markdown(told.headline)}\n\n{table}\n", told.headline)


def _linked(outcome: NightOutcome) -> str:
    address = address_of(outcome.report)
    return f"{outcome.night}" if address is None else f"[{outcome.night}]({address})"


def ended(told: Backfilled) -> Any:
    """The answer; where nights failed, a failed state that holds it: the list of runs must not be green."""
    if told.count("failed"):
        return Failed(name=NIGHTS_FAILED, message=told.headline, data=told)
    return told


def answer(state: Any) -> Backfilled:
    """What came of all nights, also where the flow ended as failed because nights did. Raises what the flow raised."""
    told = state.result(raise_on_failure=False)
    if isinstance(told, Backfilled):
        return told
    raise told


def _failed(night: date, why: str) -> NightOutcome:
    return NightOutcome(night=night, came="failed", told=visible(why, longest=1000))


def _crashed(child: UUID, why: str) -> None:
    """Say of a run whose process died that it is no more."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(child)
        if run.state is None or not run.state.is_final():
            client.set_flow_run_state(child, Crashed(message=why), force=True)
