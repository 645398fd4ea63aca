"""German traffic signs: the course's `train.p` and `test.p`, the same from the archives people have, or drawn ones.

`train.p` is a pickled dict: `features` uint8 (N, 32, 32, 3) RGB, `labels` (N,) 0-42, `sizes` (N, 2) and `coords` (N, 4)
of the images before they were shrunk. N = 39,209. `test.p` is the same for the 12,630 test images. Later editions of
the course split the first in two, `train.p` with 34,799 images and `valid.p` with 4,410. The archives that are read
are listed in data/gtsrb_archive.py.
"""

import csv
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.errors import BadInput
from common.fetching import fetch
from common.files import hash_record
from common.flags import LARGEST_SEED
from common.kinds import ZIP, kind_of
from data import DATA_DIR, drawn_signs, images, pickles
from data import gtsrb_archive as archives
from data.datasets import NO_MIRROR, Dataset, Source, check

TRAIN_FILE = DATA_DIR / "train.p"
COURSE = "https://d17h27t6h515a5.cloudfront.net/topher/2016/October/580a829f_train/train.p"
ARCHIVE = DATA_DIR / "GTSRB_Final_Training_Images.zip"
OFFICIAL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"  # the training archive: 276 MB
UNPACKED = [DATA_DIR, DATA_DIR / "GTSRB_Final_Training_Images"]  # where it may lie unpacked, or Kaggle's

TEST_FILE = DATA_DIR / "test.p"
TEST_ARCHIVE = DATA_DIR / "GTSRB_Final_Test_Images.zip"
TEST_UNPACKED = [DATA_DIR, DATA_DIR / "GTSRB_Final_Test_Images"]
MD5 = {TEST_ARCHIVE.name: "c7e4e6327067d32654124b0fe9e82185", archives.TEST_LABELS: "fe31e9c9270bbcd7b84b7f21a9d9d9e5"}

# Tracks per class in the full file: 30 images each, but 29 in track 19 of class 33.
TRACKS = [
    7, 74, 75, 47, 66, 62, 14, 48, 47, 49, 67, 44, 70, 72, 26, 21, 14, 37, 40, 7, 12, 11,
    13, 17, 9, 50, 20, 8, 18, 9, 15, 26, 8, 23, 14, 40, 13, 7, 69, 10, 12, 8, 8,
]  # fmt: skip
NAME = "German traffic signs"  # of the training images, as a `Dataset`
IMAGES_PER_TRACK = 30
SIGN_SIZE = 32  # pixels; the size of the course's signs
SHORT_TRACK = sum(TRACKS[:33]) + 19
DROP = 0.1  # of the area, from one image to the next; within GTSRB's own tracks it never drops to less


# Signs whose mirror image is a sign: the same one, or that for the other side.
SYMMETRIC = [11, 12, 13, 15, 17, 18, 22, 26, 30, 35]
LEFT_AND_RIGHT = [(19, 20), (33, 34), (36, 37), (38, 39)]
MIRRORED = (
    {label: label for label in SYMMETRIC} | dict(LEFT_AND_RIGHT) | {right: left for left, right in LEFT_AND_RIGHT}
)
MIRROR = tuple(MIRRORED.get(label, NO_MIRROR) for label in range(archives.CLASSES))


def sign_names() -> list[str]:
    """Return the 43 names in the order of the labels."""
    with open(DATA_DIR / "signnames.csv", encoding="utf-8", newline="") as file:
        return [row["SignName"] for row in csv.DictReader(file)]


def are_signs(class_names: Sequence[str]) -> bool:
    """Whether these are the 43 signs, in the order of the labels."""
    return list(class_names) == sign_names()


def load(path: str | os.PathLike = TRAIN_FILE) -> Dataset:
    """Return the training images in `path` as a `Dataset`: a pickle like train.p, or an archive, zip or unpacked.

    Only `data/train.p` itself is made when absent: built from an archive in data/, as `gtsrb_archive` knows them, else
    fetched from the course, else built from the fetched archive. Raises `BadInput`.
    """
    path = pathlib.Path(path)
    if not path.exists() and path.resolve() == TRAIN_FILE:
        return _made()
    return _dataset(_read(path, "train.p", archives.read_archive), path)


def load_validation(path: str | os.PathLike) -> Dataset:
    """Return the images of a `valid.p`, or of the zip or folder that it lies in: signs that train.p does not show."""
    signs = _dataset(_read(pathlib.Path(path), "valid.p", None), path)
    return signs._replace(name="German traffic signs, validation")


def load_test(path: str | os.PathLike = TEST_FILE) -> Dataset:
    """Return the official test set as a `Dataset` without tracks: other signs than those of the training images.

    path: a pickle like test.p, or an archive, zip or unpacked; for the official one, the file with the classes lies
    beside it or in it (`gtsrb_archive.find_test_labels`). Only `data/test.p` itself is made when absent, from
    archives in data/; official ones that it lacks are fetched. Raises `BadInput`.
    """
    path = pathlib.Path(path)
    if not path.exists() and path.resolve() == TEST_FILE:
        arrays = _made_test()
    else:
        arrays = _read(path, "test.p", archives.read_test_archive)
    return _dataset(arrays, path)._replace(tracks=None, name="German traffic signs, test")


def drawn(per_class: int = 30, seed: int = 0) -> Dataset:
    """Return 43 * per_class drawn signs as a `Dataset`. Each drawing is a track of its own."""
    drawings, labels = drawn_signs.draw(per_class=per_class, seed=seed)
    signs = Dataset(drawings, labels, sign_names(), np.arange(len(labels)), "drawn traffic signs")
    return check(signs, signs.name)


def drawn_test(per_class: int = 30, seed: int = 0) -> Dataset:
    """Return other drawn signs than `drawn` with the same arguments."""
    return drawn(per_class, LARGEST_SEED - seed)._replace(name="drawn traffic signs, test")


def find_signs(paths: Sequence[str], demo: bool, seed: int) -> tuple[list[str], np.ndarray, list[BadInput]]:
    """(names, signs uint8 (N, 32, 32, 3), files that cannot be read): the user's, or the course's.

    Drawn ones for `demo`, or where the course's cannot be fetched. A larger image goes through 32x32 as well: a
    classifier that was trained on enlarged 32x32 images knows soft edges only. Resized with antialiasing, since it may
    be a large photo; the course's signs, of 15 to 250 pixels, were not.
    """
    framing = images.Framing(SIGN_SIZE)
    if paths:
        return images.read_readable(images.expand(paths), framing)
    if not demo:
        try:
            course = images.course_signs()
        except BadInput:
            print("The course's signs could not be downloaded; using drawn ones instead.\n")
        else:
            return [str(path) for path in course], images.read_all(course, framing), []
    signs = drawn_test(per_class=1, seed=seed)  # others than those that a demo was trained on
    chosen = [signs.class_names.index(name) for name in ("Road work", "Stop")]
    return [f"drawn, {signs.class_names[index]}" for index in chosen], signs.images[chosen], []


def tracks_of(labels: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray | None:
    """Return the track of each image as (N,) int64, 0 upwards, or None where it cannot be known.

    A track is the 30 images that a passing car took of one physical sign. They are nearly copies: with some of them
    in training, the others say little about signs never seen. train.p does not say which belong together, so:

    * If the labels are those of the full file, or of every n-th image of it, the positions determine the tracks.
    * Else, if the images of each class are contiguous, `sizes` (N, 2) do: a sign grows as the car comes closer, and a
      new track begins where it is suddenly small. Only a drop to less than a tenth of the area counts. Tracks are then
      never split (within GTSRB's own, one drop goes to 0.10, the other 1,306 stay above 0.17) but often merged, which
      is harmless. The later train.p and valid.p are of this kind.
    * Shuffled images, or no sizes: None.
    """
    counts = np.full(sum(TRACKS), IMAGES_PER_TRACK)
    counts[SHORT_TRACK] -= 1
    tracks = np.repeat(np.arange(len(counts)), counts)
    every = max(1, round(len(tracks) / len(labels)))
    if np.array_equal(np.repeat(np.arange(len(TRACKS)), TRACKS)[tracks][::every], labels):
        return tracks[::every]

    new_class = np.diff(labels) != 0
    if sizes is None or new_class.sum() >= len(np.unique(labels)):
        return None
    area = np.prod(sizes, axis=1, dtype=np.float64)
    shrinks = np.diff(area)[~new_class] < 0
    if shrinks.sum() > 0.4 * len(shrinks):  # about 0.1 in the order of driving, 0.5 when shuffled
        return None
    new_track = new_class | (area[1:] < DROP * area[:-1])
    return np.concatenate([[0], np.cumsum(new_track)])


def _made() -> Dataset:
    """Make data/train.p, and return it as a `Dataset`."""
    archive = _archive_here()
    if archive is None:
        fetched = _fetched()
        if fetched:
            return fetched
        _fetch_official(ARCHIVE, f"or {TRAIN_FILE.name} from {COURSE}")
        archive = ARCHIVE
    arrays = archives.read_archive(archive) if archive.is_dir() else _read(archive, "train.p", archives.read_archive)
    pickles.write(TRAIN_FILE, arrays)
    return _dataset(arrays, TRAIN_FILE)


def _fetched() -> Dataset | None:
    """data/train.p from the course's address; None where that is dead, or answers with something else."""
    try:
        fetch([COURSE], TRAIN_FILE)
    except BadInput as error:
        if TRAIN_FILE.exists():  # by now the user, or another process, has put it there
            return _dataset(_read(TRAIN_FILE, "train.p", None), TRAIN_FILE)
        print(f"{error}; trying the official archive", file=sys.stderr)
        return None
    try:
        return _dataset(_read(TRAIN_FILE, "train.p", None), TRAIN_FILE)
    except BadInput as error:
        TRAIN_FILE.unlink(missing_ok=True)
        hash_record(TRAIN_FILE).unlink(missing_ok=True)
        print(f"{error}; trying the official archive", file=sys.stderr)
        return None


def _archive_here() -> pathlib.Path | None:
    """Where the training images lie in data/: the official zip, unpacked, or a zip of any name that holds them."""
    if ARCHIVE.exists():
        return ARCHIVE
    unpacked = [folder for folder in UNPACKED if archives.holds_training_images(folder)]
    return next(iter(unpacked), None) or _zip_here("train.p", archives.holds_training_images)


def _zip_here(name: str, holds_images: Callable[[pathlib.Path], bool]) -> pathlib.Path | None:
    """The first zip in data/ with the pickle `name`, or with images."""
    zips = filter(pathlib.Path.is_file, sorted(TRAIN_FILE.parent.glob("*.zip")))
    return next((each for each in zips if archives.holds_pickle(each, name) or holds_images(each)), None)


def here() -> bool:
    """Whether the training images are in data/."""
    return TRAIN_FILE.exists() or _archive_here() is not None


def _made_test() -> dict[str, np.ndarray]:
    """Make data/test.p, and return its arrays."""
    labels = TEST_FILE.parent / archives.TEST_LABELS
    kaggle = archives.holds_kaggle_test(TEST_FILE.parent)
    unpacked = [folder for folder in TEST_UNPACKED if archives.holds_test_images(folder)]
    place = TEST_FILE.parent if kaggle else next(iter(unpacked), TEST_ARCHIVE)
    if not place.exists() and (other := _zip_here("test.p", archives.holds_kaggle_test)):
        arrays = _read(other, "test.p", archives.read_test_archive)
    else:
        if place == TEST_ARCHIVE:
            _fetch_official(TEST_ARCHIVE, f"and {labels.name} from {OFFICIAL + labels.name}")
        if not kaggle and archives.find_test_labels(place) is None:
            _fetch_official(labels)
        arrays = archives.read_test_archive(place)
    pickles.write(TEST_FILE, arrays)
    return arrays


def _fetch_official(path: pathlib.Path, other: str = "") -> None:
    """Fetch one of the official archives; `other` is what else to download by hand when it cannot be fetched."""
    try:
        fetch([OFFICIAL + path.name], path, md5=MD5.get(path.name))
    except BadInput as error:
        raise BadInput(f"{error}{', ' * bool(other)}{other}") from None


def _read(path: pathlib.Path, name: str, read_images: Callable[[pathlib.Path], dict] | None) -> Any:
    """The arrays of a pickle, of the pickle `name` in a zip or folder, or those of an archive of images."""
    if not path.exists():
        raise BadInput(f"{path}: no such file; give a {name}, or an archive of the signs, zip or unpacked")
    if not path.is_dir() and kind_of(path) != ZIP:
        return pickles.read(path, f"a pickle like {name}, or {archives.EXPECTED}")
    arrays = archives.read_pickle_in(path, name)
    if arrays is not None:
        return arrays
    if read_images is None:
        raise BadInput(f"{path}: holds no {name}; expected the file itself, or the course's zip, or a folder with it")
    return read_images(path)


def _dataset(arrays: Any, path: str | os.PathLike) -> Dataset:
    """Check what a pickle or an archive holds and return it as a `Dataset`."""
    if not isinstance(arrays, dict) or not {"features", "labels"} <= arrays.keys():
        found = ", ".join(map(str, arrays)) if isinstance(arrays, dict) else f"a {type(arrays).__name__}"
        raise BadInput(f"{path}: holds {found[:200]}; expected a dict with features and labels")
    tracks = arrays.get("tracks")
    signs = Dataset(arrays["features"], arrays["labels"], sign_names(), tracks, NAME, IMAGES_PER_TRACK)
    signs = check(signs, path)
    if tracks is None:
        tracks = tracks_of(signs.labels)  # where the labels tell, the sizes are not needed, and may be anything
    if tracks is None and "sizes" in arrays:
        try:
            sizes = np.asarray(arrays["sizes"])
        except ValueError:  # lists of different lengths
            raise BadInput(f"{path}: sizes are no plain array; expected width and height of each image") from None
        if sizes.shape != (len(signs.labels), 2) or sizes.dtype.kind not in "iu":
            found = f"{sizes.dtype} {sizes.shape}"
            raise BadInput(
                f"{path}: sizes are {found}; expected width and height of each of {len(signs.labels)} images"
            )
        tracks = tracks_of(signs.labels, sizes)
    return signs._replace(tracks=tracks)


SOURCE = Source(load, load_test, drawn, drawn_test, sign_names, sign_names, MIRROR, split="track", here=here)
