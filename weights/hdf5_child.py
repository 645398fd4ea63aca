"""The process that reads an HDF5 file for `weights.hdf5`, which may end it at any time; not to be imported.

    python hdf5_child.py FILE

It writes a line of JSON, {"layers": [[name, [[address, shape, type], ...]], ...]} or {"error": text}; then, for every
address that it reads from stdin, a line each, the bytes of that array as little-endian float32.
"""

import json
import os
import sys
from typing import BinaryIO

import h5py
import numpy as np

MOST_GROUPS = 20_000  # ResNet152 has 2,000
DEEPEST = 8  # models nested in models
SPARE = 600 << 20  # bytes of memory, beyond three times the file: Python and the libraries take 200 MB


def main() -> None:
    """Answer on stdout."""
    answers = sys.stdout.buffer
    try:
        _limit_memory(3 * os.path.getsize(sys.argv[1]) + SPARE)
        file = h5py.File(sys.argv[1], "r")
        layers = _layers(file)
    except Exception as error:  # a damaged file can raise nearly anything
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)
    _say(answers, {"layers": layers})
    for line in sys.stdin:  # an error now ends the process: only numbers may follow, and bytes that are missing tell
        array = np.ascontiguousarray(_at(file, json.loads(line))[...], "<f4")
        answers.write(array.data.cast("B") if array.size else b"")
        answers.flush()


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]  # of this system or job
    resource.setrlimit(resource.RLIMIT_DATA, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def _say(answers: BinaryIO, content: dict) -> None:
    answers.write(json.dumps(content).encode() + b"\n")
    answers.flush()


def _layers(file: h5py.File) -> list:
    root = _at(file, "model_weights") if "model_weights" in file else file  # a whole model, or weights alone
    found = []
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        for layer in _names(root, "layer_names"):
            found += _of_names(root, layer)
    else:
        _of_variables(root, [], found)
    return found


def _of_names(root: h5py.Group, layer: str) -> list:
    """The layers of a group whose attribute `weight_names` lists its arrays: one layer, or those of a nested model."""
    group, layers = _at(root, layer), {}
    for name in _names(group, "weight_names"):
        layers.setdefault(([layer] + name.split("/"))[-2], []).append(_described(_at(group, name)))
    if len(layers) == 1:  # inside, TensorFlow may have numbered the layer's name
        layers = {layer: next(iter(layers.values()))}
    return list(layers.items())


def _of_variables(group: h5py.Group, path: list, found: list) -> None:
    """The layers below a group, each with its arrays in `vars/0`, `vars/1` ..., and its name in an attribute."""
    if len(path) > 2 * DEEPEST or len(found) > MOST_GROUPS:
        raise ValueError("it is nested too deeply")
    for key in group:
        if key == "optimizer" and not path:
            continue
        child = _at(group, key)
        if not isinstance(child, h5py.Group):
            continue
        if key == "vars":
            name = child.attrs.get("name", path[-1] if path else "")
            arrays = [_described(_at(child, str(index))) for index in range(len(child))]
            if arrays:
                found.append([name.decode() if isinstance(name, bytes) else str(name), arrays])
        else:
            _of_variables(child, [*path, key], found)


def _names(group: h5py.Group, attribute: str) -> list:
    """A list of names in an attribute, or in several where it was too long for one."""
    names = list(group.attrs[attribute]) if attribute in group.attrs else []
    number = 0
    while f"{attribute}{number}" in group.attrs:
        names += list(group.attrs[f"{attribute}{number}"])
        number += 1
    if len(names) > MOST_GROUPS:
        raise ValueError("it lists too many names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _at(group: h5py.Group, address: str) -> h5py.Group | h5py.Dataset:
    """What lies at an address inside the file; links that could lead out of it are refused."""
    for part in address.strip("/").split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{part!a:.60} points elsewhere")
        group = group[part]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise ValueError(f"{address!a:.60} points to another file")
    return group


def _described(dataset: h5py.Dataset) -> list:
    return [dataset.name, list(dataset.shape), dataset.dtype.str]


if __name__ == "__main__":
    main()
