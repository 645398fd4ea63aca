"""Read the weights of a Keras network from a file, and check every array; nothing in the file is ever run.

The format is recognised by the file's content, the layers are found by name:

* `.h5`, as `keras.applications` publishes it, and `.weights.h5`, as Keras 3 saves it
* `.npz` with `layer/kernel` and `layer/bias`; batch normalisation has `gamma`, `beta`, `moving_mean`, `moving_variance`
"""

import zipfile
import zlib

import h5py
import numpy as np

from common.files import BadInput
from weights.reading import MOST_PROBLEMS

OTHER_NAMES = {"probs": "predictions"}  # what older versions of Keras called ResNet50's last layer
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError, AttributeError, zlib.error)


def read(path, shapes, title, classifier=()):
    """Return {name: float32 array} for `shapes`, {"layer/part": shape} in Keras's order.

    The arrays of layers named in `classifier` may stand in the file without being asked for. BadInput, in one line,
    unless the file holds all the others and no more, each of the right shape, and only finite numbers.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give the path of a .h5 or .npz") from None
    if head != b"\x89HDF\r\n\x1a\n" and not head.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path}: is neither HDF5 (.h5) nor .npz; {title} is read from these")
    try:
        with h5py.File(path) if head.startswith(b"\x89HDF") else np.load(path, allow_pickle=False) as file:
            arrays = _datasets(file, shapes) if isinstance(file, h5py.File) else {key: file[key] for key in file.files}
            return _checked(arrays, shapes, path, title, classifier)
    except (*DAMAGED, zipfile.BadZipFile) as error:
        found = f"is damaged, or was not written by Keras ({' '.join(str(error).split()):.200})"
        raise BadInput(f"{path}: {found}; delete it and fetch it again") from None


def _datasets(file, shapes):
    """Return {"layer/part": dataset}. A layer's arrays are told apart by their order, as Keras itself does it."""
    layers = {}
    if "layer_names" in file.attrs:  # published files: the names stand in attributes
        for layer in _texts(file.attrs["layer_names"]):
            layers[layer] = [file[layer][name] for name in _texts(file[layer].attrs["weight_names"])]
    else:  # .weights.h5: layers/conv2d_1/vars/0, 1 …, the layer's own name is an attribute of vars
        for group in file["layers"].values():
            if len(group.get("vars", ())):
                variables = group["vars"]
                layers[variables.attrs["name"]] = [variables[str(index)] for index in range(len(variables))]
    names = {}
    for name in shapes:
        names.setdefault(name.split("/")[0], []).append(name)
    arrays = {}
    for layer, datasets in layers.items():
        layer = OTHER_NAMES.get(layer, layer)
        for index, dataset in enumerate(datasets):
            if dataset.external or dataset.is_virtual or dataset.file.filename != file.filename:
                raise ValueError(f"{layer} points to another file")
            known = names.get(layer, ())
            arrays[known[index] if index < len(known) else f"{layer}/{index}"] = dataset
    return arrays


def _texts(names):
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _checked(arrays, shapes, path, title, classifier):
    """Return the arrays in the order of `shapes`, float32; raise BadInput with all that is wrong."""
    missing = [name for name in shapes if name not in arrays]
    if missing and all(name.startswith(classifier) for name in missing):
        raise BadInput(f"{path}: has no classifier ({missing[-1]} is missing): features can be computed, not classes")
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{n!a:.60} is surplus" for n in arrays if n not in shapes and not n.startswith(classifier)]
    checked = {}
    for name, shape in shapes.items():
        if name in arrays:
            problem = _problem(arrays[name], shape)
            if problem:
                problems.append(f"{name} {problem}")
            else:
                checked[name] = np.asarray(arrays[name], dtype=np.float32)
                if not np.isfinite(checked[name]).all():
                    problems.append(f"{name} holds NaN or infinite numbers")
    if problems:
        more = f" and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise BadInput(f"{path}: is not {title}: {'; '.join(problems[:MOST_PROBLEMS])}{more}")
    return checked


def _problem(array, shape):
    """Say what is wrong with an array, or with an HDF5 dataset before anything of it is read; or return None."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        return f"is {array.dtype}, expected float32"
    return None if array.shape == shape else f"is {array.shape}, expected {shape}"
