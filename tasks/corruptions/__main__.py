"""`python -m tasks.corruptions`: draw the contact sheet, or print the table, of docs/corruptions.md."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom import demo_world
from tasks.corruptions.pixels import Pixels
from tasks.corruptions.sheet import contact_sheet
from tasks.corruptions.table import ladder_table


def main() -> None:
    """Write the picture where `--sheet` says; without it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tasks.corruptions", description=__doc__)
    parser.add_argument("--sheet", type=Path, help="where to write the contact sheet, a JPEG")
    parser.add_argument("--photo", type=Path, help="the photo to corrupt; without it one of the demo's world is drawn")
    arguments = parser.parse_args()
    if arguments.sheet is None:
        print(ladder_table())
        return
    pixels = _drawn() if arguments.photo is None else _read(arguments.photo)
    contact_sheet(pixels).save(arguments.sheet, "JPEG", quality=50, optimize=True)


def _drawn() -> Pixels:
    with tempfile.TemporaryDirectory() as folder:
        demo_world.draw_training(Path(folder), images=demo_world.SESSION_IMAGES)
        # A gear with rust: fine detail, and colour.
        return _read(sorted(Path(folder, "gear").rglob("*.jpg"))[2])


def _read(photo: Path) -> Pixels:
    with Image.open(photo) as image:
        return np.array(image.convert("RGB"))


if __name__ == "__main__":
    main()
