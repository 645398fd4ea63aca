"""AlexNet as BVLC trained it on ImageNet (Caffe's `bvlc_alexnet`), by hand, with plain `tf.nn` operations.

    from alexnet import AlexNet
    from weights import cards, reading

    network = AlexNet(reading.load(cards.ALEXNET))             # fetches weights/bvlc-alexnet.npy when it is absent
    network.activations(pictures)                              # RGB, 0-255, any size -> (N, 1000) probabilities
    network.activations(pictures, layer="fc7")                 # -> (N, 4096), what a new classifier is trained on

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, in the
version that the Berkeley Vision and Learning Center trained and released: 57.1 % top-1 and 80.2 % top-5 on the
ImageNet validation set (centre crop), 60,965,224 parameters.
"""

import tensorflow as tf

from weights.cards import ALEXNET


def preprocess(images, size=ALEXNET.input_size, mean_bgr=ALEXNET.mean_bgr):
    """RGB pictures (N, height, width, 3), 0-255 -> (N, size, size, 3) as the weights expect them.

    Caffe read pictures with OpenCV, so the weights of conv1 take blue, green, red, in this order, minus the means
    of ImageNet's training pictures.
    """
    images = tf.image.resize(tf.cast(images, tf.float32), (size, size), method="bilinear")
    return images[..., ::-1] - mean_bgr


def preprocess_as_published(images, training):
    """The same step as the course of 2017 published it; the weights were not trained for this.

    Red, green, blue; minus one number, the picture's own mean, at inference and minus nothing in training;
    TensorFlow 1's resize, which takes the corner of a pixel for its centre and so shifts the picture.
    """
    images = tf.cast(images, tf.float32)
    if not training:
        images -= tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    size = (ALEXNET.input_size, ALEXNET.input_size)
    return tf.compat.v1.image.resize_bilinear(images, size, half_pixel_centers=False)


def conv(x, kernel, bias, stride=1, padding="SAME"):
    """Convolution and ReLU. x (N, H, W, C), kernel (h, w, C / groups, out).

    conv2, conv4 and conv5 have two groups: each half of the outputs sees one half of the inputs, because AlexNet
    was trained on two GPUs of 3 GB. `tf.nn.conv2d` reads the number of groups off the shapes.
    """
    return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + bias)


def normalize(x):
    """Local response normalisation: x / (1 + alpha / n * sum of x^2 over n = 5 neighbouring channels) ^ 0.75."""
    # Caffe divides alpha = 1e-4 by n, TensorFlow does not: 1e-4 / 5 = 2e-5. A radius of 2 makes 5 channels.
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


def max_pool(x):
    """The largest of 3x3 every 2: the windows overlap by one."""
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")


def flatten(x):
    """(N, 6, 6, 256) -> (N, 9216), row by row, the channels of one place side by side."""
    return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))


class AlexNet(tf.Module):
    """The network; `weights` is {layer: (kernel, bias)}, as `weights.reading.load` returns it.

    `as_published` rebuilds the course's graph: conv1 padded SAME, so that a row of zeros at the border enters
    pictures the weights never saw (sides 57-28-13-6; behind pool5 the shapes agree and nothing fails), and
    `preprocess_as_published`.
    """

    def __init__(self, weights, as_published=False):
        super().__init__(name="alexnet")
        self.as_published = as_published
        self.weights = {
            name: (tf.Variable(kernel, name=f"{name}/kernel"), tf.Variable(bias, name=f"{name}/bias"))
            for name, (kernel, bias) in weights.items()
        }

    def layers(self):
        """[(name, function)] in order; behind each line the output's height x width x channels."""
        w = self.weights
        padding = "SAME" if self.as_published else "VALID"
        return [
            ("conv1", lambda x: conv(x, *w["conv1"], stride=4, padding=padding)),  # 55 x 55 x  96, kernels 11 x 11
            ("norm1", normalize),                                                  # 55 x 55 x  96
            ("pool1", max_pool),                                                   # 27 x 27 x  96
            ("conv2", lambda x: conv(x, *w["conv2"])),                             # 27 x 27 x 256, 5 x 5, two groups
            ("norm2", normalize),                                                  # 27 x 27 x 256
            ("pool2", max_pool),                                                   # 13 x 13 x 256
            ("conv3", lambda x: conv(x, *w["conv3"])),                             # 13 x 13 x 384, 3 x 3
            ("conv4", lambda x: conv(x, *w["conv4"])),                             # 13 x 13 x 384, 3 x 3, two groups
            ("conv5", lambda x: conv(x, *w["conv5"])),                             # 13 x 13 x 256, 3 x 3, two groups
            ("pool5", max_pool),                                                   #  6 x  6 x 256
            ("fc6", lambda x: tf.nn.relu(tf.matmul(flatten(x), w["fc6"][0]) + w["fc6"][1])),            # 4096
            ("fc7", lambda x: tf.nn.relu(tf.matmul(x, w["fc7"][0]) + w["fc7"][1])),                     # 4096
            ("fc8", lambda x: tf.matmul(x, w["fc8"][0]) + w["fc8"][1]),                                 # 1000, logits
            ("prob", tf.nn.softmax),                                                                    # 1000
        ]  # fmt: skip

    def __call__(self, images, layer="prob", feature_extract=False):
        """Preprocessed pictures (N, 227, 227, 3) -> the output of the named layer; `feature_extract` means fc7.

        ValueError for a layer that is not there.
        """
        layer = "fc7" if feature_extract else layer
        names = [name for name, _ in self.layers()]
        if layer not in names:
            raise ValueError(f"no layer {layer!r}; there are {', '.join(names)}")
        x = images
        for name, function in self.layers():
            x = function(x)
            if name == layer:
                return x

    def preprocess(self, images, training=False):
        """RGB pictures (N, height, width, 3), 0-255 -> the network's input (N, 227, 227, 3)."""
        return preprocess_as_published(images, training) if self.as_published else preprocess(images)

    @tf.function(reduce_retracing=True)
    def activations(self, pictures, layer="prob", training=False):
        """RGB pictures (N, height, width, 3), 0-255, of any size -> the output of the named layer, in one graph."""
        return self(self.preprocess(pictures, training), layer=layer)
