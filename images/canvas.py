"""What all pictures share: a white sheet measured in units that stay the same on every screen, colours, small files.

A sheet is WIDTH units wide. A phone shows it about 350 pixels wide, so type of TYPE units becomes 10 pixels high there.
The sheet is white, not transparent, so that black type can be read on GitHub's dark pages, too.
"""

import os

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from PIL import Image

from common.writing import written_whole
from transfer.plots import literal

WIDTH = 900  # units
UNITS_PER_INCH = 100
SCALE = 1.5  # pixels per unit
TYPE, SMALL = 27, 25  # units: the usual type, and the smallest
INK, PALE = "#1f2328", "#57606a"
# Three states of a layer. They also differ in their pattern, for those who do not see the colours, and in print.
FROZEN = {"facecolor": "#d0d4d9", "edgecolor": "#6e7781"}
TUNED = {"facecolor": "#1f6fc4", "edgecolor": "#0b3d75"}
SCRATCH = {"facecolor": "#ffd9a8", "edgecolor": "#c05600", "hatch": "///"}
COLOURS = 256  # of the PNG's palette


def sheet(height: float) -> tuple[Figure, Axes]:
    """A white sheet, and its axes: x from 0 to WIDTH, y from 0 at the top to `height`, in units."""
    figure = Figure(figsize=(WIDTH / UNITS_PER_INCH, height / UNITS_PER_INCH), dpi=UNITS_PER_INCH, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def points(units: float) -> float:
    """A height of type in the points that matplotlib wants."""
    return units * 72 / UNITS_PER_INCH


def write(axes: Axes, x: float, y: float, text: str, size: float = TYPE, **style: object) -> Text:
    """Text around (x, y); `style` as matplotlib's, centred and dark unless it says otherwise."""
    style = {"fontsize": points(size), "ha": "center", "va": "center", "color": INK} | style
    return axes.text(x, y, literal(text), **style)


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str = "", size: float = TYPE, **style: object
) -> None:
    """A rectangle with its upper left corner at (x, y) and a text in it."""
    axes.add_patch(Rectangle((x, y), width, height, **{"linewidth": 1.5} | style))
    if text:
        plain = "hatch" not in style  # letters on stripes are hard to read
        around = None if plain else {"facecolor": style["facecolor"], "edgecolor": "none", "pad": 3}
        colour = "white" if style.get("facecolor") == TUNED["facecolor"] else INK
        write(axes, x + width / 2, y + height / 2, text, size, color=colour, bbox=around)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from one point to another."""
    style = {"arrowstyle": "-|>", "mutation_scale": 22, "linewidth": 2.5, "color": INK, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, **style))


def save(picture: Figure | Image.Image, path: str | os.PathLike) -> None:
    """Write a small file, whole or not at all: a PNG with a palette, or a JPEG, which is for photos, by its name."""
    photo = os.fspath(path).endswith(".jpg")
    with written_whole(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=UNITS_PER_INCH * (1 if photo else SCALE))
            with Image.open(temporary) as drawn:
                picture = drawn.convert("RGB")
        if photo:
            picture.save(temporary, "JPEG", quality=78, optimize=True)
        else:  # three rounds of k-means, for the median cut alone would turn a sign's few yellow pixels pink
            picture = picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
            picture.save(temporary, "PNG", optimize=True)
