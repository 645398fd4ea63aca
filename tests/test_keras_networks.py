"""VGG16 and ResNet50: against plain NumPy and Keras itself, cut at any layer, fine-tuned, kept and read again."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED

from common.errors import BadInput
from networks import keras_networks
from networks.keras_networks import KerasNetwork
from networks.network import Dropout
from weights import cards, reading

VGG_WEIGHTS = SHARED / "weights" / "vgg16_notop_fp16.npz"
needs_vgg = pytest.mark.skipif(not VGG_WEIGHTS.exists(), reason="VGG16's real weights are not here")


@pytest.fixture(scope="module")
def resnet():
    return KerasNetwork.load(cards.RESNET, "random", seed=1)


def named(network):
    """{"layer/part": array} of a network, in Keras's order."""
    return {f"{layer.name}/{part.name}": part.numpy() for layer in network.model.layers for part in layer.weights}


def vgg_in_numpy(pixels, weights):
    """Five blocks of 3x3 convolutions with ReLU, each followed by a 2x2 maximum; the mean of the last map."""
    x = pixels.astype(np.float64)
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for index in range(1, convolutions + 1):
            kernel, bias = (weights[f"block{block}_conv{index}/{part}"] for part in ("kernel", "bias"))
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))  # (H, W, C, 3, 3)
            x = np.maximum(np.tensordot(windows, kernel.astype(np.float64).transpose(2, 0, 1, 3), axes=3) + bias, 0)
        x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max((1, 3))
    return x.mean((0, 1))


@needs_vgg
def test_vgg_with_real_weights_equals_numpy(photos):
    image = photos[:1, 80:144, 80:144]  # 64x64: no resizing
    network = KerasNetwork.load(cards.VGG, VGG_WEIGHTS, features_only=True, image_size=64)
    pixels = image[0, ..., ::-1] - np.array([103.939, 116.779, 123.68])
    expected = vgg_in_numpy(pixels, np.load(VGG_WEIGHTS))
    ours = network.activations(image, layer="avg_pool").numpy()
    assert ours.shape == (1, 512) and ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], expected, rtol=0, atol=1e-5 * expected.max())
    bfloat16 = KerasNetwork.load(cards.VGG, VGG_WEIGHTS, features_only=True, image_size=64, dtype=tf.bfloat16)
    rounded = bfloat16.activations(image, layer="avg_pool").numpy()
    assert 1e-4 < np.linalg.norm(rounded - expected) / np.linalg.norm(expected) < 0.03
    assert keras.mixed_precision.global_policy().name == "float32"  # left as it was
    with pytest.raises(BadInput, match="^VGG16 was loaded without its classifier.*$"):
        network.activations(image)
    with pytest.raises(BadInput, match="has no classifier of ImageNet .predictions/bias is missing.: features can be"):
        KerasNetwork.load(cards.VGG, VGG_WEIGHTS)


@pytest.mark.slow
def test_resnet_with_random_weights(resnet, photos):
    probabilities = resnet.activations(photos).numpy()
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    features = resnet.activations(photos, layer="avg_pool").numpy()
    assert features.shape == (2, cards.RESNET.bottleneck_size) and features.std() > 0
    again = KerasNetwork.load(cards.RESNET, "random", seed=1, features_only=True, image_size=64)
    kernel = "conv1_conv/kernel"
    np.testing.assert_array_equal(named(again)[kernel], named(resnet)[kernel])
    other = KerasNetwork.load(cards.RESNET, "random", seed=2, features_only=True, image_size=64)
    assert not np.array_equal(named(other)[kernel], named(resnet)[kernel])
    with pytest.raises(ValueError, match="no layer 'fc7'; there are pool1_pool, conv2_block1_out"):
        resnet.activations(photos, layer="fc7")


def test_parameters(resnet):
    assert sum(array.size for array in named(resnet).values()) == 25_636_712
    vgg = KerasNetwork.load(cards.VGG, "random")
    assert sum(array.size for array in named(vgg).values()) == 138_357_544
    assert (cards.RESNET.parameters, cards.VGG.parameters) == (25_636_712, 138_357_544)
    assert vgg.layer_names == [f"block{n}_pool" for n in range(1, 6)] + ["avg_pool", "fc1", "fc2", "logits", "prob"]
    assert vgg.names_between("block4_pool", "prob") == ["block5_pool", "fc1", "fc2", "logits", "prob"]
    assert vgg.before("fc1") == "block5_pool" and vgg.before("avg_pool") == "block5_pool"
    assert vgg.output_shape("block1_pool") == (112, 112, 64) and vgg.output_shape("logits") == (1000,)
    assert [each.shape for each in vgg.variables_between("block5_pool", "fc1")] == [(25088, 4096), (4096,)]
    with pytest.raises(ValueError, match="fc2 reads block5_pool, not avg_pool"):
        vgg.names_between("avg_pool", "fc2")


BOTH = pytest.mark.parametrize("card", [cards.VGG, cards.RESNET], ids=["vgg", "resnet"])


@BOTH
def test_every_layer_is_kerass_own(card):
    """Whole, and from any layer on; the shapes are known beforehand."""
    network = KerasNetwork.load(card, "random", 3, image_size=32, features_only=True)
    keras.utils.set_random_seed(3)
    theirs = keras_networks.application(card)(weights=None, include_top=False, input_shape=(32, 32, 3))
    x = np.random.default_rng(0).normal(0, 60, (2, 32, 32, 3)).astype(np.float32)
    blocks = keras.Model(theirs.input, [theirs.get_layer(name).output for name in card.blocks])(x, training=False)
    expected = dict(zip(card.blocks, blocks)) | {"avg_pool": blocks[-1].numpy().mean((1, 2))}
    assert network.layer_names == list(expected)
    last, before = x, None
    for name in expected:
        last = network(last, name, after=before)
        np.testing.assert_allclose(last, expected[name], rtol=1e-5, atol=1e-6 * np.abs(expected[name]).max())
        assert network.output_shape(name) == last.shape[1:]
        assert network.before(name) == before and network.names_between(before, name) == [name]
        before = name
    np.testing.assert_array_equal(network(x, name), last)
    everything = network.variables_between(None, name, with_statistics=True)
    assert sum(int(tf.size(each)) for each in everything) == theirs.count_params()
    trained = network.variables_between(None, name)
    assert sum(int(tf.size(each)) for each in trained) == sum(int(tf.size(v)) for v in theirs.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("card", [cards.VGG, cards.RESNET], ids=["vgg", "resnet"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=["float32", "bfloat16"])
def test_fine_tuning_moves_all_but_the_statistics(card, dtype):
    network = KerasNetwork.load(card, "random", 1, image_size=32, dtype=tf.as_dtype(dtype), features_only=True)
    before, trained = named(network), network.variables_between(card.blocks[0], "avg_pool")
    x = tf.random.stateless_normal((4, 32, 32, 3), (0, 0), stddev=60)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(x, "avg_pool") ** 2)
        for each, gradient in zip(trained, tape.gradient(loss, trained), strict=True):
            each.assign_sub(0.01 * gradient / (tf.norm(gradient) + 1e-9))
        return loss

    losses = [float(step()) for _ in range(5)]
    assert losses[-1] < losses[0]
    for name, array in named(network).items():
        layer, part = name.split("/")
        assert array.dtype == np.float32
        still = part.startswith("moving_") or layer in ("conv1_conv", "conv1_bn") or layer.startswith("block1_")
        assert np.array_equal(array, before[name]) == still, name


def test_dropout_of_vgg():
    """Half of fc1's outputs, the others doubled; the same seed and place drop the same ones; without dropout none."""
    network = KerasNetwork.load(cards.VGG, "random", 1)
    x = np.random.default_rng(0).normal(0, 60, (1, 7, 7, 512)).astype(np.float32)
    whole, dropped = (
        network(x, "fc1", after="block5_pool"),
        network(x, "fc1", after="block5_pool", dropout=Dropout((0, 1), [2], 4)),
    )
    kept = dropped.numpy() != 0
    active = whole.numpy() != 0
    assert abs(kept[active].mean() - 0.5) < 0.05
    np.testing.assert_allclose(dropped.numpy()[kept], 2 * whole.numpy()[kept], rtol=1e-6)
    np.testing.assert_array_equal(dropped, network(x, "fc1", after="block5_pool", dropout=Dropout((0, 1), [2], 4)))
    assert np.any(dropped != network(x, "fc1", after="block5_pool", dropout=Dropout((0, 2), [2], 4)))
    assert np.any(dropped != network(x, "fc1", after="block5_pool", dropout=Dropout((0, 1), [1], 4)))


@pytest.mark.parametrize("card", [cards.VGG, pytest.param(cards.RESNET, marks=pytest.mark.slow)], ids=["vgg", "resnet"])
def test_what_is_kept_is_read_again(card, tmp_path):
    network = KerasNetwork.load(card, "random", 1, image_size=32, features_only=True)
    network.save(tmp_path / "network-1.npz")
    other = KerasNetwork.load(card, "random", 2, image_size=32, features_only=True)
    other.restore(tmp_path / "network-1.npz")
    loaded = KerasNetwork.load(card, tmp_path / "network-1.npz", image_size=48, features_only=True)
    for again in (named(other), named(loaded)):
        for name, array in named(network).items():
            np.testing.assert_array_equal(again[name], array)


@BOTH
def test_preprocessing_is_kerass_own(card):
    module = getattr(keras.applications, card.application.split(".")[0])
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 255
    pixel = np.asarray(module.preprocess_input(red.copy()))[0, 0, 0]
    np.testing.assert_allclose(pixel, np.array([0, 0, 255]) - card.mean_bgr, rtol=1e-6)
    network = KerasNetwork.load(card, "random", features_only=True, image_size=32)
    assert network.preprocess(red).shape == (1, 32, 32, 3)
    np.testing.assert_allclose(network.preprocess(red)[0, 16, 16], pixel, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
def test_a_whole_model_by_keras_is_read(resnet, tmp_path):
    """With its classifier or, for features, without it."""
    resnet.model.save(tmp_path / "resnet.keras")
    whole = KerasNetwork.load(cards.RESNET, tmp_path / "resnet.keras")
    features = KerasNetwork.load(cards.RESNET, tmp_path / "resnet.keras", image_size=64, features_only=True)
    expected = named(resnet)
    for network, count in ((whole, len(expected)), (features, len(expected) - 2)):
        found = named(network)
        assert len(found) == count
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("file", [cards.VGG.file, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"])
def test_a_file_in_weights_is_taken_before_any_download(file, tmp_path, monkeypatch):
    """The published names, of the file with the classifier and of that without; the numbers are random ones."""
    first = KerasNetwork.load(cards.VGG, "random", seed=4, features_only=True, image_size=32)
    first.save(tmp_path / file)
    monkeypatch.setattr(reading, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setattr(keras_networks, "published", lambda *_: pytest.fail("it is there"))
    second = KerasNetwork.load(cards.VGG, features_only=True, image_size=32)
    assert reading.fingerprint(second.weights) == reading.fingerprint(first.weights)


def test_failed_download_and_wrong_size(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://…: None --\n[Errno -2] Name or service not known")

    monkeypatch.setattr(keras.applications.vgg16, "VGG16", fail)
    missing = f"^VGG16: Keras cannot download .*Name or service.*put {cards.VGG.file} into .*weights, .*--weights"
    with pytest.raises(BadInput, match=missing):
        KerasNetwork.load(cards.VGG)
    with pytest.raises(BadInput, match="put vgg16_.*_notop.h5 or vgg16_.*kernels.h5 into "):
        KerasNetwork.load(cards.VGG, features_only=True, image_size=32)
    with pytest.raises(BadInput, match="--image_size 64: VGG16's classifier takes 224 pixels only"):
        KerasNetwork.load(cards.VGG, "random", image_size=64)
    with pytest.raises(BadInput, match="--image_size 31: VGG16 takes 32 to 1024 pixels"):
        KerasNetwork.load(cards.VGG, "random", features_only=True, image_size=31)
    with pytest.raises(BadInput, match="--seed -1: must be 0 or more"):
        KerasNetwork.load(cards.VGG, "random", seed=-1)
