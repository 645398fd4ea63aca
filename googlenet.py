"""GoogLeNet (Inception v1) as BVLC trained it on ImageNet (Caffe's `bvlc_googlenet`), by hand, with plain `tf.nn`.

    from googlenet import GoogLeNet
    from weights import cards, reading

    network = GoogLeNet(reading.load(cards.GOOGLENET))         # fetches the weights when they are absent
    network.activations(images)                              # RGB, 0-255, any size -> (N, 1000) probabilities
    network.activations(images, layer="pool5")               # -> (N, 1024), what a new classifier is trained on

Szegedy et al., "Going deeper with convolutions", 2014, in the version that the Berkeley Vision and Learning Center
trained and released: 68.7 % top-1 and 88.9 % top-5 on the ImageNet validation set (centre crop), 6,998,552
parameters. The two auxiliary classifiers, which served training alone, are left out.
"""

import tensorflow as tf

from alexnet import conv, dense, local_response_normalization, softmax
from networks.network import Layers, Network, Weights
from weights.cards import GOOGLENET


class GoogLeNet(Network):
    """BVLC GoogLeNet; for `weights` (under Caffe's names) and the settings see `networks.network.Network`.

    tf.bfloat16 is about twice as fast on processors that have it and changes pool5 by 0.6 %.
    """

    card = GOOGLENET
    normalize = staticmethod(local_response_normalization)

    def layer_of(self, weights_name: str) -> str:
        """Which layer reads these weights."""
        others = {"conv2/3x3_reduce": "conv2_reduce", "loss3/classifier": "logits"}
        return others.get(weights_name, weights_name.split("/")[0])

    def layers(self, w: Weights) -> Layers:
        """[(name, function)] in order; at the end of each line its output's height x width x channels."""
        border = [[0, 0], [3, 3], [3, 3], [0, 0]]  # SAME would put 2 before and 3 behind
        return [
            ("conv1", lambda x: conv(x, *w["conv1/7x7_s2"], stride=2, padding=border)),  # 112 x 112 x 64, kernels 7 x 7
            ("pool1", max_pool),                                                         #  56 x 56 x   64
            ("norm1", self.normalize),                                                   #  56 x 56 x   64
            ("conv2_reduce", lambda x: conv(x, *w["conv2/3x3_reduce"])),                 #  56 x 56 x   64, 1 x 1
            ("conv2", lambda x: conv(x, *w["conv2/3x3"])),                               #  56 x 56 x  192, 3 x 3
            ("norm2", self.normalize),                                                   #  56 x 56 x  192
            ("pool2", max_pool),                                                         #  28 x 28 x  192
            ("inception_3a", lambda x: inception(x, w, "3a")),                           #  28 x 28 x  256
            ("inception_3b", lambda x: inception(x, w, "3b")),                           #  28 x 28 x  480
            ("pool3", max_pool),                                                         #  14 x 14 x  480
            ("inception_4a", lambda x: inception(x, w, "4a")),                           #  14 x 14 x  512
            ("inception_4b", lambda x: inception(x, w, "4b")),                           #  14 x 14 x  512
            ("inception_4c", lambda x: inception(x, w, "4c")),                           #  14 x 14 x  512
            ("inception_4d", lambda x: inception(x, w, "4d")),                           #  14 x 14 x  528
            ("inception_4e", lambda x: inception(x, w, "4e")),                           #  14 x 14 x  832
            ("pool4", max_pool),                                                         #   7 x  7 x  832
            ("inception_5a", lambda x: inception(x, w, "5a")),                           #   7 x  7 x  832
            ("inception_5b", lambda x: inception(x, w, "5b")),                           #   7 x  7 x 1024
            ("pool5", lambda x: tf.reduce_mean(x, axis=(1, 2))),                         # 1024
            ("logits", lambda x: dense(x, *w["loss3/classifier"])),                      # 1000
            ("prob", softmax),                                                           # 1000
        ]  # fmt: skip


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """The maximum of 3x3 windows every 2 pixels. Caffe rounds their number up: on even sides the last overhangs by one.

    TensorFlow's SAME does the same on even sides; on odd ones, which fit exactly, it would start one pixel outside.
    """
    return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID" if x.shape[1] % 2 else "SAME")


def inception(x: tf.Tensor, weights: Weights, module: str) -> tf.Tensor:
    """Four branches on one input, joined along the channels; the 1x1 `reduce` ones make larger kernels cheap."""

    def branch(x: tf.Tensor, layer: str) -> tf.Tensor:
        return conv(x, *weights[f"inception_{module}/{layer}"])

    return tf.concat(
        [
            branch(x, "1x1"),
            branch(branch(x, "3x3_reduce"), "3x3"),
            branch(branch(x, "5x5_reduce"), "5x5"),
            branch(tf.nn.max_pool2d(x, ksize=3, strides=1, padding="SAME"), "pool_proj"),
        ],
        axis=-1,
    )
