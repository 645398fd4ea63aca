"""Train a classifier on the bottleneck features of VGG16, GoogLeNet, ResNet50 or AlexNet.

    python feature_extraction_vgg.py --network vgg --dataset cifar10 --image_size 64   # minutes; 224: half an hour
    python feature_extraction_vgg.py --network googlenet --dataset traffic
    python feature_extraction_vgg.py --training_file vgg_cifar10_100_bottleneck_features_train.p \\
        --validation_file vgg_cifar10_bottleneck_features_validation.p                 # the course's files
    python feature_extraction_vgg.py --demo              # drawn signs, random weights, nothing downloaded

The bottleneck is the last layer before the classifier. Its features are made once, in two files in data/ as the course
handed them out: pickles of {"features": float32 (N, D), "labels": int64 (N,)}, 100 training images per class in one,
the validation images in the other. Files that are there are used. Output: the shapes, then loss and accuracy per
epoch, at the end the best and the last accuracy.
"""

import argparse
import functools
import json
import pathlib

import numpy as np
from sklearn import model_selection

from common.files import BadInput
from common.program import run
from data import DATA_DIR, bottleneck_files, cifar10, datasets, traffic_signs
from imagenet_inference import at_least, load_network, shown
from train_feature_extraction import train_head
from transfer import devices, flags, pictures, runs
from transfer.features import frozen_features
from weights import cards, heads

SCRIPT = pathlib.Path(__file__).stem
FORWARD_BATCH = 32  # images of 224 pixels at a time: VGG16's first layers alone take 800 MB of activations
DEMO_SIZE = 64  # pixels; a twelfth of the work


def load_pictures(args):
    """(dataset, rows to train on, rows to validate on), split as the course did it; or one's own images."""
    if args.training_dir:
        dataset, rows, validation_rows = pictures.own(args)
    elif args.dataset == "traffic":
        dataset = traffic_signs.drawn(seed=args.seed) if args.demo else traffic_signs.load()
        dataset, rows, validation_rows = datasets.split(dataset, args.split, args.seed)
    else:
        dataset = cifar10.load()  # the 50,000 training images; a fifth of them for validation
        rows = np.arange(len(dataset.labels))
        rows, validation_rows = model_selection.train_test_split(rows, test_size=0.2, random_state=args.seed)
    return datasets.fewer(datasets.Split(dataset, rows, validation_rows), args.per_class, 0, args.seed)


def default_files(args):
    """Names as the course had them; what differs from its settings is added to the name."""
    name = f"{args.network}_{args.dataset}"
    if args.image_size != cards.CARDS[args.network].input_size:
        name += f"_{args.image_size}px"
    if args.split == "track" and args.dataset == "traffic":
        name += "_track"
    name = f"demo_{name}" if args.demo else name
    return (
        DATA_DIR / f"{name}_{args.per_class or 'all'}_bottleneck_features_train.p",
        DATA_DIR / f"{name}_bottleneck_features_validation.p",
    )


def make_files(args, begin, training_file, validation_file):
    """Run the images through the network and write the two files, unless they hold the same features already.

    Returns (how they were made, class names), or (None, None) when both files are there and come from elsewhere.
    """
    known = {path: bottleneck_files.made_from(path) for path in (training_file, validation_file) if path.exists()}
    if list(known.values()) == [None, None]:
        return None, None
    for path, how in known.items():
        if how is None:
            raise BadInput(f"{path}: was not made here, and its partner is absent or was; give both with "
                           "--training_file and --validation_file, or move it away")  # fmt: skip
    dataset, rows, validation_rows, network, settings = load_all(args, begin)
    for path, chosen in ((validation_file, validation_rows), (training_file, rows)):
        made_from = json.dumps(settings | {"per_class": args.per_class * (path == training_file), "split": args.split})
        if known.get(path) != made_from:
            features = frozen_features(network, dataset.images[chosen], args, args.layer, FORWARD_BATCH)
            bottleneck_files.write(path, features[:], dataset.labels[chosen], made_from)
    return settings, dataset.class_names


def load_all(args, begin):
    """(dataset, rows, validation rows, network, settings of a head on it); all is well, the run begins."""
    dataset, rows, validation_rows = load_pictures(args)
    network = load_network(args, features_only=True, image_size=args.image_size)
    settings = heads.settings(network, args, args.layer) | {"trained_on": dataset.name}
    settings |= pictures.framing_settings(dataset, args)
    begin()
    return dataset, rows, validation_rows, network, settings


def features_of_files(args, begin):
    """(features, labels, rows, validation rows, settings of a head or None, class names) by way of two files."""
    files = (args.training_file, args.validation_file)
    settings = names = None
    if not args.training_file:
        files = default_files(args)
        settings, names = make_files(args, begin, *files)
    features, labels, count = bottleneck_files.read_both(*files)
    rows = np.arange(len(labels))
    return features, labels, rows[:count], rows[count:], settings, names or [str(each) for each in np.unique(labels)]


def features_of_own(args, begin):
    """The same for one's own images, straight from the feature store, which knows when an image has changed."""
    dataset, rows, validation_rows, network, settings = load_all(args, begin)
    features = frozen_features(network, dataset.images, args, args.layer, FORWARD_BATCH)
    return features, dataset.labels, rows, validation_rows, settings, dataset.class_names


def print_epoch_in_a_line(epoch):
    print("Epoch {epoch:2}: validation loss {validation_loss:.4f}, validation accuracy {validation_accuracy:.4f}".format(
        **epoch), flush=True)  # fmt: skip


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_training_flags(parser, epochs=50, batch_size=256)  # first, since it sets defaults
    parser.add_argument("--network", choices=cards.CARDS, help="whose features (default vgg)")
    parser.add_argument("--dataset", choices=("cifar10", "traffic"), help="which images (default cifar10)")
    parser.add_argument(
        "--per_class", type=at_least(0), default=100, help="training images per class; 0 takes all (default 100)"
    )
    parser.add_argument(
        "--image_size", type=at_least(1), help="64 pixels cost a twelfth of 224 (default: the network's)"
    )
    parser.add_argument(
        "--split", choices=("random", "track"), default="random",
        help="track, to keep all images of a sign on one side: an accuracy that does not flatter",
    )  # fmt: skip
    parser.add_argument("--training_file", type=pathlib.Path, help="features that you have already, with the next flag")
    parser.add_argument("--validation_file", type=pathlib.Path, help="the features to validate on")
    parser.set_defaults(network="vgg")
    args, folder = flags.parse(parser, SCRIPT, settle)
    if args.split == "track" and args.dataset == "cifar10":
        parser.error("argument --split: CIFAR-10 has no tracks, every image shows another thing")
    if bool(args.training_file) != bool(args.validation_file):
        raise BadInput("--training_file and --validation_file: one is missing; give both, or none to have them made")
    return args, folder


def settle(args):
    """Fill in what the flags leave open."""
    args.dataset = "traffic" if args.demo else args.dataset or "cifar10"
    args.image_size = args.image_size or (DEMO_SIZE if args.demo and args.network != "alexnet" else None)
    flags.settle_case(args)


def main():
    args, folder = parse_arguments()
    here = devices.find()
    begin = functools.cache(lambda: folder or (runs.begin(args, SCRIPT) if here.chief else None))
    found = features_of_own(args, begin) if args.training_dir else features_of_files(args, begin)
    features, labels, rows, validation_rows, settings, names = found
    kept = None
    if settings:  # else the features come from elsewhere, and do not tell which network a head on them would need
        kept = runs.Run(begin(), settings, names, here.chief)
    head = heads.untrained(features.shape[1], names, args.seed)
    _, history = train_head(head, features, labels, rows, validation_rows, args, kept, print_epoch_in_a_line)
    accuracies = [epoch["validation_accuracy"] for epoch in history]
    best = int(np.argmax(accuracies))
    print(f"\nBest validation accuracy: {accuracies[best]:.4f} (epoch {best + 1}), last: {accuracies[-1]:.4f}")
    if kept and here.chief:
        kept.end(history)
        print(f"Kept in {shown(kept.folder)}\nNext: python feature_extraction.py{' --demo' * args.demo} IMAGE")


if __name__ == "__main__":
    run(main)
