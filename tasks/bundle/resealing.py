"""Knows how a bundle becomes its own next version after an upgrade: everything as it was, the goldens recorded anew."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

from darkroom.errors import GateClosed, TrainingFailed, WrongUse
from tasks.bundle import manifest as words
from tasks.bundle.opening import Bundle
from tasks.bundle.sealing import SealedContents, seal_bundle
from tasks.goldens.changes import GoldenChange
from tasks.goldens.record import Golden

# What a bundle learned (what is normal, its calibration, its drift reference) was learned from the old preparation. It
# fits on as long as confidences move by less than a reader would notice: one point.
FARTHEST: Final = 0.01


def reseal_bundle(
    bundle: Bundle, changes: tuple[GoldenChange, ...], *, reason: str, by: str | None = None, promote: bool = False
) -> Bundle:
    """Seal the next version: same model, preprocessing and everything learned; goldens as this machine sees them.

    `changes` are what a person has seen and agreed to; they are kept in the new version's metrics.

    Raises: WrongUse where nothing has moved, or there is no reason; GateClosed where goldens moved so far that what was
    learned no longer fits.
    """
    needs_a_reason(reason)
    if not any(change.moved for change in changes):
        raise WrongUse("There is nothing to seal again: every golden image is as it was sealed.", file=bundle.path)
    _check_near(bundle, changes)
    kept = {words.MANIFEST, words.MODEL, words.GRAPH, words.PREPROCESSING, words.PROFILE, words.EMBEDDINGS}
    files = {
        name: bundle.read_bytes(name)
        for name in bundle.manifest.digests
        if name not in kept and not name.startswith(f"{words.GOLDENS}/")
    }
    moved = [change for change in changes if change.moved]
    contents = SealedContents(
        model_path=bundle.model_path,
        preprocessing=bundle.preprocessing,
        classes=bundle.classes,
        embedding_layer=bundle.manifest.embedding_layer,
        profile=bundle.profile(),
        embeddings=bundle.embeddings(),
        goldens=[Golden(golden.name, golden.image, golden.why) for golden in bundle.goldens()],
        metrics={
            **bundle.manifest.metrics,
            "resealed": [
                *bundle.manifest.metrics.get("resealed", []),
                {"from": bundle.id, "reason": reason, "moved": [asdict(change) for change in moved]},
            ],
        },
        files=files,
    )
    models, name = bundle.path.parents[1], bundle.manifest.name
    told = f"resealed from {bundle.id}: {reason}"
    try:
        # Against the profile, too, which is that of the training: many small moves may not add up to a large one.
        return seal_bundle(models, name, contents, promote=promote, reason=told, by=by, reloaded=FARTHEST)
    except TrainingFailed as error:
        raise _too_far(bundle.path / words.GOLDENS / str(error.file), str(error.found)) from error


def needs_a_reason(reason: str) -> None:
    """Raises: WrongUse."""
    if not reason.strip():
        raise WrongUse(
            "A bundle is sealed again with a reason.", parameter="reason", expected="a reason in words", found=reason
        )


def _check_near(bundle: Bundle, changes: tuple[GoldenChange, ...]) -> None:
    worst = max(changes, key=lambda change: change.probability)
    if worst.probability <= FARTHEST and not any(change.refused for change in changes):
        return
    refused = next((change for change in changes if change.refused), None)
    found = refused.refused if refused else f"a difference of {worst.probability:.2g}"
    raise _too_far(bundle.path / words.GOLDENS / (refused or worst).name, found)


def _too_far(file: Path, found: str) -> GateClosed:
    return GateClosed(
        "The golden images have moved too far: what this bundle learned of its images no longer fits.",
        file=file,
        expected=f"every probability within {FARTHEST:g} of that at the training",
        found=found,
        todo="go back to the libraries that it was sealed with, or train (or adopt) again",
    )
