"""Read HDF5 files from elsewhere in a process of their own: on a damaged one, libhdf5 can loop for ever or crash."""

import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np

from common.errors import BadInput, foreign
from weights.npz import Stored

CHILD = pathlib.Path(__file__).with_name("hdf5_child.py")
TIME_LIMIT = 60  # seconds, for starting Python on a busy machine and finding the arrays
SLOWEST_DISK = 5_000_000  # bytes a second, which are added to it
MOST_LISTED = 8 << 20  # bytes of the list of arrays


@contextlib.contextmanager
def opened(
    path: str | os.PathLike, expected: str, advice: str, name: object = None
) -> Iterator[dict[str, list[Stored]]]:
    """{layer: its arrays in order} of a file that Keras wrote, to be read within the block, as float32.

    Layers of models that are nested in others stand beside the others. `name` stands for the file in messages.
    BadInput, in one line, for whatever is wrong with the file, also when it takes too long.
    """
    name = path if name is None else name
    # Plug-ins that a file asks for are not loaded.
    environment = os.environ | {
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONSAFEPATH": "1",  # downloads land beside the child: an h5py.py among them would be run
    }
    command = [sys.executable, str(CHILD), os.path.abspath(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    limit = TIME_LIMIT + os.path.getsize(path) / SLOWEST_DISK
    with subprocess.Popen(command, env=environment, **pipes) as child:
        watch = threading.Timer(limit, child.kill)
        watch.start()
        try:
            with foreign(name, expected, advice):
                yield _layers(child)
        except (BadInput, OSError):
            if not watch.is_alive():
                found = f"took libhdf5 more than {limit:.0f} seconds: it is damaged, or the disk is very slow"
                raise BadInput(f"{name}: {found}; {advice}") from None
            raise
        finally:
            watch.cancel()
            child.kill()
            with contextlib.suppress(OSError):  # what it has not read of our questions; said once, above
                child.stdin.close()


def _layers(child: subprocess.Popen) -> dict[str, list[Stored]]:
    line = child.stdout.readline(MOST_LISTED)
    if not line.endswith(b"\n"):
        raise ValueError("libhdf5 crashed" if len(line) < MOST_LISTED else "it lists too many arrays")
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    layers = {}
    for layer, arrays in answer["layers"]:
        layers.setdefault(layer, []).extend(_stored(child, *array) for array in arrays)
    return layers


def _stored(child: subprocess.Popen, address: str, shape: list[int], dtype: str) -> Stored:
    def read() -> np.ndarray:
        child.stdin.write(json.dumps(address).encode() + b"\n")
        child.stdin.flush()
        array = np.empty(shape, "<f4")
        received = child.stdout.readinto(array.data.cast("B")) if array.size else 0
        if received != 4 * math.prod(shape):
            raise ValueError(f"{address!a:.60} cannot be read")
        return array

    return Stored(tuple(shape), np.dtype(dtype), read)
