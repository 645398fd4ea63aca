"""Drawings of networks: the four cases, AlexNet's layers, a new head on fc7. Nothing is typed twice.

Layers, their output shapes, and what each case freezes and trains are read from the code that computes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from images.canvas import FROZEN, INK, PALE, SCRATCH, SMALL, TUNED, WIDTH, arrow, box, sheet, write
from transfer.recipe import Case, preset
from weights.cards import Card

if TYPE_CHECKING:  # TensorFlow takes seconds to import
    from networks.network import Network

IMAGES = {1: "few, similar", 2: "few, different", 3: "many, similar", 4: "many, different"}
LEARNED, UNLEARNED = ("#9cc3ee", "#6ba3de", "#c9def6"), ("#e3e6ea", "#c3c8ce", "#f1f3f5")  # front, side, top
TALLEST, WIDEST, POLE = 130, 66, 12  # units: the height of the image or of fc7, the width of conv3, of a vector
LARGEST, DEEPEST, LONGEST = 227, 384, 4096  # the numbers that the first two stand for
SLANT = 0.35  # how far a volume's depth goes to the right and up, as a share of it
PER_LINE = 6


def state(case: Case) -> tuple[str, dict]:
    """What happens to the layers below the head in this case: in words, and how they are drawn."""
    if not case.fine_tuning:
        return "frozen", FROZEN
    return ("from random numbers", SCRATCH) if case.from_scratch else ("trained gently", TUNED)


def four_cases(card: Card, layer_names: list[str]) -> Figure:
    """One bar per case: how much of the network is used, and whether it is frozen, fine-tuned or begins anew.

    layer_names: those of the network up to the one that a head sits on by default.
    """
    left, right, head, top, row, high = 340, 742, (794, 92), 66, 96, 66  # units
    figure, axes = sheet(top + 4 * row - 12)
    for x, words in (
        (62, "--case"),
        (210, "your images"),
        ((left + right) / 2, "the network"),
        (head[0] + 40, "new head"),
    ):
        write(axes, x, 32, words, SMALL, color=PALE)
    for number, images in IMAGES.items():
        case, y = preset(number, card), top + (number - 1) * row
        used = (layer_names.index(case.layer) + 1) / len(layer_names)
        end = left + used * (right - left)
        write(axes, 62, y + high / 2, f"{number}", 44, weight="bold")
        write(axes, 110, y + high / 2, images, ha="left")
        words, style = state(case)
        box(axes, left, y, end - left, high, words, **style)
        middle = y + high / 2
        if used < 1:
            box(axes, end, y, right - end, high, facecolor="none", edgecolor=PALE, linestyle=(0, (4, 4)))
            write(axes, (end + right) / 2, y + high * 0.27, "cut off", SMALL, color=PALE)
            middle = y + high * 0.72
        arrow(axes, (end, middle), (head[0], middle))
        box(axes, head[0], y, head[1], high, **SCRATCH)
    return figure


def volumes(network: Network) -> list[tuple[str, tuple[int, ...], bool]]:
    """[(names, output shape, whether it has weights)] of the network's layers, the image first.

    A layer without weights that leaves the shape as it is (normalisation, softmax) is named with the one before it.
    """
    learned = {network.layer_of(name) for name in network.weights}
    found = [("image", (network.image_size, network.image_size, 3), False)]
    for name in network.layer_names:
        shape = network.output_shape(name)
        names, before, has_weights = found[-1]
        if name not in learned and shape == before:
            found[-1] = (f"{names}, {name}", shape, has_weights)
        else:
            found.append((name, shape, name in learned))
    return found


def layers(network: Network) -> Figure:
    """All layers, each a block as high and deep as its output has positions and as wide as its channels; its shape.

    Layers with weights are blue, the others grey.
    """
    found = volumes(network)
    lines = [found[first : first + PER_LINE] for first in range(0, len(found), PER_LINE)]
    above, below = 80, 90  # units for the names and for the shapes
    heights = [above + max(sum(extent(shape)[1:]) for _, shape, _ in line) + below for line in lines]
    figure, axes = sheet(sum(heights))
    for number, line in enumerate(lines):
        ground = sum(heights[: number + 1]) - below
        for place, (names, shape, learned) in enumerate(line):
            x = (place + 0.5) * WIDTH / PER_LINE
            top = ground - sum(extent(shape)[1:])
            write(axes, x, top - 12, names.replace(", ", "\n"), weight="bold", va="bottom", linespacing=1.05)
            block(axes, x, ground, extent(shape), LEARNED if learned else UNLEARNED)
            sides = " × ".join(map(str, shape[:-1]))
            if sides:
                write(axes, x, ground + 28, sides, SMALL)
            write(axes, x, ground + (60 if sides else 28), f"{'× ' * bool(sides)}{shape[-1]:,}", SMALL)
    return figure


def extent(shape: tuple[int, ...]) -> tuple[float, float, float]:
    """How wide, high and far back a layer's output is drawn: channels, rows, columns; a vector is a pole.

    Lengths are square roots of what they stand for: 13 is to be seen beside 227.
    """
    if len(shape) == 1:
        return POLE, TALLEST * (shape[0] / LONGEST) ** 0.5, POLE / 2
    rows, columns, channels = shape
    high, back = (TALLEST * (side / LARGEST) ** 0.5 for side in (rows, columns))
    return WIDEST * (channels / DEEPEST) ** 0.5, high, SLANT * back


def block(axes: Axes, x: float, ground: float, size: tuple[float, float, float], colours: tuple[str, str, str]) -> None:
    """A block around x that stands on `ground`: its front, its side, its top."""
    wide, high, back = size
    left, right, top = x - (wide + back) / 2, x + (wide - back) / 2, ground - high
    faces = (
        [(left, ground), (right, ground), (right, top), (left, top)],
        [(right, ground), (right + back, ground - back), (right + back, top - back), (right, top)],
        [(left, top), (right, top), (right + back, top - back), (left + back, top - back)],
    )
    for corners, colour in zip(faces, colours):
        axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, linewidth=1.2, joinstyle="round"))


def new_head(card: Card, layer_names: list[str], classes: int) -> Figure:
    """The old classifier is cut off; its input, the bottleneck, feeds a new head of `classes`.

    layer_names: those of the network up to the bottleneck.
    """
    below, (old, (features, old_classes)) = layer_names[-2], list(card.shapes.items())[-1]
    figure, axes = sheet(370)
    y, high = 190, 110  # units: the line of layers
    box(axes, 20, y, 230, high, f"{layer_names[0]} … {below}\nfrozen", **FROZEN)
    arrow(axes, (250, y + high / 2), (300, y + high / 2))
    box(axes, 300, y, 230, high, f"{card.bottleneck}\n{features:,} features\nfrozen", **FROZEN)
    axes.plot([530, 650], [y + 20, 90], color=PALE, linewidth=2, linestyle=(0, (4, 4)))
    write(axes, 585, 152, "✂", 50, rotation=70)
    box(axes, 650, 20, 230, high, f"{old}, cut off\n{old_classes:,} classes", facecolor="none", edgecolor=PALE,
        linestyle=(0, (4, 4)))  # fmt: skip
    arrow(axes, (530, y + high / 2), (650, y + high / 2))
    box(axes, 650, y, 230, high, f"new head\n{classes} classes", **SCRATCH)
    trained = f"to train: {features:,} × {classes} + {classes} = {features * classes + classes:,} parameters"
    write(axes, 880, y + high + 38, trained, ha="right")
    return figure
