"""Write `.npz` files, and read those from elsewhere: nothing of them before its size is known.

They are zip archives of `.npy` files, and a few kilobytes of zip can hold gigabytes of zeros. So shapes and types are
read first, and then the numbers of those arrays that are asked for, one at a time.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from common import npy, zips
from common.errors import foreign
from common.files import open_regular
from common.pickled_arrays import check_text
from common.writing import written_whole

MOST_LISTED = 4 << 20  # bytes of the archive's list of members
MOST_ARRAYS = 10_000
SPARE = 200 << 20  # bytes that its arrays may take beyond three times the file
PLAIN = "biufU"  # kinds of numpy types that are read: numbers and text


class Stored(NamedTuple):
    """An array in a file: its shape and type, and `read`, which returns it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


@contextlib.contextmanager
def opened(path: str | os.PathLike, expected: str, advice: str) -> Iterator[dict[str, Stored]]:
    """{name: `Stored`} of a .npz, to be read within the block.

    `expected` and `advice` are for the message: BadInput, in one line, for whatever is wrong with the file, also when
    it shows while an array is read.
    """
    with open_regular(path, expected) as file, foreign(path, expected, advice):
        budget = _Budget(3 * file.seek(0, os.SEEK_END) + SPARE)
        with zips.opened(file, MOST_LISTED) as archive:
            if len(archive.infolist()) > MOST_ARRAYS:
                raise ValueError(f"it holds more than {MOST_ARRAYS:,} arrays")
            yield {info.filename.removesuffix(".npy"): _stored(archive, info, budget) for info in archive.infolist()}


def save(path: str | os.PathLike, **arrays: object) -> None:
    """Write arrays, or text, as a .npz, whole or not at all."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


class _Budget:
    """Bytes that all arrays that are read may take together."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int, name: str) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"{name!a:.60} unpacks to {size:,} bytes, with the others too many for its file")


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> Stored:
    with archive.open(info) as member:
        shape, dtype = npy.header(member)
        start = member.tell()
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in PLAIN or not dtype.itemsize:
        raise ValueError(f"{info.filename!a:.60} holds {dtype}, not plain numbers or text")
    if size != info.file_size - start:
        raise ValueError(f"{info.filename!a:.60} has {info.file_size - start:,} bytes, {size:,} are expected")

    def read() -> np.ndarray:
        budget.take(size, info.filename)
        with archive.open(info) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
        check_text(array)
        return array

    return Stored(shape, dtype, read)
