"""Augmentation: against SciPy, and what it may never do to a traffic sign."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data import cifar10, datasets, traffic_signs
from data.drawn_signs.templates import template
from transfer import augmentation, results
from transfer.augmentation import CHANCES, augment, chances


def none_but(**changed):
    """Chances of no change for one image, but for the named columns."""
    columns = ("across", "down", "scale", "angle", "contrast", "brightness", "flip", "exposure")
    assert len(columns) == CHANCES
    return np.float32([[changed.get(column, 0.5) for column in columns]])


def arrow(size=48):
    """An arrow to the right: a shaft, and a head on its right end."""
    rows, columns = np.mgrid[:size, :size] / size
    shaft = (abs(rows - 0.5) < 0.05) & (abs(columns - 0.45) < 0.22)
    head = (columns > 0.55) & (columns + abs(rows - 0.5) < 0.78)
    return np.where(shaft | head, 230, 30)[..., None].repeat(3, 2).astype(np.uint8)


def curve(contrast, brightness):
    """What becomes of each grey, 0 to 255, written with powers of its own."""
    x = np.linspace(0, 1, 256)
    x = (1 + 0.4 * brightness) * x - 0.4 * brightness * x**2
    return 255 * (x - 0.4 * contrast * (x - 3 * x**2 + 2 * x**3))


@pytest.mark.parametrize("shape, size", [((32, 32), 32), ((32, 32), 128), ((227, 227), 227), ((20, 33), 64)])
def test_middle_of_the_range_is_the_network_s_own_resize(shape, size):
    """Images are learned from as sharp as they are in a test, where nothing moves them."""
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    same = augment(images, np.full((3, CHANCES), 0.5, np.float32), size)
    assert same.dtype == tf.float32
    np.testing.assert_allclose(same, tf.image.resize(tf.cast(images, tf.float32), (size, size)), atol=0.02)  # of 255


def test_a_shift_by_whole_pixels_blurs_nothing():
    """Of an image that is enlarged four times: the enlarged image, shifted by four times as many pixels."""
    images = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    large = tf.image.resize(tf.cast(images, tf.float32), (160, 160)).numpy()
    moved = augment(images, none_but(across=1, down=0), 160).numpy()  # a tenth of the side, right and up
    np.testing.assert_allclose(moved[:, :-16, 16:], large[:, 16:, :-16], atol=0.05)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape, size", [((32, 32), 32), ((32, 32), 75), ((24, 40), 64)])
def test_equals_scipy(shape, size, flip):
    """The maps multiplied out of single steps, in SciPy's order of row and column."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, *shape, 3), dtype=np.uint8)
    chance = rng.random((6, CHANCES), dtype=np.float32)
    middle = (np.array(shape) - 1) / 2
    places = [length * (np.arange(size) + 0.5) / size - 0.5 for length in shape]  # of the pixels' centres
    places = np.stack(np.meshgrid(*places, indexing="ij")).reshape(2, -1)
    ours = augment(images, chance, size, chance[:, 6] >= 0.5 if flip else None).numpy()
    for image, numbers, result in zip(images, chance.astype(float), ours):
        across, down, scale, angle, contrast, brightness, _, _ = 2 * numbers - 1
        angle = np.deg2rad(10 * angle)
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]  # clockwise, as rows count down
        forward = (1 + 0.1 * scale) * np.array(turn)
        if flip and numbers[6] >= 0.5:
            forward = forward @ np.diag([1, -1])
        lands = middle + [0.1 * down * shape[0], 0.1 * across * shape[1]]
        taken = np.linalg.inv(forward) @ (places - lands[:, None]) + middle[:, None]
        lit = np.interp(image, np.arange(256), curve(contrast, brightness))
        moved = [ndimage.map_coordinates(plane, taken, order=1, mode="nearest") for plane in np.moveaxis(lit, -1, 0)]
        np.testing.assert_allclose(result, np.stack(moved, -1).reshape(size, size, 3), atol=0.05)


def test_an_arrow_is_never_mirrored_unless_asked():
    chance = chances(1000, seed=0, epoch=1)
    images = np.repeat(arrow()[None], 1000, axis=0)

    def right_of_its_middle(images):
        """Whether most of the bright pixels' height lies right: the head is wider than the shaft."""
        bright = np.asarray(images)[..., 0]
        bright = bright - np.median(bright, axis=(1, 2), keepdims=True) > 20
        columns = np.arange(bright.shape[2])
        across = bright.sum(1)
        mean = (across * columns).sum(1) / across.sum(1)
        return (across * (columns - mean[:, None]) ** 3).sum(1) < 0  # the longer tail is the shaft, on the left

    assert right_of_its_middle(images).all()
    assert right_of_its_middle(augment(images, chance, images.shape[1])).all()
    flipped = ~right_of_its_middle(augment(images, chance, images.shape[1], chance[:, 6] >= 0.5))
    np.testing.assert_array_equal(flipped, chance[:, 6] >= 0.5)
    assert 0.4 < flipped.mean() < 0.6


@pytest.mark.parametrize("end", [0, 1])
def test_limits_of_place_scale_and_angle(end):
    """Where a dot goes, on images that are wider than high."""
    sign = 2 * end - 1

    def place(x, y, **changed):
        """From the middle, in pixels: right, down."""
        rows, columns = np.mgrid[:101, :161]
        dot = 200 * np.exp(-((columns - 80 - x) ** 2 + (rows - 50 - y) ** 2) / 8)
        dot = dot[None, ..., None].repeat(3, -1).astype(np.float32)
        result = augment(dot, none_but(**changed), 161)[0, ..., 0].numpy()
        rows, columns = np.mgrid[:161, :161]
        mean = np.array([(result * columns).sum(), (result * rows).sum()]) / result.sum() - 80
        return mean * (1, 101 / 161)  # the square in the image's own proportions

    np.testing.assert_allclose(place(0, 0, across=end), [sign * 16.1, 0], atol=0.05)
    np.testing.assert_allclose(place(0, 0, down=end), [0, sign * 10.1], atol=0.05)
    np.testing.assert_allclose(place(30, 20, scale=end), np.multiply([30, 20], 1 + 0.1 * sign), atol=0.05)
    right, down = place(30, 0, angle=end)
    assert np.degrees(np.arctan2(down, right)) == pytest.approx(10 * sign, abs=0.2)
    assert np.hypot(right, down) == pytest.approx(30, abs=0.05)


def test_light_never_goes_out():
    """Between darker and lighter there is always a difference, and at least a third of what it was."""
    grey = np.arange(256, dtype=np.float32)[None, None, :, None].repeat(3, -1)
    chance = np.full((1004, CHANCES), 0.5, np.float32)
    chance[:1000, 4:6] = chances(1000, 0, 1)[:, 4:6]
    chance[1000:, 4:6] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    lit = augmentation.other_light(grey.repeat(1004, 0), chance)[:, 0, :, 0].numpy()
    assert lit.min() == 0 and lit.max() == 255
    assert np.diff(lit).min() > 0.33 and np.diff(lit).max() < 2


def test_limits_of_light():
    grey = np.float32([0, 51, 127.5, 204, 255])[None, None, :, None].repeat(3, -1)

    def levels(**changed):
        return augmentation.other_light(grey, none_but(**changed))[0, 0, :, 0].numpy()

    np.testing.assert_allclose(levels(brightness=0), [0, 34.68, 102, 187.68, 255], rtol=1e-5)
    np.testing.assert_allclose(levels(brightness=1), [0, 67.32, 153, 220.32, 255], rtol=1e-5)
    np.testing.assert_allclose(levels(contrast=0), [0, 60.792, 127.5, 194.208, 255], rtol=1e-5)
    np.testing.assert_allclose(levels(contrast=1), [0, 41.208, 127.5, 213.792, 255], rtol=1e-5)


def test_chances_follow_from_seed_and_epoch():
    first = chances(50, seed=3, epoch=2)
    assert first.shape == (50, CHANCES) and first.dtype == np.float32 and first.min() >= 0 and first.max() < 1
    np.testing.assert_array_equal(first, chances(50, seed=3, epoch=2))
    assert not np.intersect1d(first, chances(50, seed=3, epoch=3)).size > 2
    assert not np.intersect1d(first, chances(50, seed=2, epoch=3)).size > 2


def test_an_image_is_the_same_in_any_batch():
    """In one graph whose number and size of images are open."""

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8), tf.TensorSpec((None, CHANCES), tf.float32)]
    )
    def compiled(images, chance):
        return augment(images, chance, 64)

    for size in 32, 227:
        images = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
        chance = chances(5, 0, 1)
        together = compiled(images, chance).numpy()
        assert together.shape == (5, 64, 64, 3)
        order = [3, 0, 4]
        np.testing.assert_array_equal(compiled(images[order], chance[order]), together[order])
        np.testing.assert_allclose(augment(images, chance, 64), together, atol=0.05)
    assert compiled(images[:0], chance[:0]).shape == (0, 64, 64, 3)  # a worker's share of a small batch


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape, size", [((64, 64), 131), ((24, 40), 31)])
def test_random_crops_equal_scipy(shape, size, flip):
    """Each output pixel is read where its centre lies in the original, beyond the border the outermost pixel."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (6, *shape, 3), dtype=np.uint8)
    chance = rng.random((6, CHANCES), dtype=np.float32)
    chance[:, 4:6] = 0.5  # no change of light
    chance[:3, :3] = [(0, 0, 0.5), (0.999999, 0.999999, 0), (0.5, 0.5, 0.999999)]  # two corners, the whole
    ours = augmentation.random_crops(images, chance, size, 0.5, chance[:, 6] >= 0.5 if flip else None).numpy()
    assert ours.shape == (6, size, size, 3) and ours.dtype == np.float32
    for image, (across, down, scale, *_, mirrored, _), result in zip(images, chance.astype(float), ours):
        share = 0.5 + 0.5 * scale
        rows, columns = [
            (1 - share) * place * length + share * length * (np.arange(size) + 0.5) / size - 0.5
            for place, length in zip((down, across), shape)
        ]
        columns = columns[::-1] if flip and mirrored >= 0.5 else columns
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        planes = np.moveaxis(image.astype(float), -1, 0)
        expected = [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in planes]
        np.testing.assert_allclose(result, np.stack(expected, -1), atol=0.05)


def test_the_largest_crop_is_the_network_s_own_resize():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    chance = np.full((2, CHANCES), 0.5, np.float32)
    whole = augmentation.random_crops(images, chance, 227, 1.0)
    np.testing.assert_allclose(whole, tf.image.resize(tf.cast(images, tf.float32), (227, 227)), atol=0.05)


def test_mirror_images_of_signs_are_signs_of_their_mirror_class():
    """Of each drawn sign's mirror image, the drawing that is nearest; more than 1.5 % off is another sign."""
    drawings = np.stack([template(label, 64) for label in range(43)]).astype(float)
    for label, mirror in enumerate(traffic_signs.MIRROR):
        distances = abs(drawings - drawings[label, :, ::-1]).mean((1, 2, 3)) / 255
        nearest = distances.argmin()
        assert (nearest if distances[nearest] < 0.015 else datasets.NO_MIRROR) == mirror, (
            label,
            nearest,
            distances.min(),
        )


def test_mirrored_images_change_their_labels():
    chance, labels = chances(6, 0, 1), np.array([0, 1, 2, 0, 1, 2])
    chance[:, 6] = [0.6, 0.6, 0.6, 0.4, 0.4, 0.4]
    mirror = (0, datasets.NO_MIRROR, 1)
    flipped, changed = augmentation.mirrored(tf.constant(labels), tf.constant(chance), mirror)
    assert flipped.numpy().tolist() == [True, False, True, False, False, False]
    assert changed.numpy().tolist() == [0, 1, 1, 0, 1, 2]
    logits = np.arange(18, dtype=np.float32).reshape(6, 3)
    taught = augmentation.mirrored_logits(tf.constant(logits), flipped, (2, datasets.NO_MIRROR, 0)).numpy()
    assert taught.tolist() == [[2, 1, 0], [3, 4, 5], [8, 7, 6], [9, 10, 11], [12, 13, 14], [15, 16, 17]]


def test_exposed_anew():
    """Every other image, to a brightness of the whole range, its colours in the same proportion."""
    rng = np.random.default_rng(0)
    images = (
        rng.integers(20, 60, (400, 8, 8, 3), dtype=np.uint8)
        * np.arange(1, 5, dtype=np.uint8).repeat(100)[:, None, None, None]
    )
    chance = np.full((400, CHANCES), 0.5, np.float32)
    chance[:, 7] = np.linspace(0, 1, 400, endpoint=False)
    lit = augment(images, chance, 8, relight=True).numpy()
    np.testing.assert_allclose(lit[:200], images[:200], atol=0.02)
    brightness = lit.mean((1, 2, 3)) / 255
    assert brightness[200] == pytest.approx(0.08, rel=0.03) and brightness[399] == pytest.approx(0.4, rel=0.08)
    assert (np.diff(np.log(brightness[200:])) > -0.02).all()  # + 1 / 255 for images that are black
    scale = lit[200:] / np.maximum(images[200:], 1)
    middle = np.median(scale, axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(
        np.where(lit[200:] < 254, scale, middle), np.broadcast_to(middle, scale.shape), rtol=0.01
    )
    dark = np.zeros((2, 8, 8, 3), np.uint8)
    black = augment(dark, np.full((2, CHANCES), 0.9, np.float32), 8, relight=True).numpy()
    assert (black == 0).all()
    again = augment(images, chance, 8)  # nothing of this where it is not asked for
    np.testing.assert_allclose(again, images, atol=0.02)


def test_the_second_view_is_the_middle_closer():
    """Against SciPy, at the network's size."""
    images = np.random.default_rng(2).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)
    middle = (np.array(images.shape[1:3]) - 1) / 2
    places = [
        half + (length * (np.arange(50) + 0.5) / 50 - 0.5 - half) / 1.15
        for half, length in zip(middle, images.shape[1:3])
    ]
    places = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = [
        [ndimage.map_coordinates(plane, places, order=1) for plane in np.moveaxis(image.astype(float), -1, 0)]
        for image in images
    ]
    expected = np.moveaxis(expected, 1, -1)
    np.testing.assert_allclose(augmentation.closer(images, 50), expected, atol=0.05)
    np.testing.assert_allclose(augmentation.closer(images, 50, mirror=True), expected[:, :, ::-1], atol=0.05)


def test_only_where_each_class_is_its_own_mirror_image_is_the_second_view_mirrored():
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for names, mirrored in (cifar10.NAMES, True), (traffic_signs.sign_names(), False), (["cat", "dog"], False):
        view, told = results.second_view(names, 20)
        np.testing.assert_array_equal(view(images), augmentation.closer(images, 20, mirrored))
        assert ("mirrored" in told) == mirrored
