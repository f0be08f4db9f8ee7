"""Whether a second engine answers as Keras does: compared once a bundle and machine type, and kept beside the bundles.

models/.proofs/<bundle>/<machine type>.json
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import WrongUse
from darkroom.progress import Progress
from darkroom.results import now
from darkroom.storage import Storage, storage_at
from tasks.bundle import Bundle
from tasks.goldens.replay import OTHER_ENGINE_TOLERANCE
from tasks.inference import Engine, Outputs
from tasks.machine import libraries, machine_type
from tasks.preprocessing import prepare
from tasks.training.ladder import climb

# Neighbours and components are found in embeddings: an order of magnitude above what float32 sums in another order.
EMBEDDING_TOLERANCE: Final = 1e-3
_FOLDER: Final = ".proofs"
# How the other engine is asked (threads, images a piece): a proof holds for the way that it was made with.
SETTINGS_REVISION: Final = "streams of one thread, weights of its own"
_COMPUTE: Final = ("tensorflow", "keras", "numpy")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Compared(_Frozen):
    """Two engines over the same images.

    max_difference: of any probability; top1_changed: images with another class; embedding_difference: of any component,
    as a share of the largest one of its batch.
    """

    images: int = 0
    max_difference: float = 0.0
    top1_changed: int = 0
    embedding_difference: float = 0.0

    def with_pairs(self, pairs: NDArray[np.float32], classes: int) -> Compared:
        """And these: (n, 2, k + e), the k = `classes` probabilities and behind them the embedding."""
        if not len(pairs):
            return self
        gaps = np.abs(pairs[:, 0] - pairs[:, 1])
        said, embeddings = pairs[..., :classes].argmax(axis=2), np.abs(pairs[:, 0, classes:])
        largest = max(float(embeddings.max(initial=0.0)), float(np.finfo(np.float32).tiny))
        apart = float(gaps[:, classes:].max(initial=0.0)) / largest
        return Compared(
            images=self.images + len(pairs),
            max_difference=float(np.maximum(self.max_difference, gaps[:, :classes].max())),  # NaN stays NaN
            top1_changed=self.top1_changed + int((said[:, 0] != said[:, 1]).sum()),
            embedding_difference=float(np.maximum(self.embedding_difference, apart)),
        )


class Parity(_Frozen):
    """What was compared, with which libraries, and how far apart the two were."""

    bundle: str
    machine: str
    engine: str
    libraries: dict[str, str]
    goldens: Compared
    worse: Compared  # the goldens through the corruption ladder: pixels that no photo of training has
    validation: Compared  # held-out photos, where they were at hand
    at: datetime

    @property
    def max_difference(self) -> float:
        """Of any probability of any image."""
        return float(np.max([one.max_difference for one in (self.goldens, self.worse, self.validation)]))

    @property
    def embedding_difference(self) -> float:
        """Of any component of any image, as a share."""
        return float(np.max([one.embedding_difference for one in (self.goldens, self.worse, self.validation)]))

    @property
    def held(self) -> bool:
        """Within the tolerance of another engine: top-1 can change only where the margin is under twice as much."""
        return self.max_difference <= OTHER_ENGINE_TOLERANCE and self.embedding_difference <= EMBEDDING_TOLERANCE

    def as_text(self) -> str:
        """For a person."""
        seen = f"{self.goldens.images:,} golden images, {self.worse.images:,} of them made worse, "
        seen += f"{self.validation.images:,} validation images" if self.validation.images else "no validation images"
        changed = sum(one.top1_changed for one in (self.goldens, self.worse, self.validation))
        return (
            f"{self.engine} answers as keras on {self.machine}: {seen}; probabilities differ by at most "
            f"{self.max_difference:.1e}, {changed:,} top-1 changed."
        )


def compare(
    bundle: Bundle,
    reference: Engine,
    other: Engine,
    held_out: Iterable[NDArray[np.float32]],
    version: str,
    progress: Progress,
) -> Parity:
    """Both engines over the goldens, over goldens made worse in every kind and strength, and over held-out tensors.

    held_out: batches of tensors (n, h, w, 3) as `prepare` makes them. version: of the other engine's library.
    """

    def both(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([_side_by_side(engine.run(tensors)) for engine in (reference, other)], axis=1)

    prepared = [prepare(golden.image, bundle.preprocessing) for golden in bundle.goldens()]
    resized = np.stack([one.resized for one in prepared])
    climbed = climb(both, resized, range(len(resized)), bundle.preprocessing, 0, progress)
    validation, k = Compared(), len(bundle.classes)
    for tensors in held_out:
        validation = validation.with_pairs(both(tensors), k)
    return Parity(
        bundle=bundle.id,
        machine=machine_type(),
        engine=other.name,
        libraries=libraries_of(other.name, version),
        goldens=Compared().with_pairs(both(np.stack([one.tensor for one in prepared])), k),
        worse=Compared().with_pairs(climbed.reshape(-1, *climbed.shape[-2:]), k),
        validation=validation,
        at=now(),
    )


def keep(bundle: Bundle, parity: Parity) -> None:
    """Write it beside the bundles, in place of an earlier one of this machine type. Raises: WrongUse, StorageError."""
    proofs = _proofs(bundle)
    if proofs is None:
        raise WrongUse(
            "A proof is kept beside the bundles, and this one is not among any.",
            file=bundle.path,
            expected=f"a folder models/{bundle.manifest.name}/{bundle.manifest.version}",
            todo="put it into such a folder; or use the engine keras",
        )
    proofs.write(_key(bundle), parity.model_dump_json(indent=1).encode())


def kept(bundle: Bundle, engine: str, version: str) -> Parity | None:
    """What was found on this machine type with these very libraries; None: nothing."""
    proofs = _proofs(bundle)
    data = None if proofs is None else proofs.peek(_key(bundle))
    try:
        parity = None if data is None else Parity.model_validate_json(data)
    except ValidationError:
        return None
    same = parity is not None and (parity.bundle, parity.machine, parity.engine, parity.libraries) == (
        bundle.id, machine_type(), engine, libraries_of(engine, version),
    )  # fmt: skip
    return parity if same else None


def libraries_of(engine: str, version: str) -> dict[str, str]:
    """What the answers of an engine depend on: with any other version nothing is proved."""
    return {engine: f"{version}, {SETTINGS_REVISION}", **{name: libraries()[name] for name in _COMPUTE}}


def _side_by_side(outputs: Outputs) -> NDArray[np.float32]:
    return np.concatenate([outputs.probabilities, outputs.embedding], axis=1)


def _proofs(bundle: Bundle) -> Storage | None:
    """None: the bundle stands alone, as it may in a container."""
    version = bundle.path.resolve()
    wanted = (bundle.manifest.name, str(bundle.manifest.version))
    return storage_at(version.parents[1] / _FOLDER) if version.parts[-2:] == wanted else None


def _key(bundle: Bundle) -> str:
    return f"{bundle.id}/{machine_type()}.json"
