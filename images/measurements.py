"""Measurements for a table: one JSON object per line, kept as soon as it is made: a long command can be resumed.

measurements.keep(path, {"dataset": "signs", "case": 2, "accuracy": 0.742})
measurements.read(path, {"dataset": str, "case": int, "accuracy": float})    # [{"dataset": "signs", ...}]
"""

import argparse
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from common.program import told_on_interrupt

import numpy as np

from common.errors import BadInput
from common.files import file_hash, open_regular
from common.locks import one_at_a_time
from common.writing import written_whole
from transfer import feature_store
from weights import reading
from weights.cards import Card

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from networks.network import Network


def add_file_flags(parser: argparse.ArgumentParser, results: pathlib.Path) -> None:
    """The flags of all measuring commands. results: where the measurements are kept by default."""
    parser.add_argument("--out", type=pathlib.Path, default=results, metavar="FILE", help="the measurements (default "
                        f"images/{results.name})")  # fmt: skip
    parser.add_argument("--cache", type=pathlib.Path, default=feature_store.FEATURES_DIR, metavar="DIR", help="folder "
                        "for the computed features; it may be emptied when nothing is measured")  # fmt: skip


def read(path: pathlib.Path, kinds: dict[str, type]) -> list[dict]:
    """The measurements in a file; [] where there is none. kinds: the keys of each, and the type of its value.

    Raises `BadInput` for a line with other keys or types.
    """
    if not path.exists():
        return []
    with open_regular(path, "a file of measurements") as file:
        lines = file.read().decode(errors="replace").splitlines()
    return [_checked(line, kinds, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def told_how_to_go_on(path: pathlib.Path) -> AbstractContextManager:
    """Ctrl-C in the block says that what was measured is kept."""
    return told_on_interrupt(f"What was measured is kept in {path}; to go on, give the same command again")


def keep(path: pathlib.Path, measurement: dict) -> None:
    """Add a line. The file is replaced as a whole, so a process that is killed leaves no half line."""
    with one_at_a_time(path.with_name(f".{path.name}.lock"), f"waiting for another process that writes {path}"):
        text = path.read_text() if path.exists() else ""
        text += "\n" if text and not text.endswith("\n") else ""  # an editor's
        with written_whole(path) as temporary:
            temporary.write_text(f"{text}{json.dumps(measurement)}\n")


def name_of_weights(source: str | None, card: Card) -> str:
    """What to call weights in a file of measurements: those of two files of one name are told apart by their hashes.

    source: as `transfer.loading.load_network` takes it. All files that the card names hold the published weights, and
    go by the first one's name; so does Keras's file without the classifier.
    """
    if source is None or source in reading.NAMED:
        return source or card.file
    path = pathlib.Path(source)
    known = {card.file, card.without_classifier, *(other.file for other in card.other_files)}
    if path.name in known:
        return card.file
    return f"{path.name}-{file_hash(path, 'sha256')[:8]}" if path.exists() else path.name


def features_of_layers(
    network: "Network", images: np.ndarray, layers: Sequence[str], source: str | None, cache: pathlib.Path | None
) -> dict[str, np.ndarray]:
    """{layer: float32 (N, features)} as heads see them, of uint8 images (N, H, W, 3), from the folder `cache` if there.

    Each image goes through the network once, for all layers. source: as `transfer.loading.load_network` took it.
    """
    from networks.network import pooled_size
    from transfer import features, trained

    layers = [name for name in network.layer_names if name in layers]  # in the network's order
    start = time.perf_counter()
    origin = trained.provenance_of(network, layers[-1], source, seed=0)
    key = features.key(origin, "+".join(layers), pool=True)
    compute = all_at_once(network, images.shape[1:], layers)
    stored = feature_store.stored(images, compute, key, cache, features.FORWARD_BATCH, "features")
    print(f"Features: {len(images):,} images, {', '.join(layers)}, in {time.perf_counter() - start:.0f} seconds",
          flush=True)  # fmt: skip
    ends = np.cumsum([pooled_size(network.output_shape(layer)) for layer in layers])
    return dict(zip(layers, np.split(stored[:], ends[:-1], axis=1)))


def all_at_once(network: "Network", image_shape: tuple[int, int, int], layers: Sequence[str]) -> Callable:
    """A function: uint8 (n, height, width, 3) -> float32 (n, features of all layers, one after the other)."""
    import tensorflow as tf

    from networks.network import pooled
    from transfer import fast

    lowest = fast.frozen(network, image_shape, layers[0])

    @tf.function(reduce_retracing=True, autograph=False)
    def upwards(x: tf.Tensor) -> tf.Tensor:
        found = [pooled(x)]
        for below, layer in zip(layers, layers[1:]):
            x = network(x, layer, after=below)
            found.append(pooled(x))
        return tf.concat(found, axis=1)

    return lambda images: upwards(lowest(images)).numpy()


def markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; each row begins with its name."""
    lines = [[title, *columns], ["---"] * (len(columns) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _checked(line: str, kinds: dict[str, type], place: str) -> dict:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise BadInput(f"{place}: expected a JSON object with {', '.join(kinds)}; delete the line, or name another "
                       "file with --out")  # fmt: skip
    for name, kind in kinds.items():
        value = float(found[name]) if kind is float and type(found[name]) is int else found[name]
        if type(value) is not kind or (kind is float and not math.isfinite(value)):
            raise BadInput(f"{place}: {name} is {value!r:.60}, expected {kind.__name__}; delete the line")
        found[name] = value
    return found
