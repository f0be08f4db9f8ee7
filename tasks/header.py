"""What an opened image says about itself before its pixels: size, mode, orientation, camera, JPEG quality."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MAKE, _MODEL, _ORIENTATION, _CHANGED, _EXIF_IFD, _CAPTURED = 0x010F, 0x0110, 0x0112, 0x0132, 0x8769, 0x9003
_TIFF_BITS = 258
_DATE: Final = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_MODE_BITS: Final = {"1": 1, "I": 32, "F": 32}

# Rec. ITU-T T.81 annex K.1, luminance, row by row: the table that libjpeg scales by its quality.
_LUMINANCE: Final = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    width and height are the file's, before any orientation. exif_orientation is 1 … 8, and 0 where there is none or an
    invalid one. jpeg_quality is libjpeg's scale, estimated from the quantisation table; None for other formats.
    captured_at is the camera's local time, `2024-05-31T17:02:11`.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int
    bit_depth: int
    channels: int
    exif_orientation: int
    icc: bytes | None
    jpeg_quality: float | None
    camera: str | None
    captured_at: str | None
    size: int


def header_of(image: Image.Image, mode: str, data: bytes) -> Header:
    """The header of an opened image; `mode` as it was opened (a draft or a load may have changed it)."""
    exif = _exif(image)
    # Pillow turns a TIFF upright as it loads, whatever anybody wants: what is left to turn is nothing.
    orientation = 0 if image.format == "TIFF" else exif.get(_ORIENTATION)
    icc = image.info.get("icc_profile")
    return Header(
        format=image.format or "",
        mode=mode,
        width=image.width,
        height=image.height,
        frames=_frames(image),
        bit_depth=_bit_depth(image, mode, data),
        channels=Image.getmodebands(mode),
        exif_orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 0,
        icc=bytes(icc) if isinstance(icc, bytes | bytearray) and icc else None,
        jpeg_quality=_jpeg_quality(image),
        camera=_camera(exif),
        captured_at=_captured_at(exif),
        size=len(data),
    )


def _exif(image: Image.Image) -> dict[int, Any]:
    """Tags by number; a broken block is no block. A PNG may carry it after its pixels: then it is there once loaded."""
    if image.format == "PNG" and "exif" not in image.info:
        return {}  # Pillow would decode the pixels to look behind them
    try:
        exif = image.getexif()
        tags = dict(exif)
        tags.update(exif.get_ifd(_EXIF_IFD))
    except Exception:  # any type: parsers of broken metadata raise what they like
        return {}
    return tags


def _frames(image: Image.Image) -> int:
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except Exception:  # a broken chain of pages; the first may be fine
        return 1


def _bit_depth(image: Image.Image, mode: str, data: bytes) -> int:
    """Of one channel, in the file where the format says so, else in memory."""
    if image.format == "PNG" and len(data) > 24:
        return data[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS)
        if isinstance(bits, tuple) and bits and isinstance(bits[0], int):
            return bits[0]
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        return 16
    return _MODE_BITS.get(mode, 8)


@cache
def _tables() -> NDArray[np.int64]:
    """(100, 64): libjpeg's luminance table of each quality 1 … 100."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    scaled: NDArray[np.int64] = (_LUMINANCE[None, :] * scale[:, None] + 50) // 100
    return scaled.clip(1, 255)


def _jpeg_quality(image: Image.Image) -> float | None:
    """The quality whose table is nearest; cameras with tables of their own get the one that loses as much."""
    tables = getattr(image, "quantization", None)
    if not isinstance(tables, dict) or not tables:
        return None
    table = np.asarray(tables[min(tables)])
    if table.shape != (64,):
        return None
    return float(np.abs(_tables() - table).sum(axis=1).argmin() + 1)


def _words(value: object) -> str:
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else ""


def _camera(exif: dict[int, Any]) -> str | None:
    make, model = _words(exif.get(_MAKE)), _words(exif.get(_MODEL))
    name = model if make and model.startswith(make) else f"{make} {model}".strip()
    return name[:100] or None


def _captured_at(exif: dict[int, Any]) -> str | None:
    for tag in (_CAPTURED, _CHANGED):
        found = _DATE.match(_words(exif.get(tag)))
        if found:
            try:
                return datetime(*map(int, found.groups())).isoformat()  # type: ignore[arg-type]
            except ValueError:  # 0000:00:00, or a 70th second
                continue
    return None
