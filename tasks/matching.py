"""Paths that somebody else wrote down → the photos of a folder, by their longest unique tail."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import WrongUse

_SEPARATORS = re.compile(r"[\\/]+")
_DRIVE = re.compile(r"^[A-Za-z]:")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Matched:
    """Row of the file → position of its photo (None: no such photo), and how that was decided, in sentences."""

    photos: tuple[int | None, ...]
    findings: tuple[str, ...]


def match_paths(stated: Sequence[str], photos: Sequence[str], file: Path) -> Matched:
    r"""`photos` are relative to their folder, with `/`. `stated` may be absolute, of Windows, an address, or a base
    name: the longest tail that photos have decides, where it is one photo's only.

    Raises: WrongUse for a name that several photos have, and where no row has a photo.
    """
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, photo in enumerate(photos):
        parts = _parts(photo)
        for start in range(len(parts)):
            index[parts[start:]].append(position)
    longest = max(map(len, index), default=0)
    exact = {photo: position for position, photo in enumerate(photos)}
    # Windows and macOS do not tell `A.JPG` from `a.jpg`: asked only where nothing else matches.
    folded: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for tail, positions in index.items():
        folded[tuple(part.casefold() for part in tail)].extend(positions)
    found: list[int | None] = []
    shortened = renamed = 0
    for row, text in enumerate(stated):
        if text in exact:
            found.append(exact[text])
            continue
        parts = _parts(text)
        parts = parts[max(0, len(parts) - longest) :]  # of a path with thousands of parts no photo has a longer tail
        tail, positions = _longest(parts, index)
        if not positions:
            tail, positions = _longest(tuple(part.casefold() for part in parts), folded)
            renamed += bool(positions)
        if len(positions) > 1:
            raise WrongUse(
                "A row of the predictions could be about several photos.",
                file=file,
                expected="a path that only one photo ends with",
                found=f"{text!r} in row {row + 1}: {', '.join(photos[one] for one in positions[:3])}"
                + (" …" if len(positions) > 3 else ""),
                todo="write paths relative to the folder of the images instead of base names",
            )
        if positions and len(tail) < min(len(parts), len(_parts(photos[positions[0]]))):
            shortened += 1
        found.append(positions[0] if positions else None)
    lost = [text for text, position in zip(stated, found, strict=True) if position is None]
    if len(lost) == len(found):
        raise WrongUse(
            "No row of the predictions is about a photo of this folder.",
            file=file,
            expected=f"paths such as {photos[0]}" if photos else "photos in the folder",
            found=f"{len(lost):,} rows, such as {stated[0]!r}" if stated else "no row",
            todo="name the folder that these predictions were made on with --images",
        )
    findings = []
    if lost:
        findings.append(f"{len(lost):,} of {len(found):,} rows have no photo in the folder, such as {lost[0]!r}.")
    if shortened:
        findings.append(f"{shortened:,} rows were matched by the end of their path; the folders before it differ.")
    if renamed:
        findings.append(f"{renamed:,} rows were matched without regard to upper and lower case.")
    return Matched(tuple(found), tuple(findings))


def _parts(path: str) -> tuple[str, ...]:
    bare = _DRIVE.sub("", _SCHEME.sub("", path.strip()))
    return tuple(part for part in _SEPARATORS.split(bare) if part not in ("", "."))


def _longest(parts: tuple[str, ...], index: dict[tuple[str, ...], list[int]]) -> tuple[tuple[str, ...], list[int]]:
    for start in range(len(parts)):
        if parts[start:] in index:
            return parts[start:], index[parts[start:]]
    return (), []
