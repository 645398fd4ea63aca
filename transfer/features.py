"""Features of images: each image once through the frozen layers, ever."""

import functools
import time

import numpy as np

from transfer import feature_store
from weights import cards, heads
from weights.heads import batches

FORWARD_BATCH = 128  # images at a time through the frozen layers: a few hundred MB of activations


def frozen_features(network, images, args, layer, batch_size=FORWARD_BATCH, pool=True):
    """Every image once through the frozen layers, ever: uint8 (N, H, W, 3) -> float32 (N, features), kept on disk.

    `pool`: as a head sees them (see `networks.network.pooled`); else the layer's whole output, flattened.
    """
    key = heads.settings(network, args, layer) | {"pooled": pool}
    del key["weights"], key["seed"]  # the fingerprint says which weights they are

    @functools.cache
    def fast():  # built when the first batch comes: features that are kept already need none of it
        from transfer import fast

        return fast.frozen(network, images.shape[1:], layer, pool)

    def compute(batch):
        if cards.CARDS[args.network].application:
            return network.activations(batch, layer=layer, training=True).numpy()
        return fast()(batch).reshape(len(batch), -1)

    folder = None if args.no_cache else args.cache
    start = time.perf_counter()
    features = feature_store.stored(images, compute, key, folder, batch_size, f"{layer} features")
    count, width = features.shape
    print(f"Features: {count:,} images x {width:,} in {time.perf_counter() - start:.1f} seconds", flush=True)
    return features


def features_of(network, dataset, args, layer, here, pool=True):
    """`frozen_features` of all images of a `Dataset`; of several workers, each computes those it looks after."""
    features = frozen_features(network, dataset.images[here.worker :: here.workers], args, layer, pool=pool)
    return features if here.workers == 1 else OwnRows(features, here.workers)


class OwnRows:
    """The features that a worker has computed, under the numbers of their images in the whole data set."""

    def __init__(self, features, workers):
        self._features, self._workers = features, workers
        self.shape = features.shape

    def __getitem__(self, rows):
        return self._features[rows // self._workers]


def mean_and_spread(features, rows, here):
    """Mean of each feature, float32 (features,), and one spread common to all, over the training rows.

    Piece by piece, added up in float64: rounding and memory do not grow with the number of images. The spread is the
    root of the features' mean variance. One for all: dividing each feature by its own would raise those that hardly
    vary, and costs half a point of accuracy on VGG16's and GoogLeNet's features.
    """
    sums = np.zeros((2, features.shape[1]))
    for chosen in batches(here.own(rows), 1024):
        piece = features[chosen]
        sums += piece.sum(axis=0, dtype=np.float64), np.einsum("ij,ij->j", piece, piece)
    mean, squares = here.total(sums) / len(rows)
    spread = np.sqrt(np.mean(np.maximum(squares - mean**2, 0)))
    return np.float32(mean), np.float32(spread or 1)
