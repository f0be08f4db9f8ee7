"""Knows how to open a bundle: every digest first, and nothing of it is read before its digest holds."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from darkroom.errors import BundleTampered, BundleUnreadable, WrongUse
from tasks.bundle import manifest as words
from tasks.bundle.manifest import BundleManifest, bundle_id, classes_digest, file_digest, model_file
from tasks.goldens.record import SealedGolden, from_parquet
from tasks.preprocessing import Preprocessing

# A file manager leaves this in every folder that it shows; nothing here reads a file that bundle.json does not name.
_HARMLESS = frozenset({".DS_Store"})
_RESTORE = "restore the bundle from a backup; a wanted change is a new version: train again with `darkroom train`"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose digests held when it was opened."""

    path: Path
    manifest: BundleManifest
    preprocessing: Preprocessing

    @property
    def id(self) -> str:
        """<name>-<version>-<12 hex>."""
        return self.manifest.id

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the model's outputs."""
        return self.manifest.classes

    @property
    def model_path(self) -> Path:
        """The saved model: model.keras, or model.pb where it was adopted as a frozen graph."""
        return self.path / model_file(self.manifest.digests)

    def profile(self) -> pd.DataFrame:
        """darkroom.schemas.PROFILE: one row a training or validation image."""
        return pd.read_parquet(io.BytesIO(self.read_bytes(words.PROFILE)))

    def class_counts(self) -> dict[str, int]:
        """Class → training and validation images."""
        counts = Counter(self.profile()["label"])
        return {name: counts[name] for name in self.classes}

    def embeddings(self) -> NDArray[np.float16]:
        """(rows of the profile, embedding_size) float16."""
        embeddings: NDArray[np.float16] = np.load(io.BytesIO(self.read_bytes(words.EMBEDDINGS)), allow_pickle=False)
        return embeddings

    def goldens(self) -> list[SealedGolden]:
        """The golden images with what was recorded of them."""
        folder = f"{words.GOLDENS}/"
        names = [name for name in self.manifest.digests if name.startswith(folder) and name != words.GOLDENS_RECORD]
        images = {name.removeprefix(folder): self.read_bytes(name) for name in names}
        return from_parquet(self.read_bytes(words.GOLDENS_RECORD), images)

    def has(self, name: str) -> bool:
        """Whether the bundle holds a file of this name."""
        return name in self.manifest.digests

    def read_bytes(self, name: str) -> bytes:
        """A file of the bundle by its name, such as `suite.json`; its digest is checked on these very bytes.

        Raises: BundleUnreadable where there is none; BundleTampered where it changed since the bundle was opened.
        """
        if name not in self.manifest.digests:
            raise BundleUnreadable(
                "The bundle holds no such file.",
                file=self.path / name,
                expected=f"one of {', '.join(sorted(n for n in self.manifest.digests if '/' not in n))}",
                todo="train again with this version of darkroom: it seals what it needs",
            )
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise _half(self.path / name, error.strerror or "unreadable") from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.manifest.digests[name]:
            raise _changed(self.path, name, self.manifest.digests[name], found)
        return data

    def read_json(self, name: str) -> Any:
        """A JSON file of the bundle."""
        return json.loads(self.read_bytes(name))


def open_bundle(path: Path) -> Bundle:
    """Open a bundle: the id of bundle.json, the digest of every file, then what they say.

    Raises: BundleUnreadable where there is no bundle, half of one, or one of a newer darkroom; BundleTampered, with a
    message of its own for a golden, the weights, the class order, a knob and any other file.
    """
    statements = _statements(path / words.MANIFEST)
    _check_id(path, statements)
    try:
        manifest = BundleManifest.model_validate(statements)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleUnreadable(
            "bundle.json is not one that this darkroom understands.",
            file=path / words.MANIFEST,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            todo="open it with the darkroom that sealed it, or train again",
        ) from error
    _check_files(path, manifest.digests)
    try:
        preprocessing = Preprocessing.load(path / words.PREPROCESSING)
    except WrongUse as error:  # its digest holds, so it is as it was sealed, by a darkroom with other knobs
        raise BundleUnreadable(
            f"This darkroom does not understand the sealed preprocessing: {error.what}.",
            file=path / words.PREPROCESSING,
            expected=error.expected,
            found=error.found,
            todo="open it with the darkroom that sealed it, or train again",
        ) from error
    _check_agreement(path, manifest, preprocessing)
    return Bundle(path=path, manifest=manifest, preprocessing=preprocessing)


def _statements(file: Path) -> dict[str, Any]:
    """bundle.json as it was written; the only file that is parsed before a digest of it holds."""
    try:
        statements = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise BundleUnreadable(
            "There is no bundle here.",
            file=file.parent,
            expected="a folder with bundle.json, such as models/NAME/1, or models/NAME for the version in use",
            found="a folder without bundle.json" if file.parent.is_dir() else "no such folder",
            todo="name a bundle that `darkroom train` has sealed",
        ) from error
    except OSError as error:
        raise _half(file, error.strerror or "unreadable") from error
    except ValueError as error:
        raise _half(file, f"no JSON: {error}") from error
    if not isinstance(statements, dict) or not isinstance(statements.get("schema_version"), int):
        raise _half(file, "JSON without a schema version")
    if statements["schema_version"] > words.SCHEMA_VERSION:
        raise BundleUnreadable(
            "This bundle was sealed by a newer darkroom, with a schema that this one does not know.",
            file=file,
            expected=f"schema version {words.SCHEMA_VERSION} or older",
            found=f"schema version {statements['schema_version']}",
            todo="update darkroom: pip install --upgrade darkroom",
        )
    return statements


def _check_id(path: Path, statements: Mapping[str, Any]) -> None:
    expected, found = str(statements.get("id")), bundle_id(statements)
    if expected == found:
        return
    classes = statements.get("classes")
    if isinstance(classes, list) and statements.get("classes_digest") != classes_digest(classes):
        raise BundleTampered(
            "The class order was changed by hand: every prediction would bear the wrong name.",
            file=path / words.MANIFEST,
            expected=f"classes with the sha256 {str(statements.get('classes_digest'))[:16]}…",
            found=f"{', '.join(map(str, classes))}: sha256 {classes_digest(classes)[:16]}…",
            todo=_RESTORE,
        )
    raise BundleTampered(
        "bundle.json was changed by hand: its id does not follow from what it says.",
        file=path / words.MANIFEST,
        expected=f"id {expected}",
        found=f"statements that give the id {found}",
        todo=_RESTORE,
    )


def _check_files(path: Path, digests: Mapping[str, str]) -> None:
    there = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_symlink() or not file.is_dir()}
    missing = sorted(digests.keys() - there)
    if missing:
        raise _half(path / missing[0], f"no such file{_and_more(missing)}")
    extra = sorted(name for name in there - digests.keys() - {words.MANIFEST} if Path(name).name not in _HARMLESS)
    if extra:
        raise BundleTampered(
            "The bundle holds a file that was not sealed in it.",
            file=path / extra[0],
            expected=f"the {len(digests)} files that bundle.json names",
            found=f"a file beside them{_and_more(extra)}",
            todo="move it out of the bundle",
        )
    linked = sorted(name for name in there if (path / name).is_symlink())
    if linked:
        raise BundleTampered(
            "A file of the bundle was replaced by a link.",
            file=path / linked[0],
            expected="a file",
            found=f"a link to {(path / linked[0]).readlink()}{_and_more(linked)}",
            todo=_RESTORE,
        )
    try:
        found = {name: file_digest(path / name) for name in digests}
    except OSError as error:
        raise _half(Path(error.filename or path), error.strerror or "unreadable") from error
    # What changes predictions is named before what only explains them.
    first = (words.MODEL, words.GRAPH, words.PREPROCESSING)
    changed = sorted((name for name in digests if found[name] != digests[name]), key=lambda n: (n not in first, n))
    if changed:
        raise _changed(path, changed[0], digests[changed[0]], found[changed[0]], changed)


def _check_agreement(path: Path, manifest: BundleManifest, preprocessing: Preprocessing) -> None:
    """Two statements of one thing must agree, even where all digests hold."""
    pairs = (
        ("preprocessing digest", manifest.preprocessing_digest, preprocessing.digest),
        ("input shape", tuple(manifest.input_shape), tuple(preprocessing.input_shape)),
        ("class order", manifest.classes_digest, classes_digest(manifest.classes)),
    )
    for what, expected, found in pairs:
        if expected != found:
            raise BundleTampered(
                f"bundle.json and the rest of the bundle contradict each other about the {what}.",
                file=path / words.MANIFEST,
                expected=expected,
                found=found,
                todo=_RESTORE,
            )


def _changed(path: Path, name: str, expected: str, found: str, changed: list[str] | None = None) -> BundleTampered:
    return BundleTampered(
        _what_changed(name),
        file=path / name,
        expected=f"sha256 {expected}",
        found=f"sha256 {found}{_and_more(changed or [name])}",
        todo=_RESTORE,
    )


def _what_changed(name: str) -> str:
    match name:
        case words.MODEL | words.GRAPH:
            return "The model was changed after the bundle was sealed: these are not the weights that were measured."
        case words.PREPROCESSING:
            return (
                "A knob of the preprocessing was changed after the bundle was sealed: images would be prepared "
                "differently than in training."
            )
        case words.GOLDENS_RECORD:
            return (
                "The record of the golden images was changed after the bundle was sealed: a replay would prove nothing."
            )
        case words.PROFILE | words.EMBEDDINGS:
            return "The profile was changed after the bundle was sealed: what is normal is no longer what was learned."
    if name.startswith(f"{words.GOLDENS}/"):
        return "A golden image was changed after the bundle was sealed: a replay would prove nothing."
    return f"{name} was changed after the bundle was sealed."


def _half(file: Path, found: str) -> BundleUnreadable:
    return BundleUnreadable(
        "This is half a bundle: a file that belongs to it cannot be read.",
        file=file,
        found=found,
        todo="copy the bundle again, with all of its files, or restore it from a backup",
    )


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
