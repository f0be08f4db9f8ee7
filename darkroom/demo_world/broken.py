"""What else lies in an inbox: files that are named like images and are none, or no longer."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path


def _png_bomb(side: int) -> bytes:
    """A well-formed PNG header that promises side × side pixels, in under 100 bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def draw_broken(folder: Path, whole_jpeg: bytes) -> tuple[str, ...]:
    """Write the broken files into an existing folder, and return their names.

    Args:
        folder: an existing folder.
        whole_jpeg: a photo, of which two files get the first part only.

    """
    files = {
        "cut-half.jpg": whole_jpeg[: len(whole_jpeg) // 2],
        "cut-early.jpg": whole_jpeg[:700],
        "upload-failed.jpg": b"",
        "readme-first.jpg": b"Please retake: the lens was dirty. Station B, late shift.\n",
        "snapshot.png": b"<!DOCTYPE html>\n<html><body><h1>502 Bad Gateway</h1></body></html>\n",
        "panorama.png": _png_bomb(60_000),
        "notes.txt": b"late shift: tray 4 held bolts from the other line\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return tuple(files)
