"""A contact sheet as one picture: interfaces tear a table of pictures apart, and a number ties each to its line."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

_TILE: Final = 144
_GAP: Final = 6
_IN_A_ROW: Final = 6
_BADGE: Final = 24
_PAPER, _INK = (255, 255, 255), (34, 33, 30)


def sheet(thumbnails: Sequence[bytes]) -> bytes:
    """JPEGs (bytes, as the decoding processes made them) → one JPEG with a number on each, six in a row.

    What Pillow cannot open leaves its place empty, with its number. Empty bytes where there is none.
    """
    if not thumbnails:
        return b""
    columns = min(_IN_A_ROW, len(thumbnails))
    rows = math.ceil(len(thumbnails) / columns)
    # Always six wide: an interface draws a picture as wide as the page, and two photos would become posters.
    paper = Image.new("RGB", (_IN_A_ROW * (_TILE + _GAP) - _GAP, rows * (_TILE + _GAP) - _GAP), _PAPER)
    draw = ImageDraw.Draw(paper)
    font = ImageFont.load_default(15)
    for number, jpeg in enumerate(thumbnails):
        x, y = number % columns * (_TILE + _GAP), number // columns * (_TILE + _GAP)
        tile = _tile(jpeg)
        if tile is not None:
            paper.paste(tile, (x + (_TILE - tile.width) // 2, y + (_TILE - tile.height) // 2))
        draw.rectangle((x, y, x + _BADGE, y + _BADGE), fill=_INK)
        draw.text((x + _BADGE / 2, y + _BADGE / 2), f"{number + 1}", fill=_PAPER, font=font, anchor="mm")
    file = io.BytesIO()
    paper.save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


def _tile(jpeg: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
            opened.draft("RGB", (2 * _TILE, 2 * _TILE))
            return ImageOps.contain(opened.convert("RGB"), (_TILE, _TILE))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
