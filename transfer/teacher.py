"""Distillation: a classifier that knows more, the teacher, says of each image how much it looks like every class.

    teacher = load("runs/teacher", split, devices)
    outcome = cases.fine_tune(..., recipe._replace(teacher_share=0.7), ..., teacher=teacher)

Its probabilities tell what a label does not: that this dog could be a wolf, but not a bus. A small or a new network
learns more from them than from labels alone (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
2015). Any run of the training scripts on the same classes can teach. It sees each image once, unchanged; its features
are cached like those of every frozen network.
"""

import pathlib
from typing import Any

import numpy as np

from common.errors import BadInput
from data.splits import Split
from transfer import feature_store, trained
from transfer.devices import Devices
from transfer.features import shared_features
from weights import heads, reading
from weights.heads import Head


class Teacher:
    """`teacher[rows]` gives the teacher's logits for these rows of the data set, float32 (n, classes)."""

    def __init__(self, head: Head, features: Any) -> None:
        self._head, self._features = head, features
        self.fingerprint = head.provenance.fingerprint + reading.fingerprint({"head": (head.kernel, head.bias)})

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._head.logits(self._features[rows])


def load(
    path: str | pathlib.Path,
    split: Split,
    devices: Devices,
    cache: pathlib.Path | None = feature_store.FEATURES_DIR,
    weights: str | pathlib.Path | None = None,
) -> Teacher:
    """The classifier of a run's folder, or of a head file, as the teacher of the images of `split`.

    Says how good it is on those that validate: little, if it was trained to see them otherwise; too good, if it was
    trained on them. cache: the folder that keeps features, None for memory only. weights: as in `trained.load`. Raises
    BadInput when its classes are others, and as `trained.load` does.
    """
    file = trained.find(path)
    head = heads.load(file)
    dataset = split.dataset
    if head.class_names != list(dataset.class_names):
        found = f"its {len(head.class_names)} classes are not the {len(dataset.class_names)} of {dataset.name}"
        raise BadInput(f"--teacher {path}: {found}; name a run that was trained on the same classes")
    known = trained.load(file, weights and str(weights), head=head, flag="--teacher_weights")
    origin = head.provenance
    teacher = Teacher(head, shared_features(known.network, dataset.images, origin.layer, origin, devices, cache=cache))
    print(f"Teacher: {known.network.card.title}, accuracy {accuracy(teacher, split, devices):.3f} of the validation "
          f"images, {origin.validation_accuracy:.3f} in its own run", flush=True)  # fmt: skip
    return teacher


def accuracy(teacher: Teacher, split: Split, devices: Devices) -> float:
    """The share of the validation images that the teacher names right. Each worker judges its own."""
    own = devices.own(split.validation)
    right = np.sum(teacher[own].argmax(axis=1) == split.dataset.labels[own])
    return float(devices.total(np.float32(right)) / len(split.validation))
