"""AlexNet against independent implementations: onnxruntime, a TensorFlow 1 graph, plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import in_one_line

import alexnet
from caffe_classes import class_names
from networks.network import preprocess
from weights.cards import ALEXNET


@pytest.fixture(scope="module")
def network(alexnet_weights):
    return alexnet.AlexNet(alexnet_weights)


def close(ours, theirs, tolerance=1e-4):
    """Equal to `tolerance` of the range of the values."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_equals_bvlc_graph_in_onnxruntime(network, alexnet_weights, photos, onnx_session):
    arrays = {}
    for name, (kernel, bias) in alexnet_weights.items():
        if name == "fc6":  # Caffe reads pool5 channel by channel
            kernel = kernel.reshape(6, 6, 256, 4096).transpose(2, 0, 1, 3).reshape(9216, 4096)
        order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        arrays[f"{name}_w_0"] = np.ascontiguousarray(kernel.transpose(order))
        arrays[f"{name}_b_0"] = bias
    session = onnx_session("light_bvlc_alexnet", arrays, ["N", 3, 227, 227], outputs=("r21",))
    pixels = photos[..., ::-1].astype(np.float32) - np.float32([104.00698793, 116.66876762, 122.67891434])
    for pixel in pixels:  # the graph's reshape is made for one image
        prob, fc7 = session.run(["prob_1", "r21"], {"data_0": pixel[None].transpose(0, 3, 1, 2)})
        close(network(pixel[None], layer="prob"), prob)
        close(network(pixel[None], feature_extract=True), fc7)
        assert prob.max() < 0.9  # not saturated: every layer has a say
    probabilities = network.activations(photos)  # with our own preprocessing
    close(probabilities[-1:], prob)


def test_as_published_equals_the_course_in_tensorflow_1(network, alexnet_weights, photos):
    v1 = tf.compat.v1

    def conv(x, layer, stride, padding, groups):
        kernel, bias = variables[layer]
        parts = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3))
        parts = [v1.nn.conv2d(a, b, [1, stride, stride, 1], padding=padding) for a, b in parts]
        return tf.nn.relu(tf.nn.bias_add(tf.concat(parts, 3), bias))

    def lrn(x):
        return tf.nn.local_response_normalization(x, depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)

    def pool(x):
        return v1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], padding="VALID")

    signs = photos[:, 40:72, 60:92]  # 32x32, as the signs are
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {  # fed, not constants: a graph's constants are copied several times
            layer: [v1.placeholder(tf.float32, array.shape) for array in arrays]
            for layer, arrays in alexnet_weights.items()
        }
        feed = {p: a for layer in variables for p, a in zip(variables[layer], alexnet_weights[layer])}
        images = v1.placeholder(tf.float32, (None, 32, 32, 3))
        x = v1.image.resize_images(images, (227, 227))
        x = pool(lrn(conv(x, "conv1", 4, "SAME", 1)))
        x = pool(lrn(conv(x, "conv2", 1, "SAME", 2)))
        x = conv(x, "conv3", 1, "SAME", 1)
        x = conv(x, "conv4", 1, "SAME", 2)
        x = pool(conv(x, "conv5", 1, "SAME", 2))
        x = tf.reshape(x, (-1, 9216))
        for layer in ("fc6", "fc7"):
            x = v1.nn.relu_layer(x, *variables[layer])
        prob = tf.nn.softmax(v1.nn.xw_plus_b(x, *variables["fc8"]))
        inference = np.stack([sign - sign.mean() for sign in signs.astype(np.float32)])
        theirs = session.run(prob, {images: inference, **feed})
        theirs_fc7 = session.run(x, {images: signs, **feed})
    published = alexnet.AlexNet(alexnet_weights, as_published=True)
    close(published.activations(signs), theirs)
    close(published.activations(signs, layer="fc7"), theirs_fc7)
    assert published(np.zeros((1, 227, 227, 3), np.float32), layer="conv1").shape == (1, 57, 57, 96)
    ours = network.activations(signs)
    assert np.abs(ours - theirs).max() > 1e-3 * theirs.max()  # the two ways do differ


def test_shapes_and_parameters(network):
    image = np.zeros((1, 227, 227, 3), np.float32)
    sides = {"conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96), "conv2": (27, 27, 256),
             "norm2": (27, 27, 256), "pool2": (13, 13, 256), "conv3": (13, 13, 384), "conv4": (13, 13, 384),
             "conv5": (13, 13, 256), "pool5": (6, 6, 256), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
             "prob": (1000,)}  # fmt: skip
    assert [name for name, _ in network.layers(network.weights)] == list(sides)
    for layer, shape in sides.items():
        assert network(image, layer=layer).shape == (1, *shape), layer
    assert sum(int(np.prod(variable.shape)) for variable in network.variables) == 60_965_224
    with pytest.raises(ValueError, match="fc9.*conv1, norm1"):
        network(image, layer="fc9")


def test_convolutions_take_other_sizes(alexnet_weights):
    """Each output at 163 pixels is that of the same window at 227, away from conv2's padded borders."""
    images = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    for size, side in (67, 1), (131, 3), (163, 4):
        smaller = alexnet.AlexNet(alexnet_weights, image_size=size)
        assert smaller.preprocess(images).shape == (1, size, size, 3)
        assert smaller.activations(images, layer="pool5").shape == (1, side, side, 256)
    x = np.random.default_rng(1).normal(0, 60, (1, 227, 227, 3)).astype(np.float32)
    large = alexnet.AlexNet(alexnet_weights)(x, layer="pool1")
    close(smaller(x[:, 32:195, 32:195], layer="pool1"), large[:, 4:23, 4:23])
    with pytest.raises(ValueError, match="no layer 'fc6'.*pool5"):
        smaller(x[:, 32:195, 32:195], layer="fc6")
    assert "67 to" in in_one_line(alexnet.AlexNet, alexnet_weights, image_size=66)
    assert "course" in in_one_line(alexnet.AlexNet, alexnet_weights, image_size=131, as_published=True)
    ALEXNET.checked_size(131, "pool5"), ALEXNET.checked_size(227, "fc7")
    assert "227 pixels only from fc6" in in_one_line(ALEXNET.checked_size, 131, "fc7")


def test_normalize_equals_numpy():
    x = np.random.default_rng(0).normal(0, 60, (2, 5, 4, 96)).astype(np.float32)
    expected = np.empty_like(x, dtype=np.float64)
    for c in range(96):
        window = x[..., max(0, c - 2) : c + 3].astype(np.float64)
        expected[..., c] = x[..., c] / (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
    close(alexnet.local_response_normalization(x), expected, 1e-6)


def test_grouped_convolution_equals_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 8)).astype(np.float32)
    kernel, bias = rng.normal(size=(3, 3, 4, 10)).astype(np.float32), rng.normal(size=10).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.empty((2, 7, 6, 10))
    for row in range(7):
        for column in range(6):
            patch = padded[:, row : row + 3, column : column + 3]
            for out in range(10):  # outputs 0-4 see channels 0-3, outputs 5-9 see channels 4-7
                half = patch[..., :4] if out < 5 else patch[..., 4:]
                expected[:, row, column, out] = (half * kernel[..., out]).sum((1, 2, 3)) + bias[out]
    close(alexnet.conv(x, kernel, bias), np.maximum(expected, 0), 1e-5)


def test_one_red_pixel_comes_last_and_minus_its_mean():
    red = np.zeros((1, 1, 1, 3), np.uint8)
    red[..., 0] = 255
    ours = preprocess(red, ALEXNET)
    assert ours.shape == (1, 227, 227, 3)
    np.testing.assert_allclose(ours[0, 100, 100], [-104.00698793, -116.66876762, 255 - 122.67891434], rtol=1e-6)


def test_preprocessing_resizes_as_pillow_does():
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((227, 227), Image.Resampling.BILINEAR), np.float32)
    ours = (preprocess(small[None], ALEXNET) + (104.00698793, 116.66876762, 122.67891434))[0, ..., ::-1]
    assert np.abs(ours - large).max() < 1.01  # Pillow rounds to whole numbers, once a direction


def test_class_names():
    assert len(class_names) == 1000
    assert class_names[266] == "miniature poodle" and class_names[356] == "weasel"
    assert class_names[0].startswith("tench") and class_names[999].startswith("toilet tissue")
