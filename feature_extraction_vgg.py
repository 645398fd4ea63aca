"""Train a classifier on the bottleneck features of VGG16, GoogLeNet, ResNet50 or AlexNet.

    python feature_extraction_vgg.py --network vgg --dataset cifar10 --image_size 64   # minutes; 224: 15
    python feature_extraction_vgg.py --network googlenet --dataset traffic
    python feature_extraction_vgg.py --training_file vgg_cifar10_100_bottleneck_features_train.p \\
        --validation_file vgg_cifar10_bottleneck_features_validation.p                 # the course's files
    python feature_extraction_vgg.py --demo              # drawn signs, random weights, nothing downloaded

The bottleneck is the last layer before the classifier. Its features are made once, in two files in data/ as the course
handed them out: pickles of {"features": float32 (N, D), "labels": int64 (N,)}, 100 training images per class in one,
the validation images in the other. Files that are there are used. Output: the shapes, then loss and accuracy per
epoch, at the end the best and the last accuracy and a report on the result.
"""

import argparse
import contextlib
import pathlib
from typing import Any, NamedTuple

from common.program import run, start_tensorflow

import numpy as np

from common.files import BadInput
from common.flags import Parser, at_least
from data import DATA_DIR, bottleneck_files, datasets, traffic_signs
from data.datasets import Dataset, Split
from transfer import devices, flags, runs
from transfer.recipe import Case
from weights import cards
from weights.heads import Provenance

SCRIPT = pathlib.Path(__file__).stem
FORWARD_BATCH = 32  # images of 224 pixels at a time: VGG16's first layers alone take 800 MB of activations
DEMO_SIZE = 64  # pixels; a twelfth of the work


class Bottleneck(NamedTuple):
    """Features and what they are of."""

    features: Any  # float32 (N, D)
    split: Split  # of the N images; without pixels where the features come from elsewhere
    origin: Provenance | None  # what a head on them has to remember; None: it is unknown which network they are of


def load_images(args: argparse.Namespace) -> Split:
    """Labelled images, split as the course did it: a third of the signs, by track, or a fifth of other images."""
    source = datasets.named(args.dataset)
    images = source.drawn(seed=args.seed) if args.demo else source.load()
    return datasets.split(images, args.split, args.seed, held_out=datasets.HELD_OUT if source.split == "track" else 0.2)


def from_files(training_file: pathlib.Path, validation_file: pathlib.Path) -> Bottleneck:
    """The features of two files, whoever made them."""
    features, labels, count = bottleneck_files.read_both(training_file, validation_file)
    names = [str(label) for label in np.unique(labels)]
    return Bottleneck(features, without_pixels(labels, count, names, validation_file.name), None)


def from_images(args: argparse.Namespace) -> Bottleneck:
    """The features of images: each goes through the network once, and is kept."""
    from transfer import feature_store, features, loading, trained

    card = cards.CARDS[args.network]
    split, framing = flags.split_of(args, card, lambda: load_images(args))
    source = flags.source_of(args, card)
    network = loading.load_network(
        card, source, seed=args.seed, image_size=args.image_size, precision=args.precision, classifier=False
    )
    origin = trained.provenance_of(network, card.bottleneck, source, args.seed, split.dataset.name, framing)

    def compute(images: np.ndarray) -> np.ndarray:
        cache = flags.cache_of(args)
        return features.frozen_features(network, images, card.bottleneck, origin, cache, FORWARD_BATCH)[:]

    if args.training_dir:  # the feature store knows when an image has changed
        return Bottleneck(compute(split.dataset.images), split, origin)
    split = datasets.in_order(split)  # training images first, as the two files hold them
    files = default_files(args)
    for path, rows, per_class in zip(files, (split.training, split.validation), (args.per_class, 0)):
        images = split.dataset.images[rows]
        how = features.key(origin, card.bottleneck, pool=True) | {
            "trained_on": split.dataset.name, "seed": args.seed, "split": args.split, "per_class": per_class,
            "images": datasets.fingerprint(split), "pixels": feature_store.fingerprint(images),
        }  # fmt: skip
        if not bottleneck_files.is_made_from(path, how):
            bottleneck_files.write(path, compute(images), split.dataset.labels[rows], how)
    vectors, *_ = bottleneck_files.read_both(*files)
    return Bottleneck(vectors, split, origin)


def without_pixels(labels: np.ndarray, count: int, class_names: list[str], name: str) -> Split:
    """Labels whose images are elsewhere; the first `count` are for training."""
    dataset = Dataset(np.empty((len(labels), 0, 0, 3), np.uint8), labels, class_names, None, name)
    return Split(dataset, np.arange(count), np.arange(count, len(labels)))


def find_features(args: argparse.Namespace) -> Bottleneck:
    """The features that the flags ask for."""
    if args.training_file:
        return from_files(args.training_file, args.validation_file)
    if not args.training_dir and all(path.exists() for path in default_files(args)):
        made_from = [bottleneck_files.made_from(path) for path in default_files(args)]
        if made_from == [None, None]:
            return from_files(*default_files(args))  # the course's, under its names
        if None in made_from:
            path = default_files(args)[made_from.index(None)]
            raise BadInput(f"{path}: was not made here, but its partner was; give both with --training_file and "
                           "--validation_file, or move it away")  # fmt: skip
    return from_images(args)


def default_files(args: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
    """Names as the course had them; what differs from its settings is added to the name."""
    name = f"{args.network}_{args.dataset}"
    if args.image_size != cards.CARDS[args.network].input_size:
        name += f"_{args.image_size}px"
    if args.split == "track":
        name += "_track"
    name = f"demo_{name}" if args.demo else name
    return (
        DATA_DIR / f"{name}_{args.per_class or 'all'}_bottleneck_features_train.p",
        DATA_DIR / f"{name}_bottleneck_features_validation.p",
    )


def train(args: argparse.Namespace, folder: pathlib.Path | None) -> None:
    """Features, a head on them, a report; the run is kept when it is known which network the features are of."""
    here = devices.find()
    start_tensorflow()
    found = find_features(args)
    from transfer import cases, results

    card = cards.CARDS[args.network]
    recipe = flags.recipe_of(args, Case(card.bottleneck), card, len(found.split.training))
    kept = None
    if found.origin:
        fingerprint = datasets.fingerprint(found.split)
        if here.chief and folder is None:
            folder = runs.begin(SCRIPT, flags.as_kept(args), fingerprint, found.origin.fingerprint, args.out, args.demo)
        kept = runs.Run(folder, found.origin, found.split.dataset.class_names, here.chief)
        kept.check(fingerprint)
    log = args.logdir / (folder.name if folder else SCRIPT) if args.logdir else None
    with kept.locked() if kept else contextlib.nullcontext():
        if kept:
            kept.change_flags(flags.changeable(args))
        outcome = cases.train_head(found.features, found.split, recipe, here, kept, print_epoch, log)
        accuracies = [epoch["validation_accuracy"] for epoch in outcome.history]
        best = int(np.argmax(accuracies))
        print(f"\nBest validation accuracy: {accuracies[best]:.4f} (epoch {best + 1}), last: {accuracies[-1]:.4f}\n")
        if kept:
            results.conclude(kept, outcome, found.split, here, args.plot)
    if kept and here.chief:
        if args.test_file:
            results.judge(folder, traffic_signs.load_test(args.test_file), None, flags.cache_of(args), args.plot)
        print(results.next_step(folder, args.demo, found.split.dataset.class_names))


def print_epoch(epoch: dict) -> None:
    """One line."""
    loss, accuracy = epoch["validation_loss"], epoch["validation_accuracy"]
    print(f"Epoch {epoch['epoch']:2}: validation loss {loss:.4f}, validation accuracy {accuracy:.4f}", flush=True)


def parse_arguments() -> tuple[argparse.Namespace, pathlib.Path | None]:
    parser = Parser(__doc__)
    flags.add_training_flags(parser, epochs=50, batch_size=256)
    add = parser.add_argument_group("features").add_argument
    add("--network", choices=cards.CARDS, default="vgg", help="the network that computes the features (default vgg)")
    add("--dataset", choices=datasets.TABLE, help="the images (default cifar10)")
    add(
        "--per_class",
        type=at_least(0),
        default=100,
        help="training images per class; 0 takes all (default 100)",
    )
    add("--image_size", type=at_least(32, most=1024), help="side of the input; 64 pixels cost a twelfth of 224")
    add("--split", choices=("random", "track"), help="how to split the signs: by track (default), or at random, as the "
        "course did (flattering: images of one sign are then in both training and validation)")  # fmt: skip
    add("--training_file", type=pathlib.Path, help="bottleneck features that you have; with --validation_file")
    add("--validation_file", type=pathlib.Path, help="bottleneck features to validate on")
    args, folder = flags.parse(parser, SCRIPT)
    args.dataset = args.dataset or ("traffic" if args.demo else "cifar10")
    card = cards.CARDS[args.network]
    fixed = card.bottleneck in card.fixed_layers
    args.image_size = args.image_size or (DEMO_SIZE if args.demo and not fixed else card.input_size)
    card.checked_size(args.image_size, card.bottleneck)
    source = datasets.named(args.dataset)
    if args.split == "track" and source.split != "track":
        parser.error("argument --split: these images have no tracks, every one shows another object")
    args.split = args.split or source.split
    if bool(args.training_file) != bool(args.validation_file):
        raise BadInput("--training_file and --validation_file: one is missing; give both, or none to have them made")
    return args, folder


def main() -> None:
    args, folder = parse_arguments()
    train(args, folder)


if __name__ == "__main__":
    run(main)
