"""Which versions of which bundles hold an image: as a golden, a thumbnail, or a row of the profile."""

from __future__ import annotations

import io
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from darkroom.errors import DarkroomError, WrongUse
from darkroom.storage import store_address
from tasks.bundle import manifest as words
from tasks.bundle.manifest import MANIFEST
from tasks.bundle.opening import Bundle, open_bundle
from tasks.bundle.versions import find_bundle
from tasks.thumbnails import THUMBNAILS

_TABLES = (words.GOLDENS_RECORD, THUMBNAILS, words.PROFILE)


class Holding(BaseModel):
    """A version that holds some of the images; `unreadable` where it cannot be opened, and nobody knows."""

    model_config = ConfigDict(frozen=True)

    path: str
    bundle_id: str = ""
    in_use: bool = False
    goldens: int = 0
    thumbnails: int = 0
    rows: int = 0
    photos: tuple[tuple[str, str], ...] = ()  # label and path of each
    images: frozenset[str] = frozenset()
    unreadable: str = ""

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.unreadable:
            return f"{self.path} cannot be opened, and may hold one: {self.unreadable}"
        counts = ((self.goldens, "golden"), (self.thumbnails, "thumbnail"), (self.rows, "row"))
        told = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts if n)
        used = ", and is in use" if self.in_use else ""
        return f"{self.path} holds {told}{' of the profile' if self.rows else ''}{used}."


def held_by_bundles(models: Path, ids: Set[str]) -> list[Holding]:
    """Every version below `models` that holds one of these contents, or cannot be opened.

    Raises: WrongUse where `models` lies in an object store: a bundle is looked at where it was sealed.
    """
    if store_address(models) is not None:
        raise WrongUse(
            "Bundles are looked at where they were sealed.",
            parameter="models",
            expected="a folder on this machine",
            found=models,
        )
    return [found for path in _versions(models) if (found := _holding(path, ids)) is not None]


def held_by(bundle: Bundle, ids: Set[str]) -> Holding:
    """What one bundle holds of these contents."""
    found = {name: _those(bundle, name, ids) for name in _TABLES if bundle.has(name)}
    profile = bundle.profile()
    photos = profile.loc[profile["content_id"].isin(ids), ["label", "path"]]
    return Holding(
        path=str(bundle.path),
        bundle_id=bundle.id,
        in_use=_is_in_use(bundle.path),
        goldens=len(found[words.GOLDENS_RECORD]),
        thumbnails=len(found.get(THUMBNAILS, ())),
        rows=len(photos),
        photos=tuple(photos.itertuples(index=False, name=None)),
        images=frozenset(content_id for own in found.values() for content_id in own),
    )


def _is_in_use(path: Path) -> bool:
    with suppress(DarkroomError):
        return find_bundle(path.parent) == path
    return False


def _holding(path: Path, ids: Set[str]) -> Holding | None:
    try:
        found = held_by(open_bundle(path), ids)
    except DarkroomError as error:
        return Holding(path=str(path), unreadable=error.what)
    return found if found.images else None


def _those(bundle: Bundle, name: str, ids: Set[str]) -> list[str]:
    column = pq.read_table(io.BytesIO(bundle.read_bytes(name)), columns=["content_id"])["content_id"].to_pylist()
    return [content_id for content_id in column if content_id in ids]


def _versions(models: Path) -> Iterator[Path]:
    for name in sorted(models.iterdir()) if models.is_dir() else ():
        if name.is_dir() and not name.name.startswith("."):
            numbers = sorted(int(one.name) for one in name.iterdir() if one.name.isascii() and one.name.isdigit())
            yield from (name / str(number) for number in numbers if (name / str(number) / MANIFEST).is_file())
