"""The decoded images of the user's own files, kept on disk.

10,000 images of 227x227 pixels are 1.5 GB. So each is decoded once, into a file that NumPy maps: the system reads
what is touched and gives it up when memory is short. For one folder and framing there are:

    <folder>-<hash>.npy    the images, uint8 (N, size, size, 3)
    <folder>-<hash>.json   the files that are not images, and so have no row there; the SHA-256 of the rows

The hash in the name stands for the files' names, sizes and times: when an image is changed or added, there is another
one. What is no longer wanted may be deleted at any time; what is damaged is made anew.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from common.errors import BadInput, reported
from common.files import open_regular, start_of
from common.locks import one_at_a_time
from common.writing import written_whole
from data import DATA_DIR, images
from data.folders import size_and_time

PICTURES_DIR = DATA_DIR / "pictures"
FORMAT = 6  # part of every hash; to be raised when images are read or cut in another way (a test notices some)
THREADS = min(8, os.cpu_count() or 1)  # two cores decode 1.5 times as many images with two threads as with one
ABANDONED = 3600  # seconds after which a file that nobody writes to is given up
LONGEST_RECORD = 100_000_000  # bytes of the list of files that are no images
OWN = re.compile(r"\..+-[0-9a-f]{16}\.(npy|json)\.\w+\.part")  # names of temporary files
AHEAD = 64  # images decoded before they are written: 10 MB at 227x227


def decoded_images(
    folder: pathlib.Path, files: list[pathlib.Path], framing: images.Framing, cache: str | os.PathLike | None
) -> tuple[np.ndarray, dict[pathlib.Path, str]]:
    """The images, uint8 (N, size, size, 3), and {file: reason} for the files that are not images.

    They are a read-only memory map of a file in `cache`; with None, an array. With a cache, `BadInput` where no file is
    an image, and where files change meanwhile.
    """
    if cache is None:
        return _in_memory(folder, files, framing)
    listed = [[file.relative_to(folder).as_posix(), *size_and_time(file)] for file in files]
    # The folder's own path, too: training and validation images may be called alike, and be as large and as old.
    key = {"format": FORMAT, "folder": str(folder.resolve()), "framing": framing, "files": listed}
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = pathlib.Path(cache) / f"{folder.resolve().name[:40]}-{digest[:16]}.npy"
    kept = _kept(path, files, framing)
    if kept is None:
        waiting = f"waiting for another process that reads the same images ({path})"
        with one_at_a_time(path.with_name(f".{path.stem}.lock"), waiting):
            _clear(path)
            kept = _kept(path, files, framing)  # that other process may have finished
            if kept is None:
                _decode(folder, files, framing, path)
                kept = _kept(path, files, framing)
    if kept is None:
        raise BadInput(f"{folder}: was changed while its images were read; start again")
    return kept


def concatenated(parts: list[np.ndarray], cache: str | os.PathLike | None) -> np.ndarray:
    """Images uint8 (N, size, size, 3), one part after the other, as a read-only memory map; with None, an array.

    It lies on disk in `cache`, in a file without a name that goes with the process.
    """
    if cache is None:
        return np.concatenate(parts)
    with reported(cache), tempfile.TemporaryFile(dir=cache) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(sum(map(len, parts)), *parts[0].shape[1:]))


def _clear(path: pathlib.Path) -> None:
    """Delete what killed processes left half written: for these images, or long ago. Others' files are left alone."""
    for part in path.parent.glob(".*.part"):
        with contextlib.suppress(OSError):
            old = OWN.fullmatch(part.name) and time.time() - part.stat().st_mtime > ABANDONED
            if old or part.name.startswith(f".{path.stem}."):
                part.unlink()


def _kept(
    path: pathlib.Path, files: list[pathlib.Path], framing: images.Framing
) -> tuple[np.ndarray, dict[pathlib.Path, str]] | None:
    """What `decoded_images` returns, from the files at `path`; None when they are absent, damaged or outdated.

    All rows are read once, for their hash: about a second per GB.
    """
    try:
        record = json.loads(start_of(path.with_suffix(".json"), LONGEST_RECORD))
        open_regular(path).close()  # np.load would wait for a pipe
        unreadable, decoded = [files[number] for number in record["unreadable"]], np.load(path, mmap_mode="r")
        shape = (len(files) - len(unreadable), framing.size, framing.size, 3)
        if decoded.shape != shape or decoded.dtype != np.uint8 or not decoded.flags.c_contiguous:
            return None
        if hashlib.sha256(memoryview(decoded).cast("B")).hexdigest() != record["sha256"]:
            return None
    except Exception:  # damaged files make NumPy's and JSON's readers raise nearly anything
        return None
    # Tried again: they may be readable by now, with other permissions or another reader installed.
    reasons = {file: _decoded_one(file, framing)[1] for file in unreadable}
    return (decoded, reasons) if all(reasons.values()) else None


def _decode(folder: pathlib.Path, files: list[pathlib.Path], framing: images.Framing, path: pathlib.Path) -> None:
    """Write the two files of `path`; the images last, they stand for both."""
    numbers, digest = [], hashlib.sha256()  # of the files that are not images; of the others' pixels
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        _write_header(file, len(files), framing.size)
        for number, (image, reason) in enumerate(_each_decoded(folder, files, framing)):
            if reason:
                numbers.append(number)
            else:
                file.write(image)
                digest.update(image)
        if len(numbers) == len(files):
            raise BadInput(f"{folder}: none of its {len(files)} files is an image that can be read")
        file.seek(0)
        _write_header(file, len(files) - len(numbers), framing.size)
        with written_whole(path.with_suffix(".json")) as record:
            record.write_text(json.dumps({"unreadable": numbers, "sha256": digest.hexdigest()}))


def _in_memory(
    folder: pathlib.Path, files: list[pathlib.Path], framing: images.Framing
) -> tuple[np.ndarray, dict[pathlib.Path, str]]:
    """What `decoded_images` returns, with nothing kept on disk."""
    decoded, unreadable = np.empty((len(files), framing.size, framing.size, 3), np.uint8), {}
    for number, (image, reason) in enumerate(_each_decoded(folder, files, framing)):
        if reason:
            unreadable[files[number]] = reason
        else:
            decoded[number - len(unreadable)] = image[0]
    return decoded[: len(files) - len(unreadable)], unreadable


def _each_decoded(
    folder: pathlib.Path, files: list[pathlib.Path], framing: images.Framing
) -> Iterator[tuple[np.ndarray | None, str | None]]:
    """What `_decoded_one` returns for each file, in order: several threads work ahead, under a progress bar."""
    # Each read changes the filters for warnings and changes them back, which threads do in any order.
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        # disable=None: no bar where stderr is not a terminal
        with tqdm(total=len(files), desc=f"Reading {folder}", unit=" images", disable=None) as bar:
            for first in range(0, len(files), AHEAD):
                for result in pool.map(lambda one: _decoded_one(one, framing), files[first : first + AHEAD]):
                    yield result
                    bar.update()


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    """NumPy pads it so that a new count of rows fits in the old one's place."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def _decoded_one(file: pathlib.Path, framing: images.Framing) -> tuple[np.ndarray | None, str | None]:
    """(uint8 (1, size, size, 3), None), or (None, reason) if the file is not an image."""
    try:
        return images.read_all([file], framing), None
    except BadInput as error:
        return None, str(error)
