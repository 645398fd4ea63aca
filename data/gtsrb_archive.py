"""The official archive of the German Traffic Sign Recognition Benchmark (GTSRB), read into the arrays of `train.p`.

The archive has a folder a class, 00000 to 00042. Each holds its pictures as `<track>_<frame>.ppm`, of all sizes, and
`GT-<class>.csv`, a line a picture: its file, width, height, the sign's box in the picture, and the class. A track is
the 30 pictures that a passing car took of one physical sign (Stallkamp et al., "Man vs. computer", 2012).
"""

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

from data import images
from data.files import BadInput, written_whole

CLASSES = 43
SIDE = 32  # of the pictures in the course's train.p
INSIDE = ("GTSRB/Final_Training/Images", "Final_Training/Images", "Images", "")  # where the class folders may lie
ROI = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")


def read_archive(path):
    """Return `path`, the official zip of training pictures or an unpacked folder of it, as a dict of arrays.

    features (N, 32, 32, 3) uint8, RGB; labels (N,); sizes (N, 2), width and height of the original; coords (N, 4), the
    sign's box in the original, x1 y1 x2 y2; tracks (N,), class * 1000 + track. In the official order, N = 39,209.
    Nothing is unpacked to disk. Raises `BadInput` naming what is damaged or missing.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            return _read_folders(_folder_of_classes(path))
        with zipfile.ZipFile(path) as archive:
            return _read_folders(_folder_of_classes(zipfile.Path(archive)))
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); expected the official archive, whole") from None


def write_train_p(path, arrays):
    """Write the dict of arrays as a pickle (protocol 4) that whatever reads the course's train.p reads, too."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(arrays, file, protocol=4)


def shrunk(picture):
    """Return a picture (H, W, 3) uint8 as (32, 32, 3), as `cv2.resize` makes it: bilinear, no antialiasing.

    The course's train.p was made that way. Pixel centres lie at halves, edges are repeated. One value in eight is 1
    more than cv2's, whose fixed-point arithmetic rounds down on the way.
    """
    height, width, _ = picture.shape
    scaled = ndimage.zoom(
        picture.astype(np.float32), (SIDE / height, SIDE / width, 1), order=1, mode="nearest", grid_mode=True
    )
    return np.floor(scaled + 0.5).astype(np.uint8)


def _folder_of_classes(top):
    """Return the folder under `top` (a `pathlib.Path` or `zipfile.Path`) that holds 00000 to 00042."""
    for inside in INSIDE:
        folder = top / inside if inside else top
        if (folder / "00000" / "GT-00000.csv").is_file():
            return folder
    raise BadInput(f"{top}: no 00000/GT-00000.csv inside; expected the official training archive, zip or unpacked")


def _read_folders(folder):
    rows = [row for label in range(CLASSES) for row in _read_csv(folder / f"{label:05}" / f"GT-{label:05}.csv", label)]
    features = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    # disable=None: no bar where stderr is not a terminal
    for feature, (path, _, size, _, _) in zip(features, tqdm(rows, "Reading signs", unit="picture", disable=None)):
        feature[:] = shrunk(_read_picture(path, size))
    _, labels, sizes, coords, tracks = zip(*rows)
    # The smallest type that holds every value: bytes for the official pictures, of which the largest is 243x225.
    small = {key: np.array(values) for key, values in (("labels", labels), ("sizes", sizes), ("coords", coords))}
    small = {key: values.astype(np.min_scalar_type(values.max())) for key, values in small.items()}
    return {"features": features, **small, "tracks": np.array(tracks, np.int32)}


def _read_csv(path, label):
    """Return the rows of one class: (path of the picture, label, (width, height), box, class * 1000 + track)."""
    if not path.is_file():
        raise BadInput(f"{path}: missing; expected all {CLASSES} classes of the official archive")
    rows = []
    try:
        for line in csv.DictReader(io.StringIO(path.read_bytes().decode("ascii")), delimiter=";"):
            # Only a plain name of a picture: a file from elsewhere must not point out of its folder.
            track = re.fullmatch(r"(\d{5})_\d{5}\.ppm", line["Filename"])[1]
            if int(line["ClassId"]) != label:
                raise ValueError
            size, box = (int(line["Width"]), int(line["Height"])), tuple(int(line[key]) for key in ROI)
            rows.append((path.parent / line["Filename"], label, size, box, label * 1000 + int(track)))
    except (ValueError, TypeError, KeyError, csv.Error):
        expected = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
        raise BadInput(f"{path}: line {len(rows) + 2} is damaged; expected {expected} of class {label}") from None
    return rows


def _read_picture(path, size):
    if not path.is_file():
        raise BadInput(f"{path}: missing, though its GT csv names it")
    picture = images.read(io.BytesIO(path.read_bytes()), name=path)
    if picture.shape[1::-1] != size:
        raise BadInput(f"{path}: is {picture.shape[1]}x{picture.shape[0]}, its GT csv says {size[0]}x{size[1]}")
    return picture
