"""Images: any file that Pillow reads becomes RGB of the size that a network takes; the photos of the walk."""

import importlib.util
import pathlib
import warnings

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.fetching import fetch
from common.files import BadInput
from data import DATA_DIR

SHORTER_SIDE = 256  # pixels; ImageNet's images were scaled to this before the centre was cut out
COURSE = "https://raw.githubusercontent.com/udacity/CarND-Alexnet-Feature-Extraction/master/"
PHOTOS = {  # file: SHA-256
    "poodle.png": "c7c6de6cbc4d237a2e4f5cdcab78e01bf68a4a3ff653862ab05def0c7d1a3aa9",
    "weasel.png": "04e68cc7196f3d9501b0d2d7759e392c0b26159a316a189db054f0ebb031cf4e",
}
SIGNS = {
    "construction.jpg": "dd932886d8fb55dd521c9e2dca6905268b910a784b986696052560e287d0fb7f",
    "stop.jpg": "ca7c0857c5047dc992c76e80f0e83092a93702dbc08613b304c4e24416dda0aa",
}


def read_all(paths, size, crop):
    """Read image files as uint8 (N, size, size, 3): their centres (`crop`), or whole, squeezed into the square."""
    cut = centre_crop if crop else whole
    return np.stack([cut(read(path), size) for path in paths])


def centre_crop(photo, size):
    """uint8 (height, width, 3) -> (size, size, 3): the shorter side scaled to 256, the centre cut out.

    A photo that fits between `size` and 256, as the course's of 227x227 do, was cut out already: its centre, unscaled.
    A `size` above 256 takes the place of 256.
    """
    shorter, longer = min(photo.shape[:2]), max(photo.shape[:2])
    scale = 1 if size <= shorter and longer <= SHORTER_SIDE else max(SHORTER_SIDE, size) / shorter
    side = round(size / scale)  # pixels of the photo that become `size` pixels
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR, box=box))


def whole(photo, size):
    """uint8 (height, width, 3) -> (size, size, 3): the whole image, resized; its proportions are not kept."""
    return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR))


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
