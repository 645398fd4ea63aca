"""Images: any file that Pillow reads becomes RGB of the size that a network takes; the photos of the walk."""

import importlib.util
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Literal, NamedTuple

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.fetching import fetch
from common.files import BadInput
from data import DATA_DIR

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

    An image whose sides all lie between `size` and `resized` is only cut, never scaled: someone has resized it already,
    as the course did its photos of 227x227.
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


def kept_framing(settings: dict) -> Framing:
    """The framing in a trained head's settings: `framing`, its three fields; `crop` and `picture_size` in old heads."""
    if "framing" in settings:
        return Framing(*settings["framing"])
    size = settings["picture_size"]
    return Framing(size, "crop", RESIZED) if settings["crop"] else Framing(size)


def read_all(paths: Iterable, framing: Framing) -> np.ndarray:
    """Read image files as uint8 (N, size, size, 3). `BadInput` for the first that cannot be read."""
    return np.stack([frame(read(path), framing) for path in paths])


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


def longest_side(path: str | os.PathLike) -> int:
    """Pixels along the longer side of the image in this file, from its header if Pillow knows it; 0 if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return max(image.size)
    except Exception:  # damaged files make Pillow's many readers raise nearly anything
        try:
            return max(read(path).shape[:2])
        except BadInput:
            return 0


def read(file, name=None):
    """Return the image in `file` (a path, or an open binary file) as uint8 (H, W, 3), RGB.

    Upright as EXIF says, the first frame of an animation, transparent parts on white, more than 8 bits scaled to
    0-255. `name` stands for the file in messages. Raises `BadInput` for what is no image, or a damaged one.
    """
    name = name or file
    try:
        # Pillow itself where it can, not imageio on top of it: imageio 2.38 mirrors grey and palette images along
        # their colour axis when EXIF asks for a mirror image (orientations 2, 4, 5, 7).
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata or many pixels do no harm; damaged pixels raise
            with Image.open(file) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except FileNotFoundError:
        raise BadInput(f"{name}: no such file; give the path of an image") from None
    except IsADirectoryError:
        raise BadInput(f"{name}: is a folder; give the path of an image") from None
    except UnidentifiedImageError:
        return _read_otherwise(file, name)
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise BadInput(f"{name}: has more than {limit} million pixels; make it smaller") from None
    except Exception as error:  # damaged files make Pillow's many readers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{name}: cannot be read as an image ({reason}); the file may be damaged") from None


def _read_otherwise(file, name):
    """Read what Pillow does not know, with whatever other reader imageio finds installed (TIFF, HEIC, raw, video)."""
    try:
        if hasattr(file, "seek"):
            file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about readers that imageio will drop one day
            pixels = np.asarray(iio.imread(file))
        while pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
            pixels = pixels[0]  # the first of several pages
        if pixels.dtype != np.uint8:
            pixels = _eight_bits(pixels)
        return _rgb(Image.fromarray(pixels.squeeze()))
    except Exception:  # each reader has errors of its own
        raise BadInput(f"{name}: is not an image, or of a kind that cannot be read here; try PNG or JPEG") from None


def _rgb(image):
    """Return a Pillow image of any mode as uint8 (H, W, 3)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # grey; Pillow's own conversion would clip it
        return np.repeat(_eight_bits(np.asarray(image))[:, :, None], 3, axis=2)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))  # half the time of the way below
    rgba = np.asarray(image.convert("RGBA"))
    rgb, alpha = rgba[:, :, :3], rgba[:, :, 3:]
    on_white = rgb * (alpha / np.float32(255)) + (255 - alpha)
    return np.rint(on_white).astype(np.uint8)


def _eight_bits(grey):
    """Scale integers 0-65535, floats 0-1 or floats 0-255 to uint8 0-255."""
    white = 65535 if grey.dtype.kind in "iu" else 1 if grey.max() <= 1 else 255
    if not (grey.min() >= 0 and grey.max() <= white):  # NaN, too, is not
        raise ValueError(f"grey values from {grey.min()} to {grey.max()}, expected 0 to {white}")
    return np.rint(grey * (255 / white)).astype(np.uint8)


def course_photos():
    """Return the paths of the course's two photos, a poodle and a weasel (227x227 RGBA); fetched when absent."""
    return _fetched(PHOTOS)


def course_signs():
    """Return the paths of the course's two traffic signs, construction and stop (32x32); fetched when absent."""
    return _fetched(SIGNS)


def sample_photos():
    """Return the paths of scikit-learn's two photos, a Chinese temple and a flower (640x427); needs no network."""
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


def _fetched(hashes):
    for name, sha256 in hashes.items():
        if not (DATA_DIR / name).exists():
            fetch([COURSE + name], DATA_DIR / name, sha256=sha256)
    return [DATA_DIR / name for name in hashes]
