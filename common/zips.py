"""Open a zip from elsewhere: what its list of members, and the unpacking of one, take in memory is bounded.

A member's record takes ten times its bytes in memory. And of a member that is compressed as bzip2 or LZMA, Python
unpacks all that it has read at once: 400 bytes become 400 MB.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

USUAL = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LONGEST_NAME, DEEPEST = 1000, 10  # characters, folders: `zipfile.Path` makes a name of each folder above a member


@contextlib.contextmanager
def opened(file: BinaryIO, most_listed: int) -> Iterator[zipfile.ZipFile]:
    """The archive in an open file. most_listed: bytes that the list of its members may have.

    ValueError for a longer list, members that are neither stored nor deflated, long or deep names; what `zipfile`
    raises for a damaged archive. To be put into `common.errors.foreign`.
    """
    limited = _Limited(file, most_listed)
    with zipfile.ZipFile(limited) as archive:
        limited.left = math.inf
        for info in archive.infolist():
            if info.compress_type not in USUAL:
                raise ValueError(f"{info.filename!a:.60} is compressed in an unusual way, expected deflate")
            if len(info.filename) > LONGEST_NAME or info.filename.count("/") > DEEPEST:
                raise ValueError(f"{info.filename!a:.60} is too long a name, or nested too deeply")
        yield archive


class _Limited:
    """A file of which no more than `left` bytes are read: while `zipfile` opens it, the list of its members."""

    def __init__(self, file: BinaryIO, left: float) -> None:
        self.file, self.left = file, left
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.name = getattr(file, "name", None)  # for the archive's own messages
        self.size = file.seek(0, os.SEEK_END)

    def read(self, size: int = -1) -> bytes:
        rest = self.size - self.file.tell()
        size = rest if size is None or size < 0 else min(size, rest)
        if size > self.left:
            raise ValueError("its list of members is too long")
        data = self.file.read(size)
        self.left -= len(data)
        return data
