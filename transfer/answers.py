"""What a classifier says about images, as the scripts print it: the most probable classes of each."""

import itertools
import time
from collections.abc import Iterable, Sequence

from common.program import shown

import numpy as np

from common.errors import printable


def show(
    names: Sequence,
    batches: Iterable[np.ndarray],
    class_names: Sequence[str],
    top: int,
    start: float,
    notes: Sequence[str] = (),
) -> None:
    """Print the `top` most probable classes of each image as soon as they are computed, and the seconds since `start`.

    batches: the probabilities of all images in order, some at a time, (n, classes) each. notes: a sentence per image.
    """
    for number, row in enumerate(itertools.chain.from_iterable(batches)):
        print_top(number, names[number], row, class_names, top, notes[number] if notes else "")
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


def print_top(
    number: int, path: object, probabilities: Sequence[float], names: Sequence[str], top: int, note: str = ""
) -> None:
    """Print the `top` most probable names for one image, in this order, and a sentence about it."""
    print(f"Image {number}: {shown(path)}")
    for index in most_probable(probabilities, top):
        print(f"{printable(names[index])}: {probabilities[index]:.3f}")
    print(f"{note}\n" if note else "")


def most_probable(probabilities: Sequence[float], top: int) -> list[int]:
    """Where the `top` largest of (k,) probabilities are, the largest first; none that is 0."""
    order = np.argsort(-np.asarray(probabilities), kind="stable")[:top]
    return [int(index) for index in order if probabilities[index] > 0]  # the small AlexNet knows 200 of 1,000
