"""One's own images: a folder that holds a folder per class, named as the class, with its images inside.

    flowers/daisy/1.jpg
    flowers/daisy/garden/2.png
    flowers/rose/1.jpg

All images at the size of a network, 10,000 at 227x227, are 1.5 GB. So each is decoded once, into a file that NumPy
maps: the system reads what is touched and gives it up when memory is short. For one folder, size and cut there are:

    <folder>-<hash>.npy    the images, uint8 (N, size, size, 3)
    <folder>-<hash>.json   the files that are no images, and so have no row there

The hash stands for the files' names, sizes and times: when an image is changed or added, there is another hash. What
is no longer wanted may be deleted at any time.
"""

import hashlib
import json
import os
import pathlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from common.files import BadInput, one_at_a_time, written_whole
from data import DATA_DIR, images
from data.datasets import Dataset, check

PICTURES_DIR = DATA_DIR / "pictures"
FORMAT = 1  # part of every hash; to be raised when images are read or cut in another way
THREADS = min(8, os.cpu_count() or 1)  # two cores decode 1.5 times as many images with two threads as with one
AHEAD = 64  # images decoded before they are written: 10 MB at 227x227


def load(folder, size, crop=True, class_names=None, skip_unreadable=False, cache=PICTURES_DIR):
    """Return the images in `folder` as a `Dataset` without tracks; its images are a read-only memory map.

    size: side in pixels. crop: cut out the centre (`images.centre_crop`), else squeeze the whole image.
    The classes are the folders in `folder`, sorted by name; or `class_names`, those of the training images, of which
    some may be absent. Folders inside a class, and links to folders, are searched too; hidden files are passed over.
    skip_unreadable: leave out what is no image, and name each such file on stderr. cache: where the decoded images
    are kept. Raises `BadInput` for what cannot be read, and for classes that are too few, empty or unknown.
    """
    folder = pathlib.Path(folder)
    classes = _classes(folder)
    _check_classes(folder, classes, class_names)
    files = [file for inside in classes.values() for file in inside]
    pictures, unreadable = _decoded(folder, files, size, crop, pathlib.Path(cache))
    if unreadable and not skip_unreadable:
        others = f" (and {len(unreadable) - 1} more files)" if len(unreadable) > 1 else ""
        raise BadInput(f"{next(iter(unreadable.values()))}{others}; --skip_unreadable leaves out what is no image")
    for reason in unreadable.values():
        print(f"skipped: {reason}", file=sys.stderr)
    class_names = list(class_names or classes)
    labels = []
    for name, inside in classes.items():
        readable = len(set(inside) - set(unreadable))
        if not readable:
            raise BadInput(f"{folder / name}: none of its {len(inside)} files is an image that can be read")
        labels += [class_names.index(name)] * readable
    return check(Dataset(pictures, labels, class_names, None, f"images of {folder.resolve().name}"), folder)


def _classes(folder):
    """Return {class: its files}, both sorted by name."""
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise BadInput(f"{folder}: {found}; expected a folder that holds a folder of images for each class")
    try:
        return {inside.name: list(_files(inside)) for inside in _visible(folder) if inside.is_dir()}
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or move it") from None


def _visible(folder):
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)


def _files(folder, above=()):
    """Yield all files in and below `folder`; a link back to a folder `above` it is not followed."""
    above = (*above, folder.resolve())
    for path in _visible(folder):
        if not path.is_dir():
            yield path
        elif path.resolve() not in above:
            yield from _files(path, above)


def _check_classes(folder, classes, known):
    if len(classes) < (1 if known else 2):
        expected = "the class folders of the training images" if known else "two or more, each named as its class"
        raise BadInput(f"{folder}: holds {len(classes)} folders of images; expected {expected}")
    for name, inside in classes.items():
        if not name.isprintable():  # undecodable bytes, line breaks: a head could not keep it, nor a table show it
            raise BadInput(f"{folder}: a folder's name, {name!a}, is not printable text; rename it")
        if known and name not in known:
            raise BadInput(f"{folder / name}: the training images have no class {name}; only {', '.join(known):.200}")
        if not inside:
            raise BadInput(f"{folder / name}: holds no images; put some in, or delete the folder")


def _decoded(folder, files, size, crop, cache):
    """Return the images (N, size, size, 3), a memory map, and {file: reason} for the files that are none."""
    listed = [[file.relative_to(folder).as_posix(), *_size_and_time(file)] for file in files]
    # The folder's own path, too: training and validation images may be called alike, and be as large and as old.
    key = {"format": FORMAT, "folder": str(folder.resolve()), "size": size, "crop": crop, "files": listed}
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = cache / f"{folder.resolve().name[:40]}-{digest[:16]}.npy"
    kept = _kept(path, files, size)
    if kept is None:
        waiting = f"waiting for another process that reads the same images ({path})"
        with one_at_a_time(path.with_name(f".{path.stem}.lock"), waiting):
            kept = _kept(path, files, size)  # that other process may have finished
            if kept is None:
                _decode(folder, files, size, crop, path)
                kept = _kept(path, files, size)
    if kept is None:
        raise BadInput(f"{folder}: was changed while its images were read; start again")
    return kept


def _size_and_time(file):
    try:
        status = file.stat()
    except OSError:  # a link to nothing: reading it will tell
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _kept(path, files, size):
    """Return what `_decoded` returns from the files at `path`; None when they are absent, damaged or outdated."""
    try:
        numbers = json.loads(path.with_suffix(".json").read_text())
        pictures = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):
        return None
    if pictures.shape != (len(files) - len(numbers), size, size, 3) or pictures.dtype != np.uint8:
        return None
    # Tried again: they may be readable by now, with other permissions or another reader installed.
    unreadable = {files[number]: _picture(files[number], size, True)[1] for number in numbers}
    return (pictures, unreadable) if all(unreadable.values()) else None


def _decode(folder, files, size, crop, path):
    """Write the two files of `path`; the images last, they stand for both."""
    numbers = []  # of the files that are no images
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        _write_header(file, len(files), size)
        # Each read changes the filters for warnings and changes them back, which threads do in any order.
        with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
            warnings.simplefilter("ignore")
            # disable=None: no bar where stderr is not a terminal
            with tqdm(total=len(files), desc=f"Reading {folder}", unit=" images", disable=None) as bar:
                for first in range(0, len(files), AHEAD):
                    batch = files[first : first + AHEAD]
                    results = pool.map(lambda one: _picture(one, size, crop), batch)
                    for number, (picture, reason) in enumerate(results, first):
                        numbers += [number] if reason else []
                        file.write(b"" if reason else picture)
                        bar.update()
        if len(numbers) == len(files):
            raise BadInput(f"{folder}: none of its {len(files)} files is an image that can be read")
        file.seek(0)
        _write_header(file, len(files) - len(numbers), size)
        with written_whole(path.with_suffix(".json")) as record:
            record.write_text(json.dumps(numbers))


def _write_header(file, count, size):
    """NumPy pads it so that a new count of rows fits in the old one's place."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)


def _picture(file, size, crop):
    """Return (uint8 (1, size, size, 3), None), or (None, reason) when the file is no image."""
    try:
        return images.read_all([file], size, crop), None
    except BadInput as error:
        return None, str(error)
