"""thumbnails.parquet: small pictures of the photos that a bundle compares an image with. Optional: may be private."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tasks.knobs import Preprocessing

THUMBNAILS: Final = "thumbnails.parquet"
SIDE: Final = 96  # pixels, the longest
LARGEST: Final = 3_000  # bytes of one
MOST: Final = 4_000  # of a bundle: 12 MB; of more photos so many are drawn by seed
_QUALITIES: Final = (75, 60, 45, 30, 15, 5)
_SCHEMA: Final = pa.schema(
    [pa.field("content_id", pa.string(), nullable=False), pa.field("jpeg", pa.binary(), nullable=False)]
)


class Images(Protocol):
    """Resized images on disk or in memory."""

    def __getitem__(self, which: NDArray[np.int64], /) -> NDArray[Any]:
        """(n, h, w, 3), 0 … 255, by their positions."""


def seal_thumbnails(
    resized: Images, profile: pd.DataFrame, preprocessing: Preprocessing, *, seed: int = 0, most: int = MOST
) -> bytes:
    """thumbnails.parquet of the profile's photos, at most `most` of them, from their resized pixels: nothing is decoded
    again. `resized` and `profile` have the same rows.
    """
    rows = np.arange(len(profile))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng([seed, most]).choice(rows, most, replace=False))
    made: list[bytes] = []
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        shapes = profile.iloc[part][["width", "height", "exif_orientation"]].itertuples(index=False, name=None)
        for pixels, (width, height, turned) in zip(resized[part], shapes, strict=True):
            made.append(small_picture(pixels, _proportions(width, height, str(turned), preprocessing)))
    file = io.BytesIO()
    table = pa.table({"content_id": profile["content_id"].iloc[rows].tolist(), "jpeg": made}, schema=_SCHEMA)
    pq.write_table(table, file, compression="none")
    return file.getvalue()


def read_thumbnails(data: bytes, content_ids: Sequence[str]) -> Mapping[str, bytes]:
    """Content id → JPEG, for those that are there."""
    table = pq.read_table(io.BytesIO(data), schema=_SCHEMA, filters=[("content_id", "in", list(content_ids))])
    return dict(zip(table["content_id"].to_pylist(), table["jpeg"].to_pylist(), strict=True))


def without_thumbnails(data: bytes, content_ids: Set[str]) -> bytes:
    """The same file without these photos."""
    table = pq.read_table(io.BytesIO(data), schema=_SCHEMA)
    kept = pc.invert(pc.is_in(table["content_id"], value_set=pa.array(sorted(content_ids), pa.string())))
    file = io.BytesIO()
    pq.write_table(table.filter(kept), file, compression="none")
    return file.getvalue()


def small_picture(pixels: NDArray[Any], proportions: float = 1.0, side: int = SIDE, largest: int = LARGEST) -> bytes:
    """A JPEG of (h, w, 3) pixels, 0 … 255, `side` at its longest; width / height is multiplied by `proportions`.

    As good as `largest` bytes allow.
    """
    height, width = pixels.shape[:2]
    ratio = width / height * proportions
    size = (side, max(1, round(side / ratio))) if ratio >= 1 else (max(1, round(side * ratio)), side)
    whole = np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255), np.uint8)
    image = Image.fromarray(whole).resize(size, Image.Resampling.BOX if max(size) < max(height, width) else None)
    for quality in _QUALITIES:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=quality, optimize=True)
        if held.tell() <= largest:
            break
    return held.getvalue()


def _proportions(width: float, height: float, exif_orientation: str, preprocessing: Preprocessing) -> float:
    """What undoes a squash; 1 where the frame keeps the photo's proportions."""
    knobs = preprocessing.geometry
    if knobs.fit != "squash":
        return 1.0
    turned = exif_orientation in "5678" and preprocessing.decode.exif_orientation == "applied"
    if turned or preprocessing.decode.exif_orientation in ("clockwise", "anticlockwise"):
        width, height = height, width
    return (width / height) / (knobs.width / knobs.height)
