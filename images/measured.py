"""Pictures of what was measured: accuracy against images per class (images/how_much.py), and the loss of a training."""

import math
import pathlib
import statistics
import tempfile
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from images.canvas import INK, SCRATCH, SMALL, TUNED, TYPE, UNITS_PER_INCH, WIDTH, points, sheet
from transfer import plots

DATASETS = {"signs": "German traffic signs", "cifar10": "CIFAR-10", "drawn": "drawn signs"}
# What a case looks like; the shape of the mark tells it, too.
CASES = {
    1: ("1: new head", {"color": "#6e7781", "marker": "o"}),
    2: ("2: early layer", {"color": INK, "marker": "s"}),
    3: ("3: fine-tuned", {"color": TUNED["facecolor"], "marker": "^"}),
    4: ("4: from scratch", {"color": SCRATCH["edgecolor"], "marker": "D"}),
}
FROM_SCRATCH = 4  # the case that has weights of its own
ALL = 4.0  # how far to the right of the largest number "all" stands: times that number
APART = 34  # units between two labels


def how_much(results: Sequence[dict]) -> Figure:
    """Accuracy against training images per class, a panel per data set, network and its weights, a line per case.

    results: as `images.how_much.measure` keeps them; per_class 0 is all. Marks are medians over the seeds, bars go from
    the lowest to the highest. The line from scratch is in the panels of all weights.
    """
    pretrained = dict.fromkeys(
        (_measured_on(each), each["weights"]) for each in results if each["case"] != FROM_SCRATCH
    )
    others = {_measured_on(each) for each in results} - {on for on, _ in pretrained}
    panels = [*pretrained, *((on, None) for on in sorted(others))]
    high = 470  # units
    figure, _ = sheet(high * len(panels))
    for number, (on, weights) in enumerate(panels):
        dataset, network, size = on
        own = [each for each in results if _measured_on(each) == on]
        own = [each for each in own if each["case"] == FROM_SCRATCH or each["weights"] == weights]
        lower = 1 - (number * high + 370) / (high * len(panels))
        axes = figure.add_axes((95 / WIDTH, lower, 525 / WIDTH, 310 / (high * len(panels))))
        _panel(axes, own)
        alone = sum(other == dataset for (other, *_), _ in panels) == 1
        told = "" if alone else f", {network} ({weights or 'from scratch'}), {size} pixels"
        axes.set_title(f"{DATASETS.get(dataset, dataset)}: accuracy{told}", fontsize=points(TYPE), loc="left", pad=14)
        axes.set_xlabel("training images per class", fontsize=points(TYPE))
    return figure


def loss(history: Sequence[dict], kept: int) -> Image.Image:
    """The training and the validation loss of each epoch, see `transfer.plots.curves`, in large type."""
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 3, "lines.markersize": 12}):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "loss.png"
            plots.curves(history, path, kept, ["loss"])
            with Image.open(path) as drawn:
                return drawn.convert("RGB")


def _measured_on(each: dict) -> tuple:
    """What the measurements of a panel have in common, apart from the weights."""
    return each["dataset"], each["network"], each["image_size"]


def _panel(axes: Axes, results: Sequence[dict]) -> None:
    """The lines of one data set and network."""
    counts = sorted({each["per_class"] for each in results}, key=lambda count: count or math.inf)
    places = {count: count or ALL * max(counts) or 1 for count in counts}  # where on the axis
    ends = []
    for case, (name, style) in CASES.items():
        of_case = [each for each in results if each["case"] == case]
        found = [(place, [each["accuracy"] for each in of_case if each["per_class"] == count])
                 for count, place in places.items()]  # fmt: skip
        drawn = sorted((place, values) for place, values in found if values)
        if not drawn:
            continue
        middles = [statistics.median(values) for _, values in drawn]
        several = [values if len(values) > 1 else [math.nan] for _, values in drawn]  # one seed has no spread
        spread = [[middle - min(values) for middle, values in zip(middles, several)],
                  [max(values) - middle for middle, values in zip(middles, several)]]  # fmt: skip
        axes.errorbar([place for place, _ in drawn], middles, spread, **style, linewidth=3, markersize=11, capsize=7,
                      elinewidth=2, clip_on=False)  # fmt: skip
        ends.append((middles[-1], name, style["color"]))
    axes.set(xscale="log", ylim=(0, 1))
    axes.set_xticks(list(places.values()), [f"{count:,}" if count else "all" for count in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.tick_params(labelsize=points(SMALL), length=6)
    axes.grid(alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    _name(axes, ends)


def _name(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Name the lines at their right ends (accuracy, name, colour), far enough from each other."""
    unit = 1 / (axes.get_position().height * axes.figure.get_figheight() * UNITS_PER_INCH)  # of the axis, in accuracy
    below = -1.0
    for accuracy, name, colour in sorted(ends):
        below = max(accuracy, below + APART * unit)
        axes.annotate(name, (1.03, below), xycoords="axes fraction", va="center", fontsize=points(TYPE), color=colour,
                      weight="bold", annotation_clip=False)  # fmt: skip
