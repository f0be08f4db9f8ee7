"""What a worse camera makes of a training image, while training only: dark, flat, off in colour, unsharp, noisy.

The kinds of harm are a few of the corruption ladder's, drawn anew for every image and milder on the whole. What they
teach holds for kinds that are not here, too (fog, compression, motion): docs/training.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from darkroom.settings import AugmentationOptions
from tasks.machine import import_tensorflow

# Each harm hits every other image that is degraded: alone often enough to be learned, together as in real nights.
_EACH: Final = 0.5
_REACH: Final = 3  # standard deviations of a blur that count
_LENGTHS_ARE_OF: Final = 224.0


def degraded(options: AugmentationOptions) -> Callable[[Any, Any], Any]:
    """(n, h, w, 3) float32 tensor 0 … 255 and a seed → the same, some images made worse."""
    tf = import_tensorflow()
    harms = [
        harm(amount)
        for harm, amount in (
            (_exposure, options.exposure),
            (_contrast, options.contrast),
            (_colour, options.colour),
            (_blur, options.blur),
            (_noise, options.noise),
        )
        if amount
    ]

    def degrade(images: Any, seed: Any) -> Any:
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2 * len(harms) + 1))
        # Only those that are chosen are worked on: two thirds of the time is not spent.
        places = tf.where(tf.random.stateless_uniform(tf.shape(images)[:1], seeds[-1]) < options.degraded_share)
        # None at all is rare, and more than a convolution can bear.
        return tf.cond(tf.size(places) > 0, lambda: made_worse(images, places, seeds), lambda: images)

    def made_worse(images: Any, places: Any, seeds: list[Any]) -> Any:
        worse = tf.gather_nd(images, places)
        for harm, own, which in zip(harms, seeds[:-1:2], seeds[1::2], strict=True):
            hit = _uniform(worse, which, 0.0, 1.0) < _EACH
            worse = tf.where(hit, harm(worse, own), worse)
        return tf.tensor_scatter_nd_update(images, places, worse)

    return degrade


def _uniform(images: Any, seed: Any, low: float, high: float, channels: int = 1) -> Any:
    tf = import_tensorflow()
    return tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, channels), seed, low, high)


def _exposure(stops: float) -> Callable[[Any, Any], Any]:
    return lambda images, seed: images * 2.0 ** _uniform(images, seed, -stops, stops / 2)


def _contrast(stops: float) -> Callable[[Any, Any], Any]:
    tf = import_tensorflow()

    def flatten(images: Any, seed: Any) -> Any:
        mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
        return mean + (images - mean) * 2.0 ** _uniform(images, seed, -stops, stops / 4)

    return flatten


def _colour(stops: float) -> Callable[[Any, Any], Any]:
    tf = import_tensorflow()

    def tint(images: Any, seed: Any) -> Any:
        first, second = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        grey = tf.reduce_mean(images, axis=3, keepdims=True)
        images = grey + (images - grey) * _uniform(images, first, 0.0, 2.0)
        return images * 2.0 ** _uniform(images, second, -stops, stops, channels=3)

    return tint


def _blur(largest: float) -> Callable[[Any, Any], Any]:
    """One width a batch: a kernel an image would cost a convolution an image."""
    tf = import_tensorflow()

    def blur(images: Any, seed: Any) -> Any:
        side = tf.cast(tf.minimum(tf.shape(images)[1], tf.shape(images)[2]), tf.float32)
        sd = tf.random.stateless_uniform((), seed, 0.3, 1.0) * largest * side / _LENGTHS_ARE_OF
        reach = tf.cast(tf.math.ceil(_REACH * sd), tf.int32)
        x = tf.cast(tf.range(-reach, reach + 1), tf.float32)
        kernel = tf.exp(-0.5 * tf.square(x / sd))
        kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None, None, None], (1, 1, 3, 1))
        border = [[0, 0], [reach, reach], [reach, reach], [0, 0]]
        padded = tf.pad(images, border, "SYMMETRIC")
        rows = tf.nn.depthwise_conv2d(padded, kernel, (1, 1, 1, 1), "VALID")
        return tf.nn.depthwise_conv2d(rows, tf.transpose(kernel, (1, 0, 2, 3)), (1, 1, 1, 1), "VALID")

    return blur


def _noise(largest: float) -> Callable[[Any, Any], Any]:
    tf = import_tensorflow()

    def add(images: Any, seed: Any) -> Any:
        first, second = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        sd = _uniform(images, first, 0.0, 255.0 * largest)
        return images + sd * tf.random.stateless_normal(tf.shape(images), second)

    return add
