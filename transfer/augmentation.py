"""Augmentation: each epoch sees the training images a little shifted, turned, larger or smaller, and in other light.

    chance = chances(len(images), seed, epoch)                     # once an epoch, for all images
    flipped, labels = mirrored(labels[rows], chance[rows], mirror) # inside a `tf.function`, on the device that trains
    augment(images[rows], chance[rows], size=227, flipped=flipped)
    random_crops(images[rows], chance[rows], size=227, least=0.5)  # instead, for photos of things of any size

Random numbers are drawn before batching, so the same seed and epoch give the same images, whatever the batches, the
workers, or how often a run was resumed. Every change is one that a person would not notice: a sign keeps its meaning.

Small images are moved and enlarged to the network's input in one step. In two, pixels would be mixed twice: the network
would learn from images that are more blurred than those it is tested on.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data.datasets import NO_MIRROR

# The limits of the changes, each drawn evenly between -limit and +limit.
SHIFT = 0.1  # of the side; GTSRB's own boxes leave a tenth around the sign, so nothing of it leaves the image
SCALE = 0.1  # 0.9 to 1.1 times as large
ANGLE = 10.0  # degrees; an arrow straight ahead and one to the right are 45 apart
BRIGHTNESS = 0.4  # black is stretched by 0.6 to 1.4, and white the other way round: middle grey moves by 25 of 255
CONTRAST = 0.4  # middle grey is stretched by 0.8 to 1.2, and black and white the other way round
DUSK, SUN = 0.08, 0.4  # mean brightness, of 1, of an image that is exposed anew; GTSRB's lie from 0.05 to 0.82
CLOSER = 1.15  # times as large is an image in its second view; most of the border around GTSRB's signs is then gone
# An image's random numbers by column. Exposure is drawn from a stream of its own: the others do not depend on it.
ACROSS, DOWN, ZOOM, TURN, CONTRASTED, BRIGHTENED, FLIPPED, EXPOSED = range(8)
CHANCES = EXPOSED + 1


def chances(count: int, seed: int, epoch: int) -> np.ndarray:
    """Random numbers for `count` images in one epoch: float32 (count, CHANCES) in [0, 1)."""
    streams = np.random.default_rng([seed, epoch]), np.random.default_rng([seed, epoch, 1])
    widths = EXPOSED, CHANCES - EXPOSED
    return np.concatenate([rng.random((count, width), np.float32) for rng, width in zip(streams, widths)], axis=1)


def mirrored(labels: tf.Tensor, chance: tf.Tensor, mirror: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Which images to mirror, bool (N,), and the labels that all images then have, (N,).

    It is a random half of the images whose class has a mirror class. mirror: (classes,) the class of a class's mirror
    image, or NO_MIRROR. A frog stays a frog, "keep right" becomes "keep left", "stop" would become no sign at all.
    """
    other = tf.gather(tf.constant(mirror, labels.dtype), labels)
    flipped = random_half(chance) & (other != NO_MIRROR)
    return flipped, tf.where(flipped, other, labels)


def random_half(chance: tf.Tensor) -> tf.Tensor:
    """Which images to mirror where all may be, bool (N,). chance: (N, CHANCES)."""
    return chance[:, FLIPPED] >= 0.5


def mirrored_logits(logits: tf.Tensor, flipped: tf.Tensor, mirror: Sequence[int]) -> tf.Tensor:
    """What a teacher says of the mirror images, (N, classes), where `logits` is what it says of the images.

    For a class without a mirror class it is taken to say the same.
    """
    other = [number if partner == NO_MIRROR else partner for number, partner in enumerate(mirror)]
    return tf.where(flipped[:, None], tf.gather(logits, other, axis=1), logits)


def augment(
    images: tf.Tensor, chance: tf.Tensor, size: int, flipped: tf.Tensor | None = None, relight: bool = False
) -> tf.Tensor:
    """Changed images at the size of the network's input, float32 (N, size, size, 3), 0-255.

    images: uint8 or float (N, H, W, 3), 0-255. chance: (N, CHANCES), see `chances`; without relight 0.5 is no change,
    and the result then that of `networks.network.preprocess`. flipped: bool (N,), which to mirror, see `mirrored`.
    relight: see `other_light`.
    """
    x, chance = other_light(images, chance, relight), tf.cast(chance, tf.float32)
    side = tf.ones_like(chance[:, FLIPPED]) if flipped is None else tf.where(flipped, -1.0, 1.0)
    return sampled(x, places(tf.shape(x)[1], tf.shape(x)[2], size, 2 * chance - 1, side), size)


def closer(images: tf.Tensor, size: int, mirror: bool = False) -> tf.Tensor:
    """The images' second view, for the test: the middle, CLOSER times as large; float32 (N, size, size, 3), 0-255.

    mirror: it is mirrored as well, for classes that are their own mirror images.

    The mean of a network's probabilities for two or more views is more often right than those for one (GoogLeNet's
    authors took up to 144: Szegedy et al., "Going deeper with convolutions", 2014, section 7).
    """
    columns = np.full(CHANCES, 0.5, np.float32)
    columns[ZOOM] += (CLOSER - 1) / (2 * SCALE)
    count = tf.shape(images)[0]
    return augment(images, tf.tile(columns[None], [count, 1]), size, tf.fill([count], mirror))


def random_crops(
    images: tf.Tensor,
    chance: tf.Tensor,
    size: int,
    least: float,
    flipped: tf.Tensor | None = None,
    relight: bool = False,
) -> tf.Tensor:
    """Random crops at the size of the network's input, in other light: float32 (N, size, size, 3), 0-255.

    For what may lie anywhere in an image and be of any size, as things in photos do. images, chance, flipped, relight:
    as in `augment`. least: the smallest crop, as a share of each side; the largest is the whole image.

    Cropped, mirrored and resized in one step: each pixel is a mix of four of the original's, without blur on the way.
    """
    images, chance = other_light(images, chance, relight), tf.cast(chance, tf.float32)
    share = least + (1 - least) * chance[:, ZOOM]
    top, down = crop(images.shape[1], chance[:, DOWN], share, size)
    left, right = crop(images.shape[2], chance[:, ACROSS], share, size)
    if flipped is not None:
        left, right = tf.where(flipped, left + (size - 1) * right, left), tf.where(flipped, -right, right)
    zero = tf.zeros_like(share)
    return sampled(images, tf.stack([right, zero, left, zero, down, top], axis=1), size)


def crop(length: int, chance: tf.Tensor, share: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Along a side of `length` pixels: where a crop's first pixel lies, and how far it is to the next, both (N,)."""
    start, step = (1 - share) * chance * length, share * length / size
    return start + (step - 1) / 2, step  # a pixel's place is that of its middle


@tf.function(jit_compile=True, autograph=False)  # one pass over memory, as `sampled`
def other_light(images: tf.Tensor, chance: tf.Tensor, relight: bool = False) -> tf.Tensor:
    """The same images brighter or darker, with more or less contrast: float32 (N, H, W, 3), 0-255.

    relight: a random half of the images is also exposed anew, to a mean brightness between DUSK and SUN. For images of
    which many were taken at dusk or against the sky.
    """
    x, chance = tf.cast(images, tf.float32), tf.cast(chance, tf.float32)
    contrast, brightness = [2 * chance[:, each, None, None, None] - 1 for each in (CONTRASTED, BRIGHTENED)]
    x = tf.clip_by_value(x / 255, 0, 1)
    # Curves that rise everywhere and keep both ends. Plain factors would clip: dark signs before a bright sky turned
    # black.
    x += BRIGHTNESS * brightness * x * (1 - x)
    x += CONTRAST * contrast * x * (1 - x) * (2 * x - 1)
    if relight:
        exposure = chance[:, EXPOSED, None, None, None]
        target = DUSK * (SUN / DUSK) ** (2 * exposure - 1)  # even steps for the eye, and for a camera's stops
        mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True) + 1 / 255
        x = tf.where(exposure >= 0.5, tf.minimum(x * target / mean, 1), x)
    return 255 * x


def places(height: tf.Tensor, width: tf.Tensor, size: int, change: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Where each pixel is taken from, (N, 6): the affine maps of `sampled`.

    change: (N, CHANCES), -1 to 1 in training; `closer` goes beyond. side: (N,) -1 mirrors, 1 does not. Places count
    from the middle of the first pixel, so the middle of the image is (width - 1) / 2. Turns and scales about it, then
    shifts, then resizes to `size` pixels along both sides.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    across, down = SHIFT * width * change[:, ACROSS], SHIFT * height * change[:, DOWN]
    scale, angle = 1 + SCALE * change[:, ZOOM], np.deg2rad(ANGLE) * change[:, TURN]
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    step_x, step_y = width / size, height / size  # from one pixel of the result to the next, in the image's pixels
    a, b, c, d = side * cos, side * sin, -sin, cos
    x, y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = (width - step_x) / 2 + across, (height - step_y) / 2 + down  # the image's middle lands here
    places_x = a * step_x, b * step_y, x - a * from_x - b * from_y
    places_y = c * step_x, d * step_y, y - c * from_x - d * from_y
    return tf.stack([*places_x, *places_y], axis=1)


@tf.function(jit_compile=True, autograph=False)  # one pass over memory: a fifth of the time of TensorFlow's own op
def sampled(images: tf.Tensor, maps: tf.Tensor, size: int) -> tf.Tensor:
    """The pixels of images (N, H, W, 3) at places between them: float32 (N, size, size, 3), each a mix of four.

    maps: (N, 6), a to f of each image: column x, row y of the result lies at column a x + b y + c, row d x + e y + f.
    The border goes on outwards: neither black corners nor a mirrored piece of the image.
    """
    count, height, width = tf.unstack(tf.shape(images)[:3])
    a, b, c, d, e, f = tf.unstack(maps[:, :, None, None], axis=1)
    across = tf.range(size, dtype=tf.float32)
    down = across[:, None]
    row, below, lower = pixels_around(d * across + e * down + f, height)
    column, beside, right = pixels_around(a * across + b * down + c, width)
    pixels = tf.reshape(images, (-1, 3))
    first = tf.range(count)[:, None, None] * height * width  # the place of an image's first pixel among them

    def along(row: tf.Tensor) -> tf.Tensor:
        start = first + row * width
        return (1 - right) * tf.gather(pixels, start + column) + right * tf.gather(pixels, start + beside)

    return (1 - lower) * along(row) + lower * along(below)


def pixels_around(place: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixels before and after places along a side of `length` pixels, and the share of the latter, (..., 1)."""
    place = tf.clip_by_value(place, 0.0, tf.cast(length - 1, tf.float32))
    before = tf.floor(place)
    number = tf.cast(before, tf.int32)
    return number, tf.minimum(number + 1, length - 1), (place - before)[..., None]
