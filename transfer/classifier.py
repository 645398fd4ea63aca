"""What is trained: the head, and as many of the network's layers below it as one likes.

    images -> preprocessing -> frozen layers -> trained layers -> features -> head -> logits

What does not change is computed once: when the frozen layers always see the same images, the classifier starts from
their stored output. It therefore takes one of three inputs: features of the head's layer (only the head is trained),
the output of the last frozen layer, or images.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from common.rows import batches
from networks.network import Dropout, Network, pooled
from transfer.devices import Devices
from weights.heads import Head

BATCH_SIZE = 128  # images at a time: a few hundred MB of activations


class Classifier:
    """A head (see `weights.heads`), and the layers below it that are trained along.

    network, layer: where the head sits; None: the input is features already. after: the input is the output of this
    layer, flattened (None: images, uint8 or float32, 0-255). first: the first layer that is trained. mean, spread: of
    the features; the head sees them minus the one, divided by the other.
    """

    def __init__(
        self,
        head: Head,
        mean: Any = 0.0,
        spread: float = 1.0,
        network: Network | None = None,
        layer: str | None = None,
        after: str | None = None,
        first: str | None = None,
    ) -> None:
        self.kernel, self.bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        self.mean, self.spread = np.broadcast_to(np.float32(mean), len(head.kernel)), np.float32(spread)
        self.network, self.layer, self.after = network, layer, after
        self.lower = network.variables_between(network.before(first), layer) if network else []

    @property
    def head(self) -> list[tf.Variable]:
        """The trained variables of the head."""
        return [self.kernel, self.bias]

    @property
    def variables_of_training(self) -> list[tf.Variable]:
        """All variables that training changes."""
        return [*self.head, *self.lower]

    def at(self, image_size: int) -> "Classifier":
        """The same classifier, sharing its variables, on the network for images of another size, see `Network.at`."""
        other = copy.copy(self)
        other.network = self.network.at(image_size)
        return other

    def features(self, x: tf.Tensor, dropout: Dropout | None = None) -> tf.Tensor:
        """Input -> what the head sees, (N, features). dropout: in training."""
        if self.network is None:
            return x
        if self.after:
            x = tf.reshape(x, (-1, *self.network.output_shape(self.after)))
        else:
            x = self.network.preprocess_features(x)
        return pooled(self.network(x, self.layer, after=self.after, dropout=dropout))

    def logits(self, x: tf.Tensor, dropout: Dropout | None = None) -> tf.Tensor:
        """Input -> (N, classes). dropout: in training."""
        kernel, bias = self._folded()
        return tf.matmul(self.features(x, dropout), kernel) + bias

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """(kernel, bias) of the same head for features as they are: mean and spread become part of it."""
        kernel, bias = self._folded()
        return kernel.numpy(), bias.numpy()

    def _folded(self) -> tuple[tf.Tensor, tf.Tensor]:  # a subtraction and a division less for each batch of features
        kernel = self.kernel / self.spread
        return kernel, self.bias - tf.linalg.matvec(kernel, self.mean, transpose_a=True)

    def assign(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Take a folded head."""
        self.kernel.assign(kernel * self.spread)
        self.bias.assign(bias + self.mean @ kernel)


def head_inputs(classifier: Classifier, inputs: Any, rows: np.ndarray) -> np.ndarray:
    """What the head sees of `inputs[rows]`: float32 (len(rows), features)."""
    compiled = tf.function(classifier.features, reduce_retracing=True, autograph=False)
    return np.concatenate([compiled(inputs[chosen]).numpy() for chosen in batches(rows, BATCH_SIZE)])


def predict(
    classifier: Classifier,
    inputs: Any,
    rows: np.ndarray,
    devices: Devices,
    second_view: Callable | None = None,
) -> np.ndarray:
    """Probabilities, float32 (len(rows), classes), of the images, or features, `inputs[rows]`.

    second_view: images -> images, such as `augmentation.closer`; the result is then the mean for both. Each worker
    computes those of its own images; every worker gets them all.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def probabilities(x: tf.Tensor) -> tf.Tensor:
        views = [x, second_view(x)] if second_view else [x]
        return tf.add_n([tf.nn.softmax(classifier.logits(view)) for view in views]) / len(views)

    places = np.flatnonzero(devices.is_own(rows))
    found = np.zeros((len(rows), classifier.bias.shape[0]), np.float32)
    with tqdm(total=len(places), desc="Judging", unit="images", leave=False, delay=2, disable=None) as bar:
        for chosen in batches(places, BATCH_SIZE):
            found[chosen] = probabilities(inputs[rows[chosen]]).numpy()
            bar.update(len(chosen))
    return devices.total(found)
