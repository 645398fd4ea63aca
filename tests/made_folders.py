"""Folders of small images, a folder per class."""

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def add(path, shape=(12, 9, 3)):
    """Write an image of noise; return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


def layout(folder, *names):
    for name in names:
        add(folder / name / "a.png")
    return folder
