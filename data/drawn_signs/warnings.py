"""The German warning signs of GTSRB: a white triangle with a red rim, and the black symbols inside it.

Coordinates are fractions of the sign's side (see data/drawn_signs/shapes.py). The white field spans x 0.144 to 0.856 at
its base, y = 0.875, and narrows to its tip at (0.5, 0.19).
"""

import math
from collections.abc import Callable

from PIL.ImageDraw import ImageDraw

from data.drawn_signs.shapes import BLACK, GREEN, RED, WHITE, YELLOW, disc, line, polygon, rounded


def warning(pen: ImageDraw, symbol: Callable[[ImageDraw], None]) -> None:
    """Draw the triangle, then `symbol(pen)` in it."""
    corners = (0.5, 0.05), (0.04, 0.94), (0.96, 0.94)
    rounded(pen, WHITE, 0.035, *corners)
    rounded(pen, RED, 0.017, *corners)
    polygon(pen, WHITE, (0.5, 0.19), (0.144, 0.875), (0.856, 0.875))
    symbol(pen)


def crossing(pen: ImageDraw) -> None:
    """Right of way: a broad arrow, our road, across a narrow bar, the other one."""
    polygon(
        pen,
        BLACK,
        (0.5, 0.34),
        (0.60, 0.50),
        (0.575, 0.50),
        (0.575, 0.82),
        (0.5, 0.78),
        (0.425, 0.82),
        (0.425, 0.50),
        (0.40, 0.50),
    )
    polygon(
        pen,
        BLACK,
        (0.34, 0.59),
        (0.44, 0.605),
        (0.56, 0.605),
        (0.66, 0.59),
        (0.66, 0.68),
        (0.56, 0.665),
        (0.44, 0.665),
        (0.34, 0.68),
    )


def caution(pen: ImageDraw) -> None:
    polygon(pen, BLACK, (0.452, 0.40), (0.548, 0.40), (0.525, 0.66), (0.475, 0.66))
    disc(pen, BLACK, 0.5, 0.40, 0.048)
    disc(pen, BLACK, 0.5, 0.76, 0.05)


def curve_left(pen: ImageDraw) -> None:
    line(pen, BLACK, 0.09, (0.61, 0.79), (0.61, 0.68), (0.595, 0.625), (0.56, 0.59), (0.51, 0.575), (0.43, 0.575))
    polygon(pen, BLACK, (0.29, 0.575), (0.43, 0.50), (0.43, 0.65))


def double_curve(pen: ImageDraw) -> None:
    line(pen, BLACK, 0.08, (0.595, 0.81), (0.595, 0.665), (0.57, 0.645), (0.465, 0.645), (0.44, 0.625), (0.44, 0.53))
    polygon(pen, BLACK, (0.44, 0.40), (0.38, 0.53), (0.50, 0.53))


def bumps(pen: ImageDraw) -> None:
    polygon(
        pen,
        BLACK,
        (0.26, 0.82),
        (0.32, 0.765),
        (0.365, 0.68),
        (0.415, 0.68),
        (0.465, 0.755),
        (0.535, 0.755),
        (0.585, 0.68),
        (0.635, 0.68),
        (0.68, 0.765),
        (0.74, 0.82),
    )


def skidding(pen: ImageDraw) -> None:
    polygon(pen, BLACK, (0.41, 0.47), (0.61, 0.53), (0.635, 0.63), (0.35, 0.545))
    polygon(pen, WHITE, (0.43, 0.495), (0.585, 0.542), (0.60, 0.592), (0.40, 0.533))
    polygon(pen, BLACK, (0.35, 0.54), (0.64, 0.625), (0.615, 0.70), (0.325, 0.615))
    line(pen, BLACK, 0.045, (0.365, 0.625), (0.36, 0.645))
    line(pen, BLACK, 0.045, (0.585, 0.69), (0.58, 0.71))
    for x, y in ((0.355, 0.69), (0.56, 0.735)):  # two winding tyre tracks
        line(pen, BLACK, 0.024, *((x + 0.004 * i + 0.04 * math.sin(-0.5 * i), y + 0.009 * i) for i in range(12)))


def narrow_right(pen: ImageDraw) -> None:
    line(pen, BLACK, 0.055, (0.42, 0.80), (0.42, 0.47))
    line(pen, BLACK, 0.055, (0.62, 0.80), (0.62, 0.69), (0.54, 0.59), (0.54, 0.47))


def digging(pen: ImageDraw) -> None:
    disc(pen, BLACK, 0.475, 0.425, 0.042)
    line(pen, BLACK, 0.085, (0.425, 0.515), (0.39, 0.625))
    line(pen, BLACK, 0.045, (0.40, 0.64), (0.445, 0.72), (0.43, 0.81))
    line(pen, BLACK, 0.045, (0.375, 0.64), (0.345, 0.73), (0.285, 0.81))
    line(pen, BLACK, 0.035, (0.445, 0.515), (0.52, 0.575), (0.495, 0.65))
    line(pen, BLACK, 0.022, (0.37, 0.57), (0.59, 0.745))
    polygon(pen, BLACK, (0.52, 0.83), (0.58, 0.75), (0.645, 0.70), (0.69, 0.72), (0.74, 0.78), (0.78, 0.83))


def lights(pen: ImageDraw) -> None:
    for colour, y in ((RED, 0.44), (YELLOW, 0.60), (GREEN, 0.76)):
        disc(pen, BLACK, 0.5, y, 0.073)
        disc(pen, colour, 0.5, y, 0.062)


def walker(pen: ImageDraw) -> None:
    disc(pen, BLACK, 0.475, 0.39, 0.04)
    polygon(pen, BLACK, (0.45, 0.45), (0.535, 0.45), (0.555, 0.62), (0.465, 0.62))
    line(pen, BLACK, 0.048, (0.485, 0.62), (0.465, 0.71), (0.40, 0.81))
    line(pen, BLACK, 0.048, (0.53, 0.62), (0.565, 0.71), (0.60, 0.81))
    line(pen, BLACK, 0.034, (0.46, 0.47), (0.41, 0.54), (0.385, 0.60))
    line(pen, BLACK, 0.034, (0.525, 0.47), (0.58, 0.53), (0.61, 0.585))


def children(pen: ImageDraw) -> None:
    disc(pen, BLACK, 0.515, 0.41, 0.04)
    polygon(pen, BLACK, (0.49, 0.46), (0.565, 0.46), (0.60, 0.63), (0.51, 0.63))
    line(pen, BLACK, 0.042, (0.53, 0.63), (0.51, 0.71), (0.465, 0.79))
    line(pen, BLACK, 0.042, (0.58, 0.62), (0.62, 0.69), (0.69, 0.72))
    line(pen, BLACK, 0.03, (0.56, 0.48), (0.62, 0.53), (0.66, 0.50))
    line(pen, BLACK, 0.03, (0.50, 0.49), (0.45, 0.56), (0.40, 0.625))
    disc(pen, BLACK, 0.345, 0.565, 0.034)
    polygon(pen, BLACK, (0.325, 0.61), (0.385, 0.61), (0.40, 0.72), (0.33, 0.72))
    line(pen, BLACK, 0.034, (0.345, 0.72), (0.325, 0.77), (0.28, 0.81))
    line(pen, BLACK, 0.034, (0.385, 0.71), (0.415, 0.76), (0.445, 0.735))
    line(pen, BLACK, 0.025, (0.33, 0.62), (0.285, 0.66))


def bicycle(pen: ImageDraw) -> None:
    for x in (0.355, 0.645):
        disc(pen, BLACK, x, 0.705, 0.115)
        disc(pen, WHITE, x, 0.705, 0.088)
    line(pen, BLACK, 0.03, (0.355, 0.705), (0.44, 0.56), (0.585, 0.56), (0.645, 0.705))
    line(pen, BLACK, 0.03, (0.425, 0.51), (0.505, 0.705), (0.355, 0.705))
    line(pen, BLACK, 0.03, (0.505, 0.705), (0.59, 0.57), (0.57, 0.49), (0.63, 0.49))
    line(pen, BLACK, 0.035, (0.385, 0.505), (0.46, 0.505))


def snowflake(pen: ImageDraw) -> None:
    x, y = 0.5, 0.64
    for turn in range(30, 390, 60):
        across, down = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        line(pen, BLACK, 0.036, (x, y), (x + 0.175 * across, y + 0.175 * down))
        for side in (-0.6, 0.6):  # radians between an arm and its twigs
            a = math.radians(turn) + side
            line(
                pen,
                BLACK,
                0.03,
                (x + 0.09 * across, y + 0.09 * down),
                (x + 0.09 * across + 0.07 * math.cos(a), y + 0.09 * down + 0.07 * math.sin(a)),
            )


def deer(pen: ImageDraw) -> None:
    line(pen, BLACK, 0.08, (0.50, 0.60), (0.625, 0.67))
    line(pen, BLACK, 0.05, (0.485, 0.58), (0.455, 0.50))
    line(pen, BLACK, 0.034, (0.455, 0.495), (0.40, 0.525))
    line(pen, BLACK, 0.018, (0.465, 0.485), (0.46, 0.42), (0.485, 0.37))
    line(pen, BLACK, 0.018, (0.475, 0.485), (0.505, 0.435), (0.51, 0.395))
    line(pen, BLACK, 0.026, (0.48, 0.615), (0.40, 0.61), (0.375, 0.66))
    line(pen, BLACK, 0.026, (0.51, 0.635), (0.435, 0.665), (0.425, 0.715))
    line(pen, BLACK, 0.03, (0.64, 0.69), (0.685, 0.745), (0.745, 0.815))
    line(pen, BLACK, 0.03, (0.62, 0.70), (0.645, 0.76), (0.70, 0.825))
    line(pen, BLACK, 0.025, (0.655, 0.655), (0.69, 0.645))
