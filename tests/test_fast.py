"""The fast way against the readable definition in alexnet.py."""

import numpy as np
import pytest
import tensorflow as tf
from test_googlenet import weights as googlenet_weights  # noqa: F401, a fixture

import alexnet
import googlenet
from transfer import fast


@pytest.fixture(scope="module")
def network(alexnet_weights):
    return alexnet.AlexNet(alexnet_weights)


def random_images(height, width, count=3):
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def definition(network, images, layer):
    return network.activations(images, layer=layer).numpy()


def error(ours, expected):
    """The largest difference as a share of the values' range."""
    assert ours.shape == expected.shape and ours.dtype == np.float32
    return np.abs(ours - expected).max() / np.abs(expected).max()


def distance(ours, expected):
    return np.linalg.norm(ours - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (2, 5), (227, 227)])
def test_equals_the_definition(network, size):
    for layer, count in (("conv1", 3), ("pool5", 1), ("fc7", 3)):
        images = random_images(*size, count)
        features = fast.frozen(network, (*size, 3), layer)
        assert error(features(images), definition(network, images, layer)) < 1e-5, layer


def test_a_batch_may_be_of_any_length(network):
    images = random_images(32, 32, 5)
    features = fast.frozen(network, (32, 32, 3), "pool1")
    together = features(images)
    assert error(np.concatenate([features(images[:4]), features(images[4:])]), together) < 1e-5


def test_bfloat16_is_as_near_float32_as_the_definition_in_bfloat16(network, alexnet_weights):
    images = random_images(32, 32, 8)
    bfloat16 = alexnet.AlexNet(alexnet_weights, dtype=tf.bfloat16)
    for layer in ("conv1", "pool1", "fc7"):
        exact = definition(network, images, layer)
        ours = distance(fast.frozen(bfloat16, (32, 32, 3), layer)(images), exact)
        # On a processor without bfloat16 the ratio is 1.3 for conv1, 0.7 for pool1, 0.94 for fc7.
        assert 1e-4 < ours < 1.5 * distance(definition(bfloat16, images, layer), exact) < 0.02, layer


def test_small_images_are_not_enlarged_and_large_ones_are(network, monkeypatch):
    def enlarged(*_, **__):
        raise AssertionError("enlarged")

    monkeypatch.setattr(network, "preprocess", enlarged)
    fast.frozen(network, (32, 32, 3), "conv1")(random_images(32, 32))
    with pytest.raises(AssertionError, match="enlarged"):
        fast.frozen(network, (227, 227, 3), "conv1")(random_images(227, 227))


def test_as_published_equals_its_definition(alexnet_weights):
    published = alexnet.AlexNet(alexnet_weights, as_published=True)
    images = random_images(32, 32)
    features = fast.frozen(published, (32, 32, 3), "pool2")
    assert error(features(images), definition(published, images, "pool2")) < 1e-5


def test_other_sizes_equal_their_definition(alexnet_weights):
    smaller = alexnet.AlexNet(alexnet_weights, image_size=131)
    images = random_images(32, 32)
    features = fast.frozen(smaller, (32, 32, 3), "pool5")
    assert error(features(images), definition(smaller, images, "pool5")) < 1e-5


def test_googlenet_equals_its_definition(googlenet_weights):  # noqa: F811
    network = googlenet.GoogLeNet(googlenet_weights, image_size=64)
    images = random_images(40, 30)
    features = fast.frozen(network, (40, 30, 3), "pool5")
    assert error(features(images), definition(network, images, "pool5")) < 1e-5


def test_unknown_layers_and_other_images_are_refused(network):
    with pytest.raises(ValueError, match="fc9.*conv1, norm1"):
        fast.frozen(network, (32, 32, 3), "fc9")
    with pytest.raises((TypeError, ValueError)):
        fast.frozen(network, (32, 32, 3), "conv1")(random_images(33, 32))
