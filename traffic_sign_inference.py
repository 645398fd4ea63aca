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
from common.program import run
from data import traffic_signs
from imagenet_inference import add_as_published_flag, add_network_flags, at_least, load_network, print_top


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
    names, signs = traffic_signs.find_signs(args.images, args.demo, args.seed)
    network = load_network(args)
    start = time.perf_counter()
    for number, row in enumerate(network.activations(signs).numpy()):
        print_top(number, names[number], row, class_names, args.top)
    print(f"Time: {time.perf_counter() - start:.3f} seconds")


if __name__ == "__main__":
    run(main)
