"""Image files: any of the kinds named here becomes upright RGB of 8 bits per channel.

Only these kinds are read, whatever a file is called. Pillow knows many more, and would start Ghostscript on PostScript;
imageio's readers find "images" in archives of arrays, medical series and videos.
"""

import contextlib
import importlib.util
import logging
import math
import os
import pathlib
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from common.program import stderr_kept_back

import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from common.errors import BadInput, reason
from common.files import open_regular
from common.kinds import HEAD, MAGIC, UNKNOWN, kind_of
from data import tiff
from data.bit_depths import DEPTHS, eight_bits, on_white
from data.wholeness import check, png_chunks, webp_chunks

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")  # as Pillow calls them
NAMES = "JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000, AVIF or HEIC"
IMAGES = (  # as `common.kinds` calls those that Pillow reads
    "a JPEG image", "a PNG image", "a GIF image", "a BMP image", "a WebP image", "a PNM image", "a JPEG 2000 image",
    "an AVIF image",
)  # fmt: skip
CODECS = {"a WebP image": "webp", "a JPEG 2000 image": "jpg_2000", "an AVIF image": "avif"}  # not in every Pillow
TIFF_MARKS = {mark for _, mark in MAGIC["a TIFF image"]}  # its first four bytes
TGA = dict.fromkeys((".tga", ".icb", ".vda", ".vst"), ("TGA",))  # Targa files have no mark: nearly anything would do
MOST_PIXELS, MOST_BYTES = 100 * 10**6, 10**9  # of one image, decoded
LARGE = 16 * 10**6  # pixels; such images are decoded one at a time
CAN_BE_SWAPPED = {  # raw modes of 16 bits per channel, of which Pillow keeps the high byte: those that give the low one
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B", "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B", "RGBX;16B": "RGBX;16L", "RGBX;16L": "RGBX;16B", "RGBX;16N": "RGBX;16B",
}  # fmt: skip
ALONE = threading.RLock()  # for large images, which would fill the memory, and for libtiff's messages
GREY_WITH_ALPHA = "LA;16B"  # PNG's, which becomes RGBA: as many bytes per pixel


def read(file: str | os.PathLike | BinaryIO, name: object = None) -> np.ndarray:
    """The image in `file` (a path, or an open binary file) as uint8 (H, W, 3), RGB.

    Upright as EXIF says; the first frame of an animation and the first page of several; transparent parts on white;
    more than 8 bits per channel scaled to 0-255 (see data/bit_depths.py). `name` stands for the file in messages.
    Raises `BadInput` for what is not an image, a damaged one, one of more than 100 million pixels or 1 GB, and a path
    that is no regular file.
    """
    name = file if name is None else name
    with contextlib.ExitStack() as stack:
        if not hasattr(file, "read"):
            file = stack.enter_context(open_regular(file, "an image"))
        stack.enter_context(_quietly())
        try:
            return _read(file, pathlib.Path(str(name)).suffix.lower())
        except Image.DecompressionBombError:
            message = f"has more than {MOST_PIXELS // 10**6} million pixels; make it smaller"
        except BadInput as error:
            message = error
        except Exception as error:  # damaged files make the many readers raise nearly anything
            message = f"cannot be read as an image ({reason(error)}); the file may be damaged"
    raise BadInput(f"{name}: {message}")


def longest_side(path: str | os.PathLike) -> int:
    """Pixels along the longer side of the image in this file, from its header if Pillow knows it; 0 if it has none."""
    try:
        with open_regular(path) as file, _quietly(), _opened(file, pathlib.Path(path).suffix.lower()) as image:
            return max(image.size)
    except Exception:  # as above
        try:
            return max(read(path).shape[:2])
        except BadInput:
            return 0


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No warnings and no log on stderr: odd metadata does no harm, damaged pixels raise."""
    for library in ("PIL", "tifffile", "imageio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():  # not meant for threads; `own_images` puts another one around them
        warnings.simplefilter("ignore")
        yield


def _read(file: BinaryIO, suffix: str) -> np.ndarray:
    try:
        # Pillow itself where it can, not imageio on top of it: imageio 2.38 mirrors grey and palette images along
        # their colour axis when EXIF asks for a mirror image (orientations 2, 4, 5, 7).
        with _opened(file, suffix) as image:
            large = image.width * image.height > LARGE
            with ALONE if large or image.format == "TIFF" else contextlib.nullcontext():
                check(file, image)
                bits, modes = _significant_bits(file, image), {_raw_mode(tile) for tile in image.tile}
                _scale_transparency(image, modes)
                _decode(image, _first_frame(file, image))
                if image.format in ("TGA", "BMP") and _alpha_is_unused(file, image):
                    return np.array(image.convert("RGB"))
                if modes == {GREY_WITH_ALPHA} and _is_dark(image):
                    return _sixteen_bits_of_grey(file, bits)
                if modes and modes <= CAN_BE_SWAPPED.keys() and (_is_dark(image) or _transparent(image) is not None):
                    return _sixteen_bits_of_colour(file, suffix, image, bits)
                return _rgb(image, bits)
    except UnidentifiedImageError:
        with ALONE:
            return _read_otherwise(file)


def _opened(file: BinaryIO, suffix: str = "", formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """What Pillow makes of the file's header; `BadInput` for more than 100 million pixels, before any is decoded."""
    if file.seek(0, os.SEEK_END) > MOST_BYTES:  # some readers begin by reading all of it
        raise BadInput(f"has more than {MOST_BYTES / 10**9:g} GB; make it smaller")
    file.seek(0)
    if file.read(4) in TIFF_MARKS:
        tiff.check_tags(file)
    Image.init()
    image = Image.open(file, formats=[name for name in (*formats, *TGA.get(suffix, ())) if name in Image.OPEN])
    _check_size(*image.size)
    if image.format == "TIFF":
        tiff.check(image)
        _check_size(*tiff.tile_sides(image.tag_v2), what="has tiles of")
        if tiff.is_misread(image.tag_v2, {_raw_mode(tile) for tile in image.tile if tile[0] == "libtiff"}):
            raise UnidentifiedImageError
        tiff.mend_palette(image)
    return image


def _check_size(height: int, width: int, bytes_per_pixel: int = 4, what: str = "has") -> None:
    if height * width > MOST_PIXELS or height * width * bytes_per_pixel > MOST_BYTES:
        most = f"{MOST_PIXELS // 10**6} million, or {MOST_BYTES / 10**9:g} GB"
        raise BadInput(f"{what} {height * width / 10**6:,.0f} million pixels, expected at most {most}; make it smaller")


def _first_frame(file: BinaryIO, image: Image.Image) -> tuple[int, int, int, int] | None:
    """Where a GIF or animated WebP has its first frame on its canvas: left, top, right, bottom; None for the others."""
    if image.format == "GIF":
        return image.tile[0][1]
    if image.format != "WEBP" or b"ANMF" not in webp_chunks(file):  # found, the file stands behind it
        return None
    left, top, width, height = (int.from_bytes(file.read(3), "little") for _ in range(4))
    return 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1


def _decode(image: Image.Image, frame: tuple[int, int, int, int] | None = None) -> None:
    """Decode the pixels and turn them upright. libtiff writes whatever it finds odd to file descriptor 2.

    Around a first frame that is smaller than its canvas nothing is drawn; Pillow has colour 0 or black there.
    """
    with _stderr_discarded() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()
    if frame not in (None, (0, 0, *image.size)) and not image.has_transparency_data:
        drawn = Image.new("L", image.size)
        drawn.paste(255, frame)
        image.putalpha(drawn)
    with contextlib.suppress(Exception):  # EXIF that is damaged says nothing
        ImageOps.exif_transpose(image, in_place=True)


@contextlib.contextmanager
def _stderr_discarded() -> Iterator[None]:
    """As `stderr_kept_back`, but an exception does not bring it to light: it says itself what is wrong."""
    failure = None
    with stderr_kept_back():
        try:
            yield
        except Exception as error:
            failure = error
    if failure:
        raise failure


def _raw_mode(tile: tuple) -> str | None:
    """How Pillow finds the pixels lying in the file: RGB;16B for instance is 16 bits per channel, high byte first."""
    arguments = tile[3]
    return arguments[0] if isinstance(arguments, tuple) and arguments else arguments


def _with_raw_mode(tile: tuple, mode: str) -> tuple:
    """The part of a file that Pillow is to decode, with its pixels taken for others."""
    arguments = tile[3]
    arguments = (mode, *arguments[1:]) if isinstance(arguments, tuple) else mode
    # A plain tuple before Pillow 11.1.
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _transparent(image: Image.Image) -> int | tuple[int, ...] | None:
    """The number, or colour, that a PNG declares transparent (its chunk tRNS); None where alpha says it, or nothing."""
    transparent = image.info.get("transparency")
    return transparent if image.format == "PNG" and isinstance(transparent, (int, tuple)) else None


def _scale_transparency(image: Image.Image, modes: set) -> None:
    """Grey of 1, 2 or 4 bits is scaled to 8 by Pillow; the number of its transparent pixels is not."""
    bits = {("1", "1"): 1, ("L", "L;2"): 2, ("L", "L;4"): 4}.get((image.mode, *modes)) if len(modes) == 1 else None
    if bits and isinstance(_transparent(image), int):
        image.info["transparency"] = _transparent(image) * 255 // ((1 << bits) - 1)


def _significant_bits(file: BinaryIO, image: Image.Image) -> int | None:
    """How many bits of each number the file says it uses, where this is neither 8 nor 16; else None."""
    if image.format in ("PPM", "JPEG2000"):
        return DEPTHS[-1]  # Pillow has scaled them already
    if image.format == "TIFF":
        bits = image.tag_v2.get(tiff.BITS, (8,))[0]
        return bits if 8 < bits < 16 else None
    if image.format != "PNG":
        return None
    length, kind = next((chunk for chunk in png_chunks(file) if chunk[1] in (b"sBIT", b"IDAT")), (0, b""))
    if kind != b"sBIT" or not 0 < length <= 4:
        return None
    return max(file.read(length)[: length - (length in (2, 4))], default=None)  # the last of two or four is alpha's


def _rgb(image: Image.Image, bits: int | None = None) -> np.ndarray:
    """A Pillow image of any mode as uint8 (H, W, 3)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # grey; Pillow's own conversion would clip it
        pixels, transparent = np.asarray(image), _transparent(image)
        grey = eight_bits(pixels, bits)
        # Pillow sees to it for 8 bits only.
        if image.format == "TIFF" and image.tag_v2.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO:
            grey = 255 - grey
        if transparent is not None:
            grey[pixels == transparent] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    image = image.convert("LA") if image.mode == "La" else image  # grey multiplied by alpha becomes nothing else
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))  # half the time of the way below
    return on_white(np.asarray(image.convert("RGBA")))


def _alpha_is_unused(file: BinaryIO, image: Image.Image) -> bool:
    """Whether a Targa or BMP of 32 bits per pixel uses 24: alpha is 0 everywhere (Targa: and not declared)."""
    if image.mode != "RGBA" or image.getextrema()[3] != (0, 0):
        return False
    file.seek(17)
    return image.format == "BMP" or not file.read(1)[0] & 15


def _is_dark(image: Image.Image) -> bool:
    """Whether the high bytes leave a bit free, as in files of 16 bits that hold 14 or fewer."""
    return max(high for _, high in image.getextrema()[:3]) < 1 << (DEPTHS[-2] - 8)


def _sixteen_bits_of_colour(file: BinaryIO, suffix: str, image: Image.Image, bits: int | None) -> np.ndarray:
    """Colour of which Pillow kept the high bytes of 16 bits: decoded once more, for the low bytes."""
    with _opened(file, suffix) as low:
        low.tile = [_with_raw_mode(tile, CAN_BE_SWAPPED[_raw_mode(tile)]) for tile in low.tile]
        _decode(low)
        pixels = np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)
    colour = eight_bits(pixels[:, :, :3], bits)
    if image.mode == "RGBA":
        return on_white(np.concatenate([colour, eight_bits(pixels[:, :, 3:])], axis=2))
    if _transparent(image) is not None:
        colour[(pixels == _transparent(image)).all(axis=2)] = 255
    return colour


def _sixteen_bits_of_grey(file: BinaryIO, bits: int | None) -> np.ndarray:
    """Grey with alpha of which Pillow kept the high bytes: decoded once more, as four channels of 8 bits."""
    with _opened(file) as image:
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in image.tile]
        _decode(image)
        high_and_low = np.asarray(image).astype(np.uint16)
    grey, alpha = (high_and_low[:, :, channel] << 8 | high_and_low[:, :, channel + 1] for channel in (0, 2))
    channels = [eight_bits(grey, bits)] * 3 + [eight_bits(alpha, DEPTHS[-1])]
    return on_white(np.stack(channels, axis=2))


def _read_otherwise(file: BinaryIO) -> np.ndarray:
    """What Pillow alone does not read: HEIC with pillow-heif, unusual TIFF with tifffile, where they are installed."""
    file.seek(0)
    kind = kind_of(file.read(HEAD))
    readers = {"a HEIC image": ("pillow_heif", _read_heic), "a TIFF image": ("tifffile", _read_tiff)}
    if kind not in readers:
        if kind in CODECS and not features.check(CODECS[kind]):
            raise BadInput(f"is {kind}, which this Pillow does not read; pip install --upgrade Pillow, or convert it")
        if kind in IMAGES:
            raise BadInput(f"is damaged, though it begins as {kind}; get another copy")
        found = "not an image" if kind == UNKNOWN else f"{kind}, not an image that can be read"
        raise BadInput(f"is {found}; expected {NAMES}")
    package, reader = readers[kind]
    if importlib.util.find_spec(package) is None:
        advice = f"pip install {package.replace('_', '-')} to read it"
        raise BadInput(f"is {kind} that Pillow does not read; {advice}, or convert it to JPEG or PNG")
    file.seek(0)
    return reader(file)


def _read_heic(file: BinaryIO) -> np.ndarray:
    import pillow_heif

    pillow_heif.register_heif_opener()
    with _opened(file, formats=("HEIF",)) as image:
        check(file, image)
        _decode(image)
        return _rgb(image)


def _read_tiff(file: BinaryIO) -> np.ndarray:
    """The first page of a TIFF that Pillow does not read: floats in colour or of 64 bits, planes of 16 bits."""
    with iio.imopen(file, "r", plugin="tifffile") as opened:
        page, told = opened.properties(index=..., page=0), opened.metadata(index=..., page=0)
        tiff.check_parts(told.get("StripOffsets"), told.get("TileOffsets"))
        planes = len(page.shape) == 3 and told["planar_configuration"] == tiff.SEPARATE
        height, width = page.shape[-2:] if planes else page.shape[:2]
        _check_size(height, width, math.prod(page.shape) * page.dtype.itemsize // (height * width))
        try:
            pixels = opened.read(index=..., page=0)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            advice = "pip install imagecodecs to read it, or convert it to PNG"
            raise BadInput(f"is a TIFF compressed in a way that Pillow does not read; {advice}") from None
    pixels = np.moveaxis(pixels, 0, 2) if planes else np.atleast_3d(pixels)
    image = tiff.of_bands(pixels, told.get("PhotometricInterpretation"), told.get("ExtraSamples") or (tiff.APART,))
    image.getexif()[ExifTags.Base.Orientation] = int(told.get("Orientation") or 1)
    _decode(image)
    return _rgb(image)
