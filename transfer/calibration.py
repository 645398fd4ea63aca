"""Images to calibrate an int8 model on: some of those that a run was made with, or of a folder that the user names.

images = find(pathlib.Path("runs/my_run"), head)    # uint8 (200, size, size, 3), framed as in training
"""

import os
import pathlib

import numpy as np

from common.errors import BadInput
from data import datasets, folders, splits
from data.datasets import Dataset
from data.images import Framing, frame, framing_of, read_each
from transfer import run_files
from weights.heads import Head

COUNT = 200  # images: more change the measured ranges little


def find(folder: pathlib.Path, head: Head, named: pathlib.Path | None = None) -> np.ndarray:
    """At most COUNT images, uint8 (N, size, size, 3), chosen at random.

    folder: of the run, whose flags say where its images were; nothing is fetched. named: take those in this folder and
    the folders in it instead. `BadInput` when there are none.
    """
    framing = framing_of(head.provenance)
    if named is not None:
        return _of_files(folders.files_in(named), named, framing)
    flags = run_files.trusted_flags(folder)
    if flags.get("training_dir"):
        try:
            training_dir, *_ = folders.find_split(flags["training_dir"])
            files = folders.files_of_classes(training_dir)
        except BadInput as error:  # moved, or changed, since
            raise BadInput(f"{error}; or name a folder with a hundred images like them with --calibrate") from None
        return _of_files(files, training_dir, framing)
    dataset = _of_name(head.provenance.trained_on.removesuffix(splits.UNDIVIDED), head.class_names, flags)
    if dataset is None:
        raise BadInput(f"--quantize int8: {head.provenance.trained_on}, which it was trained on, cannot be found from "
                       f"{folder}; name a folder with a hundred such images with --calibrate")  # fmt: skip
    rows = np.arange(len(dataset.labels))
    if "split" in flags and not flags.get("validation_file"):
        rows = splits.split(dataset, flags["split"], flags.get("seed", 0)).training
    return np.stack([frame(dataset.images[row], framing) for row in np.sort(splits.some(rows, COUNT, seed=0))])


def _of_files(files: list[pathlib.Path], folder: pathlib.Path, framing: Framing) -> np.ndarray:
    """Some of the files in `folder`. Those that are no images are passed over."""
    found = {}
    for row in np.random.default_rng(0).permutation(len(files)):
        (image,) = read_each([files[row]], framing)
        if not isinstance(image, BadInput):
            found[row] = image
        if len(found) == COUNT:
            break
    if not found:
        what = "holds no images that can be read" if os.path.isdir(folder) else "no such folder"
        raise BadInput(f"{folder}: {what}; name a folder with images like those in training with --calibrate")
    return np.stack([found[row] for row in sorted(found)])


def _of_name(name: str, class_names: list[str], flags: dict) -> Dataset | None:
    """A data set that the scripts know, drawn or real, if it is on this machine."""
    drawn = datasets.drawn_of_classes(class_names)
    if drawn and drawn.drawn(1).name == name:
        return drawn.drawn(seed=flags.get("seed", 0))
    source, file = datasets.of_classes(class_names), flags.get("training_file")
    if source is None or not (os.path.exists(file) if file else source.here()):
        return None
    dataset = source.load(file) if file else source.load()
    return dataset if dataset.name == name else None
