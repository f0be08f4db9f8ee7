"""What was committed before a night: its drift rows, and the alarms that somebody has acknowledged."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd

from darkroom.acknowledgements import acknowledgements
from darkroom.results import commits, read_part
from darkroom.storage import Storage, storage_at
from expectations.alarms import Earlier

_COLUMNS = ["family", "metric", "slice", "n", "p_beyond"]


def nights_before(results: Storage | Path | str, bundle: str, inbox: str | None, night: date) -> Earlier:
    """Of a bundle and an inbox (None: all), up to and with this night: other runs of it count.

    Commits come in the order of runs; what is made of them (expectations.across_nights) is in the order of nights.
    """
    storage = storage_at(results)
    known = tuple(one.night for one in acknowledgements(storage, bundle) if one.night <= night)
    since = max(known, default=date.min)
    frames = [
        read_part(storage, part, _COLUMNS).to_pandas().assign(night=commit.night)
        for commit in commits(storage, bundle)
        if since < commit.night <= night and (inbox is None or commit.inbox == inbox)
        for part in commit.parts
        if part.dataset == "drift"
    ]
    if not frames:
        return Earlier(Earlier.none().rows, known)
    whole = [frame[frame["slice"].isna()] for frame in frames]
    return Earlier(pd.concat(whole, ignore_index=True), known)
