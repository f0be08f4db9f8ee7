"""How an answer moves: the same file under plausible wrong preparations, the same image slightly changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expectations.cause import Theirs
from expectations.steadiness import Moved, moved
from flows.looking import Instruments
from tasks.preprocessing import to_tensor
from tasks.slight_changes import CHANGES, slightly_changed
from tasks.stated_prediction import StatedPrediction
from tasks.variants import Replay, Variant, applied, catalogue

# What another machine or engine may add to a probability (the table of tolerances).
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Shaken:
    """Calibrated probabilities (k,) of one image after one change; `name`, and `what` it was in words."""

    name: str
    what: str
    stage: str  # decode, geometry, values; slight
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Shake:
    """Every variant that reads the file and can be shown on it, and every slight change; `refused`: variants that
    cannot read it; `unmoved`: how many change nothing.
    """

    variants: tuple[Shaken, ...]
    slight: tuple[Shaken, ...]
    refused: tuple[str, ...]
    unmoved: int
    moved: Moved
    theirs: Theirs | None


def shake(
    data: bytes,
    resized: NDArray[np.generic],
    pinned: NDArray[np.float32],
    instruments: Instruments,
    stated: StatedPrediction | None = None,
) -> Shake:
    """`data`: the file; `resized` (h, w, 3) and `pinned` (k,): its pixels and raw answer, prepared as in training.

    Variants of the model itself (dropout active, rounded weights) are not preparations, and are left to `diagnose`.
    """
    calibrated = instruments.knowledge.calibration.calibrated
    preprocessing = instruments.bundle.preprocessing
    variants = [one for one in catalogue(preprocessing) if one.stage != "model"]
    made = [(one, found) for one in variants if (found := applied(preprocessing, [one])) is not None]
    replay = Replay(instruments.engine, [data], preprocessing)
    # All variants of the one image in a few batches: one at a time would take the model ten times as long.
    tensors = np.concatenate([replay.tensors(one) for _, one in made])
    read = ~np.isnan(tensors[:, 0, 0, 0])
    replayed = np.full((len(made), len(pinned)), np.nan, np.float32)
    replayed[read] = instruments.engine.run(tensors[read]).probabilities
    seen = np.abs(replayed - pinned).max(axis=1) > _TOLERANCE
    slight = instruments.engine.run(to_tensor(slightly_changed(resized), preprocessing.values)).probabilities
    slight = calibrated(slight)
    return Shake(
        variants=tuple(
            Shaken(one.name, one.what, one.stage, calibrated(answer[np.newaxis])[0])
            for (one, _), answer, shown in zip(made, replayed, read & seen, strict=True)
            if shown
        ),
        slight=tuple(Shaken(one.name, one.what, "slight", answer) for one, answer in zip(CHANGES, slight, strict=True)),
        refused=tuple(one.name for (one, _), readable in zip(made, read, strict=True) if not readable),
        unmoved=int((read & ~seen).sum()),
        moved=moved(calibrated(pinned[np.newaxis])[0], slight),
        theirs=None
        if stated is None
        else _against([one for one, _ in made], replayed, pinned, stated, instruments.bundle.classes),
    )


def _against(
    variants: Sequence[Variant],
    replayed: NDArray[np.float32],
    pinned: NDArray[np.float32],
    stated: StatedPrediction,
    classes: Sequence[str],
) -> Theirs:
    """Which single variants give what was stated; a variant that changes nothing explains nothing."""
    differs = stated.distance(pinned) > _TOLERANCE
    off = np.array([np.inf if np.isnan(answer[0]) else stated.distance(answer) for answer in replayed])
    order = [int(row) for row in np.argsort(off, kind="stable") if off[row] <= _TOLERANCE] if differs else []
    return Theirs(
        stated=stated.in_words(classes),
        differs=differs,
        reproduced_by=tuple(variants[row].name for row in order),
        what=variants[order[0]].what if order else "",
        tried=len(variants),
        whole=stated.confidence is not None or stated.probabilities is not None,
        findings=stated.findings,
    )
