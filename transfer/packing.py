"""Make a small file of a network's weights, in the format of `weights.small`, with the least error for its size.

    arrays = packing.pack(weights, classes, most=9_500_000)    # {layer: (kernel, bias)} -> {name: array}
    path.write_bytes(packing.archive(arrays))
    weights = reading.load(card, path)                         # and back

`python -m transfer.shrink` does it for a network that was trained here.
"""

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.linalg

from common.errors import BadInput
from weights.small import FORMAT, MARK, MOST_RANK, product

MOST = 127  # largest int8; -128 is not used
EXACT = 2**24  # whole numbers below are exact in float32
STEPS = 3e-3, 3.0  # of `low_rank`: too fine for any use, and too coarse
NEAR = 1.02  # two steps that differ by less are the same
WORTHWHILE = 1.0  # how much a component's output must vary to be kept, in units of the error of a kept one
LEAST_SPREAD = 0.1  # of an input, as a share of the inputs' common spread: below it, the layer's images are too few

Arrays = dict[str, np.ndarray]
Weights = Mapping[str, tuple[np.ndarray, np.ndarray]]


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
