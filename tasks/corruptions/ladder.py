"""The ladder: every kind of corruption with its five strengths, where they are from, and how chance is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from tasks.corruptions import handling, light, noise, optics
from tasks.corruptions.fog import fog
from tasks.corruptions.pixels import LARGEST_SIDE, Pixels

STRENGTHS: Final = (1, 2, 3, 4, 5)

# ImageNet-C: kind and parameters of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
# Corruptions and Perturbations", arXiv 1903.12261, as their published script has them. "ours": chosen here.
Source = Literal["ImageNet-C", "ours"]


@dataclass(frozen=True)
class Corruption:
    """One kind: `apply(pixels, rng, *parameters[strength - 1])` gives new pixels of the same shape."""

    name: str
    apply: Callable[..., Pixels]
    meaning: str  # of the parameters, in the order of each tuple
    parameters: tuple[tuple[float, ...], ...]  # weakest first
    source: Source
    stands_for: str  # in a real camera


LADDER: Final[tuple[Corruption, ...]] = (
    Corruption(
        "gaussian_noise",
        noise.gaussian_noise,
        "standard deviation, share of full scale",
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
        "ImageNet-C",
        "noise of the electronics: high gain, a hot sensor",
    ),
    Corruption(
        "shot_noise",
        noise.shot_noise,
        "photons that make white",
        ((60,), (25,), (12,), (5,), (3,)),
        "ImageNet-C",
        "few photons: a short exposure in little light",
    ),
    Corruption(
        "impulse_noise",
        noise.impulse_noise,
        "share of values",
        ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
        "ImageNet-C",
        "dead and hot pixels, a bad cable",
    ),
    Corruption(
        "speckle_noise",
        noise.speckle_noise,
        "standard deviation, share of the value",
        ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
        "ImageNet-C",
        "uneven gain, laser light",
    ),
    Corruption(
        "gaussian_blur",
        optics.gaussian_blur,
        "standard deviation, pixels of 224",
        ((1,), (2,), (3,), (4,), (6,)),
        "ImageNet-C",
        "a soft or greasy lens",
    ),
    Corruption(
        "defocus_blur",
        optics.defocus_blur,
        "radius, pixels of 224",
        ((3,), (4,), (6,), (8,), (10,)),
        "ImageNet-C",
        "focus at another distance, a taller part",
    ),
    Corruption(
        "motion_blur",
        optics.motion_blur,
        "radius and standard deviation, pixels of 224",
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "ImageNet-C",
        "the belt moves during the exposure, or the mount shakes",
    ),
    Corruption(
        "zoom_blur",
        optics.zoom_blur,
        "largest enlargement",
        ((1.11,), (1.15,), (1.2,), (1.24,), (1.3,)),
        "ImageNet-C",
        "the part comes nearer during the exposure",
    ),
    Corruption(
        "fog",
        fog,
        "amount, and fall of the finer octaves",
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "ImageNet-C",
        "steam, dust, a misted window",
    ),
    Corruption(
        "brightness",
        light.brightness,
        "added to HSV's value, share of full scale",
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        "ImageNet-C",
        "exposed too long, a new lamp",
    ),
    Corruption(
        "darkness",
        light.darkness,
        "stops (halvings of the light)",
        ((0.5,), (1,), (1.75,), (2.5,), (3.5,)),
        "ours",
        "a dimmed or failing lamp",
    ),
    Corruption(
        "contrast",
        light.contrast,
        "factor on the distance from the mean",
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        "ImageNet-C",
        "stray light, a dirty window",
    ),
    Corruption(
        "saturate",
        light.colourfulness,
        "factor on the distance from grey",
        ((1.5,), (2,), (3,), (5,), (8,)),
        "ours",
        "a colour setting of the camera turned up",
    ),
    Corruption(
        "desaturate",
        light.colourfulness,
        "factor on the distance from grey",
        ((0.7,), (0.5,), (0.3,), (0.15,), (0,)),
        "ours",
        "a camera that falls back to monochrome",
    ),
    Corruption(
        "colour_cast",
        light.colour_cast,
        "stops between red and blue",
        ((0.25,), (0.5,), (0.9,), (1.4,), (2,)),
        "ours",
        "white balance for another lamp",
    ),
    Corruption(
        "pixelate",
        handling.pixelate,
        "share of width and height",
        ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
        "ImageNet-C",
        "a camera of fewer pixels, a digital zoom",
    ),
    Corruption(
        "jpeg_compression",
        handling.jpeg_compression,
        "quality",
        ((25,), (18,), (15,), (10,), (7,)),
        "ImageNet-C",
        "a tight limit on bandwidth or storage",
    ),
    Corruption(
        "rotation",
        handling.rotation,
        "degrees",
        ((3,), (6,), (10,), (15,), (20,)),
        "ours",
        "a camera that was knocked, a part laid askew",
    ),
)

KINDS: Final[tuple[str, ...]] = tuple(one.name for one in LADDER)
_BY_NAME: Final[dict[str, Corruption]] = {one.name: one for one in LADDER}


def corrupt(pixels: Pixels, kind: str, strength: int, seed: int, *, image: int = 0) -> Pixels:
    """(H, W, 3) uint8 → the same, new and contiguous; H and W are 1 … 65,500. The input is left as it is.

    The same answer for the same pixels, kind, strength, seed and image, in any order and process. Chance is drawn from
    (seed, image, kind): the five strengths of one image are the same accident, worse and worse.

    Args:
        pixels: of any strides.
        kind: one of KINDS.
        strength: one of STRENGTHS; 1 is the weakest.
        seed: 0 or more.
        image: which image of a set this is, 0 or more; another image has other noise under the same seed.

    Raises:
        WrongUse: another kind, strength or seed; the message names those there are.
        ValueError: an array of another shape or type, or a negative `image`.

    """
    corruption, parameters = _chosen(kind, strength, seed)
    _require_pixels(pixels)
    # The name and not its place: a kind that joins the ladder leaves the others as they are.
    rng = np.random.default_rng((seed, image, zlib.crc32(kind.encode())))
    return corruption.apply(np.ascontiguousarray(pixels), rng, *parameters)


def corrupt_batch(
    images: NDArray[np.uint8], kind: str, strength: int, seed: int, *, ids: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """(n, H, W, 3) uint8 → the same, new. Image i is `corrupt(images[i], …, image=ids[i])`, bit for bit.

    So it depends neither on the batch nor on its order, if `ids` (0 or more, one an image) go with the images; without
    them it is the place in the batch. Raises as `corrupt`, and ValueError for more or fewer ids than images.
    """
    _chosen(kind, strength, seed)
    corrupted = np.empty(images.shape, np.uint8)
    for one, image, into in zip(images, range(len(images)) if ids is None else ids, corrupted, strict=True):
        into[:] = corrupt(one, kind, strength, seed, image=image)
    return corrupted


def _chosen(kind: str, strength: int, seed: int) -> tuple[Corruption, tuple[float, ...]]:
    if kind not in _BY_NAME:
        raise WrongUse("There is no such kind of corruption.", expected=", ".join(KINDS), found=kind)
    if strength not in STRENGTHS:
        raise WrongUse(f"There is no such strength of {kind}.", expected=", ".join(map(str, STRENGTHS)), found=strength)
    if seed < 0:
        raise WrongUse("The seed of a corruption is negative.", expected="0 or more", found=seed)
    corruption = _BY_NAME[kind]
    return corruption, corruption.parameters[strength - 1]


def _require_pixels(pixels: NDArray[np.uint8]) -> None:
    shaped = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    if not shaped or min(pixels.shape) < 1 or max(pixels.shape) > LARGEST_SIDE:
        raise ValueError(
            f"pixels must be uint8 (H, W, 3) with sides of 1 … {LARGEST_SIDE}, not {pixels.dtype} {pixels.shape}"
        )
