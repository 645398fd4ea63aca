"""How good is a classifier? Accuracy with its confidence interval, figures per class, the mistakes themselves.

    report(parts, probabilities, folder)         # printed; tables per class and of confusions in the folder

`parts` is a `data.splits.Split`: the probabilities are those of its validation images; `for_test` makes one of a
test set. The steps, for use alone:

    judged = evaluate(labels, probabilities, class_names)
    print_report(judged, class_names, "German traffic signs", independent=len(labels))
    write_tables(judged, class_names, folder, "validation")  # validation-per_class.csv, validation-confusion.csv
"""

import csv
import math
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from common.program import shown

import numpy as np
from sklearn import metrics

from common.errors import printable
from common.writing import written_whole
from data import splits
from data.splits import Split

Z = 1.96  # standard deviations to either side of the mean that hold 95 % of a normal distribution
TOP = 5  # ImageNet's second figure: the share of images whose class is among the five most probable ones
ALL_CLASSES = 12  # up to here the printed table has every class
CONFUSIONS = 5  # printed
MOST_SEEN = 0.05  # of the validation images; where more show objects that were trained on, no interval is honest
SHEET = 36  # mistakes on the contact sheet


class Report(NamedTuple):
    """What `evaluate` found; N images, k classes. Precision and recall are 0 where they are undefined."""

    accuracy: float
    top5: float  # share of images whose class is among the min(5, k) most probable ones
    precision: np.ndarray  # (k,): of the images predicted as the class, the share that belongs to it
    recall: np.ndarray  # (k,): of the images of the class, the share that is predicted as it
    support: np.ndarray  # (k,) int: images of the class
    confusion: np.ndarray  # (k, k) int: images of the row's class that are predicted as the column's
    mistakes: np.ndarray  # (m,) int: row numbers of the wrong predictions, the most confident first


def report(
    parts: Split,
    probabilities: np.ndarray,
    folder: str | os.PathLike,
    plot: bool = False,
    prefix: str = "validation",
) -> Report:
    """Print how good `probabilities` (N, k), one row per validation image of `parts`, are; write tables to `folder`.

    With `plot` also the confusion matrix and a contact sheet of the most confident mistakes, one per track, as PNG.
    """
    dataset, _, rows = parts
    labels, names, folder = dataset.labels[rows], dataset.class_names, pathlib.Path(folder)
    judged = evaluate(labels, probabilities, names)
    print_report(judged, names, dataset.name, *independent_images(judged, parts))
    write_tables(judged, names, folder, prefix)
    if plot:
        from transfer import plots  # matplotlib takes a second to import

        plots.confusion(judged.confusion, names, folder / f"{prefix}-confusion.png")
        chosen = one_per_object(judged.mistakes, parts, probabilities)[:SHEET]
        images = np.stack([dataset.images[row] for row in rows[chosen]]) if len(chosen) else dataset.images[:0]
        sheet = folder / f"{prefix}-mistakes.png"
        plots.mistakes(images, labels[chosen], probabilities[chosen], names, sheet, len(judged.mistakes))
    print(f"Tables{' and plots' * plot} in {shown(folder)}: {prefix}-*\n")
    return judged


def evaluate(labels: Sequence[int], probabilities: np.ndarray, class_names: Sequence[str]) -> Report:
    """Compare labels (N,) int with probabilities (N, k), k names. ValueError when they do not belong together."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    count, classes = len(labels), np.arange(len(class_names))
    if not count or labels.shape != (count,) or probabilities.shape != (count, len(classes)):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape}, {len(classes)} names; not (N,), (N, k), k"
        )
    if not np.isin(labels, classes).all() or not np.isfinite(probabilities).all():
        raise ValueError(f"expected labels from 0 to {classes[-1]} and finite probabilities")
    predicted = probabilities.argmax(axis=1)
    precision, recall, *_ = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    support = np.bincount(labels, minlength=len(classes))
    top5 = 1.0  # scikit-learn knows no top 5 of 5 classes or less
    if len(classes) > TOP:
        top5 = metrics.top_k_accuracy_score(labels, probabilities, k=TOP, labels=classes)
    wrong = np.flatnonzero(predicted != labels)
    mistakes = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    return Report(1 - len(wrong) / count, float(top5), precision, recall, support, confusion, mistakes)


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95% confidence interval of a share, 0 to 1, found in `count` > 0 independent trials; sound near 0 and 1.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_count(right: np.ndarray, tracks: np.ndarray) -> float:
    """How many independent images would tell as much as these: right (N,) 0 or 1, tracks (N,) int.

    Images of one track tend to be right or wrong together. The accuracy is a sum over tracks, so its variance follows
    from how the tracks differ: var = G / (G - 1) * sum over tracks of (sum of (right - accuracy))^2 / N^2, G tracks.
    Set equal to accuracy * (1 - accuracy) / n, this gives n, never more than N (Korn and Graubard, 1998). Where all
    images are right, or all wrong, each track counts once. With simulated tracks like GTSRB's (436 of 30 images,
    correlated 0.6), 95% of `wilson`'s intervals over n held the true value, but only 32% of those over N.
    """
    accuracy, count = np.mean(right), len(right)
    track_of = np.unique(tracks, return_inverse=True)[1]
    track_count = track_of.max() + 1
    if track_count == 1 or accuracy in (0, 1):
        return track_count
    deviations = np.bincount(track_of, right - accuracy)
    variance = track_count / (track_count - 1) * np.sum(deviations**2) / count**2
    return min(count, accuracy * (1 - accuracy) / variance) if variance else count


def independent_images(judged: Report, parts: Split) -> tuple[float | None, str]:
    """How many independent images the validation images of `parts` are worth, and why fewer than there are, or "".

    judged: of these images. None where no confidence interval means anything: the same objects were trained on.
    """
    dataset, _, rows = parts
    if splits.share_seen(parts) > MOST_SEEN:
        return None, "training shows the same objects, so it says nothing about new ones"
    if dataset.tracks is not None:
        right = np.ones(len(rows))
        right[judged.mistakes] = 0
        tracks = dataset.tracks[rows]
        objects = len(np.unique(tracks))
        reason = f"the {len(rows):,} images show {objects:,} objects" if objects < len(rows) else ""
        return effective_count(right, tracks), reason
    if dataset.images_per_track > 1:
        # Which images show the same object is unknown, so assume the worst: that they are right or wrong together.
        count = max(1, round(len(rows) / dataset.images_per_track))
        each = f"{dataset.images_per_track} images show each object"
        return count, f"{each}, so these count as {count:,} independent ones"
    return len(rows), ""


def one_per_object(mistakes: np.ndarray, parts: Split, probabilities: np.ndarray) -> np.ndarray:
    """The first mistake of each track. Where tracks exist but are unknown, the first of each kind of confusion.

    mistakes (m,) and the result (n,) are row numbers of probabilities (N, k), one row per validation image of `parts`.
    """
    dataset, _, rows = parts
    if dataset.tracks is not None:
        groups = dataset.tracks[rows[mistakes]]
    elif dataset.images_per_track > 1:
        groups = dataset.labels[rows[mistakes]] * len(dataset.class_names) + probabilities[mistakes].argmax(axis=1)
    else:
        return mistakes
    return mistakes[np.sort(np.unique(groups, return_index=True)[1])]


def print_report(
    judged: Report,
    class_names: Sequence[str],
    images_name: str,
    independent: float | None,
    reason: str = "",
    worst: int = 10,
) -> None:
    """Print accuracy, classes (the `worst` by recall when there are many) and the most frequent confusions.

    independent, reason: how many independent images these are worth (None: no confidence interval is printed), and why,
    from `independent_images`.
    """
    count = int(judged.support.sum())
    print(f"{images_name}: {count:,} images")
    if independent is None:
        told = f"no confidence interval: {reason}"
    else:
        low, high = wilson(judged.accuracy, independent)
        told = f"95% confidence interval {low:.3f} to {high:.3f}{'; ' * bool(reason)}{reason}"
    print(f"Accuracy: {judged.accuracy:.3f} ({told})")
    if len(class_names) > TOP:
        print(f"Top-{TOP} accuracy: {judged.top5:.3f}")
    _print_classes(judged, class_names, worst)
    _print_confusions(judged, class_names)


def _print_classes(judged: Report, class_names: Sequence[str], worst: int) -> None:
    listed = np.arange(len(class_names))
    if len(class_names) > ALL_CLASSES:
        occurring = np.flatnonzero(judged.support)
        listed = occurring[np.argsort(judged.recall[occurring], kind="stable")][:worst]
        print(f"\nThe {len(listed)} of {len(class_names)} classes with the lowest recall:", end="")
    print("\nimages  precision  recall  class")
    predicted = judged.confusion.sum(axis=0)
    for label in listed:  # names come last: they may be long, or as wide as Chinese
        precision = f"{judged.precision[label]:.3f}" if predicted[label] else "-"
        recall = f"{judged.recall[label]:.3f}" if judged.support[label] else "-"
        print(f"{judged.support[label]:6,}  {precision:>9}  {recall:>6}  {printable(class_names[label])}")


def _print_confusions(judged: Report, class_names: Sequence[str]) -> None:
    wrong = judged.confusion - np.diag(judged.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [pair for pair in zip(*np.unravel_index(order, wrong.shape)) if wrong[pair]]
    if pairs:
        print("\nThe most frequent confusions:")
    for truth, predicted in pairs:
        names = [printable(class_names[label]) for label in (truth, predicted)]
        print(f"{wrong[truth, predicted]:6,} x {names[0]} predicted as {names[1]}")


def write_tables(judged: Report, class_names: Sequence[str], folder: str | os.PathLike, prefix: str) -> None:
    """Write `prefix`-per_class.csv and `prefix`-confusion.csv (rows: true class, columns: predicted) into a folder."""
    predicted = judged.confusion.sum(axis=0)
    precision = ["" if not count else value for count, value in zip(predicted, judged.precision.round(4))]
    recall = ["" if not count else value for count, value in zip(judged.support, judged.recall.round(4))]
    per_class = zip(class_names, judged.support, precision, recall)  # an empty cell where there is nothing to divide by
    confusion = ([name, *row] for name, row in zip(class_names, judged.confusion))
    tables = {
        "per_class": [["class", "images", "precision", "recall"], *per_class],
        "confusion": [["true / predicted", *class_names], *confusion],
    }
    for name, rows in tables.items():
        with (
            written_whole(pathlib.Path(folder) / f"{prefix}-{name}.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows(rows)
