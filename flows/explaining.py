"""Explaining one image: looked at once, compared with training, shaken, and the cause named. Plain functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.reasons import Reason
from expectations.cause import Evidence, Explanation, explain_image
from expectations.outliers import FLAGGED, NearestNeighbours
from expectations.placing import Place, foreign_facts, odd_sizes, place_among
from expectations.standard import Standard, Track, learn_plausible, track_of
from flows.looking import Instruments, look
from flows.nearest import bank_of
from flows.shaking import Shake, shake
from flows.single import SINGLE
from tasks.bundle import Bundle
from tasks.damage import measure_damage
from tasks.stated_prediction import StatedPrediction
from tasks.thumbnails import THUMBNAILS, read_thumbnails
from tasks.workers import Arrived, Job, Refused

NEAREST: Final = 8
# Refusals that say what kind of file it is; every other one says that it is broken or could not be read.
_ANOTHER_KIND: Final = frozenset(
    {
        Reason.UNKNOWN_FORMAT,
        Reason.FORMAT_NOT_ALLOWED,
        Reason.MODE_NOT_SUPPORTED,
        Reason.TOO_MANY_PIXELS,
        Reason.TOO_LARGE_FILE,
    }
)


@dataclass(frozen=True)
class Seen:
    """One image, looked at: its row of darkroom.schemas.PREDICTIONS, its pixels and picture, its embedding (1, e); what
    was measured of damage.
    """

    row: Mapping[str, Any]
    arrived: Arrived
    embedding: NDArray[np.float32]
    damage: Mapping[str, float]


@dataclass(frozen=True)
class Neighbour:
    """A training photo near the image, as the model sees both; `thumbnail` is JPEG, or empty."""

    path: str
    label: str
    predicted: str
    distance: float
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Told:
    """Everything that is known of one image. Without pixels there is a refusal, and nothing else."""

    explanation: Explanation
    evidence: Evidence
    track: Track
    refused: Refused | None = None
    seen: Seen | None = None
    places: tuple[Place, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    shaken: Shake | None = None
    suspicions: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Beside:
    """What of a bundle one image is compared with."""

    profile: pd.DataFrame
    training: pd.DataFrame
    bank: NearestNeighbours
    standard: Standard
    track: Track
    thumbnails: bytes | None


def explain_bytes(data: bytes, instruments: Instruments, stated: StatedPrediction | None = None) -> Told:
    """Look, compare, shake, name the cause. `stated`: a prediction that was made elsewhere of this file."""
    beside = beside_of(instruments)
    seen = look_closely(data, instruments)
    if isinstance(seen, Refused):
        evidence = Evidence(refused=(_why(seen), seen.reason not in _ANOTHER_KIND))
        return Told(explain_image(evidence, beside.track), evidence, beside.track, refused=seen)
    shaken = shake(data, _resized(seen), _raw(seen), instruments, stated)
    return tell(seen, shaken, instruments, beside)


def look_closely(data: bytes, instruments: Instruments) -> Seen | Refused:
    """One decode, in a process that can be killed; one forward pass; every doubt of a night."""
    looked = look([Job(key="image", data=data)], instruments, processes=1, closely=True)
    if looked.closely is None or looked.refused:
        return looked.refused[0]
    arrived = looked.closely.arrived[0]
    row = {str(name): value for name, value in looked.rows.iloc[0].to_dict().items()}
    resized = np.zeros((1, 1, 3)) if arrived.resized is None else arrived.resized
    return Seen(row, arrived, looked.closely.embeddings, measure_damage(resized))


def tell(seen: Seen, shaken: Shake, instruments: Instruments, beside: Beside) -> Told:
    """Put the evidence together."""
    standard = beside.standard
    probabilities = instruments.knowledge.calibration.calibrated(_raw(seen)[np.newaxis])[0]
    order = np.argsort(-probabilities, kind="stable")
    classes = instruments.bundle.classes
    row = {**seen.row, **seen.damage}
    evidence = Evidence(
        classes=tuple((classes[place], float(probabilities[place])) for place in order),
        incomplete="truncated=refused" in shaken.refused,
        theirs=shaken.theirs,
        signs=() if standard.damage is None else tuple(standard.damage.signs(row)),
        unusual_p=float(seen.row["unusual_p"]),
        unusual_property=seen.row["unusual_property"],
        far_p=float(seen.row["out_of_distribution_p"]),
        foreign=foreign_facts(beside.profile, row),
        odd_size=odd_sizes(beside.profile, row),
        moved=shaken.moved,
        steady_p=math.nan if standard.steadiness is None else standard.steadiness.p(shaken.moved),
        plausible_from=standard.plausible_from,
    )
    return Told(
        explanation=explain_image(evidence, beside.track),
        evidence=evidence,
        track=beside.track,
        seen=seen,
        places=place_among(beside.training, row),
        neighbours=nearest_photos(seen, beside),
        shaken=shaken,
        suspicions=tuple(str(one) for one in seen.row["reasons"]),
    )


def nearest_photos(seen: Seen, beside: Beside, k: int = NEAREST) -> tuple[Neighbour, ...]:
    """Training photos by the embedding, the nearest first."""
    positions, distances = beside.bank.nearest(seen.embedding, k)
    rows = beside.training.iloc[positions[0]]
    ids = rows["content_id"].tolist()
    pictures = {} if beside.thumbnails is None else read_thumbnails(beside.thumbnails, ids)
    columns = (rows[name].tolist() for name in ("path", "label", "predicted_class"))
    return tuple(
        Neighbour(str(path), str(label), str(predicted), float(distance), pictures.get(content_id, b""))
        for path, label, predicted, content_id, distance in zip(*columns, ids, distances[0], strict=True)
    )


_beside: dict[str, Beside] = {}


def beside_of(instruments: Instruments) -> Beside:
    """Read once for a bundle that is in use."""
    bundle = instruments.bundle
    if bundle.id not in _beside:
        _beside.clear()
        _beside[bundle.id] = _read_beside(instruments)
    return _beside[bundle.id]


def _read_beside(instruments: Instruments) -> Beside:
    bundle, knowledge = instruments.bundle, instruments.knowledge
    profile = bundle.profile()
    train = (profile["split"] == "train").to_numpy()
    embeddings = bundle.embeddings()
    held = profile[~train]
    calibrated = knowledge.calibration.calibrated(np.stack([np.asarray(one) for one in held["probabilities"]]))
    own = np.array([bundle.classes.index(label) for label in held["label"]])
    if bundle.has(SINGLE):
        standard = bundle.understood(lambda read: Standard.from_json(read(SINGLE).decode()))
    else:  # sealed before single images were explained: less can be said
        standard = Standard(learn_plausible(calibrated, own))
    unusual = knowledge.outliers.score(held).p
    far = knowledge.neighbours.score(embeddings[~train])
    ordinary = ~((unusual <= FLAGGED) | (far <= FLAGGED))
    return Beside(
        profile=profile,
        training=profile[train],
        bank=bank_of(instruments),
        standard=standard,
        track=track_of(held, calibrated, ordinary, standard.plausible_from, _honest_accuracy(bundle, held)),
        thumbnails=bundle.read_bytes(THUMBNAILS) if bundle.has(THUMBNAILS) else None,
    )


def _honest_accuracy(bundle: Bundle, held: pd.DataFrame) -> float:
    """Restated where the audit had to; else that of the held-out images."""
    honest = bundle.manifest.metrics.get("honest") or {}
    accuracy = honest.get("accuracy")
    return float((held["predicted_class"] == held["label"]).mean()) if accuracy is None else float(accuracy)


def _raw(seen: Seen) -> NDArray[np.float32]:
    return np.asarray(seen.row["probabilities"], np.float32)


def _resized(seen: Seen) -> NDArray[Any]:
    return np.asarray(seen.arrived.resized)


def _why(refused: Refused) -> str:
    return refused.reason.sentence
