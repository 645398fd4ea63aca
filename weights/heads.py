"""Heads: the small classifiers trained on a network's features, and the files that keep them.

A file is an `.npz` without pickles: `kernel` (features, classes) and `bias` (classes,), float32, `class_names`, and
`settings`, a JSON text of what inference must repeat: network, layer, weights, preprocessing, size of the pictures.
"""

import json
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from data.files import BadInput, written_whole
from weights import cards, reading

SETTINGS = {
    "network", "layer", "image_size", "as_published", "precision", "weights", "seed", "fingerprint",
    "trained_on", "validation_accuracy",
}  # fmt: skip
WEIGHTS_DIR = pathlib.Path(__file__).resolve().parent


class Head(NamedTuple):
    kernel: np.ndarray  # (features, classes)
    bias: np.ndarray  # (classes,)
    class_names: list
    settings: dict

    def logits(self, features):
        """(N, features) -> (N, classes)."""
        return features @ self.kernel + self.bias


def settings(network, args, layer):
    """What shapes features besides the pictures; kept with a head, so that inference repeats it."""
    random = args.weights == "random" or (args.demo and not args.weights)
    path = args.weights and str(pathlib.Path(args.weights).resolve())
    return {
        "network": args.network, "layer": layer, "image_size": network.image_size, "as_published": args.as_published,
        "precision": network.dtype.name, "weights": "random" if random else path, "seed": args.seed,
        "fingerprint": reading.fingerprint(network.weights),
    }  # fmt: skip


def untrained(size, class_names, seed=0, settings=None):
    """A head of `size` inputs before training: small random kernel, zero bias. Its answers mean nothing."""
    kernel = 0.01 * np.random.default_rng(seed).standard_normal((size, len(class_names)), dtype=np.float32)
    return Head(kernel, np.zeros(len(class_names), np.float32), list(class_names), dict(settings or {}))


def default_path(name, demo=False):
    """Where the last trained head of a data set lies; a demo's lies apart, so that it never takes the place of one."""
    return WEIGHTS_DIR / f"{'demo-' if demo else ''}{name}-head.npz"


def save(head, path):
    """Write the head to `path`, whole or not at all."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        settings = json.dumps(head.settings, sort_keys=True)
        np.savez(file, kernel=head.kernel, bias=head.bias, class_names=np.array(head.class_names), settings=settings)


def load(path):
    """Read a head. `BadInput` when the file is absent, damaged, or not one that `save` wrote."""
    path = pathlib.Path(path)
    advice = "train_feature_extraction.py writes such files; train one, or name another with --head"
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise BadInput(f"{path}: {found}, expected a trained head; {advice}")
    try:
        with np.load(path, allow_pickle=False) as file:
            kernel, bias, names = file["kernel"], file["bias"], file["class_names"]
            head = Head(kernel, bias, [str(name) for name in names], json.loads(str(file["settings"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a trained head, or damaged ({reason}); {advice}") from None
    card = cards.CARDS.get(head.settings.get("network")) if isinstance(head.settings, dict) else None
    if card is None or not SETTINGS <= head.settings.keys():
        raise BadInput(f"{path}: does not tell how it was trained (network, layer, weights ...); {advice}")
    fit = kernel.ndim == 2 and bias.shape == kernel.shape[1:] and names.shape == bias.shape
    if not fit or kernel.shape[0] != card.bottleneck_size:
        shapes = f"{card.bottleneck_size} features, kernel {kernel.shape}, bias {bias.shape}, {names.size} class names"
        raise BadInput(f"{path}: {shapes} do not belong together; {advice}")
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in (kernel, bias)):
        raise BadInput(f"{path}: its numbers are not finite float32, the file is damaged; {advice}")
    return head


def mean_and_spread(features, rows):
    """Mean of each feature, float32 (features,), and one spread common to all, over the training rows.

    In float64 and piece by piece: neither rounding nor memory grows with the number of pictures. The spread is the
    root of the features' mean variance. One for all: dividing each feature by its own would raise those that hardly
    vary, and costs half a point of accuracy on VGG16's and GoogLeNet's features.
    """
    total = squares = 0.0
    for chosen in batches(rows, 1024):
        piece = features[chosen].astype(np.float64)
        total, squares = total + piece.sum(axis=0), squares + (piece**2).sum(axis=0)
    mean = total / len(rows)
    spread = np.sqrt(np.mean(np.maximum(squares / len(rows) - mean**2, 0)))
    return np.float32(mean), np.float32(spread or 1)


def batches(rows, size):
    """Cut row numbers into pieces of `size`, the last one maybe smaller."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]
