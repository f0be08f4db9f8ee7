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
from tasks.report.sheet import sheet
from tasks.report.thumbnails import data_uri
from tasks.report.untrusted import in_markdown
from tasks.report.written import write_files

_SIDE: Final = 224
_PAIRS: Final = 3  # on the sheet of the artifact


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
    """The sentence, the figures, the fix, and images as both saw them, for the Prefect UI."""
    rows = "\n".join(f"| {in_markdown(name)} | {in_markdown(value)} |" for name, value in page.facts)
    told = "\n".join(f"- {in_markdown(one, 600)}" for one in (*page.mends, *page.findings))
    return (
        f"## Diagnosis against {in_markdown(page.bundle_id)}\n\n{in_markdown(page.sentence, 900)}\n\n"
        f"| | |\n|---|---|\n{rows}\n\n{told}\n" + _code(page) + _sheet(page)
    )


def _code(page: DiagnosisPage) -> str:
    """The first fix, which is code of our own: nothing in it comes from a file."""
    if not page.fixes:
        return ""
    first = page.fixes[0]
    return f"\n### As the bundle prepares an image, with {in_markdown(first.library)}\n\n```python\n{first.code}\n```\n"


def _sheet(page: DiagnosisPage) -> str:
    """What the model is given: as pinned, and beside it as theirs."""
    shown = [one for one in page.images if one.pinned and one.wrong][:_PAIRS] or list(page.images[: 2 * _PAIRS])
    given = [jpeg for one in shown for jpeg in (one.pinned, one.wrong) if jpeg]
    if not given:
        return ""
    paired = all(one.wrong for one in shown)
    title = "What the model is given: as pinned, and beside it as theirs" if paired else "What the model is given"
    lines = "\n".join(
        f"- {in_markdown(one.path)}: {in_markdown(one.ours)}; theirs {in_markdown(one.theirs)}, {one.moved}"
        for one in shown
    )
    return f"\n### {title}\n\n![{title}]({data_uri('image/jpeg', sheet(given))})\n\n{lines}\n"


def write_diagnosis(folder: Path, page: DiagnosisPage, told: bytes) -> Path:
    """Write `folder`/diagnosis.html and diagnosis.json, each in one step. Raises StorageError."""
    write_files(folder, {"diagnosis.json": told, "diagnosis.html": diagnosis_html(page).encode()}, "diagnosis")
    return folder / "diagnosis.html"
