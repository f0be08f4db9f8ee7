"""Pages that showed an image, or named its file: drawn without it, or blanked where that cannot be done for sure.

A page of a night cannot be drawn a second time: its evidence is of a run that has ended. So its frame is taken out of
the markup, and what is left is searched once more for every name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from darkroom.results import Commit, bundles, commits
from darkroom.storage import Storage
from tasks.forgetting.rows import InCommit, bare
from tasks.forgetting.sought import Photo, Sought
from tasks.report.page import as_on_pages
from tasks.report.past import REPORTS, page_key

_PLACEHOLDER: Final = '<p class="where">forgotten</p>'
_PICTURES: Final = re.compile(r'"data:[^"]*"')
# A page of a run: reports/<night>/<bundle>/<run>/index.html.
_NIGHT: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
BLANK: Final = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>darkroom</title></head><body>'
    "<p>This page showed an image that was forgotten, and could not be drawn without it. "
    "The rows and the verdict of its night are in the results.</p></body></html>\n"
)


@dataclass(frozen=True)
class PageWithout:
    """A page, and what it is to be."""

    key: str
    data: bytes


def pages_with(storage: Storage, sought: Sought, found: Mapping[tuple[str, int], InCommit]) -> Iterator[PageWithout]:
    """The pages of runs that show something of it; `found` by bundle and number of the commit.

    A page without a commit is that of a run that was discarded, or died: it is held against all names.
    """
    every = frozenset(name.path for name in sought.names)
    done = {
        page_key(commit.night, commit.bundle, commit.run): commit
        for bundle in bundles(storage)
        for commit in commits(storage, bundle)
    }
    for key in _keys(storage):
        commit = done.get(key)
        paths = every
        if commit is not None:
            own = found.get((commit.bundle, commit.number))
            paths = frozenset() if own is None else own.paths
        if not paths and not sought.photos:
            continue
        before = storage.read(f"{REPORTS}/{key}")
        after = page_without(before, paths, sought, commit)
        if after != before:
            yield PageWithout(f"{REPORTS}/{key}", after)


def other_pages_with(storage: Storage, sought: Sought) -> Iterator[str]:
    """Folders of pages beside those of the nights (audits, diagnoses, explanations) that show something of it.

    They can be made again, and are removed whole.
    """
    for folder in storage.list(REPORTS):
        # The page over all nights is a file, made from the commits, and names no image.
        if _NIGHT.fullmatch(folder) or folder == "labels" or folder.endswith(".html"):
            continue
        if any(folder == f"explained-{content_id[:12]}" for content_id in sought.ids):
            yield f"{REPORTS}/{folder}"
            continue
        for name in storage.list(f"{REPORTS}/{folder}"):
            data = storage.read(f"{REPORTS}/{folder}/{name}")
            if any(content_id.encode() in data for content_id in sought.ids) or (
                name.endswith(".html") and _names_any(_text(data), {photo.path for photo in sought.photos})
            ):
                yield f"{REPORTS}/{folder}"
                break


def page_without(data: bytes, paths: frozenset[str], sought: Sought, commit: Commit | None) -> bytes:
    """The page without the frames of these files, the pictures of these training photos, and their names."""
    html = _text(data)
    if html is None:
        return BLANK.encode() if paths else data
    for path in paths:
        html = without_frames(html, path)
    for photo in sought.photos:
        html = re.sub(rf'<img src="data:[^"]*" alt="{re.escape(_alt(photo))}">', "", html)
    if commit is not None and paths:
        for said in _evidence(commit):
            html = html.replace(as_on_pages(said), as_on_pages(bare(said, paths)))
    left = [*sought.ids, *map(_alt, sought.photos)]
    return BLANK.encode() if any(one in html for one in left) or _names_any(html, paths) else html.encode()


def without_frames(html: str, path: str) -> str:
    """The page without the pictures of this file; contact sheets have no list in an item."""
    shown = as_on_pages(path)
    frame = (f'<p class="where"><bdi>{shown}</bdi></p>', f"<bdi>{shown}</bdi></span>")
    first, *items = html.split("<li>")
    kept = [first]
    for item in items:
        inside, end, after = item.partition("</li>")
        shows = end and any(mark in inside for mark in frame)
        kept.append(f"{_PLACEHOLDER}{end}{after}" if shows else item)
    return "<li>".join(kept)


def _names_any(html: str | None, paths: Iterable[str]) -> bool:
    """Whether a name still stands in the text, and not as the end or the beginning of another one."""
    text = _PICTURES.sub("", html or "")
    known = {as_on_pages(path) for path in paths}
    return any(name in text and re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-]|\.\w)", text) for name in known)


def _alt(photo: Photo) -> str:
    """As tasks.report.thumbnails.NearFrame has it."""
    return as_on_pages(f"training photo of {photo.label}, {photo.path}")


def _evidence(commit: Commit) -> Iterator[str]:
    for finding in commit.summary.findings:
        yield finding.evidence
    for cause in commit.summary.causes:
        yield from cause.evidence


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _keys(storage: Storage) -> Iterator[str]:
    """Pages of runs, as page_key names them."""
    for night in storage.list(REPORTS):
        if _NIGHT.fullmatch(night):
            for bundle in storage.list(f"{REPORTS}/{night}"):
                for run in storage.list(f"{REPORTS}/{night}/{bundle}"):
                    key = f"{night}/{bundle}/{run}/index.html"
                    if storage.exists(f"{REPORTS}/{key}"):
                        yield key
