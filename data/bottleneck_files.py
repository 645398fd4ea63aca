"""Files of bottleneck features, as the course handed them out: what comes before a network's classifier.

A pickle of {"features": (N, ...) numbers, "labels": (N,) or (N, 1) whole numbers}. Files written here hold float32
(N, D), int64 (N,), and a third entry, "made_from", a text that says how; readers of the course's files pass over it.
"""

import pickle

import numpy as np

from common import safe_pickle
from common.files import BadInput, written_whole


def made_from(path):
    """How the file was made, as `write` was told; None for a file that was not made here, such as the course's."""
    content = safe_pickle.load(path)
    return content.get("made_from") if isinstance(content, dict) else None


def write(path, features, labels, how):
    """Write a file, whole or not at all, with Python's own pickle: anything that reads the course's reads it."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        pickle.dump({"features": features, "labels": labels, "made_from": how}, file, protocol=4)


def read_features(path):
    """A pickle of {"features": (N, ...), "labels": (N,) or (N, 1)} -> float32 (N, D), int64 (N,); else `BadInput`."""
    content = safe_pickle.load(path)
    if not isinstance(content, dict) or not {"features", "labels"} <= content.keys():
        raise BadInput(f"{path}: not a dict with features and labels; expected bottleneck features, see --help")
    features, labels = np.asarray(content["features"]), np.asarray(content["labels"])
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


def read_both(training_file, validation_file):
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
