"""Read Caffe's `.caffemodel`, a protocol-buffer message, and bring its arrays into TensorFlow's order.

Only the few fields that hold arrays are looked at; the numbers of the fields are those of Caffe's `caffe.proto`.
A message is a row of fields, each a key (field number * 8 + wire type) and a value.
"""

import math
import mmap

import numpy as np

from common.files import BadInput

# NetParameter: layer lists, old and new -> field numbers of a layer's name and of its blobs
LAYERS = {2: (4, 6), 100: (1, 7)}
OLD_SHAPE = (1, 2, 3, 4)  # BlobProto: num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8  # BlobProto; BlobShape has one field, dim = 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


class _Damaged(Exception):
    pass


def read(path):
    """Return `{layer: [array, …]}` as Caffe stores them, for every layer that has arrays.

    The arrays are views into the mapped file, float32 (or float64): convolutions (out, in / groups, height, width),
    dense layers (out, in), in old files (1, 1, out, in). Raises BadInput when the file is not whole.
    """
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        reason = getattr(error, "strerror", None) or "it is empty"
        raise BadInput(f"{path}: cannot be read ({reason}); expected a .caffemodel") from None
    layers = {}
    try:
        for number, value in _fields(content):
            if number in LAYERS:
                name, blobs = _layer(_message(value), *LAYERS[number])
                if blobs and name in layers:
                    raise _Damaged(f"two layers {name!a:.60}")
                if blobs:
                    layers[name] = blobs
    except _Damaged as error:
        found = f"is no .npy, .npz or whole .caffemodel ({error})"
        raise BadInput(f"{path}: {found}; delete it and fetch it again") from None
    if not layers:
        raise BadInput(f"{path}: holds no layers with weights; expected a .caffemodel")
    return layers


def to_tensorflow(layers, flattened):
    """Return `{layer: [kernel, bias]}` in TensorFlow's order, copied out of the file.

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


def _kernel(array, outputs, volume):
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


def _layer(message, name_field, blobs_field):
    name, blobs = "", []
    for number, value in _fields(message):
        if number == name_field:
            name = bytes(_message(value)).decode("utf-8", "replace")
        elif number == blobs_field:
            blobs.append(_blob(_message(value)))
    return name, blobs


def _blob(message):
    """Return the array of one BlobProto."""
    old_shape, shape, pieces = {}, None, {DATA: [], DOUBLE_DATA: []}
    for number, value in _fields(message):
        if number in OLD_SHAPE and isinstance(value, int):
            old_shape[number] = value
        elif number == SHAPE:
            shape = _dimensions(_message(value))
        elif number in pieces:
            pieces[number].append(_message(value))
    if shape is None:
        shape = tuple(old_shape.get(number, 0) for number in OLD_SHAPE) if old_shape else (0,)
    array = _numbers(pieces[DATA], "<f4") if pieces[DATA] else _numbers(pieces[DOUBLE_DATA], "<f8")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):
        raise _Damaged(f"{array.size:,} numbers for the shape {shape!s:.60}") from None


def _numbers(pieces, dtype):
    """Join numbers, packed (one piece holds all, not copied) or not (a piece each)."""
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) % np.dtype(dtype).itemsize:
        raise _Damaged("a broken number")
    return np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)


def _dimensions(message):
    dimensions = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            dimensions.append(value)
        elif number == 1:  # packed
            position = 0
            while position < len(value):
                dimension, position = _varint(value, position)
                dimensions.append(dimension)
    return tuple(dimensions)


def _message(value):
    if isinstance(value, int):
        raise _Damaged("a number where a message is expected")
    return value


def _fields(message):
    """Yield (field number, value): an int for a varint, else a memoryview of the value's bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == VARINT:
            value, position = _varint(message, position)
        else:
            if wire == BYTES:
                length, position = _varint(message, position)
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
            else:
                raise _Damaged(f"wire type {wire}")
            if length > len(message) - position:
                raise _Damaged(f"{length - len(message) + position:,} bytes are missing")
            value, position = message[position : position + length], position + length
        yield key >> 3, value


def _varint(message, position):
    """Return the number whose bytes start at `position`, seven bits in each, and the position behind them."""
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
