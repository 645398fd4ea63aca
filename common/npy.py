"""The header of a `.npy` file from elsewhere, alone or in an archive."""

import os
from typing import BinaryIO

import numpy as np

LONGEST = 64 << 10  # bytes, as the format's first version has it; later ones could ask for 4 GB, read before a look


def header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type; the file, which can seek, then stands where the numbers begin. ValueError for what is none."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"a .npy file of version {version}")
    length = file.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > LONGEST:
        raise ValueError(f"a .npy file with a header of {int.from_bytes(length, 'little'):,} bytes")
    file.seek(-len(length), os.SEEK_CUR)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError(f"a shape of {shape!s:.60}")
    return shape, dtype
