"""VGG16 and ResNet50: real weights against plain NumPy, every file format, and files that are something else."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED

from common.files import BadInput
from networks import keras_networks
from weights import cards, keras_files

VGG_WEIGHTS = SHARED / "weights" / "vgg16_notop_fp16.npz"
needs_vgg = pytest.mark.skipif(not VGG_WEIGHTS.exists(), reason="VGG16's real weights are not here")
SHAPES = {"one/kernel": (3, 3, 3, 4), "one/bias": (4,), "predictions/kernel": (4, 2), "predictions/bias": (2,)}


@pytest.fixture(scope="module")
def resnet():
    return keras_networks.load(cards.RESNET, "random", seed=1)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def named(network):
    """{"layer/part": array} of a network, in Keras's order."""
    layers = next(reversed(network.models.values())).layers
    return {f"{layer.name}/{part.name}": part.numpy() for layer in layers for part in layer.weights}


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
    network = keras_networks.load(cards.VGG, VGG_WEIGHTS, top=False, image_size=64)
    pixels = image[0, ..., ::-1] - np.array([103.939, 116.779, 123.68])
    expected = vgg_in_numpy(pixels, np.load(VGG_WEIGHTS))
    ours = network.activations(image, layer="avg_pool").numpy()
    assert ours.shape == (1, 512) and ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], expected, rtol=0, atol=1e-5 * expected.max())
    bfloat16 = keras_networks.load(cards.VGG, VGG_WEIGHTS, top=False, image_size=64, dtype=tf.bfloat16)
    rounded = bfloat16.activations(image, layer="avg_pool").numpy()
    assert 1e-4 < np.linalg.norm(rounded - expected) / np.linalg.norm(expected) < 0.03
    assert keras.mixed_precision.global_policy().name == "float32"  # left as it was
    with pytest.raises(BadInput, match="^VGG16 was loaded without its classifier.*$"):
        network.activations(image)
    with pytest.raises(BadInput, match="has no classifier .predictions/bias is missing.: features can be computed"):
        keras_networks.load(cards.VGG, VGG_WEIGHTS)


def test_resnet_with_random_weights(resnet, photos):
    probabilities = resnet.activations(photos).numpy()
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    features = resnet.activations(photos, layer="avg_pool").numpy()
    assert features.shape == (2, cards.RESNET.bottleneck_size) and features.std() > 0
    again = keras_networks.load(cards.RESNET, "random", seed=1, top=False, image_size=64)
    kernel = "conv1_conv/kernel"
    np.testing.assert_array_equal(named(again)[kernel], named(resnet)[kernel])
    other = keras_networks.load(cards.RESNET, "random", seed=2, top=False, image_size=64)
    assert not np.array_equal(named(other)[kernel], named(resnet)[kernel])
    with pytest.raises(ValueError, match="no layer 'fc7'; there are avg_pool, prob"):
        resnet.activations(photos, layer="fc7")


def test_parameters(resnet):
    assert sum(array.size for array in named(resnet).values()) == 25_636_712
    vgg = keras_networks.load(cards.VGG, "random")
    assert sum(array.size for array in named(vgg).values()) == 138_357_544
    assert (cards.RESNET.parameters, cards.VGG.parameters) == (25_636_712, 138_357_544)
    assert set(vgg.models) == {"avg_pool", "prob"}


@pytest.mark.parametrize("card", [cards.VGG, cards.RESNET], ids=["vgg", "resnet"])
def test_preprocessing_is_kerass_own(card):
    module, _ = keras_networks.application(card)
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 255
    pixel = np.asarray(module.preprocess_input(red.copy()))[0, 0, 0]
    np.testing.assert_allclose(pixel, np.array([0, 0, 255]) - card.mean_bgr, rtol=1e-6)
    network = keras_networks.load(card, "random", top=False, image_size=32)
    assert network.preprocess(red).shape == (1, 32, 32, 3)
    np.testing.assert_allclose(network.preprocess(red)[0, 16, 16], pixel, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
def test_every_format_is_read_alike(resnet, tmp_path):
    arrays = named(resnet)
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    paths = [tmp_path / name for name in ("published.h5", "own.weights.h5", "own.npz")]
    write_legacy_h5(paths[0], arrays, lambda name: name.replace("predictions", "probs"))
    resnet.models["prob"].save_weights(paths[1])
    np.savez(paths[2], **arrays)
    for path in paths:
        read = keras_files.read(path, shapes, "ResNet50")
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
    other = keras_networks.load(cards.RESNET, "random", seed=2)
    other.models["prob"].load_weights(paths[0])  # Keras finds the same in the file that this test wrote
    np.testing.assert_array_equal(named(other)["predictions/kernel"], arrays["predictions/kernel"])
    features = keras_networks.load(cards.RESNET, paths[0], top=False, image_size=64)  # the classifier is left out
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
            keras_networks.load(cards.VGG, path, top=False, image_size=32)


def test_failed_download_and_wrong_size(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://…: None --\n[Errno -2] Name or service not known")

    monkeypatch.setattr(keras.applications.vgg16, "VGG16", fail)
    with pytest.raises(BadInput, match="^vgg16_weights.*cannot be fetched .*Name or service.*--weights$"):
        keras_networks.load(cards.VGG)
    with pytest.raises(BadInput, match="--image_size 64: VGG16's classifier reads 224 pixels only"):
        keras_networks.load(cards.VGG, "random", image_size=64)
    with pytest.raises(BadInput, match="--image_size 31: VGG16 needs 32 pixels or more"):
        keras_networks.load(cards.VGG, "random", top=False, image_size=31)
    with pytest.raises(BadInput, match="--seed -1: must be 0 or more"):
        keras_networks.load(cards.VGG, "random", seed=-1)
