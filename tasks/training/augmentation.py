"""Random changes of training images: on 0 … 255, after geometry and before values, while training only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.settings import AugmentationOptions


def augmenter(options: AugmentationOptions, seed: int) -> Any:
    """A Keras model (n, h, w, 3) float32 0 … 255 → the same, changed at random; it never becomes part of a bundle."""
    from keras import layers

    fill = {"fill_mode": options.fill_mode, "fill_value": 0.0}
    steps: list[Any] = []
    if options.horizontal_flip or options.vertical_flip:
        both = options.horizontal_flip and options.vertical_flip
        mode = "horizontal_and_vertical" if both else "horizontal" if options.horizontal_flip else "vertical"
        steps.append(layers.RandomFlip(mode, seed=seed))
    if options.rotation:
        steps.append(layers.RandomRotation(options.rotation / 360, seed=seed + 1, **fill))
    if options.width_shift or options.height_shift:
        steps.append(layers.RandomTranslation(options.height_shift, options.width_shift, seed=seed + 2, **fill))
    if options.shear:
        # Keras states shear as a share of the side: the tangent of the angle.
        share = float(np.tan(np.radians(options.shear)))
        steps.append(layers.RandomShear(x_factor=share, y_factor=0.0, seed=seed + 3, **fill))
    if options.zoom:
        steps.append(layers.RandomZoom((-options.zoom, options.zoom), seed=seed + 4, **fill))
    if options.brightness:
        steps.append(_Brightness(options.brightness, seed + 5))
    return steps


def augment(images: NDArray[Any], steps: list[Any]) -> NDArray[np.float32]:
    """Apply the steps to a batch (n, h, w, 3), 0 … 255."""
    x: Any = np.asarray(images, np.float32)
    for step in steps:
        x = step(x, training=True) if callable(getattr(step, "get_config", None)) else step(x)
    return np.clip(np.asarray(x, np.float32), 0, 255)


class _Brightness:
    """Multiplies, as ImageDataGenerator's brightness_range does; Keras' RandomBrightness adds."""

    def __init__(self, amount: float, seed: int) -> None:
        self.amount = amount
        self.random = np.random.default_rng(seed)

    def __call__(self, images: Any) -> Any:
        factors = self.random.uniform(1 - self.amount, 1 + self.amount, size=(len(images), 1, 1, 1))
        return np.asarray(images) * factors.astype(np.float32)
