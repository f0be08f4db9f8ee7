"""The contact sheet: one photo through the whole ladder, a row a kind, for a person to look at."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tasks.corruptions.ladder import KINDS, STRENGTHS, corrupt
from tasks.corruptions.lengths import Pixels

_TILE_WIDTH: Final = 128
_LABEL_WIDTH: Final = 128
_GAP: Final = 3
_HEADER: Final = 20
_INK: Final = (20, 20, 20)
_PAPER: Final = (255, 255, 255)


def contact_sheet(pixels: Pixels, *, seed: int = 0) -> Image.Image:
    """(H, W, 3) uint8 → an RGB picture: rows are KINDS; columns the original and the five strengths; labelled.

    The photo is corrupted in the size it has, and reduced afterwards.
    """
    height, width = pixels.shape[:2]
    tile = (_TILE_WIDTH, max(1, round(height * _TILE_WIDTH / width)))
    columns, rows = len(STRENGTHS) + 1, len(KINDS)
    row_height, column_width = max(tile[1], _HEADER) + _GAP, tile[0] + _GAP
    sheet = Image.new("RGB", (_LABEL_WIDTH + columns * column_width, _HEADER + rows * row_height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for column, label in enumerate(("original", *map(str, STRENGTHS))):
        middle = _LABEL_WIDTH + column * column_width + tile[0] // 2
        pen.text((middle, _HEADER // 2), label, _INK, font, anchor="mm")
    for row, kind in enumerate(KINDS):
        top = _HEADER + row * row_height
        pen.text((_LABEL_WIDTH - 8, top + tile[1] // 2), kind, _INK, font, anchor="rm")
        shown = (pixels, *(corrupt(pixels, kind, strength, seed) for strength in STRENGTHS))
        for column, one in enumerate(shown):
            reduced = Image.fromarray(np.ascontiguousarray(one)).resize(tile, Image.Resampling.BOX)
            sheet.paste(reduced, (_LABEL_WIDTH + column * column_width, top))
    return sheet
