"""Is an image file whole? What the decoders do not say: they make up what is missing.

Programs that download often reserve a file's whole length first. Broken off, it ends in zeros, or in whatever byte the
disk is filled with, and most decoders take these for pixels. A BMP, PNM or plain TIFF cannot show it: zeros are black.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from common.errors import BadInput

MOST_PARTS = 1000  # of a PNG before its pixels, of a WebP before its first frame, and of a HEIC or AVIF
MOST_SCANS = 100  # of a JPEG: each is a pass over the whole image, for a few bytes; progressive ones have about 10
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # begins a part of a JPEG that says how long it is, or ends the image
SCAN, END = b"\xff\xda", b"\xff\xd9"
IN_ORDER = (b"\xff\xc0", b"\xff\xc1")  # JPEGs that are not progressive; with one scan, rows come as they are read
READ_AHEAD = 16  # bytes that libjpeg wants to see behind the last pixel; 8 were enough
BLOCK = 1 << 20  # bytes of which a checksum is taken at a time
BLANK = 64  # equal bytes at the end that are no pixels, however small the image ...
FLAT = {b"VP8L": 2, b"VP8 ": 24, b"mdat": 4096}  # ... and pixels of one colour that such a byte may stand for at least:
# libwebp without loss spends up to 4 zero bits on each; with loss its fastest method was seen to reach 40 a byte.
UNFINISHED = "is half a download: its end is blank; get another copy"


def check(file: BinaryIO, image: Image.Image) -> None:
    """`BadInput` where the file of this image, which Pillow has opened, is not whole, or would take hours to decode.

    Of a JPEG that shows only in decoding, see `_check_scans`: the image reads from memory from then on.
    """
    if image.format in ("JPEG", "MPO"):
        _check_scans(file, image)
    elif image.format == "PNG":
        _check_pixels(file)
    elif image.format == "WEBP":
        file.seek(0)
        data = file.read()
        codec = b"VP8L" if b"VP8L" in data else b"VP8 "
        _check_end(file, 8 + int.from_bytes(data[4:8], "little"), FLAT[codec], image)
    elif image.format in ("AVIF", "HEIF"):
        _check_end(file, _end_of_media(file), FLAT[b"mdat"], image)


def _check_scans(file: BinaryIO, image: Image.Image) -> None:
    """`BadInput` for a JPEG that never ends, and for one that takes hours.

    A megabyte can ask for 100,000 passes over 100 million pixels. And where the mark of the image's end comes too
    early, libjpeg makes up the rest in grey and warns, which Pillow does not pass on. What it does tell is that the
    file itself ends too early, so it is given one without the mark. That cannot be done with several scans, or with a
    progressive JPEG, which libjpeg reads to the mark.
    """
    file.seek(0)
    data = file.read()
    place, scans, in_order = 0, 0, False
    while (marker := MARKER.search(data, place)) and marker[0] != END:
        scans += marker[0] == SCAN
        in_order |= marker[0] in IN_ORDER
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if scans > MOST_SCANS:
        raise BadInput(f"has {scans:,} scans, expected a JPEG of at most {MOST_SCANS}; save it anew")
    ends = not data.endswith(b"\0") or data.rstrip(b"\0").endswith(END)  # or Pillow says that it does not
    if not ends and not marker:  # after the image's end may be anything: previews, a camera's notes
        raise BadInput(UNFINISHED)
    if marker and in_order and scans == 1:
        image.fp = io.BytesIO(data[: marker.start()] + bytes(READ_AHEAD))


def png_chunks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Length and kind of a PNG's parts, up to its end; the file then stands at what each contains."""
    place, left = 8, MOST_PARTS
    while left and len(head := file.read(8) if file.seek(place) else b"") == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":  # what lies behind it is none of the image's
            return
        yield length, kind
        left -= kind != b"IDAT"
        place += 8 + length + 4  # and its checksum


def webp_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The kinds of a WebP's parts; the file then stands at what each contains."""
    place = 12
    for _ in range(MOST_PARTS):
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        yield kind
        place += 8 + length + length % 2


def _check_pixels(file: BinaryIO) -> None:
    """`BadInput` unless the checksums of a PNG's pixels are right: Pillow stops as soon as it has all rows."""
    for length, kind in png_chunks(file):
        if kind != b"IDAT":
            continue
        checksum = zlib.crc32(kind)
        while length and (block := file.read(min(length, BLOCK))):
            checksum, length = zlib.crc32(block, checksum), length - len(block)
        if not length and checksum != int.from_bytes(file.read(4), "big"):  # Pillow sees where a part is cut
            raise BadInput("is damaged: its pixels do not have the checksum that it gives; get another copy")


def _end_of_media(file: BinaryIO) -> int:
    """Where a HEIC or AVIF has the end of its last box of pixels (mdat); the end of the file where it has none."""
    place, size = 0, file.seek(0, os.SEEK_END)
    end = size
    for _ in range(MOST_PARTS):
        file.seek(place)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8]) if len(head) >= 8 else (0, b"")
        length = int.from_bytes(head[8:], "big") if length == 1 else length or size - place  # 0: all that is left
        if kind == b"mdat":
            end = place + length
        place += max(length, 8)
    return min(end, size)


def _check_end(file: BinaryIO, end: int, flat: int, image: Image.Image) -> None:
    """`BadInput` where the bytes before `end` are blank.

    More of them, that is, than pixels of one colour take (`flat` a byte), and than the notes behind the pixels end in.
    """
    file.seek(max(end - 1, 0))
    last, notes = file.read(1), [image.info.get(kind) or b"" for kind in ("exif", "xmp")]
    most = BLANK + image.width * image.height // flat + sum(len(note) - len(note.rstrip(last)) for note in notes)
    file.seek(max(end - most, 0))
    if end >= most and not file.read(most).strip(last):
        raise BadInput(UNFINISHED)
