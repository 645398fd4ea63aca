"""Heads: the small classifiers trained on a network's features, and the files that keep them.

A file is a `.npz` without pickles: `kernel` (features, classes) and `bias` (classes,), float32, `class_names`, and
`provenance`, a JSON text of what inference must repeat: network, layer, weights, framing of the images.
"""

import json
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.special import softmax

from common import kinds
from common.errors import BadInput
from common.flags import LARGEST_SEED
from weights import cards, npz
from weights.arrays import all_finite

FILE = "head.npz"  # its name in the folder of a run
MOST_CLASSES = 100_000
LARGEST = 1e20  # of a head's numbers, which times features must stay finite; trained ones are far below 1,000
LONGEST_TEXT = 4096  # characters of a path or a name
ADVICE = "the training scripts write such files; train one, or name another with --head"
Framed = Literal["whole", "squeeze", "crop"]


class Provenance(NamedTuple):
    """Where a head comes from: all that its features depend on, besides the images."""

    network: str  # as in weights/cards.py
    layer: str  # whose output it reads
    image_size: int  # pixels; side of the network's input
    as_published: bool  # AlexNet as the course of 2017 computed it
    precision: str  # "float32" or "bfloat16": what the features were computed in
    # The network's: a path (beside the head if a bare name), "random", "small", or None: the published ones.
    weights: str | None
    seed: int  # of random weights
    fingerprint: str  # of the network's weights, see `weights.reading.fingerprint`
    trained_on: str  # name of the data set
    validation_accuracy: float  # 0-1
    size: int  # pixels; side of the squares that the images were framed to, before the network resizes them
    how: Framed  # the framing, see `data.images.Framing`
    resized: int  # pixels; the side before the centre was cut out, 0 for "whole"


class Head(NamedTuple):
    """A linear classifier. `provenance`: None while it is trained; to `save` it, it needs one."""

    kernel: np.ndarray  # float32 (features, classes)
    bias: np.ndarray  # float32 (classes,)
    class_names: list[str]
    provenance: Provenance | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, features) -> (N, classes)."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(N, features) -> (N, classes); the sum of each row is 1."""
        return softmax(self.logits(features), axis=1)


def untrained(size: int, class_names: Sequence[str], seed: int = 0, provenance: Provenance | None = None) -> Head:
    """A head of `size` inputs before training: small random kernel, zero bias. Its predictions are meaningless."""
    kernel = 0.01 * np.random.default_rng(seed).standard_normal((size, len(class_names)), dtype=np.float32)
    return Head(kernel, np.zeros(len(class_names), np.float32), list(class_names), provenance)


def save(head: Head, path: str | os.PathLike) -> None:
    """Write the head, which must have a provenance, to `path`, whole or not at all."""
    text = json.dumps(head.provenance._asdict(), sort_keys=True)
    npz.save(path, kernel=head.kernel, bias=head.bias, class_names=np.array(head.class_names), provenance=text)


def load(path: str | os.PathLike) -> Head:
    """Read a head, or that of a run's folder. BadInput when it is absent, damaged, or not one that `save` wrote.

    Heads from before 25 November 2026, which kept `settings` with other fields, are read as well.
    """
    path = pathlib.Path(path, FILE) if os.path.isdir(path) else pathlib.Path(path)
    if not os.path.exists(path):
        raise BadInput(f"{path}: no such file, expected a trained head; {ADVICE}")
    kind = kinds.kind_of(path)
    if kind != kinds.NPZ:
        raise BadInput(f"{path}: is {kind}, expected a trained head; {ADVICE}")
    with npz.opened(path, "a trained head", ADVICE) as stored:
        arrays = {name: _small(stored, name) for name in ("kernel", "bias", "class_names")}
        text = _small(stored, "provenance" if "provenance" in stored else "settings")
        provenance = _provenance(json.loads(str(text)))
    problem = _problem(**arrays)
    if problem:
        raise BadInput(f"{path}: {problem}; {ADVICE}")
    return Head(arrays["kernel"], arrays["bias"], [str(name) for name in arrays["class_names"]], provenance)


def _small(stored: dict[str, npz.Stored], name: str) -> np.ndarray:
    """One of the arrays, read unless its shape shows that it cannot be a head's."""
    array = stored[name]
    if len(array.shape) > 2 or (array.dtype.kind == "U") != (name not in ("kernel", "bias")):
        raise ValueError(f"{name} is {array.dtype} {array.shape!s:.60}")
    return array.read()


def _problem(kernel: np.ndarray, bias: np.ndarray, class_names: np.ndarray) -> str | None:
    """Say what is wrong with a head's arrays, or return None."""
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or class_names.shape != bias.shape:
        shapes = f"kernel {kernel.shape}, bias {bias.shape}, {class_names.size} class names"
        return f"{shapes} do not belong together"
    if not (kernel.shape[0] and 0 < kernel.shape[1] <= MOST_CLASSES):
        return f"a kernel of {kernel.shape[0]} features and {kernel.shape[1]} classes"
    if not all(array.dtype == np.float32 and all_finite(array) for array in (kernel, bias)):
        return "its numbers are not finite float32, the file is damaged"
    if max(np.abs(kernel).max(), np.abs(bias).max()) > LARGEST:
        return f"it holds numbers beyond {LARGEST:.0e}, the file is damaged"
    if not all(map(_is_utf8, class_names)):
        return "the name of a class is not text, the file is damaged"
    return None


def _is_utf8(name: str) -> bool:
    """Half a character (a lone surrogate) could go into no table and no export."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _provenance(values: Any) -> Provenance:
    """The record of a JSON text, every value checked; ValueError says what is wrong."""
    if not isinstance(values, dict):
        raise ValueError("its provenance is not a record")
    if "picture_size" in values:  # from before 25 November 2026
        values["size"] = values["picture_size"]
        values["how"], values["resized"] = ("crop", 256) if values.get("crop") is True else ("whole", 0)
    card = cards.CARDS.get(values.get("network")) if isinstance(values.get("network"), str) else None
    if card is None:
        raise ValueError(f"trained on the network {values.get('network')!a:.60}, there are {', '.join(cards.CARDS)}")
    checks = {
        "network": True,
        "layer": _is_text(values.get("layer"), r"\w{1,60}"),
        "image_size": _is_whole(values.get("image_size"), card.smallest_size, cards.LARGEST_SIZE)
        and (values["image_size"] == card.input_size or values["layer"] not in card.fixed_layers),
        "as_published": values.get("as_published") is False
        or (values.get("as_published") is True and card.course_version),
        "precision": values.get("precision") in ("float32", "bfloat16"),
        "weights": values.get("weights", 0) is None or _is_text(values.get("weights"), r"[^\0]+"),
        "seed": _is_whole(values.get("seed"), 0, LARGEST_SEED),
        "fingerprint": _is_text(values.get("fingerprint"), r"[0-9a-f]{16}"),
        "trained_on": _is_text(values.get("trained_on"), r".*"),
        "validation_accuracy": _is_share(values.get("validation_accuracy")),
        "size": _is_whole(values.get("size"), 1, cards.LARGEST_SIZE),
        "how": values.get("how") in get_args(Framed),
        "resized": _is_whole(values.get("resized"), 0, 2 * cards.LARGEST_SIZE),
    }
    for name, well in checks.items():
        if not well:
            raise ValueError(f"its {name} is {values[name]!a:.60}" if name in values else f"its {name} is missing")
    return Provenance(**{name: values[name] for name in Provenance._fields})


def _is_text(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and bool(re.fullmatch(pattern, value, re.DOTALL))


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1
