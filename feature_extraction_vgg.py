"""Train a classifier on the bottleneck features of VGG16, GoogLeNet, ResNet50 or AlexNet.

    python feature_extraction_vgg.py --network vgg --dataset cifar10 --image_size 64   # minutes; 224: 15
    python feature_extraction_vgg.py --network googlenet --dataset traffic
    python feature_extraction_vgg.py --training_file vgg_cifar10_100_bottleneck_features_train.p \\
        --validation_file vgg_cifar10_bottleneck_features_validation.p                 # the course's files
    python feature_extraction_vgg.py --demo              # drawn signs, random weights, nothing downloaded

The bottleneck is the last layer before the classifier. Its features are made once, in two files in data/ (or --cache)
as the course handed them out: pickles of {"features": float32 (N, D), "labels": int64 (N,)}, 100 training images per
class in one, the validation images in the other. Files that are there are used. Output: the shapes, then loss and
accuracy per epoch, at the end the best and the last accuracy and a report on the result. It is kept in a folder in
runs/, unless the features came in files: then it is unknown which network they are of.
"""

import argparse
import pathlib
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from common.program import run, start_tensorflow, told_on_interrupt

import numpy as np

from common.errors import BadInput
from common.flags import Parser, at_least
from data import DATA_DIR, bottleneck_files, datasets, splits
from data.datasets import Dataset
from data.splits import Split
from transfer import bottlenecks, command_line, devices, feature_store, flags, resuming, runs
from transfer.recipe import Case, Recipe
from weights import cards
from weights.heads import Provenance

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` is answered without
    from networks.network import Network
    from transfer.cases import Outcome

SCRIPT = pathlib.Path(__file__).stem
FORWARD_BATCH = 32  # images of 224 pixels at a time: VGG16's first layers alone take 800 MB of activations
DEMO_SIZE = 64  # pixels; a twelfth of the work
HEAD_FLAGS = {"epochs", "batch_size", "learning_rate", "l2", "patience", "seed", "logdir", "training_file",
              "validation_file"}  # fmt: skip
NAME_FLAGS = {  # which files, and where
    "network", "dataset", "image_size", "per_class", "validation_per_class", "split", "demo", "cache",
}  # fmt: skip


def load_images(dataset: str, by: str, seed: int, demo: bool) -> Split:
    """Labelled images; a third of the signs, or a fifth of other images, held out as in the course.

    by: "track" or "random" (as the course did with the signs, too), see `splits.split`.
    """
    source = datasets.named(dataset)
    images = source.drawn(seed=seed) if demo else source.load()
    return splits.split(images, by, seed, held_out=splits.HELD_OUT if source.split == "track" else 0.2)


def from_files(training_file: pathlib.Path, validation_file: pathlib.Path) -> tuple[np.ndarray, Split]:
    """The features of two files, float32 (N, D), whoever made them; and their split, without pixels."""
    features, labels, count = bottleneck_files.read_both(training_file, validation_file)
    images, names = np.empty((len(labels), 0, 0, 3), np.uint8), [str(label) for label in np.unique(labels)]
    dataset = Dataset(images, labels, names, None, validation_file.name)
    return features, Split(dataset, np.arange(count), np.arange(count, len(labels)))


def from_images(args: argparse.Namespace) -> tuple[np.ndarray, Split, Provenance, "Network"]:
    """The features of images, float32 (N, D), which go through the network once; and what a head has to remember."""
    from transfer import features, loading, trained

    card = cards.CARDS[args.network]
    split, framing = command_line.split_of(
        args, card, lambda: load_images(args.dataset, args.split, args.seed, args.demo)
    )
    source = command_line.source_of(args.weights, args.demo, card)
    network = loading.load_network(
        card, source, seed=args.seed, image_size=args.image_size, precision=args.precision, classifier=False
    )
    origin = trained.provenance_of(network, card.bottleneck, source, args.seed, split.dataset.name, framing)
    cache = command_line.cache_of(args.cache, args.no_cache)

    def compute(images: np.ndarray) -> np.ndarray:
        return features.frozen_features(network, images, card.bottleneck, origin, cache, FORWARD_BATCH)[:]

    if args.training_dir or cache is None:  # the feature store knows when an image has changed
        return compute(split.dataset.images), split, origin, network
    split = splits.in_order(split)  # training images first, as the two files hold them
    made_from = features.key(origin, card.bottleneck, pool=True) | {
        "trained_on": split.dataset.name, "seed": args.seed, "split": args.split,
    }  # fmt: skip
    per_class = args.per_class, args.validation_per_class
    vectors = bottlenecks.made_once(default_files(args, args.split), split, compute, made_from, per_class)
    return vectors, split, origin, network


def told_how_to_go_on(no_cache: bool) -> AbstractContextManager:
    """Ctrl-C while features are computed says that they are kept: there is no run yet to resume."""
    if no_cache:
        return nullcontext()
    return told_on_interrupt("The features so far are kept; to continue, give the same command again")


def feature_files(args: argparse.Namespace, given: set[str]) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The files to take the features from; None: they are made of images. given: names of flags.

    `BadInput` for a flag that would do nothing, since the images and the network of these features are unknown.
    """
    files, used = (args.training_file, args.validation_file), HEAD_FLAGS
    if not args.training_file:
        if args.training_dir:
            return None
        used = HEAD_FLAGS | NAME_FLAGS
        # Where nothing is said about the split, the course's files of the signs count, too; theirs is random.
        possible = [args.split] if "split" in given else ["track", "random"]
        candidates = (default_files(args, split) for split in possible)
        files = next(filter(bottlenecks.are_of_others, candidates), None)
        if files is None:
            return None
    if unused := sorted(given - used):
        raise BadInput(f"--{unused[0]}: the features in {files[0]} are taken as they are, and this would do nothing; "
                       "leave it out, or have features made of images, without these files")  # fmt: skip
    return files


def default_files(args: argparse.Namespace, split: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Where features of images are kept, under the course's names."""
    folder, card = DATA_DIR if args.cache == feature_store.FEATURES_DIR else args.cache, cards.CARDS[args.network]
    per_class = args.per_class, args.validation_per_class
    return bottlenecks.names(folder, card, args.dataset, args.image_size, per_class, split, args.demo)


def train_on_images(args: argparse.Namespace, folder: pathlib.Path | None) -> None:
    """Features of images; a head on them, which is kept; a report. folder: of the run to resume, or None."""
    here = devices.find()
    start_tensorflow()
    from transfer import cases, results

    with told_how_to_go_on(args.no_cache):
        features, split, origin, network = from_images(args)
    recipe = recipe_of(args, split)
    this_run = runs.begin_or_resume(folder, SCRIPT, resuming.as_kept(args), split, origin, here.chief)
    log = runs.log_folder(args.logdir, this_run, SCRIPT)
    with this_run.locked():
        this_run.change_flags(resuming.changeable(args))
        outcome = cases.train_head(features, split, recipe, here, this_run, report=print_epoch, logdir=log)
        print_best(outcome)
        results.conclude(this_run, outcome, split, here, args.plot, network)
    if here.chief:
        if args.test_file:
            cache = command_line.cache_of(args.cache, args.no_cache)
            results.judge_signs(this_run.folder, args.test_file, args.weights, cache, args.plot)
        print(results.next_step(this_run.folder, args.demo, split.dataset.class_names))


def train_on_files(args: argparse.Namespace, training_file: pathlib.Path, validation_file: pathlib.Path) -> None:
    """A head on the features in two files, and a report. It is not kept: which network it would need is unknown."""
    here = devices.find()
    start_tensorflow()
    from transfer import cases

    features, split = from_files(training_file, validation_file)
    recipe = recipe_of(args, split)
    log = runs.log_folder(args.logdir, None, SCRIPT)
    outcome = cases.train_head(features, split, recipe, here, report=print_epoch, logdir=log)
    print_best(outcome)
    report(outcome, split, here)


def recipe_of(args: argparse.Namespace, split: Split) -> Recipe:
    """How to train the head; what it is trained on is printed."""
    from transfer import cases

    card = cards.CARDS[args.network]
    recipe = command_line.recipe_of(args, Case(card.bottleneck), card, len(split.training))
    cases.describe(split, recipe)
    return recipe


def report(outcome: "Outcome", split: Split, here: devices.Devices) -> None:
    """Print how good a head is that is not kept."""
    from transfer import evaluation
    from transfer.classifier import predict

    probabilities = predict(outcome.classifier, outcome.inputs, split.validation, here)
    if here.chief:
        names = split.dataset.class_names
        judged = evaluation.evaluate(split.dataset.labels[split.validation], probabilities, names)
        unknown = "it is unknown whether images of training show the same objects"
        evaluation.print_report(judged, names, split.dataset.name, None, unknown)


def print_best(outcome: "Outcome") -> None:
    """The line with which the course's script ended."""
    accuracies = [epoch["validation_accuracy"] for epoch in outcome.history]
    best = int(np.argmax(accuracies))
    print(f"\nBest validation accuracy: {accuracies[best]:.4f} (epoch {best + 1}), last: {accuracies[-1]:.4f}\n")


def print_epoch(epoch: dict) -> None:
    """One line."""
    loss, accuracy = epoch["validation_loss"], epoch["validation_accuracy"]
    print(f"Epoch {epoch['epoch']:2}: validation loss {loss:.4f}, validation accuracy {accuracy:.4f}", flush=True)


def parse_arguments() -> tuple[argparse.Namespace, pathlib.Path | None, set[str]]:
    """The flags, the folder of a run to resume, and the names of the flags that were given."""
    parser = Parser(__doc__)
    flags.add_training_flags(parser, epochs=50, batch_size=256)
    add = parser.add_argument_group("features").add_argument
    add("--network", choices=cards.CARDS, default="vgg", help="the network that computes the features (default vgg)")
    add("--dataset", choices=datasets.TABLE, help="the images (default cifar10; with --demo, traffic)")
    add(
        "--per_class",
        type=at_least(0),
        default=100,
        help="training images per class; 0 takes all (default 100)",
    )
    add("--validation_per_class", type=at_least(0), default=0, help="fewer validation images per class, to save time")
    add("--image_size", type=at_least(32, most=cards.LARGEST_SIZE), help="side of the input; 64 pixels cost a "
        f"twelfth of 224 (default: the network's; with --demo {DEMO_SIZE})")  # fmt: skip
    add("--split", choices=("random", "track"), help="how to split the signs: by track (default), or at random, as the "
        "course did (flattering: images of one sign are then in both training and validation)")  # fmt: skip
    add("--training_file", type=pathlib.Path, help="bottleneck features that you have; with --validation_file")
    add("--validation_file", type=pathlib.Path, help="bottleneck features to validate on")
    args, folder = command_line.parse(parser, SCRIPT)
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
    return args, folder, resuming.given(parser)


def main() -> None:
    args, folder, given = parse_arguments()
    if folder and "training_file" in given:
        raise BadInput(f"--training_file {args.training_file}: {folder} was made of images; leave it out to continue")
    files = None if folder else feature_files(args, given)  # a run that goes on was made of images
    if files:
        train_on_files(args, *files)
    else:
        train_on_images(args, folder)


if __name__ == "__main__":
    run(main)
