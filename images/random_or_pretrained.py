"""What pretraining is worth: heads on AlexNet's layers, with random weights and with pretrained ones.

    python -m images.random_or_pretrained --weights small      # the README's table; or a file of weights
    python -m images.random_or_pretrained --dataset drawn      # a column of it, random weights only

Three data sets: the demo's drawn signs (860 to train on, 430 to validate); every eighth of the 39,209 signs, split by
track; CIFAR-10, 100 training and 200 test images per class. An image goes through the network once for all layers. Each
head is kept in images/random_or_pretrained.jsonl as soon as it is measured and never computed again: start the command
anew after it was stopped; delete the lines of weights that have changed under their name.

Output: a line per head, then the table in Markdown: random weights against pretrained ones.
"""

import argparse
import pathlib
from typing import NamedTuple

from common.program import run

import numpy as np

from common.flags import Parser
from common.writing import check_writable
from data import cifar10, datasets, splits, traffic_signs
from data.splits import Split
from images import measurements
from transfer import devices
from transfer.recipe import Case, check_layers, recipe_for
from weights.cards import ALEXNET

RESULTS = pathlib.Path(__file__).resolve().with_name("random_or_pretrained.jsonl")
LAYERS = ("fc7", "pool5", "conv3", "pool2", "pool1")
EVERY = 8  # of the real signs: a minute on two cores
DATASETS = {  # name: (heading, epochs of a head)
    "drawn": ("drawn signs (the demo's)", 15),
    "signs": ("real signs, every 8th, by track", 15),
    "cifar10": ("CIFAR-10, 100 per class", 20),
}
RANDOM = "random"


class Point(NamedTuple):
    """What is measured."""

    dataset: str
    weights: str
    layer: str


KINDS = Point.__annotations__ | {"accuracy": float, "trained": int, "validated": int, "epochs": int}


def load(dataset: str) -> Split:
    """The images of a column, and which of them validate."""
    if dataset == "cifar10":
        return splits.fewer(splits.joined(cifar10.load(), cifar10.load_test()), 100, 200, seed=0)
    if dataset == "drawn":
        return splits.split(traffic_signs.drawn(), "track", seed=0)
    signs = traffic_signs.load()
    return splits.split(datasets.subset(signs, np.arange(0, len(signs.labels), EVERY)), "track", seed=0)


def measure(
    split: Split,
    points: list[Point],
    source: str | None,
    cache: pathlib.Path | None,
    out: pathlib.Path,
) -> None:
    """Train a head on each layer for the same images and weights, and keep its accuracy in the file `out`."""
    here = devices.find()  # starts TensorFlow
    from transfer import cases, loading

    network = loading.load_network(ALEXNET, source, precision="auto", classifier=False, trains=True)
    for point in points:
        check_layers(Case(point.layer), network.layer_names, ALEXNET.title)
    layers = [point.layer for point in points]
    vectors = measurements.features_of_layers(network, split.dataset.images, layers, source, cache)
    for point in points:
        recipe = recipe_for(Case(point.layer), ALEXNET, epochs=DATASETS[point.dataset][1])
        outcome = cases.train_head(vectors[point.layer], split, recipe, here)
        accuracy = outcome.history[-1]["validation_accuracy"]
        found = {"accuracy": round(accuracy, 4), "trained": len(split.training), "validated": len(split.validation)}
        measurements.keep(out, point._asdict() | found | {"epochs": len(outcome.history)})
        print(f"{point.dataset}, {point.weights} weights, {point.layer}: {accuracy:.3f}", flush=True)


def table(found: list[dict], names: list[str]) -> str:
    """A row for each layer, a column for each data set: random weights against the others."""
    known = {(each["dataset"], each["weights"], each["layer"]): each["accuracy"] for each in found}
    columns = [dataset for dataset in DATASETS if dataset in {each["dataset"] for each in found}]
    rows = []
    for layer in dict.fromkeys([*LAYERS, *(each["layer"] for each in found)]):
        cells = []
        for dataset in columns:
            accuracies = [known[dataset, name, layer] for name in names if (dataset, name, layer) in known]
            cells.append(" against ".join(f"{accuracy:.3f}" for accuracy in accuracies))
        if any(cells):
            rows.append([layer, *cells])
    return measurements.markdown("head on", [DATASETS[dataset][0] for dataset in columns], rows)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__, prog="python -m images.random_or_pretrained")
    add = parser.add_argument
    add("--weights", default=RANDOM, help="file with AlexNet's pretrained weights, or 'small', those that come with "
        "the scripts; without it, random ones alone are measured")  # fmt: skip
    add(
        "--dataset",
        nargs="+",
        choices=DATASETS,
        default=list(DATASETS),
        help="images to measure on (default: all three)",
    )
    add("--layers", nargs="+", default=list(LAYERS), metavar="LAYER",
        help=f"layers to put a head on (default {' '.join(LAYERS)})")  # fmt: skip
    measurements.add_file_flags(parser, RESULTS)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    sources = {
        measurements.name_of_weights(source, ALEXNET): source for source in dict.fromkeys((RANDOM, args.weights))
    }
    done = {Point(*(each[key] for key in Point._fields)) for each in measurements.read(args.out, KINDS)}
    for dataset in dict.fromkeys(args.dataset):
        split = None
        for name, source in sources.items():
            points = [Point(dataset, name, layer) for layer in dict.fromkeys(args.layers)]
            if missing := [point for point in points if point not in done]:
                check_writable(args.out)
                split = split or load(dataset)
                with measurements.told_how_to_go_on(args.out):
                    measure(split, missing, source, args.cache, args.out)
    found = measurements.read(args.out, KINDS)
    print(f"\n{table(found, list(sources))}")


if __name__ == "__main__":
    run(main)
