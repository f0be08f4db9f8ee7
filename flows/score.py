"""Score a night: prove the bundle, take in what is new, look at it, validate, compare, commit, report."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from darkroom.errors import InboxMissing
from darkroom.names import from_text
from darkroom.night import folder_of_night, is_a_folder_a_night, night_of
from darkroom.reasons import NightVerdict
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.storage import storage_at
from darkroom.summary import NightSummary
from flows import looking
from flows.evaluation import Evaluated, NightFacts, ShardEvidence, evaluate
from flows.looking import Proof
from flows.pictures import night_page
from tasks import held, intake as inboxes, publish
from tasks.arrange import Arranged
from tasks.ledger import open_ledger
from tasks.quarantine import Refusal, keep_copies
from tasks.report.artifact import night_artifact
from tasks.report.page import write_page
from tasks.runs import begin_run
from tasks.staging import Run, Staging, stage_part
from tasks.workers import Job


@flow(
    name="score",
    flow_run_name="score {inbox}",
    # One shard at a time: a shard already uses every core, for decoding and for the network.
    task_runner=ThreadPoolTaskRunner(max_workers=1),
)
def score(
    bundle: Path,
    inbox: str,
    results: Path = Path("results"),
    night: NightOptions = NightOptions(),
    intake: IntakeOptions = IntakeOptions(),
    run: RunOptions = RunOptions(),
) -> NightSummary:
    """Score a night of new images: prove, take in, look, validate, compare, commit, report.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        inbox: Folder of new images; may hold the night, as in inbox/{night:%Y-%m-%d}.
        results: Folder for predictions, drift, quarantine and pages.
        night: Which night the run is for.
        intake: What is taken from the inbox.
        run: How the work is cut, and what is shown.
    """
    this_night = night_of(night, flow_run.scheduled_start_time)
    proof = prove_bundle(bundle)
    with begin_run(results, proof.bundle_id, this_night, folder_of_night(inbox, this_night)) as attempt:
        take_in(attempt, inbox, proof, intake, run)
        shards = attempt.staging.unfinished()
        look_at_shard.map(shards, run_id=attempt.id, results=results, proof=proof, options=run).wait()
        settled = publish.settle(attempt)
        evaluated = evaluate_night(attempt, settled, proof, intake, run)
        summary = commit_night(attempt, settled, evaluated, run)
    return report_night(summary, evaluated, proof, results, run)
