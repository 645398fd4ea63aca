"""Test images that a classifier was trained on: what it says of them tells nothing about new ones.

count(pathlib.Path("runs/my_run/head.npz"), head, test)    # how many of the test images; a warning is printed
"""

import contextlib
import pathlib

from common.program import shown

from common.errors import BadInput
from common.kinds import ZIP, kind_of
from data import folders, splits, traffic_signs
from data.datasets import Dataset
from transfer import run_files
from weights.heads import Head


def count(path: pathlib.Path, head: Head, test: Dataset, test_dir: pathlib.Path | None = None) -> int:
    """How many test images are among those that the run of the head at `path` names; if any are, a warning is printed.

    test_dir: where they were read, if they are the user's own. 0 where it cannot be told within seconds: for a run from
    elsewhere, and for training images that are gone or lie in an archive.
    """
    flags = run_files.trusted_flags(path.parent)
    if test_dir:
        place, found = _folder(flags, test_dir)
    else:
        place, found = _file(flags, head, test)
    if found:
        print(f"Warning: {found:,} of {len(test.labels):,} test images are in {shown(place)}, on which it was trained; "
              "the accuracy will say little about new images.")  # fmt: skip
    return min(found, len(test.labels))  # what is no image may be in both folders


def _folder(flags: dict, test_dir: pathlib.Path) -> tuple[pathlib.Path | None, int]:
    """The run's folder of training images, and how many files in `test_dir` are copies of those in it."""
    with contextlib.suppress(BadInput):  # it may have been moved, or changed, since
        if flags.get("training_dir"):
            place, *_ = folders.find_split(flags["training_dir"])
            return place, len(folders.in_both(place, test_dir))
    return None, 0


def _file(flags: dict, head: Head, test: Dataset) -> tuple[pathlib.Path | None, int]:
    """The run's train.p, and how many of the test images are in it. An archive would take too long to read."""
    place = pathlib.Path(flags.get("training_file") or traffic_signs.TRAIN_FILE)
    signs = head.provenance.trained_on.removesuffix(splits.UNDIVIDED) == traffic_signs.NAME
    with contextlib.suppress(BadInput):
        if flags and signs and place.is_file() and kind_of(place) != ZIP:
            return place, splits.count_in(test, traffic_signs.load(place))
    return None, 0
