"""Layers by least squares: each step against scikit-learn, SciPy or a convolution; real photos (slow)."""

import sys

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from conftest import SHARED, in_one_line
from sklearn.linear_model import Ridge

from alexnet import AlexNet
from data import splits, traffic_signs
from googlenet import GoogLeNet
from transfer import cases, devices, distill, features, least_squares, trained
from transfer.recipe import Recipe
from weights import cards, reading


def test_regression_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((500, 8)).astype(np.float32), rng.standard_normal((500, 3)).astype(np.float32)
    y += x @ rng.standard_normal((8, 3)).astype(np.float32) + 5
    sums = least_squares.Sums()
    for part in np.split(np.arange(500), 5):
        sums.add(np.c_[x[part], np.ones((100, 1), np.float32)], y[part])
    theirs = Ridge(alpha=1e-9).fit(x, y)
    ours = sums.solve(ridge=1e-12)
    np.testing.assert_allclose(ours[:-1], theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(ours[-1], theirs.intercept_, atol=1e-4)
    r2 = 1 - ((y - theirs.predict(x)) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    explained = sums.explained(sums.solve())  # the default ridge shrinks a little
    np.testing.assert_allclose(sums.share_explained(explained), r2, atol=0.02)


def test_ridge_with_more_inputs_than_images():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 300)).astype(np.float32) * np.logspace(0, -2, 300, dtype=np.float32)
    y = x @ rng.standard_normal((300, 2)).astype(np.float32) + 3
    kernel, bias, quality = least_squares.ridge_regression(x, y)
    alphas = np.mean(np.sum((x - x.mean(0)) ** 2, axis=1)) * 10.0 ** np.arange(-3, 1.5, 0.5)
    near = min(np.abs(Ridge(alpha=alpha).fit(x, y).coef_.T - kernel).max() for alpha in alphas)
    assert near < 1e-3 and quality > 0.5
    assert np.abs(x.mean(0) @ kernel + bias - y.mean(0)).max() < 1e-4


def test_channels_are_chosen_as_pivoted_qr_does():
    x = np.random.default_rng(0).standard_normal((50, 12)) * np.arange(1, 13)
    _, _, order = scipy.linalg.qr(x, mode="economic", pivoting=True)
    assert least_squares.most_different(x.T @ x, 12) == list(order)
    assert not set(least_squares.most_different(x.T @ x, 6, taken=list(order[:6]))) & set(order[:6])


@pytest.mark.parametrize("side, stride, padding", [(3, 1, "SAME"), (11, 4, "VALID")])
def test_what_a_kernel_sees_is_what_convolution_sees(side, stride, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 23, 23, 6)), rng.standard_normal((side, side, 3, 5))
    places = rng.permutation(16)[:7]
    ((seen, _),) = distill.windows([x], [np.zeros((2, 7, 1))], [places], side, slice(3, 6), stride, padding)
    expected = tf.nn.conv2d(x[..., 3:6], kernel, stride, padding).numpy().reshape(2, -1, 5)[:, places]
    np.testing.assert_allclose(seen[:, :-1] @ kernel.reshape(-1, 5), expected.reshape(-1, 5), atol=1e-3)
    assert (seen[:, -1] == 1).all()


@pytest.mark.parametrize(
    "layer, teachers", [pytest.param("conv1", "norm2", marks=pytest.mark.slow), ("pool2", "pool3")]
)
def test_both_networks_look_at_the_same_pixels(layer, teachers):
    """The middle of what a window sees, from the gradient."""

    def middle(network, layer, shift):
        x = tf.Variable(np.random.default_rng(0).standard_normal((1, 227, 227, 3)).astype(np.float32))
        with tf.GradientTape() as tape:
            window = tf.reduce_sum(network(x[:, shift:, shift:], layer)[:, 5, 7])
        seen = np.abs(tape.gradient(window, x).numpy()[0]).sum(-1) > 0
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        return (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2

    ours = middle(AlexNet(reading.load(cards.ALEXNET, "random")), layer, 0)
    theirs = middle(GoogLeNet.load(cards.GOOGLENET, "random"), teachers, distill.SHIFT)
    assert np.abs(np.subtract(ours, theirs)).max() <= 2  # windows are 4 pixels apart at least


def test_a_file_that_is_there_is_not_replaced(tmp_path, monkeypatch):
    """Nor is it told after ten minutes that the place cannot be written."""
    (tmp_path / "mine.npz").write_text("mine")
    monkeypatch.setattr(reading, "load", lambda *_: pytest.fail("the work has begun"))
    for out, told in (("mine.npz", "exists already"), ("mine.npz/new.npz", "is not a folder")):
        monkeypatch.setattr(sys, "argv", ["distill", "photos", "--out", str(tmp_path / out)])
        assert told in in_one_line(distill.main)
    assert (tmp_path / "mine.npz").read_text() == "mine"


@pytest.mark.slow  # three minutes
@pytest.mark.skipif(not (SHARED / "data/tinyimagenet_64px").exists(), reason="the photos are not here")
def test_imitating_on_500_photos_is_worth_twenty_points_on_drawn_signs():
    sys.path.insert(0, str(SHARED / "data"))
    from read_tinyimagenet import load

    photos, _, _ = load(SHARED / "data/tinyimagenet_64px", "train", per_class=3)
    photos = np.random.default_rng(0).permutation(photos)[:500]
    imitating = distill.distill(photos, str(SHARED / "weights/bvlc_googlenet.npz"))
    split, accuracies = splits.split(traffic_signs.drawn(), "track", 0), []
    for weights in reading.load(cards.ALEXNET, "random"), imitating:
        network = AlexNet(weights)
        origin = trained.provenance_of(network, "pool5", "random", 0)
        vectors = features.frozen_features(network, split.dataset.images, "pool5", origin, None)
        outcome = cases.train_head(vectors, split, Recipe(epochs=15), devices.find())
        accuracies.append(outcome.history[-1]["validation_accuracy"])
    assert accuracies[1] > accuracies[0] + 0.2
