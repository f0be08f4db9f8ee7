"""Knows how somebody else's classifier becomes a model that darkroom can seal, and by how much the two differ."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import DarkroomError, UnsupportedModel
from tasks import graphs
from tasks.consent import consented_objects, refuse_without_consent
from tasks.foreign.finishing import finished_graph, finished_keras
from tasks.foreign.graph_reading import GraphReading, Scaling
from tasks.foreign.labels import labels_beside
from tasks.foreign.legacy import cannot_load, has_legacy, load_legacy, named
from tasks.foreign.origin import origin_of
from tasks.foreign.outputs import Head, Outputs, read_head
from tasks.foreign.reading import (
    Finding,
    all_layers,
    findings_of_behaviour,
    findings_of_graph,
    findings_of_model,
    trial_tensors,
)
from tasks.foreign.rebuilding import flat_model
from tasks.foreign.savedmodel import open_savedmodel
from tasks.foreign.sniffing import Sniffed, sniff, text
from tasks.graphs import FrozenGraph
from tasks.inference import load_engine
from tasks.machine import import_tensorflow

# The same layers in another version of Keras sum in nearly the same order: more than this is another model. Measured:
# 1.01e-5 with AVX-512, under 1e-5 without.
SAME_MODEL: Final = 3e-5
# A frozen graph is the original's own operations, compiled once more; as between two engines.
SAME_GRAPH: Final = 1e-4
_ANY_SIZE: Final = 224  # of the tensors that a model is tried on, where it takes any

Predict = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class ForeignModel:
    """Somebody else's classifier, opened, and kept as a file that `tasks.inference.load_engine` takes.

    kind: what the file really is. saved: model.keras, or model.pb (a frozen graph) where Keras 3 cannot hold it.
    input_shape: height, width, channels; None where any will do. outputs: how it ends; what is saved always ends with
    one probability a class. scaling_inside: what it does to its input first. origin: `teachable machine`, a module of
    keras.applications, or None. difference: of probabilities to the original's, the largest on random tensors in a
    batch and alone. labels: the file beside it that names its classes.
    """

    path: Path
    kind: str
    saved: Path
    input_shape: tuple[int | None, int | None, int]
    outputs: Outputs
    classes: int
    embedding_layer: str
    findings: tuple[Finding, ...]
    scaling_inside: Scaling | None
    origin: str | None
    difference: float
    labels: Path | None


@dataclass(frozen=True)
class _Original:
    """A model as its own library runs it. model: of Keras or tf_keras; candidates: what could be saved as .keras."""

    predict: Predict
    frozen: FrozenGraph
    shape: tuple[int | None, ...]
    dtype: str
    model: Any = None
    config: Any = None
    candidates: tuple[Callable[[], Any], ...] = ()


def open_foreign(path: Path, work: Path, *, consent: Sequence[str] = ()) -> ForeignModel:
    """Open a classifier that was made elsewhere, and write it into `work` as model.keras or model.pb.

    Nothing in the file runs, unless `consent` names it: `Lambda:<layer>` or `<module>:<class>`; what was consented to
    is kept as a frozen graph, so that no code is sealed.

    Raises: UnsupportedModel with what the file really is, or what of it cannot be adopted, and what to do.
    """
    work.mkdir(parents=True, exist_ok=True)
    for name in ("model.keras", "model.pb"):
        (work / name).unlink(missing_ok=True)
    sniffed = sniff(path, work)
    original = _original(sniffed, consent)
    side = _side(original.shape, path)
    reading = GraphReading(original.frozen, path)
    tensors = trial_tensors((side[0] or _ANY_SIZE, side[1] or _ANY_SIZE, 3), original.dtype)
    behaviour = findings_of_behaviour(original.predict, tensors)
    if any(finding.kind == "answers by chance" for finding in behaviour):
        graphs.refuse_operations(original.frozen.definition, path)
        raise UnsupportedModel("The model does not give the same answer twice.", file=path, found=behaviour[0].sentence)
    head = read_head(reading.last_operation, original.predict(tensors), path)
    saved, embedding, difference = _kept(original, head, reading, tensors, work, path)
    scaling = reading.scaling()
    names = reading.names | {layer.name for layer in all_layers(original.model)}
    return ForeignModel(
        path=path,
        kind=sniffed.sentence,
        saved=saved,
        input_shape=side,
        outputs=head.outputs,
        classes=head.classes,
        embedding_layer=embedding,
        findings=(
            *findings_of_graph(scaling, head, side, reading.types),
            *(findings_of_model(original.model) if original.model is not None else ()),
            *behaviour,
        ),
        scaling_inside=scaling,
        origin=origin_of(names, original.config, sniffed.path),
        difference=difference,
        labels=labels_beside(sniffed.path) or labels_beside(path),
    )


def _original(sniffed: Sniffed, consent: Sequence[str]) -> _Original:
    path = sniffed.path
    if sniffed.kind == "savedmodel":
        served = open_savedmodel(path)
        return _Original(served.predict, served.frozen, served.shape, served.dtype)
    config, version = _config(sniffed)
    code = refuse_without_consent(config, consent, path)
    objects = consented_objects(consent) if code else {}
    model, legacy = None, None
    try:
        model = _load_keras(path, sniffed.kind, objects, trusted=code)
    except UnsupportedModel:
        if sniffed.kind == "keras" or version.startswith("3"):
            raise
    if sniffed.kind == "hdf5" and not version.startswith("3") and (model is None or has_legacy()):
        try:
            legacy = load_legacy(path, objects, trusted=code)
        except UnsupportedModel:
            if model is None:
                raise
    original = model if legacy is None else legacy
    shape, dtype = _input(original, path)
    candidates: list[Callable[[], Any]] = []
    if not code and model is not None:
        candidates.append(lambda: _if_flat(model))
    if not code:
        candidates.append(lambda: flat_model(original))
    return _Original(
        predict=_predictor(original),
        frozen=graphs.freeze_keras(original, shape, dtype, path),
        shape=shape,
        dtype=dtype,
        model=original,
        config=config,
        candidates=tuple(candidates),
    )


def _config(sniffed: Sniffed) -> tuple[Any, str]:
    """The model's configuration, as text that was parsed and nothing more; and the version of Keras that wrote it."""
    try:
        if sniffed.kind == "keras":
            with zipfile.ZipFile(sniffed.path) as archive:
                return json.loads(archive.read("config.json")), "3"
        import h5py

        with h5py.File(sniffed.path, "r") as file:
            return json.loads(text(file.attrs["model_config"])), text(file.attrs.get("keras_version"))
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise UnsupportedModel(
            "The model's own description cannot be read.",
            file=sniffed.path,
            expected="JSON",
            found=str(error)[:200],
            todo="copy or download it again",
        ) from error


def _load_keras(path: Path, kind: str, objects: dict[str, Any], *, trusted: bool) -> Any:
    import_tensorflow()
    import keras

    try:
        with named(path, ".keras" if kind == "keras" else ".h5") as file:
            return keras.saving.load_model(file, custom_objects=objects, compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras raises nearly every type; what a person can do is the same
        raise cannot_load(path, "Keras", str(keras.__version__), error) from error


def _input(model: Any, path: Path) -> tuple[tuple[int | None, ...], str]:
    inputs: Any = getattr(model, "inputs", None) or ()
    outputs: Any = getattr(model, "outputs", None) or ()
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedModel(
            "The model is not one image in, one row of probabilities out.",
            file=path,
            expected="one input and one output",
            found=f"{len(inputs)} inputs and {len(outputs)} outputs"
            if inputs
            else "a model that was never built for an input",
            todo="bring the part that classifies one image, saved as a model of its own",
        )
    dtype = inputs[0].dtype
    return tuple(inputs[0].shape)[1:], str(getattr(dtype, "name", dtype))


def _side(shape: tuple[int | None, ...], path: Path) -> tuple[int | None, int | None, int]:
    if len(shape) != 3 or shape[-1] != 3:
        raise UnsupportedModel(
            "The model does not take RGB images with channels last.",
            file=path,
            expected="an input (height, width, 3)",
            found=f"an input {shape}",
        )
    height, width, _ = shape
    return (height, width, 3)


def _predictor(model: Any) -> Predict:
    tf = import_tensorflow()

    def predict(tensors: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(tf.cast(tf.nest.flatten(model(tf.constant(tensors), training=False))[0], tf.float32).numpy())

    return predict


def _if_flat(model: Any) -> Any:
    """The model itself, where no other model is nested in it: a nested layer cannot be named from outside."""
    if any(hasattr(layer, "layers") for layer in model.layers):
        raise ValueError("nested")
    return model


def _kept(
    original: _Original, head: Head, reading: GraphReading, tensors: NDArray[Any], work: Path, path: Path
) -> tuple[Path, str, float]:
    """The first form that gives the original's answers: the file, its embedding layer, and the largest difference."""
    for file, embedding in _saved(original, head, work):
        try:
            gap = _gap(original, head, file, embedding, tensors)
        except DarkroomError:
            continue
        if gap <= SAME_MODEL:
            return file, embedding, gap
    (work / "model.keras").unlink(missing_ok=True)
    graphs.refuse_operations(original.frozen.definition, path)
    definition = finished_graph(original.frozen, reading.embedding(), head, original.shape, original.dtype)
    file = graphs.write_graph(definition, work / "model.pb")
    gap = _gap(original, head, file, graphs.EMBEDDING, tensors)
    if gap <= SAME_GRAPH:
        return file, graphs.EMBEDDING, gap
    raise UnsupportedModel(
        "The model cannot be kept: outside of its own library it answers otherwise.",
        file=path,
        expected=f"probabilities that differ by at most {SAME_GRAPH:g}",
        found=f"a difference of {gap:.2g}",
        todo="save it again as .keras with Keras 3 where it was made",
    )


def _saved(original: _Original, head: Head, work: Path) -> Iterator[tuple[Path, str]]:
    """Each candidate, saved."""
    for candidate in original.candidates:
        try:
            model, embedding = finished_keras(candidate(), head)
            model.save(work / "model.keras")
        except Exception:  # whatever Keras cannot rebuild or save is kept as a graph
            continue
        yield work / "model.keras", embedding


def _gap(original: _Original, head: Head, file: Path, embedding: str, tensors: NDArray[Any]) -> float:
    """The largest difference of a probability, in a batch and alone, of the saved file to the original."""
    height, width, channels = (int(length) for length in tensors.shape[1:])
    engine = load_engine(file, embedding, input_shape=(height, width, channels))
    floats = tensors.astype(np.float32)
    gaps = [
        np.abs(engine.run(floats[part]).probabilities - head.probabilities(original.predict(tensors[part]))).max()
        for part in (slice(None), *(slice(i, i + 1) for i in range(3)))
    ]
    return float(max(gaps))
