"""Train a classifier for CIFAR-10's ten classes on AlexNet's frozen features: the sign script, other pictures.

    python train_feature_extraction_cifar10.py            # 50,000 + 10,000 pictures, 2 epochs
    python train_feature_extraction_cifar10.py --demo     # ten drawn signs, random weights, nothing downloaded

CIFAR-10's animals and vehicles are much like ImageNet's, only smaller: 32x32 pixels. Validated on its 10,000 test
pictures. Output and kept head as in `train_feature_extraction.py`.
"""

import argparse

import numpy as np

from data import cifar10
from data.program import run
from imagenet_inference import add_as_published_flag, shown
from train_feature_extraction import add_training_flags, train_on_frozen_features
from weights import heads


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_flags(parser, epochs=2)
    add_as_published_flag(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    training, test = cifar10.drawn(seed=args.seed) if args.demo else cifar10.load()
    both = training._replace(
        images=np.concatenate([training.images, test.images]), labels=np.concatenate([training.labels, test.labels])
    )
    rows = np.arange(len(both.labels))
    head_file = args.head or heads.default_path("cifar10", args.demo)
    train_on_frozen_features(args, both, rows[: len(training.labels)], rows[len(training.labels) :], head_file)
    demo = " --demo" if args.demo else ""
    print(f"Next: python feature_extraction.py{demo} --head {shown(head_file)} IMAGE")


if __name__ == "__main__":
    run(main)
