"""A loaded Pillow image of any mode → RGB, as the decode knobs say: alpha, palette, deep grey, inks, profiles, grey."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageCms

from darkroom.reasons import Reason
from tasks.knobs import Decode
from tasks.refusal import ImageRefused

_MODES: Final = frozenset(
    {"1", "L", "P", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"}
)
_CANVAS: Final = {"on_white": (255, 255, 255), "on_black": (0, 0, 0)}
_PROFILE_SPACES: Final = {"RGB": ("RGB", "RGBX"), "GRAY": ("L", "1"), "CMYK": ("CMYK",), "Lab": ("LAB",)}


def to_rgb(image: Image.Image, knobs: Decode) -> Image.Image:
    """RGB of the same size. ImageRefused (mode_not_supported) for modes that the knobs refuse or nobody knows."""
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise ImageRefused(Reason.MODE_NOT_SUPPORTED, f"mode {image.mode}")
    if image.mode == "La":  # Pillow knows no other way out of it
        image = image.convert("LA")
    alpha = None if knobs.alpha == "dropped" else _alpha(image)
    colours = _colours(image, knobs)
    if alpha is not None:
        canvas = Image.new("RGB", image.size, _CANVAS[knobs.alpha])
        canvas.paste(colours, mask=alpha)
        colours = canvas
    return colours.convert("L").convert("RGB") if knobs.grey != "no" else colours


def _alpha(image: Image.Image) -> Image.Image | None:
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def _colours(image: Image.Image, knobs: Decode) -> Image.Image:
    """RGB without regard to alpha."""
    mode = image.mode
    if knobs.icc == "to_srgb":
        converted = _to_srgb(image)
        if converted is not None:
            return converted
    if mode in ("P", "PA") and knobs.palette == "index":
        return _grey(np.asarray(image.getchannel(0) if mode == "PA" else image))
    if (mode == "I" or mode.startswith("I;16")) and knobs.sixteen_bit == "high_byte":
        return _grey(np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8)
    if mode == "F" and knobs.float_pixels == "refused":
        raise ImageRefused(Reason.MODE_NOT_SUPPORTED, "mode F: floating-point pixels")
    if mode == "CMYK" and knobs.cmyk != "as_decoder":
        if knobs.cmyk == "refused":
            raise ImageRefused(Reason.MODE_NOT_SUPPORTED, "mode CMYK: four inks")
        image = ImageChops.invert(image)
    return image if mode == "RGB" else image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values, dtype=np.uint8)).convert("RGB")


def _to_srgb(image: Image.Image) -> Image.Image | None:
    """Through the embedded profile, or None where there is none, or none that fits the pixels or can be read."""
    embedded = image.info.get("icc_profile")
    if not embedded:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        plain = image.convert(
            {"RGBA": "RGB", "RGBa": "RGB", "LA": "L", "P": "RGB", "PA": "RGB"}.get(image.mode, image.mode)
        )
        if plain.mode not in _PROFILE_SPACES.get(profile.profile.xcolor_space.strip(), ()):
            return None
        return ImageCms.profileToProfile(
            plain, profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.PERCEPTUAL, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
