"""How good is a trained classifier on images that it never saw?

    python evaluate.py                            # the newest run, on the test images of GTSRB or CIFAR-10
    python evaluate.py --test_file test.p         # or GTSRB's official test folder
    python evaluate.py --test_dir my_test_images --head runs/my_run --plot     # one folder per class
    python evaluate.py --demo                     # drawn signs, nothing downloaded

Output: accuracy with its confidence interval, top-5 accuracy, the weakest classes and the most frequent confusions. The
tables of all classes are written into the run's folder; with `--plot` also the confusion matrix and the most confident
mistakes, which say more about a classifier (and about labels) than figures.
"""

import argparse
import pathlib

from common.program import run, start_tensorflow

from common.errors import BadInput
from common.flags import Parser, check_together
from data import datasets, images, own_images, picture_store, traffic_signs
from data.datasets import Dataset
from transfer import command_line, flags, trained
from weights import heads
from weights.heads import Head

USELESS_BESIDE = {"test_file": ("test_dir", "demo"), "cache": ("no_cache",)}


def find_images(
    head: Head,
    test_dir: pathlib.Path | None = None,
    test_file: pathlib.Path | None = None,
    skip_unreadable: bool = False,
    pictures: pathlib.Path | None = picture_store.PICTURES_DIR,
    demo: bool = False,
) -> Dataset:
    """The test images in a folder or a file, or without either those that belong to the head's classes.

    pictures: the folder that keeps those of `test_dir` decoded; None for memory only.
    """
    if test_dir:
        framing = images.framing_of(head.provenance)
        return own_images.load(test_dir, framing, head.class_names, skip_unreadable, pictures)
    if demo:
        source = datasets.drawn_of_classes(head.class_names) or traffic_signs.SOURCE
        return source.drawn_test(seed=head.provenance.seed)  # others than those it was trained on
    if test_file:
        return traffic_signs.load_test(test_file)
    source = datasets.of_classes(head.class_names)
    if source is None:
        found = f"was trained on {head.provenance.trained_on}"
        raise BadInput(f"the run {found}, of which no test images are known; name some with --test_dir")
    return source.load_test()


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    flags.add_head_flag(parser)
    parser.add_argument("--test_file", type=pathlib.Path, help="a test.p, or GTSRB's official test images, as a folder "
                        "or zip, if they are not in data/")  # fmt: skip
    parser.add_argument(
        "--test_dir", type=pathlib.Path, help="your own images: one folder per class, named as in training"
    )
    parser.add_argument(
        "--skip_unreadable", action="store_true", help="leave out files that are not images, and name them"
    )
    parser.add_argument("--plot", action="store_true", help="plot the confusion matrix and the most confident mistakes")
    flags.add_cache_flags(parser.add_argument)
    flags.add_two_views_flag(parser)
    flags.add_network_flags(parser, seed=False)
    args = parser.parse_args()
    check_together(args, parser.parse_args([]), {"skip_unreadable": "test_dir"}, USELESS_BESIDE)
    return args


def main() -> None:
    args = parse_arguments()
    path = trained.find(args.head, args.demo)
    if path is None:
        other = "" if args.demo or not trained.find(demo=True) else ", but a demo's: add --demo"
        advice = other or "; run a training script first, or name a run with --head"
        raise BadInput(f"no run in runs/ has been trained{advice}")
    head = heads.load(path)
    print(f"{trained.description(head, path)}\n")
    cache = command_line.cache_of(args.cache, args.no_cache)
    pictures = command_line.pictures_of(args.cache, args.no_cache)
    test = find_images(head, args.test_dir, args.test_file, args.skip_unreadable, pictures, args.demo)
    start_tensorflow()  # which would write to stderr, should `results` import it first
    from transfer import results

    results.judge(path, test, args.weights, cache, args.plot, args.two_views, args.test_dir)


if __name__ == "__main__":
    run(main)
