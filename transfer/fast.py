"""The same features as `Network.activations`, faster: for pushing many small images through frozen layers.

    from alexnet import AlexNet
    from transfer.fast import frozen

    network = AlexNet(weights, dtype=tf.bfloat16)
    features = frozen(network, image_shape=(32, 32, 3), layer="fc7")   # built once
    features(images)                                                 # uint8 (N, 32, 32, 3) -> float32 (N, 4096)

`alexnet.py` says what is computed; this module computes the same faster, and a test compares the two. What helps, on
two cores of a Zen 4 server:

* Small images never become 227 x 227: resizing and conv1 are one linear map, see `first_layer`.
* Local response normalisation is a few lines of arithmetic that `jit_compile` turns into one pass over memory: a third
  of the time of a product with a band of ones, an eighth of the library's.
* Weights are converted to bfloat16 once, not for every batch; float32 ones are not copied.

Larger images, other input sizes, `as_published` and GoogLeNet use the readable first layer and the rest of the above;
networks from Keras are compiled as they are.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from alexnet import AlexNet
from networks.network import Network, pooled

CONV1_OUTPUTS = 55  # along a side: (227 - 11) / 4 + 1
PAIRS = 28  # the 55 outputs two by two; the last pair has a dummy
LARGEST_FUSED = 64  # pixels; it pays at 96 too, but the matrices grow as the square: 58 MB at 32, 130 at 64, 230 at 96


def frozen(
    network: Network, image_shape: tuple[int, int, int], layer: str, pool: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function: uint8 images (n, height, width, 3), RGB -> float32 array, the output of the named layer.

    network: its `dtype` is computed in. To be built anew when weights have changed: some are copied, others are not.
    image_shape: (height, width, 3). The first call with another `n` compiles for it (1 to 4 s on a busy machine).
    pool: the output of an early layer as a head sees it, see `networks.network.pooled`. ValueError for unknown layers.
    """
    needed = network.names_between(None, layer)
    functions = network.layers(network.cast_weights(needed))
    layers = {name: normalize if name.startswith("norm") else function for name, function in functions}

    def prepare(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(network.preprocess_features(images), network.dtype)

    at_227 = isinstance(network, AlexNet) and network.image_size == network.card.input_size
    if at_227 and not network.as_published and max(image_shape[:2]) <= LARGEST_FUSED:
        prepare, layers["conv1"] = tf.identity, first_layer(network, image_shape)

    @tf.function(input_signature=[tf.TensorSpec((None, *image_shape), tf.uint8)], autograph=False)
    def run(images: tf.Tensor) -> tf.Tensor:
        x = prepare(images)
        for name in needed:
            x = layers[name](x)
        x = tf.cast(x, tf.float32)  # before it is averaged: bfloat16 would round sums of hundreds of numbers
        return pooled(x) if pool else x

    return lambda images: run(images).numpy()


@tf.custom_gradient
def normalize(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """`alexnet.local_response_normalization` in one pass over memory, and so its gradient, which needs nothing but x.

    y^-0.75 = rsqrt(y) * sqrt(rsqrt(y)), no `pow`. With the sums y = 1 + 2e-5 * (x^2 of five channels), the gradient is
    g * y^-0.75 - 2 * 0.75 * 2e-5 * x * (the five channels' g * x * y^-1.75).
    """
    return normalized(x), lambda gradient: normalized_gradient(x, gradient)


@tf.function(jit_compile=True, autograph=False)
def normalized(x: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(x, tf.float32)
    root = inverse_root(wide)
    return tf.cast(wide * root * tf.sqrt(root), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def normalized_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(x, tf.float32)
    root = inverse_root(wide)
    share = tf.cast(gradient, tf.float32) * root * tf.sqrt(root)
    return tf.cast(share - 1.5 * 2e-5 * wide * neighbours(share * wide * root**2), x.dtype)


def inverse_root(x: tf.Tensor) -> tf.Tensor:
    """y^-0.5 of the sums y."""
    return tf.math.rsqrt(1 + 2e-5 * neighbours(x * x))


def neighbours(x: tf.Tensor) -> tf.Tensor:
    """Sums over five neighbouring channels, as shifted additions."""
    padded = tf.pad(x, [[0, 0], [0, 0], [0, 0], [2, 2]])
    return tf.add_n([padded[..., shift : shift + x.shape[-1]] for shift in range(5)])


def first_layer(network: Network, image_shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function: uint8 (N, height, width, 3) -> what conv1 gives, (N, 55, 55, 96), without the large image.

    Resizing is linear: each of the 227 rows is a mix of two rows of the small image. Subtracting the mean and
    conv1, before its ReLU, are linear too, and so is one after the other.

    11 pixels of the large image cover 1.6 of 32: the aligned 2 x 2 outputs of conv1 see no more than 4 x 4
    pixels of the small one. So conv1 becomes 28 x 28 small matrices, each from the 4 * 4 * 3 = 48 numbers of its window
    to 2 * 2 outputs of 96 channels, multiplied in one batched product: 29 MFLOP per image instead of 211 for conv1
    alone, and 58 MB of float32 or half of it in bfloat16, built in half a second. Resize and conv1 are 2.5 to 6 times
    as fast, the same to 1e-6 of the range.
    """
    height, width, _ = image_shape
    kernel, bias = (variable.numpy() for variable in network.weights["conv1"])
    mean = np.float32(network.card.mean_bgr)[::-1]
    kernel = kernel[:, :, ::-1]  # red, green, blue, as the images come
    rows, row_shares = windows(height)
    columns, column_shares = windows(width)
    # v, h: pairs; i, j: row and column in the pair; y, x: 11 x 11 pixels; a, b: window; c: colour; o: output
    fused = np.einsum("viya,yxco->viaxco", row_shares, kernel)
    fused = np.einsum("viaxco,hjxb->vhabcijo", fused, column_shares, optimize=True)
    whole = np.round(mean)  # subtracted from the pixels, which stays exact in bfloat16
    bias = tf.constant(bias - np.einsum("yxco,c->o", kernel, mean - whole))
    fused = tf.cast(fused.reshape(PAIRS * PAIRS, -1, 4 * kernel.shape[-1]), network.dtype)
    places = rows[:, None, :, None] * width + columns[None, :, None, :]  # of a window's pixels in the image
    places = places.reshape(-1)

    @tf.function(jit_compile=True, autograph=False)
    def in_order(x: tf.Tensor) -> tf.Tensor:
        x = tf.reshape(x, (PAIRS, PAIRS, -1, 2, 2, bias.shape[0]))
        x = tf.reshape(tf.transpose(x, (2, 0, 3, 1, 4, 5)), (-1, 2 * PAIRS, 2 * PAIRS, bias.shape[0]))
        return tf.cast(tf.nn.relu(tf.cast(x[:, :CONV1_OUTPUTS, :CONV1_OUTPUTS], tf.float32) + bias), x.dtype)

    def conv1(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(tf.cast(images, tf.float32) - whole, network.dtype)
        pixels = tf.reshape(tf.transpose(pixels, (1, 2, 3, 0)), (height * width, -1))
        patches = tf.reshape(tf.gather(pixels, places), (PAIRS * PAIRS, fused.shape[1], -1))
        return in_order(tf.matmul(tf.transpose(patches, (0, 2, 1)), fused))

    return conv1


def windows(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pairs of conv1's outputs look along a side of `size` pixels, and how much of each pixel they see.

    Returns indices (28, taps) and shares (28, 2, 11, taps): a pixel of the 11 under the kernel is this mix of `taps`
    pixels.
    """
    resize = tf.image.resize(tf.eye(size)[:, :, None], (227, size)).numpy()[..., 0]  # (227, size), linear along rows
    resize = np.concatenate([resize, np.zeros((4, size), np.float32)])  # for the dummy
    shares = np.stack([resize[4 * output : 4 * output + 11] for output in range(2 * PAIRS)])
    shares[-1] = 0
    shares = shares.reshape(PAIRS, 2, 11, size)
    seen = shares.any(axis=(1, 2))
    first, last = seen.argmax(1), size - seen[:, ::-1].argmax(1)
    taps = (last - first).max()
    indices = np.minimum(first, size - taps)[:, None] + np.arange(taps)
    return indices, np.take_along_axis(shares, indices[:, None, None, :], axis=3)
