"""AlexNet as BVLC trained it on ImageNet (Caffe's `bvlc_alexnet`), by hand, with plain `tf.nn` operations.

    from alexnet import AlexNet
    from weights import cards, reading

    network = AlexNet(reading.load(cards.ALEXNET))             # fetches weights/bvlc-alexnet.npy when it is absent
    network.activations(images)                              # RGB, 0-255, any size -> (N, 1000) probabilities
    network.activations(images, layer="fc7")                 # -> (N, 4096), what a new classifier is trained on

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, in the
version that the Berkeley Vision and Learning Center trained and released: 57.1 % top-1 and 80.2 % top-5 on the
ImageNet validation set (centre crop), 60,965,224 parameters.
"""

import tensorflow as tf

from common.errors import BadInput
from networks.network import Layers, Network, Normalize, Weights
from weights.cards import ALEXNET


class AlexNet(Network):
    """BVLC AlexNet; for `weights`, `dtype` and `normalize` see `Network`.

    `image_size`: the convolutions take any from 67 pixels on. fc6 multiplies 6 x 6 x 256 numbers, so it and the layers
    above it are there at 227 pixels only.

    `as_published` rebuilds the course's graph of 2017, to compare with its numbers: conv1 padded SAME, so that border
    positions see zeros, which the weights were not trained for (sides 57-28-13-6; after pool5 the shapes agree again,
    so nothing fails), and its preprocessing.
    """

    card = ALEXNET

    def __init__(
        self,
        weights: Weights,
        *,
        image_size: int | None = None,
        dtype: tf.DType = tf.float32,
        normalize: Normalize | None = None,
        as_published: bool = False,
    ) -> None:
        normalize = normalize or local_response_normalization
        super().__init__(weights, image_size=image_size, dtype=dtype, normalize=normalize)
        self.as_published = as_published
        if as_published and self.image_size != self.card.input_size:
            raise BadInput(f"--image_size {image_size}: --as_published computes what the course did, from "
                           f"{self.card.input_size} pixels; leave one of the two out")  # fmt: skip

    def layers(self, w: Weights) -> Layers:
        """[(name, function)] in order; at the end of each line its output's height x width x channels."""
        padding = "SAME" if self.as_published else "VALID"
        layers = [
            ("conv1", lambda x: conv(x, *w["conv1"], stride=4, padding=padding)),  # 55 x 55 x  96, kernels 11 x 11
            ("norm1", self.normalize),                                             # 55 x 55 x  96
            ("pool1", max_pool),                                                   # 27 x 27 x  96
            ("conv2", lambda x: conv(x, *w["conv2"])),                             # 27 x 27 x 256, 5 x 5, two groups
            ("norm2", self.normalize),                                             # 27 x 27 x 256
            ("pool2", max_pool),                                                   # 13 x 13 x 256
            ("conv3", lambda x: conv(x, *w["conv3"])),                             # 13 x 13 x 384, 3 x 3
            ("conv4", lambda x: conv(x, *w["conv4"])),                             # 13 x 13 x 384, 3 x 3, two groups
            ("conv5", lambda x: conv(x, *w["conv5"])),                             # 13 x 13 x 256, 3 x 3, two groups
            ("pool5", max_pool),                                                   #  6 x  6 x 256
            ("fc6", lambda x: tf.nn.relu(dense(flatten(x), *w["fc6"]))),           # 4096
            ("fc7", lambda x: tf.nn.relu(dense(x, *w["fc7"]))),                    # 4096
            ("fc8", lambda x: dense(x, *w["fc8"])),                                # 1000, logits
            ("prob", softmax),                                                     # 1000
        ]  # fmt: skip
        whole = self.image_size == self.card.input_size
        return layers if whole else [layer for layer in layers if layer[0] not in self.card.fixed_layers]

    def preprocess(self, images: tf.Tensor) -> tf.Tensor:
        """RGB images (N, height, width, 3), 0-255 -> the network's input (N, size, size, 3).

        As published: red, green, blue, minus the image's own mean, one number. The weights were not trained for this.
        """
        if not self.as_published:
            return super().preprocess(images)
        images = tf.cast(images, tf.float32)
        return self.preprocess_features(images - tf.reduce_mean(images, (1, 2, 3), keepdims=True))

    def preprocess_features(self, images: tf.Tensor) -> tf.Tensor:
        """The same for a head of one's own. As published: nothing is subtracted where a head was trained."""
        if not self.as_published:
            return super().preprocess_features(images)
        # TensorFlow 1's resize takes the corner of a pixel for its centre and so shifts the image.
        size = (self.image_size, self.image_size)
        return tf.compat.v1.image.resize_bilinear(tf.cast(images, tf.float32), size, half_pixel_centers=False)


def conv(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, stride: int = 1, padding: str | list[list[int]] = "SAME"
) -> tf.Tensor:
    """Convolution and ReLU. x (N, H, W, C), kernel (h, w, C / groups, out).

    conv2, conv4 and conv5 have two groups: each half of the outputs sees one half of the inputs, because AlexNet
    was trained on two GPUs of 3 GB.
    """
    groups = x.shape[-1] // kernel.shape[2]
    # conv2d takes such padding, too, but oneDNN has no gradient for it: in bfloat16, one such layer took more time than
    # the rest of GoogLeNet.
    if not isinstance(padding, str):
        x, padding = tf.pad(x, padding), "VALID"
    if groups == 1:
        return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + bias)
    # conv2d would read the groups off the shapes, as fast, but not every processor has that gradient.
    parts = zip(tf.split(x, groups, axis=-1), tf.split(kernel, groups, axis=-1))
    x = tf.concat([tf.nn.conv2d(part, weights, stride, padding) for part, weights in parts], axis=-1)
    return tf.nn.relu(x + bias)


def local_response_normalization(x: tf.Tensor) -> tf.Tensor:
    """Local response normalisation: x / (1 + alpha / n * sum of x^2 over n = 5 neighbouring channels) ^ 0.75."""
    # Caffe divides alpha = 1e-4 by n, TensorFlow does not: 1e-4 / 5 = 2e-5. A radius of 2 makes 5 channels.
    if x.dtype == tf.bfloat16:  # processors have no kernel for it: the sums as a product with a band of ones
        band = tf.linalg.band_part(tf.ones((x.shape[-1], x.shape[-1])), 2, 2)[None, None]
        root = tf.math.rsqrt(1 + tf.nn.conv2d(x * x, tf.cast(2e-5 * band, x.dtype), 1, "SAME"))
        return x * root * tf.sqrt(root)
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """The maximum of 3x3 windows every 2 pixels: they overlap by one."""
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")


def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x (N, in), kernel (in, out) -> (N, out)."""
    return tf.matmul(x, kernel) + bias


def softmax(x: tf.Tensor) -> tf.Tensor:
    """Logits -> probabilities, in float32 whatever the network computes in."""
    return tf.nn.softmax(tf.cast(x, tf.float32))


def flatten(x: tf.Tensor) -> tf.Tensor:
    """(N, 6, 6, 256) -> (N, 9216), row by row, the channels of one position side by side."""
    return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
