"""Knows how tensors become probabilities and embeddings: one forward pass, in inference mode, on an engine."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import Failed, UnsupportedModel, WrongUse
from tasks import graphs
from tasks.keras_archive import check_archive
from tasks.machine import import_tensorflow

# Activations of a few dozen images fit in memory whatever the model; a larger batch is not faster on a CPU.
BATCH = 32
# A softmax in float32 sums to 1 within about 1e-6; mixed precision within about 5e-4. Logits are nowhere near.
SUM_TOLERANCE = 1e-3

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Outputs:
    """What a model says of n images, in one forward pass.

    probabilities: (n, k) float32, rows sum to 1, columns in the bundle's class order.
    embedding: (n, e) float32, the output of the embedding layer.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


class Engine(Protocol):
    """Something that computes a model's outputs. Safe to share between threads."""

    @property
    def name(self) -> str:
        """Which implementation computes: goldens have a tighter tolerance on the engine that recorded them."""

    @property
    def input_shape(self) -> Shape:
        """(height, width, 3) of one tensor."""

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        """Outputs of tensors (n, height, width, 3), float32, n ≥ 1.

        Raises: WrongUse for another shape or type; UnsupportedModel, Failed for outputs that are no probabilities.
        """


def load_engine(
    model_path: Path, embedding_layer: str, threads: int | None = None, *, input_shape: Shape | None = None
) -> KerasEngine:
    """Load a saved `.keras` model, or a frozen graph `.pb`, for inference: nothing in it may run code.

    `embedding_layer` names a layer (of a graph: an operation) whose output, one row an image, is the embedding.
    `threads` are TensorFlow's, only heard before it has computed anything in this process. `input_shape` is the
    (height, width, 3) that the preprocessing makes; required where the model takes any size, otherwise the two must
    agree.

    Raises: UnsupportedModel with what is wrong with the model, and what to do.
    """
    tf = import_tensorflow()
    if threads is not None:
        _set_threads(tf, threads)
    if model_path.suffix == graphs.SUFFIX:
        definition = graphs.read_graph(model_path)
        shape = _input_shape(graphs.input_side(definition), input_shape, model_path)
        name = "graph-gpu" if tf.config.list_physical_devices("GPU") else "graph"
        return GraphEngine(name, shape, graphs.forward_of(definition, embedding_layer, shape, model_path))
    model = _load(model_path)
    both = _with_embedding(model, embedding_layer, model_path)
    shape = _input_shape(tuple(model.inputs[0].shape)[1:], input_shape, model_path)
    name = "keras-gpu" if tf.config.list_physical_devices("GPU") else "keras"
    return KerasEngine(name=name, input_shape=shape, _forward=_compiled(tf, both, shape), model=both)


@dataclass(frozen=True)
class KerasEngine:
    """Keras on TensorFlow: one graph for every n, so nothing is traced twice; batches, so memory does not grow.

    model: what is computed, [probabilities, embedding]; to be copied for variants, never changed.
    """

    name: str
    input_shape: Shape
    _forward: Any  # a tf.function
    model: Any = field(default=None, repr=False, compare=False)

    def graph(self) -> Any:
        """What is computed, as TensorFlow's concrete function: (n, height, width, 3) → probabilities, embedding."""
        return self._forward.get_concrete_function()

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        """Outputs of tensors (n, height, width, 3), float32, n ≥ 1."""
        import tensorflow as tf

        check_tensor(tensors, self.input_shape)
        parts = []
        for start in range(0, len(tensors), BATCH):
            # np.ascontiguousarray: TensorFlow copies anyway; a strided view it would copy element by element.
            batch = tf.constant(np.ascontiguousarray(tensors[start : start + BATCH]))
            parts.append([np.asarray(output.numpy(), dtype=np.float32) for output in self._forward(batch)])
        probabilities, embedding = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        check_outputs(probabilities, embedding)
        return Outputs(probabilities=probabilities, embedding=embedding)


class GraphEngine(KerasEngine):
    """A frozen graph on TensorFlow, which knows nothing of Keras: batches and one graph for every n, as above."""


def check_tensor(tensors: NDArray[Any], input_shape: Shape) -> None:
    """Refuse what did not come from the pinned preparation.

    Raises: WrongUse that says what the model was trained on, what came, and why that cannot be scored.
    """
    height, width, channels = input_shape
    if tensors.ndim != 4 or tensors.shape[3] != channels:
        raise WrongUse(
            "These are not the tensors of a batch of images.",
            expected=f"an array (images, {height}, {width}, {channels})",
            found=f"an array {tensors.shape}",
            todo="one image is tensor[np.newaxis]; channels come last",
        )
    if tensors.shape[1:3] != (height, width):
        got = f"{tensors.shape[1]}×{tensors.shape[2]}"
        raise WrongUse(
            f"The model was trained on images of {height}×{width} pixels, and these have {got}. "
            "A model with global pooling would answer all the same, about objects of a size that it never saw, and say "
            "nothing; one with Flatten would fail. darkroom's preparation makes one size only, so these tensors were "
            "prepared elsewhere.",
            expected=f"tensors of {height}×{width}×{channels}",
            found=f"tensors of {got}×{channels}",
            todo="give darkroom the image files: it prepares them as in training. To use another size, train with it",
        )
    if tensors.dtype != np.float32:
        raise WrongUse(
            "The tensors have another number type than the preparation makes.",
            expected="float32",
            found=tensors.dtype,
            todo="give darkroom the image files: it prepares them as in training",
        )
    if len(tensors) == 0:
        raise WrongUse("There is no image in this batch.", expected="at least one", found="none")


def check_outputs(probabilities: NDArray[np.float32], embedding: NDArray[np.float32]) -> None:
    """Refuse outputs that are no probabilities of exclusive classes.

    Raises: UnsupportedModel where the model is of another kind; Failed where numbers are not finite.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise UnsupportedModel(
            "The model is not a classifier with one probability a class.",
            expected="an output (images, classes) with at least two classes",
            found=f"an output {('images', *probabilities.shape[1:])}".replace("'", ""),
            todo="end the model with Dense(number of classes, activation='softmax'); detection, segmentation and "
            "single-sigmoid models cannot be scored",
        )
    if embedding.ndim != 2:
        raise UnsupportedModel(
            "The embedding layer does not give one row of numbers an image.",
            expected="an output (images, numbers)",
            found=f"an output with {embedding.ndim} axes",
            todo="name a layer after the pooling, such as the last Dense before the softmax",
        )
    finite = np.isfinite(np.hstack([probabilities, embedding])).all(axis=1)
    if not finite.all():
        raise Failed(
            "The model answered with numbers that are not finite.",
            expected="finite probabilities and embeddings",
            found=f"{int((~finite).sum())} of {len(probabilities)} images with NaN or infinity",
            todo="look at the model's weights: a training that diverged leaves NaN in them",
        )
    sums = probabilities.sum(axis=1, dtype=np.float64)
    worst = int(np.abs(sums - 1.0).argmax())
    if abs(sums[worst] - 1.0) > SUM_TOLERANCE or probabilities.min() < 0:
        raise UnsupportedModel(
            "The model's outputs are not probabilities of exclusive classes: these look like logits, or like one "
            "sigmoid a class.",
            expected=f"no negative number, and rows that sum to 1 within {SUM_TOLERANCE:g}",
            found=f"a row that sums to {sums[worst]:.4g}, smallest number {probabilities.min():.4g}",
            todo="end the model with a softmax; multi-label models cannot be scored",
        )


def _set_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return  # TensorFlow has computed already and keeps its threads; the answers are the same


def _load(path: Path) -> Any:
    import keras

    if not zipfile.is_zipfile(path):
        raise UnsupportedModel(
            "This is not a model in the .keras format.",
            file=path,
            expected="a .keras file: a zip archive with config.json, metadata.json and weights",
            found=_what_it_is(path),
            todo="load it where it was made, and save it with model.save('model.keras') by Keras 3",
        )
    check_archive(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly every type; what a person can do is the same
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UnsupportedModel(
            "Keras cannot load the model.",
            file=path,
            expected=f"a model of layers that Keras {keras.__version__} knows",
            found=lines[0][:200],
            todo="rebuild it from layers of Keras 3, without custom classes, and save it as .keras",
        ) from error


def _what_it_is(path: Path) -> str:
    if not path.exists():
        return "no such file"
    if path.is_dir():
        return "a folder (a SavedModel?)"
    with path.open("rb") as file:
        first = file.read(64)
    if first.startswith(b"\x89HDF"):
        return "a legacy HDF5 file (.h5)"
    if first.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the model itself was never downloaded (git lfs pull)"
    return f"a file of {path.stat().st_size} bytes that begins with {first[:8]!r}"


def _with_embedding(model: Any, embedding_layer: str, path: Path) -> Any:
    import keras

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModel(
            "The model is not one image in, one row of probabilities out.",
            file=path,
            expected="one input and one output",
            found=f"{len(model.inputs)} inputs and {len(model.outputs)} outputs",
        )
    try:
        output = model.get_layer(embedding_layer).output
    except (ValueError, AttributeError) as error:
        names = [layer.name for layer in model.layers if len(getattr(layer, "output", model.inputs[0]).shape) == 2]
        raise UnsupportedModel(
            "The model has no such embedding layer.",
            file=path,
            expected=f"a layer named {embedding_layer!r}",
            found=f"layers with one row of numbers an image: {', '.join(names) or 'none'}",
        ) from error
    return keras.Model(model.inputs[0], [model.outputs[0], output])


def _input_shape(has: tuple[int | None, ...], wanted: Shape | None, path: Path) -> Shape:
    """The pinned size; a model that takes any size gets it from the preprocessing, and then takes no other."""
    if len(has) != 3 or has[2] != 3:
        raise UnsupportedModel(
            "The model does not take RGB images with channels last.",
            file=path,
            expected="an input (height, width, 3)",
            found=f"an input {has}",
        )
    if wanted is None and None in has:
        raise UnsupportedModel(
            "The model takes images of any size, so nothing pins the one that it was trained on.",
            file=path,
            expected="a fixed (height, width, 3), or the input shape of its preprocessing",
            found=f"an input {has}",
        )
    shape = wanted or has
    if any(h not in (None, w) for h, w in zip(has, shape, strict=True)):
        raise UnsupportedModel(
            "The model and its preprocessing do not agree on the size of an image.",
            file=path,
            expected=f"an input {has}, says the model",
            found=f"an input {shape}, says the preprocessing",
            todo="use the preprocessing that this model was trained with",
        )
    height, width, channels = (int(side or 0) for side in shape)
    return (height, width, channels)


def _compiled(tf: Any, model: Any, shape: Shape) -> Callable[[Any], Any]:
    # The signature leaves only n open: one image, a batch and the last, shorter batch are one graph.
    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32)])  # type: ignore[untyped-decorator]
    def forward(tensors: Any) -> Any:
        # training=False: no dropout, no augmentation, BatchNorm on its own statistics (keras#4290, tensorflow#44614).
        return model(tensors, training=False)

    forward.get_concrete_function()
    return forward  # type: ignore[no-any-return]
