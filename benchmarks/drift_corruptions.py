"""Nights of real photos that a worse camera took: how many of them are an alarm."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.explain_causes import halves, instruments
from benchmarks.harness import Measured
from benchmarks.night import work
from expectations.budget import A_YEAR
from expectations.drift import night_drift
from flows.looking import look
from tasks.corruptions import KINDS, corrupt
from tasks.workers import Job

SLIGHT, STRONG = 500, 100
STRENGTHS = (3, 4, 5)
SEED = 5


def corruptions() -> Mapping[str, Measured]:
    """Every kind: strength 1 in nights of 500 photos, strengths 3 to 5 in nights of 100; none was in the training."""
    photos = halves()[1]
    random = np.random.default_rng(SEED)
    unchanged = _moved(_night(photos[:SLIGHT], None, 0))
    slight = {kind: _moved(_night(photos[:SLIGHT], kind, 1)) for kind in KINDS}
    strong = {
        f"{kind} {strength}": _moved(
            _night([photos[k] for k in random.permutation(len(photos))[:STRONG]], kind, strength)
        )
        for kind in KINDS
        for strength in STRENGTHS
    }
    told = f"the same photos unchanged: {', '.join(unchanged) or 'no alarm'}"
    return {
        "corruption_strong_100": _figure(strong, told),
        "corruption_slight_500": _figure(slight, told),
    }


def _figure(found: Mapping[str, Sequence[str]], told: str) -> Measured:
    missed = [name for name, moved in found.items() if not moved]
    return Measured(
        1 - len(missed) / len(found),
        f"{len(found) - len(missed)} of {len(found)} nights; not seen: {', '.join(missed) or 'none'}; {told}",
        [{name: list(moved) for name, moved in found.items()}],
        [SEED],
    )


def _moved(rows: pd.DataFrame) -> list[str]:
    """What was an alarm."""
    reference = instruments().knowledge.drift
    drift = night_drift(reference, reference.sketch(rows), A_YEAR)
    return [str(name) for name in drift.loc[drift["verdict"] == "alarm", "metric"]]


def _night(photos: Sequence[Path], kind: str | None, strength: int) -> pd.DataFrame:
    folder = work() / "corrupted" / f"{kind}-{strength}-{len(photos)}"
    folder.mkdir(parents=True)
    jobs = []
    for number, photo in enumerate(photos):
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(_taken_again(photo, kind, strength, number))
        jobs.append(Job(path.name, path))
    rows = look(jobs, instruments()).rows
    for job in jobs:
        job.path.unlink()
    return rows


def _taken_again(photo: Path, kind: str | None, strength: int, number: int) -> bytes:
    """The photo as JPEG with its own quantisation: only what the corruption does is to be seen."""
    with Image.open(photo) as image:
        tables: Any = image.quantization  # type: ignore[attr-defined]
        pixels = np.asarray(image.convert("RGB"))
    if kind is not None:
        pixels = corrupt(pixels, kind, strength, SEED, image=number)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", qtables=tables)
    return file.getvalue()
