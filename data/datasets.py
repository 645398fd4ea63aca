"""What every reader of pictures with labels returns, and the checks it has passed."""

from typing import NamedTuple

import numpy as np

from data.files import BadInput


class Dataset(NamedTuple):
    """Labelled pictures of one size, as they lie in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8, RGB, 0-255
    labels: np.ndarray  # (N,) int64, 0 .. len(class_names) - 1
    class_names: list  # k names (str), in the order of the labels
    tracks: np.ndarray | None  # (N,) int64: which physical object a picture shows; one track must not be split
    name: str  # for what is printed


def check(dataset, path):
    """Return `dataset` with labels and tracks as (N,) int64 arrays, or raise `BadInput` for the file `path`.

    (N, 1) labels and lists are accepted, and labels of any integer type. Not every class need occur.
    """
    images, count = dataset.images, len(dataset.class_names)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise BadInput(f"{path}: the pictures are {found}; expected uint8, RGB, 0 to 255")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise BadInput(f"{path}: pictures of the shape {images.shape}; expected (N, height, width, 3) without a 0")
    labels = _one_integer_each(dataset.labels, "labels", len(images), path)
    if labels.min() < 0 or labels.max() >= count:
        raise BadInput(f"{path}: the labels run from {labels.min()} to {labels.max()}, expected 0 to {count - 1}")
    tracks = dataset.tracks
    if tracks is not None:
        tracks = _one_integer_each(tracks, "tracks", len(images), path)
    return dataset._replace(labels=labels, tracks=tracks)


def _one_integer_each(values, what, count, path):
    try:
        values = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: the {what} are no plain list; expected one whole number a picture") from None
    if values.shape not in ((count,), (count, 1)):
        raise BadInput(f"{path}: {what} of the shape {values.shape} for {count} pictures; expected one a picture")
    if values.dtype.kind not in "iu":
        raise BadInput(f"{path}: the {what} are {values.dtype}; expected whole numbers (an integer type)")
    return values.reshape(-1).astype(np.int64)
