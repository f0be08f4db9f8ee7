"""Who is told of a night outside its results: listeners of Prefect's events, and Prometheus."""

from __future__ import annotations

from http.client import HTTPException

from prefect import get_run_logger

from darkroom.orchestrator import events
from darkroom.orchestrator.connection import reports_to_a_private_server, until_events_are_sent
from darkroom.settings import RunOptions
from darkroom.summary import NightSummary
from flows.diagnosed import Diagnosis
from flows.diagnosis_words import preparation_at_fault
from flows.searching import Searched
from tasks.report.metrics import tell_metrics
from tasks.staging import Run
from tasks.untold import told, untold


def tell_night(summary: NightSummary) -> None:
    """The event of the night; when this returns, it was sent to the server, if that answers at all."""
    events.night_ended(summary)
    if not reports_to_a_private_server():
        until_events_are_sent()


def write_metrics(summary: NightSummary, inbox: str, run: RunOptions) -> None:
    """The metrics of the night, where they are wanted; they never fail it."""
    if run.metrics:
        try:
            tell_metrics(summary, inbox, run.metrics)
        except (OSError, ValueError, HTTPException) as error:
            get_run_logger().warning("The metrics could not be written: %s", error)


def tell_untold(attempt: Run) -> None:
    """The events of nights whose runs died after the commit, before they told; where somebody listens."""
    if reports_to_a_private_server():
        return
    for summary in untold(attempt):
        get_run_logger().info("Night %s is told now: its run died before it told.", summary.night)
        tell_night(summary)
        told(attempt.staging.storage, summary.run_id)


def tell_skew(told: Diagnosis, searched: Searched) -> None:
    """The event of a diagnosis that found the mistake, where the images were prepared in another way."""
    if told.explained and preparation_at_fault(searched):
        events.skew_found(told.bundle_id, told.sentence, told.cause.variants, told.page)
