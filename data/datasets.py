"""Labelled images: what every reader returns, the checks it has passed, and the data sets that are known by name.

    signs = named("traffic").load()    # a Dataset

A new data set is a reader (a module with a `SOURCE`) and a line in `TABLE`.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.errors import BadInput

TABLE = {"traffic": "data.traffic_signs", "cifar10": "data.cifar10"}  # name: the module that reads it
NO_MIRROR = -1  # in a table of mirror classes: the mirror image of this class is none of the classes


class Dataset(NamedTuple):
    """Labelled images of one size, as they lie in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8, RGB, 0-255
    labels: np.ndarray  # (N,) int64, 0 .. len(class_names) - 1
    class_names: list[str]  # k names, in the order of the labels
    tracks: np.ndarray | None  # (N,) int64: which physical object an image shows; one track must not be split
    name: str  # for what is printed
    images_per_track: int = 1  # where it is unknown which images show the same object: how many do


class Source(NamedTuple):
    """A data set that is known by name. All functions raise `BadInput` for files that are missing or damaged."""

    load: Callable[..., Dataset]  # (path=<its place in data/>) -> the training images, fetched when absent
    load_test: Callable[..., Dataset]  # (path=<its place in data/>) -> the test images, fetched when absent
    drawn: Callable[..., Dataset]  # (per_class=30, seed=0) -> drawn stand-ins, nothing fetched
    drawn_test: Callable[..., Dataset]  # (per_class=30, seed=0) -> other drawn images of the same classes
    class_names: Callable[[], list[str]]
    drawn_names: Callable[[], list[str]]  # of the classes of `drawn` and `drawn_test`
    mirror: tuple[int, ...]  # the class of each class's mirror image, or NO_MIRROR
    split: str  # the honest one: "track" where several images show one object, else "random"
    here: Callable[[], bool]  # whether `load` has the images on this machine, and would fetch none


def named(name: str) -> Source:
    """The data set of `TABLE` with this name. Its reader is imported only now."""
    return importlib.import_module(TABLE[name]).SOURCE


def of_classes(class_names: Sequence[str]) -> Source | None:
    """The data set of `TABLE` with these classes, in this order; None: there is none."""
    return next((each for each in map(named, TABLE) if each.class_names() == list(class_names)), None)


def drawn_of_classes(class_names: Sequence[str]) -> Source | None:
    """The data set of `TABLE` whose drawn stand-ins have these classes, in this order; None: there is none."""
    return next((each for each in map(named, TABLE) if each.drawn_names() == list(class_names)), None)


def mirror_of(class_names: Sequence[str]) -> tuple[int, ...]:
    """`Source.mirror` of the known data set with these classes, or ()."""
    source = of_classes(class_names)
    return source.mirror if source else ()


def check(dataset: Dataset, path: Any) -> Dataset:
    """Return `dataset` with labels and tracks as (N,) int64 arrays, or raise `BadInput` for the file `path`.

    (N, 1) labels and lists are accepted, and labels of any integer type. Not every class need occur.
    """
    images, count = dataset.images, len(dataset.class_names)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise BadInput(f"{path}: the images are {found}; expected uint8, RGB, 0 to 255")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise BadInput(f"{path}: images of the shape {images.shape}; expected (N, height, width, 3) without a 0")
    labels = _one_integer_each(dataset.labels, "labels", len(images), path)
    if labels.min() < 0 or labels.max() >= count:
        raise BadInput(f"{path}: the labels run from {labels.min()} to {labels.max()}, expected 0 to {count - 1}")
    tracks = dataset.tracks
    if tracks is not None:
        tracks = _one_integer_each(tracks, "tracks", len(images), path)
    return dataset._replace(labels=labels, tracks=tracks)


def subset(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Only these rows, in this order."""
    tracks = None if dataset.tracks is None else dataset.tracks[rows]
    return dataset._replace(images=dataset.images[rows], labels=dataset.labels[rows], tracks=tracks)


def _one_integer_each(values: Any, what: str, count: int, path: Any) -> np.ndarray:
    try:
        values = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: the {what} are not a plain list; expected one whole number per image") from None
    if values.shape not in ((count,), (count, 1)):
        raise BadInput(f"{path}: {what} of the shape {values.shape} for {count} images; expected one per image")
    if values.dtype.kind not in "iu":
        raise BadInput(f"{path}: the {what} are {values.dtype}; expected whole numbers (an integer type)")
    return values.reshape(-1).astype(np.int64)
