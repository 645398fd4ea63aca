"""What all networks share: preprocessing, running the layers between two names, variables, saving them to a file."""

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from common.rows import batches
from weights import reading
from weights.cards import Card

BATCH_SIZE = 32  # images at a time in `in_batches`: about 250 MB of activations
POOLED_SIDE = 4  # positions along a side of a feature map that a head looks at

Layers = list[tuple[str, Callable[[tf.Tensor], tf.Tensor]]]
Normalize = Callable[[tf.Tensor], tf.Tensor]
Weights = dict[str, tuple[np.ndarray, ...]] | dict[str, tuple[tf.Variable, ...]]


class Dropout(NamedTuple):
    """Which activations become 0 in a training step. They depend on the seed and an image's place in its batch only.

    So the devices that share a batch drop together what one device would drop alone.
    """

    seed: Sequence[int] | tf.Tensor  # two integers
    place: tf.Tensor  # (n,) int: where in the batch these images stand
    batch_size: int  # of all devices together

    def __call__(self, x: tf.Tensor, share: float, layer: int) -> tf.Tensor:
        """x (n, features) with this share of its numbers 0, the others larger by as much; layers drop independently."""
        seed = tf.random.experimental.stateless_fold_in(self.seed, layer)
        chance = tf.random.stateless_uniform((self.batch_size, x.shape[1]), seed)
        kept = tf.gather(chance, self.place) >= share
        return tf.where(kept, x / (1 - share), tf.zeros_like(x))


class Network(tf.Module):
    """A network: its variables, and the layers between any two names.

    `weights` is {layer: (kernel, bias)}, as `weights.reading.load` returns it. `image_size`: side of the input in
    pixels, if not the card's. `dtype`: tf.bfloat16 computes faster on processors that have it; variables and results
    are float32 either way. `normalize`: another function for the network's local response normalisation, such as
    `transfer.fast.normalize`, which computes the same faster. Raises BadInput for an `image_size` that the network does
    not take.
    """

    card: Card  # what is known about the network, see weights/cards.py
    normalize: Normalize | None = None  # of networks that have it

    def __init__(
        self,
        weights: Weights,
        *,
        image_size: int | None = None,
        dtype: tf.DType = tf.float32,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__(name=self.card.name)
        self.image_size = self.card.checked_size(image_size)
        self.dtype = dtype
        if normalize:
            self.normalize = normalize
        self.weights = {
            name: tuple(variable(array, f"{name}/{part}") for array, part in zip(arrays, ("kernel", "bias")))
            for name, arrays in weights.items()
        }

    @classmethod
    def load(
        cls,
        card: Card,
        source: str | os.PathLike | Weights | None = None,
        seed: int = 0,
        image_size: int | None = None,
        dtype: tf.DType = tf.float32,
        features_only: bool = False,
        **settings: object,
    ) -> "Network":
        """The network of a card with its weights, called alike for all networks.

        source: see `weights.reading.load`, or what that has returned. image_size: another than the card's, in pixels.
        features_only: without the classifier, for networks whose classifier takes images of one size only. settings:
        of the one network, such as AlexNet's `as_published`. Raises BadInput as `weights.reading.load` does, and for an
        `image_size` that the network does not take.
        """
        weights = source if isinstance(source, dict) else reading.load(card, source, seed)
        return cls(weights, image_size=image_size, dtype=dtype, **settings)

    def at(self, image_size: int) -> "Network":
        """The same network, sharing its variables, for images of another size (see `Card.any_size_layers`).

        BadInput for one that the network does not take.
        """
        other = copy.copy(self)
        other.image_size = self.card.checked_size(image_size)
        return other

    def __call__(
        self,
        x: tf.Tensor,
        layer: str = "prob",
        feature_extract: bool = False,
        after: str | None = None,
        dropout: Dropout | None = None,
    ) -> tf.Tensor:
        """Preprocessed images (N, size, size, 3) -> the output of the named layer, float32.

        `feature_extract` stands for the bottleneck, AlexNet's fc7. `after`: x is the output of this layer, and only the
        layers above it are run. `dropout`: for training. ValueError for a layer that is not there.
        """
        layer = self.card.bottleneck if feature_extract else layer
        chosen = self.names_between(after, layer)
        x = tf.cast(x, self.dtype)
        for number, (name, function) in enumerate(self.layers(self.cast_weights(chosen))):
            if name in chosen:
                x = function(x)
                if dropout and name in self.card.dropout:
                    x = dropout(x, self.card.dropout[name], number)
        return tf.cast(x, tf.float32)

    def layers(self, weights: Weights) -> Layers:
        """[(name, function)] in order, each function with the weights it needs. Every network has its own."""
        raise NotImplementedError

    def cast_weights(self, layers: Sequence[str]) -> Weights:
        """The weights of these layers in the type of the computation."""
        return {
            name: tuple(tf.cast(each, self.dtype) for each in arrays)
            for name, arrays in self.weights.items()
            if self.layer_of(name) in layers
        }

    @property
    def layer_names(self) -> list[str]:
        """The names of all layers, in order."""
        return [name for name, _ in self.layers(self.weights)]

    def names_between(self, after: str | None, layer: str) -> list[str]:
        """The layers above `after` (None: from the first one on) up to `layer`. ValueError for an unknown name."""
        names = self.layer_names
        for name in {after, layer} - {None, *names}:
            raise ValueError(f"no layer {name!r}; there are {', '.join(names)}")
        return names[names.index(after) + 1 if after else 0 : names.index(layer) + 1]

    def before(self, layer: str) -> str | None:
        """The layer whose output `layer` reads; None for the first one. ValueError for an unknown name."""
        return (None, *self.names_between(None, layer))[-2]

    def variables_between(self, after: str | None, layer: str, with_statistics: bool = False) -> list[tf.Variable]:
        """The variables of those layers that training changes, in the network's order, see `names_between`.

        with_statistics: also the moving statistics of batch normalisation, which it leaves as they are.
        """
        names = self.names_between(after, layer)
        chosen = [each for name, arrays in self.weights.items() if self.layer_of(name) in names for each in arrays]
        return [each for each in chosen if each.trainable or with_statistics]

    def layer_of(self, weights_name: str) -> str:
        """Which layer reads these weights."""
        return weights_name

    def output_shape(self, layer: str) -> tuple[int, ...]:
        """(height, width, channels) or (features,) of the layer's output for one image. Nothing is computed."""
        images = tf.TensorSpec((None, self.image_size, self.image_size, 3))
        traced = tf.function(lambda x: self(x, layer), autograph=False).get_concrete_function(images)
        return tuple(traced.structured_outputs.shape[1:])

    def preprocess(self, images: tf.Tensor) -> tf.Tensor:
        """RGB images (N, height, width, 3), 0-255 -> the network's input (N, size, size, 3)."""
        return preprocess(images, self.card, self.image_size)

    def preprocess_features(self, images: tf.Tensor) -> tf.Tensor:
        """The same for a head of one's own, in training and afterwards. It differs for AlexNet `as_published` only."""
        return self.preprocess(images)

    @tf.function(reduce_retracing=True, autograph=False)
    def activations(self, images: tf.Tensor, layer: str = "prob") -> tf.Tensor:
        """RGB images (N, height, width, 3), 0-255, of any size -> the output of the named layer, in one graph.

        The last layer predicts ImageNet's classes; all others are features that a head is trained on.
        """
        images = self.preprocess(images) if layer == self.layer_names[-1] else self.preprocess_features(images)
        return self(images, layer=layer)

    def in_batches(self, images: np.ndarray, layer: str = "prob") -> Iterator[np.ndarray]:
        """`activations` of any number of images (N, height, width, 3), BATCH_SIZE at a time: each (n, ...), float32."""
        for batch in batches(images, BATCH_SIZE):
            yield self.activations(batch, layer=layer).numpy()

    def save(self, path: str | os.PathLike) -> None:
        """Write all weights as a .npz that `load` and `restore` read, whole or not at all."""
        reading.save({name: [each.numpy() for each in arrays] for name, arrays in self.weights.items()}, path)

    def restore(self, path: str | os.PathLike) -> None:
        """Give all variables the numbers of a file that `save` has written. BadInput when it is another's."""
        for name, arrays in reading.load(self.card, path).items():
            for each, array in zip(self.weights[name], arrays):
                each.assign(array)


def preprocess(images: tf.Tensor, card: Card, image_size: int | None = None) -> tf.Tensor:
    """RGB images (N, height, width, 3), 0-255 -> (N, size, size, 3) as the card's weights expect them.

    Resized to the card's input size, or to `image_size`: for AlexNet 227 pixels, since 11x11 windows every 4 pixels
    then fit exactly, (227 - 11) / 4 + 1 = 55. Caffe read images with OpenCV, so the first layer takes blue, green, red,
    in this order, minus their means over ImageNet's training images: 104, 117, 123. How much of a photo is shown, and
    that large ones are resized without aliasing, is up to `data.images.frame`; here only small ones are enlarged.
    """
    size = image_size or card.input_size
    images = tf.image.resize(tf.cast(images, tf.float32), (size, size), method="bilinear")
    return tf.reverse(images, [-1]) - card.mean_bgr  # images[..., ::-1] takes three times as long


def variable(array: np.ndarray, name: str) -> tf.Variable:
    """A variable with the numbers of the array, which must not change afterwards (`weights.reading` locks it).

    `tf.Variable(array)` would copy it twice. An operation's input is copied once, or not at all if it is aligned, as
    `weights.reading` sees to: the variable then shares the array's memory, and takes its own when it is changed.
    """
    return tf.Variable(tf.raw_ops.Identity(input=array), name=name)


def pooled(x: tf.Tensor) -> tf.Tensor:
    """Average-pool a feature map (N, H, W, C) to at most 4 x 4 and flatten it; leave vectors unchanged.

    For a head on an early layer: pool2's 13 x 13 x 256 would be 43,264 features per image, most of them nearly equal
    to their neighbours.
    """
    if len(x.shape) == 2:
        return x
    windows = [-(-side // POOLED_SIDE) for side in x.shape[1:3]]
    x = tf.nn.avg_pool2d(x, windows, windows, "SAME")
    return tf.reshape(x, (-1, math.prod(x.shape[1:])))


def pooled_size(shape: tuple[int, ...]) -> int:
    """How many features `pooled` makes of a layer's output of this shape, (height, width, channels) or (features,)."""
    if len(shape) == 1:
        return shape[0]
    places = [-(-side // -(-side // POOLED_SIDE)) for side in shape[:2]]
    return places[0] * places[1] * shape[2]
