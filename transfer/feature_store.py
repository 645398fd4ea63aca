"""Features of images, computed once and kept: float32 (N, D) in a `.npy` file that any NumPy program can read.

The file's name ends in a hash of everything that shaped the features: the images themselves, and what the caller
names (network, weights, layer, preprocessing, precision). Another key is another file, so nothing stale is ever read.
For each key there are, in the order in which they appear:

    .<name>.lock         locked while a process computes; others wait for it
    <name>.json          the whole key; the files below count only while it is there and right
    <name>.part          rows so far: its length says how many, and a run that was stopped continues from here
    <name>.part.sha256   a line per batch: its last row's number, the hash of the part up to there
    <name>.npy.sha256    the hash of what follows, as `sha256sum -c` reads it
    <name>.npy           all rows: the part under its final name

A file is hashed once when it is opened; one that has changed is computed again.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from common.errors import OF_A_PATH, BadInput, foreign, reported
from common.files import file_hash, open_regular, recorded_hash, regular_or_absent, start_of
from common.locks import one_at_a_time
from common.writing import record_hash, written_whole
from data import DATA_DIR

FEATURES_DIR = DATA_DIR / "features"
FORMAT = 1  # part of every key; to be raised when the layout of the files changes
PIECE = 1024  # images hashed at a time
PART = re.compile(r"[A-Za-z0-9_.-]+-[0-9a-f]{16}\.part(\.sha256)?")  # browsers, too, call an unfinished file .part
LONGEST_TEXT = 10_000_000  # bytes of a key or a list of hashes; each has a few thousand
FORGOTTEN = 7 * 24 * 3600  # seconds after which a part that nobody has gone on with is deleted


def stored(
    images: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    key: dict,
    folder: str | os.PathLike | None = FEATURES_DIR,
    batch_size: int = 128,
    label: str = "features",
) -> "Features | np.ndarray":
    """Return the features of all images, from the folder if they are there, else computed and kept there.

    images: uint8 (N, H, W, 3). compute: takes up to `batch_size` of them, returns float32 (n, D). key: a dict that
    JSON can hold, all that shapes the features besides the images; its "network" and "layer" begin the file's name.
    folder: None keeps the features in memory, as an array. label: stands before the progress bar.

    Raises BadInput when there are no images, when the folder cannot be written or the disk is full, and for features
    that are not finite.
    """
    if not len(images):
        raise BadInput("no images to compute features of; give at least one")
    if folder is None:
        return _in_memory(images, compute, batch_size, label)
    prefix = "-".join(str(key[name]) for name in ("network", "layer") if name in key) or "features"
    key = json.dumps({"format": FORMAT, "pictures": fingerprint(images), "key": key}, indent=2, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    path = pathlib.Path(folder) / f"{re.sub('[^A-Za-z0-9_.-]', '_', prefix)}-{digest[:16]}.npy"
    if not _is_whole(path, key, len(images)):
        waiting = f"waiting for another process that computes the same features ({path})"
        with one_at_a_time(path.with_name(f".{path.stem}.lock"), waiting):
            if not _is_whole(path, key, len(images)):  # that other process may have finished them
                _complete(path, key, images, compute, batch_size, label)
    return Features(path)


class Features:
    """Rows of float32 that are read from a file when they are asked for: `features[rows]` copies them into memory.

    `rows` is what NumPy takes for a first axis: integers in any order, a slice, a mask. Not a memory map: the pages
    of a map count as the process's own memory, and after an epoch that is the whole file. For 128 random rows of 4096
    in the page cache, reading takes 0.45 ms; a map 0.25 ms, one whose pages are given back each time 1.0 ms.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        with reported(path, "cannot be read", "start again", OF_A_PATH), open_regular(path) as file:
            self.shape, self._start = _read_header(file)
        self._numbers = np.arange(self.shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        numbers = self._numbers[rows]  # NumPy's own rules for negative rows, masks, rows out of range
        features = np.empty((np.size(numbers), self.shape[1]), np.float32)
        # Opened each time (0.01 ms): nothing to close, and threads cannot move each other's place in the file.
        changed = reported(self.path, "changed while in use", "start again", OF_A_PATH)
        with changed, open(self.path, "rb", 0) as file:
            for number, row in zip(np.ravel(numbers).tolist(), features):
                file.seek(self._start + number * row.nbytes)
                if file.readinto(row) != row.nbytes:
                    raise ValueError("too short")
        return features.reshape(np.shape(numbers) + self.shape[1:])


def _in_memory(images: np.ndarray, compute: Callable, batch_size: int, label: str) -> np.ndarray:
    features = None
    for row, batch in _computed(images, compute, 0, batch_size, label):
        if features is None:  # now the width is known
            features = np.empty((len(images), batch.shape[1]), np.float32)
        features[row : row + len(batch)] = batch
    return features


def _complete(path: pathlib.Path, key: str, images: np.ndarray, compute: Callable, batch_size: int, label: str) -> None:
    """Compute the rows that the part lacks; when all are there, give it its final name."""
    part, record, sums = path.with_suffix(".part"), path.with_suffix(".json"), path.with_suffix(".part.sha256")
    advice = "free space, choose another folder with --cache, or give --no_cache"
    writing = functools.partial(reported, path, "cannot be kept", advice, OF_A_PATH)
    if path.is_file() and _text(record) == key:
        print(f"note: {path} has changed since it was written; the features are computed again", file=sys.stderr)
    with writing():
        if _text(record) != key:
            for stale in (path, part, sums):
                stale.unlink(missing_ok=True)
            with written_whole(record) as temporary:
                temporary.write_text(key, newline="\n")
        regular_or_absent(part), regular_or_absent(sums)
        file = open(part, "ab+", buffering=0)
    with file:
        with writing():
            first, width, digest = _cut_to_certain_rows(file, sums, len(images), batch_size)
        for row, batch in _computed(images, compute, first, batch_size, label):
            if batch.shape[1] != (width or batch.shape[1]):
                raise ValueError(f"{part}: {width} features per image, now {batch.shape[1]}: the key lacks something")
            with writing():
                if width is None:
                    width = batch.shape[1]
                    _append(file, digest, _header(len(images), width))
                _append(file, digest, memoryview(batch).cast("B"))
                os.fsync(file.fileno())  # 2.5 ms for 2 MB; the network takes longer by far
                with open(sums, "a") as lines:
                    lines.write(f"{row + len(batch)} {digest.hexdigest()}\n")
    with writing():
        record_hash(path, digest.hexdigest())
        os.replace(part, path)
        sums.unlink(missing_ok=True)
        _forget_parts(path.parent)


def _append(file: BinaryIO, digest: "hashlib._Hash", data: bytes | memoryview) -> None:
    digest.update(data)
    while data:  # a disk that is nearly full takes a piece before it fails
        data = data[file.write(data) :]


def _cut_to_certain_rows(
    file: BinaryIO, sums: pathlib.Path, count: int, batch_size: int
) -> tuple[int, int | None, "hashlib._Hash"]:
    """Cut the part back to rows that are certain; return (their number, their width, the hash of the part).

    The width is None where there is no header yet. Whole batches only: the rest is then computed in the same batches as
    without the stop, to the same bits. And one batch less than the length tells: after a power cut, the last one may be
    longer than what has reached the disk. The hash is compared with that in `sums`, if there are any.
    """
    try:
        file.seek(0)
        shape, start = _read_header(file)
        rows = (file.seek(0, os.SEEK_END) - start) // (4 * shape[1])
        if shape[0] != count or rows > count:
            raise BadInput("of other features")
        rows = max(0, rows // batch_size - 1) * batch_size
        file.truncate(start + rows * 4 * shape[1])
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        noted = dict(line.split(" ", 1) for line in _text(sums).splitlines() if " " in line)
        if rows and noted and noted.get(str(rows)) != digest.hexdigest():
            raise BadInput("changed since it was written")
        return rows, shape[1], digest
    except BadInput:
        file.truncate(0)
        sums.unlink(missing_ok=True)
        return 0, None, hashlib.sha256()


def _forget_parts(folder: pathlib.Path) -> None:
    """Delete the parts of runs that were killed long ago and never asked for again; of others' files none."""
    for part in folder.iterdir():
        with contextlib.suppress(OSError):
            if PART.fullmatch(part.name) and time.time() - part.lstat().st_mtime > FORGOTTEN:
                part.unlink()


def _computed(
    images: np.ndarray, compute: Callable, first: int, batch_size: int, label: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (row, features) batch by batch, from the image `first` on, under a progress bar."""
    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=len(images), initial=first, desc=label, unit=" images", unit_scale=True, disable=None) as bar:
        for row in range(first, len(images), batch_size):
            batch = images[row : row + batch_size]
            features = np.ascontiguousarray(compute(batch), "<f4")
            if features.ndim != 2 or len(features) != len(batch):
                raise ValueError(f"features of shape {features.shape} for {len(batch)} images")
            wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if len(wrong):
                found = f"the network returned nan or inf for image {row + wrong[0]}"
                raise BadInput(f"{found}: the weights or the precision are wrong")
            yield row, features
            bar.update(len(features))


def _is_whole(path: pathlib.Path, key: str, count: int) -> bool:
    """Whether all bytes of the features of `count` images lie there, under this key, as they were written."""
    try:
        with open_regular(path) as file:
            shape, start = _read_header(file)
            size = file.seek(0, os.SEEK_END)
        if shape[0] != count or size != start + 4 * count * shape[1] or _text(path.with_suffix(".json")) != key:
            return False
        digest = file_hash(path, "sha256")  # 0.35 s for 640 MB
    except (OSError, BadInput):
        return False
    return recorded_hash(path) == digest


def _header(count: int, width: int) -> bytes:
    """The header of a .npy file of float32 (count, width)."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count, width)})
    return header.getvalue()


def _read_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
    """Return (shape, where the rows start in bytes) of a .npy file as it is written here; BadInput for others."""
    with foreign(file.name, "a .npy of features"):
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 2 or shape[1] < 1 or fortran_order or dtype != "<f4":
            raise ValueError("not a float32 matrix")
        return shape, file.tell()


def fingerprint(images: np.ndarray) -> str:
    """SHA-256 of the images in their order and of their shape (0.07 s for 120 MB); copies no contiguous array."""
    digest = hashlib.sha256(f"{images.dtype} {images.shape} ".encode())
    for first in range(0, len(images), PIECE):
        digest.update(np.ascontiguousarray(images[first : first + PIECE]))
    return digest.hexdigest()


def _text(path: pathlib.Path) -> str:
    return start_of(path, LONGEST_TEXT)
