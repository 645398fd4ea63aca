"""What do ImageNet's 1,000 classes make of a traffic sign? One of them fits, *street sign*; AlexNet sees clocks.

    python traffic_sign_inference.py                   # the course's construction and stop sign
    python traffic_sign_inference.py sign.jpg --top 3  # your own
    python traffic_sign_inference.py --demo            # drawn signs, the small AlexNet, nothing downloaded

The signs are 32x32 pixels, AlexNet takes 227x227: they are enlarged. The output is that of `imagenet_inference.py`.
The next step, `feature_extraction.py`, replaces the last layer by one that knows 43 traffic signs.
"""

import argparse
import time

from common.program import run

from caffe_classes import class_names
from common.flags import Parser
from data import images, traffic_signs
from transfer import answers, command_line, flags, loading
from weights import cards


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    flags.add_image_flags(parser, "your own images, cropped tightly around the sign")
    flags.add_network_flags(parser)
    flags.add_as_published_flag(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    names, signs, problems = traffic_signs.find_signs(args.images, args.demo, args.seed)  # uint8 (N, 32, 32, 3)
    source = command_line.source_of(args.weights, args.demo, cards.ALEXNET)
    network = loading.load_network(cards.ALEXNET, source, seed=args.seed, as_published=args.as_published)
    start = time.perf_counter()
    probabilities = network.in_batches(signs)  # (n, 1000) of each batch
    answers.show(names, probabilities, class_names, args.top, start)
    images.raise_for(problems)


if __name__ == "__main__":
    run(main)
