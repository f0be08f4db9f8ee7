"""Which engine computes a bundle's answers: Keras, or another one whose parity is proved on this machine type."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import DarkroomError, Failed, WrongUse
from darkroom.names import from_text
from darkroom.progress import tell
from darkroom.settings import EngineName
from tasks import openvino_engine as openvino
from tasks.bundle import Bundle, replay_goldens
from tasks.compiled_models import keep_engine, kept_engine
from tasks.goldens.replay import OTHER_ENGINE_TOLERANCE
from tasks.inference import Engine, KerasEngine, load_engine
from tasks.machine import may_have_gpu, share
from tasks.parity import EMBEDDING_TOLERANCE, Parity, compare, keep, kept
from tasks.workers import DecodePool, Job, Wanted

_LOG = logging.getLogger(__name__)


def reference_of(bundle: Bundle) -> KerasEngine:
    """The engine that every bundle is sealed with."""
    shape = bundle.preprocessing.input_shape
    return load_engine(bundle.model_path, bundle.manifest.embedding_layer, share(), input_shape=shape)


def engine_for(bundle: Bundle, wanted: EngineName) -> Engine:
    """`keras`; `openvino`, where it is proved; `auto`: the faster one of those that may be used.

    Raises: WrongUse where `openvino` is wanted and not installed, or not proved on this machine type.
    """
    if wanted == "keras" or (wanted == "auto" and not openvino.is_installed()):
        return reference_of(bundle)
    if wanted == "auto" and may_have_gpu() and (reference := reference_of(bundle)).name.endswith("-gpu"):
        return reference
    parity = None
    try:
        parity = kept(bundle, openvino.NAME, openvino.openvino_version())
        if parity is not None and parity.held:
            return kept_engine(bundle) or _compiled(bundle)
    except (DarkroomError, ImportError) as error:
        if wanted == "openvino":
            raise
        _LOG.warning("OpenVINO cannot be used, and Keras is: %s", error)
    if wanted == "auto":
        return reference_of(bundle)
    raise WrongUse(
        "OpenVINO is not proved to answer as Keras does, for this bundle and this type of machine.",
        file=bundle.path,
        found="no proof with the libraries of today" if parity is None else f"a difference of {parity.max_difference}",
        todo=f"darkroom verify {bundle.path} --engine openvino --data PHOTOS, or use the engine keras",
    )


def _compiled(bundle: Bundle) -> Engine:
    engine = openvino.on_openvino(reference_of(bundle))
    keep_engine(bundle, engine)
    return engine


def lacks_engine(bundle: Bundle, engine: EngineName) -> str | None:
    """Why an engine may not compute this bundle's answers here, in a few words; None: it may."""
    if engine != "openvino":
        return None
    if not openvino.is_installed():
        return "OpenVINO is not installed"
    parity = kept(bundle, openvino.NAME, openvino.openvino_version())
    return None if parity is not None and parity.held else "OpenVINO is not proved on this type of machine"


def check_comparison(engine: EngineName, data: Path | None) -> None:
    """Raises: WrongUse for photos that no engine would be compared on."""
    if data is not None and engine != "openvino":
        raise WrongUse(
            "Photos are for the comparison of two engines, and only one is asked for.",
            parameter="data",
            expected="engine openvino beside it",
            found=engine,
        )


def prove_parity(bundle: Bundle, data: Path | None) -> Parity:
    """Compare OpenVINO with Keras, and keep what was found: from now on it may be used, if it held.

    data: the folder that the bundle was trained on; its held-out photos are compared, too, those that are unchanged.

    Raises: WrongUse where there is no OpenVINO, or none of the photos; UnsupportedModel where it cannot compute the
    model; Failed where it answers otherwise; GoldenMismatch where it is too far from what was sealed.
    """
    reference = reference_of(bundle)
    other = openvino.on_openvino(reference)
    parity = compare(bundle, reference, other, _held_out(bundle, data), openvino.openvino_version(), tell)
    if data is not None and not parity.validation.images:
        raise WrongUse(
            "None of the photos that were held out is in this folder, as it was.",
            file=data,
            expected="the folder that the bundle was trained on",
        )
    if not parity.held:
        keep(bundle, parity)
        raise Failed(
            "OpenVINO answers otherwise than Keras: it is not used for this bundle.",
            expected=f"probabilities within {OTHER_ENGINE_TOLERANCE:g}, embeddings within {EMBEDDING_TOLERANCE:g}",
            found=f"a difference of {parity.max_difference:.2g}, and of {parity.embedding_difference:.2g}",
            todo="nothing: nights are scored with the engine keras",
        )
    replay_goldens(bundle, other)  # as every night will: Keras itself may be some way from what was sealed
    keep(bundle, parity)
    return parity


def _held_out(bundle: Bundle, data: Path | None) -> Iterator[NDArray[np.float32]]:
    """Tensors of the validation images, a batch at a time; a file that is gone, or another one now, is left out."""
    if data is None:
        return
    profile = bundle.profile()
    rows = profile[profile["split"] == "validation"]
    places = zip(rows["path"], rows["content_id"], strict=True)
    jobs = [Job(number, data / from_text(path), content_id=content) for number, (path, content) in enumerate(places)]
    with DecodePool(bundle.preprocessing, Wanted(tensor=True, properties=False)) as pool:
        yield from (batch.tensors for batch in pool.batches(jobs) if batch.arrived)
