"""Files of bottleneck features, as the course handed them out: what comes before a network's classifier.

A pickle of {"features": (N, ...) numbers, "labels": (N,) or (N, 1) whole numbers}. Files written here hold float32
(N, D), int64 (N,), and a third entry, "made_from", a text that says how; readers of the course's files pass over it.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np

from common.errors import BadInput, foreign
from data import pickles

EXPECTED = "a pickle of bottleneck features"


def made_from(path: str | os.PathLike) -> dict | None:
    """How the file was made, as `write` was told; None for a file that was not made here, such as the course's."""
    content = pickles.read(path, EXPECTED)
    made = content.get("made_from") if isinstance(content, dict) else None
    if not isinstance(made, str):
        return None
    with foreign(path, EXPECTED):
        return dict(json.loads(made))


def is_made_from(path: pathlib.Path, facts: dict) -> bool:
    """Whether the file is there and was made like this."""
    return path.exists() and made_from(path) == facts


def write(path: str | os.PathLike, features: np.ndarray, labels: np.ndarray, facts: dict) -> None:
    """Write a file, whole or not at all, that readers of the course's files can read."""
    pickles.write(path, {"features": features, "labels": labels, "made_from": json.dumps(facts)})


def read_features(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """A pickle of {"features": (N, ...), "labels": (N,) or (N, 1)} -> float32 (N, D), int64 (N,); else `BadInput`."""
    content = pickles.read(path, EXPECTED)
    if not isinstance(content, dict) or not {"features", "labels"} <= content.keys():
        raise BadInput(f"{path}: not a dict with features and labels; expected {EXPECTED}, see --help")
    features, labels = (_array(content[key], key, path) for key in ("features", "labels"))
    if features.dtype == np.uint8 or (features.ndim == 4 and features.shape[1] > 1 and features.shape[3] in (1, 3)):
        found = f"images, {features.dtype} {features.shape}"
        raise BadInput(f"{path}: holds {found}; expected {EXPECTED}; leave the flag out to have them made from images")
    if features.dtype.kind not in "fiu" or features.ndim < 2 or 0 in features.shape:
        found = f"features are {features.dtype} {features.shape}"
        raise BadInput(f"{path}: {found}; expected numbers of the shape (N, ...)")
    if labels.shape not in ((len(features),), (len(features), 1)) or labels.dtype.kind not in "iu":
        found = f"labels are {labels.dtype} {labels.shape} for {len(features)} images"
        raise BadInput(f"{path}: {found}; expected one whole number per image")
    features = features.reshape(len(features), -1).astype(np.float32, copy=False)
    if not np.isfinite(features).all():
        raise BadInput(f"{path}: some features are nan or infinite; make the file anew")
    return features, labels.reshape(-1).astype(np.int64)


def _array(values: Any, what: str, path: str | os.PathLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{path}: the {what} are not a plain array; expected {EXPECTED}") from None


def read_both(training_file: pathlib.Path, validation_file: pathlib.Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Features and labels of both files, one behind the other, and where the validation begins; checked together."""
    features, labels = read_features(training_file)
    validation_features, validation_labels = read_features(validation_file)
    if features.shape[1] != validation_features.shape[1]:
        widths = f"{features.shape[1]} features per image, {validation_file} has {validation_features.shape[1]}"
        raise BadInput(f"{training_file}: {widths}; expected two files of the same network and image size")
    classes = np.unique(labels)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise BadInput(f"{training_file}: the labels are {classes[0]} to {classes[-1]}, {len(classes)} different ones; "
                       f"expected 0 to {len(classes) - 1}, none missing")  # fmt: skip
    if not np.isin(validation_labels, classes).all():
        raise BadInput(f"{validation_file}: has labels that {training_file} lacks; expected the same classes in both")
    print(f"{training_file.name}: {features.shape}\n{validation_file.name}: {validation_features.shape}\n")
    both = np.concatenate([features, validation_features]), np.concatenate([labels, validation_labels])
    return *both, len(labels)
