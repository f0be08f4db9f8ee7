"""What the log of a night says, a line a stage: it is read from top to bottom, in the Prefect UI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from darkroom.reasons import NightCause, NightVerdict
from darkroom.summary import Counts
from flows.evaluation import Evaluated
from tasks.arrange import Arranged
from tasks.report.drift_lines import drift_lines, drift_sentence
from tasks.report.untrusted import visible
from tasks.report.view import validation_sentence

_LONGEST: Final = 600  # characters of one line

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def intake_sentence(counts: Counts) -> str:
    """How many paths there are, and what is to be done with them; what no path is, is not named."""
    told = [
        f"{number:,} {word}"
        for number, word in (
            (counts.scored_before, "scored before"),
            (counts.duplicate, "duplicate"),
            (counts.quarantined, "quarantined"),
            (counts.deferred, "deferred to the next night"),
            (counts.not_an_image, "not an image"),
        )
        if number
    ]
    return f"Intake: {counts.seen:,} paths, " + ", ".join([f"{counts.scored:,} images to score", *told])


def settled_sentence(settled: Arranged) -> str:
    """What will be committed."""
    told = f"Settled: {settled.counts.scored:,} scored, {settled.trusted:,} trusted, {settled.suspect:,} suspect"
    told += f"; {settled.counts.quarantined:,} quarantined{_reasons(settled.quarantine_reasons)}"
    return told + (f"; {settled.lost:,} scored by another run meanwhile" if settled.lost else "")


def tell_evaluated(log: Log, evaluated: Evaluated) -> None:
    """Validation, drift, accuracy, cause, verdict; an alarm is a warning in the log, so that it is found there."""
    if evaluated.expectations:
        log.info("Validation: %s", validation_sentence(evaluated.expectations))
    lines = drift_lines(evaluated.compared.whole)
    if lines:
        log.info("Drift: %s", visible(drift_sentence(lines), _LONGEST))
    if evaluated.compared.budget_sentence:
        log.debug(evaluated.compared.budget_sentence)  # the same every night, and on the page
    if evaluated.estimate.rows:
        log.info(visible(evaluated.estimate.sentence, _LONGEST))
    for cause in evaluated.causes[:1]:
        if cause.cause is not NightCause.NOTHING:
            log.info("Cause, %s: %s. %s", cause.grade, cause.cause, visible(cause.sentence, _LONGEST))
    judgement = evaluated.judgement
    level = logging.WARNING if judgement.verdict in (NightVerdict.ALARM, NightVerdict.EMPTY) else logging.INFO
    log.log(level, "Verdict: %s. %s", judgement.verdict, visible(judgement.headline, _LONGEST))


def _reasons(reasons: Mapping[str, int]) -> str:
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return f" ({told})" if told else ""
