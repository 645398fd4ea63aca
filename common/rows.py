"""Arrays of many rows, some of them at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

PIECE = 1024  # rows in float64 at a time: 4,096 numbers in each are 32 MB


def batches(rows: Sequence, size: int) -> list[Sequence]:
    """Cut rows, or their numbers, into pieces of `size`, the last one maybe smaller."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def sums_and_squares(array: Any, rows: np.ndarray) -> np.ndarray:
    """(2, D) float64: for each column of `array` (N, D), the sum over `rows`, and the sum of squares.

    Piece by piece, for `array[rows]` may be larger than the memory; in float64, for a variance is the small difference
    of two large sums.
    """
    sums = np.zeros((2, array.shape[1]))
    for chosen in batches(rows, PIECE):
        piece = np.asarray(array[chosen], np.float64)
        sums += piece.sum(axis=0), np.einsum("ij,ij->j", piece, piece)
    return sums
