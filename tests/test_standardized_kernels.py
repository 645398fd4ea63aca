"""Kernels trained as directions and lengths: the same network as with ordinary ones, against plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet import AlexNet
from common.files import BadInput
from networks.keras_networks import KerasNetwork
from weights import cards, reading

SMALL = 67  # pixels, the least that AlexNet's convolutions take


def without_mean(kernel):
    """The kernels (h, w, in, out) with mean 0 for each output channel."""
    return kernel - kernel.mean((0, 1, 2)) if kernel.ndim == 4 else kernel


@pytest.fixture(scope="module")
def network():
    network = AlexNet(reading.load(cards.ALEXNET, "random"), image_size=SMALL)
    network.standardize_kernels()
    return network


def test_files_and_computation_hold_ordinary_kernels(network, tmp_path):
    weights = reading.load(cards.ALEXNET, "random")
    weights = {name: (without_mean(kernel), bias) for name, (kernel, bias) in weights.items()}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    plain = AlexNet(weights, image_size=SMALL)
    expected = plain.activations(images, layer="pool5")
    np.testing.assert_allclose(network.activations(images, layer="pool5"), expected, rtol=1e-3, atol=1e-4)

    network.save(tmp_path / "network.npz")
    kept = reading.load(cards.ALEXNET, tmp_path / "network.npz")
    for name, (kernel, _) in kept.items():
        np.testing.assert_allclose(kernel, weights[name][0], atol=1e-6)
    assert reading.fingerprint(network.plain_weights()) == reading.fingerprint(kept)

    other = AlexNet(reading.load(cards.ALEXNET, "random", seed=1), image_size=SMALL)
    other.standardize_kernels()
    other.restore(tmp_path / "network.npz")
    np.testing.assert_allclose(other.activations(images, layer="pool5"), expected, rtol=1e-3, atol=1e-4)


def test_a_step_along_the_kernel_or_its_mean_changes_nothing(network):
    kernel, _, log_length = network.weights["conv3"]
    x = tf.random.stateless_normal((1, 3, 3, 256), (0, 0))
    before = network(x, "conv3", after="pool2")
    kernel.assign(3 * kernel + 5)
    np.testing.assert_allclose(network(x, "conv3", after="pool2"), before, rtol=1e-3, atol=1e-4)
    log_length.assign_add(np.full(384, np.log(2), np.float32))
    np.testing.assert_allclose(network(x, "conv3", after="pool2"), 2 * before, rtol=1e-3, atol=1e-3)
    assert any(each is log_length for each in network.variables_between("pool2", "conv3"))


def test_not_for_networks_from_keras():
    network = KerasNetwork.load(cards.RESNET, "random", features_only=True, image_size=32)
    with pytest.raises(BadInput, match="^--standardize_kernels: for the networks built by hand"):
        network.standardize_kernels()
