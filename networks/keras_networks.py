"""VGG16 and ResNet50 from `keras.applications`, used exactly as AlexNet and GoogLeNet are.

    from networks.keras_networks import KerasNetwork
    from weights import cards

    network = KerasNetwork.load(cards.VGG)                   # Keras downloads the weights into ~/.keras/models
    network.activations(images)                              # RGB, 0-255, any size -> (N, 1000) probabilities
    network.activations(images, layer="avg_pool")            # -> (N, 512), what a new classifier is trained on
    KerasNetwork.load(cards.VGG, "vgg16_notop.npz", features_only=True, image_size=64)  # your own weights

The layers between which it can be cut, with their outputs at 224 x 224 pixels:

    VGG16                                    ResNet50
    block1_pool   112 x 112 x  64            pool1_pool         56 x 56 x   64
    block2_pool    56 x  56 x 128            conv2_block1_out   56 x 56 x  256   ... conv2_block3_out
    block3_pool    28 x  28 x 256            conv3_block1_out   28 x 28 x  512   ... conv3_block4_out
    block4_pool    14 x  14 x 512            conv4_block1_out   14 x 14 x 1024   ... conv4_block6_out
    block5_pool     7 x   7 x 512            conv5_block1_out    7 x  7 x 2048   ... conv5_block3_out
    avg_pool      512                        avg_pool         2048
    fc1          4096, reads block5_pool
    fc2          4096
    logits       1000                        logits           1000
    prob         1000                        prob             1000

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014; He, Zhang, Ren and
Sun, "Deep residual learning for image recognition", 2015.
"""

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from common.errors import BadInput, reason
from networks.network import Layers, Network, Weights
from weights import keras_files, reading
from weights.cards import Card

DENSE = ("fc1", "fc2", "predictions")  # the classifier's layers, of either network, which a "notop" file lacks
CLASSIFIER = tuple(f"{layer}/" for layer in DENSE)


class KerasNetwork(Network):
    """A network of `keras.applications`, cut at the ends of its blocks. `load` builds one.

    Batch normalisation stays in inference mode, also in fine-tuning: it scales and shifts by ImageNet's statistics,
    which do not move, while its own scale and shift (gamma, beta) are trained like any kernel and bias. Statistics of
    small batches would be noisy, would differ from those used afterwards, and would make an image's result depend on
    its neighbours in the batch, so that two devices would no longer compute the same as one.
    """

    def __init__(self, model: keras.Model, card: Card, image_size: int, dtype: tf.DType) -> None:
        """model: as `build` returns it, with or without classifier."""
        self.card = card
        super().__init__({}, image_size=image_size, dtype=dtype)
        self.model = model
        self.weights = {
            layer.name: tuple(variable.value for variable in layer.weights) for layer in model.layers if layer.weights
        }
        self._layers, self._layer_of, self._shapes = [], {}, {"avg_pool": (card.bottleneck_size,)}
        x = model.input
        for block in card.blocks:
            x = self._cut(block, x, block)
        self._layers.append(("avg_pool", average))
        names = {layer.name for layer in model.layers}
        if "avg_pool" in names:  # ResNet50's classifier reads it, VGG16's reads the last block
            x = model.get_layer("avg_pool").output
        self._classifier_reads = "avg_pool" if "avg_pool" in names else card.blocks[-1]
        for layer in DENSE:
            if layer in names:
                x = self._cut("logits" if layer == "predictions" else layer, x, layer)
        if "predictions" in names:
            self._layers.append(("prob", lambda logits: tf.nn.softmax(tf.cast(logits, tf.float32))))
            self._shapes["prob"] = self._shapes["logits"]

    def _cut(self, name: str, x: keras.KerasTensor, end: str) -> keras.KerasTensor:
        """Add a layer: the part of the model from `x` to the output of Keras's layer `end`, which is returned."""
        output = self.model.get_layer(end).output
        self._shapes[name] = tuple(output.shape[1:])
        part = keras.Model(x, output)
        self._layers.append((name, lambda values: part(values, training=False)))
        self._layer_of |= {layer.name: name for layer in part.layers if layer.weights}
        return output

    @classmethod
    def load(
        cls,
        card: Card,
        source: str | os.PathLike | None = None,
        seed: int = 0,
        image_size: int | None = None,
        dtype: tf.DType = tf.float32,
        features_only: bool = False,
    ) -> "KerasNetwork":
        """The network of a card with its weights.

        source: a file (see `weights.keras_files`), "random" (Keras's initial weights, seeded), or None: Keras's file in
        weights/ (`file_names`); without it, Keras downloads the published weights and checks their hash.
        features_only: without the classifier, which takes images of the card's size only.
        dtype: tf.bfloat16 is twice as fast on processors that have it and changes VGG16's features by 0.6 %; weights
        and results are float32 either way.
        Raises BadInput when the file is not the network's or cannot be downloaded, and for a size or a seed that the
        network does not take.
        """
        size = card.checked_size(image_size)
        if not features_only and size != card.input_size:
            raise BadInput(f"--image_size {size}: {card.title}'s classifier takes {card.input_size} pixels only")
        if source is None:
            files = [reading.WEIGHTS_DIR / name for name in file_names(card, not features_only)]
            source = next((file for file in files if file.exists()), None)
        if source == "random":
            keras.utils.set_random_seed(reading.checked_seed(seed))
        model = (build if source else published)(card, not features_only, size, dtype)
        network = cls(model, card, size, dtype)
        if source not in (None, "random"):
            network.restore(source)
        return network

    def __call__(self, x: tf.Tensor, layer: str = "prob", *others: object, **settings: object) -> tf.Tensor:
        """See `Network`. BadInput for the classes of a network without its classifier."""
        if layer == "prob" and layer not in self.layer_names:
            raise BadInput(f"{self.card.title} was loaded without its classifier: it gives features, not classes")
        return super().__call__(x, layer, *others, **settings)

    def layers(self, weights: Weights) -> Layers:
        """[(name, function)] in order; the weights are those inside the Keras model."""
        return self._layers

    def cast_weights(self, layers: object) -> Weights:
        """Keras does this inside its layers."""
        return {}

    def names_between(self, after: str | None, layer: str) -> list[str]:
        """See `Network`; the path to VGG16's classifier does not go through avg_pool."""
        names = super().names_between(after, layer)
        if "avg_pool" in (self._classifier_reads, layer):
            return names
        if after == "avg_pool":
            raise ValueError(f"{layer} reads {self._classifier_reads}, not avg_pool")
        return [name for name in names if name != "avg_pool"]

    def layer_of(self, weights_name: str) -> str:
        """The block in which Keras's layer lies."""
        return self._layer_of[weights_name]

    def output_shape(self, layer: str) -> tuple[int, ...]:
        """See `Network`; Keras knows it."""
        return self._shapes[self.names_between(None, layer)[-1]]

    def save(self, path: str | os.PathLike) -> None:
        """Write all weights as a .npz that `load` and `restore` read, whole or not at all."""
        reading.save_arrays({name: variable.numpy() for name, variable in self.named_variables().items()}, path)

    def restore(self, path: str | os.PathLike) -> None:
        """Give all variables the numbers of a file, see `weights.keras_files`. BadInput when it is another's."""
        variables = self.named_variables()
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        for name, array in keras_files.read(path, shapes, self.card.title, CLASSIFIER).items():
            variables[name].assign(array)

    def named_variables(self) -> dict[str, keras.Variable]:
        """{"layer/part": variable} in Keras's order; a part is a kernel, bias, gamma, beta or moving statistic."""
        return {f"{layer.name}/{part.name}": part for layer in self.model.layers for part in layer.weights}


def average(x: tf.Tensor) -> tf.Tensor:
    """A feature map (N, H, W, C), averaged over its positions: (N, C)."""
    return tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2))


def application(card: Card) -> Callable[..., keras.Model]:
    """Keras's function that builds the network."""
    module, function = card.application.split(".")
    return getattr(getattr(keras.applications, module), function)


def build(card: Card, top: bool, image_size: int, dtype: tf.DType, weights: str | None = None) -> keras.Model:
    """The Keras model, up to logits. Under Keras's "mixed" policies variables stay float32, `dtype` is computed in."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32" if dtype == tf.float32 else f"mixed_{dtype.name}")
    try:
        shape = (image_size, image_size, 3)
        return application(card)(include_top=top, weights=weights, input_shape=shape, classifier_activation=None)
    finally:
        keras.mixed_precision.set_global_policy(policy)


def published(card: Card, top: bool, image_size: int, dtype: tf.DType) -> keras.Model:
    """The same with the weights that Keras publishes and downloads. BadInput when it cannot."""
    try:
        return build(card, top, image_size, dtype, "imagenet")
    except Exception as error:  # Keras raises nothing more special when a download fails
        found = f"{card.title}: Keras cannot download the published weights ({reason(error)})"
        name = " or ".join(file_names(card, top))
        raise BadInput(f"{found}; put {name} into {reading.WEIGHTS_DIR}, give a file with --weights, or --weights "
                       "random to try the script out") from None  # fmt: skip


def file_names(card: Card, top: bool) -> list[str]:
    """Keras's names for a network's weights; without the classifier (`top`), the file without it will do."""
    return [card.file] if top else [card.without_classifier, card.file]
