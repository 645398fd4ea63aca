"""CIFAR-10: 50,000 training and 10,000 test images of 32x32 in ten classes (Krizhevsky 2009)."""

import contextlib
import pathlib
import sys
import tarfile
import zlib

import numpy as np

from common import safe_pickle
from common.files import BadInput
from common.program import start_tensorflow
from data import DATA_DIR, drawn_signs
from data.datasets import Dataset, Source, check
from data.traffic_signs import sign_names

FOLDER = DATA_DIR / "cifar-10-batches-py"
ARCHIVE = DATA_DIR / "cifar-10-python.tar.gz"
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
PARTS = {"CIFAR-10": [f"data_batch_{number}" for number in range(1, 6)], "CIFAR-10, test": ["test_batch"]}
DRAWN = [1, 11, 12, 13, 14, 17, 25, 33, 38, 40]  # ten traffic signs of different shapes and colours


def load(folder=FOLDER):
    """Return (training, test), two `Dataset`s without tracks.

    `folder` holds the official pickled batches. If the default one is absent, `data/cifar-10-python.tar.gz` is read
    without unpacking it; if that is absent too, Keras fetches (170 MB, kept in ~/.keras) and checks the images.
    Raises `BadInput`.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        return _datasets(lambda name: safe_pickle.load(_existing(folder / name)), folder)
    if folder.resolve() != FOLDER:
        raise BadInput(f"{folder}: no such folder; expected the one that {ARCHIVE.name} unpacks to")
    return _from_archive(ARCHIVE) if ARCHIVE.exists() else _from_keras()


def drawn(per_class=30, seed=0):
    """Return (training, test), drawn stand-ins for trying things out: ten of the traffic signs, by their own names.

    per_class images of each class for training and a third as many, at least one, for the test.
    """
    tests = max(1, per_class // 3)
    images, labels = drawn_signs.draw(per_class=per_class + tests, seed=seed)
    images = images.reshape(-1, per_class + tests, *images.shape[1:])[DRAWN]  # (class, image, ...)
    names = [sign_names()[label] for label in DRAWN]
    return tuple(
        _dataset(np.concatenate(part), np.repeat(np.arange(len(DRAWN)), part.shape[1]), names, "drawn_signs.py", name)
        for part, name in ((images[:, :per_class], "ten drawn signs"), (images[:, per_class:], "ten drawn signs, test"))
    )


def _existing(path):
    if not path.is_file():
        raise BadInput(f"{path}: missing; unpack {ARCHIVE.name} again, or delete the folder to have CIFAR-10 fetched")
    return path


def _from_archive(path):
    """Read the batches out of the official tar.gz in memory: names inside it are never used as paths."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            return _datasets(lambda name: safe_pickle.load(_member(tar, name, path), name=f"{path}: {name}"), path)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read as a tar.gz ({error}); delete it and fetch it again") from None


def _member(tar, name, path):
    for member in tar:
        if member.name == f"{FOLDER.name}/{name}" and member.isfile():
            return tar.extractfile(member)
    raise BadInput(f"{path}: {FOLDER.name}/{name} is missing; expected the official archive")


def _from_keras():
    start_tensorflow()
    from keras.datasets import cifar10  # slow to import, and seldom needed

    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
            train, test = cifar10.load_data()
    except Exception as error:  # Keras raises a plain Exception when an address fails
        reason = " ".join(str(error).split())
        advice = f"put {ARCHIVE.name}, or the folder {FOLDER.name} in it, into data/"
        raise BadInput(f"CIFAR-10 cannot be fetched ({reason}); {advice}") from None
    return tuple(_dataset(*part, NAMES, "the files in ~/.keras", name) for part, name in zip((train, test), PARTS))


def _datasets(read, path):
    """Return (training, test); `read(name)` gives one of the official files, a dict."""
    datasets = []
    for name, files in PARTS.items():
        batches = [_batch(read(file), f"{path}/{file}") for file in files]
        images, labels = (np.concatenate(part) for part in zip(*batches))
        datasets.append(_dataset(images, labels, NAMES, path, name))
    return tuple(datasets)


def _batch(batch, path):
    """Return one batch as images (N, 32, 32, 3) and labels (N,). On file per image is 1024 reds, greens, blues."""
    if not isinstance(batch, dict) or not {"data", "labels"} <= batch.keys():
        raise BadInput(f"{path}: holds no data and labels; expected a batch of the official CIFAR-10")
    try:
        rows, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: data or labels are no plain array; expected uint8 (N, 3072) with N labels") from None
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32 or labels.shape != rows.shape[:1]:
        found = f"{rows.dtype} {rows.shape} with labels {labels.shape}"
        raise BadInput(f"{path}: holds {found}; expected uint8 (N, 3072) with N labels")
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _dataset(images, labels, names, path, name):
    return check(Dataset(images, labels, names, None, name), path)


SOURCE = Source(
    load=lambda *path: load(*path)[0],
    load_test=lambda *path: load(*path)[1],
    drawn=lambda *arguments, **settings: drawn(*arguments, **settings)[0],
    class_names=lambda: NAMES,
    flip=True,
    split="random",
)
