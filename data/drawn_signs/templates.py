"""The 43 German traffic signs of GTSRB as clean drawings: `template(label, size)` returns one as RGBA.

Coordinates are fractions of the sign's side (see data/drawn_signs/shapes.py). Shapes and colours follow the German road
traffic regulations (StVO), simplified to what survives at 32x32; the order is that of data/signnames.csv.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from PIL.ImageDraw import ImageDraw as Pen

from data.drawn_signs import warnings as sign_warnings
from data.drawn_signs.shapes import (
    BLACK,
    BLUE,
    GREY,
    RED,
    SIDE,
    WHITE,
    YELLOW,
    Colour,
    arrow,
    box,
    car,
    disc,
    line,
    lorry,
    polygon,
    rounded,
    text,
)
from data.drawn_signs.warnings import warning

# Round signs: prohibition, end of prohibition, mandatory.


def _prohibition(pen: Pen, symbol: Callable[..., None] | None = None, *arguments: Any) -> None:
    disc(pen, WHITE)
    disc(pen, RED, radius=0.48)
    disc(pen, WHITE, radius=0.355)
    if symbol:
        symbol(pen, *arguments)


def _digits(pen: Pen, colour: Colour, digits: str) -> None:
    text(pen, colour, digits, 0.57 if len(digits) == 2 else 0.62, 0.42)


def _two_cars(pen: Pen, left: Colour, right: Colour) -> None:
    car(pen, left, 0.325, 0.5, 0.26)
    car(pen, right, 0.675, 0.5, 0.26)


def _lorry_and_car(pen: Pen, left: Colour, right: Colour) -> None:
    lorry(pen, left, 0.35, 0.46, 0.24)
    car(pen, right, 0.665, 0.555, 0.25)


def _heavy_lorry(pen: Pen) -> None:
    box(pen, BLACK, 0.40, 0.35, 0.80, 0.60)
    box(pen, BLACK, 0.21, 0.585, 0.80, 0.645)
    polygon(pen, BLACK, (0.21, 0.62), (0.21, 0.53), (0.26, 0.43), (0.385, 0.43), (0.385, 0.62))
    polygon(pen, WHITE, (0.245, 0.53), (0.28, 0.465), (0.34, 0.465), (0.34, 0.53))
    for x in (0.29, 0.64, 0.735):
        disc(pen, BLACK, x, 0.65, 0.047)


def _no_entry(pen: Pen) -> None:
    disc(pen, WHITE)
    disc(pen, RED, radius=0.48)
    box(pen, WHITE, 0.12, 0.41, 0.88, 0.59)


def _end_of(pen: Pen, symbol: Callable[..., None] | None = None, *arguments: Any) -> None:
    disc(pen, GREY)
    disc(pen, WHITE, radius=0.475)
    if symbol:
        symbol(pen, *arguments)
    for offset in (-0.08, -0.04, 0, 0.04, 0.08):  # five thin stripes, which blur into one grey band from afar
        reach = 0.32 - abs(offset) * 0.3
        line(
            pen,
            BLACK,
            0.021,
            (0.5 + offset - reach, 0.5 + offset + reach),
            (0.5 + offset + reach, 0.5 + offset - reach),
        )


def _mandatory(pen: Pen, *arrows: tuple[tuple[float, float], ...]) -> None:
    disc(pen, WHITE)
    disc(pen, BLUE, radius=0.475)
    for points in arrows:
        arrow(pen, WHITE, 0.1, *points)


def _keep_right(pen: Pen) -> None:
    _mandatory(pen)
    arrow(pen, WHITE, 0.115, (0.23, 0.25), (0.73, 0.75), barb=0.28)


def _roundabout(pen: Pen) -> None:
    _mandatory(pen)
    for first in (255, 135, 15):  # degrees, clockwise from the right; traffic runs the other way
        turn = [math.radians(first - step) for step in range(0, 81, 10)]
        arrow(pen, WHITE, 0.06, *((0.5 + 0.31 * math.cos(a), 0.5 + 0.31 * math.sin(a)) for a in turn), barb=0.15)


# Signs with a shape of their own.


def _priority(pen: Pen) -> None:
    for colour, reach in ((BLACK, 0.5), (WHITE, 0.475), (BLACK, 0.295), (YELLOW, 0.28)):
        polygon(pen, colour, (0.5, 0.5 - reach), (0.5 + reach, 0.5), (0.5, 0.5 + reach), (0.5 - reach, 0.5))


def _yield(pen: Pen) -> None:
    corners = (0.04, 0.06), (0.96, 0.06), (0.5, 0.95)
    rounded(pen, WHITE, 0.035, *corners)
    rounded(pen, RED, 0.017, *corners)
    polygon(pen, WHITE, (0.144, 0.125), (0.856, 0.125), (0.5, 0.81))


def _stop(pen: Pen) -> None:
    for colour, radius in ((WHITE, 0.54), (RED, 0.515)):
        turns = [math.pi * (k + 0.5) / 4 for k in range(8)]
        polygon(pen, colour, *((0.5 + radius * math.cos(turn), 0.5 + radius * math.sin(turn)) for turn in turns))
    text(pen, WHITE, "STOP", 0.8, 0.36, bold=9)


def _mirrored(_: Pen, label: int) -> Image.Image:
    """Unlike the others, returns the whole image instead of drawing with the pen."""
    return ImageOps.mirror(_master(label))


SIGNS = (
    (_prohibition, _digits, BLACK, "20"),
    (_prohibition, _digits, BLACK, "30"),
    (_prohibition, _digits, BLACK, "50"),
    (_prohibition, _digits, BLACK, "60"),
    (_prohibition, _digits, BLACK, "70"),
    (_prohibition, _digits, BLACK, "80"),
    (_end_of, _digits, GREY, "80"),
    (_prohibition, _digits, BLACK, "100"),
    (_prohibition, _digits, BLACK, "120"),
    (_prohibition, _two_cars, RED, BLACK),
    (_prohibition, _lorry_and_car, RED, BLACK),
    (warning, sign_warnings.crossing),
    (_priority,),
    (_yield,),
    (_stop,),
    (_prohibition,),
    (_prohibition, _heavy_lorry),
    (_no_entry,),
    (warning, sign_warnings.caution),
    (warning, sign_warnings.curve_left),
    (_mirrored, 19),
    (warning, sign_warnings.double_curve),
    (warning, sign_warnings.bumps),
    (warning, sign_warnings.skidding),
    (warning, sign_warnings.narrow_right),
    (warning, sign_warnings.digging),
    (warning, sign_warnings.lights),
    (warning, sign_warnings.walker),
    (warning, sign_warnings.children),
    (warning, sign_warnings.bicycle),
    (warning, sign_warnings.snowflake),
    (warning, sign_warnings.deer),
    (_end_of,),
    (_mandatory, ((0.35, 0.81), (0.35, 0.50), (0.38, 0.41), (0.47, 0.37), (0.82, 0.37))),
    (_mirrored, 33),
    (_mandatory, ((0.5, 0.82), (0.5, 0.18))),
    (_mandatory, ((0.42, 0.87), (0.42, 0.13)), ((0.42, 0.70), (0.45, 0.60), (0.53, 0.56), (0.87, 0.56))),
    (_mirrored, 36),
    (_keep_right,),
    (_mirrored, 38),
    (_roundabout,),
    (_end_of, _two_cars, GREY, GREY),
    (_end_of, _lorry_and_car, GREY, GREY),
)


def template(label: int, size: int) -> np.ndarray:
    """Return sign `label` (0 to 42) as an array (size, size, 4) of uint8: RGB and alpha (0 outside the sign)."""
    return np.asarray(_master(label).resize((size, size), Image.Resampling.LANCZOS))


@functools.cache
def _master(label: int) -> Image.Image:
    if not 0 <= label < len(SIGNS):
        raise ValueError(f"sign {label}: expected a class number from 0 to {len(SIGNS) - 1}")
    image = Image.new("RGBA", (SIDE, SIDE), (*WHITE, 0))
    paint, *arguments = SIGNS[label]
    return paint(ImageDraw.Draw(image), *arguments) or image
