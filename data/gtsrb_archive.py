"""The official archives of the German Traffic Sign Recognition Benchmark (GTSRB) as the arrays of train.p and test.p.

The training archive has a folder per class, 00000 to 00042. Each holds its images as `<track>_<frame>.ppm`, of all
sizes, and `GT-<class>.csv`, a line per image: its file, width, height, the sign's box in the image, and the class. A
track is the 30 images that a passing car took of one physical sign (Stallkamp et al., "Man vs. computer", 2012).

The test archive has one folder with 00000.ppm to 12629.ppm, of signs that the training images do not show. Their
classes came later, in an archive of their own: GTSRB_Final_Test_GT.zip, which holds one csv of the same columns.
"""

import contextlib
import csv
import io
import pathlib
import pickle
import re
import zipfile
import zlib

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from common.files import BadInput, written_whole
from data import images

CLASSES = 43
SIDE = 32  # of the images in the course's train.p
INSIDE = ("GTSRB/Final_Training/Images", "Final_Training/Images", "Images", "")  # where the class folders may lie
INSIDE_TEST = ("GTSRB/Final_Test/Images", "Final_Test/Images", "Images", "")  # where the test images may lie
LABELS_INSIDE = (*INSIDE_TEST, "GTSRB/Final_Test", "GTSRB", "Final_Test")  # their classes: there, or above
TEST_CSV = "GT-final_test.csv"  # with classes; GT-final_test.test.csv beside the images has none
TEST_LABELS = "GTSRB_Final_Test_GT.zip"  # holds it
ROI = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")


def read_archive(path):
    """Return `path`, the official zip of training images or an unpacked folder of it, as a dict of arrays.

    features (N, 32, 32, 3) uint8, RGB; labels (N,); sizes (N, 2), width and height of the original; coords (N, 4), the
    sign's box in the original, x1 y1 x2 y2; tracks (N,), class * 1000 + track. In the official order, N = 39,209.
    Nothing is unpacked to disk. Raises `BadInput` naming what is damaged or missing.
    """
    with _opened(pathlib.Path(path)) as top:
        folder = _folder_holding("00000/GT-00000.csv", top, INSIDE)
        rows, tracks = [], []
        for label in range(CLASSES):
            for name, *row in _read_csv(folder / f"{label:05}" / f"GT-{label:05}.csv", r"(\d{5})_\d{5}\.ppm", [label]):
                rows.append((folder / f"{label:05}" / name[0], *row))
                tracks.append(label * 1000 + int(name[1]))
        return _arrays(rows) | {"tracks": np.array(tracks, np.int32)}


def read_test_archive(path):
    """Return `path`, the official zip of test images or an unpacked folder of it, as `read_archive` does.

    Without tracks; in the order of the csv with the classes, N = 12,630. See `find_test_labels` for where that may lie.
    """
    path = pathlib.Path(path)
    labels = find_test_labels(path)
    if labels is None:
        advice = f"put {TEST_LABELS}, or the {TEST_CSV} in it, into {path.absolute().parent}"
        raise BadInput(f"{path}: the classes of the test images are missing; {advice}")
    with _opened(labels) as top:
        rows = _read_csv(top / TEST_CSV if labels.suffix == ".zip" else top, r"\d{5}\.ppm", range(CLASSES))
    with _opened(path) as top:
        folder = _folder_holding(rows[0][0][0], top, INSIDE_TEST)
        return _arrays([(folder / name[0], *row) for name, *row in rows])


def find_test_labels(path):
    """Return the csv with the classes of the test images in `path`, or the zip that holds it; None if there is none.

    It may lie beside `path`, and, when `path` is a folder, in it and in the folders down to the images.
    """
    folders = [path / part for part in LABELS_INSIDE] if path.is_dir() else []
    places = [folder / name for folder in (*folders, path.absolute().parent) for name in (TEST_CSV, TEST_LABELS)]
    return next((place for place in places if place.is_file()), None)


def write_pickle(path, arrays):
    """Write the dict of arrays as a pickle (protocol 4) that whatever reads the course's train.p reads, too."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(arrays, file, protocol=4)


def shrunk(picture):
    """Return an image (H, W, 3) uint8 as (32, 32, 3), as `cv2.resize` makes it: bilinear, no antialiasing.

    The course's train.p was made that way. Pixel centres lie at halves, edges are repeated. One value in eight is 1
    more than cv2's, whose fixed-point arithmetic rounds down on the way.
    """
    height, width, _ = picture.shape
    scaled = ndimage.zoom(
        picture.astype(np.float32), (SIDE / height, SIDE / width, 1), order=1, mode="nearest", grid_mode=True
    )
    return np.floor(scaled + 0.5).astype(np.uint8)


@contextlib.contextmanager
def _opened(path):
    """Give a folder as it is, a zip as a `zipfile.Path`; what fails inside is told as a damaged archive."""
    try:
        if path.suffix == ".csv" or path.is_dir():
            yield path
        else:
            with zipfile.ZipFile(path) as archive:
                yield zipfile.Path(archive)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); expected the official archive, whole") from None


def _folder_holding(name, top, inside):
    """Return the first of the folders `inside` `top` (a `pathlib.Path` or `zipfile.Path`) that holds the file."""
    for folder in (top / part if part else top for part in inside):
        if (folder / name).is_file():
            return folder
    raise BadInput(f"{top}: no {name} inside; expected the official archive, zip or unpacked")


def _arrays(rows):
    """Return the dict of arrays for rows of (path of the image, label, (width, height), box)."""
    features = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    # disable=None: no bar where stderr is not a terminal
    for feature, (path, _, size, _) in zip(features, tqdm(rows, "Reading signs", unit="image", disable=None)):
        feature[:] = shrunk(_read_picture(path, size))
    _, labels, sizes, coords = zip(*rows)
    # The smallest type that holds every value: bytes for the official images, of which the largest is 243x225.
    small = {key: np.array(values) for key, values in (("labels", labels), ("sizes", sizes), ("coords", coords))}
    return {"features": features} | {key: part.astype(np.min_scalar_type(part.max())) for key, part in small.items()}


def _read_csv(path, names, labels):
    """Return the rows of a csv: (match of the file's name with the pattern `names`, label, (width, height), box)."""
    if not path.is_file():
        raise BadInput(f"{path}: missing; expected the official archive, whole")
    rows = []
    try:
        for line in csv.DictReader(io.StringIO(path.read_bytes().decode("ascii")), delimiter=";"):
            # Only a plain name of an image: a file from elsewhere must not point out of its folder.
            name, label = re.fullmatch(names, line["Filename"]), int(line["ClassId"])
            if name is None or label not in labels:
                raise ValueError
            size, box = (int(line["Width"]), int(line["Height"])), tuple(int(line[key]) for key in ROI)
            rows.append((name, label, size, box))
    except (ValueError, TypeError, KeyError, csv.Error):
        expected = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
        classes = f"of class {labels[0]}" if len(labels) == 1 else f"with classes below {CLASSES}"
        raise BadInput(f"{path}: line {len(rows) + 2} is damaged; expected {expected} {classes}") from None
    if not rows:
        raise BadInput(f"{path}: names no images; expected the official file, whole")
    return rows


def _read_picture(path, size):
    if not path.is_file():
        raise BadInput(f"{path}: missing, though its GT csv names it")
    picture = images.read(io.BytesIO(path.read_bytes()), name=path)
    if picture.shape[1::-1] != size:
        raise BadInput(f"{path}: is {picture.shape[1]}x{picture.shape[0]}, its GT csv says {size[0]}x{size[1]}")
    return picture
