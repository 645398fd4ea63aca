"""TIFF files: what their tags mean, which of them Pillow misreads, and their bands as an image."""

import os
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image, ImagePalette, TiffImagePlugin

from common.errors import BadInput
from data.bit_depths import eight_bits

BITS, BANDS = 258, 277  # tags of TIFF: BitsPerSample, SamplesPerPixel
KIND, SMALLER, INNER = 254, 1, 330  # NewSubfileType, its bit for a smaller copy of another page; pages in a page
THUMBNAIL = 300  # pixels; a larger copy of the photo will do
PLANAR, SEPARATE = 284, 2  # PlanarConfiguration, and its value for planes
PHOTOMETRIC, WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, YCBCR = 262, 0, 1, 2, 5, 6  # 0: negatives, faxes
COMPRESSION, LZW, JPEG = 259, 5, 7
COLOUR_MAP = 320  # a palette
SAMPLE_FORMAT, SIGNED = 339, 2
EXTRA, NO_ALPHA, MULTIPLIED, APART = 338, 0, 1, 2  # ExtraSamples; the colours may be multiplied by alpha already
MODES = {  # Pillow's modes for what lies in a TIFF
    WHITE_IS_ZERO: {NO_ALPHA: "L", APART: "LA"},
    BLACK_IS_ZERO: {NO_ALPHA: "L", MULTIPLIED: "La", APART: "LA"},
    RGB: {NO_ALPHA: "RGB", MULTIPLIED: "RGBa", APART: "RGBA"},
    CMYK: {NO_ALPHA: "CMYK"},
}
HIGH_BYTE_FIRST = {"I;16BS", "I;32BS", "F;32BF"}  # Pillow's raw modes; libtiff has exchanged the bytes already
STRIPS, TILES = 273, 324  # StripOffsets, TileOffsets: where the pixels lie in the file
SHAPING = {  # tags whose numbers may stand elsewhere in the file, and without which pixels are misread
    258, 279, 320, 325, 347,  # BitsPerSample, StripByteCounts, ColorMap, TileByteCounts, JPEGTables
    STRIPS, TILES, EXTRA, SAMPLE_FORMAT,
}  # fmt: skip
MOST_TAGS = 65535  # of a page; BigTIFF could have more
SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # bytes of a number, by the number of its type
TILE_SIDES = (322, 323)  # TileWidth and TileLength: libtiff decodes whole tiles, which may be larger than the image


def check_tags(file: BinaryIO) -> None:
    """`BadInput` for a TIFF that breaks off, or is blank, within the tags of its first page.

    Readers go on without those that are missing, and many programs write them last: without BitsPerSample, a byte
    becomes eight pixels of one bit.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16).ljust(16, b"\0")
    big, order = b"+" in head[2:4], "<" if head.startswith(b"II") else ">"  # BigTIFF; the order of bytes
    place, number, entry = (order + each for each in (("8xQ", "Q", "HHQQ") if big else ("4xI", "H", "HHII")))
    file.seek(struct.unpack_from(place, head)[0])
    count = int.from_bytes(file.read(struct.calcsize(number)), "little" if order == "<" else "big")
    tags = file.read(min(count, MOST_TAGS) * struct.calcsize(entry))
    whole = 0 < count * struct.calcsize(entry) == len(tags)
    for tag, kind, numbers, start in struct.iter_unpack(entry, tags) if whole else ():
        length = numbers * SIZES[kind] if kind < len(SIZES) else 0
        beyond = length > struct.calcsize(entry[-1]) and start + length > size  # shorter ones stand in `start` itself
        whole = whole and tag and not (beyond and tag in SHAPING)
    if not whole:
        raise BadInput("is cut off, or blank, within its tags; get another copy")


def check_parts(strips: tuple[int, ...] | None, tiles: tuple[int, ...] | None) -> None:
    """`BadInput` where a TIFF leaves strips or tiles out: Pillow takes the file's first bytes for them.

    strips, tiles: where they lie in the file; None where it has no such.
    """
    if 0 in (strips or ()) or 0 in (tiles or ()):
        raise BadInput("leaves out parts of its pixels, or is damaged; save it whole")


def check(image: Image.Image) -> None:
    """`BadInput` for a TIFF whose first page, which Pillow has opened, is a thumbnail of another one, or has gaps."""
    check_parts(image.tag_v2.get(STRIPS), image.tag_v2.get(TILES))
    copy = image.tag_v2.get(KIND) == SMALLER and (image.tag_v2.next or INNER in image.tag_v2)
    if copy and max(image.size) < THUMBNAIL:
        raise BadInput("begins with a thumbnail, as cameras' raw files do; convert it to JPEG or PNG")


def tile_sides(tags: TiffImagePlugin.ImageFileDirectory_v2) -> list[int]:
    """Width and height of a TIFF's tiles, in pixels; 1 where it has none. `BadInput` for what is no number."""
    sides = [tags.get(tag, 1) for tag in TILE_SIDES]
    if not all(isinstance(side, int) for side in sides):  # a text times a number is a longer text
        raise BadInput("is damaged: the sides of its tiles are not numbers; get another copy")
    return sides


def mend_palette(image: Image.Image) -> None:
    """Give an image the palette of 8 bits that old programs wrote: Pillow takes every palette for one of 16."""
    colours = image.tag_v2.get(COLOUR_MAP, ())
    if image.mode in ("P", "PA") and max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def is_misread(tags: TiffImagePlugin.ImageFileDirectory_v2, packed: set) -> bool:
    """Whether Pillow 13 takes a TIFF of these tags for another: halves of 16 bits for pixels, or -1 for 255.

    packed: Pillow's raw modes of the pixels that libtiff unpacks.
    """
    if packed & HIGH_BYTE_FIRST:
        return True
    bits, bands, extra = tags.get(BITS, (8,))[0], tags.get(BANDS, 1), tags.get(EXTRA, ())
    if tags.get(PLANAR) != SEPARATE or bands == 1:
        return bits == 8 and SIGNED in tags.get(SAMPLE_FORMAT, ())
    read = {(RGB, 3, ()), (RGB, 4, (APART,)), (CMYK, 4, ())}
    if tags.get(COMPRESSION) in (LZW, JPEG):  # by libtiff
        read |= {(YCBCR, 3, ()), (RGB, 4, (NO_ALPHA,))}
    return bits != 8 or (tags.get(PHOTOMETRIC), bands, extra) not in read


def of_bands(pixels: np.ndarray, photometric: int | None, extra: tuple[int, ...]) -> Image.Image:
    """A TIFF's bands, (H, W, bands), as a Pillow image: grey, RGB or CMYK, and one more, alpha if `extra` says so."""
    bands = pixels.shape[2]
    if photometric in (None, BLACK_IS_ZERO):  # nor do all programs that write three bands say that they are colours
        photometric = RGB if bands in (3, 4) else BLACK_IS_ZERO
    if photometric not in MODES:
        raise BadInput(f"has colours of the kind {getattr(photometric, 'name', photometric)}; convert it to RGB")
    modes = MODES[photometric]
    colours = Image.getmodebands(modes[NO_ALPHA])
    mode = modes.get(NO_ALPHA if bands == colours else extra[-1])
    if mode is None or pixels.ndim > 3 or bands not in (colours, colours + 1):
        raise BadInput(f"has pixels of the shape {pixels.shape}; expected grey or RGB")
    pixels = pixels[:, :, : Image.getmodebands(mode)]  # without near infrared and the like
    pixels = pixels if pixels.dtype == np.uint8 else eight_bits(pixels)
    if photometric == WHITE_IS_ZERO:
        pixels = np.concatenate([255 - pixels[:, :, :1], pixels[:, :, 1:]], axis=2)
    return Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
