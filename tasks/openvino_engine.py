"""The same network on OpenVINO, in float32: several times as fast as TensorFlow on a processor.

It sums in another order, so it answers a little differently: it is used only where tasks.parity has proved how little.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UnsupportedModel, WrongUse
from tasks.inference import BATCH, KerasEngine, Outputs, Shape, check_outputs, check_tensor
from tasks.machine import share

NAME = "openvino"
# Each image as soon as it can be, with every core; and float32, where a processor could do with less.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


def is_installed() -> bool:
    """Whether the extra `openvino` is there."""
    return find_spec("openvino") is not None


def openvino_version() -> str:
    """Of the library, without its build."""
    return str(_openvino().__version__).partition("-")[0]


def on_openvino(reference: KerasEngine) -> OpenVinoEngine:
    """The model of `reference`, computed by OpenVINO.

    Raises: WrongUse where it is not installed; UnsupportedModel where it does not know an operation of the model.
    """
    openvino = _openvino()
    try:
        model = openvino.convert_model(reference.graph())
        compiled = openvino.Core().compile_model(model, "CPU", _settings())
    except Exception as error:  # one type for whatever happens in it
        raise UnsupportedModel(
            "OpenVINO cannot compute this model.",
            expected="a model of operations that OpenVINO knows",
            found=(str(error).strip().splitlines() or [""])[-1][:200],
            todo="score with the engine keras",
        ) from error
    return OpenVinoEngine(reference.input_shape, compiled.create_infer_request())


def _settings() -> dict[str, Any]:
    given = share()
    return _SETTINGS if given is None else {**_SETTINGS, "INFERENCE_NUM_THREADS": given}


@dataclass(frozen=True)
class OpenVinoEngine:
    """Batches as Keras computes them; one at a time, because each uses all cores."""

    input_shape: Shape
    _request: Any = field(repr=False, compare=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    name: str = NAME

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        """Outputs of tensors (n, height, width, 3), float32, n ≥ 1."""
        check_tensor(tensors, self.input_shape)
        parts = []
        for start in range(0, len(tensors), BATCH):
            with self._turn:
                answers = self._request.infer([np.ascontiguousarray(tensors[start : start + BATCH])])
                parts.append([np.array(answers[number], dtype=np.float32) for number in range(2)])
        probabilities, embedding = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        check_outputs(probabilities, embedding)
        return Outputs(probabilities=probabilities, embedding=embedding)


def _openvino() -> Any:
    if not is_installed():
        raise WrongUse("OpenVINO is not installed.", todo="pip install 'darkroom[openvino]'; or use the engine keras")
    # Without this module its converter has nothing with which to tell Intel's servers of each conversion.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
