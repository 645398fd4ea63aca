"""Image files as squares of the size that a network takes; the photos of the walk."""

import glob
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from common.errors import BadInput
from common.fetching import fetch
from data import DATA_DIR
from data.decoding import read

RESIZED = 256  # pixels; ImageNet's images were resized to this before their centres were cut out
COURSE = "https://raw.githubusercontent.com/udacity/CarND-Alexnet-Feature-Extraction/master/"
PHOTOS = {  # file: SHA-256
    "poodle.png": "c7c6de6cbc4d237a2e4f5cdcab78e01bf68a4a3ff653862ab05def0c7d1a3aa9",
    "weasel.png": "04e68cc7196f3d9501b0d2d7759e392c0b26159a316a189db054f0ebb031cf4e",
}
SIGNS = {
    "construction.jpg": "dd932886d8fb55dd521c9e2dca6905268b910a784b986696052560e287d0fb7f",
    "stop.jpg": "ca7c0857c5047dc992c76e80f0e83092a93702dbc08613b304c4e24416dda0aa",
}


class Framing(NamedTuple):
    """How an image of any shape becomes a square of `size` pixels.

    With "squeeze" and "crop", an image that has at least `size` and at most `resized` pixels along both sides is only
    cut, never scaled: someone has resized it already, as the course did its photos of 227x227.
    """

    size: int
    how: Literal["whole", "squeeze", "crop"] = "whole"
    #   whole: the whole image, its proportions not kept (traffic signs)
    #   squeeze: the whole image squeezed to `resized` x `resized`, then the centre (BVLC's AlexNet and GoogLeNet)
    #   crop: the shorter side scaled to `resized`, then the centre (VGG16, ResNet50)
    resized: int = 0  # pixels before the centre is cut out, not used for "whole"; less than `size` counts as `size`


def as_trained(how: str, size: int, input_size: int) -> Framing:
    """The framing that a network's card names (`how`), for images of `size` pixels instead of its `input_size`.

    At `input_size`, 224 or 227, networks see the centre of an image of 256 pixels. A smaller `size` shows the same
    share of the image, in less detail.
    """
    return Framing(size, how, round(size * RESIZED / input_size))


def framing_of(trained: Any) -> Framing:
    """The framing that a head's provenance keeps."""
    return Framing(trained.size, trained.how, trained.resized)


def described(framing: Framing) -> str:
    """What `frame` does, in words."""
    size, resized = (f"{side} x {side} pixels" for side in (framing.size, max(framing.resized, framing.size)))
    if framing.how == "whole":
        return f"the whole image, resized to {size}"
    whole = "the whole image squeezed" if framing.how == "squeeze" else "the middle square of the image, resized"
    if framing.resized <= framing.size:
        return f"{whole} to {resized}"
    cut = f"images with sides of {framing.size} to {framing.resized} pixels are not resized, only cut"
    return f"{whole} to {resized}, of which the middle {size}; {cut}"


def read_all(paths: Iterable, framing: Framing) -> np.ndarray:
    """Read image files as uint8 (N, size, size, 3). `BadInput` for the first that cannot be read."""
    return np.stack([frame(read(path), framing) for path in paths])


def read_each(paths: Iterable, framing: Framing) -> list[np.ndarray | BadInput]:
    """As `read_all`, but a file that cannot be read costs its own place only: there is the error that names it."""

    def one(path: Any) -> np.ndarray | BadInput:
        try:
            return frame(read(path), framing)
        except BadInput as error:
            return error

    return [one(path) for path in paths]


def read_readable(paths: Iterable, framing: Framing) -> tuple[list, np.ndarray, list[BadInput]]:
    """(paths that could be read, their images uint8 (N, size, size, 3), what is wrong with the others).

    For scripts that answer for the good images and end with `raise_for` the bad ones. `BadInput` if all are bad.
    """
    paths = list(paths)
    found = read_each(paths, framing)
    problems = [each for each in found if isinstance(each, BadInput)]
    if len(problems) == len(paths):
        raise_for(problems)
    good = [(path, each) for path, each in zip(paths, found) if not isinstance(each, BadInput)]
    squares = np.reshape([each for _, each in good], (-1, framing.size, framing.size, 3)).astype(np.uint8)
    return [path for path, _ in good], squares, problems


def raise_for(problems: list[BadInput]) -> None:
    """`BadInput` with the last of the problems, if there are any; the others are printed before, a line each."""
    for problem in problems[:-1]:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]


def expand(paths: Iterable[str]) -> list[str]:
    """The paths with wildcards (`*.jpg`, `**/*.png`) replaced by the files they match: Windows leaves this to programs.

    A path that exists is left as it is, with brackets or not; so is a wildcard that matches nothing, which reading it
    will tell.
    """
    expanded = []
    for path in map(os.fspath, paths):
        matches = []
        if glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(filter(os.path.isfile, glob.iglob(path, recursive=True)))
        expanded += matches or [path]
    return expanded


def frame(image: np.ndarray, framing: Framing) -> np.ndarray:
    """uint8 (height, width, 3) -> (size, size, 3), resized bilinearly, with antialiasing."""
    size, (height, width, _) = framing.size, image.shape
    resized = max(framing.resized, size)
    image = Image.fromarray(image)
    if framing.how == "whole":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    if size <= min(height, width) and max(height, width) <= resized:
        tall = wide = size
    elif framing.how == "squeeze":
        image = image.resize((resized, resized), Image.Resampling.BILINEAR)
        height, width, tall, wide = resized, resized, size, size
    else:
        tall = wide = round(size / (resized / min(height, width)))  # pixels of the image that become `size` pixels
    top, left = (height - tall) // 2, (width - wide) // 2
    box = (left, top, left + wide, top + tall)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def course_photos() -> list[pathlib.Path]:
    """The paths of the course's two photos, a poodle and a weasel (227x227 RGBA); fetched when absent."""
    return _fetched(PHOTOS)


def course_signs() -> list[pathlib.Path]:
    """The paths of the course's two traffic signs, construction and stop (32x32); fetched when absent."""
    return _fetched(SIGNS)


def sample_photos() -> list[pathlib.Path]:
    """The paths of scikit-learn's two photos, a Chinese temple and a flower (640x427); needs no network."""
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


def _fetched(hashes: dict[str, str]) -> list[pathlib.Path]:
    for name, sha256 in hashes.items():
        if not (DATA_DIR / name).exists():
            fetch([COURSE + name], DATA_DIR / name, sha256=sha256)
    return [DATA_DIR / name for name in hashes]
