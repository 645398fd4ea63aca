"""Read pickles and `.npy` files from elsewhere without running code from them.

A pickle is a small program: it names functions, and the ordinary reader calls them. `load` knows plain containers,
numbers, strings and numpy arrays (`common/pickled_arrays.py`); every other name is refused before anything is called.
Files written by Python 2 or 3 (protocols 0 to 5) and by numpy 1 or 2 are read alike.
"""

import math
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from common import npy, pickled_arrays
from common.errors import BadInput, foreign, reason
from common.files import open_regular

ADVICE = "delete it, and fetch or make it again"
DEEPEST = 100  # containers within containers
LARGEST_INTEGER = 128  # bits; Python refuses to print numbers of more than 4,300 digits
# A file of a few bytes can stand for much: an operation of one byte makes an empty set of 216 bytes, a list that holds
# another twice, which holds another twice ... has 2^28 items when it is written out. Both are counted, in bytes.
FREE = 100_000_000  # that any file may take while it is read, plus
PER_BYTE = 2  # for each byte of the file
EXPANDED_FREE = 32_000_000  # that any file may take when shared parts are written out, plus
EXPANDED_PER_BYTE = 8  # for each byte of the file: None, in one byte, becomes a pointer of 8
MOST_ARGUMENTS = 8  # of a call; arrays take five


def load(path_or_file: str | os.PathLike | BinaryIO, name: object = None) -> Any:
    """Return what the pickle holds: dict, list, tuple, set, numbers, str, bytes, None, numpy arrays and scalars.

    `name` stands for the file in messages, e.g. when `path_or_file` is an open member of an archive. Keys of dicts
    that Python 2 wrote as byte strings come back as str; other byte strings stay bytes. An OrderedDict becomes a dict.
    Arrays are read-only. Keys and members of sets are str, bytes or integers. Raises BadInput when the file is absent,
    cut off, no pickle, names anything else, or is built to fill the memory or the stack.
    """
    if hasattr(path_or_file, "read"):
        return _unpickled(path_or_file, name or getattr(path_or_file, "name", "pickle"))
    with open_regular(path_or_file) as file:
        return _unpickled(file, name or path_or_file)


def load_npy(path: str | os.PathLike) -> Any:
    """Return the array of a `.npy` file; for one of objects, whatever the pickle in it holds, as `load` reads it."""
    with open_regular(path) as file, foreign(path, "a .npy file", ADVICE):
        shape, dtype = npy.header(file)
        if not dtype.itemsize:
            raise ValueError(f"an array {shape} of {dtype}")
        if dtype.kind == "O":
            return _unpickled(file, path)
        start = file.tell()
        missing = math.prod(shape) * dtype.itemsize - (file.seek(0, 2) - start)
        if missing > 0:  # asked before numpy reserves memory for all
            raise BadInput(f"{path}: is cut off, {missing:,} bytes are missing; {ADVICE}")
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
        pickled_arrays.check_text(array)
        return array


def _unpickled(file: BinaryIO, name: object) -> Any:
    try:
        start = file.tell()
        value = _Unpickler(file, name).load()
        return _plain(value, {}, EXPANDED_FREE + EXPANDED_PER_BYTE * (file.tell() - start)).value
    except BadInput:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        known = isinstance(error, (pickle.UnpicklingError, MemoryError))
        why = f" ({reason(error)})" if known else ""
        raise BadInput(f"{name}: is cut off, damaged or no pickle of plain values{why}; {ADVICE}") from None


class _Unpickler(pickle._Unpickler):
    """The reader that Python has in Python: the one in C reserves memory for any number that a damaged file names."""

    def __init__(self, file: BinaryIO, name: object) -> None:
        super().__init__(file, encoding="bytes")  # Python 2's str: array data stays as it is, keys are decoded below
        self.name, self.file, self.taken = name, file, 0

    def find_class(self, module: str, name: str) -> pickled_arrays.Function:
        """Return our stand-in for a known name; refuse every other."""
        function = pickled_arrays.known(module, name)
        if function is None:
            raise BadInput(
                f"{self.name}: refers to `{pickled_arrays.short(f'{module}.{name}')}`, which is not an array or a "
                "plain container; refused, nothing was run"
            )
        return function

    def take(self, size: int) -> None:
        """Count `size` bytes of memory."""
        self.taken += size
        if self.taken > FREE and self.taken > FREE + PER_BYTE * self.file.tell():
            raise pickle.UnpicklingError("it takes far more memory than its size")

    def load_bytearray8(self) -> None:
        """Array data in protocol 5; taken as bytes, for bytearray(length) would fill the memory before reading."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(length))

    def load_reduce(self) -> None:
        """Call a function, in the words of protocol 2 and later."""
        self.count(*self.stack[-2:])
        super().load_reduce()

    def _instantiate(self, function: Any, arguments: list | tuple) -> None:
        """Call a function, in the words of protocols 0 and 1."""
        self.count(function, arguments)
        super()._instantiate(function, arguments)

    def count(self, function: Any, arguments: Any) -> None:
        """Count the copy that a function makes of an argument, which may be used many times."""
        if not isinstance(arguments, (list, tuple)) or len(arguments) > MOST_ARGUMENTS:
            raise pickle.UnpicklingError("a call with no list of arguments, or a long one")
        if arguments and getattr(function, "copies", 0):
            self.take(function.copies * len(arguments[0]))

    # Python hashes what becomes a key, and equal parts of a nested tuple again and again: what may be one is looked at
    # first. `self.stack` holds what came after the last mark.
    def load_setitem(self) -> None:
        pickled_arrays.check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        pickled_arrays.check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        pickled_arrays.check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        pickled_arrays.check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        pickled_arrays.check_keys(self.stack)
        super().load_frozenset()


def _counted(load: Callable, size: int) -> Callable:
    """The reader of one operation, which first counts the bytes that its result takes."""

    def counted(self: _Unpickler) -> None:
        self.take(size)
        load(self)

    return counted


def _dispatch() -> dict:
    """{operation: its reader}: Python's own, or ours above, each with what it takes in memory at most (measured)."""
    small = (pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT1, pickle.EMPTY_TUPLE, pickle.BINGET)
    sizes = dict.fromkeys(small, 16)  # a pointer on the stack, and one in a list
    sizes |= dict.fromkeys((pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE), 100)  # an entry of the memo
    sizes[pickle.EMPTY_SET] = 224
    return {
        code: _counted(getattr(_Unpickler, reader.__name__), sizes.get(bytes([code]), 64))
        for code, reader in pickle._Unpickler.dispatch.items()
    }


_Unpickler.dispatch = _dispatch()


class _Plain(NamedTuple):
    value: Any
    size: int  # bytes when written out: what is shared counts each time
    height: int = 0  # containers within containers
    items: int = 1  # of nested lists
    longest: int = 0  # characters of a text among them; an array of them takes as many for each item


def _plain(value: Any, done: dict, limit: int, depth: int = 0) -> _Plain:
    """Return `value` with arrays finished and keys as str; `done` holds what was met before, by identity.

    Raises UnpicklingError for more than `limit` bytes when written out, or more than DEEPEST levels: `depth` counts
    those of this recursion, `height` also those below parts that were met before, which are not entered again.
    """
    if isinstance(value, int) and value.bit_length() > LARGEST_INTEGER:
        raise pickle.UnpicklingError(f"an integer of {value.bit_length():,} bits")
    if value is None or isinstance(value, (bool, int, float, complex)):
        return _Plain(value, 8)
    if isinstance(value, np.generic):
        return _Plain(value, 8 + value.nbytes, longest=value.nbytes)
    if isinstance(value, (str, bytes)):
        return _Plain(value, 8 + len(value), longest=len(value))
    if id(value) in done:
        return done[id(value)]
    if depth > DEEPEST:
        raise pickle.UnpicklingError("it is nested too deeply")
    size, height, items, longest = 8, 0, 0, 0

    def part(item: Any) -> Any:
        nonlocal size, height, items, longest
        plain = _plain(item, done, limit, depth + 1)
        size, height = size + plain.size, max(height, plain.height)
        items, longest = items + plain.items, max(longest, plain.longest)
        return plain.value

    if isinstance(value, pickled_arrays.Array):
        if isinstance(value.data, list) and done.setdefault(("objects", id(value.data)), value) is not value:
            raise pickle.UnpicklingError("two arrays share their objects")  # numpy gives each a list of its own
        plain = value.array(part)
        size += 0 if plain.dtype.kind == "O" else plain.nbytes
    elif isinstance(value, pickled_arrays.Dtype):
        plain = value.dtype
    elif isinstance(value, dict):
        plain = {_key(part(key)): part(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple, set, frozenset)):
        plain = type(value)(map(part, value))
    else:
        raise pickle.UnpicklingError("a function in place of a value")
    nested = isinstance(value, (list, tuple))
    if size > limit or (nested and 4 * items * longest > limit):
        raise pickle.UnpicklingError("it is far larger than the file when its shared parts are written out")
    if height >= DEEPEST:
        raise pickle.UnpicklingError("it is nested too deeply")
    done[id(value)] = _Plain(plain, size, height + 1, *((items, longest) if nested else ()))
    return done[id(value)]


def _key(key: str | bytes | int) -> str | bytes | int:
    return key.decode("ascii") if isinstance(key, bytes) and key.isascii() else key
