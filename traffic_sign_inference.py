"""What do ImageNet's 1,000 classes make of a traffic sign? None of them is one: AlexNet sees screens and clocks.

    python traffic_sign_inference.py                   # the course's construction and stop sign
    python traffic_sign_inference.py sign.jpg --top 3  # your own
    python traffic_sign_inference.py --demo            # drawn signs, random weights, nothing downloaded

The signs are 32x32 pixels, AlexNet takes 227x227: they are enlarged. The output is that of `imagenet_inference.py`.
The next step, `feature_extraction.py`, replaces the last layer by one that knows 43 traffic signs.
"""

import argparse
import time

from caffe_classes import class_names
from common.files import BadInput
from common.program import run
from data import images, traffic_signs
from imagenet_inference import add_as_published_flag, add_network_flags, at_least, load_network, print_top

SIGN_SIZE = 32  # pixels; the size of the course's signs


def read_signs(paths, size=SIGN_SIZE):
    """Image files -> uint8 (N, size, size, 3), as the course's signs were made: the whole image, resized.

    A larger image goes through 32x32 as well. A classifier that was trained on enlarged 32x32 images knows
    soft edges only.
    """
    return images.read_all(paths, size, crop=False)


def find_signs(args):
    """(names, signs uint8 (N, 32, 32, 3)): the user's, or the course's, or drawn ones without a network."""
    if args.images:
        return args.images, read_signs(args.images)
    if not args.demo:
        try:
            paths = images.course_signs()
            return paths, read_signs(paths)
        except BadInput:
            print("The course's signs cannot be fetched; drawn ones take their place.\n")
    drawn = traffic_signs.drawn(per_class=1, seed=args.seed)
    chosen = [drawn.class_names.index(name) for name in ("Road work", "Stop")]
    return [f"drawn, {drawn.class_names[index]}" for index in chosen], drawn.images[chosen]


def add_sign_flags(parser):
    """The flags of the two scripts that look at signs."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="your own images, cut out closely around the sign")
    parser.add_argument("--top", type=at_least(1), default=5, help="more, to see what else was considered (default 5)")
    add_network_flags(parser)
    add_as_published_flag(parser)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sign_flags(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    names, signs = find_signs(args)
    network = load_network(args)
    start = time.perf_counter()
    for number, row in enumerate(network.activations(signs).numpy()):
        print_top(number, names[number], row, class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


if __name__ == "__main__":
    run(main)
