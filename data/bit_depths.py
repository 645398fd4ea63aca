"""Pixels of any depth as 8 bits: which number is white, and what lies on a transparent ground.

Arrays alone: how they come out of a file is the business of data/decoding.py.
"""

from collections.abc import Callable

import numpy as np

from common.errors import BadInput

BLOCK = 1 << 22  # numbers converted at a time, so that a large image is not held in float as well
OVERSHOOT = 0.1  # how far resizing and sharpening may carry floats beyond 0 and 1
DARKEST = 2  # of 255: a largest float below it is not white, nor is it that of any photo of 0 to 255
DEPTHS = (8, 10, 12, 14, 16)  # bits per channel that cameras and scanners have


def eight_bits(pixels: np.ndarray, bits: int | None = None) -> np.ndarray:
    """Pixels (H, W) or (H, W, channels), whole numbers of up to 16 bits, floats 0-1 or floats 0-255, as uint8 0-255.

    bits: how many of each whole number the file says it uses; None: it does not say. Floats 0-1 that have been resized
    or sharpened go a little beyond black and white, and are cut off there. `BadInput` for any other range.
    """
    if pixels.dtype.kind == "c":
        raise BadInput(
            f"holds complex numbers ({pixels.dtype}), expected whole numbers or floats; convert it to 8 bits"
        )
    least, largest = pixels.min(), pixels.max()
    whole = pixels.dtype.kind in "iu"
    white = _white(int(largest), bits) if whole else 1 if largest <= 1 + OVERSHOOT else 255
    if not whole and 1 + OVERSHOOT < largest < DARKEST:
        raise BadInput(f"has values up to {largest:.3g}, too large for floats of 0 to 1 and too small for 0 to 255; "
                       "convert it to 8 bits")  # fmt: skip
    beyond = 0 if whole or white > 1 else OVERSHOOT
    if not (least >= -beyond and largest <= white + beyond):  # NaN, too, is not
        raise BadInput(f"has values from {least} to {largest}, expected 0 to {white}; convert it to 8 bits")
    return _in_blocks(lambda block: np.rint((block * np.float32(255 / white)).clip(0, 255)), pixels)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """RGB and alpha, uint8 (H, W, 4) -> RGB on a white ground, uint8 (H, W, 3)."""

    def blend(block: np.ndarray) -> np.ndarray:
        rgb, alpha = block[:, :, :3], block[:, :, 3:]
        return np.rint(rgb * (alpha / np.float32(255)) + (255 - alpha))

    return _in_blocks(blend, rgba, channels=3)


def _white(largest: int, bits: int | None) -> int:
    """The number that stands for white, with which cameras of 10, 12 or 14 bits fill files of 16.

    It is what the file says (`bits`: PNG's sBIT, TIFF's BitsPerSample), else the largest number of the fewest of 8,
    10, 12, 14 and 16 bits that holds the image's `largest`. A file may say how many bits its numbers had before they
    were scaled to 16: then they do not fit.
    """
    if bits and largest >= 1 << bits:
        bits = DEPTHS[-1]
    return (1 << (bits or next((depth for depth in DEPTHS if largest < 1 << depth), DEPTHS[-1]))) - 1


def _in_blocks(convert: Callable, pixels: np.ndarray, channels: int | None = None) -> np.ndarray:
    """Rows of pixels -> uint8, some rows at a time: a large image is never held in floats as well."""
    result = np.empty((*pixels.shape[:2], channels) if channels else pixels.shape, np.uint8)
    rows = max(1, BLOCK * len(pixels) // pixels.size)
    for first in range(0, len(pixels), rows):
        result[first : first + rows] = convert(pixels[first : first + rows])
    return result
