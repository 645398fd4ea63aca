"""What AlexNet and GoogLeNet share: their variables, preprocessing, and running the layers between two names."""

import math

import tensorflow as tf

POOLED_SIDE = 4  # places along a side of a map that a head looks at


class Network(tf.Module):
    """What AlexNet and GoogLeNet share: their variables, and running the layers up to the one that is asked for.

    `weights` is {layer: (kernel, bias)}, as `weights.reading.load` returns it. `dtype`: tf.bfloat16 computes faster on
    processors that have it; variables and results are float32 either way. `layers(weights)`, [(name, function)] in
    order, is the network's own, and so is `normalize`, its local response normalisation (`transfer.fast.normalize`
    computes the same faster).
    """

    card = None  # of the weights, see weights/cards.py
    dropped = {}  # {layer: share of its output that becomes 0 in training}

    def __init__(self, weights, normalize, image_size=None, dtype=tf.float32):
        super().__init__(name=self.card.name)
        self.normalize = normalize
        self.image_size = image_size or self.card.input_size
        self.dtype = dtype
        self.weights = {
            name: (variable(kernel, f"{name}/kernel"), variable(bias, f"{name}/bias"))
            for name, (kernel, bias) in weights.items()
        }

    def __call__(self, x, layer="prob", feature_extract=False, after=None, dropout_seed=None):
        """Preprocessed images (N, size, size, 3) -> the output of the named layer, float32.

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

    def preprocess(self, images, training=False):
        """RGB images (N, height, width, 3), 0-255 -> the network's input (N, size, size, 3)."""
        return preprocess(images, self.card, self.image_size)

    @tf.function(reduce_retracing=True, autograph=False)
    def activations(self, images, layer="prob", training=False):
        """RGB images (N, height, width, 3), 0-255, of any size -> the output of the named layer, in one graph."""
        return self(self.preprocess(images, training), layer=layer)


def preprocess(images, card, image_size=None):
    """RGB images (N, height, width, 3), 0-255 -> (N, size, size, 3) as the card's weights expect them.

    Resized to the card's input size, or to `image_size`: for AlexNet 227 pixels, since 11x11 windows every 4 fit
    exactly, (227 - 11) / 4 + 1 = 55. Caffe read images with OpenCV, so the first layer takes blue, green, red, in
    this order, minus their means over ImageNet's training images: 104, 117, 123.
    """
    size = image_size or card.input_size
    images = tf.image.resize(tf.cast(images, tf.float32), (size, size), method="bilinear")
    return images[..., ::-1] - card.mean_bgr


def variable(array, name):
    """A variable with the numbers of the array, which must then stay as it is (`weights.reading` makes it read-only).

    `tf.Variable(array)` would copy it twice. An operation's input is copied once, or not at all where it is aligned, as
    `weights.reading` sees to: the variable then stands on the array's memory, and takes its own when it is changed.
    """
    return tf.Variable(tf.raw_ops.Identity(input=array), name=name)


def pooled(x):
    """A map (N, H, W, C) -> (N, up to 4 x 4 x C), averages over its parts; what is flat already stays as it is.

    For a head on an early layer: pool2's 13 x 13 x 256 would be 43,264 features per image, most of them neighbours
    that say the same.
    """
    if len(x.shape) == 2:
        return x
    windows = [-(-side // POOLED_SIDE) for side in x.shape[1:3]]
    x = tf.nn.avg_pool2d(x, windows, windows, "SAME")
    return tf.reshape(x, (-1, math.prod(x.shape[1:])))
