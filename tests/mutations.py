"""How files go bad, and how somebody would make them bad: bits, ends, pieces, lengths, and bodies under other headers.

Everything is drawn by a `random.Random` that is given: the same seed gives the same file. JPEG, PNG and RIFF (WebP) are
known by their pieces; what has others (GIF, BMP, TIFF, tables, JSON) is cut into sixteen.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Final

# What overflows, what is nothing, what is as large as can be, and what lies beside these.
NUMBERS: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = 64

Mutation = Callable[[bytes, bytes, Random], bytes]


def mutated(data: bytes, other: bytes, draw: Random) -> tuple[str, bytes]:
    """One to three mutations of `data`, with their names; some take a part of `other`."""
    names = [draw.choice(list(MUTATIONS)) for _ in range(draw.choice((1, 1, 2, 3)))]
    for name in names:
        data = MUTATIONS[name](data, other, draw)
    if data.startswith(_PNG) and draw.random() < 0.5:
        names, data = [*names, "checksums hold"], with_checksums(data)
    return " + ".join(names), data


def pieces(data: bytes) -> list[bytes]:
    """Chunks of a PNG or of RIFF, segments of a JPEG with what follows them, or sixteen parts: all of `data`."""
    if data.startswith(_PNG):
        ends = [8, *_ends(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))]
    elif data.startswith(b"RIFF"):
        ends = [12, *_ends(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)]
    elif data.startswith(b"\xff\xd8"):
        ends = [2, *_ends(data, 2, lambda at: _segment(data, at))]
    else:
        ends = [len(data) * part // 16 for part in range(1, 16)]
    ends = sorted({0, *(end for end in ends if end < len(data)), len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def _ends(data: bytes, at: int, length: Callable[[int], int]) -> Iterator[int]:
    while at < len(data):
        at += max(1, length(at))
        yield at


def _segment(data: bytes, at: int) -> int:
    """After the start of the scan the rest is one."""
    scan = data[at : at + 2] in (b"\xff\xda", b"") or data[at : at + 1] != b"\xff"
    return len(data) if scan else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them: a decoder looks further than at these."""
    first, *chunks = pieces(data)
    return first + b"".join(
        chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4])) if len(chunk) >= 12 else chunk for chunk in chunks
    )


def _span(data: bytes, draw: Random) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.choice((1, 4, 16, 64, 512, 4096)))


def _bits(data: bytes, _: bytes, draw: Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8, 64)) if data else 0):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _number(data: bytes, below: int, draw: Random) -> bytes:
    """A number of one, two or four bytes, in either order, becomes another."""
    width = draw.choice((1, 2, 4))
    at = draw.randrange(max(1, min(below, len(data) - width)))
    number = draw.choice(NUMBERS) & (256**width - 1)
    return data[:at] + number.to_bytes(width, draw.choice(("big", "little"))) + data[at + width :]


def _length(data: bytes, _: bytes, draw: Random) -> bytes:
    """One of the first numbers of a piece, which is its length or one of its sizes."""
    parts = pieces(data)
    if not parts:
        return data
    which = draw.randrange(len(parts))
    parts[which] = _number(parts[which], 16, draw)
    return b"".join(parts)


def _cut(data: bytes, _: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _hole(data: bytes, _: bytes, draw: Random) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + data[end:]


def _never_written(data: bytes, _: bytes, draw: Random) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + bytes(end - start) + data[end:]


def _repeated(data: bytes, _: bytes, draw: Random) -> bytes:
    start, end = _span(data, draw)
    return data[:end] + data[start:end] * draw.choice((1, 1, 8)) + data[end:]


def _spliced(data: bytes, other: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def _other_body(data: bytes, other: bytes, draw: Random) -> bytes:
    """The header of one format on the body of another."""
    length = draw.choice((2, 3, 8, 12, 26, _HEADER))
    return data[:length] + other[length:]


def _appended(data: bytes, other: bytes, draw: Random) -> bytes:
    return data + draw.choice((other, bytes(512), draw.randbytes(64), data))


def _noise(data: bytes, _: bytes, draw: Random) -> bytes:
    length = draw.randrange(_HEADER)
    return data[:length] + draw.randbytes(draw.choice((0, 16, 512, 4096)))


def _ordered(data: bytes, _: bytes, draw: Random) -> bytes:
    parts = pieces(data)
    tail = parts[1:]
    draw.shuffle(tail)
    return b"".join([*parts[:1], *tail])


def _exchanged(data: bytes, other: bytes, draw: Random) -> bytes:
    """A piece goes, comes twice, or is one of the other file's."""
    parts, others = pieces(data), pieces(other)
    if not parts or not others:
        return data
    which = draw.randrange(len(parts))
    parts[which : which + 1] = draw.choice(([], [parts[which]] * 2, [draw.choice(others)]))
    return b"".join(parts)


MUTATIONS: Final[dict[str, Mutation]] = {
    "bits flipped": _bits,
    "another number": lambda data, _, draw: _number(data, len(data), draw),
    "another number in the header": lambda data, _, draw: _number(data, _HEADER, draw),
    "a length that lies": _length,
    "cut short": _cut,
    "a hole": _hole,
    "never written": _never_written,
    "repeated": _repeated,
    "spliced": _spliced,
    "the body of another": _other_body,
    "appended": _appended,
    "noise after the header": _noise,
    "pieces in another order": _ordered,
    "a piece exchanged": _exchanged,
}
