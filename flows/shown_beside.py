"""What a night's page shows beside its pictures: categories, each property over the nights before, and the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from darkroom.storage import Storage
from expectations.sketch import OTHER, Sketch
from flows.looking import Instruments
from tasks.report.night_page import Mix
from tasks.report.past import MOST_NIGHTS, PastNight, Series, drift_of, series_of, with_tonight

_DIGITS = 12  # of a digest, for people


def sealed(instruments: Instruments) -> dict[str, str]:
    """What the bundle is, and that its goldens held before anything was scored."""
    manifest, proof = instruments.bundle.manifest, instruments.proof
    model = instruments.bundle.model_path.name
    return {
        "bundle": manifest.id,
        "sealed": manifest.created_at.isoformat(sep=" ", timespec="seconds"),
        model: f"sha256 {manifest.digests[model][:_DIGITS]} …",
        "preprocessing": f"sha256 {manifest.preprocessing_digest[:_DIGITS]} …",
        "classes": f"sha256 {manifest.classes_digest[:_DIGITS]} …, {len(manifest.classes)} in order",
        "files": f"{len(manifest.digests)}, every digest as sealed",
        "goldens": f"{proof.goldens} replayed; probabilities differ by at most {proof.max_probability_difference:.1e}",
        "engine": proof.engine,
    }


def mixes(sketch: Sketch, instruments: Instruments) -> dict[str, Mix]:
    """Every categorical property, tonight beside training; what training never showed is the last one, if it came."""
    found = {}
    for row, known in enumerate(instruments.knowledge.drift.metrics):
        metric = known.metric
        if metric.family == "properties" and not metric.numeric:
            training = np.asarray(known.counts)[: metric.bins]
            found[metric.name] = Mix((*metric.categories, OTHER), sketch.counts[row, : metric.bins], training)
    return found


def property_history(
    storage: Storage, before: Sequence[PastNight], tonight: pd.DataFrame, night: date, instruments: Instruments
) -> dict[str, Series]:
    """Each image property over the nights `before` (the oldest first) and tonight, at most MOST_NIGHTS in all; a
    numeric one with a standard deviation of training, which gives it its scale.
    """
    rows = with_tonight(drift_of(storage, before[1 - MOST_NIGHTS :]), tonight, night)
    spreads = {
        known.metric.name: known.unit
        for known in instruments.knowledge.drift.metrics
        if known.metric.family == "properties" and known.metric.numeric
    }
    return {name: one._replace(spread=spreads.get(name)) for name, one in series_of(rows, "properties").items()}
