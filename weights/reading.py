"""Read a network's weights from any of the formats in common use, and check them.

`load(card)` returns `{layer: (kernel, bias)}`, float32, in the card's order: kernels (height, width, in / groups, out)
or (in, out), biases (out,). The format is recognised by the file's content:

* `.npy` with a pickled dict: `{layer: [kernel, bias]}` or `{layer: {"weights": kernel, "biases": bias}}`
* `.npz` with `layer/weights` and `layer/biases` (or `layer/kernel` and `layer/bias`)
* `.caffemodel`, as Caffe writes it
* a small `.npz`, see `weights.small`

Names may have `_` where Caffe has `/`, as caffe-tensorflow writes them. VGG16 and ResNet50: see `weights.keras_files`.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from common import fetching, kinds, safe_pickle
from common.errors import BadInput
from common.files import file_hash
from common.flags import LARGEST_SEED
from weights import caffemodel, npz, small
from weights.arrays import aligned, all_finite, empty
from weights.cards import Card
from weights.npz import Stored

WEIGHTS_DIR = pathlib.Path(__file__).resolve().parent
FORMATS = "a .npy, .npz or .caffemodel"
ADVICE = "give another file with --weights"
PARTS = ("weights", "biases")
PIXEL_SPREAD = 64  # about the standard deviation of a photo's pixels, 0-255
MOST_PROBLEMS = 4  # named in one message
NAMED = ("random", "small")  # sources of weights that are no paths

Weights = dict[str, tuple[np.ndarray, np.ndarray]]
Layers = dict[str, object]  # a layer's arrays as the file holds them, not yet checked


def load(card: Card, source: str | os.PathLike | None = None, seed: int = 0) -> Weights:
    """`{layer: (kernel, bias)}` for `card`.

    `source` is a path, "random" (see `random_weights`), "small" (the card's small file, part of the repository), or
    None: the card's file in weights/, downloaded if absent.
    Raises BadInput unless the file holds exactly the card's layers, each of the right shape, and only finite numbers;
    also where there is no such file and it cannot be downloaded, and for a seed that `random_weights` refuses.
    """
    if source == "random":
        return random_weights(card, seed)
    if source == "small":
        path = small_path(card)
    else:
        path = default_path(card) if source is None else pathlib.Path(source)
    fetching.check_recorded(path)
    with opened(path, card) as layers:
        return checked(layers, card, path)


def has_small(card: Card) -> bool:
    """Whether the card has a small file, and it is there."""
    return card.small is not None and (WEIGHTS_DIR / card.small.file).exists()


def small_path(card: Card) -> pathlib.Path:
    """The path of the card's small file; BadInput if it has none, or if the file is absent or another."""
    if not card.small:
        raise BadInput(f"--weights small: of {card.title} there is none; leave it out, or give a weights file")
    path = WEIGHTS_DIR / card.small.file
    if not path.exists():
        raise BadInput(f"{path}: no such file, though it is part of the repository; restore it, or {ADVICE}")
    if card.small.sha256 and file_hash(path, "sha256") != card.small.sha256:
        raise BadInput(f"{path}: is not the file that is part of the repository; restore that one, or {ADVICE}")
    return path


def without_download(card: Card) -> str:
    """The source of weights for a demo: "small" if there is such a file, else "random"."""
    return "small" if has_small(card) else "random"


def default_path(card: Card) -> pathlib.Path:
    """The path of the card's weights in weights/; they are downloaded if none of the known files is there.

    BadInput if that fails at all addresses.
    """
    files = [(card.file, card.urls, None)] + [(other.file, other.urls, other.sha1) for other in card.other_files]
    for file, _, _ in files:
        if (WEIGHTS_DIR / file).exists():
            return WEIGHTS_DIR / file
    failure, elsewhere = "", []
    for file, urls, sha1 in files:
        if urls:
            try:
                return fetching.fetch(urls, WEIGHTS_DIR / file, sha1=sha1)
            except BadInput as error:
                if failure:
                    elsewhere.append(f"or {file} from {urls[-1]}")
                failure = failure or str(error)
    here = f"--weights small, the {card.small.title}, or " if has_small(card) else ""
    raise BadInput("; ".join([failure, *elsewhere, f"or give {here}--weights random to try the script out"]))


@contextlib.contextmanager
def opened(path: str | os.PathLike, card: Card) -> Iterator[Layers]:
    """`{layer: [kernel, bias]}` as the file holds it, in TensorFlow's order of axes, not yet checked.

    The arrays are NumPy's, or `Stored` ones that are read within the block. BadInput for a file of another format, and
    for one that is damaged.
    """
    kind = kinds.kind_of(path, FORMATS)
    if kind == kinds.NPZ:
        with npz.opened(path, FORMATS, ADVICE) as arrays:
            yield small.layers(arrays, card) if small.MARK in arrays else _grouped(arrays)
    elif kind == kinds.NPY:
        yield from_npy(path)
    elif kind in (kinds.CAFFEMODEL, kinds.UNKNOWN):  # which has no mark of its own
        yield _from_caffemodel(path, card)
    else:
        raise BadInput(f"{path}: is {kind}; {card.title} is read from {FORMATS}; {ADVICE}")


def from_npy(path: str | os.PathLike) -> Layers:
    """{layer: [kernel, bias]} of a .npy file with a pickled dict, arrays as they are; BadInput if it holds no dict."""
    array = safe_pickle.load_npy(path)
    layers = array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
    if not isinstance(layers, dict):
        found = f"an array {array.shape!s:.60}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise BadInput(f"{path}: holds {found}; expected a dict of layers; {ADVICE}")
    return {str(layer): pair(arrays) for layer, arrays in layers.items()}


def _grouped(arrays: Mapping[str, Stored]) -> Layers:
    """{"layer/part": array} -> {layer: [kernel, bias]}."""
    layers = {}
    for key, array in arrays.items():
        layer, _, part = key.rpartition("/")
        layers.setdefault(layer, {})[part] = array
    return {layer: pair(parts) for layer, parts in layers.items()}


def _from_caffemodel(path: str | os.PathLike, card: Card) -> Layers:
    name, layers = caffemodel.read(path)
    plain = re.sub(r"[^a-z0-9]|^bvlc", "", name.lower())
    if card.caffe_name and plain not in ("", card.caffe_name.lower()):
        found = f"holds the network {name!a:.60}, expected {card.caffe_name!r}"
        raise BadInput(f"{path}: {found}: equal shapes do not make it {card.title}; {ADVICE}")
    return caffemodel.to_tensorflow(layers, card.flattened)


def pair(arrays: object) -> object:
    """[kernel, bias] of one layer from a list or a dict; anything else as it is, for `checked` to name."""
    if isinstance(arrays, dict):
        for names in (("weights", "biases"), ("kernel", "bias")):
            if set(arrays) == set(names):
                return [arrays[name] for name in names]
    return arrays


def checked(layers: Layers, card: Card, path: str | os.PathLike) -> Weights:
    """`{layer: (kernel, bias)}` in the card's order, float32; BadInput with all that is wrong. Empties `layers`."""
    names = {name.replace("/", "_"): name for name in card.shapes}
    ignored = (*card.ignored, *(name.replace("/", "_") for name in card.ignored))
    layers = {names.get(layer, layer): layers.pop(layer) for layer in list(layers) if not layer.startswith(ignored)}
    problems = [f"{layer} is missing" for layer in card.shapes if layer not in layers]
    problems += [f"{layer!a:.60} is surplus" for layer in layers if layer not in card.shapes]
    problems += [
        f"{layer} {problem}"
        for layer, shape in card.shapes.items()
        if layer in layers and (problem := _problem(layers[layer], shape))
    ]
    weights = {}
    for layer in card.shapes if not problems else ():
        arrays = layers.pop(layer)  # let go of the originals one by one: no second copy of the whole
        with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite
            weights[layer] = tuple(aligned(each.read() if isinstance(each, Stored) else each) for each in arrays)
        if not all(all_finite(array) for array in weights[layer]):
            problems.append(f"{layer} holds NaN or infinite numbers")
    if problems:
        more = f" and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        named = "; ".join(problems[:MOST_PROBLEMS]) + more
        raise BadInput(f"{path}: is not {card.title}: {named}; {ADVICE}")
    return weights


def _problem(arrays: object, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with one layer's arrays before anything of them is read, or return None."""
    if not isinstance(arrays, (list, tuple)) or len(arrays) != 2:
        return "does not hold a kernel and a bias"
    for part, array, expected in zip(("kernel", "bias"), arrays, (shape, shape[-1:])):
        if not isinstance(array, (np.ndarray, Stored)) or array.dtype.kind != "f" or array.dtype.itemsize > 8:
            return f"{part} is {getattr(array, 'dtype', type(array).__name__)!s:.60}, expected float32"
        if array.shape != expected:
            return f"{part} is {array.shape!s:.60}, expected {expected}"
    return None


def random_weights(card: Card, seed: int = 0) -> Weights:
    """Weights for trying things out: He-initialised kernels, zero biases.

    The first layer is divided by the spread of pixels, the last by 4: activations then stay between 1 and 4 from layer
    to layer, and no class is certain. A layer's numbers depend on its name and `seed` alone. BadInput for a seed that
    is not 0 to LARGEST_SEED.
    """
    checked_seed(seed)
    first, *_, last = card.shapes
    weights = {}
    for layer, shape in card.shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(layer.encode())])
        kernel = rng.standard_normal(out=empty(shape), dtype=np.float32)
        kernel *= np.float32(np.sqrt(2 / np.prod(shape[:-1])) / {first: PIXEL_SPREAD, last: 4}.get(layer, 1))
        kernel.flags.writeable = False  # as what is read: variables may stand on it
        weights[layer] = (kernel, np.zeros(shape[-1], np.float32))
    return weights


def checked_seed(seed: int) -> int:
    """`seed`, or BadInput where numpy, TensorFlow or Keras would not take it."""
    if not 0 <= seed <= LARGEST_SEED:
        raise BadInput(f"--seed {seed}: must be 0 or more, and less than {LARGEST_SEED + 1:,}")
    return seed


def save(weights: dict[str, Sequence[np.ndarray]], path: str | os.PathLike) -> None:
    """Write `{layer: (kernel, bias)}` as a .npz that `load` reads, whole or not at all."""
    save_arrays({f"{layer}/{part}": array for layer, pair in weights.items() for part, array in zip(PARTS, pair)}, path)


def save_arrays(arrays: dict[str, np.ndarray], path: str | os.PathLike) -> None:
    """Write `{"layer/part": array}` as a .npz, whole or not at all."""
    npz.save(path, **arrays)


def fingerprint(weights: Mapping[str, Sequence[object]]) -> str:
    """16 hexadecimal digits that change with any name, shape or number of `{layer: arrays or variables}`."""
    digest = hashlib.sha256()
    for layer, arrays in weights.items():
        for array in arrays:
            array = np.ascontiguousarray(array)  # a tf.Variable becomes an array too
            digest.update(f"{layer} {array.shape} {array.dtype}\n".encode())
            digest.update(array.data)
    return digest.hexdigest()[:16]
