"""How much data? Accuracy against the number of training images per class, for the four cases of transfer learning.

    python -m images.how_much                                                # the README's table; a day for all of it
    python -m images.how_much --dataset signs --cases 1 2 --per_class 10 30  # a part of it; minutes
    python -m images.how_much --dataset drawn --network googlenet --weights random --image_size 32   # to try it out

Every point is kept in images/how_much.jsonl as soon as it is measured and never computed again: start the command anew
after it was stopped, or to add points. All points of a data set are validated on the same images: of the signs 60 per
class, whose tracks are never trained on; of CIFAR-10 200 per class of its test images. Of more than 100 images per
class only the first seed is measured. The features of frozen layers are computed once, for all images that any point of
a case needs.

Output: a line per point, with the minutes that it takes alone, including the features of its own images; then the table
in Markdown: the median accuracy of the seeds, the lowest and the highest.
"""

import argparse
import hashlib
import itertools
import pathlib
import shutil
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from common.program import run

import numpy as np

from common.flags import LARGEST_SEED, Parser, at_least
from common.locks import exclusive
from common.writing import check_writable
from data import cifar10, datasets, splits, traffic_signs
from data.splits import Split
from images import measurements
from transfer import devices, run_files, runs
from transfer.recipe import Case, Recipe, check_layers, preset, recipe_for
from weights import cards
from weights.cards import Card

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` and mistakes are answered without
    from networks.network import Network
    from weights.heads import Provenance

RESULTS = pathlib.Path(__file__).resolve().with_name("how_much.jsonl")
WORK = run_files.MEASURED_DIR  # a fine-tuning that was stopped continues from here
PER_CLASS = (10, 30, 100, 300, 0)  # 0: all
SEVERAL_SEEDS = 100  # images per class; with more, the choice of images matters little, and takes hours
EPOCHS = {1: 30, 2: 30, 3: 8, 4: 8}  # of each case
VALIDATED = {"signs": 60, "cifar10": 200, "drawn": 0}  # images per class; 0: all
TIMED = 128  # images, to tell what features cost


class Point(NamedTuple):
    """What is measured."""

    dataset: str
    network: str
    weights: str
    image_size: int
    case: int
    per_class: int  # 0: all
    seed: int


KINDS = Point.__annotations__ | {"accuracy": float, "validated": int, "minutes": float, "epochs": int}


def load(dataset: str) -> Split:
    """Training images, and those that validate every point; drawn signs as in the demo."""
    if dataset == "cifar10":
        parts = splits.joined(cifar10.load(), cifar10.load_test())
    else:
        parts = splits.split(traffic_signs.drawn() if dataset == "drawn" else traffic_signs.load(), "track", seed=0)
    return parts._replace(validation=splits.few(parts.validation, parts.dataset.labels, VALIDATED[dataset], seed=0))


def chosen_rows(parts: Split, point: Point) -> np.ndarray:
    """The rows that a point is trained on. More images per class contain those of fewer."""
    return splits.few(parts.training, parts.dataset.labels, point.per_class, point.seed)


def measure(
    parts: Split,
    points: list[Point],
    done: set[Point],
    source: str | None,
    cache: pathlib.Path | None,
    out: pathlib.Path,
    until: float = np.inf,
) -> None:
    """Measure those points that are not done yet, and keep each in the file `out`.

    points: of one case of fine-tuning, or of the cases that train heads only, which share the passes through the
    network. source: of its weights. until: a time (`time.monotonic`) after which no point is begun.
    """
    # The images of all points, done or not: the same features serve when the command is started again.
    used = np.unique(np.concatenate([*(chosen_rows(parts, point) for point in points), parts.validation]))
    dataset, validation = datasets.subset(parts.dataset, used), np.searchsorted(used, parts.validation)
    card = cards.CARDS[points[0].network]
    layers = sorted({preset(point.case, card).layer for point in points})
    network, vectors, costs = None, {}, {}
    for point in points:
        if point in done or time.monotonic() > until:
            continue
        case = preset(point.case, card)
        if network is None or case.fine_tuning:  # which changes the network
            network = load_network(point, case, source)
        if case.layer not in costs:
            costs[case.layer] = 0 if case.from_scratch else seconds_per_image(network, dataset.images, case.layer)
        split = Split(dataset, np.searchsorted(used, chosen_rows(parts, point)), validation)
        if case.fine_tuning:
            accuracy, epochs = fine_tune(network, split, point, case, source, cache)
        else:
            vectors = vectors or measurements.features_of_layers(network, dataset.images, layers, source, cache)
            accuracy, epochs = train_head(vectors[case.layer], split, point, case)
        seconds = sum(epoch["seconds"] for epoch in epochs)
        seconds += costs[case.layer] * (len(split.training) + len(split.validation))
        found = {"accuracy": round(accuracy, 4), "validated": len(validation), "minutes": round(seconds / 60, 2),
                 "epochs": epochs[-1]["epoch"]}  # fmt: skip
        measurements.keep(out, point._asdict() | found)
        print(f"{described(point)}: {accuracy:.3f} of {len(validation):,} images, {found['epochs']} epochs, "
              f"{found['minutes']:.1f} minutes", flush=True)  # fmt: skip


def load_network(point: Point, case: Case, source: str | None) -> "Network":
    """The network of a point. Random weights are the same for all seeds, but from scratch each seed has its own."""
    devices.find(fine_tuning=True)  # starts TensorFlow; one of the next points may be a fine-tuning
    from transfer import loading

    card = cards.CARDS[point.network]
    network = loading.load_network(
        card, source, seed=point.seed if case.from_scratch else 0, image_size=point.image_size, precision="float32",
        classifier=False, trains=case.fine_tuning, from_scratch=case.from_scratch,
    )  # fmt: skip
    check_layers(case, network.layer_names, card.title)
    return network


def train_head(vectors: np.ndarray, split: Split, point: Point, case: Case) -> tuple[float, list[dict]]:
    """Accuracy on all validation images, and the epochs. vectors: float32 (N, features)."""
    from transfer import cases

    outcome = cases.train_head(vectors, split, recipe_of(point, case, split), devices.find())
    return outcome.history[-1]["validation_accuracy"], outcome.history


def fine_tune(
    network: "Network", split: Split, point: Point, case: Case, source: str | None, cache: pathlib.Path | None
) -> tuple[float, list[dict]]:
    """Accuracy on all validation images, and the epochs, those of the head alone among them."""
    from transfer import cases, trained
    from transfer.classifier import predict

    here, recipe = devices.find(), recipe_of(point, case, split)
    begins_with = "random" if case.from_scratch else source
    origin = trained.provenance_of(network, case.layer, begins_with, point.seed, split.dataset.name)
    folder = WORK / name_of(point, split, recipe, origin)
    this_run = runs.Run(folder, origin, split.dataset.class_names)
    with exclusive(
        WORK / f".{folder.name}.lock", f"{described(point)}: is being measured by another process; wait for it"
    ):
        outcome = cases.fine_tune(network, split, case, recipe, here, this_run, report=print_epoch, cache=cache)
        this_run.restore_result(outcome.classifier)
        predicted = predict(outcome.classifier, outcome.inputs, split.validation, here).argmax(axis=1)
        right = predicted == split.dataset.labels[split.validation]
        shutil.rmtree(folder)
    return float(right.mean()), [*outcome.head_history, *outcome.history]


def recipe_of(point: Point, case: Case, split: Split) -> Recipe:
    """The same that the scripts train with."""
    card, mirror = cards.CARDS[point.network], cifar10.SOURCE.mirror if point.dataset == "cifar10" else ()
    return recipe_for(case, card, len(split.training), epochs=EPOCHS[point.case], seed=point.seed, mirror=mirror)


def print_epoch(epoch: dict) -> None:
    """A line, for those who wait."""
    print(f"  epoch {epoch['epoch']}: {epoch['validation_accuracy']:.3f}, {epoch['seconds']:.0f} s", flush=True)


def seconds_per_image(network: "Network", images: np.ndarray, layer: str) -> float:
    """What it takes to compute features; measured apart, since those of a point may have been kept before."""
    from transfer import fast

    compute, some = fast.frozen(network, images.shape[1:], layer, pool=True), images[:TIMED]
    compute(some)  # compiles
    start = time.perf_counter()
    compute(some)
    return (time.perf_counter() - start) / len(some)


def name_of(point: Point, split: Split, recipe: Recipe, origin: "Provenance") -> str:
    """A folder's name that changes with everything that shapes a training."""
    shaped = f"{splits.fingerprint(split)} {recipe} {origin}"
    return f"{'-'.join(map(str, point))}-{hashlib.sha256(shaped.encode()).hexdigest()[:8]}"


def described(point: Point) -> str:
    """A point, in words."""
    images = f"{point.per_class} images per class" if point.per_class else "all images"
    return f"{point.dataset}, case {point.case}, {images}, seed {point.seed}"


def table(found: list[dict], card: Card) -> str:
    """The measurements of a network at one size: a row for each data set and case, a column for each `per_class`."""
    columns = sorted({each["per_class"] for each in found}, key=lambda count: count or np.inf)
    rows = []
    for dataset, number in itertools.product(VALIDATED, EPOCHS):
        own = [each for each in found if (each["dataset"], each["case"]) == (dataset, number)]
        if own:
            cells = [cell([each for each in own if each["per_class"] == count]) for count in columns]
            rows.append([f"{dataset}, case {number}: {title_of(preset(number, card))}", *cells])
    title = f"{card.title}, {found[0]['image_size']} pixels"
    return measurements.markdown(title, [f"{count} per class" if count else "all" for count in columns], rows)


def title_of(case: Case) -> str:
    """What a case trains, in two or three words."""
    if case.from_scratch:
        return "from scratch"
    return "fine-tuning" if case.fine_tuning else f"head on {case.layer}"


def cell(points: list[dict]) -> str:
    """Median accuracy of the seeds, lowest and highest."""
    if not points:
        return ""
    accuracies = sorted(each["accuracy"] for each in points)
    spread = f" ({accuracies[0]:.3f} to {accuracies[-1]:.3f})" if len(points) > 1 else ""
    return f"{statistics.median(accuracies):.3f}{spread}"


def measured(path: pathlib.Path) -> dict[Point, dict]:
    """The measurements in a file. Of two of one point, made by two processes, the last."""
    found = measurements.read(path, KINDS)
    return {Point(**{key: each[key] for key in Point._fields}): each for each in found}


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m images.how_much")
    add = parser.add_argument
    add("--dataset", nargs="+", choices=VALIDATED, default=["signs", "cifar10"],
        help="images to measure on (default signs cifar10)")  # fmt: skip
    add("--cases", nargs="+", type=int, choices=EPOCHS, default=list(EPOCHS),
        help="cases to measure (default 1 2 3 4)")  # fmt: skip
    add("--per_class", nargs="+", type=at_least(0), default=list(PER_CLASS), metavar="N",
        help=f"training images per class; 0: all (default {' '.join(map(str, PER_CLASS))})")  # fmt: skip
    add("--seeds", nargs="+", type=at_least(0, most=LARGEST_SEED), default=[0, 1, 2], metavar="SEED",
        help=f"which images are chosen, and in which order; of more than {SEVERAL_SEEDS} images per class only the "
        "first seed is measured (default 0 1 2)")  # fmt: skip
    add("--network", choices=cards.CARDS, default="googlenet", help="the network (default googlenet)")
    add("--weights", help="file with the network's weights if it is not in weights/; or 'random'")
    add("--image_size", type=at_least(32, most=cards.LARGEST_SIZE), default=64, help="side of the network's input in "
        "pixels (default 64)")  # fmt: skip
    add("--minutes", type=at_least(0, float), metavar="LIMIT", help="begin no point after so many minutes")
    measurements.add_file_flags(parser, RESULTS)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    card = cards.CARDS[args.network]
    for number in args.cases:
        card.checked_size(args.image_size, preset(number, card).layer)
    until = time.monotonic() + (np.inf if args.minutes is None else 60 * args.minutes)
    name = measurements.name_of_weights(args.weights, card)
    done = measured(args.out).keys()
    groups = [[case for case in (1, 2) if case in args.cases], *([case] for case in (3, 4) if case in args.cases)]
    for dataset in dict.fromkeys(args.dataset):
        parts = None
        for group in filter(None, groups):
            points = [
                Point(dataset, card.name, "random" if preset(case, card).from_scratch else name, args.image_size, case,
                      per_class, seed)
                for case, per_class, seed in itertools.product(group, *map(dict.fromkeys, (args.per_class, args.seeds)))
                if 0 < per_class <= SEVERAL_SEEDS or seed == args.seeds[0]
            ]  # fmt: skip
            if not set(points) <= done and time.monotonic() <= until:
                check_writable(args.out)
                parts = parts or load(dataset)
                with measurements.told_how_to_go_on(args.out):
                    measure(parts, points, done, args.weights, args.cache, args.out, until)
    found = [each for each in measured(args.out).values()
             if (each["network"], each["image_size"]) == (card.name, args.image_size)
             and (each["weights"] == name or preset(each["case"], card).from_scratch)]  # fmt: skip
    if found:
        print(f"\n{table(found, card)}")


if __name__ == "__main__":
    run(main)
