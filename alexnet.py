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

POOLED_SIDE = 4  # places along a side of a map that a head looks at


def preprocess(images, card=ALEXNET, image_size=None):
    """RGB pictures (N, height, width, 3), 0-255 -> (N, size, size, 3) as the card's weights expect them.

    Resized to the card's input size, or to `image_size`: for AlexNet 227 pixels, since 11x11 windows every 4 fit
    exactly, (227 - 11) / 4 + 1 = 55. Caffe read pictures with OpenCV, so the first layer takes blue, green, red, in
    this order, minus their means over ImageNet's training pictures: 104, 117, 123.
    """
    size = image_size or card.input_size
    images = tf.image.resize(tf.cast(images, tf.float32), (size, size), method="bilinear")
    return images[..., ::-1] - card.mean_bgr


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
    was trained on two GPUs of 3 GB.
    """
    groups = x.shape[-1] // kernel.shape[2]
    # conv2d would read the groups off the shapes, as fast, but not every processor has that gradient.
    parts = zip(tf.split(x, groups, axis=-1), tf.split(kernel, groups, axis=-1))
    x = tf.concat([tf.nn.conv2d(part, weights, stride, padding) for part, weights in parts], axis=-1)
    return tf.nn.relu(x + bias)


def normalize(x):
    """Local response normalisation: x / (1 + alpha / n * sum of x^2 over n = 5 neighbouring channels) ^ 0.75."""
    # Caffe divides alpha = 1e-4 by n, TensorFlow does not: 1e-4 / 5 = 2e-5. A radius of 2 makes 5 channels.
    if x.dtype == tf.bfloat16:  # processors have no kernel for it: the sums as a product with a band of ones
        band = tf.linalg.band_part(tf.ones((x.shape[-1], x.shape[-1])), 2, 2)[None, None]
        root = tf.math.rsqrt(1 + tf.nn.conv2d(x * x, tf.cast(2e-5 * band, x.dtype), 1, "SAME"))
        return x * root * tf.sqrt(root)
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


def max_pool(x):
    """The largest of 3x3 every 2: the windows overlap by one."""
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")


def dense(x, kernel, bias):
    """x (N, in), kernel (in, out) -> (N, out)."""
    return tf.matmul(x, kernel) + bias


def pooled(x):
    """A map (N, H, W, C) -> (N, up to 4 x 4 x C), averages over its parts; what is flat already stays as it is.

    For a head on an early layer: pool2's 13 x 13 x 256 would be 43,264 features a picture, most of them neighbours
    that say the same.
    """
    if len(x.shape) == 2:
        return x
    windows = [-(-side // POOLED_SIDE) for side in x.shape[1:3]]
    return flatten(tf.nn.avg_pool2d(x, windows, windows, "SAME"))


def variable(array, name):
    """A variable with the numbers of the array, which must then stay as it is (`weights.reading` makes it read-only).

    `tf.Variable(array)` would copy it twice. An operation's input is copied once, or not at all where it is aligned, as
    `weights.reading` sees to: the variable then stands on the array's memory, and takes its own when it is changed.
    """
    return tf.Variable(tf.raw_ops.Identity(input=array), name=name)


def softmax(x):
    """Logits -> probabilities, in float32 whatever the network computes in."""
    return tf.nn.softmax(tf.cast(x, tf.float32))


def flatten(x):
    """(N, 6, 6, 256) -> (N, 9216), row by row, the channels of one place side by side."""
    return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))


class Network(tf.Module):
    """What AlexNet and GoogLeNet share: their variables, and running the layers up to the one that is asked for.

    `weights` is {layer: (kernel, bias)}, as `weights.reading.load` returns it. `dtype`: tf.bfloat16 computes faster on
    processors that have it; variables and results are float32 either way. `layers(weights)`, [(name, function)] in
    order, is the network's own.
    """

    card = None  # of the weights, see weights/cards.py
    dropped = {}  # {layer: share of its output that becomes 0 in training}

    def __init__(self, weights, image_size=None, dtype=tf.float32):
        super().__init__(name=self.card.name)
        self.image_size = image_size or self.card.input_size
        self.dtype = dtype
        self.normalize = normalize  # `fast_alexnet.normalize` computes the same faster
        self.weights = {
            name: (variable(kernel, f"{name}/kernel"), variable(bias, f"{name}/bias"))
            for name, (kernel, bias) in weights.items()
        }

    def __call__(self, x, layer="prob", feature_extract=False, after=None, dropout_seed=None):
        """Preprocessed pictures (N, size, size, 3) -> the output of the named layer, float32.

        `feature_extract` stands for the bottleneck, AlexNet's fc7. `after`: x is the output of this layer, and only the
        layers behind it are run. `dropout_seed`: two integers, for training. ValueError for a layer that is not there.
        """
        layer = self.card.bottleneck if feature_extract else layer
        chosen = self.names_between(after, layer)
        needed = {name: pair for name, pair in self.weights.items() if self.layer_of(name) in chosen}
        weights = tf.nest.map_structure(lambda variable: tf.cast(variable, self.dtype), needed)
        x = tf.cast(x, self.dtype)
        for number, (name, function) in enumerate(self.layers(weights)):
            if name in chosen:
                x = function(x)
                if dropout_seed is not None and name in self.dropped:
                    seed = tf.random.experimental.stateless_fold_in(dropout_seed, number)  # layers drop independently
                    x = tf.nn.experimental.stateless_dropout(x, self.dropped[name], seed)
        return tf.cast(x, tf.float32)

    def names_between(self, after, layer):
        """The layers behind `after` (None: from the first one on) up to `layer`."""
        names = [name for name, _ in self.layers(self.weights)]
        for name in {after, layer} - {None, *names}:
            raise ValueError(f"no layer {name!r}; there are {', '.join(names)}")
        return names[names.index(after) + 1 if after else 0 : names.index(layer) + 1]

    def variables_between(self, after, layer):
        """The kernels and biases of those layers, in their order."""
        names = self.names_between(after, layer)
        return [each for name, pair in self.weights.items() if self.layer_of(name) in names for each in pair]

    def layer_of(self, weights_name):
        """Which layer reads these weights."""
        return weights_name

    def preprocess(self, pictures, training=False):
        """RGB pictures (N, height, width, 3), 0-255 -> the network's input (N, size, size, 3)."""
        return preprocess(pictures, self.card, self.image_size)

    @tf.function(reduce_retracing=True, autograph=False)
    def activations(self, pictures, layer="prob", training=False):
        """RGB pictures (N, height, width, 3), 0-255, of any size -> the output of the named layer, in one graph."""
        return self(self.preprocess(pictures, training), layer=layer)


class AlexNet(Network):
    """BVLC AlexNet; for `weights` and `dtype` see `Network`.

    `as_published` rebuilds the course's graph: conv1 padded SAME, so that a row of zeros at the border enters
    pictures the weights never saw (sides 57-28-13-6; behind pool5 the shapes agree and nothing fails), and
    `preprocess_as_published`.
    """

    card = ALEXNET
    dropped = {"fc6": 0.5, "fc7": 0.5}  # as in the paper, section 4.2

    def __init__(self, weights, as_published=False, dtype=tf.float32):
        super().__init__(weights, dtype=dtype)
        self.as_published = as_published

    def layers(self, w):
        """[(name, function)] in order; behind each line the output's height x width x channels."""
        padding = "SAME" if self.as_published else "VALID"
        return [
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

    def preprocess(self, pictures, training=False):
        """RGB pictures (N, height, width, 3), 0-255 -> the network's input (N, 227, 227, 3)."""
        return preprocess_as_published(pictures, training) if self.as_published else preprocess(pictures)
