"""Classify photos with AlexNet as it was trained on ImageNet: the likeliest of 1,000 classes for each photo.

    python imagenet_inference.py                           # the course's poodle and weasel
    python imagenet_inference.py cat.jpg dog.png --top 3   # your own
    python imagenet_inference.py --demo                    # nothing is downloaded; random weights, random labels

Output: `Image 0: data/poodle.png`, then a line a class, `miniature poodle: 0.389`, an empty line; the next picture;
at the end the time. Some seconds, after the first run has fetched the weights (244 MB).
"""

import argparse
import time

import numpy as np
from PIL import Image

from caffe_classes import class_names
from data import images
from data.files import BadInput
from data.program import run, start_tensorflow
from weights import cards, reading

INPUT_SIZE = cards.ALEXNET.input_size  # 227 pixels
SHORTER_SIDE = 256  # pixels; ImageNet's pictures were scaled to this before the centre was cut out
BATCH_SIZE = 32  # photos at a time, about 250 MB of activations


def add_network_flags(parser):
    """The flags that all scripts share."""
    parser.add_argument(
        "--weights",
        help="file with AlexNet's weights (.npy, .npz, .caffemodel), when yours lies elsewhere than in weights/; or "
        "'random', to try things out without the download (the output then means nothing)",
    )
    parser.add_argument(
        "--as_published",
        action="store_true",
        help="compute what the course of 2017 computed (conv1 padded, red-green-blue, its mean), to compare with its "
        "numbers; leave it out for better ones",
    )
    parser.add_argument("--seed", type=int, default=0, help="another number gives other random choices (default 0)")
    parser.add_argument(
        "--demo", action="store_true", help="use only what is in the repository: no download, random weights"
    )


def load_network(args):
    """AlexNet with the weights that the flags ask for; random ones are announced."""
    source = args.weights or ("random" if args.demo else None)
    weights = reading.load(cards.ALEXNET, source, args.seed)
    start_tensorflow()
    from alexnet import AlexNet

    if source == "random":
        print(f"Random weights (seed {args.seed}): AlexNet has learned nothing yet, its answers mean nothing.\n")
    return AlexNet(weights, as_published=args.as_published)


def centre_crop(photo, size=INPUT_SIZE):
    """uint8 (height, width, 3) -> (size, size, 3): the shorter side scaled to 256, the centre cut out.

    A photo that fits between `size` and 256, as the course's of 227x227 do, was cut out already: its centre, unscaled.
    """
    shorter, longer = min(photo.shape[:2]), max(photo.shape[:2])
    scale = 1 if size <= shorter and longer <= SHORTER_SIDE else SHORTER_SIDE / shorter
    side = round(size / scale)  # pixels of the photo that become `size` pixels
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR, box=box))


def print_top(number, path, probabilities, names, top):
    """Print the `top` likeliest names of one picture, the likeliest first."""
    print(f"Image {number}: {path}")
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


def positive(text):
    """argparse's type for numbers from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("1 or more is expected")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="your own photos, of any kind and size")
    parser.add_argument("--top", type=positive, default=5, help="more, to see what else was considered (default 5)")
    add_network_flags(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    paths = args.images or find_photos(args.demo)
    photos = np.stack([centre_crop(images.read(path)) for path in paths])
    network = load_network(args)
    start = time.perf_counter()
    for first in range(0, len(photos), BATCH_SIZE):
        probabilities = network.activations(photos[first : first + BATCH_SIZE]).numpy()
        for number, row in enumerate(probabilities, first):
            print_top(number, paths[number], row, class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


if __name__ == "__main__":
    run(main)
