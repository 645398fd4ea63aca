"""Arrays of weights as TensorFlow likes them: float32, where it takes them as they lie, and locked."""

import math

import numpy as np

ALIGNMENT = 64  # bytes; TensorFlow takes an array that begins at a multiple of this as it lies, and copies any other


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array at such an address."""
    size = 4 * math.prod(shape)
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(np.float32).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """The same numbers as float32, read-only, at such an address; copied only if they are not so already."""
    if array.dtype != np.float32 or not array.flags.c_contiguous or array.ctypes.data % ALIGNMENT:
        copy = empty(array.shape)
        copy[...] = array
        array = copy
    array.flags.writeable = False
    return array


def all_finite(array: np.ndarray) -> bool:
    """Whether no number of an array, which must not be empty, is infinite or NaN."""
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))  # a NaN is passed on by both
