"""A trained classifier, as it was kept: find it, check it, and predict with it.

trained = load("runs/train_feature_extraction-20260131-101500")
images = trained.read(["my_sign.jpg"])                 # as it was trained to see them
probabilities = trained.probabilities(images)          # (1, classes), in the order of trained.class_names
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from common.program import shown

import numpy as np

from common.errors import BadInput, printable
from common.rows import batches
from data import images as image_files
from data import splits
from data.images import Framing, framing_of
from transfer import run_files
from transfer.features import frozen_features
from transfer.loading import load_network
from weights import cards, heads, reading
from weights.heads import Head, Provenance

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from networks.network import Network

VIEWED = 32  # images enlarged at a time: 20 MB of 227x227 in float32


class Trained(NamedTuple):
    """A network and the head that was trained on it."""

    network: Network
    head: Head
    folder: pathlib.Path  # where the head lies

    @property
    def class_names(self) -> list[str]:
        """In the order of the probabilities."""
        return self.head.class_names

    @property
    def framing(self) -> Framing:
        """How image files become what the classifier was trained to see."""
        return framing_of(self.head.provenance)

    def read(self, paths: list[str | pathlib.Path]) -> np.ndarray:
        """Image files -> uint8 (N, size, size, 3)."""
        return image_files.read_all(paths, self.framing)

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> what the head sees, float32 (N, features)."""
        from networks.network import pooled

        pieces = self.network.in_batches(images, self.head.provenance.layer)
        return np.concatenate([pooled(piece) for piece in pieces])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, classes)."""
        return self.head.probabilities(self.features(images))

    def probabilities_of_many(
        self, images: np.ndarray, cache: pathlib.Path | None, second_view: Callable | None = None
    ) -> np.ndarray:
        """The same by the fast path, with features that are kept in the folder `cache`.

        second_view: as in `classifier.predict`.
        """
        layer, origin = self.head.provenance.layer, self.head.provenance
        views = [images, view_of_many(images, second_view)] if second_view else [images]
        features = [frozen_features(self.network, view, layer, origin, cache) for view in views]
        return np.mean([self.head.probabilities(each[:]) for each in features], axis=0)


def view_of_many(images: np.ndarray, view: Callable) -> np.ndarray:
    """A view of uint8 images (N, H, W, 3), rounded to uint8, some at a time: enlarged test sets take gigabytes."""
    seen = np.empty((len(images), *view(images[:1]).shape[1:]), np.uint8)
    for rows in batches(np.arange(len(images)), VIEWED):
        seen[rows] = np.rint(view(images[rows]))
    return seen


def provenance_of(
    network: Network, layer: str, source: str | None, seed: int, trained_on: str = "", framing: Framing | None = None
) -> Provenance:
    """What a head on this layer has to remember. source: as `loading.load_network` took it."""
    framing = framing or Framing(network.image_size)
    return Provenance(
        network=network.card.name,
        layer=layer,
        image_size=network.image_size,
        as_published=getattr(network, "as_published", False),
        precision=network.dtype.name,
        weights=source if source in (None, *reading.NAMED) else str(pathlib.Path(source).resolve()),
        seed=seed,
        fingerprint=reading.fingerprint(network.weights),
        trained_on=trained_on,
        validation_accuracy=0.0,
        size=framing.size,
        how=framing.how,
        resized=framing.resized,
    )


def find(path: str | pathlib.Path | None = None, demo: bool = False) -> pathlib.Path | None:
    """The head file that `path` (a run's folder, or the file) names, else that of the newest run; None if none is."""
    path = pathlib.Path(path) if path else run_files.newest(heads.FILE, demo)
    path = path / heads.FILE if path and path.is_dir() else path
    return path.resolve() if path and path.is_symlink() else path  # what belongs to a head lies beside it


def description(head: Head, path: pathlib.Path) -> str:
    """A line about a head: its run, how good it is, and whether the run has finished."""
    provenance = head.provenance
    return (
        f"Head: {place(path)}, {len(head.class_names)} classes, trained on {printable(provenance.trained_on)}, "
        f"{accuracy(provenance)}{state(path)}"
    )


def accuracy(provenance: Provenance) -> str:
    """How good a head was at the end of its training, a clause: on images held out, if there were any."""
    if provenance.trained_on.endswith(splits.UNDIVIDED):
        return f"accuracy {provenance.validation_accuracy:.3f} on images that it was trained on"
    return f"validation accuracy {provenance.validation_accuracy:.3f}"


def place(path: pathlib.Path) -> str:
    """What to call the head file at `path`: its run's folder, or itself if it is not a run's."""
    return shown(path.parent if path.name == heads.FILE else path)


def state(path: pathlib.Path) -> str:
    """A clause in parentheses about the run of a head, if it has not finished; else nothing."""
    found = run_files.state(path.parent) if (path.parent / run_files.HISTORY).exists() else ""
    return f" ({found})" if found else ""


def load(
    path: str | pathlib.Path,
    weights: str | None = None,
    as_published: bool = False,
    head: Head | None = None,
    flag: str = "--weights",
    precision: str | None = None,
) -> Trained:
    """The classifier of a run's folder, or of a head file; `BadInput` when these are not the weights it was trained on.

    weights: a file, "small", "random", or None for the weights that the head remembers. as_published: asked for by the
    user; wrong unless the head was trained so. head: what `heads.load(path)` returned, if it was called already. flag:
    what `weights` is called on the command line, for messages. precision: to compute in, if not what it was trained in.
    """
    path = find(path)
    head = head or heads.load(path)
    origin = head.provenance
    if as_published and not origin.as_published:
        raise BadInput("--as_published: the head was trained without it; train one with it, or leave the flag out")
    source = weights or _remembered(origin.weights, path, flag)
    network = load_network(
        cards.CARDS[origin.network],
        source,
        seed=origin.seed,
        image_size=origin.image_size,
        precision=precision or origin.precision,
        as_published=origin.as_published,
        classifier=False,
    )
    if reading.fingerprint(network.weights) != origin.fingerprint:
        raise BadInput(
            f"{weights or source or 'the published weights'}: not the weights that {shown(path)} was trained on, which "
            f"were {origin.weights or 'the published ones'}; name those with {flag}, or train a new head"
        )
    from networks.network import pooled_size

    if origin.layer not in network.layer_names or pooled_size(network.output_shape(origin.layer)) != len(head.kernel):
        found = f"reads {len(head.kernel):,} features of {origin.layer}, which {network.card.title} does not have"
        raise BadInput(f"{shown(path)}: {found}; the file is damaged, train a new head")
    return Trained(network, head, path.parent)


def _remembered(weights: str | None, path: pathlib.Path, flag: str) -> str | None:
    """The weights that a head names: beside it, or in weights/; elsewhere only if the run was begun on this machine."""
    if weights in (None, *reading.NAMED):
        return weights
    folder = path.parent.resolve()
    file = (folder / weights).resolve()
    at_home = file.is_relative_to(folder) or file.is_relative_to(reading.WEIGHTS_DIR.resolve())
    if not at_home and not run_files.begun_here(folder):
        raise BadInput(f"{shown(path)}: was trained on {weights}; name that file with {flag} if you trust it")
    if not file.exists():
        replaced = file.parent == folder and run_files.is_locked(folder)
        found = "another epoch has been kept meanwhile; try again" if replaced else f"name its new place with {flag}"
        raise BadInput(f"{shown(path)}: was trained on {file}, which is gone; {found}")
    return str(file)
