"""How good are a classifier's answers? Figures for the whole, for each class, and the mistakes themselves.

report = evaluate(labels, probabilities, class_names)
print_report(report, class_names, "German traffic signs", tracks=tracks)
write_tables(report, class_names, folder, "validation")   # folder/validation-per_class.csv, -confusion.csv
"""

import csv
import math
import pathlib
from typing import NamedTuple

import numpy as np
from sklearn import metrics

from common.files import written_whole

Z = 1.96  # standard deviations to either side of the mean that hold 95 % of a normal distribution
TOP = 5  # ImageNet's second figure: is the truth among the first five answers?
ALL_CLASSES = 12  # up to here the printed table has every class
CONFUSIONS = 5  # printed


class Report(NamedTuple):
    """What `evaluate` found; N images, k classes. A class without images, or never answered, has 0 for both."""

    accuracy: float
    top5: float  # share of images with the truth among the first min(5, k) answers
    precision: np.ndarray  # (k,): of the images taken for the class, how many belong to it
    recall: np.ndarray  # (k,): of the images of the class, how many were recognised
    support: np.ndarray  # (k,) int: images of the class
    confusion: np.ndarray  # (k, k) int: images of the class of the row taken for the class of the column
    mistakes: np.ndarray  # row numbers of the wrong answers, the most confident first


def evaluate(labels, probabilities, class_names):
    """Compare labels (N,) int with probabilities (N, k). ValueError when they do not belong together."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    count, classes = len(labels), np.arange(len(class_names))
    if not count or labels.shape != (count,) or probabilities.shape != (count, len(classes)):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape}, {len(classes)} names; not (N,), (N, k), k"
        )
    if not np.isin(labels, classes).all() or not np.isfinite(probabilities).all():
        raise ValueError(f"expected labels from 0 to {classes[-1]} and finite probabilities")
    answers = probabilities.argmax(axis=1)
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        labels, answers, labels=classes, zero_division=0
    )
    top5 = 1.0  # scikit-learn knows no top 5 of 5 classes or less
    if len(classes) > TOP:
        top5 = metrics.top_k_accuracy_score(labels, probabilities, k=TOP, labels=classes)
    wrong = np.flatnonzero(answers != labels)
    mistakes = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")]
    confusion = metrics.confusion_matrix(labels, answers, labels=classes)
    return Report(1 - len(wrong) / count, float(top5), precision, recall, support, confusion, mistakes)


def wilson(share, count):
    """Wilson's 95 % interval of a share that was found in `count` independent trials; sound near 0 and 1, too.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_count(right, tracks):
    """How many independent images tell as much as these: right (N,) 0 or 1, tracks (N,) int.

    Images of one track are right or wrong together. The accuracy is a sum over tracks, so its variance follows from
    how the tracks differ: var = G / (G - 1) * sum over tracks of (sum of (right - accuracy))^2 / N^2, G tracks. Set
    equal to accuracy * (1 - accuracy) / n, this gives n, never more than N (Korn and Graubard, 1998). Where nothing
    differs, all images being right or all wrong, each track counts once. In simulated tracks like GTSRB's (436 of 30
    images, correlated 0.6) 95 % of `wilson`'s intervals over n held the truth, and 32 % of those over N.
    """
    accuracy, count = np.mean(right), len(right)
    track_of = np.unique(tracks, return_inverse=True)[1]
    track_count = track_of.max() + 1
    if track_count == 1 or accuracy in (0, 1):
        return track_count
    deviations = np.bincount(track_of, right - accuracy)
    variance = track_count / (track_count - 1) * np.sum(deviations**2) / count**2
    return min(count, accuracy * (1 - accuracy) / variance) if variance else count


def print_report(report, class_names, images_name, worst=10, tracks=None):
    """Print accuracy, classes (the `worst` by recall when they are many) and the most frequent confusions.

    tracks: (N,) int, where known: which physical object each image shows. Neighbours in a track are almost the same
    image; taken for independent they would make the interval several times too narrow.
    """
    count = effective = int(report.support.sum())
    note = ""
    if tracks is not None:
        right = np.ones(count)
        right[report.mistakes] = 0
        effective = effective_count(right, tracks)
        note = f", the images being of {len(np.unique(tracks)):,} tracks only"
    low, high = wilson(report.accuracy, effective)
    print(f"{images_name}: {count:,} images")
    print(f"Accuracy: {report.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}{note})")
    if len(class_names) > TOP:
        print(f"Truth among the first {TOP} answers: {report.top5:.3f}")
    _print_classes(report, class_names, worst)
    _print_confusions(report, class_names)


def _print_classes(report, class_names, worst):
    shown = np.arange(len(class_names))
    if len(class_names) > ALL_CLASSES:
        occurring = np.flatnonzero(report.support)
        shown = occurring[np.argsort(report.recall[occurring], kind="stable")][:worst]
        print(f"\nThe {len(shown)} of {len(class_names)} classes with the lowest recall:", end="")
    print("\nimages  precision  recall  class")
    answered = report.confusion.sum(axis=0)
    for label in shown:  # names come last: they may be long, or as wide as Chinese
        precision = f"{report.precision[label]:.3f}" if answered[label] else "-"
        recall = f"{report.recall[label]:.3f}" if report.support[label] else "-"
        print(f"{report.support[label]:8,}  {precision:>9}  {recall:>6}  {class_names[label]}")


def _print_confusions(report, class_names):
    wrong = report.confusion - np.diag(report.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [pair for pair in zip(*np.unravel_index(order, wrong.shape)) if wrong[pair]]
    if pairs:
        print("\nThe most frequent confusions:")
    for truth, answer in pairs:
        print(f"{wrong[truth, answer]:8,} x {class_names[truth]} taken for {class_names[answer]}")


def write_tables(report, class_names, folder, prefix):
    """Write `prefix`-per_class.csv and `prefix`-confusion.csv (rows: truth, columns: answer) into a folder."""
    per_class = zip(class_names, report.support, report.precision.round(4), report.recall.round(4))
    confusion = ([name, *row] for name, row in zip(class_names, report.confusion))
    tables = {
        "per_class": [["class", "pictures", "precision", "recall"], *per_class],
        "confusion": [["truth / answer", *class_names], *confusion],
    }
    for name, rows in tables.items():
        with (
            written_whole(pathlib.Path(folder) / f"{prefix}-{name}.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows(rows)
