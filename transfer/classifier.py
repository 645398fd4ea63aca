"""What is trained: the head, and as many of the network's layers below it as one likes.

    images -> preprocessing -> frozen layers -> trained layers -> features -> head -> logits

What does not change is computed once: when the frozen layers always see the same images, the classifier starts from
their stored output. It therefore takes one of three inputs: features of the head's layer (only the head is trained),
the output of the last frozen layer, or images.
"""

import numpy as np
import tensorflow as tf

from networks.network import pooled


class Classifier(tf.Module):
    """A head (see `weights.heads`), and the layers below it that are trained along.

    network, layer: where the head sits; None: the input is features already. after: the input is the output of this
    layer, flattened (None: images, uint8 or float32, 0-255). first: the first layer that is trained. mean, spread: of
    the features; the head sees them minus the one, divided by the other.
    """

    def __init__(self, head, mean=0.0, spread=1.0, network=None, layer=None, after=None, first=None):
        super().__init__()
        self.kernel, self.bias = tf.Variable(head.kernel, name="kernel"), tf.Variable(head.bias, name="bias")
        self.mean, self.spread = np.broadcast_to(np.float32(mean), len(head.kernel)), np.float32(spread)
        self.network, self.layer, self.after = network, layer, after
        self.lower = network.variables_between(before(network, first), layer) if network else []
        self.input_shape = None
        if after:
            side = network.image_size
            self.input_shape = network(tf.zeros((1, side, side, 3)), after).shape[1:]

    @property
    def head(self):
        """The trained variables of the head."""
        return [self.kernel, self.bias]

    def features(self, x, dropout_seed=None):
        """Input -> what the head sees, (N, features)."""
        if self.network is None:
            return x
        if self.after:
            x = tf.reshape(x, (-1, *self.input_shape))
        else:
            x = self.network.preprocess(x, training=True)
        return pooled(self.network(x, self.layer, after=self.after, dropout_seed=dropout_seed))

    def logits(self, x, dropout_seed=None):
        """Input -> (N, classes). `dropout_seed`: two integers, in training."""
        kernel, bias = self._folded()
        return tf.matmul(self.features(x, dropout_seed), kernel) + bias

    def folded(self):
        """(kernel, bias) of the same head for features as they are: mean and spread become part of it."""
        return tuple(each.numpy() for each in self._folded())

    def _folded(self):  # a subtraction and a division less for each batch of features
        kernel = self.kernel / self.spread
        return kernel, self.bias - tf.linalg.matvec(kernel, self.mean, transpose_a=True)


def before(network, layer):
    """The layer below `layer`; None below the first one."""
    names = [name for name, _ in network.layers(network.weights)]
    return names[names.index(layer) - 1] if names.index(layer) else None


def feature_count(network, layer):
    """How many features a head on this layer sees."""
    side = network.image_size
    return pooled(network(tf.zeros((1, side, side, 3)), layer)).shape[1]
