"""CIFAR-10: 50,000 training and 10,000 test images of 32x32 in ten classes (Krizhevsky 2009).

The official batches are pickles; they are read without running what is in them, from a folder or from the archive.
"""

import contextlib
import gzip
import os
import pathlib
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from common import safe_pickle
from common.errors import BadInput, foreign
from common.fetching import fetch
from common.files import open_regular
from common.kinds import kind_of
from data import DATA_DIR, drawn_signs, pickles
from data.datasets import Dataset, Source, check
from data.traffic_signs import sign_names

FOLDER = DATA_DIR / "cifar-10-batches-py"
ARCHIVES = [DATA_DIR / "cifar-10-python.tar.gz", DATA_DIR / "cifar-10-python.tar"]
KERAS = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"
KERAS_FOLDERS = [KERAS / "cifar-10-batches-py-target" / FOLDER.name, KERAS / FOLDER.name]  # Keras 3, and before
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"  # 170 MB
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
TRAINING, TEST = [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]  # the official files
DRAWN = [1, 11, 12, 13, 14, 17, 25, 33, 38, 40]  # ten traffic signs of different shapes and colours

MOST_MEMBERS = 1000  # of the archive; the official one has 9
BLOCK = 1 << 20  # bytes read at a time
SPARE = 60_000_000  # bytes that it may unpack to beyond three times its size; the official one has 186 million of 170
EXPECTED = "the official CIFAR-10, cifar-10-python.tar.gz or what it unpacks to"


def load(path: str | os.PathLike = FOLDER) -> Dataset:
    """Return the 50,000 training images, without tracks, in the order of the five batches.

    `path`: the folder of the official batches, or the archive, .tar.gz or .tar. If the default folder is absent, the
    archive is looked for in data/, then what Keras has fetched before; else the archive is fetched. Raises `BadInput`.
    """
    return _load(path, TRAINING, "CIFAR-10")


def load_test(path: str | os.PathLike = FOLDER) -> Dataset:
    """Return the 10,000 test images, see `load`."""
    return _load(path, TEST, "CIFAR-10, test")


def drawn_names() -> list[str]:
    """The names of the ten classes of `drawn`."""
    return [sign_names()[label] for label in DRAWN]


def drawn(per_class: int = 30, seed: int = 0) -> Dataset:
    """Return drawn stand-ins for trying things out: per_class images of ten of the traffic signs."""
    return _drawn(per_class, seed)[0]


def drawn_test(per_class: int = 30, seed: int = 0) -> Dataset:
    """Return other drawn images than `drawn` with the same arguments: a third as many, at least one per class."""
    return _drawn(per_class, seed)[1]


def _load(path: str | os.PathLike, files: list[str], name: str) -> Dataset:
    path = pathlib.Path(path)
    if not path.exists():
        if path.resolve() != FOLDER:
            raise BadInput(f"{path}: no such file or folder; expected {EXPECTED}")
        path = next((place for place in [*ARCHIVES, *KERAS_FOLDERS] if place.exists()), None)
        path = path or fetch([URL], ARCHIVES[0], sha256=SHA256)
    contents = _from_folder(path, files) if path.is_dir() else _from_archive(path, files)
    batches = [_batch(content, f"{path}/{file}") for file, content in zip(files, contents)]
    images, labels = (np.concatenate(part) for part in zip(*batches))
    return check(Dataset(images, labels, NAMES, None, name), path)


def _from_folder(folder: pathlib.Path, files: Sequence[str]) -> Iterator[Any]:
    for name in files:
        if not (folder / name).exists():
            raise BadInput(f"{folder / name}: missing; unpack {ARCHIVES[0].name} again")
        yield pickles.read(folder / name, f"a batch of {EXPECTED}")


def _from_archive(path: pathlib.Path, files: Sequence[str]) -> list[Any]:
    """Read the batches out of the archive in memory: names inside it are never used as paths."""
    found = {}
    with _unzipped(path) as stream, foreign(path, "a tar archive", "fetch it again"):
        # As a stream, each byte once: what a crafted archive can hold is bounded by the bytes that are let through.
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= MOST_MEMBERS:
                    raise BadInput(f"{path}: has more than {MOST_MEMBERS} members; expected {EXPECTED}")
                folder, name = posixpath.split(posixpath.normpath(member.name))
                plain = member.isfile() and not member.issparse()  # of a sparse one, the holes are on no tape
                if name in files and folder in ("", FOLDER.name) and plain and name not in found:
                    found[name] = safe_pickle.load(tar.extractfile(member), name=f"{path}: {name}")
                if len(found) == len(files):
                    break
        while stream.read(BLOCK):  # to the end, for there the checksum of a .gz stands
            pass
    for name in files:
        if name not in found:
            raise BadInput(f"{path}: {FOLDER.name}/{name} is missing; expected {EXPECTED}")
    return [found[name] for name in files]


@contextlib.contextmanager
def _unzipped(path: pathlib.Path) -> Iterator["_Limited"]:
    """The bytes of a .tar, or of a .tar.gz unzipped, but not many times the file's size."""
    kind = kind_of(path)
    if kind not in ("a gzip file", "a tar archive"):
        raise BadInput(f"{path}: is {kind}; expected {EXPECTED}")
    with open_regular(path, EXPECTED) as file, contextlib.ExitStack() as stack:
        limit = 3 * path.stat().st_size + SPARE
        stream = stack.enter_context(gzip.open(file)) if kind == "a gzip file" else file
        yield _Limited(stream, limit)


class _Limited:
    """A file that refuses to give more than so many bytes."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self.file, self.left = file, left

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it unpacks to many times its size")
        return data


def _batch(batch: Any, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one batch as images (N, 32, 32, 3) and labels (N,). In the file each image is 1024 reds, greens, blues."""
    if not isinstance(batch, dict) or not {"data", "labels"} <= batch.keys():
        raise BadInput(f"{path}: holds no data and labels; expected a batch of the official CIFAR-10")
    try:
        rows, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: data or labels are not an array; expected uint8 (N, 3072) with N labels") from None
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32 or labels.shape != rows.shape[:1]:
        found = f"{rows.dtype} {rows.shape} with labels {labels.shape}"
        raise BadInput(f"{path}: holds {found}; expected uint8 (N, 3072) with N labels")
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def here() -> bool:
    """Whether the images lie where `load` looks for them."""
    return any(place.exists() for place in [FOLDER, *ARCHIVES, *KERAS_FOLDERS])


def _drawn(per_class: int, seed: int) -> tuple[Dataset, Dataset]:
    tests = max(1, per_class // 3)
    images, _ = drawn_signs.draw(per_class=per_class + tests, seed=seed, classes=DRAWN)
    images = images.reshape(-1, per_class + tests, *images.shape[1:])  # (class, image, ...)
    names = drawn_names()
    datasets = []
    for part, name in (images[:, :per_class], "ten drawn signs"), (images[:, per_class:], "ten drawn signs, test"):
        labels = np.repeat(np.arange(len(DRAWN)), part.shape[1])
        datasets.append(check(Dataset(np.concatenate(part), labels, names, None, name), name))
    return datasets[0], datasets[1]


# A frog seen in a mirror is still a frog.
MIRROR = tuple(range(10))
SOURCE = Source(load, load_test, drawn, drawn_test, lambda: list(NAMES), drawn_names, MIRROR, split="random", here=here)
