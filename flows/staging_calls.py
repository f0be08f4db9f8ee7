"""Somebody's own function against the bundle, stage by stage: pixels, tensor, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import runtime

from darkroom.errors import WrongUse
from expectations.answers import SAME, Answers
from flows.looking import ProvedModel
from tasks.calling import Called, Returned, call
from tasks.preprocessing import ImageRefused, Prepared, prepare, to_resized, to_tensor
from tasks.stated_prediction import StatedPrediction

_STAGES = ("pixels", "resized", "tensor", "probabilities")
_SAME_TENSOR = 1e-6  # of the pinned tensor's own span: float32 in another order of operations


@dataclass(frozen=True)
class StageDifference:
    """One stage of their function against ours, over all samples, in words; `equal`: nothing to see."""

    stage: str
    verdict: str
    difference: str
    equal: bool


@dataclass(frozen=True)
class Compared:
    """Paths that could be compared, the answers that their outputs come to, and the stages."""

    paths: tuple[str, ...]
    answers: Answers
    findings: tuple[str, ...]
    stages: tuple[StageDifference, ...]


def only_at_a_terminal(call: str | None) -> None:
    """WrongUse for a function in a run that a server started."""
    if call is not None and runtime.deployment.id is not None:
        raise WrongUse(
            "A function is not called in a run that a server started: whoever reaches it could run anything.",
            found=call,
            todo="run it at a terminal, with --call module:function",
        )


def stated_by(target: str, image: Path, model: ProvedModel, seconds: float) -> StatedPrediction:
    """What their function says of one image, and which of its stages first differs.

    Raises: WrongUse where it fails, or returns no stage of a prediction.
    """
    compared = compare_stages(call_on(target, image.parent, [image.name], seconds), image.parent, [image.name], model)
    answers = compared.answers
    return StatedPrediction(
        int(answers.predicted[0]),
        None if answers.confidence is None else float(answers.confidence[0]),
        None if answers.probabilities is None else answers.probabilities[0],
        findings=compared.findings,
    )


def call_on(target: str, folder: Path, sample: Sequence[str], seconds: float) -> Called:
    """Their function on files of a folder."""
    return call(target, [folder / path for path in sample], seconds=seconds)


def compare_stages(called: Called, folder: Path, sample: Sequence[str], model: ProvedModel) -> Compared:
    """Which stage first differs, by how much; and the predictions that their outputs stand for.

    What the function returns is told by its shape: (k,) are probabilities, (h, w, 3) of the model's size a tensor, or
    resized pixels where they are whole numbers of 0 … 255 and the pinned tensor is not, the photo's own size pixels.

    Raises: WrongUse where nothing of it is one of these, or no sample can be compared.
    """
    bundle, engine = model.bundle, model.engine
    findings = [f"The function was given {called.way}."]
    found: dict[str, list[tuple[NDArray[Any], Prepared]]] = {}
    shares: list[NDArray[np.float64]] = []
    labels: list[int] = []
    confidences: list[float] = []
    paths: list[str] = []
    lost = 0
    for path, one in zip(sample, called.returned, strict=True):
        ours = _prepared(folder / path, model)
        if one.error is not None or ours is None:
            lost += 1
            continue
        stages = _told_apart(one, ours, model)
        answer = _answer(one, stages, model)
        if answer is None:
            shapes = ", ".join(f"{array.dtype} {array.shape}" for array in one.arrays.values()) or repr(one.label)
            raise WrongUse(
                "What the function returns is no stage of a prediction.",
                expected=f"{len(bundle.classes)} probabilities, a tensor {engine.input_shape}, pixels, or a label",
                found=shapes,
            )
        for stage, array in stages.items():
            found.setdefault(stage, []).append((array, ours))
        paths.append(path)
        if isinstance(answer, np.ndarray):
            shares.append(answer)
        else:
            labels.append(answer)
            if one.confidence is not None:
                confidences.append(one.confidence)
    if lost:
        first = next((one.error for one in called.returned if one.error), "the bundle refuses the file")
        findings.append(f"{lost:,} of {len(sample):,} files could not be compared, such as: {first}")
    if not paths:
        raise WrongUse("No file could be compared.", found=findings[-1])
    pinned = _pinned_probabilities(found, model) if "probabilities" in found else None
    differences = [_difference(stage, found[stage], pinned) for stage in _STAGES if stage in found]
    first_off = next((one for one in differences if not one.equal), None)
    findings.append(
        "Every stage that the function returns is the bundle's own."
        if first_off is None
        else f"The first stage that differs is {first_off.stage}: {first_off.difference}."
    )
    return Compared(tuple(paths), _answers(shares, labels, confidences), tuple(findings), tuple(differences))


def _answers(shares: list[NDArray[np.float64]], labels: list[int], confidences: list[float]) -> Answers:
    if shares:
        stacked = np.stack(shares)
        return Answers("probabilities", stacked, stacked.argmax(axis=1), None)
    predicted = np.asarray(labels, np.int64)
    if len(confidences) == len(labels):
        return Answers("top-1 with confidence", None, predicted, np.asarray(confidences))
    return Answers("labels", None, predicted, None)


def _prepared(file: Path, model: ProvedModel) -> Prepared | None:
    try:
        return prepare(file.read_bytes(), model.bundle.preprocessing)
    except (ImageRefused, OSError):
        return None


def _told_apart(one: Returned, ours: Prepared, model: ProvedModel) -> dict[str, NDArray[Any]]:
    """The stage that each returned array is, by its shape and values."""
    shape, k = model.engine.input_shape, len(model.bundle.classes)
    stages: dict[str, NDArray[Any]] = {}
    for array in one.arrays.values():
        plain = array[0] if array.ndim in (2, 4) and len(array) == 1 else array
        if plain.shape == (k,):
            stages["probabilities"] = plain
        elif plain.shape == shape:
            scaled = ours.tensor.min() < 0 or ours.tensor.max() <= 1
            stages["resized" if scaled and np.issubdtype(plain.dtype, np.integer) else "tensor"] = plain
        elif plain.shape == (shape[2], shape[0], shape[1]):
            stages["tensor"] = plain.transpose(1, 2, 0)
        elif plain.shape == ours.pixels.shape:
            stages["pixels"] = plain
        elif plain.ndim == 1 and plain.shape == (1,) and k == 2:
            stages["probabilities"] = np.array([1 - plain[0], plain[0]])
    return stages


def _answer(one: Returned, stages: dict[str, NDArray[Any]], model: ProvedModel) -> NDArray[np.float64] | int | None:
    """Probabilities, or a class position: what their output comes to, through the bundle's model where earlier."""
    classes, pinned = model.bundle.classes, model.bundle.preprocessing
    if "probabilities" in stages:
        values = np.asarray(stages["probabilities"], np.float64)
        if one.names and set(one.names) == set(classes):
            values = values[[one.names.index(name) for name in classes]]
        return values
    if "tensor" in stages:
        tensor = np.asarray(stages["tensor"], np.float32)
    elif "resized" in stages:
        tensor = to_tensor(np.asarray(stages["resized"]), pinned.values)
    elif "pixels" in stages:
        pixels = np.asarray(stages["pixels"]).clip(0, 255).astype(np.uint8)
        tensor = to_tensor(to_resized(pixels, pinned.geometry), pinned.values)
    elif one.label is not None and one.label in classes:
        return classes.index(one.label)
    elif one.label is not None and one.label.isdecimal() and int(one.label) < len(classes):
        return int(one.label)
    else:
        return None
    return np.asarray(model.engine.run(tensor[None]).probabilities[0], np.float64)


def _pinned_probabilities(
    found: dict[str, list[tuple[NDArray[Any], Prepared]]], model: ProvedModel
) -> NDArray[np.float32]:
    tensors = np.stack([ours.tensor for _, ours in found["probabilities"]])
    return model.engine.run(tensors).probabilities


def _difference(
    stage: str, pairs: Sequence[tuple[NDArray[Any], Prepared]], pinned: NDArray[np.float32] | None
) -> StageDifference:
    """Theirs against ours at one stage, over all samples."""
    if stage == "probabilities":
        assert pinned is not None
        largest = max(
            float(np.abs(np.asarray(theirs, np.float64) - ours).max())
            for (theirs, _), ours in zip(pairs, pinned, strict=True)
        )
        return _stage(stage, largest <= SAME, f"largest difference {largest:.3g}")
    gaps, spans = [], []
    for theirs, ours in pairs:
        own = np.asarray(getattr(ours, stage), np.float64)
        gaps.append(np.abs(np.asarray(theirs, np.float64) - own))
        spans.append(float(own.max() - own.min()) or 1.0)
    largest = max(float(gap.max()) for gap in gaps)
    mean = float(np.mean([gap.mean() for gap in gaps]))
    theirs_all = np.concatenate([np.asarray(theirs, np.float64).ravel() for theirs, _ in pairs])
    ours_all = np.concatenate([np.asarray(getattr(ours, stage), np.float64).ravel() for _, ours in pairs])
    words = (
        f"largest difference {largest:.3g}, mean {mean:.3g}; theirs {theirs_all.min():.4g} … {theirs_all.max():.4g}, "
        f"the bundle's {ours_all.min():.4g} … {ours_all.max():.4g}"
    )
    return _stage(stage, largest <= _SAME_TENSOR * max(spans), words)


def _stage(stage: str, equal: bool, words: str) -> StageDifference:
    return StageDifference(stage, "equal" if equal else "differs", words, equal)
