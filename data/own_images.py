"""Your own images: a folder that holds one folder of images per class, named after the class.

flowers/daisy/1.jpg
flowers/daisy/garden/2.png
flowers/rose/1.jpg
"""

import collections
import contextlib
import functools
import os
import pathlib
import re
import sys
import unicodedata
from collections.abc import Iterator

import numpy as np

from common.files import BadInput, file_hash, is_text, printable
from data import images, picture_store, traffic_signs
from data.datasets import Dataset, Split, check, joined, split, with_copies_shared
from data.decoding import longest_side

TRAINING, VALIDATION = ("train", "training"), ("val", "valid", "validation", "test", "testing")  # folders of a split
SYSTEM_FILES = {  # of Windows, macOS and network drives; in lower case
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "icon\r", "__macosx",
    "lost+found", "@eadir", "#recycle", "@recycle",
}  # fmt: skip
NAMED = 5  # classes listed by name in a message
FEWEST = 100  # images that a sample is worth taking of


def load(
    folder: str | os.PathLike,
    framing: images.Framing,
    class_names: list[str] | None = None,
    skip_unreadable: bool = False,
    cache: str | os.PathLike | None = picture_store.PICTURES_DIR,
) -> Dataset:
    """The images in `folder` as a `Dataset` without tracks; its images are a read-only memory map.

    framing: how each becomes a square, see `images.Framing`; `side_to_keep` gives the size for it.
    The classes are the folders in `folder`, sorted by name; or `class_names`, those of the training images, of which
    some may be absent. Folders inside a class, and links to folders, are searched too; hidden files and those of
    operating systems are passed over. skip_unreadable: leave out files that are not images, and name each on stderr.
    cache: where the decoded images are kept; None: in memory only. Raises `BadInput` for what cannot be read, and for
    classes that are too few, empty or unknown.
    """
    folder = pathlib.Path(folder)
    classes = _classes(folder)
    labels_of = _check_classes(folder, classes, class_names)
    files = [file for inside in classes.values() for file in inside]
    decoded, unreadable = picture_store.decoded_images(folder, files, framing, cache)
    if unreadable and not skip_unreadable:
        others = f" (and {len(unreadable) - 1} more files)" if len(unreadable) > 1 else ""
        raise BadInput(f"{next(iter(unreadable.values()))}{others}; --skip_unreadable leaves out what is no image")
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
    Raises `BadInput` as `find_split`, `load`, `overlap` and `datasets.split` do.
    """
    training_dir, validation_dir, said = find_split(training_dir, validation_dir)
    _say(said)
    framing = images.as_trained(how, side_to_keep(training_dir, size), input_size)
    dataset = load(training_dir, framing, None, skip_unreadable, cache)
    if not validation_dir:
        parts, warning = split(dataset, "random", seed), copies(training_dir)
        _say(warning)
        return (with_copies_shared(parts) if warning else parts), framing
    warning = overlap(training_dir, validation_dir)
    _say(warning)
    others = load(validation_dir, framing, dataset.class_names, skip_unreadable, cache)
    both = joined(dataset, others, functools.partial(picture_store.concatenated, cache=cache))
    both = with_copies_shared(both) if warning else both
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
    for inside in _classes(pathlib.Path(folder)).values():
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


def find_split(
    training_dir: str | os.PathLike, validation_dir: str | os.PathLike | None = None
) -> tuple[pathlib.Path, pathlib.Path | None, str | None]:
    """(training folder, validation folder or None, a sentence to print or None) for the folders that a user names.

    Archives often hold `train` and `val` (`valid`, `validation`, `test`), in any case, or names with one of these words
    (`training_set`, `seg_test`), each with a folder per class. They are a split, not two classes; a `validation_dir`
    takes the place of theirs. `BadInput` if folders of just these names hold no folders of classes, or not the same,
    and for one that lies among the classes.
    """
    training_dir = pathlib.Path(training_dir)
    validation_dir = validation_dir and pathlib.Path(validation_dir)
    folders = _folders(training_dir)
    train, held_out = _parts(folders)
    classes = [set(_names(part)) for part in (train, held_out) if part]
    alone = len(folders) == 1 and folders[0].name.lower() in TRAINING
    if train is None or not (held_out or alone) or not set.intersection(*classes):
        _check_no_split(training_dir, folders)
        return training_dir, validation_dir, None
    if validation_dir is None or validation_dir.resolve() == training_dir.resolve():
        validation_dir = held_out
    validating = f"validating on {validation_dir}" if validation_dir else "a third of it held out for validation"
    unused = sorted(folder.name for folder in folders if folder not in (train, validation_dir))
    others = f" (not used: {', '.join(unused)})" if unused else ""
    return train, validation_dir, f"{training_dir} holds a split: training on {train}, {validating}{others}"


def _parts(folders: list[pathlib.Path]) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """The folders for training and for validation, or None: by their names, else by a word in one folder's name alone.

    By a word only where no other folder holds the same classes: it would be a class beside them.
    """
    exact = {folder.name.lower(): folder for folder in folders}
    words = {folder: set(re.split(r"[\s._-]+", folder.name.lower())) for folder in folders}

    def part(names: tuple[str, ...], others: tuple[str, ...]) -> pathlib.Path | None:
        if found := next((exact[name] for name in names if name in exact), None):
            return found
        for name in names:
            worded = [folder for folder in folders if name in words[folder] and not words[folder] & {*others}]
            if worded:
                return worded[0] if len(worded) == 1 else None
        return None

    train, held_out = part(TRAINING, VALIDATION), part(VALIDATION, TRAINING)
    if train and train.name.lower() not in TRAINING:
        beside = [folder for folder in folders if not words[folder] & {*TRAINING, *VALIDATION}]
        if any(set(_names(train)) & set(_names(folder)) for folder in beside):
            return None, None
    return train, held_out


def _check_no_split(folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
    """`BadInput` if the folders of classes are parts of a split, or one of them is: it would be taken for a class."""
    parts = {part: _names(part) for part in classes if part.name.lower() in (*TRAINING, *VALIDATION)}
    if len(parts) == len(classes) and parts:
        held = "; ".join(
            f"{part.name} holds {', '.join(names[:NAMED]) or 'no folders'}" for part, names in parts.items()
        )
        raise BadInput(f"{folder}: holds a split without common classes ({held}); expected a folder per class in each, "
                       f"of the same names, such as {classes[0] / 'daisy'}")  # fmt: skip
    for part, names in parts.items():
        beside = {other.name.lower() for other in classes} - {part.name.lower()}
        if same := [name for name in names if name.lower() in beside]:
            raise BadInput(f"{part}: holds {', '.join(same[:NAMED])}, as {folder} does, and would be a class; "
                           "move it elsewhere (--validation_dir names images to validate on)")  # fmt: skip


def _names(folder: pathlib.Path) -> list[str]:
    """The names of the folders in `folder`."""
    return [_nfc(inside.name) for inside in _folders(folder)]


def overlap(training_dir: str | os.PathLike, validation_dir: str | os.PathLike) -> str | None:
    """A warning to print if images are in both folders, or None. `BadInput` if one folder lies inside the other.

    Copies are found by their bytes, whatever their names.
    """
    training, validation = (pathlib.Path(folder).resolve() for folder in (training_dir, validation_dir))
    flatters = "the accuracy will say little about new images"
    if training == validation:
        return f"Warning: {validation_dir} is both training and validation folder; {flatters}."
    if training in validation.parents or validation in training.parents:
        raise BadInput(f"{validation_dir}: lies inside {training_dir}, or that inside it; move one of them out")
    both, count = in_both(training_dir, validation_dir)
    if not both:
        return None
    found = f"{len(both):,} of {count:,} validation images are training images, too, such as {both[0]}"
    return f"Warning: {found}; {flatters}."


def in_both(training_dir: str | os.PathLike, folder: str | os.PathLike) -> tuple[list[pathlib.Path], int]:
    """The files in `folder` that are copies of training images, or these themselves; and how many files it holds.

    `BadInput` for a folder that cannot be read, or holds no folders of classes.
    """
    files = files_of_classes(folder)
    if os.path.samefile(training_dir, folder):
        return files, len(files)
    seen = files_of_classes(training_dir)
    known, originals = set(seen), _originals([*seen, *files])
    return [file for file in files if originals[file] in known], len(files)


def copies(folder: str | os.PathLike) -> str | None:
    """A warning to print if images are in the folder twice, or None: a part of it is to be held out."""
    files = files_of_classes(folder)
    twins = [file for file, original in _originals(files).items() if original != file]
    if not twins:
        return None
    found = f"{len(twins):,} of {len(files):,} images are copies of others, such as {twins[0]}"
    return f"Warning: {found}; where one is trained on and the other validates, the accuracy flatters."


def _originals(files: list[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """{file: the first of the files that holds the same bytes}. Only files of equal sizes are read."""
    sizes = {file: picture_store.size_and_time(file)[0] for file in files}
    alike, first = collections.Counter(sizes.values()), {}
    return {file: first.setdefault(_fingerprint(file), file) if alike[sizes[file]] > 1 else file for file in files}


def files_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files in a folder and the folders in it, sorted, as `load` finds those of a class."""
    with _named_if_unreadable():
        return _files(pathlib.Path(folder))


def files_of_classes(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files of all classes."""
    return [file for inside in _classes(pathlib.Path(folder)).values() for file in inside]


def _fingerprint(file: pathlib.Path) -> str:
    """The hash of its bytes, or its path where they cannot be read: no other file has that."""
    try:
        return file_hash(file, "sha256")
    except (BadInput, OSError):  # reading it as an image will tell
        return os.fsdecode(file)


def _classes(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{class: its files}, both sorted by name. Folders whose names differ only in how accents are encoded are one."""
    classes = {}
    with _named_if_unreadable():
        for inside in _folders(folder):
            classes.setdefault(_nfc(inside.name), []).extend(_files(inside))
    return classes


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in `folder`, sorted by name."""
    with _named_if_unreadable():
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise BadInput(f"{folder}: {found}; expected a folder that holds one folder of images per class")
        return [folder / name for name in _visible(folder) if (folder / name).is_dir()]


@contextlib.contextmanager
def _named_if_unreadable() -> Iterator[None]:
    """`BadInput` for a folder without permission, or whose path is too long for the system."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or move it") from None


def _visible(folder: str | os.PathLike) -> list[str]:
    """The names in `folder`, sorted, without hidden files and those of operating systems."""
    names = sorted(os.listdir(folder), key=lambda name: (_nfc(name), name))
    return [name for name in names if not name.startswith(".") and name.lower() not in SYSTEM_FILES]


def _nfc(name: str) -> str:
    """The name with composed accents: macOS's file systems may hand out the same name decomposed (NFD)."""
    return unicodedata.normalize("NFC", name)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files in and below `folder`, sorted; a folder to which several links lead counts once.

    No recursion, and plain strings: folders may be nested more than a thousand deep.
    """
    files, waiting, seen = [], [str(folder)], set()
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            files.append(pathlib.Path(path))
            continue
        status = os.stat(path)
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            waiting += [os.path.join(path, name) for name in reversed(_visible(path))]
    return files


def _check_classes(folder: pathlib.Path, classes: dict[str, list], known: list[str] | None) -> dict[str, int]:
    """{class: its label}; `BadInput` for classes that are too few, empty or not `known`."""
    if len(classes) < (1 if known else 2):
        expected = "the class folders of the training images" if known else "two or more, each named as its class"
        raise BadInput(f"{folder}: holds {len(classes)} folders of images; expected {expected}")
    labels = {_nfc(name): label for label, name in enumerate(known or classes)}
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
