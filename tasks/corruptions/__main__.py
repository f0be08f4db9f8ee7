"""`python -m tasks.corruptions SHEET [--photo FILE]`: draw the contact sheet, by default of a photo of the demo's world."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom import demo_world
from tasks.corruptions.lengths import Pixels
from tasks.corruptions.sheet import contact_sheet


def main() -> None:
    """Write the picture of the documents, or that of a photo of one's own."""
    parser = argparse.ArgumentParser(prog="python -m tasks.corruptions", description=__doc__)
    parser.add_argument("sheet", type=Path, help="where to write the picture")
    parser.add_argument("--photo", type=Path, help="the photo to corrupt; without it one is drawn")
    arguments = parser.parse_args()
    pixels = _drawn() if arguments.photo is None else _read(arguments.photo)
    contact_sheet(pixels).save(arguments.sheet, quality=70, optimize=True)


def _drawn() -> Pixels:
    with tempfile.TemporaryDirectory() as folder:
        demo_world.draw_training(Path(folder), images=4)
        return _read(sorted(Path(folder, "gear").rglob("*.jpg"))[0])


def _read(photo: Path) -> Pixels:
    with Image.open(photo) as image:
        return np.array(image.convert("RGB"))


if __name__ == "__main__":
    main()
