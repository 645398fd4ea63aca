"""Train a classifier on the bottleneck features of VGG16, GoogLeNet, ResNet50 or AlexNet.

    python feature_extraction_vgg.py --network vgg --dataset cifar10 --image_size 64   # minutes; 224: half an hour
    python feature_extraction_vgg.py --network googlenet --dataset traffic
    python feature_extraction_vgg.py --training_file vgg_cifar10_100_bottleneck_features_train.p \\
        --validation_file vgg_cifar10_bottleneck_features_validation.p                 # the course's files
    python feature_extraction_vgg.py --demo              # drawn signs, random weights, nothing downloaded

The bottleneck is the last layer before the classifier. Its features are made once, in two files in data/ as the course
handed them out: pickles of {"features": float32 (N, D), "labels": int64 (N,)}, 100 training pictures a class in one,
the validation pictures in the other. Files that are there are used. Output: the shapes, then loss and accuracy per
epoch, at the end the best and the last accuracy.
"""

import argparse
import json
import pathlib

import numpy as np
from sklearn import model_selection

from data import bottleneck_files, cifar10, datasets, traffic_signs
from data.files import DATA_DIR, BadInput, check_writable
from data.program import run, start_tensorflow
from imagenet_inference import at_least, load_network, shown
from train_feature_extraction import add_training_flags, frozen_features, train_head
from weights import cards, heads

FORWARD_BATCH = 32  # pictures of 224 pixels at a time: VGG16's first layers alone take 800 MB of activations
DEMO_SIZE = 64  # pixels; a twelfth of the work


def load_pictures(args):
    """(dataset, rows to train on, rows to validate on), split as the course did it."""
    if args.demo:
        dataset = traffic_signs.drawn(seed=args.seed)
    elif args.dataset == "traffic":
        dataset = traffic_signs.load()
    else:
        dataset, _ = cifar10.load()  # the 50,000 training pictures; a fifth of them for validation
    if args.demo or args.dataset == "traffic":
        rows, validation_rows = datasets.split(dataset, args.split, args.seed)
    else:
        rows = np.arange(len(dataset.labels))
        rows, validation_rows = model_selection.train_test_split(rows, test_size=0.2, random_state=args.seed)
    return dataset, first_of_each_class(rows, dataset.labels, args.per_class, args.seed), validation_rows


def first_of_each_class(rows, labels, count, seed):
    """The rows of `count` pictures of each class, chosen at random; 0 means all."""
    if not count:
        return rows
    rows = np.random.default_rng(seed).permutation(rows)
    return np.concatenate([rows[labels[rows] == label][:count] for label in np.unique(labels)])


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


def make_files(args, training_file, validation_file):
    """Run the pictures through the network and write the two files, unless they hold the same features already.

    Returns (how they were made, class names), or (None, None) when both files are there and come from elsewhere.
    """
    known = {path: bottleneck_files.made_from(path) for path in (training_file, validation_file) if path.exists()}
    if list(known.values()) == [None, None]:
        return None, None
    for path, how in known.items():
        if how is None:
            raise BadInput(f"{path}: was not made here, and its partner is absent or was; give both with "
                           "--training_file and --validation_file, or move it away")  # fmt: skip
    dataset, rows, validation_rows = load_pictures(args)
    network = load_network(args, features_only=True, image_size=args.image_size)
    layer = cards.CARDS[args.network].bottleneck
    settings = heads.settings(network, args, layer) | {"trained_on": dataset.name}
    for path, chosen in ((validation_file, validation_rows), (training_file, rows)):
        made_from = json.dumps(settings | {"per_class": args.per_class * (path == training_file), "split": args.split})
        if known.get(path) != made_from:
            features = frozen_features(network, dataset.images[chosen], args, layer, FORWARD_BATCH)
            bottleneck_files.write(path, features[:], dataset.labels[chosen], made_from)
    return settings, dataset.class_names


def print_epoch_in_a_line(epoch, seconds, loss, accuracy):
    print(f"Epoch {epoch:2}: validation loss {loss:.4f}, validation accuracy {accuracy:.4f}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=cards.CARDS, help="whose features (default vgg)")
    parser.add_argument("--dataset", choices=("cifar10", "traffic"), help="which pictures (default cifar10)")
    parser.add_argument(
        "--per_class", type=at_least(0), default=100, help="training pictures a class; 0 takes all (default 100)"
    )
    parser.add_argument("--image_size", type=at_least(1), help="64 pixels cost a twelfth of 224 (default: the network's)")
    parser.add_argument(
        "--split", choices=("random", "track"), default="random",
        help="track, to keep all pictures of a sign on one side: an accuracy that does not flatter",
    )  # fmt: skip
    parser.add_argument("--training_file", type=pathlib.Path, help="features that you have already, with the next flag")
    parser.add_argument("--validation_file", type=pathlib.Path, help="the features to validate on")
    add_training_flags(parser, epochs=50, batch_size=256)
    parser.set_defaults(network="vgg")
    args = parser.parse_args()
    args.dataset = "traffic" if args.demo else args.dataset or "cifar10"
    if args.split == "track" and args.dataset == "cifar10":
        parser.error("argument --split: CIFAR-10 has no tracks, every picture shows another thing")
    if args.head and args.training_file:
        parser.error("argument --head: files alone do not tell which network a head would need; none is kept")
    input_size = cards.CARDS[args.network].input_size
    if args.network == "alexnet" and args.image_size not in (None, input_size):
        parser.error(f"argument --image_size: AlexNet's fc7 takes {input_size} pixels only")
    args.image_size = args.image_size or (DEMO_SIZE if args.demo and args.network != "alexnet" else input_size)
    return args


def main():
    args = parse_arguments()
    if bool(args.training_file) != bool(args.validation_file):
        raise BadInput("--training_file and --validation_file: one is missing; give both, or none to have them made")
    if args.training_file:
        files, settings, names = (args.training_file, args.validation_file), None, None
    else:
        files = default_files(args)
        head_file = args.head or heads.default_path(f"{args.network}-{args.dataset}", args.demo)
        check_writable(head_file)
        settings, names = make_files(args, *files)
    features, labels, count = bottleneck_files.read_both(*files)
    start_tensorflow()
    names = names or [str(label) for label in range(labels.max() + 1)]
    rows = np.arange(len(labels))
    head = heads.untrained(features.shape[1], names, args.seed, settings)
    head, accuracies = train_head(head, features, labels, rows[:count], rows[count:], args, print_epoch_in_a_line)
    best = int(np.argmax(accuracies))
    print(f"\nBest validation accuracy: {accuracies[best]:.4f} (epoch {best + 1}), last: {accuracies[-1]:.4f}")
    if settings:
        head.settings["validation_accuracy"] = accuracies[-1]
        heads.save(head, head_file)
        print(f"Kept in {shown(head_file)}\nNext: python feature_extraction.py --head {shown(head_file)} IMAGE")


if __name__ == "__main__":
    run(main)
