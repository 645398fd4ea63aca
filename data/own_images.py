"""Your own images: a folder that holds one folder of images per class, named after the class.

flowers/daisy/1.jpg
flowers/daisy/garden/2.png
flowers/rose/1.jpg
"""

import functools
import os
import pathlib
import sys

import numpy as np

from common.errors import BadInput, is_text, printable
from data import images, picture_store, traffic_signs
from data.datasets import Dataset, check
from data.decoding import longest_side
from data.folders import TRAINING, VALIDATION, classes_in, composed, copies, find_split, overlap
from data.splits import Split, joined, split, with_copies_shared

FEWEST = 100  # images that a sample is worth taking of


def load(
    folder: str | os.PathLike,
    framing: images.Framing,
    class_names: list[str] | None = None,
    skip_unreadable: bool = False,
    cache: str | os.PathLike | None = picture_store.PICTURES_DIR,
) -> Dataset:
    """The images in `folder` as a `Dataset` without tracks. With a cache, its images are a read-only memory map.

    framing: how each becomes a square, see `images.Framing`; `side_to_keep` gives the size for it.
    The classes are the folders in `folder`, sorted by name; or `class_names`, those of the training images, of which
    some may be absent. Folders inside a class, and links to folders, are searched too; hidden files and those of
    operating systems are passed over. skip_unreadable: leave out files that are not images, and name each on stderr.
    cache: where the decoded images are kept; None: in memory only. Raises `BadInput` for what cannot be read, and for
    classes that are too few, empty or unknown.
    """
    folder = pathlib.Path(folder)
    classes = classes_in(folder)
    labels_of = _check_classes(folder, classes, class_names)
    files = [file for inside in classes.values() for file in inside]
    decoded, unreadable = picture_store.decoded_images(folder, files, framing, cache)
    if unreadable and not skip_unreadable:
        others = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise BadInput(f"{next(iter(unreadable.values()))}{others}; --skip_unreadable leaves out what is not an image")
    for reason in unreadable.values():
        print(f"skipped: {reason}", file=sys.stderr)
    labels = []
    for name, inside in classes.items():
        readable = len(set(inside) - set(unreadable))
        if not readable:
            raise BadInput(f"{folder / name}: none of its {len(inside)} files is an image that can be read")
        labels += [labels_of[name]] * readable
    dataset = Dataset(decoded, labels, list(class_names or classes), None, f"images of {_title(folder)}")
    return check(dataset, folder)


def _title(folder: pathlib.Path) -> str:
    """The folder's own name; with the one above if it is no more than "train"."""
    path = folder.resolve()
    return f"{path.parent.name}/{path.name}" if path.name.lower() in (*TRAINING, *VALIDATION) else path.name


def load_split(
    training_dir: str | os.PathLike,
    validation_dir: str | os.PathLike | None,
    how: str,
    size: int,
    input_size: int,
    skip_unreadable: bool = False,
    seed: int = 0,
    cache: str | os.PathLike | None = picture_store.PICTURES_DIR,
) -> tuple[Split, images.Framing]:
    """Images to train and to validate on, and how they were framed; without a validation folder a third is held out.

    how, input_size: of the network's card; size: the side of its input in pixels. What one should know is printed.
    Raises `BadInput` as `find_split`, `load`, `overlap` and `splits.split` do.
    """
    training_dir, validation_dir, said = find_split(training_dir, validation_dir)
    _say(said)
    copied = overlap(training_dir, validation_dir) if validation_dir else copies(training_dir)
    _say(copied)
    if validation_dir:  # a mistake there is told now, not after all training images were decoded
        _check_classes(validation_dir, classes_in(validation_dir), list(classes_in(training_dir)))
    framing = images.as_trained(how, side_to_keep(training_dir, size), input_size)
    dataset = load(training_dir, framing, None, skip_unreadable, cache)
    if not validation_dir:
        parts = split(dataset, "random", seed)
        return (with_copies_shared(parts) if copied else parts), framing
    others = load(validation_dir, framing, dataset.class_names, skip_unreadable, cache)
    both = joined(dataset, others, functools.partial(picture_store.concatenated, cache=cache))
    both = with_copies_shared(both) if copied else both
    name = f"{dataset.name}, validated on {others.name}"
    return both._replace(dataset=both.dataset._replace(name=name)), framing


def _say(sentence: str | None) -> None:
    if sentence:
        print(printable(sentence))


def side_to_keep(folder: str | os.PathLike, most: int) -> int:
    """The size in pixels at which to keep the images of `folder`: their longest side, at most `most`.

    Small images stay small. 60,000 of 64x64 pixels are 0.7 GB; enlarged to 227x227 they would be 9 GB and show no
    more: the network's device enlarges each batch. To be asked of the training images, and kept for all others.
    """
    longest = 0
    for inside in classes_in(pathlib.Path(folder)).values():
        for file in inside:
            longest = max(longest, longest_side(file))
            if longest >= most:  # photos: the first one settles it
                return most
    return longest or most


def sample(folder: str | os.PathLike, how: str, input_size: int, count: int, seed: int) -> np.ndarray:
    """At most `count` images of a folder that holds one folder per class, mixed, uint8 (N, size, size, 3).

    Of one that holds a split, those for training. how, input_size: of a network's card; size is at most input_size.
    `BadInput` for fewer than FEWEST, from which nothing can be learned.
    """
    folder, *_ = find_split(folder)
    found = load(folder, images.as_trained(how, side_to_keep(folder, input_size), input_size)).images
    if len(found) < FEWEST:
        raise BadInput(f"{folder}: holds {len(found)} images, expected {FEWEST} or more")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(found))[:count])  # read in the order in which they lie in the file
    return found[chosen][rng.permutation(len(chosen))]  # in the folder's order, the classes follow one another


def _check_classes(folder: pathlib.Path, classes: dict[str, list], known: list[str] | None) -> dict[str, int]:
    """{class: its label}; `BadInput` for classes that are too few, empty or not `known`."""
    if len(classes) < (1 if known else 2):
        expected = "the class folders of the training images" if known else "two or more, each named as its class"
        held = f"one folder, {next(iter(classes))}" if classes else "no folders"
        advice = "; name that one, if it holds them" if classes else ""
        raise BadInput(f"{folder}: holds {held}; expected {expected}{advice}")
    labels = {composed(name): label for label, name in enumerate(known or classes)}
    if known and traffic_signs.are_signs(known):  # GTSRB's own folders are 0 to 42, or 00000 to 00042
        labels |= {name: int(name) for name in classes if name.isdecimal() and int(name) < len(known)}
    for name, inside in classes.items():
        if not all(map(is_text, name)):  # no undecodable bytes, no line breaks: no table could show them
            raise BadInput(f"{folder}: a folder's name, {name!a}, is not printable text; rename it")
        if name not in labels:
            raise BadInput(f"{folder / name}: the training images have no class {name}; only {', '.join(known):.200}")
        if not inside:
            raise BadInput(f"{folder / name}: holds no images; put some in, or delete the folder")
    return labels
