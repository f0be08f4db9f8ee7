"""Score a night: prove the bundle, take in what is new, look at it, validate, compare, commit, report."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from darkroom.errors import InboxMissing, StorageError
from darkroom.names import from_text
from darkroom.night import folder_of_night, folder_of_nights, is_a_folder_a_night, night_of
from darkroom.orchestrator.events import night_failed
from darkroom.pages import place_of
from darkroom.progress import now as now_doing
from darkroom.reasons import NightVerdict
from darkroom.results import commits, history, learned_minimum, now
from darkroom.settings import EngineName, IntakeOptions, NightOptions, RunOptions
from darkroom.summary import NightSummary
from expectations.budget import Budget
from flows.counting import counted
from flows.evaluation import Evaluated, NightFacts, RowEvidence, estimate_rows, evaluate, team_suites
from flows.in_the_ui import show_night
from flows.looking import Proof, instruments_of, prove
from flows.naming import named
from flows.night_words import intake_sentence, settled_sentence, tell_evaluated
from flows.nights_before import nights_before, realised_before
from flows.parameters import BundlePath, InboxPath, IntakeForm, NightForm, ResultsPath, RunForm, delivered
from flows.pictures import draw_night
from flows.shards import look_at_all
from flows.telling import tell_night, tell_untold, write_metrics
from flows.whence import whence
from tasks import held, publish, untold
from tasks import intake as inboxes
from tasks.arrange import Arranged
from tasks.ledger import open_ledger
from tasks.machine import libraries
from tasks.object_inbox import is_there
from tasks.quarantine import keep_copies
from tasks.released import with_released
from tasks.report.index_page import write_index
from tasks.report.night_page import NightPage
from tasks.report.page import write_page
from tasks.report.past import REPORTS, page_key
from tasks.report.untrusted import visible
from tasks.runs import abandon, begin_run
from tasks.staging import Run

# A second run over the same inbox waits so long for the first, rather than doing its work again for nothing. The first
# lets go when it dies, however it dies; this is for one that hangs.
_PATIENCE_SECONDS = 3600.0


@flow(
    name="score",
    flow_run_name=named("{night}", " {bundle}"),
    on_failure=[night_failed],
    on_crashed=[night_failed],
)
def score(
    bundle: BundlePath,
    inbox: InboxPath,
    results: ResultsPath = Path("results"),
    night: NightForm = NightOptions(),
    intake: IntakeForm = IntakeOptions(),
    run: RunForm = RunOptions(),
) -> NightSummary:
    """Score a night of new images: prove, take in, look, validate, compare, report, commit.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        inbox: Folder of new images; may hold the night, as in inbox/{night:%Y-%m-%d}.
        results: Folder for predictions, drift, quarantine and pages.
        night: The date whose images are scored.
        intake: What is taken from the inbox.
        run: How the work is cut, and what is shown.

    """
    this_night = night_of(night, flow_run.scheduled_start_time)
    folder = folder_of_night(inbox, this_night)
    delivered(inbox, folder, results)
    proof = prove_bundle(bundle, run.engine)
    with begin(results, proof, this_night, folder) as attempt:
        tell_untold(attempt)
        shards = take_in(attempt, inbox, proof, intake, run)
        with counted(attempt):
            look_at_all(attempt, shards, proof, run)
        settled = settle(attempt)
        evaluated = evaluate_night(attempt, inbox, settled, proof, intake, run)
        page = draw_page(attempt, inbox, settled, evaluated, proof, run)
        summary = commit_night(attempt, settled, evaluated, page.summary, intake, run)
        tell_night(summary)  # first of all: an alarm is told, whatever becomes of pictures
        untold.told(attempt.staging.storage, attempt.id)
    write_metrics(summary, inbox, run)
    report_night(page, summary, results)
    return ended(summary, run)  # type: ignore[no-any-return]


def begin(results: Path, proof: Proof, night: date, folder: Path) -> Run:
    """The run of this night; it waits for another one of the same inbox that is at work."""

    def tell_waiting() -> None:
        get_run_logger().info("Another run is at work on this inbox: this one waits until it has ended.")

    patience = _PATIENCE_SECONDS
    return begin_run(results, proof.bundle_id, night, folder, patience_seconds=patience, on_wait=tell_waiting)


@task(name="prove the bundle", task_run_name="prove the bundle", cache_policy=NO_CACHE)
def prove_bundle(bundle: Path, engine: EngineName = "keras") -> Proof:
    """Digests, then golden images from bytes to probabilities; nothing is scored by a bundle that fails."""
    now_doing("proving the bundle")
    proof = prove(bundle, engine).proof
    get_run_logger().info("Proved: %s", proof.as_text())
    return proof


@task(name="take in the inbox", task_run_name="take in the inbox", cache_policy=NO_CACHE)
def take_in(attempt: Run, inbox: str, proof: Proof, intake: IntakeOptions, run: RunOptions) -> list[int]:
    """Freeze what this run is about, once; the numbers of the shards that are still to be looked at."""
    now_doing("taking in the inbox")
    log = get_run_logger()
    staging = attempt.staging
    if staging.frozen() is None:
        ledger = open_ledger(staging.storage, attempt.bundle)
        folder = Path(from_text(attempt.inbox))
        formats = instruments_of(proof).bundle.preprocessing.decode.formats
        try:
            manifest = inboxes.take_in(
                folder,
                formats=formats,
                ledger=ledger,
                rehash=intake.rehash,
                settle_seconds=intake.settle_seconds,
                exclude=[Path(staging.storage.describe("staging")).parent],
            )
        except InboxMissing:
            if not (is_a_folder_a_night(inbox) and is_there(folder_of_nights(inbox))):
                abandon(attempt)
                raise
            log.warning("The inbox of this night does not exist: %s", folder)
            manifest = inboxes.nothing_delivered(folder, ledger)
        delivered = len(manifest.files)
        manifest = with_released(manifest, ledger, inbox=inbox, formats=formats)
        if len(manifest.files) > delivered:
            log.info("Released from quarantine: %d are looked at once more", len(manifest.files) - delivered)
        staging.freeze(manifest, run.shard_size)
        log.info(intake_sentence(manifest.counts))
    else:
        log.info("Goes on with run %s, which was interrupted.", attempt.id)
    return staging.unfinished()


def settle(attempt: Run) -> Arranged:
    """Which rows are this run's, once every shard is finished."""
    settled = publish.settle(attempt)
    get_run_logger().info(settled_sentence(settled))
    return settled


@task(name="evaluate the night", task_run_name="evaluate the night", cache_policy=NO_CACHE)
def evaluate_night(
    attempt: Run, inbox: str, settled: Arranged, proof: Proof, intake: IntakeOptions, run: RunOptions
) -> Evaluated:
    """The learned suite and the team's own, drift, and how many images came; one verdict."""
    now_doing("validating, and comparing with training")
    storage = attempt.staging.storage
    teams = team_suites(run.suites)
    knowledge = instruments_of(proof).knowledge
    if settled.lost:
        # Another run has scored some of these since: what the shards left behind is of too many rows.
        parts = (
            RowEvidence.from_rows(rows, knowledge.outcome_of(rows, teams), knowledge)
            for rows in (table.to_pandas() for table in publish.settled_rows(attempt))
        )
    else:
        sketches = (attempt.staging.sketch(record) for record in attempt.staging.finished().values())
        parts = (RowEvidence.from_bytes(sketch) for sketch in sketches if sketch is not None)
    # Where each night has a folder of its own, the nights are those of all of them.
    one_inbox = None if is_a_folder_a_night(inbox) else attempt.inbox
    nights = history(storage, attempt.bundle, one_inbox)
    this = nights["night"] == attempt.night
    folder = Path(from_text(attempt.inbox))
    facts = NightFacts(
        counts=settled.counts,
        suspect=settled.suspect,
        size=instruments_of(proof).bundle.preprocessing.input_shape[:2],
        quarantined=settled.quarantine_reasons,
        realised=realised_before(storage, attempt.bundle, attempt.night),
        counted_before=int(nights.loc[this, "scored"].sum()),
        expect_at_least=_expected(intake.expect_at_least, nights.loc[~this, "scored"].tolist()),
        inbox_missing=None if is_there(folder) else attempt.inbox,
    )
    evaluated = evaluate(
        RowEvidence.of(parts, knowledge),
        facts,
        knowledge,
        teams,
        night=attempt.night,
        earlier=nights_before(storage, attempt.bundle, one_inbox, attempt.night),
        budget=Budget(run.false_alarm_nights),
    )
    tell_evaluated(get_run_logger(), evaluated)
    return evaluated


@task(name="draw the page", task_run_name="draw the page", cache_policy=NO_CACHE)
def draw_page(
    attempt: Run, inbox: str, settled: Arranged, evaluated: Evaluated, proof: Proof, run: RunOptions
) -> NightPage:
    """The night's page, before the commit: a run that dies between the two draws it again."""
    now_doing("drawing the page")
    judgement = evaluated.judgement
    storage = attempt.staging.storage
    earlier = [
        one.summary.report
        for one in commits(storage, attempt.bundle)
        if (one.night, one.inbox) == (attempt.night, attempt.inbox)
    ]
    nothing_new = not settled.counts.scored and not settled.counts.quarantined and any(earlier)
    nothing_new &= judgement.verdict is not NightVerdict.ALARM  # an inbox that has vanished is no page of before
    key = f"{REPORTS}/{page_key(attempt.night, attempt.bundle, attempt.id)}"
    started = attempt.staging.record()
    summary = NightSummary(
        bundle_id=attempt.bundle,
        night=attempt.night,
        run_id=attempt.id,
        inbox=attempt.inbox,
        verdict=judgement.verdict,
        headline=judgement.headline,
        counts=settled.counts,
        trusted=settled.trusted,
        suspect=settled.suspect,
        classes=settled.classes,
        quarantine_reasons=settled.quarantine_reasons,
        causes=evaluated.causes,
        findings=judgement.findings,
        expectations=evaluated.expectations,
        estimate=evaluated.estimate,
        started_at=started.begun_at if started is not None else now(),
        finished_at=now(),
        parameters={**_flat(run.model_dump(mode="json")), "engine": proof.engine},
        versions=libraries(),
        report=next(one for one in reversed(earlier) if one) if nothing_new else storage.describe(key),
        whence=whence(proof.path),
    )
    page = draw_night(
        attempt,
        summary,
        evaluated,
        instruments_of(proof),
        thumbnails=run.thumbnails,
        inbox=None if is_a_folder_a_night(inbox) else attempt.inbox,
    )
    if not nothing_new:
        get_run_logger().info("The page is written: %s", place_of(write_page(storage, key, page)))
    return page


@task(name="commit", task_run_name="commit", cache_policy=NO_CACHE)
def commit_night(
    attempt: Run, settled: Arranged, evaluated: Evaluated, summary: NightSummary, intake: IntakeOptions, run: RunOptions
) -> NightSummary:
    """Make the rows part of the results, each content once; or keep them back, where an alarm is to be seen first."""
    now_doing("committing")
    if intake.quarantine_copies:
        for rows in publish.settled_quarantine(attempt):
            keep_copies(attempt.staging.storage, Path(from_text(attempt.inbox)), rows)
    untold.promise(attempt)
    if run.on_alarm == "hold" and summary.verdict is NightVerdict.ALARM:
        held.hold(attempt, settled, summary, evaluated.drift, estimate_rows(evaluated.estimate))
        get_run_logger().warning("Kept back: darkroom release %s, or darkroom discard, with a --reason", attempt.id)
        return summary
    rows = estimate_rows(evaluated.estimate)
    commit = publish.commit(attempt, settled, summary, evaluated.drift, rows)
    get_run_logger().info("Committed as number %d: %s rows", commit.number, f"{commit.counts.scored:,}")
    return commit.summary


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_night(page: NightPage, summary: NightSummary, results: Path) -> None:
    """The night among all nights, and in the Prefect UI."""
    now_doing("telling")
    try:
        write_index(results)
    except StorageError as error:  # what was scored is committed, and the next run writes the page anew
        get_run_logger().warning("The page over all nights could not be written: %s", error)
    try:
        keys = show_night(replace(page, summary=summary))
    except Exception as error:  # whatever the server has: the night is committed, and its page is there
        get_run_logger().warning("The artifacts could not be shown: %s", visible(str(error), 1000))
        return
    get_run_logger().info("Told: the artifacts %s", ", ".join(keys))


def ended(summary: NightSummary, run: RunOptions) -> Any:
    """The summary, and its sentence as the message of the run's state, which the UI shows and automations can send.

    Where an alarm is to fail the run, the state has a name of its own: automations tell it from an error.
    """
    told = f"{summary.verdict}: {visible(summary.headline, 600)}"
    if run.on_alarm == "fail" and summary.verdict is NightVerdict.ALARM:
        return Failed(name="Alarm", message=told, data=summary)
    return Completed(message=told, data=summary)


def _expected(given: int | None, past: list[int]) -> int | None:
    return given if given is not None else learned_minimum(past)


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
