"""Train a classifier for CIFAR-10's ten classes: the sign script, other images.

    python train_feature_extraction_cifar10.py            # case 1: 50,000 + 10,000 images, 2 epochs
    python train_feature_extraction_cifar10.py --case 3   # all layers, gently; 2 and 4 as for the signs
    python train_feature_extraction_cifar10.py --demo     # ten drawn signs, random weights, nothing downloaded

CIFAR-10's animals and vehicles are much like ImageNet's, only smaller: 32x32 pixels. Validated on its 10,000 test
images. A frog seen in a mirror is still a frog: fine-tuning flips half of the images, which it must not do with
signs. Output and kept run as in `train_feature_extraction.py`.
"""

import argparse
import pathlib

from common.program import run
from data import cifar10, datasets
from imagenet_inference import add_as_published_flag
from train_feature_extraction import train_case
from transfer import devices, flags, pictures

SCRIPT = pathlib.Path(__file__).stem


def load_pictures(args):
    """(images, rows for training, rows for validation)."""
    if args.demo:
        return datasets.joined(cifar10.drawn(seed=args.seed), cifar10.drawn_test(seed=args.seed))
    return datasets.joined(cifar10.load(), cifar10.load_test())


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_training_flags(parser, epochs=2)
    flags.add_case_flags(parser)
    add_as_published_flag(parser)
    parser.set_defaults(flip=True)
    return flags.parse(parser, SCRIPT)


def main():
    args, folder = parse_arguments()
    devices.find()
    train_case(args, folder, SCRIPT, *pictures.chosen(args, load_pictures))


if __name__ == "__main__":
    run(main)
