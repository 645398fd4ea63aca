"""Bottleneck features of images in two files, as the course handed them out: of training images, of validation images.

files = names(folder, cards.VGG, "cifar10", image_size=64, per_class=(100, 0))   # vgg_cifar10_64px_100_bottleneck_...
features = made_once(files, split, compute, made_from, per_class=(100, 0))       # (N, D), training images first
"""

import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from common.errors import BadInput
from common.locks import one_at_a_time
from data import bottleneck_files, datasets, splits
from data.splits import Split
from transfer import feature_store
from weights.cards import Card


def names(
    folder: pathlib.Path,
    card: Card,
    dataset: str,
    image_size: int,
    per_class: tuple[int, int],
    split: str = "",
    demo: bool = False,
) -> tuple[pathlib.Path, pathlib.Path]:
    """The paths of both files, called as the course's; what differs from its settings is added to the name.

    per_class: images per class in either; 0: all.
    """
    training, validation = per_class
    size = "" if image_size == card.input_size else f"_{image_size}px"
    name = f"{'demo_' * demo}{card.name}_{dataset}{size}{'_track' * (split == 'track')}"
    return (
        folder / f"{name}_{training or 'all'}_bottleneck_features_train.p",
        folder / f"{name}{f'_{validation}' if validation else ''}_bottleneck_features_validation.p",
    )


def are_of_others(files: tuple[pathlib.Path, pathlib.Path]) -> bool:
    """Whether both files are there and were not made here; `BadInput` where that is so of one of them."""
    others = [path for path in files if path.exists() and bottleneck_files.made_from(path) is None]
    if len(others) == 1:
        (partner,) = set(files) - set(others)
        state = "was made here" if partner.exists() else "is missing"
        raise BadInput(f"{others[0]}: was not made here, and its partner {partner.name} {state}; put both there, "
                       "give them with --training_file and --validation_file, or move it away")  # fmt: skip
    return bool(others)


def made_once(
    files: tuple[pathlib.Path, pathlib.Path],
    split: Split,
    compute: Callable[[np.ndarray], np.ndarray],
    made_from: dict,
    per_class: tuple[int, int],
) -> np.ndarray:
    """The features of all images, float32 (N, D), out of the files; written first, unless they were made like this.

    split: training images first, see `splits.in_order`. compute: uint8 (n, H, W, 3) -> (n, D). made_from: all that
    shapes the features besides the images. per_class: as in `names`. `BadInput` for files that were not made here,
    which are not replaced.
    """
    with _alone(files[0]), _alone(files[1]):  # trainings on more or fewer images share either with others
        if are_of_others(files):  # put there since the run that goes on was begun
            raise BadInput(f"{files[0]}: was not made here, nor was {files[1].name}, and both would be replaced; move "
                           "both away")  # fmt: skip
        for path, rows, count in zip(files, (split.training, split.validation), per_class):
            part = datasets.subset(split.dataset, rows)
            of_part = splits.fingerprint(splits.for_test(part))
            facts = {"per_class": count, "images": of_part, "pixels": feature_store.fingerprint(part.images)}
            if not bottleneck_files.is_made_from(path, made_from | facts):
                bottleneck_files.write(path, compute(part.images), part.labels, made_from | facts)
        both, *_ = bottleneck_files.read_both(*files)
    _, first = np.unique(np.concatenate([split.training, split.validation]), return_index=True)
    return both[first]  # an image of both parts is in both files, and is one of the data set


def _alone(path: pathlib.Path) -> AbstractContextManager:
    """No other process makes this file while the block runs: from other weights or images, maybe."""
    return one_at_a_time(path.with_name(f".{path.name}.lock"), f"waiting for another process that makes {path.name}")
