"""What a safely read pickle may name (`known`), and how numpy arrays are built from it.

Arrays are built here from their type, shape and bytes, each checked against the others, so that a crafted file cannot
reach into numpy. Whatever does not fit raises pickle.UnpicklingError.
"""

import math
import pickle
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

PLAIN_DTYPE = re.compile(r"[biufcSUO?]\d{0,9}")  # numbers, fixed-length strings, objects; no records, no dates
MOST_DIMENSIONS = 32  # numpy 1's limit
KEYS = (str, bytes, int, np.integer)


def known(module: str, name: str) -> "Function | None":
    """Return the function that stands for `module.name`, or None if a pickle may not name that."""
    # Python 2 and numpy 1 had other names for the same modules.
    module = module.replace("__builtin__", "builtins").replace("numpy._core", "numpy.core")
    return KNOWN.get((module, name))


def short(text: object) -> str:
    """Return `text`, which may come from a crafted file, as a piece of one line."""
    return ascii(str(text))[1:-1][:100]


def check_keys(keys: Iterable) -> None:
    """Refuse keys of dicts and members of sets that are not str, bytes or integers, before Python hashes them.

    To hash a tuple is to hash its items: nested 300,000 deep, that ends the process; 60 deep with each level twice in
    the next, it takes 2^60 steps.
    """
    for key in keys:
        if not isinstance(key, KEYS):
            raise pickle.UnpicklingError(f"{type(key).__name__} as a key")


class Function:
    """A function that a pickle may call. A pickle can also set attributes of what it names: not of this."""

    __slots__ = ("call", "copies")

    def __init__(self, call: Callable, copies: int = 0) -> None:
        self.call = call
        self.copies = copies  # bytes that it takes for each item of its first argument

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function is changed")


class Dtype:
    """A numpy dtype while it is read: first its kind and size, then (`__setstate__`) its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, kind: str | bytes, *_: Any) -> None:
        kind = _text(kind)
        if not PLAIN_DTYPE.fullmatch(kind):
            raise pickle.UnpicklingError(f"{short(kind)} is not a type of numbers or strings")
        self.dtype = np.dtype(kind)
        if not self.dtype.itemsize:  # any number of them would fit into no bytes
            raise pickle.UnpicklingError("strings of no length")

    def __setstate__(self, state: tuple) -> None:
        _, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("records are not read")
        self.dtype = self.dtype.newbyteorder(_text(order))


class Array:
    """A numpy array while it is read: made empty, then filled by `__setstate__`, built at the end by `array`."""

    __slots__ = ("shape", "dtype", "order", "data", "axes")

    def __init__(self, *_: Any) -> None:
        self.data = self.axes = None

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, dtype, fortran, self.data = state
        self.dtype, self.order = dtype.dtype, "F" if fortran else "C"

    def array(self, plain: Callable) -> np.ndarray:
        """Return the array; `plain` turns the items of an array of objects into plain values."""
        if self.data is None:
            raise pickle.UnpicklingError("an array without data")
        if self.dtype.kind == "O":
            array = self._objects(plain)
        else:
            array = _array(self.data, self.dtype, self.shape, self.order)
        return array if self.axes is None else array.transpose(self.axes)

    def _objects(self, plain: Callable) -> np.ndarray:
        count = _count(self.shape)
        if not isinstance(self.data, list) or len(self.data) != count:
            raise pickle.UnpicklingError("an array of objects that does not fit its shape")
        flat = np.empty(count, dtype=object)
        for index, item in enumerate(self.data):
            flat[index] = plain(item)
        return flat.reshape(self.shape)  # a list has the order of the rows, however the array lay in memory


def _array_protocol_5(data: bytes, dtype: Dtype, shape: tuple, order: str, axes: tuple | None = None) -> Array:
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    array.axes = axes
    return array


def _scalar(dtype: Dtype, data: bytes) -> np.generic:
    return _array(data, dtype.dtype, ())[()]


def _array(data: bytes, dtype: np.dtype, shape: tuple, order: str = "C") -> np.ndarray:
    if dtype.kind == "O" or not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array's data are not bytes")
    if len(data) != _count(shape) * dtype.itemsize:
        raise pickle.UnpicklingError(f"{len(data)} bytes for an array {short(shape)} of {dtype}")
    array = np.ndarray(shape, dtype, buffer=data, order=order)  # no copy
    check_text(array)
    return array


def check_text(array: np.ndarray) -> None:
    """Refuse an array of text with numbers that are no characters: Python raises a SystemError where one is used."""
    if array.dtype.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise pickle.UnpicklingError("a text with numbers that are no characters")


def _count(shape: tuple) -> int:
    plain = isinstance(shape, tuple) and len(shape) <= MOST_DIMENSIONS
    if not plain or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError("an array's shape is not a tuple of whole numbers")
    return math.prod(shape)


def _encoded(text: str, encoding: str | bytes) -> bytes:
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in another encoding than Latin-1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _of_keys(container: type) -> Callable:
    """`container`, of members that may be keys."""

    def made(items: Iterable = ()) -> set | frozenset:
        check_keys(items)
        return container(items)

    return made


def _ordered_dict(pairs: Iterable = ()) -> dict:
    check_keys(key for key, _ in pairs)  # Python 2 writes a list of pairs, Python 3 fills an empty dict
    return dict(pairs)


KNOWN = {
    ("builtins", "set"): Function(_of_keys(set), copies=100),
    ("builtins", "frozenset"): Function(_of_keys(frozenset), copies=100),
    ("builtins", "complex"): Function(complex),
    ("builtins", "bytes"): Function(_no_bytes),  # how protocols 0 to 2 write b""
    ("collections", "OrderedDict"): Function(_ordered_dict, copies=100),
    ("_codecs", "encode"): Function(_encoded, copies=1),  # how Python 3 writes bytes in protocols 0 to 2
    ("numpy", "dtype"): Function(Dtype),
    ("numpy", "ndarray"): Function(Array),
    ("numpy.core.multiarray", "_reconstruct"): Function(Array),
    ("numpy.core.multiarray", "scalar"): Function(_scalar),
    ("numpy.core.numeric", "_frombuffer"): Function(_array_protocol_5),
}
