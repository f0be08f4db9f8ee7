"""Knows how goldens are recorded: by a new process, which loads what will be loaded at night."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom import errors
from darkroom.errors import DarkroomError, TrainingFailed, UnsupportedModel
from tasks.goldens.record import Fingerprint, Golden, SealedGolden, to_parquet
from tasks.goldens.replay import OTHER_ENGINE_TOLERANCE, SAME_ENGINE_TOLERANCE
from tasks.machine import libraries, machine_type
from tasks.preprocessing import ImageRefused, Preprocessing, prepare

# Loading TensorFlow takes seconds, a large model tens of them; a process that hangs must not hang the training.
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class RecordedGolden:
    """What the seal needs to know of a golden."""

    name: str
    content_id: str
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Recorded:
    """What the recording process saw."""

    goldens: tuple[RecordedGolden, ...]
    engine: str
    machine: str
    libraries: dict[str, str]
    embedding_size: int


def record_in_new_process(folder: Path, embedding_layer: str, classes: int, goldens: Sequence[Golden]) -> Recorded:
    """Have goldens/goldens.parquet written in a folder with the model, preprocessing.json and the goldens' images.

    Raises: what the process raised; TrainingFailed where it died.
    """
    request = {
        "folder": str(folder),
        "model": "model.pb" if (folder / "model.pb").is_file() else "model.keras",
        "embedding_layer": embedding_layer,
        "classes": classes,
        "goldens": [{"name": golden.name, "why": golden.why} for golden in goldens],
    }
    home = Path(__file__).resolve().parents[2]
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tasks.record_goldens"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrainingFailed(
            f"Recording the golden images took longer than {_TIMEOUT_SECONDS:.0f} s, and was stopped.",
            file=folder,
            todo="run again on a machine that is less busy",
        ) from error
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise TrainingFailed(
            "The process that reloads the saved model died.",
            file=folder,
            expected="the golden images' probabilities",
            found=f"exit code {done.returncode}: {' / '.join(done.stderr.strip().splitlines()[-3:])[-500:]}",
            todo="look at the message of the process; a crash of TensorFlow is often a lack of memory",
        ) from error
    if "error" in answer:
        raise _as_error(answer)
    return Recorded(
        goldens=tuple(
            RecordedGolden(name, content_id, np.asarray(row, dtype=np.float32))
            for name, content_id, row in answer["goldens"]
        ),
        engine=answer["engine"],
        machine=answer["machine"],
        libraries=answer["libraries"],
        embedding_size=answer["embedding_size"],
    )


def record(request: dict[str, Any]) -> dict[str, Any]:
    """In the new process: load, prepare, predict, write goldens.parquet; the answer of the process."""
    from tasks.inference import load_engine

    folder = Path(request["folder"])
    preprocessing = Preprocessing.load(folder / "preprocessing.json")
    engine = load_engine(folder / request["model"], request["embedding_layer"], input_shape=preprocessing.input_shape)
    images = [(folder / "goldens" / golden["name"]).read_bytes() for golden in request["goldens"]]
    try:
        prepared = [prepare(image, preprocessing) for image in images]
    except ImageRefused as refusal:
        raise TrainingFailed(
            f"A training image chosen as golden cannot be prepared again: {refusal.reason.sentence}.", file=folder
        ) from refusal
    tensors = np.stack([one.tensor for one in prepared])
    outputs = engine.run(tensors)
    if outputs.probabilities.shape[1] != request["classes"]:
        raise UnsupportedModel(
            "The model has another number of outputs than there are classes.",
            expected=f"{request['classes']} outputs, one a class",
            found=f"{outputs.probabilities.shape[1]}",
        )
    alone = np.concatenate([engine.run(tensors[i : i + 1]).probabilities for i in range(len(tensors))])
    _check_alone(outputs.probabilities, alone, engine.name)
    goldens = [
        SealedGolden(
            name=golden["name"],
            why=golden["why"],
            image=image,
            pixels=Fingerprint.of(one.pixels),
            tensor=Fingerprint.of(one.tensor),
            probabilities=row,
        )
        for golden, image, one, row in zip(request["goldens"], images, prepared, outputs.probabilities, strict=True)
    ]
    (folder / "goldens" / "goldens.parquet").write_bytes(to_parquet(goldens))
    return {
        "goldens": [
            (golden.name, hashlib.sha256(golden.image).hexdigest(), golden.probabilities.tolist()) for golden in goldens
        ],
        "engine": engine.name,
        "machine": machine_type(),
        "libraries": libraries(),
        "embedding_size": int(outputs.embedding.shape[1]),
    }


def _check_alone(together: NDArray[np.float32], alone: NDArray[np.float32], engine: str) -> None:
    """One image alone and in a batch: a promise, and a test for dropout or BatchNorm that is active at scoring."""
    gap = float(np.abs(together.astype(np.float64) - alone).max())
    tolerance = SAME_ENGINE_TOLERANCE if engine in ("keras", "graph") else OTHER_ENGINE_TOLERANCE
    if not gap <= tolerance:
        raise UnsupportedModel(
            "The model answers differently for an image alone and for the same image in a batch.",
            expected=f"equal probabilities within {tolerance:g}",
            found=f"a difference of {gap:.2g}",
            todo="look for layers that are called with training=True: dropout, augmentation, or BatchNormalization on "
            "the statistics of its batch",
        )


def _as_error(answer: dict[str, Any]) -> DarkroomError:
    kind = getattr(errors, str(answer["error"]), TrainingFailed)
    error: DarkroomError = kind(
        answer["what"], file=answer["file"], expected=answer["expected"], found=answer["found"], todo=answer["todo"]
    )
    return error
