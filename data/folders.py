"""Folders of images as people have them: a folder per class, or a split, whose parts hold a folder per class each.

Which files are in them, which of these are copies; no image is decoded here.
"""

import collections
import contextlib
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator

from common.errors import BadInput
from common.files import file_hash

TRAINING, VALIDATION = ("train", "training"), ("val", "valid", "validation", "test", "testing")  # folders of a split
SYSTEM_FILES = {  # of Windows, macOS and network drives; in lower case
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "icon\r", "__macosx",
    "lost+found", "@eadir", "#recycle", "@recycle",
}  # fmt: skip
NAMED = 5  # classes listed by name in a message


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
    words = {folder: _words(folder.name) for folder in folders}

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


def _words(name: str) -> set[str]:
    return set(re.split(r"[\s._-]+", name.lower()))


def _check_no_split(folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
    """`BadInput` if the folders of classes are parts of a split, or one of them is: it would be taken for a class."""
    parts = {part: _names(part) for part in classes if part.name.lower() in (*TRAINING, *VALIDATION)}
    if len(parts) == len(classes) and parts:
        held = "; ".join(
            f"{part.name} holds {', '.join(names[:NAMED]) or 'no folders'}" for part, names in parts.items()
        )
        raise BadInput(f"{folder}: holds a split without common classes ({held}); expected a folder per class in each, "
                       f"of the same names, such as {classes[0] / 'daisy'}")  # fmt: skip
    for each in classes:
        _check_no_data_set(each)
    for part, names in parts.items():
        beside = {other.name.lower() for other in classes} - {part.name.lower()}
        if same := [name for name in names if name.lower() in beside]:
            raise BadInput(f"{part}: holds {', '.join(same[:NAMED])}, as {folder} does, and would be a class; "
                           "move it elsewhere (--validation_dir names images to validate on)")  # fmt: skip


def _check_no_data_set(folder: pathlib.Path) -> None:
    """`BadInput` if a folder of a class holds a split: a whole data set, among others or in a folder of its own."""
    with _named_if_unreadable():
        worded = [folder / name for name in _visible(folder) if _words(name) & {*TRAINING, *VALIDATION}]
    train, held_out = _parts([part for part in worded if part.is_dir()])
    # One folder in both is no data set, but a class's `train/images` and `test/images`.
    if train and held_out and len(set(_names(train)) & set(_names(held_out))) > 1:
        raise BadInput(f"{folder}: holds a split ({train.name}, {held_out.name}), and would be a class; name this "
                       "folder, or another of classes")  # fmt: skip


def _names(folder: pathlib.Path) -> list[str]:
    """The names of the folders in `folder`."""
    return [composed(inside.name) for inside in _folders(folder)]


def overlap(training_dir: str | os.PathLike, validation_dir: str | os.PathLike) -> str | None:
    """A sentence to print if images are in both folders, or None. `BadInput` if one folder lies inside the other.

    Copies are found by their bytes, whatever their names. How many images that concerns, `splits.notes` tells.
    """
    training, validation = (pathlib.Path(folder).resolve() for folder in (training_dir, validation_dir))
    if training == validation:
        return f"{validation_dir} is both training and validation folder"
    if training in validation.parents or validation in training.parents:
        raise BadInput(f"{validation_dir}: lies inside {training_dir}, or that inside it; move one of them out")
    both = in_both(training_dir, validation_dir)
    return f"Copies of training images are in {validation_dir}, such as {both[0]}" if both else None


def in_both(training_dir: str | os.PathLike, folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files in `folder` that are copies of training images, or these themselves.

    `BadInput` for a folder that cannot be read, or holds no folders of classes.
    """
    files = files_of_classes(folder)
    if os.path.samefile(training_dir, folder):
        return files
    seen = files_of_classes(training_dir)
    known, originals = set(seen), _originals([*seen, *files])
    return [file for file in files if originals[file] in known]


def copies(folder: str | os.PathLike) -> str | None:
    """A sentence to print if images are in the folder twice, or None: a part of it is to be held out."""
    files = files_of_classes(folder)
    twins = [file for file, original in _originals(files).items() if original != file]
    if not twins:
        return None
    return f"{len(twins):,} of {len(files):,} images are copies of others, such as {twins[0]}"


def _originals(files: list[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """{file: the first of the files that holds the same bytes}. Only files of equal sizes are read."""
    sizes = {file: size_and_time(file)[0] for file in files}
    alike, first = collections.Counter(sizes.values()), {}
    return {file: first.setdefault(_fingerprint(file), file) if alike[sizes[file]] > 1 else file for file in files}


def files_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files in a folder and the folders in it, sorted, as `own_images.load` finds those of a class."""
    with _named_if_unreadable():
        return _files(pathlib.Path(folder))


def files_of_classes(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The files of all classes."""
    return [file for inside in classes_in(pathlib.Path(folder)).values() for file in inside]


def _fingerprint(file: pathlib.Path) -> str:
    """The hash of its bytes, or its path where they cannot be read: no other file has that."""
    try:
        return file_hash(file, "sha256")
    except (BadInput, OSError):  # reading it as an image will tell
        return os.fsdecode(file)


def classes_in(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{class: its files}, both sorted by name. Folders whose names differ only in how accents are encoded are one."""
    classes = {}
    with _named_if_unreadable():
        for inside in _folders(folder):
            classes.setdefault(composed(inside.name), []).extend(_files(inside))
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
    names = sorted(os.listdir(folder), key=lambda name: (composed(name), name))
    return [name for name in names if not name.startswith(".") and name.lower() not in SYSTEM_FILES]


def composed(name: str) -> str:
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


def size_and_time(file: pathlib.Path) -> tuple[int, int]:
    """In bytes, and in nanoseconds."""
    try:
        status = file.stat()
    except OSError:  # a link to nothing: reading it will tell
        return 0, 0
    return status.st_size, status.st_mtime_ns
