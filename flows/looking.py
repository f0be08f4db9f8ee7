"""Looking at images: one decode, one forward pass, and every doubt about the answer.

The nightly shard and `darkroom.predict` both come through here; it is where tasks and expectations meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from darkroom.errors import BundleTampered
from darkroom.progress import tell
from darkroom.reasons import Verdict
from darkroom.schemas import PREDICTIONS
from darkroom.settings import EngineName
from expectations.knowledge import Knowledge
from expectations.outliers import judge_rows
from expectations.validation import RowOutcome, TeamSuite
from flows.engines import engine_for
from tasks.bundle import Bundle, find_bundle, open_bundle, replay_goldens
from tasks.goldens.sentinels import Sentinels
from tasks.inference import Engine, Outputs
from tasks.lent_pool import lent_pool
from tasks.workers import Arrived, Batch, Job, Refused, Wanted

# Longest side of the picture that a person sees of an image that is looked at closely.
_PICTURE = 480


class Proof(BaseModel):
    """A bundle that holds, and by how much its goldens differ from the sealed ones."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    path: str
    goldens: int
    max_probability_difference: float
    engine: str
    seconds: float
    signed_by: str | None = None

    @property
    def engine_name(self) -> EngineName:
        """As it is asked for."""
        return "openvino" if self.engine == "openvino" else "keras"

    def as_text(self) -> str:
        """For a person."""
        signed = f"signed by {self.signed_by}; " if self.signed_by else ""
        return (
            f"{self.bundle_id} holds: {signed}every digest, and {self.goldens} golden images with equal pixels and "
            "tensors; "
            f"probabilities differ by at most {self.max_probability_difference:.1e} "
            f"({self.engine}, {self.seconds:.1f} s)."
        )


@dataclass(frozen=True)
class ProvedModel:
    """A bundle, proved in this process, and its engine: enough to predict, not to judge."""

    bundle: Bundle
    engine: Engine
    proof: Proof
    sentinels: Sentinels


@dataclass(frozen=True)
class Instruments(ProvedModel):
    """What it takes to look at images: a proved model, and what it knows of normal."""

    knowledge: Knowledge


@dataclass(frozen=True)
class Looked:
    """Some images, looked at: a row of darkroom.schemas.PREDICTIONS each, and those that could not be."""

    rows: pd.DataFrame
    outcome: RowOutcome
    refused: list[Refused]
    closely: Closely | None = None


@dataclass(frozen=True)
class Closely:
    """Images as they arrived, with pixels at the model's size and a picture for people; embeddings (n, e)."""

    arrived: list[Arrived]
    embeddings: NDArray[np.float32]


# The last bundle that this process has proved: shards of one run, and calls of `predict`, come to the same one.
_proved: dict[str, Instruments] = {}
_proving = threading.Lock()


def prove_model(path: Path, engine_name: EngineName = "keras") -> ProvedModel:
    """Open a bundle and replay its goldens: what comes back predicts as it did when it was sealed.

    Raises: BundleUnreadable, BundleTampered, BundleUntrusted, GoldenMismatch; WrongUse for an engine that may not be
    used.
    """
    bundle = open_bundle(find_bundle(path))
    engine = engine_for(bundle, engine_name)
    replay = replay_goldens(bundle, engine)
    proof = Proof(
        bundle_id=bundle.id,
        path=str(bundle.path.absolute()),  # a worker may stand elsewhere
        goldens=replay.n,
        max_probability_difference=replay.max_probability_difference,
        engine=engine.name,
        seconds=replay.seconds,
        signed_by=bundle.signed_by,
    )
    return ProvedModel(bundle, engine, proof, Sentinels.of(replay.goldens, engine))


def prove(path: Path, engine_name: EngineName = "keras") -> Instruments:
    """Open a bundle and replay its goldens, whatever was proved before: what comes back may score.

    Raises: BundleUnreadable, BundleTampered, BundleUntrusted, GoldenMismatch; WrongUse for an engine that may not be
    used.
    """
    model = prove_model(path, engine_name)
    knowledge = model.bundle.understood(lambda read: Knowledge.from_files(read, model.bundle.has))
    instruments = Instruments(**vars(model), knowledge=knowledge)
    _proved.clear()
    _proved[model.proof.path] = instruments
    return instruments


def proved(path: Path, engine_name: EngineName = "keras") -> Instruments:
    """The instruments of a bundle on an engine: those that this process has proved, or proved now.

    The digests are checked each time, so that a bundle that changed in the meantime is not taken for the proved one.
    """
    with _proving:
        bundle = open_bundle(find_bundle(path))
        known = _proved.get(str(bundle.path.absolute()))
        same = known is not None and known.bundle.id == bundle.id and engine_name == known.proof.engine_name
        return known if same and known is not None else prove(path, engine_name)


def forget_proved() -> None:
    """The next proof is of an engine that is loaded anew."""
    _proved.clear()


def instruments_of(proof: Proof) -> Instruments:
    """Those that a proof is of, in whichever process.

    Raises: as `prove`; BundleTampered where another bundle lies there.
    """
    instruments = proved(Path(proof.path), proof.engine_name)
    if instruments.bundle.id != proof.bundle_id:
        raise BundleTampered(
            "The bundle was replaced by another one while it was at work.",
            file=proof.path,
            expected=proof.bundle_id,
            found=instruments.bundle.id,
            todo="restore it, and run the night again: what was finished is kept",
        )
    return instruments


def look(
    jobs: Sequence[Job],
    instruments: Instruments,
    *,
    processes: int | None = None,
    teams: Sequence[TeamSuite] = (),
    closely: bool = False,
    told: Callable[[int, Sequence[Refused]], None] | None = None,
) -> Looked:
    """Decode, measure, predict and doubt; keys of the jobs are the paths of the rows.

    `closely` keeps what it takes to explain: for a few images, because pixels stay in memory. `told` hears after each
    batch how many of the jobs are done, and which of them were refused; without it, whoever watches this process does.
    """
    told = told or (lambda done, _: tell("images", done, len(jobs)))
    wanted = Wanted(tensor=True, properties=True, resized=closely, thumbnail=_PICTURE if closely else 0)
    arrived: list[Arrived] = []
    refused: list[Refused] = []
    answers: list[Outputs] = []
    with lent_pool(instruments.bundle.preprocessing, wanted, processes) as pool:
        for batch in pool.batches(jobs):
            refused += batch.refused
            if batch.arrived:
                answers.append(instruments.engine.run(batch.tensors))
                arrived += _kept(batch, closely=closely)
            told(len(arrived) + len(refused), refused)
    if not answers:
        return Looked(PREDICTIONS.empty_table().to_pandas(), RowOutcome(), refused)
    outputs = Outputs(
        probabilities=np.concatenate([one.probabilities for one in answers]),
        embedding=np.concatenate([one.embedding for one in answers]),
    )
    rows = _predicted(arrived, outputs, instruments)
    near = Closely(arrived, outputs.embedding) if closely else None
    return Looked(*_doubted(rows, outputs.embedding, instruments, teams), refused, near)


def predict_files(bundle: Path, files: Sequence[Path], *, processes: int | None = None) -> pd.DataFrame:
    """One row a file, in the order given; see darkroom.predict."""
    instruments = proved(bundle)
    jobs = [Job(key=number, path=path) for number, path in enumerate(files)]
    looked = look(jobs, instruments, processes=processes)
    rows = looked.rows.assign(number=looked.rows["path"].astype(int))
    refused = pd.DataFrame(
        {
            "number": [int(one.key) for one in looked.refused],
            "content_id": [one.content_id for one in looked.refused],
            "verdict": [str(Verdict.QUARANTINED) for _ in looked.refused],
            "reasons": [[str(one.reason)] for one in looked.refused],
        }
    )
    both = pd.concat([rows, refused.reindex(columns=rows.columns)], ignore_index=True) if len(refused) else rows
    both = both.sort_values("number", ignore_index=True)
    return both.assign(path=[str(files[number]) for number in both["number"]]).drop(columns="number")


def _kept(batch: Batch, *, closely: bool) -> list[Arrived]:
    """What outlives its batch: the tensors only of what is looked at closely, as copies."""
    tensors = batch.tensors.copy() if closely else [None] * len(batch.arrived)
    return [replace(one, tensor=tensor) for one, tensor in zip(batch.arrived, tensors, strict=True)]


def _predicted(images: Sequence[Arrived], outputs: Outputs, instruments: Instruments) -> pd.DataFrame:
    """The rows as far as one forward pass and the properties go."""
    knowledge = instruments.knowledge
    ordered = np.sort(outputs.probabilities, axis=1)
    classes = np.asarray(instruments.bundle.classes, dtype=object)
    rows = pd.DataFrame(
        {
            "content_id": [image.content_id for image in images],
            "path": [str(image.key) for image in images],
            "predicted_class": classes[outputs.probabilities.argmax(axis=1)],
            "confidence": knowledge.calibration.calibrated(outputs.probabilities).max(axis=1),
            "margin": ordered[:, -1] - ordered[:, -2],
            "probabilities": list(outputs.probabilities),
            "embedding": list(knowledge.projection.apply(outputs.embedding)),
        }
    )
    properties = pd.DataFrame([image.properties for image in images])
    return pd.concat([rows, properties], axis=1)


def _doubted(
    rows: pd.DataFrame, embeddings: NDArray[np.float32], instruments: Instruments, teams: Sequence[TeamSuite]
) -> tuple[pd.DataFrame, RowOutcome]:
    """Row expectations, outlier scores, and from them the row verdicts."""
    knowledge = instruments.knowledge
    outcome = knowledge.outcome_of(rows, teams)
    unusual = knowledge.outliers.score(rows)
    far = knowledge.neighbours.score(embeddings)
    judged = judge_rows(rows["confidence"].to_numpy(), unusual, far, outcome.reasons(len(rows)), knowledge.calibration)
    rows = rows.assign(
        verdict=judged.verdicts,
        reasons=pd.Series(judged.reasons, index=rows.index),
        unusual_p=unusual.p,
        unusual_property=pd.Series(unusual.named, index=rows.index, dtype=object),
        out_of_distribution_p=far,
        scored_at=pd.Timestamp(datetime.now(UTC)),
    )
    return rows[PREDICTIONS.names], outcome
