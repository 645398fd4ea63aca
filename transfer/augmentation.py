"""Augmentation: each epoch sees the training images a little shifted, turned, larger or smaller, and in other light.

    chance = chances(len(images), seed, epoch)                     # once an epoch, for all images
    augment(images[rows], chance[rows])                            # inside a `tf.function`, on the device that trains
    random_crops(images[rows], chance[rows], least=0.5, size=227)  # instead, for photos of things of any size

Random numbers are drawn before batching, so the same seed and epoch give the same images, whatever the batches, the
workers, or how often a run was resumed. Every change is one that a person would not notice: a sign keeps its meaning.
"""

import numpy as np
import tensorflow as tf

# The limits of the changes, each drawn evenly between -limit and +limit.
SHIFT = 0.1  # of the side; GTSRB's own boxes leave a tenth around the sign, so nothing of it leaves the image
SCALE = 0.1  # 0.9 to 1.1 times as large
ANGLE = 10.0  # degrees; an arrow straight ahead and one to the right are 45 apart
BRIGHTNESS = 0.4  # black is stretched by 0.6 to 1.4, and white the other way round: middle grey moves by 25 of 255
CONTRAST = 0.4  # middle grey is stretched by 0.8 to 1.2, and black and white the other way round
CHANCES = 7  # random numbers per image: across, down, scale, angle, contrast, brightness, flip


def chances(count: int, seed: int, epoch: int) -> np.ndarray:
    """Random numbers for `count` images in one epoch: float32 (count, CHANCES) in [0, 1)."""
    return np.random.default_rng([seed, epoch]).random((count, CHANCES), dtype=np.float32)


def augment(images: tf.Tensor, chance: tf.Tensor, flip: bool = False) -> tf.Tensor:
    """Changed images, float32 (N, H, W, 3), 0-255.

    images: uint8 or float (N, H, W, 3), 0-255. chance: (N, CHANCES), see `chances`; 0.5 is no change.
    flip: mirror every other image. Never for traffic signs: left would become right.
    """
    x, chance = tf.cast(images, tf.float32), tf.cast(chance, tf.float32)
    flipped = chance[:, 6] >= 0.5 if flip else tf.zeros_like(chance[:, 6], tf.bool)
    x = tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=places(tf.shape(x)[1], tf.shape(x)[2], 2 * chance - 1, tf.where(flipped, -1.0, 1.0)),
        output_shape=tf.shape(x)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",  # the border goes on outwards: neither black corners nor a mirrored piece of the sign
    )
    return other_light(x, chance)


def random_crops(images: tf.Tensor, chance: tf.Tensor, least: float, size: int, flip: bool = False) -> tf.Tensor:
    """Random crops at the size of the network's input, in other light: float32 (N, size, size, 3), 0-255.

    For what may lie anywhere in an image and be of any size, as things in photos do. images, chance, flip: as in
    `augment`. least: the smallest crop, as a share of each side; the largest is the whole image.

    Cropped, mirrored and resized in one step: each pixel is a mix of four of the original's, without blur on the way.
    A crop whose right edge comes before its left one is mirrored.
    """
    images, chance = other_light(images, chance), tf.cast(chance, tf.float32)
    share = least + (1 - least) * chance[:, 2]
    top, bottom = edges(images.shape[1], chance[:, 1], share, size)
    left, right = edges(images.shape[2], chance[:, 0], share, size)
    if flip:
        flipped = chance[:, 6] >= 0.5
        left, right = tf.where(flipped, right, left), tf.where(flipped, left, right)
    # The outer half of a border pixel lies outside the centres; there the op would mix in what is beyond, 0.
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    boxes = tf.stack([top, left, bottom, right], axis=1)
    return tf.image.crop_and_resize(padded, boxes, tf.range(tf.shape(images)[0]), (size, size))


def edges(length: int, chance: tf.Tensor, share: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Along a side of `length` pixels, the centres of a crop's first and last output pixel, both (N,).

    In the units of `tf.image.crop_and_resize`: 0 is the centre of the padded side's first pixel, 1 that of its last.
    """
    start, step = (1 - share) * chance * length, share * length / size
    first = start + step / 2 + 0.5  # padding moves all by 1, and a pixel's centre lies half a pixel after its edge
    return first / (length + 1), (first + (size - 1) * step) / (length + 1)


def other_light(images: tf.Tensor, chance: tf.Tensor) -> tf.Tensor:
    """The same images brighter or darker, with more or less contrast: float32 (N, H, W, 3), 0-255."""
    x, chance = tf.cast(images, tf.float32), tf.cast(chance, tf.float32)
    contrast, brightness = [each[:, None, None, None] for each in tf.unstack(2 * chance[:, 4:6] - 1, axis=1)]
    x = tf.clip_by_value(x / 255, 0, 1)
    # Curves that rise everywhere and keep both ends. Plain factors would clip: dark signs before a bright sky turned
    # black.
    x += BRIGHTNESS * brightness * x * (1 - x)
    x += CONTRAST * contrast * x * (1 - x) * (2 * x - 1)
    return 255 * x


def places(height: tf.Tensor, width: tf.Tensor, change: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Where each pixel is taken from, as (N, 8) for TensorFlow's op: the affine map from the result to the image.

    change: (N, CHANCES) in [-1, 1). side: (N,) -1 mirrors, 1 does not. The op counts from the centre of the first
    pixel, so the middle of the image is (width - 1) / 2. Turns and scales about it, then shifts.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    across, down = SHIFT * width * change[:, 0], SHIFT * height * change[:, 1]
    scale, angle = 1 + SCALE * change[:, 2], np.deg2rad(ANGLE) * change[:, 3]
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    a, b, c, d = side * cos, side * sin, -sin, cos
    x, y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = x + across, y + down  # the image's middle lands here
    zero = tf.zeros_like(cos)
    return tf.stack([a, b, x - a * from_x - b * from_y, c, d, y - c * from_x - d * from_y, zero, zero], axis=1)
