"""Is an image like anything the classifier was trained on? A softmax cannot say "none of these"; distances can.

    known = fit(features, labels, training, validation)    # once, after training
    percentiles(known, features_of_new_images)             # (N,) 0 to 100; see `is_unlike`

Each feature is brought to mean 0 and spread 1 over the training images. An image's distance is 1 minus the cosine of
the angle between its features and the nearest class mean: 0 in the same direction, 1 at a right angle. The scale comes
from images of known classes that were not trained on: farther than 99 % of those is "unlike anything in training".

Measured with GoogLeNet at 64 pixels, 100 traffic signs per class, on signs of other tracks and 600 photos of
Tiny-ImageNet shrunk to the signs' 32 pixels. AUROC: 0.97 on pool5's features and 0.99 on pool3's, against 0.60 for the
softmax's largest probability. With 1 % of the signs called unlike, 44 % and 64 % of the photos are.
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from common.files import file_hash
from common.rows import batches, sums_and_squares
from weights import npz

BATCH = 1024  # rows of features at a time: all of them may be more than the memory holds
FLOOR = 0.1  # of the typical spread: a feature that (nearly) never moved in training would else outweigh all others
NOISE = 1e-3  # a distance that rounding to float16 makes of none, as of an image that was trained on
PERCENTILE = 99  # beyond it, an image is unlike the training images
ENOUGH = 100  # held-out images for a scale; with fewer, the training images themselves make it
FILE = "known.npz"  # its name beside a head
MOST_NUMBERS = 500_000_000  # in one array: 1,000 classes of 500,000 features
PREFIX = "known_"  # of the arrays in a file


class Known(NamedTuple):
    """What training images look like; k classes that had any, D features. Half as large as a head's kernel."""

    mean: np.ndarray  # (D,) float32
    spread: np.ndarray  # (D,) float32
    directions: np.ndarray  # (k, D) float16: the class means after standardising, each of length 1
    quantiles: np.ndarray  # (101,) float32: distances of known images, the 0th to the 100th percentile


def fit(features: np.ndarray, labels: np.ndarray, training: np.ndarray, validation: np.ndarray) -> Known:
    """Class means of the training rows, and a scale of distances.

    features (N, D): numbers in memory, or in a file of which `features[rows]` reads some; labels (N,) int; training and
    validation are row numbers. The scale is made of the validation rows, or where they are few, of the training rows,
    each compared with the mean of its class without itself.
    """
    mean, spread = _mean_and_spread(features, training)
    classes, own = np.unique(labels[training], return_inverse=True)
    sums = np.zeros((len(classes), features.shape[1]), np.float32)
    for rows, which in zip(batches(training, BATCH), batches(own, BATCH)):
        np.add.at(sums, which, _standardised(features[rows], mean, spread))
    known = Known(mean, spread, _unit(sums).astype(np.float16), np.zeros(101, np.float32))
    if len(validation) >= ENOUGH:
        found = np.concatenate([distances(known, features[rows]) for rows in batches(validation, BATCH)])
    else:
        found = _distances_from_the_others(features, training, own, sums, known)
    return known._replace(quantiles=np.percentile(found, np.arange(101)).astype(np.float32))


def distances(known: Known, features: np.ndarray) -> np.ndarray:
    """features (N, D) -> (N,) float32, 0 (as a class mean) to 2: how far each image lies from the nearest class."""
    return 1 - (_directions(known, features) @ known.directions.astype(np.float32).T).max(axis=1)


def percentiles(known: Known, features: np.ndarray) -> np.ndarray:
    """features (N, D) -> (N,) 0 to 100: what share of known images lies nearer to its nearest class, in percent."""
    found = distances(known, features)
    return np.where(found < NOISE, 0, np.interp(found, known.quantiles, np.arange(101)))


def is_unlike(percentile: float) -> bool:
    """Whether an image at this percentile, 0 to 100, is unlike anything in training."""
    return bool(percentile >= PERCENTILE)


def save(known: Known, head: pathlib.Path) -> None:
    """Keep it beside the head file that it belongs to, whole or not at all."""
    arrays = {PREFIX + name: array for name, array in known._asdict().items()}
    npz.save(head.with_name(FILE), head=file_hash(head, "sha256"), **arrays)


def load(head: pathlib.Path, size: int) -> Known | None:
    """What was kept beside a head of `size` features; None where nothing was, or nothing that fits it."""
    path = head.with_name(FILE)
    if not path.exists():
        return None
    with npz.opened(path, "what the training images look like", "delete it") as stored:
        if any(math.prod(array.shape) > MOST_NUMBERS for array in stored.values()):
            return None
        arrays = {name: array.read() for name, array in stored.items()}
    if str(arrays.get("head")) != file_hash(head, "sha256"):
        return None
    if not all(PREFIX + name in arrays for name in Known._fields):
        return None
    known = Known(*(arrays[PREFIX + name] for name in Known._fields))
    return known if _fits(known, size) else None


def sentence(percentile: float) -> str:
    """For people: where among known images an image lies, 0 to 100."""
    if is_unlike(percentile):
        return f"Unlike anything in training: further from every class than {PERCENTILE} % of known images"
    return f"Further from its nearest class than {int(percentile)} % of known images"


def _fits(known: Known, size: int) -> bool:
    """Whether arrays from a file belong together and to `size` features, are finite, and all spreads above 0."""
    count = len(known.directions) if known.directions.ndim else 0
    shapes = (size,), (size,), (count, size), (101,)
    return (
        all(array.shape == shape and array.dtype.kind == "f" for array, shape in zip(known, shapes))
        and all(array.size and np.isfinite(array).all() for array in known)
        and bool(known.spread.min() > 0)
    )


def _distances_from_the_others(
    features: np.ndarray, training: np.ndarray, own: np.ndarray, sums: np.ndarray, known: Known
) -> np.ndarray:
    """The distance of each training image, its own class represented by its other images."""
    found = []
    for rows, which in zip(batches(training, BATCH), batches(own, BATCH)):
        standardised = _standardised(features[rows], known.mean, known.spread)
        cosines = _unit(standardised) @ known.directions.astype(np.float32).T
        others = _unit(sums[which] - standardised)
        cosines[np.arange(len(rows)), which] = np.einsum("ij,ij->i", _unit(standardised), others)
        found.append(1 - cosines.max(axis=1))
    return np.concatenate(found)


def _mean_and_spread(features: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, squares = sums_and_squares(features, training) / len(training)
    variance = np.maximum(squares - mean**2, 0)
    least = FLOOR * np.sqrt(variance.mean()) or 1.0  # 1: all images alike
    return mean.astype(np.float32), np.maximum(np.sqrt(variance), least).astype(np.float32)


def _standardised(features: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return (np.asarray(features, np.float32) - mean) / spread


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _directions(known: Known, features: np.ndarray) -> np.ndarray:
    return _unit(_standardised(features, known.mean, known.spread))
