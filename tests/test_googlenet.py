"""GoogLeNet against onnxruntime with seeded weights, and on real photos with the real ones."""

import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED, in_one_line
from PIL import Image

import googlenet
from caffe_classes import class_names
from common.errors import BadInput
from data import images
from weights import cards, reading

REAL_WEIGHTS = SHARED / "weights" / "bvlc_googlenet.npz"
PHOTOS = SHARED / "images" / "imagenet"
needs_real_files = pytest.mark.skipif(
    not (REAL_WEIGHTS.exists() and PHOTOS.exists()), reason="the real weights and photos are not here"
)

MODULES = {  # written out again, not imported: the tests must not agree with the code by construction
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip
ONNX_VALUES = {  # our layer -> the value of the shipped graph
    "conv1": "r1", "pool1": "r2", "norm1": "r3", "conv2": "r7", "norm2": "r8", "pool2": "r9", "inception_3a": "r23",
    "inception_4a": "r52", "pool4": "r109", "inception_5b": "r137", "pool5": "r138", "logits": "r143",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    """Seeded; the stem keeps the size of pixels, so that both normalisations bite; no bias is zero."""
    shapes = {"conv1/7x7_s2": (7, 7, 3, 64), "conv2/3x3_reduce": (1, 1, 64, 64), "conv2/3x3": (3, 3, 64, 192)}
    for module, (channels, one, reduce3, three, reduce5, five, pool) in MODULES.items():
        for layer, shape in {
            "1x1": (1, 1, channels, one),
            "3x3_reduce": (1, 1, channels, reduce3),
            "3x3": (3, 3, reduce3, three),
            "5x5_reduce": (1, 1, channels, reduce5),
            "5x5": (5, 5, reduce5, five),
            "pool_proj": (1, 1, channels, pool),
        }.items():
            shapes[f"inception_{module}/{layer}"] = shape
    shapes["loss3/classifier"] = (1024, 1000)
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        scale = np.sqrt(2 / np.prod(shape[:-1])) * (1 / 40 if name.startswith("inception_3a") else 1)
        kernel = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        weights[name] = (kernel, rng.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1))
    return weights


@pytest.fixture(scope="module")
def network(weights):
    return googlenet.GoogLeNet(weights)


def close(ours, theirs, tolerance=1e-4):
    """Equal to `tolerance` of the range of the values."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def as_caffe_pools(graph):
    """The shipped graph rounds sizes of pooled maps down (55, 27, 13, 6); Caffe, for which the network was trained,
    rounds them up (56, 28, 14, 7): one row more at the end, which a pool never chooses from."""
    for node in graph.node:
        pads = next((attribute for attribute in node.attribute if attribute.name == "pads"), None)
        stride2 = any(attribute.name == "strides" and list(attribute.ints) == [2, 2] for attribute in node.attribute)
        if node.op_type == "MaxPool" and stride2:
            pads.ints[:] = [0, 0, 1, 1]
        if node.op_type == "AveragePool":  # 7x7 on what is now 7x7
            pads.ints[:] = [0, 0, 0, 0]


def test_equals_bvlc_graph_in_onnxruntime(network, weights, photos, onnx_session):
    arrays = {}
    for name, (kernel, bias) in weights.items():
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T[None, None]
        arrays[f"{name}_w_0"], arrays[f"{name}_b_0"] = np.ascontiguousarray(kernel), bias
    values = list(ONNX_VALUES.values())
    session = onnx_session("light_inception_v1", arrays, ["N", 3, 224, 224], values, as_caffe_pools)
    cropped = photos[:1, 1:225, 1:225]
    pixels = cropped[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    prob, *theirs = session.run(["prob_1", *values], {"data_0": pixels.transpose(0, 3, 1, 2)})
    for layer, expected in zip(ONNX_VALUES, theirs):
        if layer == "pool5":
            expected = expected.reshape(1, 1024)
        close(network(pixels, layer=layer), expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected)
    close(network(pixels), prob)
    close(network.activations(cropped), prob)  # with our own preprocessing
    assert prob.max() < 0.9  # not saturated: every layer has a say


def test_pool_rounds_up_as_caffe_does():
    """Caffe's formula, window by window: the last one may hang over the border, where it takes what there is."""
    for side in (5, 6, 7, 8, 13, 14):
        x = np.random.default_rng(side).normal(size=(1, side, side, 2)).astype(np.float32)
        starts = range(0, 2 * int(np.ceil((side - 3) / 2)) + 1, 2)
        expected = [[x[0, row : row + 3, column : column + 3].max((0, 1)) for column in starts] for row in starts]
        np.testing.assert_array_equal(googlenet.max_pool(x)[0], expected)


def test_shapes_and_parameters(network):
    sides = {"conv1": (112, 64), "pool1": (56, 64), "norm2": (56, 192), "pool2": (28, 192), "inception_3b": (28, 480),
             "pool3": (14, 480), "inception_4e": (14, 832), "pool4": (7, 832), "inception_5b": (7, 1024)}  # fmt: skip
    image = np.zeros((1, 224, 224, 3), np.float32)
    for layer, (side, channels) in sides.items():
        assert network(image, layer=layer).shape == (1, side, side, channels)
    assert network(image, layer="pool5").shape == (1, 1024)
    assert sum(int(tf.size(variable)) for variable in network.variables) == 6_998_552 == cards.GOOGLENET.parameters
    with pytest.raises(ValueError, match="pool6.*conv1, pool1"):
        network(image, layer="pool6")


def test_smaller_images_and_preprocessing(weights):
    small = googlenet.GoogLeNet(weights, image_size=64)
    red = np.zeros((1, 8, 9, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(small.preprocess(red)[0, 32, 32], [-104, -117, 255 - 123], rtol=1e-6)
    assert small.preprocess(red).shape == (1, 64, 64, 3)
    assert small.activations(red, layer="pool5").shape == (1, 1024)


def test_the_same_network_at_another_size(weights):
    """It equals one that was loaded for that size, has the first one's variables, and leaves it as it is."""
    large, expected = googlenet.GoogLeNet(weights, image_size=64), googlenet.GoogLeNet(weights, image_size=32)
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    large.activations(image, layer="pool5")  # its graph is compiled, for 64 pixels
    small = large.at(32)
    for layer in "inception_5b", "pool5":
        assert small.output_shape(layer) == expected.output_shape(layer)
    np.testing.assert_array_equal(small.activations(image, layer="pool5"), expected.activations(image, layer="pool5"))
    assert all(one is other for one, other in zip(small.variables, large.variables, strict=True))
    assert "32 to" in in_one_line(large.at, 31) and (small.image_size, large.image_size) == (32, 64)


def test_bfloat16_is_near_float32(network, weights, photos):
    bfloat16 = googlenet.GoogLeNet(weights, dtype=tf.bfloat16)
    ours, exact = (n.activations(photos, layer="pool5").numpy() for n in (bfloat16, network))
    assert ours.dtype == np.float32
    assert 1e-4 < np.linalg.norm(ours - exact) / np.linalg.norm(exact) < 0.03  # three digits; and really computed so


def read_photo(path):
    return np.asarray(Image.open(path).convert("RGB"))


@needs_real_files
def test_real_weights_on_real_photos():
    network = googlenet.GoogLeNet(reading.load(cards.GOOGLENET, REAL_WEIGHTS))
    poodle, weasel = (read_photo(SHARED / "images" / f"{name}.png")[1:225, 1:225] for name in ("poodle", "weasel"))
    for photo, expected in (
        (poodle, {"miniature poodle": 0.498, "toy poodle": 0.410}),
        (weasel, {"weasel": 0.863, "polecat": 0.086}),
    ):
        probabilities = network.activations(photo[None]).numpy()[0]
        for index, (name, probability) in zip(np.argsort(-probabilities), expected.items()):
            assert class_names[index].startswith(name)
            assert abs(probabilities[index] - probability) < 0.001
    ids = [line.split()[0] for line in (SHARED / "facts" / "synset_words.txt").read_text().splitlines()]
    paths = sorted(PHOTOS.glob("*.JPEG"))
    truth = np.array([ids.index(path.name.split("_")[0]) for path in paths])
    assert len(paths) == 30
    for how, top1 in (("squeeze", 25), ("crop", 24)):  # of 1,000 such photos 788 and 747, and 938 and 927 among five
        photos = images.read_all(paths, images.as_trained(how, 224, 224))
        order = np.argsort(-network.activations(photos).numpy(), axis=1)
        assert (order[:, 0] == truth).sum() == top1
        assert (order[:, :5] == truth[:, None]).any(axis=1).sum() == 30


@needs_real_files
def test_another_networks_weights_are_refused():
    with pytest.raises(BadInput, match="is not BVLC AlexNet: conv1 is missing"):
        reading.load(cards.ALEXNET, REAL_WEIGHTS)
