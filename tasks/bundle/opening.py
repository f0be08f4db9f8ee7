"""Knows how to open a bundle: every digest first, and nothing of it is read before its digest holds."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from darkroom.errors import BundleTampered, BundleUnreadable, DarkroomError, WrongUse
from tasks.archives import check_unpacked
from tasks.bundle import manifest as words
from tasks.bundle.manifest import BundleManifest, classes_digest, file_digest, model_file
from tasks.bundle.signatures import is_signature
from tasks.bundle.statements import RESTORE, half, linked, statements_at
from tasks.goldens.record import SealedGolden, from_parquet
from tasks.preprocessing import Preprocessing

# A file manager leaves this in every folder that it shows; nothing here reads a file that bundle.json does not name.
_HARMLESS = frozenset({".DS_Store"})
# Beside the model, which is one of two files.
_ALWAYS = frozenset({words.PREPROCESSING, words.PROFILE, words.EMBEDDINGS, words.GOLDENS_RECORD})

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose digests held when it was opened."""

    path: Path
    manifest: BundleManifest
    preprocessing: Preprocessing
    signed_by: str | None = None  # the trusted key that has signed it; None where nobody has to

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
        return self.understood(lambda read: pd.read_parquet(io.BytesIO(read(words.PROFILE))))

    def class_counts(self) -> dict[str, int]:
        """Class → training and validation images."""
        counts = Counter(self.profile()["label"])
        return {name: counts[name] for name in self.classes}

    def embeddings(self) -> NDArray[np.float16]:
        """(rows of the profile, embedding_size) float16."""
        embeddings: NDArray[np.float16] = self.understood(
            lambda read: np.load(io.BytesIO(read(words.EMBEDDINGS)), allow_pickle=False)
        )
        return embeddings

    def goldens(self) -> list[SealedGolden]:
        """The golden images with what was recorded of them."""
        folder = f"{words.GOLDENS}/"
        names = [name for name in self.manifest.digests if name.startswith(folder) and name != words.GOLDENS_RECORD]
        images = {name.removeprefix(folder): self.read_bytes(name) for name in names}
        return self.understood(lambda read: from_parquet(read(words.GOLDENS_RECORD), images))

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
        return _read(self.path, name, self.manifest.digests)

    def read_json(self, name: str) -> Any:
        """A JSON file of the bundle."""
        return self.understood(lambda read: json.loads(read(name)))

    def understood(self, parse: Callable[[Callable[[str], bytes]], T]) -> T:
        """What `parse` makes of files, which it reads by their names. A digest says that a file is the sealed one, not
        that whoever sealed it meant well.

        Raises: BundleUnreadable, with its name, for a file that is not what it should be.
        """
        name = words.MANIFEST

        def read(wanted: str) -> bytes:
            nonlocal name
            name, data = wanted, self.read_bytes(wanted)
            if name.endswith(".npz"):
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    check_unpacked(archive, len(data))
            return data

        try:
            return parse(read)
        except DarkroomError:
            raise
        except Exception as error:  # every parser has its own, and none of them means anything else
            raise BundleUnreadable(
                f"{name} is as it was sealed, and not what a darkroom seals.",
                file=self.path / name,
                found=(str(error).splitlines() or [type(error).__name__])[0][:200],
                todo="open it with the darkroom that sealed it; if a stranger made it, do not trust it",
            ) from error


def open_bundle(path: Path, *, unsigned: bool = False) -> Bundle:
    """Open a bundle: who has signed it, the id of bundle.json, the digest of every file, then what they say.

    `unsigned`: whoever has signed it, or nobody. Of a bundle that was sealed here just now, or is to be signed.

    Raises: BundleUnreadable where there is no bundle, half of one, or one of a newer darkroom; BundleUntrusted where
    signatures are required, and no trusted key has signed it; BundleTampered, with a message of its own for a golden,
    the weights, the class order, a knob and any other file.
    """
    statements, signed_by = statements_at(path, unsigned=unsigned)
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
    bundle = Bundle(path, manifest, _preprocessing(path, manifest), signed_by)
    _check_agreement(bundle)
    return bundle


def _preprocessing(path: Path, manifest: BundleManifest) -> Preprocessing:
    file = path / words.PREPROCESSING
    try:
        return Preprocessing.parse(json.loads(_read(path, words.PREPROCESSING, manifest.digests)), source=file)
    except (WrongUse, ValueError, RecursionError) as error:  # as it was sealed, by a darkroom with other knobs
        told = error if isinstance(error, WrongUse) else WrongUse("it is no JSON", found=error)
        raise BundleUnreadable(
            f"This darkroom does not understand the sealed preprocessing: {told.what}.",
            file=file,
            expected=told.expected,
            found=told.found,
            todo="open it with the darkroom that sealed it, or train again",
        ) from error


def _read(path: Path, name: str, digests: Mapping[str, str]) -> bytes:
    """The bytes of a file, of which the digest holds."""
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise half(path / name, error.strerror or "unreadable") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digests[name]:
        raise _changed(path, name, digests[name], found)
    return data


def _check_files(path: Path, digests: Mapping[str, str]) -> None:
    unnamed = sorted(_ALWAYS - digests.keys()) + ([] if {words.MODEL, words.GRAPH} & digests.keys() else [words.MODEL])
    if unnamed:
        raise half(path / unnamed[0], f"a file that bundle.json does not name{_and_more(unnamed)}")
    try:
        there = {file.relative_to(path).as_posix(): file.lstat().st_mode for file in path.rglob("*")}
    except OSError as error:
        raise half(Path(error.filename or path), error.strerror or "unreadable") from error
    links = sorted(name for name, mode in there.items() if stat.S_ISLNK(mode))
    if links:
        raise linked(path / links[0], _and_more(links))
    files = {name for name, mode in there.items() if not stat.S_ISDIR(mode)}
    missing = sorted(digests.keys() - files)
    if missing:
        raise half(path / missing[0], f"no such file{_and_more(missing)}")
    extra = sorted(name for name in files - digests.keys() - {words.MANIFEST} if not _is_harmless(name))
    if extra:
        raise BundleTampered(
            "The bundle holds a file that was not sealed in it.",
            file=path / extra[0],
            expected=f"the {len(digests)} files that bundle.json names",
            found=f"a file beside them{_and_more(extra)}",
            todo="move it out of the bundle",
        )
    # Such as a pipe, which would be waited for.
    special = sorted(name for name in files if not stat.S_ISREG(there[name]))
    if special:
        raise BundleTampered(
            "A file of the bundle was replaced by something that is no file.",
            file=path / special[0],
            expected="an ordinary file",
            found=f"{stat.filemode(there[special[0]])}{_and_more(special)}",
            todo=RESTORE,
        )
    try:
        found = {name: file_digest(path / name) for name in digests}
    except OSError as error:
        raise half(Path(error.filename or path), error.strerror or "unreadable") from error
    # What changes predictions is named before what only explains them.
    first = (words.MODEL, words.GRAPH, words.PREPROCESSING)
    changed = sorted((name for name in digests if found[name] != digests[name]), key=lambda n: (n not in first, n))
    if changed:
        raise _changed(path, changed[0], digests[changed[0]], found[changed[0]], changed)


def _check_agreement(bundle: Bundle) -> None:
    """Two statements of one thing must agree, even where all digests hold."""
    manifest, preprocessing = bundle.manifest, bundle.preprocessing
    pairs = (
        ("preprocessing digest", manifest.preprocessing_digest, preprocessing.digest),
        ("input shape", tuple(manifest.input_shape), tuple(preprocessing.input_shape)),
        ("class order", manifest.classes_digest, classes_digest(manifest.classes)),
    )
    for what, expected, found in pairs:
        if expected != found:
            raise BundleTampered(
                f"bundle.json and the rest of the bundle contradict each other about the {what}.",
                file=bundle.path / words.MANIFEST,
                expected=expected,
                found=found,
                todo=RESTORE,
            )


def _changed(path: Path, name: str, expected: str, found: str, changed: list[str] | None = None) -> BundleTampered:
    return BundleTampered(
        _what_changed(name),
        file=path / name,
        expected=f"sha256 {expected}",
        found=f"sha256 {found}{_and_more(changed or [name])}",
        todo=RESTORE,
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


def _is_harmless(name: str) -> bool:
    return PurePosixPath(name).name in _HARMLESS or is_signature(name)


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
