"""Heads: the small classifiers trained on a network's features, and the files that keep them.

A file is an `.npz` without pickles: `kernel` (features, classes) and `bias` (classes,), float32, `class_names`, and
`settings`, a JSON text of what inference must repeat: network, layer, weights, preprocessing, size of the images.
"""

import json
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from common.files import BadInput, written_whole
from weights import cards, reading

FILE = "head.npz"  # its name in the folder of a run
SETTINGS = {  # what is in `settings`, and of which type
    "network": str, "layer": str, "image_size": int, "as_published": bool, "precision": str, "weights": str | None,
    "seed": int, "fingerprint": str, "trained_on": str, "validation_accuracy": float, "picture_size": int, "crop": bool,
}  # fmt: skip


class Head(NamedTuple):
    kernel: np.ndarray  # (features, classes)
    bias: np.ndarray  # (classes,)
    class_names: list
    settings: dict

    def logits(self, features):
        """(N, features) -> (N, classes)."""
        return features @ self.kernel + self.bias


def settings(network, args, layer):
    """What shapes features besides the images; kept with a head, so that inference repeats it."""
    random = args.weights == "random" or args.from_scratch or (args.demo and not args.weights)
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


def save(head, path):
    """Write the head to `path`, whole or not at all."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        settings = json.dumps(head.settings, sort_keys=True)
        np.savez(file, kernel=head.kernel, bias=head.bias, class_names=np.array(head.class_names), settings=settings)


def load(path):
    """Read a head, or that of a run's folder. `BadInput` when it is absent, damaged, or not one that `save` wrote."""
    path = pathlib.Path(path)
    path = path / FILE if path.is_dir() else path
    advice = "the training scripts write such files; train one, or name another with --head"
    if not path.is_file():
        raise BadInput(f"{path}: no such file, expected a trained head; {advice}")
    try:
        with np.load(path, allow_pickle=False) as file:
            kernel, bias, names = file["kernel"], file["bias"], file["class_names"]
            head = Head(kernel, bias, [str(name) for name in names], json.loads(str(file["settings"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a trained head, or damaged ({reason}); {advice}") from None
    if not _complete(head.settings):
        raise BadInput(f"{path}: does not tell how it was trained (network, layer, weights ...); {advice}")
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or names.shape != bias.shape:
        shapes = f"kernel {kernel.shape}, bias {bias.shape}, {names.size} class names"
        raise BadInput(f"{path}: {shapes} do not belong together; {advice}")
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in (kernel, bias)):
        raise BadInput(f"{path}: its numbers are not finite float32, the file is damaged; {advice}")
    return head


def _complete(settings):
    """Tell whether these settings are all there, each of its type."""
    if not isinstance(settings, dict) or settings.get("network") not in cards.CARDS:
        return False
    return all(name in settings and isinstance(settings[name], kind) for name, kind in SETTINGS.items())


def batches(rows, size):
    """Cut row numbers into pieces of `size`, the last one maybe smaller."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]
