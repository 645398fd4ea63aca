"""The flags that know networks and trainings, in the groups that `--help` shows."""

import argparse
import pathlib
from collections.abc import Callable

from common.flags import LARGEST_SEED, at_least
from transfer import feature_store, run_files
from transfer.recipe import (
    FINE_TUNING_BATCH,
    FINE_TUNING_PATIENCE,
    HEAD_BATCH,
)
from weights.cards import CARDS, LARGEST_SIZE


def add_network_flags(parser: argparse.ArgumentParser, seed: bool = True) -> None:
    """The flags of all scripts. seed: whether the script draws random numbers."""
    parser.add_argument(
        "--weights",
        help="file with the network's weights (.npy, .npz, .caffemodel; for vgg and resnet .h5, .keras, .npz, .npy) if "
        "it is not in weights/; 'small': the small AlexNet that comes with these scripts, pretrained on 200 of "
        "ImageNet's classes; 'random', to compare (predictions are then meaningless)",
    )
    if seed:
        parser.add_argument("--seed", type=at_least(0, most=LARGEST_SEED), default=0, help="random seed (default 0)")
    parser.add_argument(
        "--demo",
        action="store_true",
        help="download nothing: drawn images, or scikit-learn's photos where photos are needed; the small AlexNet, or "
        "random weights for networks that have no small file",
    )


def add_two_views_flag(parser: argparse._ActionsContainer) -> None:
    """For the scripts that say how good a classifier is. parser: or a group of one."""
    parser.add_argument(
        "--two_views",
        action="store_true",
        help="judge each image by the mean of two views, the second one closer, and for CIFAR-10 mirrored: takes "
        "twice as long, and is usually more accurate (default: one view)",
    )


def add_as_published_flag(parser: argparse.ArgumentParser) -> None:
    """For the scripts in which AlexNet can compute what the course did."""
    parser.add_argument(
        "--as_published",
        action="store_true",
        help="AlexNet as in the course of 2017 (conv1 padded, red-green-blue, another mean), to compare with its "
        "numbers; leave it out for better ones",
    )


def add_head_flag(parser: argparse.ArgumentParser) -> None:
    """For the scripts that use what was trained."""
    parser.add_argument("--head", help="the run's folder, or its head.npz (default: the newest run)")


def add_network_flag(add: Callable) -> None:
    """For the scripts that know all networks. add: the parser's `add_argument`, or a group's."""
    add("--network", choices=CARDS, default="alexnet", help="the network (default alexnet)")


def add_image_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Image files on the command line, and how many classes to print for each."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=what)
    parser.add_argument("--top", type=at_least(1), default=5, help="how many classes to print per image (default 5)")


def add_training_flags(parser: argparse.ArgumentParser, epochs: int, batch_size: int | None = None) -> None:
    """The flags that every training script has. batch_size: of a script that trains heads alone."""
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=at_least(1, most=100_000), default=epochs,
        help="how often each image is seen; more, if the validation loss is still falling at the end (default "
        f"{epochs})")  # fmt: skip
    add("--batch_size", type=at_least(1, most=100_000), default=batch_size, help="images per step (default "
        f"{batch_size or f'{HEAD_BATCH} for a head, {FINE_TUNING_BATCH} for fine-tuning'})")  # fmt: skip
    add("--learning_rate", type=at_least(0, float, 1e30), default=0.001,
        help="learning rate of the head; try 0.0001 if the loss diverges (default 0.001)")  # fmt: skip
    add("--l2", type=at_least(0, float, 1e30), default=0.0, help="L2 penalty on the head's kernel; try 0.001 if the "
        "validation loss rises while the training loss still falls (default 0)")  # fmt: skip
    both = f"{FINE_TUNING_PATIENCE} for fine-tuning, 0 for a head alone and where the last epoch counts"
    add("--patience", type=at_least(0), help="stop after this many epochs without a lower validation loss, and keep "
        f"the best; 0: never stop early (default {0 if batch_size else both})")  # fmt: skip
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="float32 if the last digits "
        "matter (default auto: bfloat16 where the hardware supports it)")  # fmt: skip
    add = parser.add_argument_group("files").add_argument
    add("--training_dir", type=pathlib.Path, metavar="DIR", help="your own images: one folder per class; or folders "
        "train and val (or test), each with one folder per class")  # fmt: skip
    add("--validation_dir", type=pathlib.Path, metavar="DIR", help="other images of the same classes; without it, a "
        "third of the training images is held out")  # fmt: skip
    add("--skip_unreadable", action="store_true", help="leave out unreadable files, and name them")
    add("--test_file", type=pathlib.Path, metavar="FILE", help="test images on which to evaluate the result: a "
        "test.p, or GTSRB's official test folder or zip")  # fmt: skip
    add("--plot", action="store_true", help="plot loss and accuracy, the confusion matrix, the most confident mistakes "
        "and the first layer's filters; the plots go into the run's folder")  # fmt: skip
    add("--out", type=pathlib.Path, metavar="DIR", help="folder for the run (default runs/<script>-<time>)")
    add("--resume", nargs="?", const=run_files.NEWEST, metavar="DIR", help="continue a run that was stopped: this one, "
        "or the newest of this script; with --epochs, train a finished one longer")  # fmt: skip
    add_cache_flags(add)
    add("--logdir", type=pathlib.Path, metavar="DIR", help="log each epoch to this folder, for TensorBoard")
    add_network_flags(parser)


def add_cache_flags(add: Callable) -> None:
    """Where features and decoded images are kept. add: the parser's `add_argument`, or a group's."""
    add("--cache", type=pathlib.Path, default=feature_store.FEATURES_DIR, metavar="DIR", help="folder for computed "
        "features and decoded images of your own, if data/ has too little space; it may be emptied when "
        "nothing is trained")  # fmt: skip
    add("--no_cache", action="store_true", help="keep features and decoded images in memory only")


def add_case_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the sign and the CIFAR-10 script, which train more than a head on the last features."""
    add = parser.add_argument_group("the four cases, and their parts").add_argument
    add("--case", type=int, choices=(1, 2, 3, 4), help="few similar images (1, the default), few different ones (2), "
        "many similar (3), many different (4)")  # fmt: skip
    add("--layer", help="the head's input: an early layer if your images are unlike ImageNet's (default: the case's)")
    add("--train", help="head, all, or the name of the lowest layer to train (default: the case's)")
    add("--from_scratch", action="store_true", help="begin with random weights")
    add(
        "--per_class",
        type=at_least(0),
        default=0,
        help="training images per class, to see what few can do (default: all)",
    )
    add(
        "--validation_per_class",
        type=at_least(0),
        default=0,
        help="fewer validation images per class, to save time",
    )
    add_network_flag(add)
    add("--image_size", type=at_least(32, most=LARGEST_SIZE), help="side of the network's input in pixels: 64 "
        "costs a twelfth of 224; for alexnet 67 or more, with --layer pool5 or lower (default: the "
        "network's)")  # fmt: skip
    add("--label_smoothing", type=at_least(0, float, 0.99), default=0.0, help="share of each label that is spread over "
        "all classes: 0.1 guards against overconfidence in long runs (default 0)")  # fmt: skip
    group = parser.add_argument_group("fine-tuning, when more than the head is trained")
    add = group.add_argument
    shares, scratch = [", ".join(f"{card.lower_share[begun]:g} for {card.name}" for card in CARDS.values())
                       for begun in (0, 1)]  # fmt: skip
    add("--lower_learning_rate", type=at_least(0, float, 1e30), help="learning rate of the layers below the head "
        f"(default: a share of --learning_rate, {shares}, so that they keep what they know; from scratch {scratch})",
    )  # fmt: skip
    add("--head_epochs", type=at_least(0), help="train the head alone for this many epochs first, so that its large "
        "first gradients do not spoil the layers below (default 2; 0 from scratch)")  # fmt: skip
    add("--weight_decay", type=at_least(0, float, 1e30), help="of the layers below the head (default 0, or 0.05 from "
        "scratch)")  # fmt: skip
    add("--decay_epochs", type=at_least(0), default=0, metavar="N", help="hold the learning rates, and "
        "let them fall to 0 over the last N epochs only: for long runs, which --resume can then prolong or end with "
        "another --epochs (default 0: they fall from the start, as a cosine)")  # fmt: skip
    add("--keep_last", action="store_true", help="the last epoch is the result, not the one with the lowest validation "
        "loss, which says little of labels that are smoothed")  # fmt: skip
    add("--ema", type=at_least(0, float, 1), default=0.0, metavar="DECAY", help="validate and keep moving averages of "
        "the weights, of which each step leaves this share: 0.998, if accuracy jumps from epoch to epoch (default 0: "
        "the weights of the last step)")  # fmt: skip
    add("--random_crop", type=at_least(0, float, 1), default=0.0, metavar="SHARE", help="show random crops, from "
        "this share of the side up to all of it, instead of slightly moved images: 0.5 for many photos of things of "
        "any size (default 0: none)")  # fmt: skip
    add("--progressive_resizing", action="store_true", help="begin with images half as large, which cost a quarter; "
        "they reach --image_size after 70 %% of the epochs, of which the last then counts: for long trainings of "
        "googlenet")  # fmt: skip
    add("--relight", action="store_true", help="expose a random half of the images anew in each epoch, if many "
        "were taken at dusk or against the sky")  # fmt: skip
    add("--no_augment", action="store_true", help="the same images in every epoch, so that frozen layers run only once")
    add("--flip", action="store_true", help="mirror a random half of the images in each epoch; of your own only if "
        "no class changes its meaning in a mirror (CIFAR-10 is always mirrored; of the signs those whose mirror image "
        "is a sign, and keep right becomes keep left)")  # fmt: skip
    add("--no_dropout", action="store_true", help="disable dropout (try it if the training loss stays high)")
    add_two_views_flag(group)
    add = parser.add_argument_group("distillation").add_argument
    add("--teacher", type=pathlib.Path, metavar="RUN", help="learn from the probabilities of another run's "
        "classifier, too: a better one of the same classes, such as a head on another network")  # fmt: skip
    add("--teacher_share", type=at_least(0, float, 1), default=0.7, help="of the loss; the labels have the rest: less, "
        "if the teacher is often wrong (default 0.7)")  # fmt: skip
    add("--temperature", type=at_least(0.1, float, 100), default=2.0, help="divide the logits by it: more, to learn "
        "how the teacher ranks the unlikely classes (default 2)")  # fmt: skip
    add("--teacher_weights", type=pathlib.Path, metavar="FILE", help="the weights of the teacher's network, if they "
        "lie elsewhere than its run says")  # fmt: skip


def add_recipe_flag(parser: argparse.ArgumentParser, recipes: dict[str, dict], told: str) -> None:
    """`--recipe NAME`: the flags that a named recipe stands for. told: what it is good for."""
    parser.add_argument("--recipe", choices=recipes, help=f"a set of flags that work well together: {told}; values "
        "that are given beside it take precedence")  # fmt: skip
