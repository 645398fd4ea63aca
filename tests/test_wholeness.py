"""data/wholeness.py: downloads broken off, the rest blank, are refused; whole files are read, whatever they end in."""

import contextlib
import io
import itertools
import struct

import numpy as np
import pytest
from conftest import refused
from PIL import Image

from common.errors import BadInput
from data import decoding

RNG = np.random.default_rng(0)
COARSE = Image.fromarray(RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8))
PHOTO = COARSE.resize((256, 192), Image.Resampling.BICUBIC)  # some detail everywhere
BLACK_BELOW = np.concatenate([RNG.integers(0, 256, (75, 500, 3)), np.zeros((225, 500, 3))]).astype(np.uint8)
KINDS = {  # how it is saved, and the share of the file that must be there where cutting it there is not noticed
    "PNG": ({}, 1), "JPEG": ({"quality": 90}, 1), "JPEG progressive": ({"progressive": True}, 1),
    "JPEG restarts": ({"restart_marker_rows": 1}, 1), "GIF": ({}, 1), "JPEG2000": ({}, 1), "AVIF": ({"speed": 9}, 1),
    "HEIF": ({}, 1), "WEBP": ({"quality": 90}, 0.7), "WEBP lossless": ({"lossless": True}, 0.6),
}  # fmt: skip


def encoded(kind, image=PHOTO, **more):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    file = io.BytesIO()
    try:
        image.save(file, kind.split()[0], **KINDS[kind][0], **more)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {kind}")
    return file.getvalue()


def read(data):
    return decoding.read(io.BytesIO(data), "a download")


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_download_is_refused(kind):
    whole = encoded(kind)
    for share in np.arange(0.3, 0.97, 0.06):
        if share < KINDS[kind][1]:
            there = int(share * len(whole))
            message = refused("images", read, whole[:there] + bytes(len(whole) - there))
            assert "a download: " in message, share


@pytest.mark.parametrize("kind", [*KINDS, "WEBP animated", "TIFF", "BMP", "PPM"])
def test_a_file_cut_anywhere_is_refused(kind):
    """But where all pixels are there: behind them GIF has its last byte, PNG checksums and its last part."""
    small = PHOTO.resize((64, 48))
    if kind in KINDS:
        whole = encoded(kind, small)
    else:
        file = io.BytesIO()
        more = {"save_all": True, "append_images": [small.rotate(180)]} if kind == "WEBP animated" else {}
        small.save(file, kind.split()[0], **more)
        whole = file.getvalue()
    pixels, end = read(whole), {"GIF": 2, "PNG": 24}.get(kind, 0)
    for there in {*range(0, len(whole), len(whole) // 100), *range(len(whole) - 20, len(whole))}:
        if there < len(whole) - end:
            refused("images", read, whole[:there])
        else:
            with contextlib.suppress(BadInput):
                np.testing.assert_array_equal(read(whole[:there]), pixels)


def test_half_a_jpeg_of_much_detail_is_refused():
    """It leaves so many zeros that libjpeg finds all its blocks in them."""
    whole = encoded("JPEG", Image.fromarray(RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8)))
    for share in 0.3, 0.6, 0.9:
        there = int(share * len(whole))
        assert "half a download" in refused("images", read, whole[:there] + bytes(len(whole) - there))


@pytest.mark.parametrize("behind", [b"", b"notes behind the image", bytes(5000)])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG restarts"])
def test_a_jpeg_whose_end_is_marked_too_early_is_refused(kind, behind):
    """As programs leave it that repair half a download; libjpeg makes up the rest, in grey."""
    whole = encoded(kind)
    for share in 0.3, 0.6, 0.9, 0.97:
        message = refused("images", read, whole[: int(share * len(whole))] + b"\xff\xd9" + behind)
        assert "truncated" in message, share


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("side", [1, 8, 17, 60])
def test_whole_jpegs_of_many_kinds_are_read_as_pillow_reads_them(mode, side):
    noise = Image.fromarray(RNG.integers(0, 256, (side, side + 1, 3), dtype=np.uint8)).convert(mode)
    for image in noise, Image.new(mode, noise.size, "white"):
        for settings in itertools.product((5, 75), (0, 2), (0, 1), (False, True)):
            settings = dict(zip(("quality", "subsampling", "restart_marker_blocks", "progressive"), settings))
            file = io.BytesIO()
            image.save(file, "JPEG", **settings)
            with Image.open(file) as expected:
                np.testing.assert_array_equal(read(file.getvalue()), expected.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", [bytes(5000), b"\0" * 99 + b"notes", b"notes" + b"\0" * 99])
def test_what_lies_behind_a_whole_image_does_no_harm(kind, behind):
    whole = encoded(kind)
    np.testing.assert_array_equal(read(whole + behind), read(whole))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", "HEIF", "WEBP", "WEBP lossless"])
def test_notes_that_end_in_zeros_do_no_harm(kind):
    """Windows leaves 2,000 zeros in the EXIF that it changes, and EXIF may be the last of a file."""
    exif = Image.Exif()
    exif[0xEA1C] = b"\x1c\xea" + bytes(30_000)
    read(encoded(kind, exif=exif.tobytes()))
    if kind in ("WEBP", "HEIF"):
        for padding in b" ", b"\0":  # room for a program that changes them
            read(encoded(kind, xmp=b"<x/>" + 5000 * padding))


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_whose_black_is_written_as_zeros(lossless):
    """What its fastest method makes of black: hundreds of zeros at the end."""
    file = io.BytesIO()
    Image.fromarray(BLACK_BELOW).save(file, "WEBP", method=0, quality=1, lossless=lossless)
    assert file.getvalue().endswith(bytes(300))
    assert not read(file.getvalue())[100:].max() > 8


def test_previews_behind_a_jpeg_may_be_cut():
    """Of a file of several images (MPO) the first is read."""
    file = io.BytesIO()
    PHOTO.save(file, "MPO", save_all=True, append_images=[COARSE.resize(PHOTO.size)])
    whole = file.getvalue()
    first = encoded("JPEG")
    assert read(whole[: len(whole) * 3 // 4] + bytes(len(whole) // 4)).shape == (192, 256, 3)
    assert read(first + whole + bytes(9)).shape == (192, 256, 3)


def test_what_looks_like_pixels_behind_the_end_of_a_png():
    read(encoded("PNG") + struct.pack(">I4s4sI", 4, b"IDAT", b"note", 0))


def test_checksums_of_every_part_of_a_png():
    """Pillow stops at the last row; a part (IDAT) may be empty, and there may be many."""
    whole = bytearray(encoded("PNG"))
    at = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[at : at + 4], "big")
    empty = struct.pack(">I4sI", 0, b"IDAT", 0x35AF061E)
    np.testing.assert_array_equal(read(bytes(whole[:at]) + empty * 3000 + bytes(whole[at:])), PHOTO)
    whole[at + 8 + length] ^= 1  # the checksum itself
    assert "checksum" in refused("images", read, bytes(whole))
