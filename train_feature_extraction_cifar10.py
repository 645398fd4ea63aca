"""Train a classifier for CIFAR-10's ten classes: the sign script, other images.

    python train_feature_extraction_cifar10.py            # case 1: 50,000 + 10,000 images, 2 epochs
    python train_feature_extraction_cifar10.py --case 3   # fine-tuning; 2 and 4 as for the signs
    python train_feature_extraction_cifar10.py --recipe thorough   # as well as it gets, in two to three hours
    python train_feature_extraction_cifar10.py --recipe few --per_class 100   # the same for 10 to 100 images per class
    python train_feature_extraction_cifar10.py --demo     # ten drawn signs, the small AlexNet, nothing downloaded

CIFAR-10's animals and vehicles are much like ImageNet's, only smaller: 32x32 pixels. Validated on its 10,000 test
images. A frog in a mirror is still a frog: fine-tuning flips half of the images, as it must not do with most signs.
Output and kept run as in `train_feature_extraction.py`.
"""

import argparse
import pathlib

from common.program import run

from common.flags import Parser
from data import cifar10, splits
from data.splits import Split
from train_feature_extraction import FEW, THOROUGH, train
from transfer import command_line, flags

SCRIPT = pathlib.Path(__file__).stem
UPPER = {"train": "inception_3a"}  # edges and colours are ImageNet's: the layers below stay, and need no gradients
RECIPES = {
    "thorough": THOROUGH
    | UPPER
    | {
        "epochs": 8,
        "image_size": 128,  # four times that of the images: things nearly as large as the network knows them
        "progressive_resizing": True,  # a third less work
    },
    "few": FEW | UPPER | {"image_size": 96},  # three times that of the images
}


def load_images(seed: int, demo: bool) -> Split:
    """50,000 images to train on, 10,000 to validate."""
    if demo:
        return splits.joined(cifar10.drawn(seed=seed), cifar10.drawn_test(seed=seed))
    return splits.joined(cifar10.load(), cifar10.load_test())


def parse_arguments() -> tuple[argparse.Namespace, pathlib.Path | None]:
    parser = Parser(__doc__)
    flags.add_training_flags(parser, epochs=2)
    flags.add_case_flags(parser)
    told = "thorough, GoogLeNet with its upper layers trained, 2.5 hours on two cores; few, for 10 to 100 per class"
    flags.add_recipe_flag(parser, RECIPES, told)
    flags.add_as_published_flag(parser)
    return command_line.parse(parser, SCRIPT, RECIPES)


def main() -> None:
    args, folder = parse_arguments()
    train(args, folder, SCRIPT, lambda: load_images(args.seed, args.demo))


if __name__ == "__main__":
    run(main)
