"""Random changes of training images: on 0 … 255, after geometry and before values, while training only.

Every change draws from a seed of its own and keeps no stream, so that a training that was killed goes on with the same
images. Rotation, shifts, shear, zoom and flips are one map of the plane: an image is resampled once, not once a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.settings import AugmentationOptions
from tasks.machine import import_tensorflow
from tasks.training.degrading import degraded

# (n, h, w, 3) float32 tensor 0 … 255 and a seed, an int32 tensor (2,) → the same, changed. Compiled: no Python state.
Step = Callable[[Any, Any], Any]
# (n, h, w, 3), 0 … 255, and two seeds → float32 of that shape, 0 … 255; the same seeds give the same bits.
Augment = Callable[[NDArray[Any], tuple[int, int]], NDArray[np.float32]]


def augmenter(options: AugmentationOptions) -> Augment | None:
    """What changes images at random; None where the options change nothing. It never becomes part of a bundle."""
    steps: list[Step] = []
    if _moves(options):
        steps.append(_moved(options))
    if options.brightness:
        steps.append(_brighter(options.brightness))
    if options.degrades:
        steps.append(degraded(options))
    return _compiled(steps) if steps else None


def _compiled(steps: list[Step]) -> Augment:
    tf = import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((2,), tf.int32)])  # type: ignore[untyped-decorator]
    def changed(images: Any, seed: Any) -> Any:
        for number, step in enumerate(steps):
            images = step(images, tf.random.experimental.stateless_fold_in(seed, number))
        return tf.clip_by_value(images, 0.0, 255.0)

    def augment(images: NDArray[Any], seed: tuple[int, int]) -> NDArray[np.float32]:
        seeded = tf.constant(np.array(seed, np.int32))
        return np.asarray(changed(tf.constant(np.asarray(images, np.float32)), seeded).numpy())

    return augment


def _moves(options: AugmentationOptions) -> bool:
    amounts = (options.rotation, options.width_shift, options.height_shift, options.shear, options.zoom)
    return any(amounts) or options.horizontal_flip or options.vertical_flip


def _moved(options: AugmentationOptions) -> Step:
    """Flip, then rotation, shift, shear and zoom around the middle, each image by amounts of its own."""
    tf = import_tensorflow()
    angle, share = float(np.radians(options.rotation)), float(np.tan(np.radians(options.shear)))
    flips = tf.constant([float(options.horizontal_flip), float(options.vertical_flip)])
    widest = tf.constant([angle, options.width_shift, options.height_shift, share, options.zoom], tf.float32)

    def move(images: Any, seed: Any) -> Any:
        shape = tf.shape(images)
        n = shape[0]
        height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
        amount = tf.random.stateless_uniform((n, 7), seed, -1.0, 1.0)
        turn, right, down, slant, larger = tf.unstack(amount[:, :5] * widest, axis=1)
        mirror = tf.where((amount[:, 5:] > 0) & (flips > 0), -1.0, 1.0)
        zero, one = tf.zeros((n,)), tf.ones((n,))
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        # Each maps a point of the changed image to one of the image before, seen from the middle.
        maps = [
            _plane(mirror[:, 0], zero, zero, zero, mirror[:, 1], zero),
            _plane(tf.cos(turn), -tf.sin(turn), zero, tf.sin(turn), tf.cos(turn), zero),
            _plane(one, zero, right * width, zero, one, down * height),
            _plane(one, slant, zero, zero, one, zero),
            _plane(1 + larger, zero, zero, zero, 1 + larger, zero),
        ]
        whole = maps[0]
        for step in maps[1:]:
            whole = tf.linalg.matmul(whole, step)
        # From the middle to the corner, where TensorFlow counts from.
        x = whole[:, 0, 2] + middle_x - whole[:, 0, 0] * middle_x - whole[:, 0, 1] * middle_y
        y = whole[:, 1, 2] + middle_y - whole[:, 1, 0] * middle_x - whole[:, 1, 1] * middle_y
        rows = [whole[:, 0, 0], whole[:, 0, 1], x, whole[:, 1, 0], whole[:, 1, 1], y, zero, zero]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack(rows, axis=1),
            output_shape=shape[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode=options.fill_mode.upper(),
        )

    return move


def _plane(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """(n,) each → (n, 3, 3), rows a b c, d e f, 0 0 1."""
    tf = import_tensorflow()
    zero, one = tf.zeros_like(a), tf.ones_like(a)
    rows = [tf.stack(row, axis=1) for row in ((a, b, c), (d, e, f), (zero, zero, one))]
    return tf.stack(rows, axis=1)


def _brighter(amount: float) -> Step:
    """Multiplies, as ImageDataGenerator's brightness_range does; Keras' RandomBrightness adds."""
    tf = import_tensorflow()

    def brighten(images: Any, seed: Any) -> Any:
        return images * tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed, 1 - amount, 1 + amount)

    return brighten
