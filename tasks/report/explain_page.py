"""One image explained on one offline page: cause, pictures, place among training, and how the answer moves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.report.page import environment
from tasks.report.sheet import sheet
from tasks.report.thumbnails import data_uri
from tasks.report.untrusted import in_markdown
from tasks.report.written import write_files

PAGE: Final = "explain.html"
_NEAR: Final = 5  # training photos beside the image in the artifact
_JPEG: Final = b"\xff\xd8\xff"
_ACCENTS: Final = {"nothing found": "ok", "close call": "warn"}


@dataclass(frozen=True)
class GroundShown:
    """One cause and what speaks for it."""

    cause: str
    sentence: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class PlaceShown:
    """One property: its value in words; `strip`: where on 0 … 1 stand the 5 %, the median and the 95 % of training, and
    the image; none for a category.
    """

    name: str
    value: str
    said: str
    strip: tuple[float, float, float, float] | None
    unusual: bool


@dataclass(frozen=True)
class PhotoNear:
    """A training photo near the image. `thumbnail` is JPEG, or empty."""

    label: str
    predicted: str
    path: str
    distance: float
    thumbnail: bytes = b""

    @property
    def picture(self) -> str | None:
        """The thumbnail inside the page itself."""
        return data_uri("image/jpeg", self.thumbnail) if self.thumbnail.startswith(_JPEG) else None

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"{self.path}, labelled {self.label}"


@dataclass(frozen=True)
class MoveShown:
    """The answer after one change: class, confidence, and what the probability of the first answer changed by."""

    what: str
    name: str
    answer: str
    confidence: float
    change: float
    flips: bool


@dataclass(frozen=True)
class ExplainPage:
    """One image, ready to be shown. `decoded`: JPEG, or empty; `seen`: (h, w, 3) as the model saw it, 0 … 255, or none.
    `classes`: name and calibrated probability, the most probable first. `facts`: what the file says of itself.
    """

    image: str
    bundle_id: str
    cause: str
    sentence: str
    context: str
    grounds: Sequence[GroundShown]
    stated: str = ""
    classes: Sequence[tuple[str, float]] = ()
    plausible_from: float | None = None
    decoded: bytes = b""
    seen: NDArray[Any] | None = None
    facts: Mapping[str, str] | None = None
    places: Sequence[PlaceShown] = ()
    neighbours: Sequence[PhotoNear] = ()
    far: str = ""
    variants: Sequence[MoveShown] = ()
    variants_said: str = ""
    slight: Sequence[MoveShown] = ()
    slight_said: str = ""

    @property
    def accent(self) -> str:
        """The page's colour."""
        return _ACCENTS.get(self.cause, "alarm")

    @property
    def decoded_picture(self) -> str | None:
        """The image for people, inside the page."""
        return data_uri("image/jpeg", self.decoded) if self.decoded.startswith(_JPEG) else None

    @property
    def seen_picture(self) -> str | None:
        """The image for the model, without loss."""
        if self.seen is None:
            return None
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(np.clip(np.rint(self.seen), 0, 255), np.uint8)).save(file, "PNG")
        return data_uri("image/png", file.getvalue())


def explain_html(page: ExplainPage) -> str:
    """The page as text; every name from a file is shown as text."""
    return environment().get_template("explain.html.j2").render(page=page)


def explain_markdown(page: ExplainPage) -> str:
    """The sentence and what speaks for it, the image and its nearest training photos, for the Prefect UI."""
    grounds = "\n".join(
        f"- **{in_markdown(one.cause)}** {in_markdown(one.sentence, 600)}"
        + "".join(f"\n  - {in_markdown(said, 600)}" for said in one.evidence)
        for one in page.grounds
    )
    classes = "\n".join(f"| {in_markdown(name)} | {share:.1%} |" for name, share in page.classes[:10])
    table = f"| class | probability |\n|---|---|\n{classes}\n\n" if classes else ""
    return (
        f"## {in_markdown(page.cause)}: {in_markdown(page.image)}\n\n{in_markdown(page.sentence, 600)}\n\n"
        f"{_picture(page)}{table}{grounds}\n\n{in_markdown(page.context, 600)}\n"
    )


def _picture(page: ExplainPage) -> str:
    """The image as number 1, beside it the training photos that the model sees as nearest."""
    near = [one for one in page.neighbours if one.thumbnail][:_NEAR]
    if not page.decoded:
        return ""
    picture = data_uri("image/jpeg", sheet([page.decoded, *(one.thumbnail for one in near)]))
    told = "; ".join(f"{number}: {one.label}" for number, one in enumerate(near, start=2))
    beside = f"1 is the image; the nearest training photos: {in_markdown(told, 600)}\n\n" if near else ""
    return f"![{in_markdown(page.image)}]({picture})\n\n{beside}"


def write_explanation(folder: Path, page: ExplainPage, files: Mapping[str, bytes]) -> Path:
    """Write `folder`/explain.html and what lies beside it, each in one step. Raises StorageError."""
    write_files(folder, {**files, PAGE: explain_html(page).encode()}, "explanation")
    return folder / PAGE
