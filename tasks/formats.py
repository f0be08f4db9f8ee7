"""How image files begin and what they are called. No decoder is imported here: intake asks this of every path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Names as in Pillow. Those that no preprocessing allows (tasks.knobs.FORMATS) are here too, so that a folder of HEIC
# photos is quarantined with a reason, and not skipped in silence.
FORMAT_EXTENSIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
        "MPO": (".mpo",),
        "PNG": (".png", ".apng"),
        "GIF": (".gif",),
        "BMP": (".bmp", ".dib"),
        "WEBP": (".webp",),
        "TIFF": (".tif", ".tiff"),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
        "ICO": (".ico",),
        "AVIF": (".avif",),
        "HEIF": (".heic", ".heif", ".hif"),
        "JPEG2000": (".jp2", ".j2k", ".jpx"),
        "JPEGXL": (".jxl",),
        "PSD": (".psd",),
        "EPS": (".eps",),
    }
)

_FIRST: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),  # an MPO begins as the JPEG that its first frame is
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a", "JPEGXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEGXL"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
)
_PPM: Final = re.compile(rb"P[1-6][\s#]")
_BRANDS: Final = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"heim": "HEIF",
    b"heis": "HEIF",
    b"hevc": "HEIF",
    b"hevx": "HEIF",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
}


def sniff(first_bytes: bytes) -> str | None:
    """The format that a file's first 64 bytes announce, or None. Extensions lie: `.jpg` may be WEBP, PNG or GIF."""
    for magic, name in _FIRST:
        if first_bytes.startswith(magic):
            return name
    if first_bytes[:4] == b"RIFF" and first_bytes[8:12] == b"WEBP":
        return "WEBP"
    if _PPM.match(first_bytes):
        return "PPM"
    if first_bytes[4:8] == b"ftyp":
        # `mif1` says only "a picture inside"; an AVIF that begins so names itself among the compatible brands.
        brand = _BRANDS.get(first_bytes[8:12])
        if brand == "HEIF" and b"avif" in first_bytes[16:64]:
            return "AVIF"
        return brand
    return None
