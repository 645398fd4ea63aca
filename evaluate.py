"""How good is a trained classifier on images that it never saw?

    python evaluate.py                            # the newest run, on the test images of GTSRB or CIFAR-10
    python evaluate.py --test_file test.p         # or GTSRB's official test folder
    python evaluate.py --test_dir my_test_images --head runs/my_run --plot     # a folder per class
    python evaluate.py --demo                     # drawn signs, random weights, nothing downloaded

Output: accuracy with its uncertainty, how often the truth is among the first five answers, the weakest classes and the
commonest confusions. The tables of all classes are written into the run's folder, with `--plot` images as well: the
confusion matrix, and the most confident mistakes, which tell more about a classifier (and about labels) than figures.
"""

import argparse
import pathlib

from scipy.special import softmax

from common.files import BadInput
from common.program import run
from data import cifar10, datasets, images, own_images, traffic_signs
from feature_extraction import find_head, load_network_of
from imagenet_inference import add_network_flags, shown
from transfer import evaluation, feature_store
from weights import heads


def judge(path, dataset, args):
    """Run the classifier of the head at `path` over a data set's images and report."""
    from transfer.features import frozen_features

    head = heads.load(path)
    if list(dataset.class_names) != head.class_names:
        raise BadInput(f"{dataset.name}: its classes are not the {len(head.class_names)} of {shown(path)}; give images "
                       "of the same classes, or another classifier with --head")  # fmt: skip
    as_kept = {"weights": args.weights if args.train == "head" else None, "from_scratch": False, "train": "head"}
    args = argparse.Namespace(**vars(args) | as_kept)
    network = load_network_of(head, path, args)
    features = frozen_features(network, dataset.images, args, head.settings["layer"])
    probabilities = softmax(head.logits(features[:]), axis=1)
    evaluation.report(datasets.for_test(dataset), probabilities, path.parent, args.plot, "test")


def find_images(head, args):
    """The test images that the flags name, or those that belong to the head's classes."""
    if args.test_dir:
        framing = images.kept_framing(head.settings)
        return own_images.load(args.test_dir, framing, head.class_names, args.skip_unreadable)
    if args.demo:
        return traffic_signs.drawn_test(seed=args.seed)
    if args.test_file or head.class_names == traffic_signs.sign_names():
        return traffic_signs.load_test(args.test_file or traffic_signs.TEST_FILE)
    if head.class_names == cifar10.NAMES:
        return cifar10.load_test()
    raise BadInput(f"{head.settings['trained_on']}: has no test images of its own; give some with --test_dir")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", help="a run's folder, or its head.npz, when you want another than the newest")
    parser.add_argument("--test_file", type=pathlib.Path, help="a test.p, or GTSRB's official test images, as a folder "
                        "or zip, when they lie elsewhere than in data/")  # fmt: skip
    parser.add_argument(
        "--test_dir", type=pathlib.Path, help="your own images: a folder per class, named as in training"
    )
    parser.add_argument("--skip_unreadable", action="store_true", help="leave out what is no image, and say so")
    parser.add_argument("--plot", action="store_true", help="draw the confusion matrix and the worst mistakes")
    add_network_flags(parser)
    parser.set_defaults(cache=feature_store.FEATURES_DIR, no_cache=False)
    return parser.parse_args()


def main():
    args = parse_arguments()
    head, path = find_head(args)
    if path is None:
        raise BadInput(
            "no run in runs/ has been trained; run a training script first, or name a classifier with --head"
        )
    judge(path, find_images(head, args), args)


if __name__ == "__main__":
    run(main)
