"""Pictures of what networks see and say: a photo, a sign at two sizes, the demo's signs, its worst mistakes."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from data import images
from data.drawn_signs.templates import template
from images.canvas import SMALL, TUNED, WIDTH, sheet, write

TOP = 5  # bars
BAR, ROW = 28, 74  # units: a bar's height; from one to the next, with the name above it
STOP = 14  # the stop sign among the 43
SKY, POST = (150, 185, 230), (140, 140, 140)
WRONG = "firebrick"
COLUMNS, ENLARGED = 9, 3  # of the sheet of drawn signs; pixels along the side of an image's pixel
LETTERS, LINE = 19, 33  # in a line below a mistake; units from one to the next


def photo(pixels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """A photo uint8 (H, W, 3), beside it a bar for each of the five most probable classes; probabilities (k,)."""
    wide, high = 470, TOP * ROW + 24
    tall = wide * pixels.shape[0] / pixels.shape[1]
    figure, axes = sheet(high + 16)
    show(axes, pixels, 20, (high + 16 - tall) / 2, wide, tall)
    bars(axes, 520, 20, 360, probabilities, names)
    return figure


def stop_sign(sizes: Sequence[int], probabilities: np.ndarray, names: Sequence[str]) -> Figure:
    """One stop sign at each of the sizes, in pixels, side by side with what it is called: probabilities (sizes, k)."""
    high = TOP * ROW + 24
    figure, axes = sheet(high * len(sizes) + 16)
    for number, (size, row) in enumerate(zip(sizes, probabilities)):
        y = number * high + 20
        show(axes, drawn_stop_sign(size), 20, y, 310, 310)
        write(axes, 175, y + 332, f"{size} × {size} pixels")
        bars(axes, 370, y, 510, row, names)
    return figure


def bars(axes: Axes, x: float, y: float, width: float, probabilities: np.ndarray, names: Sequence[str]) -> None:
    """The five most probable classes of (k,), from (x, y) down: name, bar, probability. `width` is certainty."""
    room = width - 80  # for the figure behind a long bar
    for place, index in enumerate(np.argsort(-probabilities, kind="stable")[:TOP]):
        upper = y + place * ROW
        write(axes, x, upper + 14, shortened(names[index], int(width / 15)), ha="left")
        axes.barh(upper + 48, room * probabilities[index], BAR, left=x, **TUNED)
        write(axes, x + room * probabilities[index] + 10, upper + 48, f"{probabilities[index]:.2f}", SMALL, ha="left")


def shortened(name: str, most: int) -> str:
    """The first of ImageNet's names for a class, "lipstick, lip rouge", and not more than so many letters."""
    return textwrap.shorten(name.split(",")[0], most, placeholder="…")


def show(axes: Axes, pixels: np.ndarray, x: float, y: float, width: float, height: float) -> None:
    """An image uint8 (H, W, 3) with its upper left corner at (x, y), in units; small ones show their pixels."""
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(pixels, extent=(x, x + width, y + height, y), aspect="auto", interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])


def drawn_stop_sign(size: int) -> np.ndarray:
    """uint8 (size, size, 3): a stop sign on its post, before a blue sky. A small one is the large one, reduced."""
    side = 227  # AlexNet's input
    image = Image.new("RGB", (side, side), SKY)
    ImageDraw.Draw(image).rectangle((108, 150, 118, side), fill=POST)
    sign = Image.fromarray(template(STOP, 130))
    image.paste(sign, (48, 30), sign)
    return images.frame(np.asarray(image), images.Framing(size))


def drawn_signs(signs: np.ndarray) -> Image.Image:
    """A sheet of small images, uint8 (N, side, side, 3), each pixel a sharp square."""
    side = signs.shape[1] * ENLARGED
    cell, lines = WIDTH // COLUMNS, -(-len(signs) // COLUMNS)
    gap = (cell - side) // 2
    picture = Image.new("RGB", (WIDTH, lines * cell), "white")
    for number, sign in enumerate(signs):
        large = Image.fromarray(sign).resize((side, side), Image.Resampling.NEAREST)
        picture.paste(large, (number % COLUMNS * cell + gap, number // COLUMNS * cell + gap))
    return picture


def mistakes(
    signs: np.ndarray, labels: Sequence[int], probabilities: np.ndarray, names: Sequence[str], columns: int = 3
) -> Figure:
    """Wrong predictions: each image uint8 (H, W, 3) with its true class, what it was predicted as, and how surely.

    labels (N,) and probabilities (N, k) are those of the images.
    """
    cell, side, high = WIDTH / columns, 200, 380  # units
    figure, axes = sheet(-(-len(signs) // columns) * high + 8)
    for place, (sign, label, row) in enumerate(zip(signs, labels, probabilities)):
        x, y = (place % columns + 0.5) * cell, place // columns * high + 16
        show(axes, sign, x - side / 2, y, side, side)
        predicted = row.argmax()
        lines = [("black", line) for line in wrapped(names[label])]
        lines += [(WRONG, line) for line in wrapped(f"✗ {row[predicted]:.2f} {names[predicted]}")]
        for number, (colour, line) in enumerate(lines):
            write(axes, x, y + side + 22 + LINE * number, line, color=colour)
    return figure


def wrapped(name: str) -> list[str]:
    """A class's name in at most two short lines."""
    return textwrap.wrap(name, LETTERS, max_lines=2, placeholder="…", break_on_hyphens=False)
