"""What is measured on every image, and how: the image properties, and nothing else about an image.

Facts of the file (from the header that tasks.decode read; no pixel is looked at):

| property | unit, range | definition |
|---|---|---|
| width, height | pixels, ≥ 1 | as stored in the file, before any EXIF orientation is applied |
| aspect_ratio | > 0 | width / height |
| bit_depth | bits | of one channel, as stored |
| bytes_per_pixel | > 0 | size of the file / (width × height) |
| jpeg_quality | 1 .. 100, or null | estimated from the quantisation tables; null where there are none |
| format, mode | name | of the file; of its pixels before they became RGB |
| channels | "1" .. "4" | as stored |
| exif_orientation | "0" .. "8" | 0: none, or not a valid one |
| icc_class | name | none, srgb, adobe_rgb, display_p3, grey, cmyk, other, or broken (see `icc_class`) |
| animated | yes, no | more than one frame |
| camera, captured_at | text, or null | EXIF; never tested for drift |

Measured on the reduced copy (see `reduce`: at most 192 pixels a side, uint8):

| property | unit, range | definition |
|---|---|---|
| luminance_mean, luminance_std | grey levels, 0 .. 255 | Y = (77 R + 150 G + 29 B) / 256 |
| luminance_p01, luminance_p99 | grey levels, 0 .. 255 | the lowest level that 1 % (99 %) of the pixels do not exceed |
| clipped_black, clipped_white | share, 0 .. 1 | of pixels with Y ≤ 2, Y ≥ 253 |
| contrast | ≥ 0 | luminance_std / (luminance_mean + 1): Peli's RMS contrast (1990), finite in the dark |
| saturation | share, 0 .. 1 | Σ (max − min) / Σ max over the pixels' channels; 0 for black |
| red_share, green_share, blue_share | share, 0 .. 1 | of the channel in the sum of all three; a third each for black |
| entropy | bits, 0 .. 8 | of the histogram of Y |
| sharpness | ≥ 0 | mean of the strongest 1 % of Y's 4-neighbour Laplacian, without sign / (luminance_std + 1) |
| edge_density | share, 0 .. 1 | of pixels where Y changes by more than 24 levels to the right plus downwards |

Sharpness is divided by the spread so that a dim lamp is not taken for a soft lens; it is relative to the frame, so that
the same photo in twice the size is as sharp.

Measured on the native crop (the middle 192 × 192 pixels, green channel, cut on the file's 8-pixel grid):

| property | unit, range | definition |
|---|---|---|
| noise | grey levels, ≥ 0 | Immerkær, "Fast noise variance estimation", CVIU 64(2), 1996 |
| blockiness | 0 .. 1 | how far one phase of the 8-pixel grid stands out among steps between neighbours (see there) |

Everything up to the last division is integer arithmetic: the same pixels have the same properties on every machine.
Nothing is ever NaN or infinite. An image too small for a measure has 0 there.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from darkroom.schemas import CATEGORICAL_PROPERTIES, DESCRIPTIVE_PROPERTIES, NUMERIC_PROPERTIES

if TYPE_CHECKING:
    from tasks.decode import Header

Pixels = NDArray[np.uint8] | Image.Image  # (H, W, 3), RGB, or an image of mode RGB
Value = float | str | None

REDUCED_SIDE: Final = 192
CROP_SIDE: Final = 192
GRID: Final = 8  # JPEG's block
BLACK_LEVEL: Final = 2
WHITE_LEVEL: Final = 253
EDGE_STEP: Final = 24
LUMA: Final = (77, 150, 29)  # ITU-R BT.601 in 256ths

NAMES: Final = NUMERIC_PROPERTIES + CATEGORICAL_PROPERTIES + DESCRIPTIVE_PROPERTIES


def measure(header: Header, pixels: Pixels) -> dict[str, Value]:
    """Every image property of one decoded image, under the names of `darkroom.schemas` and in their order.

    `header` is of the file that the pixels came from; `pixels` are uint8 RGB of shape (H, W, 3), H and W ≥ 1, of any
    strides, or an image of mode RGB, and are left as they are. Raises ValueError for others.
    """
    measured: dict[str, Value] = {**_of_file(header), **measure_pixels(pixels)}
    return {name: measured[name] for name in NAMES}


def measure_pixels(pixels: Pixels) -> dict[str, float]:
    """The properties that need no file: those from `luminance_mean` on."""
    quads = with_fourth(pixels)
    reduced = reduce(quads)
    crop = native_crop(quads)
    counts = histogram(reduced.luma)
    return {
        **_of_tones(counts),
        **_of_colours(reduced),
        "sharpness": sharpness(reduced.luma, mean_and_std(counts)[1]),
        "edge_density": edge_density(reduced.luma),
        "noise": noise(crop),
        "blockiness": blockiness(crop),
    }


# --- the two views of the pixels that everything is measured on ---------------------------------------------------


def with_fourth(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W, 4) uint8: the channels, and a fourth that means nothing, as Pillow has them; then nothing is copied.

    Raises ValueError for what is no RGB.
    """
    image = pixels if isinstance(pixels, Image.Image) else _image_of(pixels)
    if image.mode != "RGB":
        raise ValueError(f"an image must be of mode RGB, not {image.mode}")
    try:
        lent = pa.array(image).flatten().buffers()[1]
        return np.frombuffer(lent, np.uint8).reshape(image.height, image.width, 4)
    except ValueError:  # too large to lie in one block
        quads = np.zeros((image.height, image.width, 4), np.uint8)
        quads[:, :, :3] = np.asarray(image)
        return quads


def _image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pillow makes three channels four several times as fast as numpy does."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"pixels must be uint8 of shape (H, W, 3), not {pixels.dtype} of {pixels.shape}")
    return Image.fromarray(pixels)


@dataclass(frozen=True)
class Reduced:
    """The pinned reduced copy: uint8 of shapes (3, h, w) and (h, w), at most REDUCED_SIDE a side."""

    channels: NDArray[np.uint8]
    luma: NDArray[np.uint8]


def reduce(quads: NDArray[np.uint8]) -> Reduced:
    """Average blocks of k × k pixels, k = ceil(longest side / 192).

    Of a block two rows and at most four columns are read, spaced evenly: it changes no mean, and bounds the cost.
    A side shorter than k is one block. What does not fill a block is cut off, half on each side.
    """
    height, width = quads.shape[:2]
    k = -(-max(height, width) // REDUCED_SIDE)
    tall, wide = min(k, height), min(k, width)
    h, w = height // tall, width // wide
    top, left = (height - h * tall) // 2, (width - w * wide) // 2
    upper = quads[top + tall // 4 :: tall, left : left + w * wide][:h]
    lower = quads[top + 3 * tall // 4 :: tall, left : left + w * wide][:h]
    # Four channels of 16 bits in one number of 64: at most 8 × 255 in each, so none overflows into the next.
    rows = np.add(upper, lower, dtype=np.uint16).view(np.uint64).reshape(h, w, wide)
    read = min(wide, 4)
    columns = [(2 * i + 1) * wide // (2 * read) for i in range(read)]
    total = rows[:, :, columns[0]].copy()
    for column in columns[1:]:
        total += rows[:, :, column]
    sums = np.ascontiguousarray(total.view(np.uint16).reshape(h, w, 4).transpose(2, 0, 1)[:3])
    sums += np.uint16(read)  # half a divisor: round, do not truncate
    sums //= np.uint16(2 * read)
    luma = sums[0] * np.uint16(LUMA[0]) + sums[1] * np.uint16(LUMA[1]) + sums[2] * np.uint16(LUMA[2]) + np.uint16(128)
    return Reduced(channels=sums.astype(np.uint8), luma=(luma >> 8).astype(np.uint8))


def native_crop(quads: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The middle of the green channel as it is, int16 of shape (≤ 192, ≤ 192); its corner is on the 8-pixel grid.

    Green, because a camera has the most and the least processed of it, and it costs no conversion.
    """
    top, left = (max(0, (side - CROP_SIDE) // 2) // GRID * GRID for side in quads.shape[:2])
    return quads[top : top + CROP_SIDE, left : left + CROP_SIDE, 1].astype(np.int16)


def histogram(luma: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels have each of the 256 levels."""
    return np.bincount(luma.ravel(), minlength=256)


# --- tones: everything from the 256 counts --------------------------------------------------------------------------

_LEVELS: Final = np.arange(256, dtype=np.int64)


def _of_tones(counts: NDArray[np.int64]) -> dict[str, float]:
    mean, std = mean_and_std(counts)
    n = int(counts.sum())
    return {
        "luminance_mean": mean,
        "luminance_std": std,
        "luminance_p01": percentile(counts, 1),
        "luminance_p99": percentile(counts, 99),
        "clipped_black": int(counts[: BLACK_LEVEL + 1].sum()) / n,
        "clipped_white": int(counts[WHITE_LEVEL:].sum()) / n,
        "contrast": std / (mean + 1),
        "entropy": entropy(counts),
    }


def mean_and_std(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Of the levels, 0 .. 255; the standard deviation."""
    n, total, squares = int(counts.sum()), int(counts @ _LEVELS), int(counts @ (_LEVELS * _LEVELS))
    return total / n, math.sqrt(max(0, n * squares - total * total)) / n


def percentile(counts: NDArray[np.int64], percent: int) -> float:
    """The lowest level that `percent` % of the pixels do not exceed."""
    below = np.cumsum(counts)
    return float(np.searchsorted(100 * below, percent * int(below[-1])))


def entropy(counts: NDArray[np.int64]) -> float:
    """Bits, 0 (one level) .. 8 (all levels equally often)."""
    shares = counts[counts > 0] / int(counts.sum())
    return float(abs(np.sum(shares * np.log2(shares))))


# --- colours --------------------------------------------------------------------------------------------------------


def _of_colours(reduced: Reduced) -> dict[str, float]:
    red, green, blue = (int(channel.sum(dtype=np.uint32)) for channel in reduced.channels)
    whole = red + green + blue
    shares = (red / whole, green / whole, blue / whole) if whole else (1 / 3, 1 / 3, 1 / 3)
    return {
        "saturation": saturation(reduced.channels),
        **dict(zip(("red_share", "green_share", "blue_share"), shares, strict=True)),
    }


def saturation(channels: NDArray[np.uint8]) -> float:
    """Saturation as in HSV, of the whole picture: bright pixels count for more, so noise in the dark does not."""
    red, green, blue = channels
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    total = int(highest.sum(dtype=np.uint32))
    return (total - int(lowest.sum(dtype=np.uint32))) / total if total else 0.0


# --- detail ---------------------------------------------------------------------------------------------------------


def sharpness(luma: NDArray[np.uint8], luminance_std: float) -> float:
    """Mean of the strongest 1 % of |Laplacian| over (luminance_std + 1); 0 for a picture under 3 × 3.

    Only the strongest, because a sensor's noise is everywhere: over all pixels, dark noisy photos would pass for sharp.
    """
    if min(luma.shape) < 3:
        return 0.0
    y = luma.astype(np.int16)
    laplacian = 4 * y[1:-1, 1:-1]
    laplacian -= y[:-2, 1:-1]
    laplacian -= y[2:, 1:-1]
    laplacian -= y[1:-1, :-2]
    laplacian -= y[1:-1, 2:]
    return mean_of_largest(np.abs(laplacian, out=laplacian), 1) / (luminance_std + 1)


def mean_of_largest(values: NDArray[np.int16], percent: int) -> float:
    """Mean of the largest `percent` % (at least one) of values ≥ 0."""
    counts = np.bincount(values.ravel())[::-1]
    wanted = max(1, values.size * percent // 100)
    taken = np.diff(np.minimum(np.cumsum(counts), wanted), prepend=0)
    return int(taken @ np.arange(counts.size - 1, -1, -1)) / wanted


def edge_density(luma: NDArray[np.uint8]) -> float:
    """Share of pixels with a step to the right plus downwards above EDGE_STEP; 0 for a picture under 2 × 2."""
    if min(luma.shape) < 2:
        return 0.0
    y = luma.astype(np.int16)
    here = y[:-1, :-1]
    step = np.abs(y[:-1, 1:] - here)
    step += np.abs(y[1:, :-1] - here)
    return int(np.count_nonzero(step > EDGE_STEP)) / int(step.size)


def noise(crop: NDArray[np.int16]) -> float:
    """Standard deviation of the noise in grey levels: mean size of the difference of two Laplacians; 0 under 3 × 3.

    The mask [1 −2 1; −2 4 −2; 1 −2 1] does not see flat or evenly sloped surfaces. Fine texture counts as noise.
    """
    height, width = int(crop.shape[0]), int(crop.shape[1])
    if min(height, width) < 3:
        return 0.0
    across = crop[:, :-2] + crop[:, 2:]
    across -= 2 * crop[:, 1:-1]
    both = across[:-2] + across[2:]
    both -= across[1:-1]
    both -= across[1:-1]
    total = int(np.abs(both, out=both).sum(axis=0, dtype=np.int32).sum())
    return math.sqrt(math.pi / 2) * total / (6 * (height - 2) * (width - 2))


def blockiness(crop: NDArray[np.int16]) -> float:
    """How much steps between neighbours are larger on one of the 8 phases of an 8-pixel grid, 0 .. 1.

    For each direction the mean absolute step is taken for each phase: (largest − mean of the others) / (their sum + 1).
    Any phase, because a crop or a turn moves the grid and leaves the blocks. 0 under two grid cells a side.
    """
    # At most 192 steps of at most 255: sixteen bits hold their sum, and are summed several times as fast.
    across = np.abs(crop[:, 1:] - crop[:, :-1]).view(np.uint16).sum(axis=0, dtype=np.uint16)
    down = np.abs(crop[1:] - crop[:-1]).view(np.uint16).sum(axis=1, dtype=np.uint16)
    return (_outstanding(across, crop.shape[0]) + _outstanding(down, crop.shape[1])) / 2


def _outstanding(steps: NDArray[np.uint16], n: int) -> float:
    """Of the sums of `n` steps at each position."""
    if steps.size < 2 * GRID:
        return 0.0
    phases = np.arange(steps.size) % GRID
    means: list[float] = (np.bincount(phases, weights=steps) / (n * np.bincount(phases))).tolist()
    peak = max(means)
    others = (sum(means) - peak) / (GRID - 1)
    return max(0.0, peak - others) / (peak + others + 1)


# --- facts of the file ----------------------------------------------------------------------------------------------


def _of_file(header: Header) -> dict[str, Value]:
    return {
        "width": float(header.width),
        "height": float(header.height),
        "aspect_ratio": header.width / header.height,
        "bit_depth": float(header.bit_depth),
        "bytes_per_pixel": header.size / (header.width * header.height),
        "jpeg_quality": None if header.jpeg_quality is None else float(header.jpeg_quality),
        "format": header.format,
        "mode": header.mode,
        "channels": str(header.channels),
        "exif_orientation": str(header.exif_orientation),
        "icc_class": icc_class(header.icc),
        "animated": "yes" if header.frames > 1 else "no",
        "camera": header.camera,
        "captured_at": header.captured_at,
    }


_SPACES_BY_WORDS: Final = (
    ("adobe_rgb", ("adobe rgb", "adobergb")),
    ("display_p3", ("display p3", "displayp3")),
    ("srgb", ("srgb", "61966-2-1", "61966-2.1")),
)
_SPACES_BY_NAME: Final = {"p3": "display_p3", "c2": "srgb"}  # the short profiles that large sites put into thumbnails


def icc_class(profile: bytes | None) -> str:
    """The kind of an ICC profile, from its header and its description (ICC.1:2022, 7.2 and 9.2.41).

    Nothing is built from the profile: it costs microseconds, and a hostile one is only bytes.
    """
    if not profile:
        return "none"
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return "broken"
    space = profile[16:20]
    if space == b"GRAY":
        return "grey"
    if space == b"CMYK":
        return "cmyk"
    if space != b"RGB ":
        return "other"
    description = _icc_description(profile)
    if description is None:
        return "broken"
    for space_name, words in _SPACES_BY_WORDS:
        if any(word in description for word in words):
            return space_name
    return _SPACES_BY_NAME.get(description.strip(), "other")


def _icc_description(profile: bytes) -> str | None:
    """The text of the `desc` tag in lower case; None when the tag table does not hold."""
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > 1000 or 132 + 12 * count > len(profile):
        return None
    for index in range(count):
        signature, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if signature == b"desc":
            tag = profile[offset : offset + min(size, 2048)]
            if len(tag) < 12:
                return None
            return _first_text(tag)
    return None


def _first_text(tag: bytes) -> str | None:
    """Of a multiLocalizedUnicode tag (UTF-16, several languages) or a textDescription one (version 2: ASCII)."""
    if tag[:4] != b"mluc":
        return tag[12:].split(b"\0", 1)[0].decode("latin-1").lower()
    if len(tag) < 28:
        return None
    length, offset = struct.unpack_from(">II", tag, 20)
    return tag[offset : offset + length].decode("utf-16-be", "replace").lower() or None
