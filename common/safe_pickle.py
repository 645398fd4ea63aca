"""Read pickles and `.npy` files from elsewhere without running code from them.

A pickle is a small program: it names functions, and the ordinary reader calls them. `load` knows plain containers,
numbers, strings and numpy arrays (`common/pickled_arrays.py`); every other name is refused before anything is called.
Files written by Python 2 or 3 (protocols 0 to 5) and by numpy 1 or 2 are read alike.
"""

import contextlib
import math
import pickle
import struct

import numpy as np

from common import pickled_arrays
from common.files import BadInput

ADVICE = "delete it, and fetch or make it again"


def load(path_or_file, name=None):
    """Return what the pickle holds: dict, list, tuple, set, numbers, str, bytes, None, numpy arrays and scalars.

    `name` stands for the file in messages, e.g. when `path_or_file` is an open member of an archive. Keys of dicts
    that Python 2 wrote as byte strings come back as str; other byte strings stay bytes. An OrderedDict becomes a dict.
    Arrays are read-only. Raises BadInput when the file is absent, cut off, no pickle, or names anything else.
    """
    if hasattr(path_or_file, "read"):
        return _unpickled(path_or_file, name or getattr(path_or_file, "name", "pickle"))
    with _opened(path_or_file) as file:
        return _unpickled(file, name or path_or_file)


def load_npy(path):
    """Return the array of a `.npy` file; the pickle inside an array of objects is read as `load` reads it."""
    with _opened(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            if dtype.kind == "O":
                return _unpickled(file, path)
            start = file.tell()
            missing = math.prod(shape) * dtype.itemsize - (file.seek(0, 2) - start)
            if missing > 0:  # asked before numpy reserves memory for all
                raise BadInput(f"{path}: is cut off, {missing:,} bytes are missing; {ADVICE}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        except BadInput:
            raise
        except Exception as error:  # a crafted header can raise nearly anything
            reason = pickled_arrays.short(error)
            raise BadInput(f"{path}: is not a .npy file that can be read ({reason}); {ADVICE}") from None


@contextlib.contextmanager
def _opened(path):
    try:
        file = open(path, "rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give the path of a file") from None
    with file:
        yield file


def _unpickled(file, name):
    try:
        return _plain(_Unpickler(file, name).load(), {})
    except BadInput:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = f" ({pickled_arrays.short(error)})" if isinstance(error, pickle.UnpicklingError) else ""
        raise BadInput(f"{name}: is cut off, damaged or no pickle of plain values{reason}; {ADVICE}") from None


class _Unpickler(pickle._Unpickler):
    """The reader that Python has in Python: the one in C reserves memory for any number that a damaged file names."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file, name):
        super().__init__(file, encoding="bytes")  # Python 2's str: array data stays as it is, keys are decoded below
        self.name = name

    def find_class(self, module, name):
        """Return our stand-in for a known name; refuse every other."""
        function = pickled_arrays.known(module, name)
        if function is None:
            raise BadInput(
                f"{self.name}: refers to `{pickled_arrays.short(f'{module}.{name}')}`, which is not an array or a "
                "plain container; refused, nothing was run"
            )
        return function

    def load_bytearray8(self):
        """Array data in protocol 5; taken as bytes, for bytearray(length) would fill the memory before reading."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(length))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _plain(value, done):
    """Return `value` with arrays finished and keys as str; `done` holds what was met before, by identity."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, pickled_arrays.Array):
        plain = value.array(lambda item: _plain(item, done))
    elif isinstance(value, pickled_arrays.Dtype):
        plain = value.dtype
    elif isinstance(value, dict):
        plain = {_key(_plain(key, done)): _plain(item, done) for key, item in value.items()}
    elif isinstance(value, (list, tuple, set, frozenset)):
        plain = type(value)(_plain(item, done) for item in value)
    else:
        raise pickle.UnpicklingError("a function in place of a value")
    done[id(value)] = plain
    return plain


def _key(key):
    return key.decode("ascii") if isinstance(key, bytes) and key.isascii() else key
