"""A file's bytes → header and uint8 RGB pixels as the decode knobs say, or a reason code.

The only room that opens an image. Formats are tried by the name that the first bytes announce and only if the
preprocessing allows it: EPS would start Ghostscript. Pillow's switches (LOAD_TRUNCATED_IMAGES, MAX_IMAGE_PIXELS) and
Python's warning filters belong to the process, so one image is decoded at a time in a process; many decode in many
(tasks.workers), which also hold the limits of time and memory.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, features

from darkroom.reasons import Reason
from tasks.colours import to_rgb
from tasks.formats import FORMAT_EXTENSIONS, sniff
from tasks.header import Header, header_of
from tasks.knobs import Decode
from tasks.refusal import ImageRefused, refusal

__all__ = [
    "FORMAT_EXTENSIONS",
    "Decoded",
    "Header",
    "ImageRefused",
    "Limits",
    "decode",
    "decoder_libraries",
    "read_header",
    "sniff",
    "thumbnail",
    "upright",
]

Raster = NDArray[np.uint8] | Image.Image  # (H, W, 3), or the same in mode RGB

_PILLOW: Final = threading.RLock()
# Which EXIF orientation is turned upright by these.
_QUARTERS: Final = {"clockwise": 6, "anticlockwise": 8}


@dataclass(frozen=True)
class Limits:
    """What one image may cost. Seconds and bytes of memory hold where decoding can be killed: tasks.workers."""

    max_pixels: int = 100_000_000
    max_bytes: int = 200_000_000
    max_seconds: float = 20.0
    max_memory: int = 2 * 1024**3


@dataclass(frozen=True)
class Decoded:
    """Header and pixels, as whatever decoded them has them: an array costs a copy that a resizer may not need."""

    header: Header
    raster: Raster

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, RGB, read-only."""
        pixels = np.asarray(self.raster)
        pixels.setflags(write=False)
        return pixels


def read_header(data: bytes, knobs: Decode, limits: Limits | None = None) -> Header:
    """The header alone; no pixel is decoded. ImageRefused: not such a file.

    Metadata that a PNG carries after its pixels is seen by `decode` only.
    """
    limits = limits or Limits()
    name = _allowed_format(data, knobs, limits)
    with _pillow(knobs, limits), _opened(data, name, knobs, limits) as image:
        return header_of(image, image.mode, data)


def decode(data: bytes, knobs: Decode, limits: Limits | None = None) -> Decoded:
    """Header and pixels. ImageRefused, and nothing else, for whatever these bytes are."""
    limits = limits or Limits()
    name = _allowed_format(data, knobs, limits)
    with _pillow(knobs, limits):
        with _opened(data, name, knobs, limits) as image:
            width, height, mode = image.width, image.height, image.mode
            raster: Raster
            if knobs.decoder == "pillow":
                raster = _load(image, knobs)
            elif knobs.decoder == "tensorflow":
                raster = _tensorflow(data, name, knobs)
            else:
                raster = _opencv(data, name, mode, knobs)
            header = replace(header_of(image, mode, data), width=width, height=height)
        turn = _QUARTERS.get(knobs.exif_orientation, 1)
        if knobs.exif_orientation == "applied" and knobs.decoder != "opencv":  # which has turned it already
            turn = header.exif_orientation
        if turn > 1:
            raster = upright(np.asarray(raster), turn)
        return Decoded(header, _degraded(raster, knobs))


def upright(pixels: NDArray[np.uint8], exif_orientation: int) -> NDArray[np.uint8]:
    """Pixels turned as EXIF says: 1 … 8, and anything else turns nothing. The same as PIL.ImageOps.exif_transpose."""
    turned = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 1),
    }.get(exif_orientation)
    return pixels if turned is None else np.ascontiguousarray(turned(pixels))


def thumbnail(pixels: NDArray[np.uint8], longest_side: int, quality: int = 80) -> bytes:
    """A small JPEG of (H, W, 3) pixels for people to look at."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest_side, longest_side))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return held.getvalue()


def decoder_libraries() -> dict[str, str]:
    """The libraries that pixels depend on, with versions (Pillow#6262, #6536, libjpeg-turbo#718)."""
    found = {"pillow": features.version("pil") or "none"}
    for module in ("littlecms2", "webp", "avif"):
        found[module] = features.version_module(module) or "none"
    for codec in ("jpg", "zlib", "libtiff"):
        found[codec] = features.version_codec(codec) or "none"
    found["libjpeg_turbo"] = features.version_feature("libjpeg_turbo") or "none"
    return found


def _allowed_format(data: bytes, knobs: Decode, limits: Limits) -> str:
    if not data:
        raise ImageRefused(Reason.EMPTY_FILE)
    if len(data) > limits.max_bytes:
        raise ImageRefused(Reason.TOO_LARGE_FILE, f"{len(data):,} bytes, the limit is {limits.max_bytes:,}")
    name = sniff(data[:64])
    if name is None:
        raise ImageRefused(Reason.UNKNOWN_FORMAT, f"begins with {data[:8]!r}")
    if name not in knobs.formats and not (name == "JPEG" and "MPO" in knobs.formats):
        raise ImageRefused(Reason.FORMAT_NOT_ALLOWED, f"{name}; allowed are {', '.join(knobs.formats)}")
    return name


@contextmanager
def _pillow(knobs: Decode, limits: Limits) -> Iterator[None]:
    """Pillow's process-wide switches as pinned, its warnings kept in, and every way in which it fails as a reason."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES = knobs.truncated == "padded"
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            yield
        except Exception as problem:
            raise refusal(problem) from problem
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def _opened(data: bytes, name: str, knobs: Decode, limits: Limits) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[name])
    if image.format not in knobs.formats:  # a JPEG with more pictures in it is an MPO
        raise ImageRefused(Reason.FORMAT_NOT_ALLOWED, f"{image.format}; allowed are {', '.join(knobs.formats)}")
    if image.width * image.height > limits.max_pixels:
        found = f"{image.width:,} × {image.height:,} pixels, the limit is {limits.max_pixels:,}"
        raise ImageRefused(Reason.TOO_MANY_PIXELS, found)
    return image


def _load(image: Image.Image, knobs: Decode) -> Image.Image:
    if image.format in ("JPEG", "MPO"):
        if knobs.grey == "decoder" and image.mode == "RGB":
            image.draft("L", image.size)
        if knobs.jpeg_ratio > 1:
            size = (max(1, image.width // knobs.jpeg_ratio), max(1, image.height // knobs.jpeg_ratio))
            image.draft(image.mode, size)
    image.load()
    rgb = to_rgb(image, knobs)
    # To count its pages is to turn them, and its pixels are gone.
    return rgb.copy() if rgb is image and image.format == "TIFF" else rgb


def _tensorflow(data: bytes, name: str, knobs: Decode) -> NDArray[np.uint8]:
    """As tf.io decodes: alpha dropped, high byte of 16 bits, the first frame; it reads no EXIF and no profile."""
    import tensorflow as tf

    channels = 1 if knobs.grey == "decoder" else 3
    with tf.device("/CPU:0"):
        if name == "JPEG":
            method = "INTEGER_FAST" if knobs.dct_method == "fast" else "INTEGER_ACCURATE"
            image = tf.io.decode_jpeg(data, channels=channels, ratio=knobs.jpeg_ratio, dct_method=method)
        else:
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
    pixels: NDArray[np.uint8] = np.asarray(memoryview(image))  # where TensorFlow has them
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    elif knobs.grey != "no":
        pixels = _grey(pixels)
    return pixels


def _opencv(data: bytes, name: str, mode: str, knobs: Decode) -> NDArray[np.uint8]:
    """As cv2.imread decodes."""
    from tasks import opencv

    if mode == "F":  # it would give their whole parts, or what is left of them in eight bits
        raise ImageRefused(Reason.MODE_NOT_SUPPORTED, "mode F: floating-point pixels")
    pixels = opencv.decoded(data, name, knobs)
    return _grey(pixels) if knobs.grey == "luma" else pixels


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _degraded(raster: Raster, knobs: Decode) -> Raster:
    """What happens to an image between the camera and the folder: made small, saved again."""
    if not knobs.thumbnail and not knobs.reencoded:
        return raster
    image: Any = Image.fromarray(np.asarray(raster))
    if knobs.thumbnail:
        image.thumbnail((knobs.thumbnail, knobs.thumbnail), Image.Resampling.BICUBIC)
    if knobs.reencoded:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=knobs.reencoded)
        image = Image.open(held, formats=["JPEG"])
    return image.convert("RGB")  # type: ignore[no-any-return]
