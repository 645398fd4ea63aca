"""Read the weights of a Keras network from a file, and check every array; nothing in the file is ever run.

The format is recognised by the file's content, the layers are found by name:

* `.h5`: weights as `keras.applications` publishes them, or a whole model by `model.save`
* `.weights.h5` and `.keras`, as Keras 3 saves them
* `.npz` with `layer/kernel` and `layer/bias`; batch normalisation has `gamma`, `beta`, `moving_mean`, `moving_variance`
* VGG16 as others converted it from Caffe: `.npz` with `conv1_1_W` and `conv1_1_b` (University of Toronto), `.npy` with
  a pickled `{"conv1_1": [kernel, bias], ...}`

In a whole model, other layers (such as a head of its own) are skipped, and a nested backbone is found. The names of
ResNet50's layers in Keras before 2.2 (`res2a_branch2a`) are known.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from common import kinds, zips
from common.errors import BadInput, foreign
from common.files import open_regular
from weights import hdf5, npz, reading
from weights.arrays import all_finite
from weights.npz import Stored

FORMATS = "a .h5, .keras, .npz or .npy"
ADVICE = "give another file with --weights"
MODEL_WEIGHTS = "model.weights.h5"  # the member of a .keras
OTHER_NAMES = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions", "probs": "predictions"}
OLD_RESNET = re.compile(r"(res|bn)(\d)([a-f])_branch(1|2a|2b|2c)")
OLD_BRANCHES = {"1": 0, "2a": 1, "2b": 2, "2c": 3}
CAFFE_VGG = re.compile(r"(?:conv(\d)_(\d)|fc([678]))_([Wb])")
CAFFE_DENSE = {"6": "fc1", "7": "fc2", "8": "predictions"}
# kernel[0, 0, :, 0] of VGG16's first layer for blue, green, red, as its authors trained it
FIRST_KERNEL_BGR = np.array([0.42947057, 0.55037946, 0.48001540])


def read(
    path: str | os.PathLike, shapes: dict[str, tuple[int, ...]], title: str, classifier: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """{name: float32 array} for `shapes`, {"layer/part": shape} in Keras's order.

    The arrays whose names start with one of `classifier` may stand in the file without being asked for. BadInput, in
    one line, unless the file holds all the others, each of the right shape, and only finite numbers; or where it holds
    more layers of their kind: it is then a larger network.
    """
    kind = kinds.kind_of(path, FORMATS)
    if kind in (kinds.HDF5, kinds.KERAS):
        with _opened(path, kind, title) as layers:
            return _checked(_named(layers, shapes), shapes, path, title, classifier)
    if kind == kinds.NPZ:
        with npz.opened(path, FORMATS, ADVICE) as arrays:
            return _checked(_of_vgg(arrays, _in_bgr), shapes, path, title, classifier)
    if kind == kinds.NPY:
        return _checked(_of_vgg(_from_npy(path)), shapes, path, title, classifier)
    raise BadInput(f"{path}: is {kind}; {title} is read from {FORMATS}; {ADVICE}")


@contextlib.contextmanager
def _opened(path: str | os.PathLike, kind: str, title: str) -> Iterator[dict[str, list[Stored]]]:
    """{layer: its arrays} of an HDF5 file, or of the one inside a .keras."""
    expected = f"{title}'s weights by Keras"
    if kind == kinds.HDF5:
        with hdf5.opened(path, expected, ADVICE) as layers:
            yield layers
        return
    with tempfile.TemporaryDirectory() as folder, foreign(path, expected, ADVICE):
        extracted = os.path.join(folder, MODEL_WEIGHTS)
        with open_regular(path) as file, zips.opened(file, npz.MOST_LISTED) as archive:
            size = archive.getinfo(MODEL_WEIGHTS).file_size
            if size > 3 * file.seek(0, os.SEEK_END) + npz.SPARE:
                raise ValueError(f"{MODEL_WEIGHTS} unpacks to {size:,} bytes")
            free = shutil.disk_usage(folder).free
            if size > free:
                raise BadInput(
                    f"{path}: unpacks to {size:,} bytes, and {folder} has {free:,}; free space, or set TMPDIR"
                )
            with archive.open(MODEL_WEIGHTS) as member, open(extracted, "wb") as copy:
                shutil.copyfileobj(member, copy)
        with hdf5.opened(extracted, expected, ADVICE, name=path) as layers:
            yield layers


def _named(layers: dict[str, list[Stored]], shapes: Iterable[str]) -> dict[str, Stored]:
    """{"layer/part": array}. A layer's arrays are identified by their order, as Keras itself does it."""
    parts = {}
    for name in shapes:
        parts.setdefault(name.split("/")[0], []).append(name)
    if not any(_modern(layer) in parts for layer in layers):
        layers = _numbered(layers, parts)
    arrays = {}
    for layer, stored in layers.items():
        layer = _modern(layer) if _modern(layer) in parts else layer
        known = parts.get(layer, ())
        for index, array in enumerate(stored):
            arrays[known[index] if index < len(known) else f"{layer}/{index}"] = array
    return arrays


def _modern(layer: str) -> str:
    """The name that Keras gives the layer today."""
    old = OLD_RESNET.fullmatch(layer)
    if not old:
        return OTHER_NAMES.get(layer, layer)
    kind, stage, block, branch = old.groups()
    kind = "conv" if kind == "res" else "bn"
    return f"conv{stage}_block{ord(block) - ord('a') + 1}_{OLD_BRANCHES[branch]}_{kind}"


def _numbered(layers: dict[str, list[Stored]], parts: dict[str, list[str]]) -> dict[str, list[Stored]]:
    """The layers under their names, where Keras (before 3.6) has only numbered them: conv2d, conv2d_1, ..."""
    dense = [layer for layer in parts if layer in ("fc1", "fc2", "predictions")]
    normalized = [layer for layer, names in parts.items() if len(names) == 4]
    convolutions = [layer for layer in parts if layer not in dense + normalized]
    renamed = {}
    for kind, wanted in (("conv2d", convolutions), ("batch_normalization", normalized), ("dense", dense)):
        found = [layer for layer in layers if re.fullmatch(rf"{kind}(_\d{{1,6}})?", layer)]
        found.sort(key=lambda layer, kind=kind: int(layer[len(kind) + 1 :] or 0))
        renamed |= dict(zip(found, wanted))
    return {renamed.get(layer, layer): arrays for layer, arrays in layers.items()}


def _from_npy(path: str | os.PathLike) -> dict[str, Stored]:
    """The arrays of a pickled {"conv1_1": [kernel, bias], ...} under the names that they would have in a .npz."""
    arrays = {}
    for layer, pair in reading.from_npy(path).items():
        known = (
            isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(each, np.ndarray) for each in pair)
        )
        for part, array in zip("Wb", pair if known else ()):
            arrays[f"{layer}_{part}"] = Stored(array.shape, array.dtype, lambda array=array: array)
    return arrays


def _of_vgg(arrays: dict[str, Stored], turned: Callable[[np.ndarray], np.ndarray] | None = None) -> dict[str, Stored]:
    """The same arrays under Keras's names, if they are called as VGG16's in Caffe. turned: for the first kernel."""
    if "conv1_1_W" not in arrays:
        return arrays
    renamed = {}
    for name, array in arrays.items():
        known = CAFFE_VGG.fullmatch(name)
        if known:
            block, index, dense, part = known.groups()
            layer = f"block{block}_conv{index}" if block else CAFFE_DENSE[dense]
            name = f"{layer}/{'kernel' if part == 'W' else 'bias'}"
        renamed[name] = array
    first = renamed["block1_conv1/kernel"]
    if turned:
        renamed["block1_conv1/kernel"] = first._replace(read=lambda: turned(first.read()))
    return renamed


def _in_bgr(kernel: np.ndarray) -> np.ndarray:
    """Toronto's first kernel for blue, green, red.

    The script beside that file feeds red, green, blue. Should the numbers stand as VGG16's authors published them, for
    blue, green, red, they stay so.
    """
    published = kernel.shape[2] == 3 and np.allclose(kernel[0, 0, :, 0], FIRST_KERNEL_BGR, atol=1e-3)
    return kernel if published else kernel[:, :, ::-1]


def _checked(
    arrays: dict[str, Stored],
    shapes: dict[str, tuple[int, ...]],
    path: str | os.PathLike,
    title: str,
    classifier: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """The arrays in the order of `shapes`, float32; raise BadInput with all that is wrong."""
    missing = [name for name in shapes if name not in arrays]
    wrong = [name for name, shape in shapes.items() if name in arrays and arrays[name].shape != shape]
    if missing + wrong and all(name.startswith(classifier) for name in missing + wrong) and classifier:
        found = f"{missing[-1]} is missing" if missing else f"{wrong[0]} is {arrays[wrong[0]].shape}"
        raise BadInput(f"{path}: has no classifier of ImageNet ({found}): features can be computed, not classes")
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{name!a:.60} is surplus" for name in arrays if _surplus(name, shapes, classifier)]
    checked = {}
    for name, shape in shapes.items():
        if name in arrays:
            problem = _problem(arrays[name], shape)
            if problem:
                problems.append(f"{name} {problem}")
            elif not problems:  # else nothing more is read
                checked[name] = np.asarray(arrays[name].read(), dtype=np.float32)
                if not all_finite(checked[name]):
                    problems.append(f"{name} holds NaN or infinite numbers")
    if problems:
        more = f" and {len(problems) - reading.MOST_PROBLEMS} more" if len(problems) > reading.MOST_PROBLEMS else ""
        raise BadInput(f"{path}: is not {title}: {'; '.join(problems[: reading.MOST_PROBLEMS])}{more}; {ADVICE}")
    return checked


def _surplus(name: str, shapes: Iterable[str], classifier: tuple[str, ...]) -> bool:
    """Whether this is an array of a larger network: its layer is named as ours are, but with other numbers."""
    layer = name.split("/")[0]
    ours = {each.split("/")[0] for each in shapes}
    if name in shapes or name.startswith(classifier):
        return False
    return layer in ours or re.sub(r"\d+", "#", layer) in {re.sub(r"\d+", "#", each) for each in ours}


def _problem(array: Stored, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with an array before anything of it is read, or return None."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        return f"is {array.dtype}, expected float32"
    return None if array.shape == shape else f"is {array.shape!s:.60}, expected {shape}"
