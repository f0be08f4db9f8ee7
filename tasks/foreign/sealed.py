"""Knows what can be said of a model that is sealed already: the static findings of model.keras or model.pb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import graphs
from tasks.foreign.graph_reading import GraphReading
from tasks.foreign.outputs import read_head
from tasks.foreign.reading import (
    Finding,
    findings_of_behaviour,
    findings_of_graph,
    findings_of_model,
    trial_tensors,
)
from tasks.inference import load_engine


def findings_of_sealed(path: Path, embedding_layer: str, input_shape: tuple[int, int, int]) -> tuple[Finding, ...]:
    """Findings of a bundle's model; its other arguments as for `load_engine`.

    Raises: UnsupportedModel where it is none that could be sealed.
    """
    engine = load_engine(path, embedding_layer, input_shape=input_shape)
    model = None
    if path.suffix == graphs.SUFFIX:
        definition = graphs.read_graph(path)
        side = graphs.input_side(definition)
        frozen = graphs.FrozenGraph(definition, graphs.IMAGE, f"{graphs.PROBABILITIES}:0")
    else:
        import keras

        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        side = tuple(model.inputs[0].shape)[1:]
        frozen = graphs.freeze_keras(model, side, str(model.inputs[0].dtype), path)

    def predict(tensors: NDArray[Any]) -> NDArray[np.float32]:
        return engine.run(tensors).probabilities

    tensors = trial_tensors(input_shape, "float32")
    reading = GraphReading(frozen, path)
    head = read_head(reading.last_operation, predict(tensors), path)
    return (
        *findings_of_graph(reading.scaling(), head, side, reading.types),
        *(findings_of_model(model) if model is not None else ()),
        *findings_of_behaviour(predict, tensors),
    )
