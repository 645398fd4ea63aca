"""data/decoding.py, tiff.py: every kind of image becomes the same RGB; what is none becomes one line."""

import importlib.util
import io
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, SHARED, refused
from PIL import EpsImagePlugin, Image, ImageFile

from common.errors import BadInput
from data import bit_depths, tiff
from data import decoding as images

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
ALPHA = RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)
SIXTEEN = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


def on_white(rgb, alpha):
    return np.rint(rgb.astype(float) * alpha / 255 + 255 - alpha.astype(float))


def three(grey):
    return np.stack([grey] * 3, axis=2)


def saved(path, image, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def write_png(path, samples, colour_type, significant=None, transparent=(), orientation=None):
    """A 16-bit PNG, which Pillow cannot write in colour: IHDR, sBIT, tRNS and eXIf if given, IDAT (filter 0 before each
    row), IEND."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    chunks += [(b"sBIT", bytes(np.ravel(significant).tolist()))] if significant else []
    chunks += [(b"tRNS", np.array(transparent, ">u2").tobytes())] if transparent else []
    chunks += [(b"eXIf", exif_of(orientation).tobytes().removeprefix(b"Exif\0\0"))] if orientation else []
    path.write_bytes(png_of([*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]))
    return path


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_of(chunks):
    """The bytes of a PNG of these chunks, (kind, body) each."""
    parts = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
             for kind, body in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_tiff(path, samples, bits, planes=False, white=1):
    """An uncompressed TIFF of one strip; 12 bits are packed, two numbers in three bytes."""
    if bits == 12:
        first, second = samples.reshape(-1, 2).T.astype(np.uint32)
        packed = (first << 12 | second).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
        data = packed.tobytes()
    else:
        data = samples.astype(f"<u{bits // 8}").tobytes()
    bands, (height, width) = (samples.shape[0], samples.shape[1:]) if planes else (1, samples.shape)
    bands_at = 8 + 2 + 10 * 12 + 4
    start, strip = bands_at + 6 * 3, len(data) // bands
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, bits if bands == 1 else bands_at), (259, 3, 1, 1),
            (262, 3, 1, 2 if planes else white), (273, 4, 1, start), (277, 3, 1, bands), (278, 4, 1, height),
            (279, 4, 1, strip), (284, 3, 1, 2 if planes else 1)]  # fmt: skip
    if planes:
        tags[5], tags[8] = (273, 4, bands, bands_at + 6), (279, 4, bands, start)
        start += 12
        data = struct.pack("<3I", *[strip] * 3) + data
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    lists = struct.pack("<3H", *[bits] * 3) + struct.pack("<3I", *[start + strip * band for band in range(3)])
    path.write_bytes(b"II*\0\x08\0\0\0" + ifd + lists + data)
    return path


@pytest.mark.parametrize("image, expected", [
    (RGB, RGB),
    (GREY, three(GREY)),
    (GREY > 99, three(255 * (GREY > 99))),
    (np.concatenate([RGB, ALPHA], axis=2), on_white(RGB, ALPHA)),
    (np.concatenate([RGB, np.full_like(ALPHA, 255)], axis=2), RGB),
    (np.concatenate([GREY[:, :, None], ALPHA], axis=2), on_white(three(GREY), ALPHA)),
    (SIXTEEN, three(np.rint(SIXTEEN / 257))),
])  # fmt: skip
def test_png_of_every_mode(tmp_path, image, expected):
    read = images.read(saved(tmp_path / "image.png", image))
    assert read.dtype == np.uint8 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("channels, colour_type", [(3, 2), (2, 4), (4, 6)])
def test_16_bits_in_colour_or_with_alpha(tmp_path, channels, colour_type):
    samples = RNG.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    if colour_type != 2:
        samples[:, :, -1] = 65535
    read = images.read(write_png(tmp_path / "image.png", samples, colour_type))
    expected = samples[:, :, :3] / 257 if channels > 2 else three(samples[:, :, 0] / 257)
    assert np.abs(read - expected).max() <= 1  # Pillow keeps the high byte, floor(v / 256)


def test_palette_with_and_without_transparency(tmp_path):
    indices = RNG.integers(0, 4, (6, 9), dtype=np.uint8)
    colours = np.array([[255, 0, 0], [0, 200, 0], [0, 0, 100], [9, 9, 9]], np.uint8)
    palette = Image.fromarray(indices, "L")
    palette.putpalette(colours.tobytes())
    np.testing.assert_array_equal(images.read(saved(tmp_path / "plain.png", palette)), colours[indices])
    clear = colours.copy()
    clear[2] = 255
    for name in ("clear.png", "clear.gif"):
        read = images.read(saved(tmp_path / name, palette, transparency=2))
        np.testing.assert_array_equal(read, clear[indices])


def test_float_tiffs(tmp_path):
    unit = RNG.random((6, 9), dtype=np.float32)
    for grey, expected in ((unit, unit * 255), (unit * 200 + 2, unit * 200 + 2)):
        read = images.read(saved(tmp_path / "image.tif", grey))
        np.testing.assert_array_equal(read, three(np.rint(expected)))
    unit[0, :3] = -0.02, 1, 1.01  # resized with sharp edges
    read = images.read(saved(tmp_path / "image.tif", unit))
    np.testing.assert_array_equal(read, three(np.rint(unit.clip(0, 1) * 255)))
    for factor in 1.2, 1.9:
        message = refused("images", images.read, saved(tmp_path / "neither.tif", unit.clip(0, 1) * np.float32(factor)))
        assert f"neither.tif: has values up to {factor}, too large for floats of 0 to 1" in message
    assert "expected 0 to 1" in refused("images", images.read, saved(tmp_path / "below.tif", unit - np.float32(0.48)))
    unit[0, 0] = np.nan
    with pytest.raises(BadInput, match="values from nan"):
        images.read(saved(tmp_path / "nan.tif", unit))


def test_complex_numbers_are_no_pixels():
    with pytest.raises(BadInput, match="complex numbers"):
        bit_depths.eight_bits(np.ones((2, 2), np.complex64))


def test_cmyk_jpeg(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :, 1:3] = 255  # magenta and yellow: red
    read = images.read(saved(tmp_path / "red.jpg", Image.fromarray(inks, "CMYK"), quality=100))
    assert np.abs(read - np.array([255.0, 0, 0])).max() <= 3


@pytest.mark.parametrize("options", [
    {"name": "a.gif"}, {"name": "a.png"}, {"name": "a.webp", "lossless": True}, {"name": "a.tif"},
])  # fmt: skip
def test_first_frame_of_an_animation(tmp_path, options):
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / options["name"]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=options.get("lossless", False))
    with Image.open(path) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(images.read(path), np.full((6, 9, 3), [255, 0, 0]))


@pytest.mark.parametrize("clear", [None, 2])
@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_gif_whose_frame_does_not_fill_its_canvas(tmp_path, mode, clear, frames):
    """What no frame covers is transparent, as in browsers, whatever colour the file calls its background."""
    numbers = RNG.integers(0, 4, (4, 5), dtype=np.uint8)
    colours = RNG.integers(0, 200, (4, 3), dtype=np.uint8) if mode == "P" else np.arange(4)[:, None].repeat(3, axis=1)
    frame = Image.fromarray(numbers, "L")
    if mode == "P":
        frame.putpalette(colours.tobytes())
    options = {} if clear is None else {"transparency": clear}
    more = {"save_all": True, "append_images": [frame.transpose(Image.Transpose.ROTATE_180)]} if frames > 1 else {}
    data = bytearray(saved(tmp_path / "a.gif", frame, optimize=False, **options, **more).read_bytes())
    at = data.index(struct.pack("<B4H", ord(","), 0, 0, 5, 4))
    data[at + 1 : at + 5] = struct.pack("<2H", 2, 1)  # from the left, from the top
    data[6:10] = struct.pack("<2H", 9, 6)
    (tmp_path / "a.gif").write_bytes(data)
    expected = np.full((6, 9, 3), 255)
    expected[1:5, 2:7] = np.where((numbers == clear)[:, :, None], 255, colours[numbers])
    np.testing.assert_array_equal(images.read(tmp_path / "a.gif"), expected)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("border", ["clear", "clear in the first frame", "red"])
def test_a_webp_whose_frame_does_not_fill_its_canvas(tmp_path, border, orientation):
    """libwebp leaves out a border that is transparent, and does not call what remains transparent."""
    sticker = np.zeros((30, 40, 4), np.uint8)
    sticker[6:16, 8:24] = 0, 0, 255, 255
    frames = [sticker, sticker[::-1]]
    if border == "clear in the first frame":
        frames[1] = frames[1] | [0, 0, 0, 128]
    elif border == "red":
        frames = [frame | [255, 0, 0, 255] for frame in frames]
    first, second = (Image.fromarray(frame.astype(np.uint8)) for frame in frames)
    path = tmp_path / "a.webp"
    first.save(path, save_all=True, append_images=[second], lossless=True, exif=exif_of(orientation))
    expected = UPRIGHT[orientation](on_white(frames[0][:, :, :3], frames[0][:, :, 3:]))
    np.testing.assert_array_equal(images.read(path), expected)


@pytest.mark.parametrize("note", ["xmp", "exif", "icc_profile"])
def test_a_still_webp_that_speaks_of_frames(tmp_path, note):
    """ANMF, the name of an animation's frame, may stand anywhere in a file."""
    speaks = exif_of(1).tobytes() + b"ANMF0123456789" if note == "exif" else b"made of ANMF and others, long ago"
    path = saved(tmp_path / "a.webp", RGB, lossless=True, **{note: speaks})
    assert b"ANMF" in path.read_bytes()
    np.testing.assert_array_equal(images.read(path), RGB)


UPRIGHT = {  # EXIF orientation: how to turn the stored image; from the standard's table of row 0 and column 0
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image", [RGB, GREY, SIXTEEN], ids=["rgb", "grey", "16-bit"])
def test_exif_orientation(tmp_path, image, orientation):
    turned = images.read(saved(tmp_path / "turned.png", image, exif=exif_of(orientation)))
    plain = images.read(saved(tmp_path / "plain.png", image))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](plain))


@pytest.mark.parametrize("channels, colour_type", [(3, 2), (4, 6), (2, 4)], ids=["rgb", "rgba", "grey and alpha"])
def test_exif_orientation_of_16_bits(tmp_path, channels, colour_type):
    """High and low bytes are decoded apart, of 12 bits, and turned alike."""
    samples = RNG.integers(0, 4096, (6, 9, channels), dtype=np.uint16)
    samples[0, 0] = 4095
    plain = images.read(write_png(tmp_path / "plain.png", samples, colour_type))
    for orientation, upright in UPRIGHT.items():
        turned = images.read(write_png(tmp_path / "turned.png", samples, colour_type, orientation=orientation))
        np.testing.assert_array_equal(turned, upright(plain))


def broken(tmp_path, kind):
    path = tmp_path / "image.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("not an image\n")
    elif kind == "empty":
        path.touch()
    elif kind == "bomb":
        path = write_png(tmp_path / "bomb.png", np.zeros((1, 1, 3)), 2)
        path.write_bytes(path.read_bytes().replace(struct.pack(">II", 1, 1), struct.pack(">II", 50_000, 50_000)))
        body = path.read_bytes()[12:29]  # IHDR with its new size needs a new checksum
        path.write_bytes(path.read_bytes()[:29] + struct.pack(">I", zlib.crc32(body)) + path.read_bytes()[33:])
    elif kind in ("cut.jpg", "cut.png", "cut.gif", "cut.tif"):
        noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = saved(tmp_path / kind, noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind, said", [
    ("absent", "No such file"), ("folder", "is a folder"), ("text", "is a text file, not an image"),
    ("empty", "is an empty file"),
    ("bomb", "million pixels"), ("cut.jpg", "cut.jpg: cannot be read"), ("cut.png", "cannot be read"),
    ("cut.gif", "cannot be read"), ("cut.tif", ""),
])  # fmt: skip
def test_broken_files_are_told_in_one_line(tmp_path, kind, said):
    with pytest.raises(BadInput) as told:
        images.read(broken(tmp_path, kind))
    message = str(told.value)
    assert said in message and str(tmp_path) in message and "\n" not in message


def test_large_images_give_no_warning(tmp_path, monkeypatch, recwarn):
    path = saved(tmp_path / "image.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB[:, :, 0].size - 1)
    np.testing.assert_array_equal(images.read(path), RGB)
    assert not recwarn


# Bits per channel


@pytest.mark.parametrize("largest, bits", [(200, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4000, 12),
                                           (4096, 14), (16383, 14), (16384, 16), (65535, 16)])  # fmt: skip
def test_as_many_bits_as_the_largest_value_needs(tmp_path, largest, bits):
    grey = RNG.integers(0, largest + 1, (6, 9), dtype=np.uint16)
    grey[2, 3] = largest
    expected = three(np.rint(grey / (2**bits - 1) * 255))
    for path in (
        saved(tmp_path / "a.png", grey),
        saved(tmp_path / "a.tif", grey),
        write_tiff(tmp_path / "b.tif", grey, 16),
    ):
        np.testing.assert_array_equal(images.read(path), expected)
    np.testing.assert_array_equal(images.read(write_png(tmp_path / "c.png", grey[:, :, None], 0)), expected)


@pytest.mark.parametrize("significant, largest, bits", [(12, 900, 12), (10, 100, 10), (16, 900, 16), (12, 65520, 16)])
def test_png_says_how_many_bits(tmp_path, significant, largest, bits):
    """The last: its 12 bits were scaled to 16, as the standard asks."""
    grey = RNG.integers(0, largest, (6, 9, 1), dtype=np.uint16)
    grey[2, 3] = largest
    read = images.read(write_png(tmp_path / "a.png", grey, 0, significant))
    np.testing.assert_array_equal(read, three(np.rint(grey[:, :, 0] / (2**bits - 1) * 255)))


def test_png_whose_channels_have_different_depths(tmp_path):
    """The deepest says what is white."""
    samples = RNG.integers(0, 900, (6, 9, 3), dtype=np.uint16)  # 10 bits would do, but it says 12
    read = images.read(write_png(tmp_path / "a.png", samples, 2, (10, 12, 11)))
    np.testing.assert_array_equal(read, np.rint(samples / 4095 * 255))


@pytest.mark.parametrize("channels, colour_type", [(2, 4), (4, 6)], ids=["grey", "colour"])
def test_the_depth_of_alpha_does_not_say_what_is_white(tmp_path, channels, colour_type):
    samples = RNG.integers(0, 4096, (6, 9, channels), dtype=np.uint16)
    samples[:, :, -1] = 65535
    read = images.read(write_png(tmp_path / "a.png", samples, colour_type, (12,) * (channels - 1) + (16,)))
    expected = np.rint(samples[:, :, :-1] / 4095 * 255)
    np.testing.assert_array_equal(read, expected if channels == 4 else three(expected[:, :, 0]))


def test_what_is_white_at_the_borders():
    whole = np.array([[4096, 0, 2048]], np.uint16)  # one more than 12 bits hold
    np.testing.assert_array_equal(bit_depths.eight_bits(whole, 12), np.rint(whole / 65535 * 255))
    resized = np.array([[1.09, -0.09, 0.5]], np.float32)  # beyond black and white, as resizing leaves it
    np.testing.assert_array_equal(bit_depths.eight_bits(resized), [[255, 0, 128]])


def test_large_images_are_converted_some_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(bit_depths, "BLOCK", 2 * SIXTEEN.shape[1])
    np.testing.assert_array_equal(bit_depths.eight_bits(SIXTEEN), np.rint(SIXTEEN / 65535 * 255))
    rgba = np.concatenate([RGB, ALPHA], axis=2)
    np.testing.assert_array_equal(bit_depths.on_white(rgba), on_white(RGB, ALPHA))


def test_of_a_tiff_of_several_pages_the_first_is_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pages = RNG.random((3, 6, 9, 3), np.float32)  # floats in colour, which Pillow does not read
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="rgb")
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), np.rint(pages[0] * 255))


def test_tiff_of_12_bits(tmp_path):
    grey = RNG.integers(0, 900, (6, 8), dtype=np.uint16)  # 10 bits would do, but it says 12
    read = images.read(write_tiff(tmp_path / "a.tif", grey, 12))
    np.testing.assert_array_equal(read, three(np.rint(grey / 4095 * 255)))


def test_pgm_says_what_is_white(tmp_path):
    grey = RNG.integers(0, 100, (6, 9), dtype=np.uint16)  # dark
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 9 6 999\n" + grey.astype(">u2").tobytes())
    assert np.abs(images.read(path) - three(grey / 999 * 255)).max() <= 0.51


@pytest.mark.parametrize("alpha", [False, True])
def test_12_bits_in_colour(tmp_path, alpha):
    """Pillow keeps the high byte, of which 12 bits fill a half."""
    samples = RNG.integers(0, 4096, (6, 9, 3 + alpha), dtype=np.uint16)
    expected = np.rint(samples[:, :, :3] / 4095 * 255)
    if alpha:
        samples[:, :, 3] = RNG.choice([0, 65535], (6, 9))
        expected = on_white(expected, samples[:, :, 3:] / 65535 * 255)
    np.testing.assert_array_equal(images.read(write_png(tmp_path / "a.png", samples, 6 if alpha else 2)), expected)
    tifffile = pytest.importorskip("tifffile")
    for settings in {}, {"compression": "zlib"}, {"byteorder": ">"}:
        tifffile.imwrite(tmp_path / "a.tif", samples[:, :, :3], photometric="rgb", **settings)
        read = images.read(tmp_path / "a.tif")
        np.testing.assert_array_equal(read, np.rint(samples[:, :, :3] / 4095 * 255))


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_grey_with_alpha_of_many_bits(tmp_path, bits):
    """Pillow keeps the high byte here, too."""
    samples = RNG.integers(0, 1 << bits, (6, 9, 2), dtype=np.uint16)
    samples[:, :, 1] = RNG.choice([0, 30_000, 65_535], (6, 9))
    samples[0, 0, 0] = (1 << bits) - 1
    expected = on_white(three(samples[:, :, 0] / ((1 << bits) - 1) * 255), samples[:, :, 1:] / 65535 * 255)
    assert np.abs(images.read(write_png(tmp_path / "a.png", samples, 4)).astype(float) - expected).max() <= 2


def test_transparency_by_a_number(tmp_path):
    """PNG's tRNS: the pixels of one number, or of one colour, are transparent."""
    grey = RNG.integers(0, 4, (6, 9), dtype=np.uint16) * 1001
    expected = np.where(grey == 1001, 255, np.rint(grey / 4095 * 255))
    np.testing.assert_array_equal(
        images.read(write_png(tmp_path / "a.png", grey, 0, transparent=(1001,))), three(expected)
    )
    colour = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
    colour[1, 2] = colour[3, 4] = 259, 2000, 30_000
    colour[5, 5] = 258, 2000, 30_000  # the high bytes are the same
    expected = np.rint(colour / 257)
    expected[1, 2] = expected[3, 4] = 255
    path = write_png(tmp_path / "b.png", colour, 2, transparent=(259, 2000, 30_000))
    np.testing.assert_array_equal(images.read(path), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparency_of_few_bits(tmp_path, bits):
    """Pillow compares the number with pixels that it has scaled to 8 bits."""
    numbers = RNG.integers(0, 1 << bits, (6, 16))
    packed = np.packbits(((numbers[:, :, None] >> np.arange(bits)[::-1]) & 1).reshape(6, -1), axis=1)
    expected = np.where(numbers == 1, 255, numbers * 255 // ((1 << bits) - 1))
    header, transparent = struct.pack(">IIBBBBB", 16, 6, bits, 0, 0, 0, 0), struct.pack(">H", 1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    path = tmp_path / "a.png"
    path.write_bytes(
        png_of([(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    )
    np.testing.assert_array_equal(images.read(path), three(expected))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_in_which_white_is_zero(tmp_path, bits):
    grey = RNG.integers(0, 1 << bits, (6, 8), dtype=np.uint16)
    grey[0, 0] = (1 << bits) - 1
    read = images.read(write_tiff(tmp_path / "a.tif", grey, bits, white=0))
    np.testing.assert_array_equal(read, three(255 - np.rint(grey / ((1 << bits) - 1) * 255)))


def test_floats_of_64_bits_in_which_white_is_zero(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", GREY / 255, photometric="miniswhite")
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), three(255 - GREY))


def test_planes_of_16_bits_are_never_misread(tmp_path):
    """Pillow 13 takes each half of a number for a pixel. tifffile reads them, where it is installed."""
    planes = RNG.integers(0, 65536, (3, 6, 9), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", planes, 16, planes=True)
    try:
        read = images.read(path)
    except BadInput as error:
        assert "pip install tifffile" in str(error)
    else:
        np.testing.assert_array_equal(read, np.rint(planes.transpose(1, 2, 0) / 257))
    planes = (planes >> 8).astype(np.uint8)
    np.testing.assert_array_equal(
        images.read(write_tiff(tmp_path / "b.tif", planes, 8, planes=True)), planes.transpose(1, 2, 0)
    )


def test_a_compression_that_needs_another_package(tmp_path):
    """The file is sound; that Pillow misreads its planes is no fault of it."""
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs is installed")
    path = write_bands(tmp_path / "a.tif", UNIT[:, :, :3], np.uint16, True, photometric="rgb")
    data = path.read_bytes()
    entry = struct.pack("<HHI", 259, 3, 1)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry + b"\1", entry + b"\5"))  # LZW
    assert "pip install imagecodecs" in refused("images", images.read, path)


DEEPEST = {np.uint8: 255, np.uint16: 65535, np.float32: 1, np.float64: 1}
UNIT = np.random.default_rng(1).random((6, 9, 4))
UNIT[0, 0], UNIT[0, 1] = 1, (0, 1, 1, 0)  # so that the whole range is used; and wholly transparent


def write_bands(path, unit, kind, planes, **tags):
    """A TIFF of bands of 0 to 1, (H, W, bands), as numbers of this kind."""
    tifffile = pytest.importorskip("tifffile")
    pixels = unit * DEEPEST[kind]
    pixels = (np.rint(pixels) if np.issubdtype(kind, np.integer) else pixels).astype(kind)
    pixels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)) if planes else pixels
    tifffile.imwrite(path, pixels, planarconfig="separate" if planes else "contig", **tags)
    return path


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("kind", DEEPEST)
def test_a_tiff_says_what_its_fourth_band_is(tmp_path, kind, planes):
    """Near infrared, alpha, or alpha by which the colours are multiplied already."""
    colour, alpha = UNIT[:, :, :3], UNIT[:, :, 3:]
    shown = (colour * alpha + 1 - alpha) * 255
    multiplied = np.concatenate([colour * alpha, alpha], axis=2)
    for name, unit, expected in (
        ("unspecified", UNIT, colour * 255),
        ("unassalpha", UNIT, shown),
        ("assocalpha", multiplied, shown),
    ):
        path = write_bands(tmp_path / f"{name}.tif", unit, kind, planes, photometric="rgb", extrasamples=[name])
        assert np.abs(images.read(path) - expected).max() <= 3, name  # Pillow keeps the high bytes
    grey = multiplied[:, :, 2:]
    path = write_bands(tmp_path / "grey.tif", grey, kind, planes, photometric="minisblack", extrasamples=["assocalpha"])
    assert np.abs(images.read(path) - three(shown[:, :, 2])).max() <= 3


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [False, True])
def test_cmyk_tiff(tmp_path, kind, planes):
    expected = (1 - UNIT[:, :, :3]) * (1 - UNIT[:, :, 3:]) * 255
    read = images.read(write_bands(tmp_path / "a.tif", UNIT, kind, planes, photometric="separated"))
    assert np.abs(read - expected).max() <= 2


@pytest.mark.parametrize("kind, planes", [(np.uint8, True), (np.uint16, False), (np.uint16, True), (np.float32, False)])
@pytest.mark.parametrize("colours", ["cielab", "ycbcr"])
def test_tiff_in_other_colours_is_never_taken_for_rgb(tmp_path, kind, planes, colours):
    path = write_bands(tmp_path / "a.tif", UNIT[:, :, :3], kind, planes, photometric=colours)
    assert f"has colours of the kind {colours.upper()}" in refused("images", images.read, path)


def test_three_bands_that_do_not_say_that_they_are_colours(tmp_path):
    path = write_bands(tmp_path / "a.tif", UNIT[:, :, :3], np.float32, False, photometric="minisblack")
    np.testing.assert_array_equal(images.read(path), np.rint(UNIT[:, :, :3].astype(np.float32) * 255))


def test_negative_numbers_of_8_bits_are_refused(tmp_path):
    """As those of 16 bits are; Pillow takes -1 for 255."""
    tifffile = pytest.importorskip("tifffile")
    for kind in np.int8, np.int16:
        tifffile.imwrite(tmp_path / "a.tif", np.arange(-1, 53, dtype=kind).reshape(6, 9), photometric="minisblack")
        assert "has values from -1 to 52" in refused("images", images.read, tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "group4"}])
def test_one_plane_is_no_planes(tmp_path, options):
    """Pillow reads it: 1 bit, compressed as a fax, which tifffile alone does not."""
    bits = GREY > 99
    path = saved(tmp_path / "a.tif", Image.fromarray(bits), tiffinfo={284: 2}, **options)
    with Image.open(path) as image:
        assert image.tag_v2[284] == 2
    np.testing.assert_array_equal(images.read(path), three(255 * bits))


@pytest.mark.parametrize("byteorder, bigtiff", [("<", False), (">", False), ("<", True), (">", True)])
def test_a_tiff_that_breaks_off_within_its_tags(tmp_path, byteorder, bigtiff):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    colours = (320, 3, 768, [0] * 768)
    tifffile.imwrite(path, RGB, photometric="rgb", byteorder=byteorder, bigtiff=bigtiff, extratags=[colours])
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        places, entries = {tag.code: tag.offset for tag in file.pages[0].tags}, file.pages[0].offset
    entry = places[320]

    def moved(tag):
        """Its value now begins where the file ends."""
        at, form = places[tag] + (12 if bigtiff else 8), byteorder + ("Q" if bigtiff else "I")
        return whole[:at] + struct.pack(form, len(whole)) + whole[at + struct.calcsize(form) :]

    path.write_bytes(moved(320) + bytes(2 * 768 - 1))
    assert "cut off, or blank, within its tags" in refused("images", images.read, path)  # one byte is missing
    for read in moved(320) + bytes(2 * 768), moved(270), moved(282):  # ImageDescription, XResolution: not the pixels
        path.write_bytes(read)
        np.testing.assert_array_equal(images.read(path), RGB)
    for broken in whole[: entry + 3], whole[:entry] + bytes(len(whole) - entry), whole[:entries]:
        path.write_bytes(broken)
        assert "cut off, or blank, within its tags" in refused("images", images.read, path)


def test_a_tiff_cut_at_its_end(tmp_path):
    """libtiff writes the tags last, and behind them what does not fit into them: here BitsPerSample.

    Without it, tifffile takes each byte for pixels of one bit.
    """
    image = RNG.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    whole = saved(tmp_path / "a.tif", image, compression="tiff_deflate").read_bytes()
    for missing in range(1, 30):
        (tmp_path / "a.tif").write_bytes(whole[:-missing])
        refused("images", images.read, tmp_path / "a.tif")


def test_metadata_behind_the_end_of_a_tiff_does_no_harm(tmp_path):
    path = saved(tmp_path / "a.tif", RGB, tiffinfo={700: b"<x/>" * 5})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<H", 700))
    data[at + 8 : at + 12] = struct.pack("<I", len(data))
    path.write_bytes(data)
    np.testing.assert_array_equal(images.read(path), RGB)


@pytest.mark.parametrize("kind", [np.uint8, np.float64])  # read by Pillow, by tifffile
@pytest.mark.parametrize("options, tag", [({"rowsperstrip": 16}, 273), ({"tile": (16, 16)}, 324)])
def test_a_tiff_that_leaves_parts_out_is_refused(tmp_path, kind, options, tag):
    """As GDAL writes blank ones; Pillow took the header's bytes for their pixels, tifffile takes zeros."""
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RNG.integers(0, 2, (64, 64)).astype(kind), **options)
    images.read(path)
    with tifffile.TiffFile(path) as file:
        at, size = file.pages[0].tags[tag].valueoffset, 4 if file.pages[0].tags[tag].dtype == 4 else 2
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    assert "leaves out parts of its pixels" in refused("images", images.read, path)


# What is no image


def packed(kind):
    file = io.BytesIO()
    if kind == "npz":
        np.savez(file, image=RGB)
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("1.txt", "text")
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("1.txt"))
    return file.getvalue()


def dicom():
    """A grey image of 2 x 2 that readers of DICOM read, explicit VR, little endian."""

    def element(group, number, kind, value):
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    syntax = element(2, 16, b"UI", b"1.2.840.10008.1.2.1\0")
    meta = element(2, 0, b"UL", struct.pack("<I", len(syntax))) + syntax
    values = [(2, 1), (0x10, 2), (0x11, 2), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)]
    body = b"".join(element(0x28, number, b"US", struct.pack("<H", value)) for number, value in values)
    return bytes(128) + b"DICM" + meta + body + struct.pack("<HH2sHI", 0x7FE0, 16, b"OW", 0, 4) + b"\1\2\3\4"


NO_IMAGES = {
    "npz": packed("npz"),
    "zip": packed("zip"),
    "tar": packed("tar"),
    "npy": b"\x93NUMPY\1\0" + bytes(200),
    "dicom": dicom(),
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "mp4": b"\0\0\0\x18ftypisom" + bytes(900),
    "avi": b"RIFF\0\1\0\0AVI LIST" + bytes(200),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "eps with a preview": b"\xc5\xd0\xd3\xc6" + bytes(28),
    "pdf": b"%PDF-1.4\n",
    "svg": b"<svg width='9' height='9'/>",
    "html": b"<!DOCTYPE html><html></html>",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "grib": b"GRIB\0\0\0\1" + bytes(50),
    "bufr": b"BUFR\0\0\0\1" + bytes(50),
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "flic": struct.pack("<IHHHH", 128, 0xAF11, 1, 9, 9) + bytes(200),
    "one byte": b"\xff",
    "zeros": bytes(5000),
    "targa by its bytes alone": struct.pack("<BBB5x4HBB", 0, 0, 2, 0, 0, 1, 1, 24, 0) + b"\1\2\3",
    "tiff that leads in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "bmp's name only": b"BM",
    "webp's name": b"RIFF\0\0\0\0WEBP",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_image(tmp_path, kind, monkeypatch, capfd):
    """Whatever it is called; nothing is started to read it."""

    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    for suffix in "jpg", "png", "tif", "eps":
        path = tmp_path / f"image.{suffix}"
        path.write_bytes(NO_IMAGES[kind])
        message = refused("images", images.read, path)
        assert str(path) in message and "started" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind, header", [
    ("a PFM image in colour", b"PF\n1 1\n-1.0\n"),
    ("a PAM image", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n"),
])  # fmt: skip
def test_images_of_kinds_that_are_not_read_are_named(tmp_path, kind, header):
    (tmp_path / "a.pnm").write_bytes(header + bytes(12))
    assert f"a.pnm: is {kind}, not an image that can be read; expected" in refused(
        "images", images.read, tmp_path / "a.pnm"
    )


def test_targa_goes_by_its_name(tmp_path):
    np.testing.assert_array_equal(images.read(saved(tmp_path / "a.tga", RGB)), RGB)


@pytest.mark.parametrize("name", ["eps_named.jpg", "tiff_loop.jpg", "palette_13300.png"])
def test_the_cases(name):
    if not (SHARED / "cases" / name).exists():
        pytest.skip("the damaged files are not here")
    assert name in refused("images", images.read, SHARED / "cases" / name)


def lead_to(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "name too long":
        return path.with_name("x" * 300 + ".jpg")
    return path


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to itself", "device", "name too long", "absent"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = lead_to(tmp_path / "image.jpg", kind)
    refused("images", images.read, path)
    assert images.longest_side(path) == 0


# Too large


def headed(kind, width, height):
    """The first bytes of an image whose header promises so many pixels."""
    file = io.BytesIO()
    Image.new("RGB", (300, 200)).save(file, kind)
    data = bytearray(file.getvalue())
    places = {"PNG": ">II", "GIF": "<HH", "BMP": "<ii", "TIFF": None, "JPEG": ">HH"}
    if kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = data.index(struct.pack("<H", tag), 8)
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
        return bytes(data)
    old = struct.pack(places[kind], *((200, 300) if kind == "JPEG" else (300, 200)))
    new = struct.pack(places[kind], *((height, width) if kind == "JPEG" else (width, height)))
    at = data.index(old)
    data[at : at + len(old)] = new
    if kind == "PNG":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "JPEG", "PPM"])
@pytest.mark.parametrize("width, height", [(10_001, 10_000), (20_000, 9_000), (65_000, 65_000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, kind, width, height, monkeypatch):
    def decode(*_):
        raise AssertionError("pixels were decoded")

    data = b"P6 %d %d 255\n" % (width, height) if kind == "PPM" else headed(kind, width, height)
    (tmp_path / "image").write_bytes(data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert "million pixels" in refused("images", images.read, tmp_path / "image")


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    """Each scan is a pass over the whole image for a dozen bytes: half a megabyte would take an hour."""
    Image.new("L", (2000, 2000)).save(tmp_path / "a.jpg", progressive=True)
    data, scan = (tmp_path / "a.jpg").read_bytes(), b"\xff\xda\0\x08\1\1\0\0\0\x10\0"
    for count, comment in (0, scan * 200), (90, b""), (20_000, b""):  # in a comment, they are none
        told = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        (tmp_path / "a.jpg").write_bytes(data[:2] + told + data[2:-2] + scan * count + data[-2:])
        if count < 100:
            assert images.read(tmp_path / "a.jpg").shape == (2000, 2000, 3)
        else:
            assert "has 20,006 scans" in refused("images", images.read, tmp_path / "a.jpg")


def test_a_tile_larger_than_its_image_is_refused(tmp_path):
    """16x16 pixels, in a tile of 20,000x20,000: libtiff would take 1.2 GB to decode all of it."""
    pixels = zlib.compress(bytes(16 * 16), 1)
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 20_000, 323: 20_000, 324: 200, 325: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(data.ljust(200, b"\0") + pixels)
    assert "tiles of 400 million pixels" in refused("images", images.read, tmp_path / "a.tif")


@pytest.mark.slow
def test_a_large_image_takes_bounded_memory(tmp_path):
    """64 million transparent pixels in 200 kB: 256 MB decoded, 192 MB as RGB; floats of all would be 1.3 GB more."""
    Image.new("RGBA", (8000, 8000), (255, 0, 0, 128)).save(tmp_path / "a.png")
    code = """if True:
        import resource, sys
        from data import decoding
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(decoding.read(sys.argv[1])[5, 5], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], cwd=ROOT, capture_output=True, text=True)
    colour, _, megabytes = done.stdout.rpartition(" ")
    assert colour == "[255 127 127]" and int(megabytes) < 850, done


# Damaged

KINDS = {"PNG": {}, "JPEG": {}, "GIF": {}, "BMP": {}, "TIFF": {}, "WEBP": {}, "PPM": {}, "JPEG2000": {}}
COMPRESSED = {f"TIFF {name}": {"compression": name} for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")}


@pytest.mark.parametrize("kind", [*KINDS, *COMPRESSED])
def test_damaged_files_are_read_or_told(tmp_path, kind, capfd):
    """Cut, or with a few bytes changed: pixels or one line, and nothing on stderr, where libtiff writes by itself."""
    file = io.BytesIO()
    image = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(file, kind.split()[0], **(KINDS | COMPRESSED)[kind])
    whole, told = file.getvalue(), 0
    for number in range(60):
        data = bytearray(whole if number % 3 else whole[: RNG.integers(1, len(whole))])
        for _ in range(number % 4):
            data[RNG.integers(len(data) if number % 2 else min(len(data), 60))] = RNG.integers(256)
        (tmp_path / "image").write_bytes(data)
        try:
            read = images.read(tmp_path / "image")
            assert read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3
        except BadInput:
            refused("images", images.read, tmp_path / "image")
            told += 1
    assert told >= 5
    assert capfd.readouterr() == ("", "")


def test_nothing_is_logged(tmp_path, caplog):
    data = bytearray(saved(tmp_path / "a.tif", RGB).read_bytes())
    at = data.index(struct.pack("<HHI", 277, 3, 1))  # SamplesPerPixel
    data[at + 8] = 7
    (tmp_path / "a.tif").write_bytes(data)
    refused("images", images.read, tmp_path / "a.tif")
    assert not caplog.records


def test_damaged_exif_does_no_harm(tmp_path):
    path = saved(
        tmp_path / "a.jpg", np.full((16, 16, 3), 200, np.uint8), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\2\1\x12garbage"
    )
    np.testing.assert_array_equal(images.read(path), np.full((16, 16, 3), 200))


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    grey = np.full((64, 64, 3), 200, np.uint8)
    assert np.abs(images.read(saved(tmp_path / "a.heic", grey)) - 200.0).max() <= 3
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    assert "b.heic" in refused("images", images.read, tmp_path / "b.heic")


def test_tifffile_s_images_are_upright(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    grey = RNG.random((4, 7))
    tifffile.imwrite(tmp_path / "a.tif", grey, extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), three(np.rint(np.rot90(grey, -1) * 255)))


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("side", [40, 400])
def test_a_thumbnail_is_not_taken_for_the_photo(tmp_path, side, inner):
    """Raw files (DNG, NEF) and some scanners' begin with one; larger copies of the photo will do. Alone, it is all."""
    tifffile = pytest.importorskip("tifffile")
    copy = RNG.integers(0, 256, (30, side, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as pages:
        pages.write(copy, subfiletype=1, subifds=int(inner))
        pages.write(np.repeat(copy, 2, axis=0))
    if side == 40:
        assert "begins with a thumbnail" in refused("images", images.read, tmp_path / "a.tif")
        tifffile.imwrite(tmp_path / "a.tif", copy, subfiletype=1)
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), copy)


def test_a_tiff_s_palette_of_8_bits(tmp_path):
    """As libtiff has it: 16 bits, unless no number is above 255."""
    tifffile = pytest.importorskip("tifffile")
    numbers, palette = RNG.integers(0, 256, (5, 7), np.uint8), RNG.integers(0, 256, (3, 256), np.uint16)
    for colours in palette, 257 * palette:
        tifffile.imwrite(tmp_path / "a.tif", numbers, photometric="palette", colormap=colours)
        np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), np.moveaxis(palette, 0, 1)[numbers])
    with_alpha = SimpleNamespace(mode="PA", tag_v2={tiff.COLOUR_MAP: tuple(palette.ravel().tolist())})
    tiff.mend_palette(with_alpha)
    assert with_alpha.palette.palette == palette.astype("u1").tobytes()


@pytest.mark.parametrize("kind, white", [("f4", 1), ("i2", 255), ("i4", 65535)])
def test_compressed_numbers_with_the_high_byte_first(tmp_path, kind, white):
    """Pillow exchanges their bytes, which libtiff has exchanged already: a mask became all black."""
    tifffile = pytest.importorskip("tifffile")
    mask = np.zeros((20, 30), kind)
    mask[5:15, 10:20] = white
    for order in "<>":
        tifffile.imwrite(tmp_path / "a.tif", mask, byteorder=order, compression="zlib")
        np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), three(mask / white * 255))


@pytest.mark.parametrize("masks, comments", [(56, b""), (108, b"BGRs" + bytes(48)), (124, b"BGRs" + bytes(64))])
def test_bmp_of_32_bits_that_uses_24(tmp_path, masks, comments):
    """It declares alpha, and writes none: 0 everywhere, which would be all white."""
    colours = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", masks, 2, 1, 1, 32, 3, 8, 2835, 2835, 0, 0) + colours + comments
    for alpha, pixels in {(0, 0): [[10, 20, 30], [40, 50, 60]], (0, 255): [[255] * 3, [40, 50, 60]]}.items():
        body = bytes([30, 20, 10, alpha[0], 60, 50, 40, alpha[1]])
        start = 14 + len(header)
        (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", start + 8, 0, 0, start) + header + body)
        np.testing.assert_array_equal(images.read(tmp_path / "a.bmp"), [pixels])


def test_targa_of_32_bits_that_uses_24(tmp_path):
    header = bytes([0, 0, 2, *[0] * 9, 2, 0, 1, 0, 32, 0x20])
    for alpha, pixels in {(0, 0): [[10, 20, 30], [40, 50, 60]], (0, 255): [[255] * 3, [40, 50, 60]]}.items():
        (tmp_path / "a.tga").write_bytes(header + bytes([30, 20, 10, alpha[0], 60, 50, 40, alpha[1]]))
        np.testing.assert_array_equal(images.read(tmp_path / "a.tga"), [pixels])


def test_tiff_whose_tiles_have_sides_of_text(tmp_path):
    """Two letters times half a milliard are a gigabyte."""
    whole = struct.pack("<2sHIH", b"II", 42, 8, 4) + b"".join(
        struct.pack("<HHII", *entry)
        for entry in ((256, 4, 1, 8), (257, 4, 1, 8), (322, 2, 3, 0x6261), (323, 4, 1, 500_000_000))
    )
    (tmp_path / "a.tif").write_bytes(whole + bytes(600))
    tracemalloc.start()
    try:
        assert "a.tif" in refused("images", images.read, tmp_path / "a.tif")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_floats_in_colour(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    unit = RNG.random((6, 9, 3), dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", unit, photometric="rgb")
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif"), np.rint(unit * 255))
    tifffile.imwrite(tmp_path / "b.tif", unit[:, :, 0].astype(np.float64))
    np.testing.assert_array_equal(images.read(tmp_path / "b.tif"), three(np.rint(unit[:, :, 0] * 255)))
    for line in unit[:1], unit[:, :1]:  # of one pixel in height or in width
        tifffile.imwrite(tmp_path / "line.tif", line, photometric="rgb")
        np.testing.assert_array_equal(images.read(tmp_path / "line.tif"), np.rint(line * 255))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((6, 9, 7), np.uint8), photometric="minisblack", planarconfig="contig")
    assert "grey or RGB" in refused("images", images.read, tmp_path / "c.tif")
