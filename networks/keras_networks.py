"""VGG16 and ResNet50 from `keras.applications`, used as AlexNet and GoogLeNet are.

    from networks import keras_networks

    from weights import cards

    network = keras_networks.load(cards.VGG)                   # Keras fetches the weights into ~/.keras/models
    network.activations(images)                              # RGB, 0-255, any size -> (N, 1000) probabilities
    network.activations(images, layer="avg_pool")            # -> (N, 512), what a new classifier is trained on
    keras_networks.load(cards.VGG, "vgg16_notop.npz", top=False, image_size=64)  # own weights, features only

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014; He, Zhang, Ren and
Sun, "Deep residual learning for image recognition", 2015.
"""

import keras
import tensorflow as tf

from common.files import BadInput
from weights import keras_files

CLASSIFIER = ("fc1/", "fc2/", "predictions/")  # the layers, of either network, that a "notop" file lacks
SMALLEST = 32  # pixels: both networks halve the side five times


class KerasNetwork(tf.Module):
    """A network of `keras.applications` with two named layers: the card's bottleneck and, with a classifier, prob."""

    def __init__(self, model, card, image_size, dtype):
        super().__init__(name=card.name)
        self.card = card
        self.image_size, self.dtype = image_size, dtype
        last_map = [layer for layer in model.layers if len(layer.output.shape) == 4][-1]  # (N, height, width, channels)
        average = keras.layers.GlobalAveragePooling2D()(last_map.output)
        self.models = {card.bottleneck: keras.Model(model.input, average)}
        if len(model.output.shape) == 2:
            self.models["prob"] = model
        self.weights = {
            layer.name: tuple(variable.value for variable in layer.weights) for layer in model.layers if layer.weights
        }

    def __call__(self, images, layer="prob"):
        """Preprocessed images (N, size, size, 3) -> the output of the named layer, float32.

        BadInput for `prob` of a network without its classifier, ValueError for a layer that is not there.
        """
        if layer == "prob" and layer not in self.models:
            raise BadInput(f"{self.card.title} was loaded without its classifier: it gives features, not classes")
        if layer not in self.models:
            raise ValueError(f"no layer {layer!r}; there are {', '.join(self.models)}")
        return tf.cast(self.models[layer](images, training=False), tf.float32)

    def preprocess(self, images, training=False):
        """RGB images (N, height, width, 3), 0-255 -> the network's input (N, size, size, 3); alike in training."""
        size = (self.image_size, self.image_size)
        images = tf.image.resize(tf.cast(images, tf.float32), size, method="bilinear")
        return application(self.card)[0].preprocess_input(images)

    @tf.function(reduce_retracing=True, autograph=False)
    def activations(self, images, layer="prob", training=False):
        """RGB images (N, height, width, 3), 0-255, of any size -> the output of the named layer, in one graph."""
        return self(self.preprocess(images, training), layer=layer)


def load(card, source=None, seed=0, top=True, image_size=None, dtype=tf.float32):
    """Return the `KerasNetwork` of `card`.

    `source`: a file (see `weights.keras_files`), "random" (Keras's initial weights, seeded), or None: Keras fetches
    the published file and checks its hash.
    `top`: with the classifier, which reads images of the card's size; False: features of any `image_size`.
    `dtype`: tf.bfloat16 is twice as fast on processors that have it and changes VGG16's features by 0.6 %; weights
    and results are float32 either way.
    Raises BadInput when the file is not the network's or cannot be fetched.
    """
    image_size = image_size or card.input_size
    if image_size < SMALLEST:
        raise BadInput(f"--image_size {image_size}: {card.title} needs {SMALLEST} pixels or more")
    if top and image_size != card.input_size:
        raise BadInput(f"--image_size {image_size}: {card.title}'s classifier reads {card.input_size} pixels only")
    if source == "random":
        if seed < 0:
            raise BadInput(f"--seed {seed}: must be 0 or more")
        keras.utils.set_random_seed(seed)
    if source is not None:
        model = build(card, top, image_size, dtype, weights=None)
        if source != "random":
            fill(model, card, source)
        return KerasNetwork(model, card, image_size, dtype)
    try:
        return KerasNetwork(build(card, top, image_size, dtype, weights="imagenet"), card, image_size, dtype)
    except Exception as error:  # Keras raises nothing more special when a download fails
        reason = " ".join(str(error).split())
        raise BadInput(f"{card.file}: cannot be fetched ({reason:.200}); give a file with --weights") from None


def application(card):
    """Return Keras's module for the network, which has `preprocess_input`, and the function that builds it."""
    module, function = card.application.split(".")
    module = getattr(keras.applications, module)
    return module, getattr(module, function)


def build(card, top, image_size, dtype, weights):
    """Return the Keras model. Under Keras's "mixed" policies variables stay float32, `dtype` is computed in."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32" if dtype == tf.float32 else f"mixed_{dtype.name}")
    try:
        shape = (image_size, image_size, 3)
        return application(card)[1](include_top=top, weights=weights, input_shape=shape)
    finally:
        keras.mixed_precision.set_global_policy(policy)


def fill(model, card, path):
    """Put the arrays of a file into the model's variables."""
    variables = {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    for name, array in keras_files.read(path, shapes, card.title, CLASSIFIER).items():
        variables[name].assign(array)
