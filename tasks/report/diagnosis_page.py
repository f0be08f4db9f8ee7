"""The diagnosis's page: the cause, what it rests on, the fix, and images as the model saw them; one offline file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.knobs import Values
from tasks.report.fixes import Fix
from tasks.report.page import environment
from tasks.report.thumbnails import data_uri
from tasks.report.untrusted import in_markdown
from tasks.report.written import write_files

_SIDE: Final = 224


@dataclass(frozen=True)
class ImageShown:
    """One image: what each said of it, and JPEGs of what the model was given, empty where there are none."""

    path: str
    ours: str
    theirs: str
    moved: str
    pinned: bytes = b""
    wrong: bytes = b""

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """(data: URI, alternative text) of the pictures that there are."""
        named = ((self.pinned, "as pinned"), (self.wrong, "as theirs"))
        return [
            (data_uri("image/jpeg", one), f"{self.path}, {how}")
            for one, how in named
            if one.startswith(b"\xff\xd8\xff")
        ]


@dataclass(frozen=True)
class DiagnosisPage:
    """A diagnosis, ready to be shown. `ranking`: names, share reproduced, median and worst difference."""

    bundle_id: str
    verdict: str  # no difference, explained, nearly explained, not explained
    sentence: str
    facts: Sequence[tuple[str, str]]
    mends: Sequence[str]
    fixes: Sequence[Fix]
    ranking: Sequence[tuple[str, float, float, float]]
    alike: Sequence[str]
    not_shown: Sequence[str]
    not_replayed: Sequence[tuple[str, str]]
    findings: Sequence[str]
    stages: Sequence[tuple[str, str, str]]
    images: Sequence[ImageShown]


def as_seen(tensor: NDArray[np.float32], pinned: Values) -> bytes:
    """A JPEG of a tensor (h, w, 3) read as the pinned values would make it: what the model believes that it sees.

    An image in the wrong scale is flat or glaring, one in the wrong channel order has false colours. Empty where the
    file could not be read.
    """
    if not np.isfinite(tensor).all():
        return b""
    x = np.asarray(tensor, np.float64)
    x = x / pinned.rescale_after * np.asarray(pinned.std) + np.asarray(pinned.mean)
    x = x * pinned.divide_by / pinned.rescale
    if pinned.channel_order == "bgr":
        x = x[..., ::-1]
    image = Image.fromarray(np.ascontiguousarray(np.rint(x).clip(0, 255).astype(np.uint8)))
    image.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=85)
    return held.getvalue()


def diagnosis_html(page: DiagnosisPage) -> str:
    """The page as text; every name from a file is shown as text."""
    return environment().get_template("diagnosis.html.j2").render(page=page)


def diagnosis_markdown(page: DiagnosisPage) -> str:
    """The sentence, the figures and the fix, for the Prefect UI."""
    rows = "\n".join(f"| {in_markdown(name)} | {in_markdown(value)} |" for name, value in page.facts)
    told = "\n".join(f"- {in_markdown(one, 600)}" for one in (*page.mends, *page.findings))
    return (
        f"# Diagnosis against {in_markdown(page.bundle_id)}\n\n{in_markdown(page.sentence, 900)}\n\n"
        f"| | |\n|---|---|\n{rows}\n\n{told}\n"
    )


def write_diagnosis(folder: Path, page: DiagnosisPage, told: bytes) -> Path:
    """Write `folder`/diagnosis.html and diagnosis.json, each in one step. Raises StorageError."""
    write_files(folder, {"diagnosis.json": told, "diagnosis.html": diagnosis_html(page).encode()}, "diagnosis")
    return folder / "diagnosis.html"
