"""The same network on OpenVINO, in float32: several times as fast as TensorFlow on a processor.

It sums in another order, so it answers a little differently: it is used only where tasks.parity has proved how little.
"""

from __future__ import annotations

import io
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UnsupportedModel, WrongUse
from tasks.inference import KerasEngine, Outputs, Shape, check_outputs, check_tensor
from tasks.machine import cores

NAME = "openvino"
# The activations of so few images stay in a core's cache, which is worth more than a larger batch.
_PIECE: Final = 8


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
        # Weights of its own: shared ones are TensorFlow's memory, and nothing would keep that from being given back
        # with the Keras model. Much of it is read only by the first image of each stream.
        model = openvino.convert_model(reference.graph(), share_weights=False)
        return _engine(openvino.Core().compile_model(model, "CPU", _settings()), reference.input_shape)
    except Exception as error:  # one type for whatever happens in it
        raise UnsupportedModel(
            "OpenVINO cannot compute this model.",
            expected="a model of operations that OpenVINO knows",
            found=(str(error).strip().splitlines() or [""])[-1][:200],
            todo="score with the engine keras",
        ) from error


def from_compiled(data: bytes, input_shape: Shape) -> OpenVinoEngine:
    """The engine of which `compiled` gave these bytes, on this machine with this OpenVINO. TensorFlow is not needed."""
    return _engine(_openvino().Core().import_model(data, "CPU", _settings()), input_shape)


def _settings() -> dict[str, Any]:
    # Float32, where a processor could do with less. A thread a piece, and a piece a core: threads that share a piece
    # wait for each other, and for long where decoding has taken the core of one of them.
    return {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(cores()), "INFERENCE_NUM_THREADS": cores()}


def _engine(model: Any, input_shape: Shape) -> OpenVinoEngine:
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(cores()):
        idle.put(model.create_infer_request())
    return OpenVinoEngine(input_shape, model, idle)


@dataclass(frozen=True)
class OpenVinoEngine:
    """Batches as Keras computes them, in pieces, as many at a time as there are cores."""

    input_shape: Shape
    _model: Any = field(repr=False, compare=False)
    _idle: SimpleQueue[Any] = field(repr=False, compare=False)
    name: str = NAME

    def compiled(self) -> bytes:
        """The network with its weights, for `from_compiled`."""
        stream = io.BytesIO()
        self._model.export_model(stream)
        return stream.getvalue()

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        """Outputs of tensors (n, height, width, 3), float32, n ≥ 1."""
        check_tensor(tensors, self.input_shape)
        tensors = np.ascontiguousarray(tensors)  # and computed where they are
        at_work: deque[Any] = deque()
        parts: list[list[NDArray[np.float32]]] = []
        try:
            for start in range(0, len(tensors), _PIECE):
                request = self._next(at_work, parts)
                at_work.append(request)
                request.start_async([tensors[start : start + _PIECE]], share_inputs=True)
            while at_work:
                self._idle.put(_answered(at_work, parts))
        finally:
            for request in at_work:  # of a run that failed: it reads its tensors until it has ended
                with suppress(Exception):
                    request.wait()
                self._idle.put(request)
        probabilities, embedding = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        check_outputs(probabilities, embedding)
        return Outputs(probabilities=probabilities, embedding=embedding)

    def _next(self, at_work: deque[Any], parts: list[list[NDArray[np.float32]]]) -> Any:
        """An idle request, or our own oldest one; only who has none waits for those of others."""
        try:
            return self._idle.get(block=not at_work)
        except Empty:
            return _answered(at_work, parts)


def _answered(at_work: deque[Any], parts: list[list[NDArray[np.float32]]]) -> Any:
    """The oldest request, once its answers are among the parts."""
    request = at_work[0]
    request.wait()
    parts.append([np.array(request.get_output_tensor(number).data, dtype=np.float32) for number in range(2)])
    return at_work.popleft()


def _openvino() -> Any:
    if not is_installed():
        raise WrongUse("OpenVINO is not installed.", todo="pip install 'darkroom[openvino]'; or use the engine keras")
    # Without this module its converter has nothing with which to tell Intel's servers of each conversion.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
