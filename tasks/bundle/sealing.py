"""Knows how to seal a bundle: complete under a temporary name, proved in a new process, renamed, never changed."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkroom import schemas
from darkroom.errors import StorageError, TrainingFailed, WrongUse
from darkroom.person import this_person
from darkroom.trust import trusted_place
from tasks.bundle import manifest as words
from tasks.bundle.disk import files_of, sync_folder, sync_tree, take_name
from tasks.bundle.manifest import BundleManifest, bundle_id, classes_digest, file_digest, plain
from tasks.bundle.opening import Bundle, open_bundle
from tasks.bundle.statements import LARGEST, may_be_sealed
from tasks.bundle.versions import check_name, next_version, put_into_use, remember
from tasks.goldens.record import Golden
from tasks.goldens.recording import Recorded, record_in_new_process
from tasks.preprocessing import Preprocessing

# Saving and loading must not change the model; float32 sums in another batch do not come near this.
RELOAD_TOLERANCE = 1e-4

_RESERVED = frozenset({words.MODEL, words.GRAPH, words.PREPROCESSING, words.PROFILE, words.EMBEDDINGS})
_SEALING = re.compile(r"\.sealing-(?P<host>.*)-(?P<pid>\d+)-[0-9a-f]+")


@dataclass(frozen=True)
class SealedContents:
    """Everything that a bundle is made of.

    model_path: a saved .keras, or a frozen graph .pb. classes: in the order of its outputs.
    profile: darkroom.schemas.PROFILE. embeddings: (rows of the profile, e) float16. goldens: see choose_goldens.
    metrics: what the training measured. files: further files by name, such as suite.json, drift.json, card.md.
    """

    model_path: Path
    preprocessing: Preprocessing
    classes: Sequence[str]
    embedding_layer: str
    profile: pd.DataFrame
    embeddings: NDArray[np.float16]
    goldens: Sequence[Golden]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def seal_bundle(
    models: Path,
    name: str,
    contents: SealedContents,
    *,
    promote: bool = False,
    reason: str = "sealed",
    by: str | None = None,
    reloaded: float = RELOAD_TOLERANCE,
) -> Bundle:
    """Seal the next version of a bundle. The first version is put into use, a later one with `promote`; none where
    signatures are required, because nobody has signed it yet.

    The goldens are recorded by a new process that loads model and preprocessing from the folder itself: what is
    sealed is what will be loaded at night (keras#20147). `reason` and `by` (empty: the user) go to history.jsonl.
    `reloaded`: by how much its probabilities may differ from those of the profile.

    Raises: WrongUse where the contents contradict each other; UnsupportedModel where the model cannot be scored;
    TrainingFailed where saving changed it; StorageError.
    """
    check_name(name)
    _check(contents)
    models = models.absolute()
    who = by or this_person()
    with _sealing_folder(models / name) as folder:
        _write_contents(folder, contents)
        recorded = record_in_new_process(folder, contents.embedding_layer, len(contents.classes), contents.goldens)
        _check_reload(contents, recorded, reloaded)
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files_of(folder)}
        while True:
            version = next_version(models / name)
            sealed = _write_manifest(folder, name, version, contents, recorded, digests)
            sync_tree(folder)
            if take_name(folder, models / name / str(version)):
                break
    remember(models / name, event="sealed", version=version, id=sealed.id, reason=reason, by=who)
    if trusted_place() is None:  # otherwise `darkroom promote`, once somebody has signed it
        why = reason if promote else "the first that was sealed"
        put_into_use(models, name, version, sealed.id, reason=why, by=who, if_none=not promote)
    return open_bundle(models / name / str(version), unsigned=True)


def _check(contents: SealedContents) -> None:
    """Refuse contents that contradict each other, before minutes are spent on them."""
    profile = contents.profile
    missing = [name for name in schemas.PROFILE.names if name not in profile.columns]
    unknown = sorted(set(profile["label"]) - set(contents.classes)) if not missing else []
    names = [golden.name for golden in contents.goldens]
    problems = {
        "a profile with every column of its schema": f"no {', '.join(missing)}" if missing else "",
        "classes that are each named once, two at least": ""
        if len(set(contents.classes)) == len(contents.classes) >= 2
        else f"{list(contents.classes)}",
        "labels among the classes": f"{', '.join(unknown)}" if unknown else "",
        "one row of embeddings a row of the profile": ""
        if contents.embeddings.ndim == 2 and len(contents.embeddings) == len(profile)
        else f"{contents.embeddings.shape} for {len(profile)} rows",
        "finite float16 embeddings": ""
        if contents.embeddings.dtype == np.float16 and bool(np.isfinite(contents.embeddings).all())
        else f"{contents.embeddings.dtype}, {int((~np.isfinite(contents.embeddings)).sum())} not finite",
        "goldens with names of their own": "" if names and len(set(names)) == len(names) else f"{names}",
        "file names that are free and lie inside the bundle": ", ".join(
            sorted(
                name
                for name in (*contents.files, *(f"{words.GOLDENS}/{name}" for name in names))
                if not may_be_sealed(name) or name in {*_RESERVED, words.GOLDENS_RECORD}
            )
        ),
    }
    for expected, found in problems.items():
        if found:
            raise WrongUse(
                "These contents cannot be sealed: they contradict each other.", expected=expected, found=found
            )


@contextmanager
def _sealing_folder(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, which is gone afterwards: renamed, or removed."""
    # The host is part of the name: on a shared disk only its own processes can be seen to be dead.
    path = folder / f".sealing-{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        _remove_stale(folder)
        path.mkdir()
        yield path
    except OSError as error:
        raise StorageError(
            f"The bundle could not be written: {error.strerror or error}.",
            file=error.filename or path,
            todo="look at the disk and the folder's rights, then seal again; nothing half-sealed is visible",
        ) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove what a seal of this host left behind when it was killed."""
    for path in folder.glob(".sealing-*"):
        parts = _SEALING.fullmatch(path.name)
        if parts and parts["host"] == platform.node() and not _is_alive(int(parts["pid"])):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_contents(folder: Path, contents: SealedContents) -> None:
    (folder / words.GOLDENS).mkdir()
    name = words.GRAPH if contents.model_path.suffix == Path(words.GRAPH).suffix else words.MODEL
    shutil.copyfile(contents.model_path, folder / name)
    contents.preprocessing.save(folder / words.PREPROCESSING)
    table = pa.Table.from_pandas(
        contents.profile[schemas.PROFILE.names], schema=schemas.PROFILE, preserve_index=False
    ).replace_schema_metadata(schemas.PROFILE.metadata)
    pq.write_table(table, folder / words.PROFILE, compression="zstd")
    embeddings = io.BytesIO()
    np.save(embeddings, contents.embeddings, allow_pickle=False)
    (folder / words.EMBEDDINGS).write_bytes(embeddings.getvalue())
    for name, data in contents.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for golden in contents.goldens:
        (folder / words.GOLDENS / golden.name).write_bytes(golden.image)


def _check_reload(contents: SealedContents, recorded: Recorded, tolerance: float) -> None:
    """The reloaded model must be the one whose predictions are in the profile (keras#20147)."""
    if recorded.embedding_size != contents.embeddings.shape[1]:
        raise WrongUse(
            "The embeddings are not those of the embedding layer.",
            expected=f"{recorded.embedding_size} numbers an image, as {contents.embedding_layer!r} gives",
            found=f"{contents.embeddings.shape[1]}",
        )
    by_content = dict(zip(contents.profile["content_id"], contents.profile["probabilities"], strict=True))
    for golden in recorded.goldens:
        before = by_content.get(golden.content_id)
        if before is None:
            continue
        gap = float(np.abs(np.asarray(before, dtype=np.float64) - golden.probabilities).max())
        if not gap <= tolerance:
            raise TrainingFailed(
                "The model answers differently after it was saved and loaded in a new process.",
                file=golden.name,
                expected=f"the probabilities of the profile, within {tolerance:g}",
                found=f"a difference of {gap:.2g}",
                todo="look for a layer that keeps state outside of its weights, such as an adapted Normalization; "
                "replace it by fixed values, and train again",
            )


def _write_manifest(
    folder: Path, name: str, version: int, contents: SealedContents, recorded: Recorded, digests: Mapping[str, str]
) -> BundleManifest:
    draft = BundleManifest(
        id="",
        name=name,
        version=version,
        classes=tuple(contents.classes),
        classes_digest=classes_digest(contents.classes),
        created_at=datetime.now(UTC).replace(microsecond=0),
        embedding_layer=contents.embedding_layer,
        embedding_size=recorded.embedding_size,
        input_shape=contents.preprocessing.input_shape,
        preprocessing_digest=contents.preprocessing.digest,
        engine=recorded.engine,
        machine=recorded.machine,
        libraries=recorded.libraries,
        digests=dict(sorted(digests.items())),
        metrics=plain(contents.metrics),
    )
    statements = draft.model_dump(mode="json")
    statements["id"] = bundle_id(statements)
    text = json.dumps(statements, indent=1, allow_nan=False) + "\n"
    if len(text.encode()) > LARGEST:
        raise WrongUse(
            "There is too much to say of this training: nobody would open its bundle.json.",
            expected=f"at most {LARGEST:,} bytes, of which each file that was left out takes a line",
            found=f"{len(text):,}",
            todo="remove from the folder what is no photo",
        )
    (folder / words.MANIFEST).write_text(text, encoding="utf-8")
    return BundleManifest.model_validate(statements)
