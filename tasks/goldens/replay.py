"""Knows how to prove a bundle's preparation and model: every golden again, from bytes to probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import GoldenMismatch
from tasks.goldens.record import Fingerprint, SealedGolden
from tasks.machine import libraries, machine_type
from tasks.preprocessing import ImageRefused, Preprocessing, prepare

if TYPE_CHECKING:
    from tasks.bundle import Bundle, BundleManifest
    from tasks.inference import Engine

# Pixels and tensors are equal to the bit, or they are not the sealed ones. Probabilities may differ a little, because
# the order of a sum depends on the batch and the processor's instructions: measured on 527 photos, 2e-6 on one machine.
SAME_ENGINE_TOLERANCE = 1e-5
# With no probability further off than this, top-1 can only change where the margin is under twice as much.
OTHER_ENGINE_TOLERANCE = 1e-4

Stage = Literal["pixels", "tensor", "probabilities"]
_CAUSE: Mapping[Stage, str] = {
    "pixels": "the decoder gives other pixels than in training",
    "tensor": "the pixels are decoded as sealed, and then resized or scaled in another way than in training",
    "probabilities": "the tensors are as sealed, and the model answers differently than when it was sealed",
}
_SUSPECTS: Mapping[Stage, tuple[str, ...]] = {
    "pixels": ("darkroom", "pillow", "libjpeg-turbo", "webp", "tensorflow", "numpy"),
    "tensor": ("darkroom", "pillow", "numpy", "tensorflow", "keras"),
    "probabilities": ("tensorflow", "keras", "numpy"),
}
_INSTALLABLE = frozenset({"pillow", "numpy", "tensorflow", "keras"})


@dataclass(frozen=True)
class GoldenReplay:
    """A replay that held: pixels and tensors of n goldens bit-equal, probabilities within the tolerance."""

    n: int
    max_pixel_difference: float  # always 0: anything else is a GoldenMismatch
    max_tensor_difference: float  # always 0
    max_probability_difference: float
    tolerance: float  # what max_probability_difference was held against
    engine: str
    seconds: float
    goldens: Sequence[GoldenNow] = field(repr=False, compare=False)


@dataclass(frozen=True)
class GoldenNow:
    """A golden today: fingerprints and tensor; or why its image is refused."""

    pixels: Fingerprint | None = None
    tensor: Fingerprint | None = None
    values: NDArray[np.float32] | None = None
    refused: str = ""


@dataclass(frozen=True)
class _Difference:
    """The stage at which goldens differ, how many do, and one of them."""

    stage: Stage
    n: int
    of: int
    name: str
    expected: str
    found: str


def replay_goldens(bundle: Bundle, engine: Engine) -> GoldenReplay:
    """Prepare and predict every golden again, and compare with what was sealed.

    Raises: GoldenMismatch that names the first stage (pixels, tensor, probabilities) at which any golden differs, how
    many do, a file, by how much, the libraries then and now, and what to do.
    """
    started = time.perf_counter()
    goldens = bundle.goldens()
    now = prepare_goldens(goldens, bundle.preprocessing)
    difference = _between_prints("pixels", goldens, now) or _between_prints("tensor", goldens, now)
    if difference is not None:
        raise _mismatch(bundle, difference)
    outputs = engine.run(np.stack([one.values for one in now if one.values is not None]))
    tolerance = tolerance_of(bundle.manifest, engine)
    gaps = _gaps(goldens, outputs.probabilities)
    if not gaps.max() <= tolerance:
        raise _mismatch(bundle, _between_probabilities(bundle, goldens, outputs.probabilities, gaps, tolerance))
    return GoldenReplay(
        n=len(goldens),
        max_pixel_difference=0.0,
        max_tensor_difference=0.0,
        max_probability_difference=float(gaps.max()),
        tolerance=tolerance,
        engine=engine.name,
        seconds=time.perf_counter() - started,
        goldens=now,
    )


def prepare_goldens(goldens: Sequence[SealedGolden], preprocessing: Preprocessing) -> list[GoldenNow]:
    """Every golden as this machine prepares it."""
    with ThreadPoolExecutor(4) as pool:  # decoders let go of the interpreter's lock
        return list(pool.map(lambda golden: _prepared(golden, preprocessing), goldens))


def _prepared(golden: SealedGolden, preprocessing: Preprocessing) -> GoldenNow:
    try:
        prepared = prepare(golden.image, preprocessing)
    except ImageRefused as refusal:
        return GoldenNow(refused=f"no pixels at all: {refusal.reason.sentence} ({refusal.detail})")
    return GoldenNow(Fingerprint.of(prepared.pixels), Fingerprint.of(prepared.tensor), prepared.tensor)


def _between_prints(
    stage: Literal["pixels", "tensor"], goldens: Sequence[SealedGolden], now: Sequence[GoldenNow]
) -> _Difference | None:
    """Fingerprints are compared by digest: equal to the bit, or different."""
    sealed = [golden.pixels if stage == "pixels" else golden.tensor for golden in goldens]
    found = [one.pixels if stage == "pixels" else one.tensor for one in now]
    differing = [i for i, (a, b) in enumerate(zip(sealed, found, strict=True)) if b is None or a.sha256 != b.sha256]
    if not differing:
        return None
    first = differing[0]
    then, today = sealed[first], found[first]
    return _Difference(
        stage=stage,
        n=len(differing),
        of=len(goldens),
        name=goldens[first].name,
        expected=f"the sealed {stage}, to the bit: {then.size}, sha256 {then.sha256[:16]}…",
        found=now[first].refused if today is None else f"{then.difference(today)}; sha256 {today.sha256[:16]}…",
    )


def tolerance_of(manifest: BundleManifest, engine: Engine) -> float:
    """By how much a probability may differ from the sealed one, on this engine and machine."""
    same = engine.name == manifest.engine and machine_type() == manifest.machine
    return SAME_ENGINE_TOLERANCE if same else OTHER_ENGINE_TOLERANCE


def _gaps(goldens: Sequence[SealedGolden], outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The largest difference of a probability of each golden; infinite where the model has other classes."""
    sealed = np.stack([golden.probabilities for golden in goldens]).astype(np.float64)
    if outputs.shape != sealed.shape:
        return np.full(len(goldens), np.inf)
    gaps: NDArray[np.float64] = np.abs(outputs - sealed).max(axis=1)
    return gaps


def _between_probabilities(
    bundle: Bundle,
    goldens: Sequence[SealedGolden],
    outputs: NDArray[np.float32],
    gaps: NDArray[np.float64],
    tolerance: float,
) -> _Difference:
    worst = int(gaps.argmax())
    sealed, found = goldens[worst].probabilities, outputs[worst]
    if sealed.shape != found.shape:
        expected, seen = f"{len(sealed)} probabilities", f"{len(found)}"
    else:
        which = int(np.abs(found - sealed).argmax())
        word = bundle.classes[which]
        expected = f"P({word}) = {sealed[which]:.6f}, within {tolerance:g}"
        seen = f"P({word}) = {found[which]:.6f}: {gaps[worst]:.2g} away"
    return _Difference(
        "probabilities", int((~(gaps <= tolerance)).sum()), len(goldens), goldens[worst].name, expected, seen
    )


def _mismatch(bundle: Bundle, difference: _Difference) -> GoldenMismatch:
    stage = difference.stage
    return GoldenMismatch(
        f"{difference.n} of {difference.of} golden images differ at the stage '{stage}': {_CAUSE[stage]}. "
        "Nothing was scored.",
        file=bundle.path / "goldens" / difference.name,
        expected=difference.expected,
        found=difference.found,
        todo=_advice(stage, bundle.manifest),
    )


def _advice(stage: Stage, manifest: BundleManifest) -> str:
    then, now = manifest.libraries, libraries()
    changed = [name for name in then if then[name] != now.get(name)]
    suspects = [name for name in _SUSPECTS[stage] if name in changed] or changed
    if suspects:
        moves = ", ".join(f"{name} {then[name]} → {now.get(name, 'none')}" for name in suspects)
        pins = " ".join(f"{name}=={then[name]}" for name in suspects if name in _INSTALLABLE)
        command = f" (pip install {pins})" if pins else ""
        advice = (
            f"since the seal: {moves}; go back to what it was sealed with{command}, or see with `darkroom reseal` how "
            "far they moved, and seal the next version"
        )
    else:
        same = ", ".join(f"{name} {then[name]}" for name in _SUSPECTS[stage] if name in then)
        advice = f"the libraries have the versions of the seal ({same}): look for another build of one, or changed code"
    machine = machine_type()
    if machine != manifest.machine:
        advice += f"; the machine changed, too: {manifest.machine} → {machine}"
    return advice
