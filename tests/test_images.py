"""data/images.py: every kind of image becomes the same RGB, every damaged file one line."""

import hashlib
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.files import BadInput
from data import images

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
ALPHA = RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)
SIXTEEN = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


def on_white(rgb, alpha):
    return np.rint(rgb.astype(float) * alpha / 255 + 255 - alpha.astype(float))


def three(grey):
    return np.stack([grey] * 3, axis=2)


def saved(path, picture, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(path, **options)
    return path


def write_png(path, samples, colour_type):
    """A 16-bit PNG, which Pillow cannot write in colour: chunks IHDR, IDAT (filter 0 before each row), IEND."""
    height, width = samples.shape[:2]

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("picture, expected", [
    (RGB, RGB),
    (GREY, three(GREY)),
    (GREY > 99, three(255 * (GREY > 99))),
    (np.concatenate([RGB, ALPHA], axis=2), on_white(RGB, ALPHA)),
    (np.concatenate([RGB, np.full_like(ALPHA, 255)], axis=2), RGB),
    (np.concatenate([GREY[:, :, None], ALPHA], axis=2), on_white(three(GREY), ALPHA)),
    (SIXTEEN, three(np.rint(SIXTEEN / 257))),
])  # fmt: skip
def test_png_of_every_mode(tmp_path, picture, expected):
    read = images.read(saved(tmp_path / "image.png", picture))
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
    unit[0, 0] = np.nan
    with pytest.raises(BadInput, match="values from nan"):
        images.read(saved(tmp_path / "nan.tif", unit))


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


UPRIGHT = {  # EXIF orientation: how to turn the stored image; from the standard's table of row 0 and column 0
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("picture", [RGB, GREY, SIXTEEN], ids=["rgb", "grey", "16-bit"])
def test_exif_orientation(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = images.read(saved(tmp_path / "turned.png", picture, exif=exif))
    plain = images.read(saved(tmp_path / "plain.png", picture))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](plain))


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
    ("absent", "No such file"), ("folder", "is a folder"), ("text", "is a text file, not an image"), ("empty", "is an empty file"),
    ("bomb", "million pixels"), ("cut.jpg", "cut.jpg: cannot be read"), ("cut.png", "cannot be read"),
    ("cut.gif", "cannot be read"), ("cut.tif", ""),
])  # fmt: skip
def test_broken_files_are_told_in_one_line(tmp_path, kind, said):
    with pytest.raises(BadInput) as told:
        images.read(broken(tmp_path, kind))
    message = str(told.value)
    assert said in message and str(tmp_path) in message and "\n" not in message


def test_large_pictures_give_no_warning(tmp_path, monkeypatch, recwarn):
    path = saved(tmp_path / "image.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB[:, :, 0].size - 1)
    np.testing.assert_array_equal(images.read(path), RGB)
    assert not recwarn


# Framing


def previous_centre_crop(image, size):
    """As the previous version cut, written out anew: heads that it trained must go on seeing the same pixels."""
    height, width = image.shape[:2]
    if min(height, width) >= size and max(height, width) <= 256:
        side = size
    else:
        side = round(size / (max(256, size) / min(height, width)))
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box))


SHAPES = [(1, 1), (1, 900), (31, 7), (64, 64), (128, 200), (227, 227), (240, 256), (256, 256), (300, 200), (375, 500)]


@pytest.mark.parametrize("size", [8, 64, 224, 227, 299, 600])
@pytest.mark.parametrize("height, width", SHAPES)
def test_heads_of_the_previous_version_see_the_same_pixels(height, width, size):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    cropped = images.kept_framing({"picture_size": size, "crop": True})
    assert cropped == images.Framing(size, "crop", 256)
    np.testing.assert_array_equal(images.frame(image, cropped), previous_centre_crop(image, size))
    whole = images.kept_framing({"picture_size": size, "crop": False})
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images.frame(image, whole), expected)


@pytest.mark.parametrize("height, width", SHAPES)
def test_squeezed_to_256_then_cut(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if min(height, width) >= 224 and max(height, width) <= 256:
        top, left = (height - 224) // 2, (width - 224) // 2
        expected = image[top : top + 224, left : left + 224]
    else:
        squeezed = Image.fromarray(image).resize((256, 256), Image.Resampling.BILINEAR)
        expected = squeezed.crop((16, 16, 240, 240))
    np.testing.assert_array_equal(images.frame(image, images.as_trained("squeeze", 224, 224)), expected)


def test_thirds(tmp_path):
    """A wide image with red, green and blue thirds: squeezed it keeps all of them, the centre of it is green."""
    thirds = np.repeat(np.eye(3, dtype=np.uint8) * 255, 300, axis=0)[None].repeat(300, axis=0)  # 300 x 900
    paths = [saved(tmp_path / "wide.png", thirds), saved(tmp_path / "high.png", thirds.swapaxes(0, 1))]
    for how, seen in (("whole", [0, 1, 2]), ("squeeze", [0, 1, 2]), ("crop", [1, 1, 1])):
        framed = images.read_all(paths, images.Framing(60, how, 68))
        assert framed.shape == (2, 60, 60, 3) and framed.dtype == np.uint8
        np.testing.assert_array_equal(framed[0], framed[1].swapaxes(0, 1))
        np.testing.assert_array_equal(framed[0, 5, [5, 30, 55]], np.eye(3)[seen] * 255)


@pytest.mark.parametrize("how", ["squeeze", "crop"])
@pytest.mark.parametrize("input_size", [224, 227])
def test_the_share_that_is_seen_does_not_depend_on_the_size(how, input_size):
    """Each pixel holds its own place, so the borders of what is cut out can be read off."""
    rows, columns = np.mgrid[:600, :900] / 4
    image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    margin = (1 - input_size / 256) / 2  # of 256 pixels, on each side
    top, left = margin * 600, margin * 900 if how == "squeeze" else 150 + margin * 600
    for size in 32, 64, 96, 160, input_size:
        framed = images.frame(image, images.as_trained(how, size, input_size))
        pixel = input_size / 256 / size  # of the result, as a share of what is cut or squeezed to the square
        for found, expected in ((framed[[0, -1], size // 2, 0], top), (framed[size // 2, [0, -1], 1], left)):
            length = 600 if expected == top else 900
            assert (
                np.abs(found * 4.0 - [expected, length - expected]).max() <= 1.5 * pixel * length + 4
            )  # a grey value is 4 pixels


def test_course_pictures_are_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "DATA_DIR", tmp_path)
    fetched = []

    def fetch(urls, path, sha256):
        fetched.append((urls, sha256))
        path.write_bytes(b"image")

    monkeypatch.setattr(images, "fetch", fetch)
    for _ in range(2):
        paths = images.course_photos() + images.course_signs()
    assert [path.name for path in paths] == ["poodle.png", "weasel.png", "construction.jpg", "stop.jpg"]
    assert len(fetched) == 4
    assert all(urls[0].endswith(path.name) for (urls, _), path in zip(fetched, paths))


@pytest.mark.skipif(not (SHARED / "images").exists(), reason="the course's images are not here")
def test_hashes_are_those_of_the_course_pictures():
    for name, sha256 in {**images.PHOTOS, **images.SIGNS}.items():
        assert hashlib.sha256((SHARED / "images" / name).read_bytes()).hexdigest() == sha256
        side = 227 if name in images.PHOTOS else 32
        assert images.read(SHARED / "images" / name).shape == (side, side, 3)


def test_sample_photos():
    from sklearn.datasets import load_sample_images

    for path, expected in zip(images.sample_photos(), load_sample_images().images, strict=True):
        np.testing.assert_array_equal(images.read(path), expected)
