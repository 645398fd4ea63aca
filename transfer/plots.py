"""Plots of a training run: its curves, the confusion matrix, the worst mistakes, the first layer's filters.

Each function writes one PNG, whole or not at all. Matplotlib is used without pyplot: no window, no display, nothing
kept between calls.
"""

import math
import os
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from common.writing import written_whole

DPI = 120  # pixels per inch; matplotlib measures in inches
TILE = 128  # pixels that an image of the contact sheet is enlarged to, or reduced to
COLUMNS = 6  # of the contact sheet
CAPTION, LINE = 30, 14  # letters in a line under an image; its height in pixels
NAME = 40  # letters of a name beside the confusion matrix
NAMED = 100  # classes; with more the matrix has no names
CELL = 0.17, 0.9  # inches, a cell of the matrix at least (a line of small print) and at most
NUMBERED = 0.3  # inches, the smallest cell that a number can be read in
FILTER = 64  # pixels that a filter is enlarged to
# Matplotlib's own font has Latin, Greek, Cyrillic, Arabic and Hebrew; the others, where they are installed, have
# Chinese, Japanese and Korean on Linux, macOS and Windows.
FONTS = "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Arial Unicode MS", "Microsoft YaHei"
TRAINING, VALIDATION, WRONG = "tab:gray", "tab:blue", "firebrick"
DARK, BRIGHT = 90, 200  # of 255: where hardly a pixel in the middle reaches DARK, the brightest are made BRIGHT


def curves(
    history: Sequence[dict], path: str | os.PathLike, kept: int, measures: Sequence[str] = ("loss", "accuracy")
) -> None:
    """Loss and accuracy over the epochs, or one of them, and the epoch whose parameters were kept.

    history: one dict per epoch with "epoch", "loss", "accuracy" (of training), "validation_loss" and
    "validation_accuracy"; none yet: empty axes. Epochs with "phase": "head" before others with "phase": "layers"
    trained the head alone; they are shaded, and their result is the others' epoch 0. kept: an epoch of the last phase;
    it is marked if the history has it.
    """
    head_epochs = _head_epochs(history)
    places = [_place(each, head_epochs) for each in history]
    figure = Figure(figsize=(9, 4.1), dpi=DPI, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures):
        for key, label, colour in (name, "training", TRAINING), (f"validation_{name}", "validation", VALIDATION):
            style = {"linestyle": "--" if label == "training" else "-", "marker": "." if len(history) < 50 else ""}
            if history:
                axes.plot(places, [each[key] for each in history], color=colour, label=label, **style)
        if kept in places:
            value = history[places.index(kept)][f"validation_{name}"]
            label = f"kept: {value:.3f}, {_epoch_name(kept, head_epochs)}"
            axes.plot(kept, value, "o", color=WRONG, label=label)
        axes.set(xlabel="epoch", title=name.capitalize(), xlim=(min([*places, 1]) - 0.5, max([*places, 1]) + 0.5))
        if head_epochs:
            axes.axvspan(axes.get_xlim()[0], 0.5, color="0.93", zorder=0)
            axes.set_xlabel("epoch (shaded: the head alone)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(6, min_n_ticks=4))
        axes.xaxis.set_major_formatter(lambda x, _: str(round(x + head_epochs) if x <= 0 else round(x)))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if history:
            _legend_below(axes, columns=3 if len(measures) == 1 else 2)
    _save(figure, path)


def _legend_below(axes: Axes, columns: int) -> None:
    """A legend below the axis and its label, where it hides no curve."""
    type_size = axes.xaxis.label.get_size()  # points
    shift = ScaledTranslation(0, -(2.7 * type_size + 8) / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=axes.transAxes + shift,
        ncols=columns, fontsize="small",
    )  # fmt: skip


def _head_epochs(history: Sequence[dict]) -> int:
    """How many epochs trained the head alone before others trained more."""
    phases = [each.get("phase") for each in history]
    return phases.count("head") if "layers" in phases else 0


def _place(epoch: dict, head_epochs: int) -> int:
    """Where an epoch lies on the axis: those of the head alone end at 0."""
    return epoch["epoch"] - (head_epochs if epoch.get("phase") == "head" else 0)


def _epoch_name(place: int, head_epochs: int) -> str:
    return f"epoch {place}" if place > 0 else f"epoch {place + head_epochs} of the head"


def confusion(matrix: np.ndarray, class_names: Sequence[str], path: str | os.PathLike) -> None:
    """The confusion matrix (k, k), counts with a row per true class: each row as shares of the class's images.

    The colour scale is a square root, so that 2% of mistakes show beside 98% of right predictions. A class without
    images has a grey row.
    """
    count = len(class_names)
    matrix = np.asarray(matrix, float)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    cell = np.clip(5 / count, *CELL) if count <= NAMED else CELL[0] * NAMED / count
    names = [f"{label}  {_cut(name)}" for label, name in enumerate(class_names)] if count <= NAMED else []
    size = 8 if cell > NUMBERED else 7
    room = 0.6 + max(map(len, names), default=4) * size / 72 * 0.55  # inches for the names
    figure = Figure(figsize=(cell * count + room + 1, cell * count + room), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("lightgray")
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if names:
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color="0.9", linewidth=0.5)  # leads the eye from a cell to its names
        axes.tick_params(which="minor", length=0)
    if cell > NUMBERED:
        for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005)):
            share = shares[row, column]
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size,
                color="white" if share > 0.4 else "black",
            )  # fmt: skip
    axes.set(xlabel="predicted as", ylabel="true class")
    bar = figure.colorbar(
        image, fraction=0.03, pad=0.02, shrink=0.7, aspect=30, ticks=[0, 0.02, 0.1, 0.25, 0.5, 1],
        format=PercentFormatter(1, 0),
    )  # fmt: skip
    bar.set_label("of the class's images", fontsize=size)
    bar.ax.tick_params(labelsize=size)
    _save(figure, path)


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    total: int,
) -> None:
    """A contact sheet of wrong predictions: below each image its true class, the predicted one and its probability.

    images: uint8 (N, H, W, 3), shown in this order; labels (N,) and probabilities (N, k) are theirs. total: how many
    mistakes there are in all. Without any, the sheet says so. Very dark images are brightened.
    """
    title = "No mistakes"
    if len(images):
        title = f"{len(images)} of {total:,} mistakes, the most confident first. Black: true class; red: predicted as"
    wide, high, top = TILE + 72, TILE + 5 * LINE, 40  # pixels
    width, height = COLUMNS * wide, top + -(-len(images) // COLUMNS) * high
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.text(0.5, 1 - top / 2 / height, title, ha="center", va="center")
    for place, (image, label, row) in enumerate(zip(images, labels, probabilities)):
        image = _brightened(_fitted(image, TILE))
        middle = (place % COLUMNS + 0.5) * wide
        lower = height - top - place // COLUMNS * high - TILE  # matplotlib counts from below
        figure.figimage(image, int(middle - image.shape[1] / 2), lower, origin="upper")
        predicted = row.argmax()
        lines = [("black", line) for line in _lines(class_names[label])]
        lines += [(WRONG, line) for line in _lines(f"{row[predicted]:.2f} {class_names[predicted]}")]
        for number, (colour, line) in enumerate(lines):
            y = lower - 4 - LINE * number
            figure.text(middle / width, y / height, line, ha="center", va="top", fontsize=7, color=colour)
    _save(figure, path)


def _brightened(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): an image with a very dark middle is scaled up, whatever shines at its edge; others are not."""
    height, width = image.shape[:2]
    middle = image[height // 4 : height - height // 4, width // 4 : width - width // 4]
    brightest = max(np.percentile(middle, 95), 1.0)
    return image if brightest >= DARK else (image * (BRIGHT / brightest)).clip(0, 255).astype(np.uint8)


def filters(bgr_kernel: np.ndarray, path: str | os.PathLike) -> None:
    """The first layer's kernels (h, w, 3, n) in colour; their input channels are blue, green, red, as in Caffe.

    Each filter is stretched to its own range: black is its smallest weight, white its largest.
    """
    kernel = np.asarray(bgr_kernel, np.float32)
    if kernel.ndim != 4 or kernel.shape[2] != 3:
        raise ValueError(f"a kernel of the shape {kernel.shape}; expected (h, w, 3, n)")
    kernel = kernel[:, :, ::-1]
    low, high = kernel.min(axis=(0, 1, 2)), kernel.max(axis=(0, 1, 2))
    stretched = 255 * (kernel - low) / np.where(high > low, high - low, 1)
    images = [_fitted(image, FILTER) for image in np.moveaxis(stretched.round().astype(np.uint8), 3, 0)]
    count, gap = len(images), 4  # pixels
    lines = max(line for line in range(1, math.isqrt(count) + 1) if count % line == 0)  # as square as has no holes
    tiles = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    sheet = np.block([[[tile] for tile in row] for row in tiles.reshape(lines, -1, *tiles.shape[1:])])
    with written_whole(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, W, 3) enlarged by a whole factor up to `side` pixels, every pixel a sharp square; or reduced to it."""
    image = np.asarray(image)
    longest = max(image.shape[:2])
    if longest <= side:
        return image.repeat(side // longest, axis=0).repeat(side // longest, axis=1)
    smaller = Image.fromarray(image)
    smaller.thumbnail((side, side))
    return np.asarray(smaller)


def _cut(name: str) -> str:
    """A class name beside the matrix: one line, not too long."""
    name = " ".join(name.split())
    return literal(name if len(name) <= NAME else f"{name[: NAME - 1].rstrip(' .')}…")


def _lines(text: str) -> list[str]:
    """A caption under an image: two lines at most."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in text)  # as Chinese is
    return [literal(line) for line in textwrap.wrap(text, CAPTION // (1 + wide), max_lines=2, placeholder="…")]


def literal(text: str) -> str:
    """The text for matplotlib, which would take $...$ for a formula."""
    return text.replace("$", r"\$")


def _save(figure: Figure, path: str | os.PathLike) -> None:
    installed = set(font_manager.get_font_names())
    for text in figure.findobj(Text):
        text.set_fontfamily([font for font in FONTS if font in installed])
    with written_whole(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # no font for a script: boxes
        figure.savefig(temporary, format="png", dpi="figure")
