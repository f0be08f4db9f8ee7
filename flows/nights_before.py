"""What is known before a night: drift rows, the alarms that somebody has acknowledged, what labels have said."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pandas as pd

from darkroom.acknowledgements import acknowledgements
from darkroom.errors import StorageError
from darkroom.reasons import NightCause, NightVerdict
from darkroom.results import commits, read_part
from darkroom.storage import Storage, storage_at
from darkroom.summary import NightSummary
from expectations.alarms import Earlier
from expectations.labelling import TWO_SIDED_90
from expectations.night_cause import Realised
from tasks.report.labelled import labelled_nights

_COLUMNS = ["family", "metric", "slice", "n", "p_beyond"]


def nights_before(results: Storage | Path | str, bundle: str, inbox: str | None, night: date) -> Earlier:
    """Of a bundle and an inbox (None: all), up to and with this night: other runs of it count.

    Commits come in the order of runs; what is made of them (expectations.across_nights) is in the order of nights.
    """
    storage = storage_at(results)
    known = tuple(
        one.night
        for one in acknowledgements(storage, bundle)
        if one.night <= night and (inbox is None or one.inbox in (None, inbox))
    )
    since = max(known, default=date.min)
    frames, lost = [], set()
    for commit in commits(storage, bundle):
        if since < commit.night <= night and (inbox is None or commit.inbox == inbox):
            for part in commit.parts:
                if part.dataset == "drift":
                    try:
                        frames.append(read_part(storage, part, _COLUMNS).to_pandas().assign(night=commit.night))
                    except StorageError:  # told as a finding: an old night must not stop tonight's
                        lost.add(commit.night)
    whole = [frame[frame["slice"].isna()] for frame in frames]
    rows = pd.concat(whole, ignore_index=True) if whole else Earlier.none().rows
    return Earlier(rows, known, tuple(sorted(lost)))


def realised_before(results: Storage | Path | str, bundle: str, night: date) -> Realised | None:
    """What labels say of the nights before on which nothing was found, as the last evaluation left it.

    Only where images were drawn by lot: who labels what looks suspect finds the wrong ones. None without any.
    """
    storage = storage_at(results)
    labelled = labelled_nights(storage, bundle)
    if not labelled:
        return None
    told = {one.night for one in commits(storage, bundle) if not _quiet(one.summary)}
    quiet = [one for when, one in labelled.items() if when < night and when not in told and one.design == "strata"]
    number = sum(one.labelled for one in quiet)
    if not number:
        return None
    accuracy = sum(one.accuracy * one.labelled for one in quiet) / number
    errors = [(one.high - one.low) / 2 / TWO_SIDED_90 * one.labelled / number for one in quiet]
    return Realised(number, accuracy, math.hypot(*errors))


def _quiet(summary: NightSummary) -> bool:
    causes = {one.cause for one in summary.causes}
    return summary.verdict in (NightVerdict.OK, NightVerdict.EMPTY) and causes <= {NightCause.NOTHING}
