"""Small files of a network's weights: an AlexNet of 8 MB instead of 244.

`weights.reading` recognises and expands them; `transfer.packing` makes one. What makes it small:

* a number is a byte, times a scale: of convolutions and of the classifier one scale per output;
* the kernel of any other dense layer, (in, out), is a product of two thin ones: 9216 x 4096 numbers are a hundred times
  more than what the layer has learned. Which few hundred directions of its output to keep, is seen from the images that
  it will see (principal components), and each is kept as exactly as it matters;
* the classifier has the columns of the classes that it knows. The others are never named: their kernel is 0, their
  bias UNKNOWN.

A file is a `.npz` of

    small                int8 (), the number of this format
    classes              int16 (known,): the numbers of the classes that the last layer's columns belong to
    <layer>/bytes        int8, kernel = bytes * scale, with <layer>/scale float32 (out,)
    <layer>/left, right  int8 (rank, in), (rank, out), with <layer>/exponents int8 (rank,), <layer>/scale float32 (in,):
                         kernel = scale[:, None] * sum over k of 2 ** exponents[k] * outer(left[k], right[k])
    <layer>/biases       float32 (out,)

The sum is one of whole numbers below 2 ** 24, so that float32 has it exactly, whatever the order of its terms: every
machine expands a file to the same bits.
"""

from collections.abc import Callable, Mapping

import numpy as np

from weights.arrays import empty
from weights.cards import Card
from weights.npz import Stored

MARK, FORMAT = "small", 1
UNKNOWN = -1000.0  # bias of a class that the classifier does not know: its probability is 0, in bfloat16 too
MOST_RANK = 384  # expanding takes time in proportion: AlexNet's two products then are 41 GFLOP


def layers(stored: Mapping[str, Stored], card: Card) -> dict[str, object]:
    """{layer: [kernel, bias]} of a small file, expanded when they are read. ValueError says what is wrong with it."""
    number = _part(stored, MARK, np.int8, 0).read()
    if number != FORMAT:
        raise ValueError(f"its format is {number}, this version reads {FORMAT}")
    names = dict.fromkeys(name.rpartition("/")[0] for name in stored if name not in (MARK, "classes"))
    return {layer: _layer(stored, layer, card) for layer in names}


def _layer(stored: Mapping[str, Stored], layer: str, card: Card) -> list[Stored]:
    if f"{layer}/left" in stored:
        factors = [_part(stored, f"{layer}/{side}", np.int8, 2) for side in ("left", "right")]
        exponents = _part(stored, f"{layer}/exponents", np.int8, 1)
        kernel = _low_rank(*factors, exponents, _part(stored, f"{layer}/scale", np.float32, 1))
    else:
        kernel = _scaled(_part(stored, f"{layer}/bytes", np.int8), _part(stored, f"{layer}/scale", np.float32, 1))
    bias = _part(stored, f"{layer}/biases", np.float32, 1)
    last, shape = list(card.shapes.items())[-1]
    if layer != last:
        return [kernel, bias]
    classes = _part(stored, "classes", np.int16, 1)
    if classes.shape != kernel.shape[-1:] or bias.shape != kernel.shape[-1:]:
        raise ValueError(f"{classes.shape[0]} classes and {kernel.shape[-1]} columns of {layer} do not belong together")
    return [_scattered(kernel, classes, shape[-1], 0.0), _scattered(bias, classes, shape[-1], UNKNOWN)]


def _part(stored: Mapping[str, Stored], name: str, kind: type, dimensions: int | None = None) -> Stored:
    """One of the arrays, if it has this type and so many dimensions."""
    array = stored[name]
    if array.dtype != kind or dimensions not in (None, len(array.shape)):
        raise ValueError(f"{name} is {array.dtype} {array.shape!s:.60}")
    return array


def _scaled(numbers: Stored, scale: Stored) -> Stored:
    if numbers.shape[-1:] != scale.shape:
        raise ValueError(f"a kernel {numbers.shape!s:.60} and {scale.shape[0]} scales do not belong together")
    return _float32(numbers.shape, lambda: np.multiply(numbers.read(), scale.read(), out=empty(numbers.shape)))


def _low_rank(left: Stored, right: Stored, exponents: Stored, scale: Stored) -> Stored:
    (rank, inputs), shape = left.shape, (left.shape[1], right.shape[1])
    if rank > MOST_RANK or right.shape[0] != rank or exponents.shape != (rank,) or scale.shape != (inputs,):
        shapes = f"{left.shape!s:.60}, {right.shape!s:.60}, {exponents.shape!s:.60} and {scale.shape!s:.60}"
        raise ValueError(f"factors of shapes {shapes} do not belong together")
    return _float32(shape, lambda: product(left.read(), right.read(), exponents.read(), scale.read()))


def product(left: np.ndarray, right: np.ndarray, exponents: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The kernel, float32 (in, out), of the four arrays that stand for it."""
    kernel = empty((left.shape[1], right.shape[1]))
    np.matmul((left * np.ldexp(np.float32(1), exponents)[:, None]).T, right.astype(np.float32), out=kernel)
    kernel *= scale[:, None]
    return kernel


def _scattered(known: Stored, classes: Stored, outputs: int, otherwise: float) -> Stored:
    """The columns of the known classes among all."""
    shape = (*known.shape[:-1], outputs)

    def read() -> np.ndarray:
        places = classes.read()
        if len(places) and not (0 <= places[0] and places[-1] < outputs and (np.diff(places) > 0).all()):
            raise ValueError(f"its classes are not ascending numbers from 0 to {outputs - 1}")
        array = empty(shape)
        array[...] = otherwise
        array[..., places] = known.read()
        return array

    return _float32(shape, read)


def _float32(shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> Stored:
    return Stored(shape, np.dtype(np.float32), read)
