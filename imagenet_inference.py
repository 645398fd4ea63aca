"""Classify photos with a network as it was trained on ImageNet: the likeliest of 1,000 classes for each photo.

    python imagenet_inference.py                           # AlexNet on the course's poodle and weasel
    python imagenet_inference.py cat.jpg dog.png --top 3   # your own photos
    python imagenet_inference.py --network googlenet       # or vgg, or resnet
    python imagenet_inference.py --demo                    # nothing is downloaded; random weights, random labels

Output: `Image 0: data/poodle.png`, then a line per class, `miniature poodle: 0.389`, an empty line; the next image;
at the end the time. Some seconds, after the first run has fetched the weights (AlexNet's: 244 MB).
"""

import argparse
import time

import numpy as np

from caffe_classes import class_names
from common.files import BadInput
from common.program import compute_dtype, run, shown, start_tensorflow
from data import images
from weights import cards, reading

BATCH_SIZE = 32  # photos at a time, about 250 MB of activations


def add_network_flags(parser):
    """The flags that all scripts share."""
    parser.add_argument(
        "--weights",
        help="file with the network's weights (.npy, .npz, .caffemodel; for vgg and resnet .h5, .npz), when yours lies "
        "elsewhere than in weights/; or 'random', to try things out without the download (the output then means "
        "nothing)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="another number, other random choices (default 0)")
    parser.add_argument(
        "--demo", action="store_true", help="use only what is in the repository: no download, random weights"
    )
    parser.set_defaults(network="alexnet", precision="float32", as_published=False, from_scratch=False, train="head")


def add_as_published_flag(parser):
    """AlexNet's scripts can compute what the course did."""
    parser.add_argument(
        "--as_published",
        action="store_true",
        help="AlexNet as in the course of 2017 (conv1 padded, red-green-blue, another mean), to compare with its "
        "numbers; leave it out for better ones",
    )


def load_network(args, features_only=False, image_size=None):
    """The network with the weights that the flags ask for; random ones are announced.

    `features_only`: VGG16 and ResNet50 without their classifier. `image_size`: another one than the card's, in pixels.
    """
    card = cards.CARDS[args.network]
    source = args.weights or ("random" if args.demo or args.from_scratch else None)
    if args.as_published and args.network != "alexnet":
        raise BadInput(f"--as_published: the course has no hand-built {card.title}; leave the flag out")
    weights = None if card.application else reading.load(card, source, args.seed)
    start_tensorflow()
    dtype = compute_dtype(args.precision, gradients=args.train != "head")
    if args.from_scratch:
        print(f"From scratch (seed {args.seed}): all layers of {card.title} begin with random weights.\n")
    elif source == "random":
        print(f"Random weights (seed {args.seed}): {card.title} has learned nothing, its answers mean nothing.\n")
    if args.network == "alexnet":
        from alexnet import AlexNet

        return AlexNet(weights, args.as_published, dtype)
    if args.network == "googlenet":
        from googlenet import GoogLeNet

        return GoogLeNet(weights, image_size, dtype)
    from networks import keras_networks

    return keras_networks.load(card, source, args.seed, not features_only, image_size, dtype)


def print_top(number, path, probabilities, names, top):
    """Print the `top` likeliest names of one image, the likeliest first."""
    print(f"Image {number}: {shown(path)}")
    for index in np.argsort(-probabilities, kind="stable")[:top]:
        print(f"{names[index]}: {probabilities[index]:.3f}")
    print()


def find_photos(demo):
    """Photos to begin with: the course's, fetched at the first run, or scikit-learn's without a network."""
    if not demo:
        try:
            return images.course_photos()
        except BadInput:
            print("The course's photos cannot be fetched; scikit-learn's take their place.\n")
    return images.sample_photos()


def at_least(least, kind=int):
    """argparse's type for numbers from `least` on."""

    def number(text):
        value = kind(text)
        if not value >= least:  # nan, too, is not
            raise argparse.ArgumentTypeError(f"{text}: {least} or more is expected")
        return value

    number.__name__ = kind.__name__  # as argparse calls it in "invalid int value"
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="your own photos, of any kind and size")
    parser.add_argument("--top", type=at_least(1), default=5, help="more, to see what else was considered (default 5)")
    parser.add_argument("--network", choices=cards.CARDS, help="another than AlexNet, to compare (default alexnet)")
    add_network_flags(parser)
    add_as_published_flag(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    paths = args.images or find_photos(args.demo)
    card = cards.CARDS[args.network]
    photos = images.read_all(paths, images.as_trained(card.framing, card.input_size, card.input_size))
    network = load_network(args)
    start = time.perf_counter()
    for first in range(0, len(photos), BATCH_SIZE):
        probabilities = network.activations(photos[first : first + BATCH_SIZE]).numpy()
        for number, row in enumerate(probabilities, first):
            print_top(number, paths[number], row, class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


if __name__ == "__main__":
    run(main)
