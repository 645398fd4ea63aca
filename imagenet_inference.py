"""Classify photos with a network trained on ImageNet: the most probable of 1,000 classes for each photo.

    python imagenet_inference.py                           # AlexNet on the course's poodle and weasel
    python imagenet_inference.py cat.jpg dog.png --top 3   # your own photos
    python imagenet_inference.py --network googlenet       # or vgg, or resnet
    python imagenet_inference.py --demo                    # nothing is downloaded; the small AlexNet names 200 classes

Output: `Image 0: data/poodle.png`, then one line per class, `miniature poodle: 0.498`, and an empty line; the next
image; the time at the end. It takes some seconds, once the first run has downloaded the weights (AlexNet's: 244 MB).
"""

import argparse
import pathlib
import time

from common.program import run

from caffe_classes import class_names
from common.errors import BadInput
from common.flags import Parser
from data import images
from transfer import answers, command_line, flags, loading
from weights import cards


def find_photos(demo: bool) -> list[pathlib.Path]:
    """Photos to begin with: the course's, downloaded by the first run, or scikit-learn's, which need no download."""
    if not demo:
        try:
            return images.course_photos()
        except BadInput:
            print("The course's photos could not be downloaded; using scikit-learn's instead.\n")
    return images.sample_photos()


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    flags.add_image_flags(parser, "your own photos, in any common format and of any size")
    flags.add_network_flag(parser.add_argument)
    flags.add_network_flags(parser)
    flags.add_as_published_flag(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    card = cards.CARDS[args.network]
    framing = images.as_trained(card.framing, card.input_size, card.input_size)
    paths = images.expand(args.images) or find_photos(args.demo)
    paths, photos, problems = images.read_readable(paths, framing)  # uint8 (N, size, size, 3)

    source = command_line.source_of(args.weights, args.demo, card)
    network = loading.load_network(card, source, seed=args.seed, as_published=args.as_published)
    start = time.perf_counter()
    probabilities = network.in_batches(photos)  # (n, 1000) of each batch
    answers.show(paths, probabilities, class_names, args.top, start)
    images.raise_for(problems)


if __name__ == "__main__":
    run(main)
