"""Drawn signs: repeatable, all different, and like enough to real ones that what is learnt on them carries over."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SHARED
from sklearn.linear_model import RidgeClassifier

from data.drawn_signs import draw
from data.drawn_signs.templates import template

CHANCE = 1 / 43  # the accuracy of guessing


def test_templates_are_43_different_signs_on_a_transparent_ground():
    signs = np.stack([template(label, 48) for label in range(43)]).astype(int)
    assert signs.shape == (43, 48, 48, 4)
    for label, sign in enumerate(signs):
        assert not sign[[0, -1], 0, 3].any() or label == 13, "only the yield sign reaches a corner"
        assert sign[24, 24, 3] == 255, "the middle is sign"
        assert np.abs(np.delete(signs, label, 0) - sign).mean((1, 2, 3)).min() > 2, f"{label} has a double"


def test_templates_show_what_their_number_says():
    assert np.allclose(template(12, 128)[64, 64, :3], (232, 162, 24), atol=3), "priority road is yellow"
    assert np.allclose(template(26, 128)[97, 64, :3], (0, 125, 105), atol=3), "the lowest light is green"
    assert np.array_equal(template(33, 128), template(34, 128)[:, ::-1]), "right and left mirror each other"
    white = template(38, 128)[..., :3].min(2) > 200
    assert white[80:98, 78:96].mean() > 0.3 and not white[80:98, 32:50].any(), "keep right points down to the right"
    left, right = (
        template(10, 128)[40:80, side, :3].reshape(-1, 3).astype(int) for side in (slice(20, 60), slice(68, 108))
    )
    assert ((left[:, 0] - left[:, 1]) > 100).mean() > 0.4 > 0.1 > ((right[:, 0] - right[:, 1]) > 100).mean()


@pytest.mark.parametrize("label", [-1, 43])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match=f"sign {label}: .*0 to 42"):
        template(label, 128)


def test_shapes_types_and_order():
    images, labels = draw(per_class=2, size=24)
    assert images.shape == (86, 24, 24, 3) and images.dtype == np.uint8
    assert labels.dtype == np.int64 and labels.tolist() == [label for label in range(43) for _ in range(2)]


def test_the_seed_decides_every_image():
    first, again, other = (draw(per_class=1, seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first != other).reshape(43, -1).any(1).all()


def test_more_images_begin_with_the_same_ones():
    few, many = draw(per_class=1)[0], draw(per_class=2)[0]
    assert np.array_equal(many[::2], few)
    assert (many[1::2] != few).reshape(43, -1).any(1).all(), "the second image repeats the first"


def test_some_classes_are_those_of_all():
    few, labels = draw(per_class=2, classes=[14, 3])
    every, _ = draw(per_class=2)
    assert labels.tolist() == [14, 14, 3, 3]
    assert np.array_equal(few, every[[28, 29, 6, 7]])


def test_importing_draws_nothing():
    code = "import data.drawn_signs, data.drawn_signs.templates as t; print(t._master.cache_info().currsize)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "0\n"


@pytest.fixture(scope="module")
def learnt():
    """A linear classifier that has seen drawn signs alone."""
    images, labels = draw(per_class=30)
    return RidgeClassifier(alpha=100).fit(_contrast(images), labels)


def _contrast(images):
    """Rows of 16x16 pixels with the exposure taken out: each image to mean 0, standard deviation 1."""
    rows = images.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float32).reshape(len(images), -1)
    return (rows - rows.mean(1, keepdims=True)) / (rows.std(1, keepdims=True) + 5)


def test_new_drawn_signs_are_recognised(learnt):
    images, labels = draw(per_class=5, seed=1)
    assert learnt.score(_contrast(images), labels) > 0.7


@pytest.fixture(scope="module")
def real():
    """Twenty real images of each class: (images, labels)."""
    with np.load(SHARED / "data" / "gtsrb_train.npz") as file:
        images, labels = file["features"], file["labels"]
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(labels == label), 20, replace=False) for label in range(43)])
    return images[chosen], labels[chosen]


needs_real_signs = pytest.mark.skipif(
    not (SHARED / "data" / "gtsrb_train.npz").exists(),
    reason="the real signs are not here",
)


@needs_real_signs
def test_real_signs_are_recognised_by_what_drawn_ones_taught(learnt, real):
    images, labels = real
    accuracy = learnt.score(_contrast(images), labels)
    assert accuracy > 20 * CHANCE, f"{accuracy:.3f}"


@needs_real_signs
def test_light_and_contrast_are_like_those_of_real_signs(real):
    drawn, _ = draw(per_class=10)
    for measure in (np.mean, np.std):
        of_drawn, of_real = (measure(images, axis=(1, 2, 3)) for images in (drawn, real[0]))
        assert np.mean(of_drawn) == pytest.approx(np.mean(of_real), rel=0.15)
        assert np.std(of_drawn) == pytest.approx(np.std(of_real), rel=0.25)
