"""data/images.py: an image becomes the square that a network was trained to see; wildcards, and the walk's images."""

import hashlib

import numpy as np
import pytest
from conftest import SHARED, in_one_line
from PIL import Image

from common.errors import BadInput
from data import images

RNG = np.random.default_rng(0)


def saved(path, image):
    Image.fromarray(image).save(path)
    return path


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
    np.testing.assert_array_equal(
        images.frame(image, images.Framing(size, "crop", 256)), previous_centre_crop(image, size)
    )
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images.frame(image, images.Framing(size)), expected)


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


def test_each_file_has_its_own_answer(tmp_path):
    good = saved(tmp_path / "good.png", RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    (tmp_path / "bad.png").write_text("text")
    first, second, third, fourth = images.read_each(
        [good, tmp_path / "bad.png", tmp_path / "absent.png", str(good)], images.Framing(5)
    )
    assert isinstance(second, BadInput) and "bad.png: is a text file" in str(second)
    assert isinstance(third, BadInput) and "absent.png" in str(third)
    np.testing.assert_array_equal(first, fourth)
    np.testing.assert_array_equal(first, images.read_all([good], images.Framing(5))[0])


def test_wildcards(tmp_path, monkeypatch):
    for name in ("b.png", "a.png", "c.jpg", "[1].png", "deep/er/d.png", "folder.png/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert images.expand(["c.jpg", "?.png", "absent.png"]) == ["c.jpg", "a.png", "b.png", "absent.png"]
    assert images.expand(["[1].png", "[ab].png"]) == ["[1].png", "a.png", "b.png"]
    assert sorted(images.expand(["**/*.png"])) == ["[1].png", "a.png", "b.png", "deep/er/d.png"]
    assert images.expand(["*.gif", "c.jpg"]) == ["*.gif", "c.jpg"]
    assert "*.gif: " in in_one_line(images.read_all, ["*.gif"], images.Framing(8))


def test_course_images_are_fetched_once(tmp_path, monkeypatch):
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
def test_hashes_are_those_of_the_course_images():
    for name, sha256 in {**images.PHOTOS, **images.SIGNS}.items():
        assert hashlib.sha256((SHARED / "images" / name).read_bytes()).hexdigest() == sha256
        side = 227 if name in images.PHOTOS else 32
        assert images.read(SHARED / "images" / name).shape == (side, side, 3)


def test_sample_photos():
    from sklearn.datasets import load_sample_images

    for path, expected in zip(images.sample_photos(), load_sample_images().images, strict=True):
        np.testing.assert_array_equal(images.read(path), expected)
