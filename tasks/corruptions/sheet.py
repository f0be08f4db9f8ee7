"""The contact sheet: one photo through the whole ladder, a row a kind, for a person to look at."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tasks.corruptions.ladder import KINDS, STRENGTHS, corrupt
from tasks.corruptions.pixels import Pixels

_TILE_SIDE: Final = 128  # the longer side, pixels
_LEAST_TILE: Final = 24  # room for a label
_LABEL_WIDTH: Final = 132
_GAP: Final = 3
_HEADER: Final = 20
_INK: Final = (20, 20, 20)
_PAPER: Final = (255, 255, 255)


def contact_sheet(pixels: Pixels, *, seed: int = 0) -> Image.Image:
    """(H, W, 3) uint8 → an RGB picture: rows are KINDS; columns the original and the five strengths; labelled.

    The photo is reduced first and corrupted then: every pixel of a tile is one of the corrupted image.
    """
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    photo.thumbnail((_TILE_SIDE, _TILE_SIDE))
    small = np.array(photo)
    columns, rows = len(STRENGTHS) + 1, len(KINDS)
    across, down = max(photo.width, _LEAST_TILE) + _GAP, max(photo.height, _LEAST_TILE) + _GAP
    sheet = Image.new("RGB", (_LABEL_WIDTH + columns * across, _HEADER + rows * down), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for column, label in enumerate(("original", *map(str, STRENGTHS))):
        pen.text((_LABEL_WIDTH + column * across + photo.width // 2, _HEADER // 2), label, _INK, font, anchor="mm")
    for row, kind in enumerate(KINDS):
        top = _HEADER + row * down
        pen.text((_LABEL_WIDTH - 8, top + photo.height // 2), kind, _INK, font, anchor="rm")
        for column, tile in enumerate((small, *(corrupt(small, kind, strength, seed) for strength in STRENGTHS))):
            sheet.paste(Image.fromarray(tile), (_LABEL_WIDTH + column * across, top))
    return sheet
