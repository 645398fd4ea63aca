"""Drawn traffic signs: 43 classes of 32x32 images that stand in for GTSRB where nothing may be downloaded.

`draw()` renders the clean drawings of data/drawn_signs/templates.py as the camera of a moving car would see them: at an
angle, in shade or glare, out of focus, in front of trees, walls or sky. A network trained on them learns real shapes,
so the demos show real behaviour, but the task is easier than GTSRB and accuracies are higher.
"""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from data.drawn_signs.templates import SIGNS, template

FILL = 0.65, 0.84  # share of the frame that a sign fills: 10th and 99th percentile of GTSRB's own boxes
# Darker and lighter colour (RGB) of what stands behind a sign, and how finely it is grained (0 to 1). Cloud exceeds
# 255: it glares into the sign's edge.
BACKGROUNDS = (
    ((8, 10, 10), (50, 54, 40), 0.6),  # trees in shade
    ((14, 14, 14), (80, 74, 68), 0.8),  # bare branches
    ((26, 26, 18), (140, 120, 76), 0.8),  # leaves in the sun
    ((60, 62, 66), (130, 128, 126), 0.2),  # wall, road
    ((100, 70, 58), (170, 140, 120), 0.4),  # brick
    ((150, 175, 215), (225, 240, 265), 0.0),  # blue sky
    ((290, 295, 305), (390, 390, 390), 0.1),  # bright cloud
)


def draw(
    per_class: int = 30, seed: int = 0, size: int = 32, classes: Sequence[int] = range(len(SIGNS))
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `per_class` images of each of `classes`, which are numbers of signs, 0 to 42.

    Returns (images, labels): RGB uint8 (N, size, size, 3) and int64 (N,), N = len(classes) * per_class, class after
    class. The same seed gives the same images; a bigger `per_class`, or more classes, leave the first ones as they are.
    """
    images = [
        _image(label, np.random.default_rng((seed, label, index)), size)
        for label in classes
        for index in range(per_class)
    ]
    labels = np.repeat(np.array(classes, np.int64), per_class)
    return np.array(images, np.uint8).reshape(-1, size, size, 3), labels


def _image(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """One image, uint8 (size, size, 3)."""
    sign = _seen_at_an_angle(label, rng, size)
    # Sign and background are lit independently: a sign against the sky is often in its own shade, and vice versa.
    light = np.exp(rng.normal(-0.75, 0.65))
    ambient = light**0.6 * np.exp(rng.normal(-0.05, 0.45))
    slope = 1 + rng.normal(0, 0.15) * np.linspace(-1, 1, size)[:, None, None]
    image = sign[..., :3] * light * slope + (1 - sign[..., 3:]) * _background(rng, size) * ambient
    image = image * np.exp(rng.normal(0, 0.06, 3)) + rng.exponential(6)  # colour cast; haze lifts the blacks
    image = ndimage.gaussian_filter(image, (*_blur(rng, size), 0))
    image = image.clip(0, 255)
    image += rng.normal(0, rng.uniform(0.2, 0.5) * np.sqrt(image))  # noise of the light itself grows with it
    return image.clip(0, 255).astype(np.uint8)


def _blur(rng: np.random.Generator, size: int) -> np.ndarray:
    """Standard deviations down and across in pixels: poor focus, and some motion in one direction."""
    return size / 64 * (rng.uniform(0.5, 1.3) + rng.exponential(0.35, 2))


@functools.cache
def _clean(label: int, side: int) -> Image.Image:
    return Image.fromarray(template(label, side))


def _seen_at_an_angle(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """The sign in perspective: float (size, size, 4), RGB already multiplied by alpha, alpha 0 to 1."""
    side = 2 * size  # warped at twice the size, then averaged down: no jagged edges
    flat = _clean(label, round(0.75 * side))  # about as large as it will appear, so that nothing is skipped
    fill = rng.uniform(*FILL) * np.exp(rng.normal(0, 0.03, 2))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    turn = rng.normal(0, 0.06)  # radians
    turned = corners @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    seen = side * (0.5 + turned * fill + rng.normal(0, 0.015, 2) + rng.normal(0, 0.014, (4, 2)))
    warped = flat.transform(
        (side, side),
        Image.Transform.PERSPECTIVE,
        _perspective(seen, flat.width * (corners + 0.5)),
        Image.Resampling.BICUBIC,
    )
    pixels = np.asarray(warped, np.float64)
    alpha = pixels[..., 3:] / 255
    pixels = np.concatenate([pixels[..., :3] * alpha, alpha], axis=2)
    return pixels.reshape(size, 2, size, 2, 4).mean((1, 3))


def _perspective(seen: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The eight numbers of the projective map that takes the four points `seen` to the four points `flat`."""
    rows = []
    for (x, y), (u, v) in zip(seen, flat):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(rows, flat.ravel())


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two mottled BACKGROUNDS that meet along a smooth random border, and often the post below the sign."""
    first, second = (_mottled(rng, size) for _ in range(2))
    border = _clouds(rng, size, 3) + rng.normal(0, 0.8) + rng.normal(0, 1) * np.linspace(-1, 1, size)[:, None]
    share = (1 / (1 + np.exp(-12 * border)))[..., None]
    behind = first * share + second * (1 - share)
    if rng.random() < 0.6:
        middle, half = size * (0.5 + rng.normal(0, 0.02)), size * rng.uniform(0.015, 0.04)
        behind[size // 2 :, round(middle - half) : round(middle + half)] = rng.uniform(40, 170)
    return behind


def _mottled(rng: np.random.Generator, size: int) -> np.ndarray:
    dark, light, grain = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    mix = 0.5 + 0.25 * _clouds(rng, size, 4) + grain * rng.uniform(0.3, 1) * _clouds(rng, size, size // 2)
    return dark + np.subtract(light, dark) * mix[..., None]


def _clouds(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise with about `cells` blobs a side: float (size, size), mean 0, standard deviation about 1."""
    coarse = Image.fromarray(rng.normal(0, 1.3, (cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
