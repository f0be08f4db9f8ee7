"""Contact sheets: which rows stand on them, in which order, and which of their pictures the page can carry.

The JPEG bytes come from the decoding processes; nothing here decodes an image.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from darkroom.reasons import Verdict
from tasks.report.night_page import NearPhoto, NightPage
from tasks.report.view import Row, as_float, comes_back, quarantine_sentence, reason_sentences, share

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class NearFrame:
    """A training photo beside an image of a contact sheet."""

    content_id: str
    path: str
    label: str
    picture: str | None = None  # data: URI

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"training photo of {self.label}, {self.path}"


@dataclass(frozen=True)
class Frame:
    """One image of a contact sheet: its name, what is said of it, and a picture if there is one and room for it."""

    content_id: str
    path: str
    lines: tuple[str, ...]
    predicted: str = ""
    confidence: float | None = None
    picture: str | None = None  # data: URI
    near: tuple[NearFrame, ...] = ()

    @property
    def near_labels(self) -> list[tuple[str, int]]:
        """(label, photos) of the nearest training photos, the commonest first."""
        return Counter(photo.label for photo in self.near).most_common()

    @property
    def alt(self) -> str:
        """The picture in words: what can be said without seeing it."""
        if not self.predicted:
            return f"{self.path}, not scored"
        sure = "" if self.confidence is None else f" with {share(self.confidence)} confidence"
        return f"{self.path}, predicted {self.predicted}{sure}"


@dataclass(frozen=True)
class QuarantineGroup:
    """The files that were set aside for one reason; `count` is the night's, `frames` a sample."""

    reason: str
    sentence: str
    comes_back: bool
    count: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class ContactSheets:
    """The sheets of a night."""

    suspect: tuple[Frame, ...] = ()
    quarantined: tuple[QuarantineGroup, ...] = ()
    typical: tuple[Frame, ...] = ()
    worst_slice: tuple[Frame, ...] = ()
    without_picture: int = 0  # pictures that were given but did not fit


@dataclass
class Film:
    """Hands out pictures until `room` characters are used up."""

    thumbnails: Mapping[str, bytes]
    room: int
    refused: int = field(default=0)

    def develop(self, frame: Frame) -> Frame:
        """The frame with its picture, where it has one that is a JPEG and for which there is room."""
        return replace(frame, picture=self._picture(frame.content_id))

    def with_near(self, frame: Frame, near: Mapping[str, tuple[NearPhoto, ...]]) -> Frame:
        """The frame with the training photos beside it, and their pictures."""
        found = (NearFrame(one.content_id, one.path, one.label) for one in near.get(frame.content_id, ()))
        return replace(frame, near=tuple(replace(one, picture=self._picture(one.content_id)) for one in found))

    def _picture(self, content_id: str) -> str | None:
        jpeg = self.thumbnails.get(content_id)
        if jpeg is None or not jpeg.startswith(_JPEG):
            return None
        picture = data_uri("image/jpeg", jpeg)
        if len(picture) > self.room:
            self.refused += 1
            return None
        self.room -= len(picture)
        return picture


def data_uri(kind: str, content: bytes) -> str:
    """`content` inside the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def contact_sheets(
    page: NightPage, *, room: int, suspect: int = 48, typical: int = 16, quarantined: int = 60
) -> ContactSheets:
    """Lay out the sheets: at most so many frames each, and `room` characters of pictures in all.

    The most suspect images take their pictures first, then the typical ones, then the quarantined; the training photos
    beside them take what is left.
    """
    film = Film(page.thumbnails, room)
    worst = tuple(film.develop(frame) for frame in _first(most_suspect(page.predictions), suspect))
    usual = tuple(film.develop(frame) for frame in _first(_typical(page.predictions), typical))
    aside = tuple(
        replace(group, frames=tuple(film.develop(frame) for frame in group.frames))
        for group in _quarantined(page, quarantined)
    )
    examples = page.slices.moved[0].examples if page.slices.moved else ()
    of_slice = tuple(film.develop(Frame(content_id, path, ())) for content_id, path in examples)
    worst = tuple(film.with_near(frame, page.near) for frame in worst)
    usual = tuple(film.with_near(frame, page.near) for frame in usual)
    return ContactSheets(worst, aside, usual, of_slice, film.refused)


def most_suspect(predictions: pd.DataFrame) -> Iterator[Frame]:
    """Suspect rows, those least like training first, then the least confident."""
    rows = [row for row in _rows(predictions) if row["verdict"] == Verdict.SUSPECT]
    rows.sort(key=lambda row: (_smallest_p(row), as_float(row.get("confidence")) or 0.0, str(row["path"])))
    return (_predicted(row, tuple(reason_sentences(row))) for row in rows)


def _typical(predictions: pd.DataFrame) -> Iterator[Frame]:
    """Trusted rows, one of each predicted class in turn, so that no class is missing for want of room."""
    by_class: dict[str, list[Row]] = {}
    for row in _rows(predictions):
        if row["verdict"] == Verdict.TRUSTED:
            by_class.setdefault(str(row["predicted_class"]), []).append(row)
    deepest = max((len(rows) for rows in by_class.values()), default=0)
    for turn in range(deepest):
        for name in sorted(by_class):
            if turn < len(by_class[name]):
                yield _predicted(by_class[name][turn], ())


def _quarantined(page: NightPage, most: int) -> Iterator[QuarantineGroup]:
    """One group a reason, the commonest first; each shows its fair part of `most` frames."""
    by_reason: dict[str, list[Row]] = {}
    for row in _rows(page.quarantine):
        by_reason.setdefault(str(row["reason"]), []).append(row)
    counts = {reason: len(rows) for reason, rows in by_reason.items()} | page.summary.quarantine_reasons
    each = max(1, most // max(1, len(counts)))
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        frames = tuple(
            Frame(
                content_id=_text(row.get("content_id")),
                path=str(row["path"]),
                lines=tuple(filter(None, [_text(row.get("detail"))])),
            )
            for row in by_reason.get(reason, [])[:each]
        )
        yield QuarantineGroup(reason, quarantine_sentence(reason), comes_back(reason), count, frames)


def _predicted(row: Row, lines: tuple[str, ...]) -> Frame:
    return Frame(
        content_id=str(row["content_id"]),
        path=str(row["path"]),
        lines=lines,
        predicted=str(row["predicted_class"]),
        confidence=as_float(row.get("confidence")),
    )


def _smallest_p(row: Row) -> float:
    found = [as_float(row.get(name)) for name in ("unusual_p", "out_of_distribution_p")]
    return min((p for p in found if p is not None), default=math.inf)


def _rows(frame: pd.DataFrame) -> list[Row]:
    return list(frame.to_dict("records"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _first(frames: Iterator[Frame], most: int) -> list[Frame]:
    return [frame for _, frame in zip(range(most), frames, strict=False)]
