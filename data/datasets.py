"""What every reader of images with labels returns, the checks it has passed, and its split for validation."""

from typing import NamedTuple

import numpy as np
from sklearn import model_selection

from common.files import BadInput

HELD_OUT = 3  # one image in three is kept for validation


class Dataset(NamedTuple):
    """Labelled images of one size, as they lie in memory."""

    images: np.ndarray  # (N, H, W, 3) uint8, RGB, 0-255
    labels: np.ndarray  # (N,) int64, 0 .. len(class_names) - 1
    class_names: list  # k names (str), in the order of the labels
    tracks: np.ndarray | None  # (N,) int64: which physical object an image shows; one track must not be split
    name: str  # for what is printed


def check(dataset, path):
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


def split(dataset, how, seed):
    """Rows for training and for validation, about two thirds and one third.

    `track`: GTSRB filmed each sign from a passing car, 30 images a sign. Neighbours in such a track are almost the
    same image. Dealt out at random, nearly every validation image has its twins among the training images, and
    the accuracy flatters: it says how well signs already seen are recognised. So a track stays on one side.
    `random`: as the course published it, for comparison with its 0.966.
    """
    rows = np.arange(len(dataset.labels))
    if how == "random":
        return model_selection.train_test_split(rows, test_size=0.33, random_state=seed)
    if dataset.tracks is None or len(np.unique(dataset.tracks)) < HELD_OUT:
        found = "does not tell which images show the same sign" if dataset.tracks is None else "holds too few signs"
        raise BadInput(f"{dataset.name}: {found}, for --split track; use --split random, and expect it to flatter")
    folds = model_selection.StratifiedGroupKFold(HELD_OUT, shuffle=True, random_state=seed)
    return next(folds.split(rows, dataset.labels, dataset.tracks))


def subset(dataset, rows):
    """Only these rows, in this order."""
    tracks = None if dataset.tracks is None else dataset.tracks[rows]
    return dataset._replace(images=dataset.images[rows], labels=dataset.labels[rows], tracks=tracks)


def joined(first, second):
    """The images of both under the first one's name and class names, without tracks."""
    images, labels = (np.concatenate(pair) for pair in ((first.images, second.images), (first.labels, second.labels)))
    return first._replace(images=images, labels=labels, tracks=None)


def few(rows, labels, count, seed):
    """The rows of `count` images of each class, chosen at random; 0 means all."""
    if not count:
        return rows
    rows = np.random.default_rng(seed).permutation(rows)
    return np.concatenate([rows[labels[rows] == label][:count] for label in np.unique(labels)])


def _one_integer_each(values, what, count, path):
    try:
        values = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: the {what} are no plain list; expected one whole number per image") from None
    if values.shape not in ((count,), (count, 1)):
        raise BadInput(f"{path}: {what} of the shape {values.shape} for {count} images; expected one per image")
    if values.dtype.kind not in "iu":
        raise BadInput(f"{path}: the {what} are {values.dtype}; expected whole numbers (an integer type)")
    return values.reshape(-1).astype(np.int64)
