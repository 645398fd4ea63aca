"""Read Caffe's `.caffemodel`, a protocol-buffer message, and transpose its arrays to TensorFlow's order.

Only the few fields that hold arrays are looked at; the numbers of the fields are those of Caffe's `caffe.proto`.
A message is a sequence of fields, each a key (field number * 8 + wire type) and a value.
"""

import itertools
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from common.errors import BadInput
from common.files import open_regular

ADVICE = "give another file with --weights"
NAME = 1  # NetParameter: name of the network
# NetParameter: layer lists, old and new -> field numbers of a layer's name and of its blobs
LAYERS = {2: (4, 6), 100: (1, 7)}
OLD_SHAPE = (1, 2, 3, 4)  # BlobProto: num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8  # BlobProto; BlobShape has one field, dim = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MOST_DIMENSIONS = 32  # numpy's limit
MOST_BLOBS, MOST_PIECES = 10_000, 100_000  # ResNet152 has 800 blobs; Caffe writes each in one piece
MOST_FIELDS = 300_000  # of all messages; one may have 2 bytes, and takes a microsecond


class _Damaged(Exception):
    pass


def read(path: str | os.PathLike) -> tuple[str, dict[str, list[np.ndarray]]]:
    """(name of the network, {layer: [array, ...]}) as Caffe stores them, for every layer that has arrays.

    The arrays are views into the mapped file, float32 (or float64): convolutions (out, in / groups, height, width),
    dense layers (out, in), in old files (1, 1, out, in). BadInput when the file is not whole.
    """
    with open_regular(path, "a .caffemodel") as file:
        try:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):  # ValueError: an empty file
            raise BadInput(f"{path}: cannot be mapped into memory; expected a .caffemodel; {ADVICE}") from None
    try:
        name, layers = _network(content)
    except _Damaged as error:
        raise BadInput(f"{path}: is not a .npy, .npz or whole .caffemodel ({error}); {ADVICE}") from None
    if not layers:
        raise BadInput(f"{path}: holds no layers with weights; expected a .caffemodel; {ADVICE}")
    return name, layers


def _network(content: memoryview) -> tuple[str, dict[str, list[np.ndarray]]]:
    network, layers, count, seen = "", {}, 0, itertools.count()
    for number, value in _fields(content, seen):
        if number == NAME:
            network = _text(value)
        elif number in LAYERS:
            name, blobs = _layer(_message(value), *LAYERS[number], seen)
            count += len(blobs)
            if blobs and name in layers:
                raise _Damaged(f"two layers {name!a:.60}")
            if count > MOST_BLOBS:
                raise _Damaged(f"more than {MOST_BLOBS:,} arrays")
            if blobs:
                layers[name] = blobs
    return network, layers


def to_tensorflow(
    layers: Mapping[str, Sequence[np.ndarray]], flattened: Mapping[str, tuple[int, int, int]]
) -> dict[str, list[np.ndarray]]:
    """`{layer: [kernel, bias]}` in TensorFlow's order, copied out of the file.

    Convolutions (O, I, H, W) become (H, W, I, O), dense layers (out, in) become (in, out). `flattened` names dense
    layers that read a volume: `{layer: (C, H, W)}`. Caffe flattens it channel by channel, TensorFlow position by
    position, so the rows change places. Layers that do not hold two arrays are left as they are.
    """
    return {
        layer: [_kernel(arrays[0], arrays[1].size, flattened.get(layer)), np.array(arrays[1]).reshape(-1)]
        if len(arrays) == 2
        else arrays
        for layer, arrays in layers.items()
    }


def _kernel(array: np.ndarray, outputs: int, volume: tuple[int, int, int] | None) -> np.ndarray:
    if array.ndim == 4 and array.shape[:3] == (1, 1, outputs):  # a dense layer in an old file
        array = array[0, 0]
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2 and volume and array.shape[1] == math.prod(volume):
        outputs, inputs = array.shape
        array = array.reshape(outputs, *volume).transpose(2, 3, 1, 0).reshape(inputs, outputs)
    else:
        array = array.T
    return np.array(array, order="C")


def _layer(message: memoryview, name_field: int, blobs_field: int, seen: Iterator[int]) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, value in _fields(message, seen):
        if number == name_field:
            name = _text(value)
        elif number == blobs_field:
            blobs.append(_blob(_message(value), seen))
            if len(blobs) > MOST_BLOBS:
                raise _Damaged(f"more than {MOST_BLOBS:,} arrays")
    return name, blobs


def _blob(message: memoryview, seen: Iterator[int]) -> np.ndarray:
    """The array of one BlobProto."""
    old_shape, shape, numbers = {}, None, {DATA: _Numbers("<f4"), DOUBLE_DATA: _Numbers("<f8")}
    position = 0
    while position < len(message):
        _count(seen)
        number, value, end = _field(message, position)
        if number in OLD_SHAPE and isinstance(value, int):
            old_shape[number] = value
        elif number == SHAPE:
            shape = _dimensions(_message(value), seen)
        elif number in numbers:
            end = numbers[number].add(message, position, _message(value), end)
        position = end
    if shape is None:
        shape = tuple(old_shape.get(number, 0) for number in OLD_SHAPE) if old_shape else (0,)
    array = numbers[DATA].array()
    array = array if array.size else numbers[DOUBLE_DATA].array()
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):
        raise _Damaged(f"{array.size:,} numbers for the shape {shape!s:.60}") from None


class _Numbers:
    """The numbers of a blob: packed, all in one field, which are not copied; or a field each, which are joined."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.size, self.data, self.pieces = dtype, np.dtype(dtype).itemsize, b"", 0

    def add(self, message: memoryview, start: int, value: memoryview, end: int) -> int:
        """Take in the field from `start` to `end`, and all that follow it in the same form; return where they end."""
        length = end - start
        self.pieces += 1
        if self.pieces > MOST_PIECES:
            raise _Damaged("an array in too many pieces")
        if len(value) == self.size and length == self.size + 1:  # a key of one byte and a number
            records = np.frombuffer(message[start : start + (len(message) - start) // length * length], np.uint8)
            records = records.reshape(-1, length)
            others = records[:, 0] != message[start]
            count = int(others.argmax()) if others.any() else len(records)
            value, end = records[:count, 1:].tobytes(), start + count * length
        if len(self.data):  # again: joined in place
            self.data = self.data if isinstance(self.data, bytearray) else bytearray(self.data)
            self.data += value
        else:
            self.data = value
        return end

    def array(self) -> np.ndarray:
        if len(self.data) % self.size:
            raise _Damaged("a broken number")
        return np.frombuffer(self.data, self.dtype) if len(self.data) else np.empty(0, self.dtype)


def _dimensions(message: memoryview, seen: Iterator[int]) -> tuple[int, ...]:
    dimensions = []
    for number, value in _fields(message, seen):
        if number == 1 and isinstance(value, int):
            dimensions.append(value)
        elif number == 1:  # packed
            position = 0
            while position < len(value) and len(dimensions) <= MOST_DIMENSIONS:
                dimension, position = _varint(value, position)
                dimensions.append(dimension)
        if len(dimensions) > MOST_DIMENSIONS:
            raise _Damaged(f"an array of more than {MOST_DIMENSIONS} dimensions")
    return tuple(dimensions)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Damaged("a number where a message is expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:1000]).decode("utf-8", "replace")


def _count(seen: Iterator[int]) -> None:
    if next(seen) >= MOST_FIELDS:
        raise _Damaged(f"more than {MOST_FIELDS:,} fields")


def _fields(message: memoryview, seen: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): an int for a varint, else a memoryview of the value's bytes. `seen` counts all."""
    position = 0
    while position < len(message):
        _count(seen)
        number, value, position = _field(message, position)
        yield number, value


def _field(message: memoryview, position: int) -> tuple[int, int | memoryview, int]:
    """(field number, value, position after it) of the field at `position`."""
    key, position = _varint(message, position)
    wire = key & 7
    if wire == VARINT:
        value, position = _varint(message, position)
        return key >> 3, value, position
    if wire == BYTES:
        length, position = _varint(message, position)
    elif wire in (FIXED32, FIXED64):
        length = 4 if wire == FIXED32 else 8
    else:
        raise _Damaged(f"wire type {wire}")
    if length > len(message) - position:
        raise _Damaged(f"{length - len(message) + position:,} bytes are missing")
    return key >> 3, message[position : position + length], position + length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number whose bytes start at `position`, seven bits in each, and the position after them."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _Damaged("it ends within a number")
        byte = message[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise _Damaged("a number of more than ten bytes")
