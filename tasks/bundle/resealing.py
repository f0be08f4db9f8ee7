"""Knows how a bundle becomes its own next version: after an upgrade with its goldens recorded anew, or without images
that are to be forgotten; everything else as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from darkroom.errors import GateClosed, TrainingFailed, WrongUse
from tasks.bundle import manifest as words
from tasks.bundle.holding import held_by
from tasks.bundle.opening import Bundle
from tasks.bundle.sealing import SealedContents, seal_bundle
from tasks.goldens.changes import GoldenChange
from tasks.goldens.record import Golden
from tasks.thumbnails import THUMBNAILS, without_thumbnails

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
    moved = [asdict(change) for change in changes if change.moved]
    contents = _contents(bundle, {"from": bundle.id, "reason": reason, "moved": moved})
    return _sealed_again(bundle, contents, f"resealed from {bundle.id}: {reason}", by, promote)


def reseal_without(
    bundle: Bundle,
    ids: Set[str],
    files: Mapping[str, bytes],
    *,
    reason: str,
    by: str | None = None,
    promote: bool = False,
) -> Bundle:
    """Seal the next version without these contents: no golden, no thumbnail, no row of the profile and its embedding.

    `files`: by name, what else of the bundle shows them, without them. The model is the same: it has learned from them.

    Raises: WrongUse where it holds none of them, no golden would be left, or there is no reason; GateClosed where a
    file would still name one.
    """
    needs_a_reason(reason)
    held = held_by(bundle, ids)
    if not held.images:
        raise WrongUse("This version holds none of these images.", file=bundle.path, found=", ".join(sorted(ids)))
    counts = {"goldens": held.goldens, "thumbnails": held.thumbnails, "rows": held.rows}
    whole = _contents(bundle, {"from": bundle.id, "reason": reason, "moved": [], "without": counts})
    left = (~whole.profile["content_id"].isin(ids)).to_numpy()
    replaced = {**whole.files, **files}
    if THUMBNAILS in replaced:
        replaced[THUMBNAILS] = without_thumbnails(replaced[THUMBNAILS], ids)
    contents = replace(
        whole,
        profile=whole.profile[left].reset_index(drop=True),
        embeddings=whole.embeddings[left],
        goldens=[golden for golden in whole.goldens if sha256(golden.image).hexdigest() not in ids],
        files=replaced,
    )
    if not contents.goldens:
        raise WrongUse("No golden image would be left, and nothing could be proved.", todo="train again without them")
    told = [name for name, data in replaced.items() if any(content_id.encode() in data for content_id in ids)]
    if told:
        raise GateClosed(
            "A file of this bundle names one of these images, and it is not known how to leave it out.",
            file=bundle.path / told[0],
            todo="train again without these images, and remove this version",
        )
    return _sealed_again(bundle, contents, f"resealed from {bundle.id} without images: {reason}", by, promote)


def _contents(bundle: Bundle, remembered: Mapping[str, object]) -> SealedContents:
    """All that a bundle is made of, with one more entry of what was done to it."""
    kept = {words.MANIFEST, words.MODEL, words.GRAPH, words.PREPROCESSING, words.PROFILE, words.EMBEDDINGS}
    files = {
        name: bundle.read_bytes(name)
        for name in bundle.manifest.digests
        if name not in kept and not name.startswith(f"{words.GOLDENS}/")
    }
    return SealedContents(
        model_path=bundle.model_path,
        preprocessing=bundle.preprocessing,
        classes=bundle.classes,
        embedding_layer=bundle.manifest.embedding_layer,
        profile=bundle.profile(),
        embeddings=bundle.embeddings(),
        goldens=[Golden(golden.name, golden.image, golden.why) for golden in bundle.goldens()],
        metrics={
            **bundle.manifest.metrics,
            "resealed": [*bundle.manifest.metrics.get("resealed", []), dict(remembered)],
        },
        files=files,
    )


def _sealed_again(bundle: Bundle, contents: SealedContents, told: str, by: str | None, promote: bool) -> Bundle:
    models, name = bundle.path.parents[1], bundle.manifest.name
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
