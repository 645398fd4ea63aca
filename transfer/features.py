"""Features of frozen layers, computed once and cached."""

from __future__ import annotations

import pathlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from common.rows import sums_and_squares
from transfer import feature_store
from transfer.devices import Devices
from weights.heads import Provenance

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from networks.network import Network

FORWARD_BATCH = 128  # images at a time through the frozen layers: a few hundred MB of activations


def frozen_features(
    network: Network,
    images: np.ndarray,
    layer: str,
    origin: Provenance,
    cache: pathlib.Path | None = feature_store.FEATURES_DIR,
    batch_size: int = FORWARD_BATCH,
    pool: bool = True,
) -> feature_store.Features | np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, features), the layer's output; kept in the folder `cache`, if there is one.

    origin: how the network was made; part of the key under which the features are kept. pool: as a head sees them (see
    `networks.network.pooled`); else the layer's whole output, flattened.
    """
    compute = None

    def first_then(batch: np.ndarray) -> np.ndarray:
        nonlocal compute
        if compute is None:  # built when the first batch comes: features that are kept already need none of it
            from transfer import fast

            compute = fast.frozen(network, images.shape[1:], layer, pool)
        return compute(batch).reshape(len(batch), -1)

    start = time.perf_counter()
    label = f"{layer} features"
    features = feature_store.stored(images, first_then, key(origin, layer, pool), cache, batch_size, label)
    count, width = features.shape
    print(f"Features: {count:,} images x {width:,} in {time.perf_counter() - start:.1f} seconds", flush=True)
    return features


def key(origin: Provenance, layer: str, pool: bool) -> dict:
    """All that shapes features besides the images. The fingerprint says which weights they are."""
    names = ("network", "image_size", "as_published", "precision", "fingerprint")
    found = {name: getattr(origin, name) for name in names} | {"layer": layer, "pooled": pool}
    if pool and origin.precision == "bfloat16":
        found["averaged_in"] = "float32"  # until 29 November 2026, bfloat16's maps were pooled in bfloat16
    return found


def shared_features(
    network: Network, images: np.ndarray, layer: str, origin: Provenance, devices: Devices, **settings: Any
) -> Any:
    """`frozen_features` of all images; with several workers, each computes those of its own images."""
    own = images[devices.worker :: devices.workers]
    features = frozen_features(network, own, layer, origin, **settings)
    return features if devices.workers == 1 else OwnRows(features, devices.workers)


class OwnRows:
    """The features that a worker has computed, under the numbers of their images in the whole data set."""

    def __init__(self, features: feature_store.Features | np.ndarray, workers: int) -> None:
        self._features, self._workers = features, workers
        self.shape = features.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._features[rows // self._workers]


def mean_and_spread(features: Any, rows: np.ndarray, devices: Devices) -> tuple[np.ndarray, np.float32]:
    """Mean of each feature, float32 (features,), and one spread common to all, over the training rows.

    The spread is the root of the features' mean variance. One for all: dividing each feature by its own would amplify
    those that hardly vary, and costs half a point of accuracy on VGG16's and GoogLeNet's features.
    """
    mean, squares = devices.total(sums_and_squares(features, devices.own(rows))) / len(rows)
    spread = np.sqrt(np.mean(np.maximum(squares - mean**2, 0)))
    return np.float32(mean), np.float32(spread or 1)
