"""Which images are trained on and which validate: an honest split, fewer images, and what one should know of either.

    parts = fewer(split(signs, "track", seed=0), 100, 20, seed=0)
    signs = parts.dataset.images[parts.training]    # (N, H, W, 3)

A split names rows of its data set; the images stay where they are.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from common.errors import BadInput
from data.datasets import Dataset, subset

FOLDS = 3  # by track, one image in three is kept for validation
HELD_OUT = 0.33  # at random, as the course did
UNDIVIDED = ", none held out"  # what the name of such a data set ends in
TRAINED_ON = 1000  # images to validate on where none is held out
SMALL = 10  # training images; below, a class is called small
NAMED = 5  # classes listed by name in a note


class Split(NamedTuple):
    """A data set and which of its images are trained on, which validate; the others are not used."""

    dataset: Dataset
    training: np.ndarray  # row numbers, int64
    validation: np.ndarray  # row numbers, int64


def split(dataset: Dataset, by: str, seed: int, held_out: float = HELD_OUT) -> Split:
    """Keep about a third of each class for validation; every class that occurs has at least one training image.

    `none`: train on all images; a thousand of them also validate, and say only whether the training went well.
    `track`: GTSRB filmed each sign from a passing car, 30 images per sign. Neighbours in such a track are almost the
    same image. Dealt out at random, nearly every validation image has its twins among the training images, and
    the accuracy flatters: it says how well signs already seen are recognised. So a track stays on one side.
    `random`: as the course did, for comparison with its 0.966; `held_out` is the share for validation.

    A class of two or more tracks (images) has a validation image, too. `notes` says which classes have none. Raises
    `BadInput` for a class with a single image, and for `track` where the tracks are unknown.
    """
    if by == "none":
        rows = np.arange(len(dataset.labels))
        return Split(dataset._replace(name=dataset.name + UNDIVIDED), rows, np.sort(some(rows, TRAINED_ON, seed)))
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    if alone := _names(dataset, np.flatnonzero(counts == 1)):
        raise BadInput(
            f"{dataset.name}: only one image of {alone}; a class needs two or more, to train and to validate"
        )
    if by == "random":
        if dataset.tracks is None and dataset.images_per_track > 1:  # some of nearly every object are on both sides
            dataset = dataset._replace(tracks=dataset.labels)  # the worst that may be: one object per class
        return Split(dataset, *_split_at_random(dataset.labels, held_out, seed))
    if dataset.tracks is None or len(np.unique(dataset.tracks)) < FOLDS:
        found = "does not tell which images show the same sign" if dataset.tracks is None else "holds too few signs"
        raise BadInput(f"{dataset.name}: {found}, for --split track; use --split random, and expect it to flatter")
    training, validation = _split_by_track(dataset.labels, dataset.tracks, seed)
    if not len(validation):
        raise BadInput(f"{dataset.name}: no class shows two signs, for --split track; use --split random")
    return Split(dataset, training, validation)


def fewer(parts: Split, per_class: int, validation_per_class: int, seed: int) -> Split:
    """At most so many images of each class, chosen at random; 0: all. The others leave the data set as well.

    A validation image of which training images are copies shares the row of one that was chosen, see
    `with_copies_shared`.
    """
    if not (per_class or validation_per_class):
        return parts
    labels = parts.dataset.labels
    training = few(parts.training, labels, per_class, seed)
    validation = few(parts.validation, labels, validation_per_class, seed)
    return in_order(with_copies_shared(Split(parts.dataset, training, validation)))


def few(rows: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the rows (n,) of each class, chosen at random, class after class; 0: all, as they are.

    labels: (N,), of the whole data set, of which the rows are numbers.
    """
    if not count:
        return rows
    rows = np.random.default_rng(seed).permutation(rows)
    return np.concatenate([rows[labels[rows] == label][:count] for label in np.unique(labels[rows])])


def some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` rows (n,), chosen at random, in random order; 0, or if there are no more: all, as they are."""
    return rows if not most or len(rows) <= most else np.random.default_rng(seed).permutation(rows)[:most]


def in_order(parts: Split) -> Split:
    """The same images with those for training first, as rows 0, 1, ...; what is not used leaves the data set.

    An image on both sides stays one row: else it would pass for one that was never trained on.
    """
    new = ~np.isin(parts.validation, parts.training)
    rows = np.concatenate([parts.training, parts.validation[new]])
    place = np.zeros(len(parts.dataset.labels), np.int64)
    place[rows] = np.arange(len(rows))
    return Split(subset(parts.dataset, rows), place[parts.training], place[parts.validation])


def joined(training: Dataset, validation: Dataset, concatenate: Callable = np.concatenate) -> Split:
    """One data set of two, under the first one's name and class names: train on the first, validate on the second.

    The tracks of the two are different ones, whatever their numbers; where either's are unknown, all are. concatenate:
    [images, images] -> images, for those that memory would not hold. Raises `BadInput` for images of two sizes.
    """
    if training.images.shape[1:] != validation.images.shape[1:]:
        sizes = [f"{part.images.shape[2]}x{part.images.shape[1]} pixels" for part in (training, validation)]
        raise BadInput(f"{validation.name}: images of {sizes[1]}; expected {sizes[0]}, as in {training.name}")
    images = concatenate([training.images, validation.images])
    labels = np.concatenate([training.labels, validation.labels])
    tracks = None
    if training.tracks is not None and validation.tracks is not None:
        first, second = (np.unique(part.tracks, return_inverse=True)[1] for part in (training, validation))
        tracks = np.concatenate([first, second + first.max() + 1])
    rows = np.arange(len(labels))
    both = training._replace(images=images, labels=labels, tracks=tracks)
    return Split(both, rows[: len(training.labels)], rows[len(training.labels) :])


def with_copies_shared(parts: Split) -> Split:
    """A split in which validation images that are training images too are the same rows.

    Else they would pass for new ones, as the signs of valid.p would beside a train.p from before these were taken out.
    Where tracks are known, the rest of a copied image's track counts as seen as well.
    """
    dataset, training, validation = parts
    known = dict(zip(_contents(dataset, training), training))
    rows = [known.get(key, row) for key, row in zip(_contents(dataset, validation), validation)]
    rows = np.array(rows, dtype=np.asarray(validation).dtype)  # even of none
    tracks = dataset.tracks
    if tracks is not None:
        _, tracks = np.unique(tracks, return_inverse=True)  # their numbers may be anything: dates, or -1 for unknown
        moved = (rows != validation) & ~np.isin(tracks[validation], tracks[training])  # others count as seen already
        track = np.arange(tracks.max() + 1)
        track[tracks[validation[moved]]] = tracks[rows[moved]]
        dataset = dataset._replace(tracks=track[tracks])
    return Split(dataset, training, rows)


def count_in(dataset: Dataset, other: Dataset) -> int:
    """How many images of `dataset` are in `other`, too, in the same class."""
    known = set(_contents(other, range(len(other.labels))))
    return sum(key in known for key in _contents(dataset, range(len(dataset.labels))))


def _contents(dataset: Dataset, rows: Sequence[int]) -> list[tuple[int, bytes]]:
    """(label, hash of the pixels) of each of these rows; 0.3 s for 39,209 signs."""
    hashed = (hashlib.sha256(np.ascontiguousarray(dataset.images[row])).digest() for row in rows)
    return list(zip(dataset.labels[rows].tolist(), hashed))


def for_test(dataset: Dataset, seen: int = 0) -> Split:
    """All images to be judged; so many of them, whichever they are, were trained on."""
    return Split(dataset, np.arange(seen), np.arange(len(dataset.labels)))


def fingerprint(parts: Split) -> str:
    """SHA-256 of what decides a split: labels, class names, and the rows on either side; not of the pixels."""
    digest = hashlib.sha256("\n".join(parts.dataset.class_names).encode())
    for array in (parts.dataset.labels, parts.training, parts.validation):
        digest.update(np.ascontiguousarray(array, np.int64))
    return digest.hexdigest()


def notes(parts: Split) -> list[str]:
    """What one should know before believing the figures, a sentence each: classes without images, small ones, twins."""
    dataset, training, validation = parts
    counts = np.bincount(dataset.labels[training], minlength=len(dataset.class_names))
    validated = np.bincount(dataset.labels[validation], minlength=len(dataset.class_names)) > 0
    small = np.flatnonzero((counts > 0) & (counts < SMALL))
    told = []
    if absent := _names(dataset, np.flatnonzero(counts == 0)):
        told.append(f"No training images, so never predicted: {absent}.")
    if absent := _names(dataset, np.flatnonzero((counts > 0) & ~validated)):
        told.append(f"No validation images, so it is unknown how well they are recognised: {absent}.")
    if len(small):
        told.append(f"Fewer than {SMALL} training images: {_names(dataset, small[np.argsort(counts[small])], counts)}.")
    if copied := np.isin(validation, training).sum():
        told.append(
            f"{copied:,} of {len(validation):,} validation images are training images, too: the accuracy flatters."
        )
    elif share_seen(parts) > 0.5:
        told.append("Most validation images show an object that training images show as well: the accuracy flatters.")
    if dataset.tracks is None and dataset.images_per_track > 1 and len(training):
        each = f"Each object is in {dataset.images_per_track} images, and it is unknown in which"
        told.append(f"{each}: if some of them are in training and some in validation, the accuracy flatters.")
    return told


def share_seen(parts: Split) -> float:
    """The share of validation images whose track, if it is known, or that themselves are in the training images too."""
    tracks = parts.dataset.tracks
    if not len(parts.validation):
        return 0.0
    if tracks is None:
        tracks = np.arange(len(parts.dataset.labels))
    return float(np.isin(tracks[parts.validation], tracks[parts.training]).mean())


def _split_at_random(labels: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))
    validation = []
    for label in np.unique(labels):
        of_class = rows[labels[rows] == label]
        validation.append(of_class[: min(max(1, round(held_out * len(of_class))), len(of_class) - 1)])
    held = np.isin(rows, np.concatenate(validation))
    return rows[~held], rows[held]


def _split_by_track(labels: np.ndarray, tracks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold  # a second, for which `--help` need not wait

    folds = StratifiedGroupKFold(min(FOLDS, np.bincount(labels).max()), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes smaller than the number of folds, which are seen to below
        held = np.zeros(len(labels), bool)
        held[next(folds.split(labels, labels, tracks))[1]] = True
    # The folds balance the classes where they can; small classes may be left on one side.
    for label in np.unique(labels):
        own = labels == label
        if held[own].all():
            held[tracks == tracks[own][0]] = False
    for label in np.unique(labels):
        own = labels == label
        if not held[own].any():
            _hold_one_track(held, labels, tracks, own)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _hold_one_track(held: np.ndarray, labels: np.ndarray, tracks: np.ndarray, own: np.ndarray) -> None:
    """Move the smallest track of a class to the validation, if every class in that track keeps training images."""
    found, sizes = np.unique(tracks[own], return_counts=True)
    for track in found[np.argsort(sizes, kind="stable")]:
        rest = ~held & (tracks != track)
        if np.isin(labels[tracks == track], labels[rest]).all():
            held[tracks == track] = True
            return


def _names(dataset: Dataset, classes: Sequence[int], counts: np.ndarray | None = None) -> str:
    """The names of some classes, the first few by name, with their counts where given."""
    names = [dataset.class_names[label] for label in classes[:NAMED]]
    if counts is not None:
        names = [f"{name} ({counts[label]})" for name, label in zip(names, classes)]
    more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    return ", ".join(names) + more
