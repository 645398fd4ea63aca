"""Small files of a network's weights: an AlexNet of 8 MB instead of 244.

    arrays = small.pack(weights, classes, most=9_500_000)   # {layer: (kernel, bias)} -> {name: array}
    path.write_bytes(small.archive(arrays))
    weights = reading.load(card, path)                      # and back: `weights.reading` recognises such files

`python -m transfer.shrink` makes one. What makes it small:

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

import io
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from common.files import BadInput
from weights.arrays import empty
from weights.cards import Card
from weights.npz import Stored

MARK, FORMAT = "small", 1
UNKNOWN = -1000.0  # bias of a class that the classifier does not know: its probability is 0, in bfloat16 too
MOST = 127  # largest int8; -128 is not used
EXACT = 2**24  # whole numbers below are exact in float32
STEPS = 3e-3, 3.0  # of `low_rank`: too fine for any use, and too coarse
NEAR = 1.02  # two steps that differ by less are the same
MOST_RANK = 384  # expanding takes time in proportion: AlexNet's two products then are 41 GFLOP
WORTHWHILE = 1.0  # how much a component's output must vary to be kept, in units of the error of a kept one
LEAST_SPREAD = 0.1  # of an input, as a share of the inputs' common spread: below it, the layer's images are too few

Arrays = dict[str, np.ndarray]
Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]


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
    return [_spread(kernel, classes, shape[-1], 0.0), _spread(bias, classes, shape[-1], UNKNOWN)]


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


def _spread(known: Stored, classes: Stored, outputs: int, otherwise: float) -> Stored:
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


# --- and the other way round


def pack(weights: Weights, classes: np.ndarray, most: int, inputs: np.ndarray | None = None) -> Arrays:
    """The arrays of a small file of at most `most` bytes, with the least error that this allows.

    weights: {layer: (kernel, bias)}, of which the last has one column per number in `classes`, ascending. inputs: (N,
    in), what the first dense layer sees of some thousand of the images that the network is for; without them, the dense
    layers lose more. BadInput if so few bytes do not hold the network.
    """
    *others, last = weights
    dense = [layer for layer in others if weights[layer][0].ndim == 2]
    fixed = {MARK: np.int8(FORMAT), "classes": np.asarray(classes, np.int16)}
    for layer, (kernel, bias) in weights.items():
        fixed |= _named(layer, {"biases": bias} | ({} if layer in dense else one_byte(kernel)))
    if inputs is not None:  # room for biases of other numbers
        most -= sum(weights[layer][1].nbytes for layer in (*dense, last))
    parts, seen = {}, inputs
    for layer in dense:
        parts[layer] = components(weights[layer][0], seen)
        seen = activations(seen, *weights[layer])
    low, high, best = *STEPS, None
    if not dense:
        best = fixed if len(archive(fixed)) <= most else None
    while dense and high / low > NEAR:
        step = np.sqrt(low * high)
        arrays = dict(fixed)
        for layer in dense:
            arrays |= _named(layer, low_rank(parts[layer], step))
        if len(archive(arrays)) <= most:
            high, best = step, arrays
        else:
            low = step
    if best is None:
        raise BadInput(f"{most:,} bytes: too few for this network; allow more")
    for layer in dense:
        if not is_exact(**_parts(best, layer)):
            raise BadInput(f"{layer}: too uneven for this format, its sums are not exact in float32; allow fewer bytes")
    return best if inputs is None else corrected(best, weights, [*dense, last], inputs)


def corrected(arrays: Arrays, weights: Weights, dense: list[str], inputs: np.ndarray) -> Arrays:
    """The same with other biases, so that the mean output of each dense layer is that of the original."""
    arrays, seen, ours = dict(arrays), inputs, inputs
    for layer in dense:
        kernel, bias = weights[layer]
        packed = _parts(arrays, layer)
        expanded = product(**packed) if "left" in packed else packed["bytes"] * packed["scale"]
        mended = bias + seen.mean(axis=0) @ kernel - ours.mean(axis=0) @ expanded
        arrays[f"{layer}/biases"] = mended.astype(np.float32)
        seen, ours = activations(seen, kernel, bias), activations(ours, expanded, mended)
    return arrays


def _named(layer: str, parts: Arrays) -> Arrays:
    return {f"{layer}/{part}": array for part, array in parts.items()}


def _parts(arrays: Arrays, layer: str) -> Arrays:
    """The arrays of a layer's kernel."""
    parts = {name.removeprefix(f"{layer}/"): array for name, array in arrays.items() if name.startswith(f"{layer}/")}
    del parts["biases"]
    return parts


def activations(inputs: np.ndarray | None, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray | None:
    """What a dense layer with a ReLU makes of inputs (N, in); of None, None."""
    return None if inputs is None else np.maximum(inputs @ kernel + bias, 0)


def archive(arrays: Arrays) -> bytes:
    """The file's content."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


class Components(NamedTuple):
    """A dense kernel as a sum of outer products: kernel = left.T @ right / spread[:, None], the important ones first.

    The rows of `right` are orthonormal: directions of the layer's output.
    """

    left: np.ndarray  # float32 (rank, in)
    right: np.ndarray  # float32 (rank, out)
    variance: np.ndarray  # (rank,): of the output in this direction
    total: float  # of the output's variance, with the directions that are not among them
    spread: np.ndarray  # float32 (in,): of each input


def components(kernel: np.ndarray, inputs: np.ndarray | None) -> Components:
    """The principal components of a layer's output, as far as MOST_RANK. kernel (in, out); inputs (N, in).

    What is then left out of the kernel, changes the output of these inputs as little as any kernel of the same rank
    can (Eckart and Young), once the bias has taken over its mean. inputs None: as if they were independent.
    """
    if inputs is None:
        spread = np.ones(len(kernel), np.float32)
        covariance = kernel.T @ kernel
    else:
        variance = inputs.var(axis=0, dtype=np.float64)
        spread = np.sqrt(np.maximum(variance, LEAST_SPREAD**2 * variance.mean())).astype(np.float32)
        output = (inputs - inputs.mean(axis=0)) @ kernel
        covariance = output.T @ output / np.float32(len(output))
    import scipy.linalg  # reading a small file does without

    outputs = len(covariance)
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=[max(0, outputs - MOST_RANK), outputs - 1])
    right = np.ascontiguousarray(vectors[:, ::-1].T)  # eigh begins with the smallest
    left = right @ kernel.T * spread
    return Components(left, right, np.maximum(values[::-1], 0.0), float(np.trace(covariance)), spread)


def low_rank(parts: Components, step: float) -> Arrays:
    """The four arrays of a dense kernel; its error grows with `step`, as its size falls.

    A number of `left` is rounded to a multiple of `step`, which adds the same error to each direction of the output;
    one of `right` so that it adds as much. A component that varies less than these errors is left out.
    """
    (_, inputs), (_, outputs) = parts.left.shape, parts.right.shape
    unit = step * np.sqrt(parts.total / inputs)  # the error of `left` adds inputs * unit ** 2 / 12 to a direction
    kept = parts.variance > min(WORTHWHILE * inputs * unit**2, parts.variance.max() / 2)
    left, right, variance = parts.left[kept], parts.right[kept], parts.variance[kept]
    of_left = np.maximum(unit, np.abs(left).max(axis=1) / MOST)
    of_right = np.maximum(unit * np.sqrt(inputs / (outputs * variance)), np.abs(right).max(axis=1) / MOST)
    both = of_left * of_right  # made a power of two times the smallest, half of the change on either side
    exponents = np.ceil(np.log2(both / both.min()))
    more = np.sqrt(both.min() * np.exp2(exponents) / both)
    left, right = rounded(left, of_left * more), rounded(right, of_right * more)
    scale = np.float32(both.min() / parts.spread)
    return {"left": left, "right": right, "exponents": exponents.astype(np.int8), "scale": scale}


def is_exact(left: np.ndarray, right: np.ndarray, exponents: np.ndarray, **_: np.ndarray) -> bool:
    """Whether float32 has all sums of the product exactly."""
    terms = np.abs(left).astype(np.float32) * np.ldexp(np.float32(1), exponents)[:, None]
    return bool((terms.T @ np.abs(right).astype(np.float32)).max() < EXACT)


def rounded(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(rank, n) in units of scale (rank,), as bytes."""
    return np.rint(numbers / scale[:, None]).clip(-MOST, MOST).astype(np.int8)


def one_byte(kernel: np.ndarray) -> Arrays:
    """A kernel (..., out) in bytes, and the scale of each output."""
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    scale = np.float32(np.where(largest > 0, largest, 1) / MOST)
    return {"bytes": np.rint(kernel / scale).astype(np.int8), "scale": scale}
