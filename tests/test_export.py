"""transfer/export.py: what a SavedModel makes of raw images equals what training made of them."""

import numpy as np
import pytest

from data import images
from transfer import export

RNG = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 300), (31, 7), (32, 32), (64, 64), (70, 66), (200, 230), (227, 227), (240, 256), (256, 256),
          (300, 200), (375, 500), (512, 512), (600, 90), (1000, 1333)]  # fmt: skip
FRAMINGS = [images.Framing(32), images.Framing(227), images.Framing(227, "crop", 256), images.Framing(64, "crop", 256),
            *(images.as_trained(how, size, 224) for how in ("squeeze", "crop") for size in (32, 64, 224))]  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_served_image_is_framed_as_in_training(framing):
    """Both round to whole numbers, Pillow twice: they may differ by 1."""
    for height, width in SHAPES:
        batch = RNG.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        served = export.cut(batch, framing).numpy()
        expected = np.stack([images.frame(image, framing) for image in batch])
        assert np.abs(served - expected).max() <= 1, (height, width)
        assert np.mean(served != expected) <= 0.25, (height, width)
