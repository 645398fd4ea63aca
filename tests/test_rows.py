"""common/rows.py: pieces hold all rows, and sums over them are as exact as NumPy's in float64."""

import numpy as np
import pytest

from common import rows


@pytest.mark.parametrize("count, sizes", [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_pieces_hold_all_rows(count, sizes):
    for whole in np.arange(count), range(count):
        pieces = rows.batches(whole, 4)
        assert [len(piece) for piece in pieces] == sizes
        assert [row for piece in pieces for row in piece] == list(whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_sums_are_exact(dtype):
    """Of more rows than one piece, far from 0: added up in float32, the variance of these would be noise."""
    array = np.random.default_rng(0).normal(200, 0.5, (5000, 7)).astype(dtype)
    chosen = np.random.default_rng(1).permutation(5000)[:3000]
    expected = array[chosen].astype(np.float64)
    sums, squares = rows.sums_and_squares(array, chosen)
    np.testing.assert_allclose([sums, squares], [expected.sum(axis=0), (expected**2).sum(axis=0)], rtol=1e-13)
    variance = squares / 3000 - (sums / 3000) ** 2
    np.testing.assert_allclose(variance, expected.var(axis=0), rtol=1e-6)


def test_sums_of_no_rows():
    np.testing.assert_array_equal(rows.sums_and_squares(np.ones((3, 2)), np.arange(0)), np.zeros((2, 2)))
