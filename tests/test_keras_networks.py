"""VGG16 and ResNet50: against plain NumPy and Keras itself, fine-tuned; every file format, and what is no such file."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED

from common.files import BadInput
from networks import keras_networks
from networks.keras_networks import KerasNetwork
from weights import cards, keras_files

VGG_WEIGHTS = SHARED / "weights" / "vgg16_notop_fp16.npz"
needs_vgg = pytest.mark.skipif(not VGG_WEIGHTS.exists(), reason="VGG16's real weights are not here")
SHAPES = {"one/kernel": (3, 3, 3, 4), "one/bias": (4,), "predictions/kernel": (4, 2), "predictions/bias": (2,)}


@pytest.fixture(scope="module")
def resnet():
    return KerasNetwork.load(cards.RESNET, "random", seed=1)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def named(network):
    """{"layer/part": array} of a network, in Keras's order."""
    return {f"{layer.name}/{part.name}": part.numpy() for layer in network.model.layers for part in layer.weights}


def write_legacy_h5(path, arrays, rename=lambda name: name):
    """The layout of the files that `keras.applications` publishes: names in attributes, a group a layer."""
    layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer).encode() for layer in layers]
        for layer in layers:
            group = file.create_group(rename(layer))
            mine = [name for name in arrays if name.split("/")[0] == layer]
            group.attrs["weight_names"] = [f"{rename(name)}:0".encode() for name in mine]
            for name in mine:
                group[f"{rename(name)}:0"] = arrays[name]


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
    with pytest.raises(BadInput, match="has no classifier .predictions/bias is missing.: features can be computed"):
        KerasNetwork.load(cards.VGG, VGG_WEIGHTS)


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
    theirs = keras_networks.application(card)[1](weights=None, include_top=False, input_shape=(32, 32, 3))
    x = np.random.default_rng(0).normal(0, 60, (2, 32, 32, 3)).astype(np.float32)
    last = x, None
    for name in network.layer_names:
        if name == "avg_pool":
            expected = theirs(x, training=False).numpy().mean((1, 2))
        else:
            expected = keras.Model(theirs.input, theirs.get_layer(name).output)(x, training=False).numpy()
        np.testing.assert_allclose(network(x, name), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(network(last[0], name, after=last[1]), network(x, name), rtol=1e-6)
        assert network.output_shape(name) == expected.shape[1:] and network.before(name) == last[1]
        assert network.names_between(last[1], name) == [name]
        last = network(x, name), name
    everything = network.variables_between(None, name, with_statistics=True)
    assert sum(int(tf.size(each)) for each in everything) == theirs.count_params()
    trained = network.variables_between(None, name)
    assert sum(int(tf.size(each)) for each in trained) == sum(int(tf.size(v)) for v in theirs.trainable_variables)


@BOTH
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=["float32", "bfloat16"])
def test_fine_tuning_moves_all_but_the_statistics(card, dtype):
    network = KerasNetwork.load(card, "random", 1, image_size=32, dtype=dtype, features_only=True)
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
    """Half of fc1's outputs, the others doubled; the same seed drops the same ones; without a seed none."""
    network = KerasNetwork.load(cards.VGG, "random", 1)
    x = np.random.default_rng(0).normal(0, 60, (1, 7, 7, 512)).astype(np.float32)
    whole, dropped = network(x, "fc1", after="block5_pool"), network(x, "fc1", after="block5_pool", dropout_seed=(0, 1))
    kept = dropped.numpy() != 0
    active = whole.numpy() != 0
    assert abs(kept[active].mean() - 0.5) < 0.05
    np.testing.assert_allclose(dropped.numpy()[kept], 2 * whole.numpy()[kept], rtol=1e-6)
    np.testing.assert_array_equal(dropped, network(x, "fc1", after="block5_pool", dropout_seed=(0, 1)))
    assert np.any(dropped != network(x, "fc1", after="block5_pool", dropout_seed=(0, 2)))


@BOTH
def test_what_is_kept_is_read_again(card, tmp_path):
    network = KerasNetwork.load(card, "random", 1, image_size=32, features_only=True)
    network.save(tmp_path / "network-1.npz")
    other = KerasNetwork.load(card, "random", 2, image_size=32, features_only=True)
    other.restore(tmp_path / "network-1.npz")
    loaded = KerasNetwork.load(card, tmp_path / "network-1.npz", image_size=48, features_only=True)
    for name, array in named(network).items():
        np.testing.assert_array_equal(named(other)[name], array)
        np.testing.assert_array_equal(named(loaded)[name], array)


@BOTH
def test_preprocessing_is_kerass_own(card):
    module, _ = keras_networks.application(card)
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 255
    pixel = np.asarray(module.preprocess_input(red.copy()))[0, 0, 0]
    np.testing.assert_allclose(pixel, np.array([0, 0, 255]) - card.mean_bgr, rtol=1e-6)
    network = KerasNetwork.load(card, "random", features_only=True, image_size=32)
    assert network.preprocess(red).shape == (1, 32, 32, 3)
    np.testing.assert_allclose(network.preprocess(red)[0, 16, 16], pixel, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
def test_every_format_is_read_alike(resnet, tmp_path):
    arrays = named(resnet)
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    paths = [tmp_path / name for name in ("published.h5", "own.weights.h5", "own.npz")]
    write_legacy_h5(paths[0], arrays, lambda name: name.replace("predictions", "probs"))
    resnet.model.save_weights(paths[1])
    np.savez(paths[2], **arrays)
    for path in paths:
        read = keras_files.read(path, shapes, "ResNet50")
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
    other = KerasNetwork.load(cards.RESNET, "random", seed=2)
    other.model.load_weights(paths[0])  # Keras finds the same in the file that this test wrote
    np.testing.assert_array_equal(named(other)["predictions/kernel"], arrays["predictions/kernel"])
    features = KerasNetwork.load(
        cards.RESNET, paths[0], features_only=True, image_size=64
    )  # the classifier is left out
    np.testing.assert_array_equal(named(features)["conv5_block3_3_bn/gamma"], arrays["conv5_block3_3_bn/gamma"])


def test_published_names_of_vgg_arrays(arrays, tmp_path):
    """VGG16's published file calls them block1_conv1_W_1:0 and _b_1:0; their order tells."""
    path = tmp_path / "published.h5"
    write_legacy_h5(path, arrays, lambda name: name.replace("/kernel", "_W_1").replace("/bias", "_b_1"))
    read = keras_files.read(path, SHAPES, "VGG16")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


WRONG = {
    "one/bias is missing": lambda arrays: arrays.pop("one/bias"),
    "'two/kernel' is surplus|'two/0' is surplus": lambda arrays: arrays.update({"two/kernel": np.zeros(1, np.float32)}),
    r"one/kernel is \(3, 3, 4, 3\), expected \(3, 3, 3, 4\)": lambda arrays: arrays.update(
        {"one/kernel": np.zeros((3, 3, 4, 3), np.float32)}
    ),
    "one/kernel is int64, expected float32": lambda arrays: arrays.update({"one/kernel": np.zeros((3, 3, 3, 4), int)}),
    "one/bias holds NaN": lambda arrays: arrays.update({"one/bias": np.float32([0, np.nan, 0, 0])}),
    "has no classifier": lambda arrays: (arrays.pop("predictions/kernel"), arrays.pop("predictions/bias")),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_wrong_arrays_are_named(arrays, tmp_path, message, suffix):
    WRONG[message](arrays)
    path = tmp_path / f"wrong.{suffix}"
    np.savez(path, **arrays) if suffix == "npz" else write_legacy_h5(path, arrays)
    with pytest.raises(BadInput, match=message) as error:
        keras_files.read(path, SHAPES, "VGG16", keras_networks.CLASSIFIER)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def damaged(path, arrays, how):
    if how == "cut .npz":
        np.savez(path, **arrays)
    elif how == "pickle in .npz":
        np.savez(path, **arrays, more=np.array([{}], dtype=object))
    else:
        write_legacy_h5(path, arrays)
    if how.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-700])
    if how == "another .h5":
        with h5py.File(path, "w") as file:
            file["numbers"] = [1, 2]
    if how == "link to another file":
        path.rename(path.with_name("target.h5"))
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"one"]
            file["one"] = h5py.ExternalLink("target.h5", "one")


@pytest.mark.parametrize("how", ["cut .npz", "pickle in .npz", "cut .h5", "another .h5", "link to another file"])
def test_damaged_files(arrays, tmp_path, how):
    path = tmp_path / "damaged.npz"
    damaged(path, arrays, how)
    with pytest.raises(BadInput, match="is damaged, or was not written by Keras") as error:
        keras_files.read(path, SHAPES, "VGG16")
    assert "\n" not in str(error.value)


def test_no_file_a_folder_a_text(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not found")
    for path, message in (
        (tmp_path / "absent.h5", "cannot be read .No such file"),
        (tmp_path, "cannot be read .Is a directory"),
        (text, "is neither HDF5"),
    ):
        with pytest.raises(BadInput, match=message):
            KerasNetwork.load(cards.VGG, path, features_only=True, image_size=32)


def test_failed_download_and_wrong_size(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://…: None --\n[Errno -2] Name or service not known")

    monkeypatch.setattr(keras.applications.vgg16, "VGG16", fail)
    with pytest.raises(BadInput, match="^VGG16: Keras cannot download .*Name or service.*--weights"):
        KerasNetwork.load(cards.VGG)
    with pytest.raises(BadInput, match="--image_size 64: VGG16's classifier takes 224 pixels only"):
        KerasNetwork.load(cards.VGG, "random", image_size=64)
    with pytest.raises(BadInput, match="--image_size 31: VGG16 takes 32 to 1024 pixels"):
        KerasNetwork.load(cards.VGG, "random", features_only=True, image_size=31)
    with pytest.raises(BadInput, match="--seed -1: must be 0 or more"):
        KerasNetwork.load(cards.VGG, "random", seed=-1)
