"""The shapes that traffic signs are made of, drawn with a Pillow `ImageDraw` pen on a square of SIDE pixels.

Every coordinate, width and radius is a fraction of the sign's side: (0, 0) is its top left corner, (1, 1) its bottom
right one. Colours are RGB, 0 to 255.
"""

import math

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageDraw import ImageDraw as Pen

Colour = tuple[int, int, int]  # RGB, 0 to 255
Point = tuple[float, float]  # x, y

SIDE = 512  # pixels of the master drawing; every smaller template is reduced from it, which smooths the edges
WHITE, BLACK, GREY = (240, 240, 240), (22, 22, 26), (105, 105, 110)
RED, BLUE, YELLOW, GREEN = (176, 30, 34), (16, 66, 150), (232, 162, 24), (0, 125, 105)


def polygon(pen: Pen, colour: Colour, *points: Point) -> None:
    pen.polygon([(x * SIDE, y * SIDE) for x, y in points], fill=colour)


def disc(pen: Pen, colour: Colour, x: float = 0.5, y: float = 0.5, radius: float = 0.5) -> None:
    pen.ellipse([(x - radius) * SIDE, (y - radius) * SIDE, (x + radius) * SIDE, (y + radius) * SIDE], fill=colour)


def box(pen: Pen, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
    pen.rectangle([left * SIDE, top * SIDE, right * SIDE, bottom * SIDE], fill=colour)


def line(pen: Pen, colour: Colour, width: float, *points: Point) -> None:
    """A line with round joints and ends."""
    pen.line([(x * SIDE, y * SIDE) for x, y in points], fill=colour, width=round(width * SIDE))
    for x, y in points:
        disc(pen, colour, x, y, width / 2)


def rounded(pen: Pen, colour: Colour, radius: float, *points: Point) -> None:
    """A polygon whose outline is pushed out by `radius`, with round corners."""
    polygon(pen, colour, *points)
    line(pen, colour, 2 * radius, *points, points[0])


def arrow(pen: Pen, colour: Colour, width: float, *points: Point, barb: float = 0.2) -> None:
    """A line that ends in two barbs of length `barb`, its tip at the last point."""
    line(pen, colour, width, *points)
    (x0, y0), (x, y) = points[-2:]
    back = math.atan2(y0 - y, x0 - x)
    ends = [(x + barb * math.cos(back + turn), y + barb * math.sin(back + turn)) for turn in (-0.75, 0.75)]
    line(pen, colour, width, ends[0], (x, y), ends[1])


def text(pen: Pen, colour: Colour, letters: str, width: float, height: float, bold: int = 2) -> None:
    """Text stretched to `width` x `height`, centred: road digits are narrower and bolder than Pillow's own font."""
    font = ImageFont.load_default(200)
    left, top, right, bottom = font.getbbox(letters, stroke_width=bold)
    mask = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), letters, fill=255, font=font, stroke_width=bold)
    mask = mask.resize((round(width * SIDE), round(height * SIDE)), Image.Resampling.LANCZOS)
    pen.bitmap(((1 - width) / 2 * SIDE, (1 - height) / 2 * SIDE), mask, fill=colour)


def car(pen: Pen, colour: Colour, x: float, y: float, width: float) -> None:
    """A car from behind, (x, y) its middle."""
    half, high = width / 2, width * 0.3
    polygon(pen, colour, (x - half * 0.75, y - high), (x + half * 0.75, y - high), (x + half, y), (x - half, y))
    polygon(
        pen,
        WHITE,
        (x - half * 0.6, y - high * 0.72),
        (x + half * 0.6, y - high * 0.72),
        (x + half * 0.74, y - high * 0.1),
        (x - half * 0.74, y - high * 0.1),
    )
    box(pen, colour, x - half, y, x + half, y + high * 0.8)
    for side in (-1, 1):
        box(
            pen,
            colour,
            x + side * half * 0.72 - half * 0.22,
            y + high * 0.8,
            x + side * half * 0.72 + half * 0.22,
            y + high * 1.25,
        )


def lorry(pen: Pen, colour: Colour, x: float, y: float, width: float) -> None:
    """A lorry from behind, (x, y) the middle of its box."""
    half = width / 2
    box(pen, colour, x - half, y - half * 1.25, x + half, y + half * 1.1)
    for side in (-1, 1):
        box(
            pen,
            colour,
            x + side * half * 0.7 - half * 0.2,
            y + half,
            x + side * half * 0.7 + half * 0.2,
            y + half * 1.6,
        )
