"""The German Traffic Sign Recognition Benchmark (GTSRB) in the archives people have, as the arrays of train.p, test.p.

Zip or unpacked, nothing is written to disk:

    official    a folder per class, 00000 to 00042, with its images as `<track>_<frame>.ppm` and `GT-<class>.csv`, one
                line per image: file, width, height, the sign's box in the image, class. A track is the 30 images that
                a passing car took of one physical sign (Stallkamp et al., "Man vs. computer", 2012).
    torchvision GTSRB-Training_fixed.zip: the same files in GTSRB/Training, of the competition's first stage.
    Kaggle      Train.csv with a line per image, `Train/<class>/<class>_<track>_<frame>.png`; Test.csv and Test/.
    Udacity     train.p, valid.p and test.p: pickles, `read_pickle_in`.

The official test archive has one folder with 00000.ppm to 12629.ppm, of signs that the training images do not show. Its
classes are in an archive of their own: GTSRB_Final_Test_GT.zip, which holds one csv of the same columns.
"""

import contextlib
import csv
import io
import os
import pathlib
import posixpath
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from common import safe_pickle, zips
from common.errors import BadInput, foreign
from common.files import open_regular
from common.kinds import ZIP, kind_of
from data import images

CLASSES = 43
SIDE = 32  # of the images in the course's train.p
TOPS = ("", "GTSRB", "gtsrb/GTSRB")  # where the folders below may lie in an archive
INSIDE = tuple(
    posixpath.join(top, part) for part in ("Final_Training/Images", "Training", "Images", "") for top in TOPS
)
INSIDE_TEST = tuple(posixpath.join(top, part) for part in ("Final_Test/Images", "Images", "") for top in TOPS)
LABELS_INSIDE = (
    *INSIDE_TEST,
    *TOPS,
    "gtsrb",
    *(posixpath.join(top, "Final_Test") for top in TOPS),
)  # the classes of the test images: beside them, or above
FIRST_CSV = "00000/GT-00000.csv"
TEST_CSV = "GT-final_test.csv"  # with classes; GT-final_test.test.csv beside the images has none
TEST_LABELS = "GTSRB_Final_Test_GT.zip"  # holds it
TEST_LABELS_UNPACKED = f"GTSRB_Final_Test_GT/{TEST_CSV}"
FIRST_TEST_IMAGE = "00000.ppm"
KAGGLE_CSV, KAGGLE_TEST_CSV = "Train.csv", "Test.csv"
ROI = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
EXPECTED = "a GTSRB archive (official, torchvision's, Kaggle's or Udacity's), zip or unpacked"

# Far above what the benchmark has, for files that are made to fill the memory.
MOST_IMAGES = 60_000  # it has 39,209
MOST_LISTED = 16_000_000  # bytes of a zip's list of members; Kaggle's has about 10 MB
LONGEST_SIDE = 1000  # pixels; it has up to 266
SPARE = 80_000_000  # bytes that a pickle in a zip may unpack to beyond twice its size; train.p has 121 MB
LARGEST_FILE = 8_000_000  # bytes, of an image or a csv; Kaggle's has 2 MB

Archive = pathlib.Path | zipfile.Path  # a folder, or one in a zip


class Row(NamedTuple):
    """What a csv says about one image."""

    file: Archive
    label: int
    track: int
    size: tuple[int, int]  # width, height
    box: tuple[int, int, int, int]  # of the sign in the image: x1 y1 x2 y2


def read_archive(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the training images in `path`, a zip or an unpacked folder of it, as a dict of arrays.

    features (N, 32, 32, 3) uint8, RGB; labels (N,); sizes (N, 2), width and height of the original; coords (N, 4), the
    sign's box in the original, x1 y1 x2 y2; tracks (N,), class * 1000 + track. In the official order; of the official
    archive and Kaggle's, N = 39,209. Raises `BadInput` naming what is damaged or missing.
    """
    with _opened(_top_of_kaggle(path, KAGGLE_CSV)) as top:
        folder = _folder_holding(KAGGLE_CSV, top, TOPS)
        if folder:
            rows = _read_csv(folder / KAGGLE_CSV, r"Train/(?P<label>\d{1,2})/\d{5}_(?P<track>\d{5})_\d{5}\.png")
            rows = sorted(rows, key=lambda row: (row.label, row.file.name))
        else:
            folder = _folder_holding(FIRST_CSV, top, INSIDE)
            if folder is None:
                raise BadInput(f"{path}: holds neither {FIRST_CSV} nor {KAGGLE_CSV}; expected {EXPECTED}")
            rows = []
            for label in range(CLASSES):
                file = folder / f"{label:05}" / f"GT-{label:05}.csv"
                rows += _read_csv(file, r"(?P<track>\d{5})_\d{5}\.ppm", [label])
        tracks = np.array([row.label * 1000 + row.track for row in rows], np.int32)
        return _arrays(rows, path) | {"tracks": tracks}


def read_test_archive(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the test images in `path`, a zip or an unpacked folder of it, as `read_archive` does.

    Without tracks; in the order of the csv with the classes, N = 12,630. See `find_test_labels` for where that may lie.
    """
    path = pathlib.Path(path)
    with _opened(_top_of_kaggle(path, KAGGLE_TEST_CSV)) as top:
        if folder := _folder_holding(KAGGLE_TEST_CSV, top, TOPS):
            return _arrays(_read_csv(folder / KAGGLE_TEST_CSV, r"Test/\d{5}\.png"), path)
    labels = find_test_labels(path)
    if labels is None:
        advice = f"put {TEST_LABELS}, or the {TEST_CSV} in it, into {path.absolute().parent}"
        raise BadInput(f"{path}: the classes of the test images are missing; {advice}")
    with _opened(path) as top:
        with _opened(labels if labels.suffix == ".zip" else labels.parent) as beside:
            rows = _read_csv(beside / TEST_CSV, r"\d{5}\.ppm")
        first = rows[0].file.name
        folder = _folder_holding(first, top, INSIDE_TEST)
        if folder is None:
            raise BadInput(f"{path}: no {first} inside; expected the official test images, zip or unpacked")
        return _arrays([row._replace(file=folder / row.file.name) for row in rows], path)


def holds_pickle(path: pathlib.Path, name: str) -> bool:
    """Whether `read_pickle_in` would find the pickle in a zip."""
    with contextlib.suppress(BadInput), _opened(path) as top:
        return bool(_members_named(name, top.root))
    return False


def read_pickle_in(path: str | os.PathLike, name: str) -> Any | None:
    """What the pickle `name` ("valid.p") in a folder or zip holds, at its top or a folder down; None without one."""
    path = pathlib.Path(path)
    if path.is_dir():
        places = [path / name, *sorted(path.glob(f"[!_.]*/{name}"))]  # not __MACOSX/train.p
        found = next((file for file in places if file.is_file()), None)
        return found and safe_pickle.load(found)
    with _opened(path) as top:
        archive = top.root
        named = _members_named(name, archive)
        if not named:
            return None
        member = min(named, key=lambda member: len(member.filename))
        if member.file_size > 2 * path.stat().st_size + SPARE:
            raise BadInput(f"{path}: {member.filename} would unpack to {member.file_size:,} bytes; expected {EXPECTED}")
        with foreign(path, EXPECTED), archive.open(member) as file:
            return safe_pickle.load(file, name=f"{path}: {member.filename}")


def _members_named(name: str, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of this name at an archive's top, or a folder down."""
    named = [member for member in archive.infolist() if re.fullmatch(rf"([^/]+/)?{name}", member.filename)]
    return [member for member in named if not member.filename.startswith("__MACOSX/")]


def holds_training_images(path: str | os.PathLike) -> bool:
    """Whether the folder or zip is, or has in it, a training archive: data/GTSRB may hold the test images alone."""
    with contextlib.suppress(BadInput), _opened(path) as top:
        return any(_folder_holding(name, top, INSIDE) for name in (FIRST_CSV, KAGGLE_CSV))
    return False


def holds_test_images(path: pathlib.Path) -> bool:
    """Whether the official test images are in the folder."""
    return _folder_holding(FIRST_TEST_IMAGE, path, INSIDE_TEST) is not None


def holds_kaggle_test(path: str | os.PathLike) -> bool:
    """Whether Kaggle's test images, which come with their classes, are in the folder or zip."""
    with contextlib.suppress(BadInput), _opened(path) as top:
        return _folder_holding(KAGGLE_TEST_CSV, top, TOPS) is not None
    return False


def find_test_labels(path: str | os.PathLike) -> pathlib.Path | None:
    """Return the csv with the classes of the test images in `path`, or the zip that holds it; None if there is none.

    It may lie beside `path`, and, when `path` is a folder, in it and in the folders down to the images.
    """
    path = pathlib.Path(path)
    folders = [path / part for part in LABELS_INSIDE] if path.is_dir() else []
    names = (TEST_CSV, TEST_LABELS, TEST_LABELS_UNPACKED)
    places = [folder / name for folder in (*folders, path.absolute().parent) for name in names]
    return next((place for place in places if place.is_file()), None)


def shrunk(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 as (32, 32, 3), as `cv2.resize` makes it: bilinear, no antialiasing.

    The course's train.p was made that way. Pixel centres lie at halves, edges are repeated. One value in eight is 1
    more than cv2's, whose fixed-point arithmetic rounds down on the way.
    """
    height, width, _ = image.shape
    scaled = ndimage.zoom(
        image.astype(np.float32), (SIDE / height, SIDE / width, 1), order=1, mode="nearest", grid_mode=True
    )
    return np.floor(scaled + 0.5).astype(np.uint8)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Archive]:
    """Give a folder as it is, a zip as a `zipfile.Path`; `BadInput` for what is neither, or cannot be read."""
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            yield path
            return
        with open_regular(path, EXPECTED) as file:
            if not zipfile.is_zipfile(file) and (kind := kind_of(path)) != ZIP:
                raise BadInput(f"{path}: is {kind}; expected {EXPECTED}")
            with contextlib.ExitStack() as stack:
                with foreign(path, EXPECTED):
                    archive = stack.enter_context(zips.opened(file, MOST_LISTED))
                yield zipfile.Path(archive)
    except OSError as error:  # a folder without permission
        raise BadInput(f"{error.filename or path}: cannot be read ({error.strerror}); expected {EXPECTED}") from None


def _top_of_kaggle(path: str | os.PathLike, name: str) -> pathlib.Path:
    """The folder that holds Kaggle's csv, when `path` is the folder of images beside it."""
    path = pathlib.Path(path).absolute()
    return path.parent if path.name == name.removesuffix(".csv") and (path.parent / name).is_file() else path


def _folder_holding(name: str, top: Archive, inside: tuple[str, ...]) -> Archive | None:
    """The first of the folders `inside` `top` that holds the file."""
    folders = (top / part if part else top for part in inside)
    return next((folder for folder in folders if (folder / name).is_file()), None)


def _arrays(rows: list[Row], path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the dict of arrays for these images."""
    if len(rows) > MOST_IMAGES or len({str(row.file) for row in rows}) < len(rows):
        raise BadInput(f"{path}: its csv files name {len(rows):,} images, or one twice; expected {EXPECTED}")
    features = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    # disable=None: no bar where stderr is not a terminal
    for feature, row in zip(features, tqdm(rows, "Reading signs", unit="image", disable=None)):
        feature[:] = shrunk(_read_image(row))
    columns = {
        "labels": [row.label for row in rows],
        "sizes": [row.size for row in rows],
        "coords": [row.box for row in rows],
    }
    return {"features": features} | {name: _smallest(values) for name, values in columns.items()}


def _smallest(values: list) -> np.ndarray:
    """An array of the smallest type that holds every value: bytes for the official images, of up to 243x225."""
    array = np.array(values)
    return array.astype(np.min_scalar_type(array.max()))


def _read_csv(path: Archive, files: str, labels: Sequence[int] = range(CLASSES)) -> list[Row]:
    """Return the rows of a csv; its images lie beside it. `files`: a pattern of their names, of what else they say."""
    if not path.is_file():
        raise BadInput(f"{path}: missing; expected the archive as it was published, whole")
    rows = []
    try:
        text = _bytes(path).decode("utf-8-sig")
        for line in csv.DictReader(io.StringIO(text), delimiter=";" if ";" in text[:100] else ","):
            rows.append(_row(path, line, files, labels))
    except (ValueError, TypeError, KeyError, csv.Error):
        expected = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
        classes = f"of class {labels[0]}" if len(labels) == 1 else f"with classes below {CLASSES}"
        raise BadInput(f"{path}: line {len(rows) + 2} is damaged; expected {expected} {classes}") from None
    if not rows:
        raise BadInput(f"{path}: names no images; expected the archive as it was published, whole")
    return rows


def _row(path: Archive, line: dict[str, str], files: str, labels: Sequence[int]) -> Row:
    """One line of a csv; ValueError or KeyError for what cannot be."""
    name, label = line["Path"] if "Path" in line else line["Filename"], int(line["ClassId"])
    # Only a plain name of an image: a file from elsewhere must not point out of its folder.
    match = re.fullmatch(files, name, re.ASCII)
    said = match.groupdict() if match else {}
    size, box = (int(line["Width"]), int(line["Height"])), tuple(int(line[key]) for key in ROI)
    possible = min(size) > 0 and min(box) >= 0 and max(*size, *box) <= LONGEST_SIDE
    if not match or not possible or label not in labels or int(said.get("label", label)) != label:
        raise ValueError
    return Row(path.parent / name, label, int(said.get("track", 0)), size, box)


def _read_image(row: Row) -> np.ndarray:
    """The image as uint8 (H, W, 3), if it is as large as the csv says."""
    if not row.file.is_file():
        raise BadInput(f"{row.file}: missing, though the csv names it")
    data = _bytes(row.file)
    with foreign(row.file, "an image", "take the archive as it was published"), Image.open(io.BytesIO(data)) as image:
        size = image.size  # before it is decoded
    if size != row.size:
        raise BadInput(f"{row.file}: is {size[0]}x{size[1]}, the csv says {row.size[0]}x{row.size[1]}")
    return images.read(io.BytesIO(data), name=row.file)


def _bytes(file: Archive) -> bytes:
    """The content of a file, or of a member of a zip, that is not too large."""
    with foreign(file, "part of a GTSRB archive", "take the archive as it was published"):
        with open_regular(file) if isinstance(file, pathlib.Path) else file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise BadInput(f"{file}: has more than {LARGEST_FILE:,} bytes; expected {EXPECTED}")
    return data
