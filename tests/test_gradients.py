"""Gradients of what AlexNet has of its own: local response normalisation, convolution in two groups."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import alexnet
import googlenet
from transfer import fast


def gradients(function, output_gradient, *inputs):
    """Of the sum of function(*inputs) * output_gradient, in one graph, float64 arrays."""

    @tf.function(autograph=False)
    def run(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            result = function(*inputs)
        return tape.gradient(result, inputs, tf.cast(output_gradient, result.dtype))

    return [tf.cast(gradient, tf.float64).numpy() for gradient in run(*inputs)]


def differences(function, output_gradient, inputs, number, places, step=1e-5):
    """The same by central differences in float64, at some places of one input."""
    slopes = []
    for place in places:
        ends = []
        for sign in 1, -1:
            moved = [array.astype(np.float64) for array in inputs]
            moved[number].flat[place] += sign * step
            ends.append((function(*moved) * output_gradient).sum())
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return np.array(slopes)


def lrn(x):
    """The formula, in NumPy."""
    squares = np.pad(x**2, ((0, 0),) * 3 + ((2, 2),))
    return x / (1 + 1e-4 / 5 * sum(squares[..., shift : shift + x.shape[-1]] for shift in range(5))) ** 0.75


def grouped(x, kernel, bias):
    """Convolution 3x3, SAME, two groups, and ReLU, in NumPy."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    half, outputs = kernel.shape[2], kernel.shape[3] // 2
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # N, H, W, C, 3, 3
    parts = [
        np.einsum("nhwcyx,yxco->nhwo", windows[:, :, :, group * half : (group + 1) * half], part)
        for group, part in enumerate(np.split(kernel, [outputs], axis=3))
    ]
    return np.maximum(np.concatenate(parts, axis=3) + bias, 0)


def close(ours, expected, dtype):
    """To `dtype`'s precision, as a share of the largest."""
    tolerance = 1e-5 if dtype == tf.float32 else 0.03  # bfloat16 has 8 bits
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("normalize", [alexnet.local_response_normalization, fast.normalize], ids=["alexnet", "fast"])
def test_gradient_of_normalisation(normalize, dtype):
    rng = np.random.default_rng(0)
    x = tf.cast(rng.normal(0, 150, (2, 3, 4, 24)), dtype)  # so large that the denominator matters: 1 to 5
    weight = tf.cast(rng.normal(size=x.shape), dtype)
    exact = tf.cast(x, tf.float64).numpy(), tf.cast(weight, tf.float64).numpy()
    places = [0, 1, 22, 23, *rng.choice(x.shape.num_elements(), 40, replace=False)]  # both ends of the channels
    expected = differences(lrn, exact[1], exact[:1], 0, places, step=1e-3)
    close(gradients(normalize, weight, x)[0].flat[places], expected, dtype)
    assert np.abs(expected / exact[1].flat[places] - 1).max() > 0.5  # far from passing the gradient on as it is


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_gradient_of_convolution_in_two_groups(dtype):
    rng = np.random.default_rng(1)
    inputs = [tf.cast(rng.normal(size=shape), dtype) for shape in [(2, 5, 6, 8), (3, 3, 4, 12), (12,)]]
    weight = tf.cast(rng.normal(size=(2, 5, 6, 12)), dtype)
    *exact, exact_weight = [tf.cast(each, tf.float64).numpy() for each in (*inputs, weight)]
    for number, ours in enumerate(gradients(alexnet.conv, weight, *inputs)):
        places = rng.choice(ours.size, min(ours.size, 40), replace=False)
        close(ours.flat[places], differences(grouped, exact_weight, exact, number, places), dtype)


@pytest.mark.parametrize("kind", [alexnet.AlexNet, googlenet.GoogLeNet])
def test_gradients_of_convolutions_are_those_that_onednn_has(kind):
    """It has none for padding that is given in numbers. TensorFlow's own took 0.7 seconds for GoogLeNet's conv1."""
    network = kind.load(kind.card, "random", image_size=67)
    kernels = [arrays[0] for arrays in network.weights.values()]

    @tf.function(autograph=False)
    def run(images):
        with tf.GradientTape() as tape:
            features = network(images, "pool5")
        return tape.gradient(features, kernels)

    traced = run.get_concrete_function(tf.TensorSpec((2, 67, 67, 3)))
    nodes = [node for node in traced.graph.as_graph_def().node if node.op == "Conv2DBackpropFilter"]
    assert len(nodes) >= {"alexnet": 8, "googlenet": 57}[network.card.name]
    assert {node.attr["padding"].s for node in nodes} <= {b"SAME", b"VALID"}


@pytest.mark.slow
def test_gradient_of_convolution_in_two_groups_without_onednn():
    """TensorFlow's own kernels on the processor, as on processors or builds without oneDNN, know no groups."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "in_two_groups and not without", __file__]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout[-2000:]
