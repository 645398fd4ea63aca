"""The flags that know networks and trainings, and the records that they become."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from common.files import BadInput, check_utf8, check_writable
from common.flags import LARGEST_SEED, at_least, check_together
from data import datasets, own_images, picture_store, traffic_signs
from data.datasets import Split
from data.images import Framing
from transfer import feature_store, resuming, run_files, runs
from transfer.recipe import (
    FINE_TUNING_BATCH,
    FINE_TUNING_PATIENCE,
    HEAD_BATCH,
    Case,
    Recipe,
    check_decay,
    preset,
    recipe_for,
)
from weights import reading
from weights.cards import CARDS, LARGEST_SIZE, Card

FINE_TUNING_ONLY = (
    "random_crop", "relight", "flip", "ema", "decay_epochs", "keep_last", "two_views", "progressive_resizing",
    "lower_learning_rate", "weight_decay", "head_epochs", "no_augment", "no_dropout",
)  # fmt: skip
NEEDS = {  # {flag: another, without which it would do nothing}
    "skip_unreadable": "training_dir", "validation_dir": "training_dir",
    "teacher_share": "teacher", "temperature": "teacher", "teacher_weights": "teacher",
}  # fmt: skip
USELESS_BESIDE = {  # {flag: others that say which images are used}
    "training_file": ("training_dir", "demo"), "validation_file": ("training_dir", "demo"),
    "dataset": ("training_dir", "training_file"),
}  # fmt: skip


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


def add_image_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Image files on the command line, and how many classes to print for each."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=what)
    parser.add_argument("--top", type=at_least(1), default=5, help="how many classes to print per image (default 5)")


def add_training_flags(parser: argparse.ArgumentParser, epochs: int, batch_size: int | None = None) -> None:
    """The flags that every training script has."""
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=at_least(1, most=100_000), default=epochs,
        help=f"how many; more, if the validation loss is still falling at the end (default {epochs})")  # fmt: skip
    add("--batch_size", type=at_least(1, most=100_000), default=batch_size, help="images per step (default "
        f"{batch_size or f'{HEAD_BATCH} for a head, {FINE_TUNING_BATCH} for fine-tuning'})")  # fmt: skip
    add("--learning_rate", type=at_least(0, float, 1e30), default=0.001,
        help="learning rate of the head; try 0.0001 if the loss diverges (default 0.001)")  # fmt: skip
    add("--l2", type=at_least(0, float, 1e30), default=0.0, help="L2 penalty on the head's kernel; try 0.001 if the "
        "validation loss rises while the training loss still falls (default 0)")  # fmt: skip
    add("--patience", type=at_least(0), help="stop after this many epochs without a lower validation loss, and keep "
        f"the best; 0: never stop early (default {FINE_TUNING_PATIENCE} for fine-tuning, 0 for a head alone and where "
        "the last epoch counts)")  # fmt: skip
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
    add("--network", choices=CARDS, default="alexnet", help="the network (default alexnet)")
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
    add("--relight", action="store_true", help="expose every other image anew, to a random brightness, if many were "
        "taken at dusk or against the sky")  # fmt: skip
    add("--no_augment", action="store_true", help="the same images in every epoch, so that frozen layers run only once")
    add("--flip", action="store_true", help="mirror every other image; of your own only if no class changes its "
        "meaning in a mirror (CIFAR-10 is always mirrored; of the signs those whose mirror image is a sign, and "
        "keep right becomes keep left)")  # fmt: skip
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


def parse(
    parser: argparse.ArgumentParser, script: str, recipes: dict[str, dict] | None = None
) -> tuple[argparse.Namespace, pathlib.Path | None]:
    """Parse the command line. Returns (args, the run's folder or None); with --resume, both are those of the run.

    recipes: what the names that `--recipe` takes stand for, {name: {flag: value}}.
    """
    args = parser.parse_args()
    if recipes and args.recipe and not args.resume:  # a run that is resumed has kept the flags themselves
        parser.set_defaults(**recipes[args.recipe])
        args = parser.parse_args()
    defaults, folder, typed = parser.parse_args([]), None, resuming.given(parser)
    if args.resume:
        folder = run_files.find(args.resume, script, args.demo)
        kept = resuming.resumed(folder, script, args, typed, parser)
        args = argparse.Namespace(**vars(defaults) | kept | {"resume": args.resume})
    if folder and args.test_file and "test_file" not in typed and not args.test_file.exists():
        print(f"--test_file {args.test_file}: is gone, so nothing is judged by it at the end\n")
        args.test_file = None
    check_paths(args)
    checks = [NEEDS, USELESS_BESIDE]
    if folder:  # what earlier versions kept is no mistake
        checks = [{name: check[name] for name in check if name in typed} for check in checks]
    check_together(args, defaults, *checks)
    if not folder:
        if args.out:
            runs.check_new(args.out)
        check_split_flag(args, defaults)
    return args, folder


def check_paths(args: argparse.Namespace) -> None:
    """`BadInput` for what would fail after hours of training only: a file that is absent, a folder that is closed."""
    for name in ("test_file", "teacher", "teacher_weights"):
        path = getattr(args, name, None)
        if path and not path.exists():
            raise BadInput(f"--{name} {path}: no such file; give the path of one that is there")
    for name in ("out", "cache", "logdir"):
        path = None if name == "out" and args.resume else getattr(args, name)  # begun there, a run goes on there
        for images in (args.training_dir, getattr(args, "validation_dir", None)):
            if path in (None, feature_store.FEATURES_DIR) or images is None:
                continue
            if path.resolve().is_relative_to(images.resolve()):
                raise BadInput(f"--{name} {path}: lies in {images}, among the folders of classes; name one outside")
    if args.logdir:
        check_utf8(args.logdir, "name another folder with --logdir")
        check_writable(args.logdir / "events")


def check_split_flag(args: argparse.Namespace, defaults: argparse.Namespace) -> None:
    """`BadInput` for a --split of images that are split already, and for fewer images where all are trained on."""
    split = getattr(args, "split", None)
    if split == getattr(defaults, "split", None):
        return
    if split == "none" and args.per_class:  # else most of those that validate would not be trained on
        raise BadInput(f"--per_class {args.per_class}: --split none trains on all images; leave out one of them")
    if args.training_dir:
        raise BadInput(f"--split {split}: is for the signs; of your own images a third is held out, or "
                       "--validation_dir names others; leave the flag out")  # fmt: skip
    if args.validation_file:
        raise BadInput(f"--split {split}: --validation_file says what to validate on; leave out one of them")


def source_of(weights: str | None, demo: bool, card: Card) -> str | None:
    """Where the network's weights come from: a file, "small", "random", or None for the published ones."""
    return weights or (reading.without_download(card) if demo else None)


def cache_of(cache: pathlib.Path, no_cache: bool) -> pathlib.Path | None:
    """The folder that keeps features; None for memory only."""
    return None if no_cache else cache


def pictures_of(cache: pathlib.Path, no_cache: bool) -> pathlib.Path | None:
    """The folder that keeps decoded images of the user's own; None for memory only."""
    if no_cache:
        return None
    return picture_store.PICTURES_DIR if cache == feature_store.FEATURES_DIR else cache / "pictures"


def case_of(args: argparse.Namespace, card: Card) -> Case:
    """The case, changed by the flags that say otherwise."""
    case = preset(args.case or 1, card)
    changed = Case(args.layer or case.layer, args.train or case.train, args.from_scratch or case.from_scratch)
    check_case(args, changed, card)
    return changed


def check_case(args: argparse.Namespace, case: Case, card: Card) -> None:
    """`BadInput` for flags that contradict the case, or each other."""
    if case.from_scratch and not case.fine_tuning:
        raise BadInput("--from_scratch: with --train head nothing below the head is ever trained; add --train all")
    if case.from_scratch and args.weights:
        raise BadInput("--from_scratch: begins without weights; leave out this or --weights")
    for name in FINE_TUNING_ONLY:
        value = getattr(args, name)
        if value and not case.fine_tuning and not args.resume:  # earlier versions kept --flip with a head alone
            typed = f"--{name}" if value is True else f"--{name} {value}"
            raise BadInput(f"{typed}: only the head is trained; train more (--train all), or leave out the flag, or "
                           "the --recipe that sets it")  # fmt: skip
    for name in ("random_crop", "relight", "flip", "progressive_resizing"):
        if getattr(args, name) and args.no_augment:
            raise BadInput(f"--{name}: shows other images in each epoch; leave out this or --no_augment")
    if args.teacher and not args.teacher_share and not args.resume:
        raise BadInput("--teacher_share 0: nothing would be learned from the --teacher; give more, or leave out both")
    if args.patience and (args.keep_last or args.progressive_resizing):
        raise BadInput(f"--patience {args.patience}: the last epoch is the result (--keep_last, --progressive_resizing "
                       "or a recipe), and stopping early would end with a worse; leave out one of them")  # fmt: skip
    if not args.resume:  # earlier versions began such runs
        check_decay(args.decay_epochs, args.epochs)
    if args.progressive_resizing:
        check_progressive(case, card, args.image_size or card.input_size, args.decay_epochs)
    card.checked_size(args.image_size, case.layer)


def check_progressive(case: Case, card: Card, size: int, decay_epochs: int) -> None:
    """`BadInput` where --progressive_resizing makes no sense. size: of the images at the end, in pixels."""
    if case.layer not in card.any_size_layers:
        fit = [f"{each.name} with --layer {layer}" for each in CARDS.values() for layer in each.any_size_layers]
        raise BadInput(f"--progressive_resizing: {card.title}'s {case.layer} needs images of one size; "
                       f"take --network {', or '.join(fit)}, or leave the flag out")  # fmt: skip
    if decay_epochs:
        raise BadInput("--progressive_resizing: sizes follow from the number of epochs, which --decay_epochs leaves "
                       "open; leave out one of them")  # fmt: skip
    if size < 2 * card.smallest_size:
        raise BadInput(f"--image_size {size}: --progressive_resizing begins with half of it, and {card.title} takes "
                       f"{card.smallest_size} pixels or more; give {2 * card.smallest_size} or more")  # fmt: skip


def mirror_of(args: argparse.Namespace, class_names: Sequence[str]) -> tuple[int, ...]:
    """The class of each class's mirror image, see `augmentation.mirrored`; () where nothing is mirrored.

    One's own images keep their class, and are mirrored with --flip only. Others are mirrored unasked where every class
    has a mirror class, or by a recipe.
    """
    if args.training_dir:
        return tuple(range(len(class_names))) if args.flip else ()
    mirror = datasets.mirror_of(class_names)
    if args.flip and not mirror and not args.resume:  # earlier versions mirrored the CIFAR-10 script's drawn signs
        raise BadInput(
            f"--flip: what the mirror images of these {len(class_names)} classes show is not known; leave it out"
        )
    return mirror if args.flip or args.recipe or datasets.NO_MIRROR not in mirror else ()


def recipe_of(args: argparse.Namespace, case: Case, card: Card, training_images: int, mirror: tuple = ()) -> Recipe:
    """The recipe: the case's, changed by the flags that say otherwise. mirror: see `augmentation.mirrored`."""
    names = ("epochs", "batch_size", "learning_rate", "lower_learning_rate", "l2", "patience", "head_epochs",
             "weight_decay", "label_smoothing", "temperature", "decay_epochs", "ema", "random_crop", "relight",
             "keep_last", "progressive_resizing", "seed")  # fmt: skip
    chosen: dict[str, Any] = {name: getattr(args, name, None) for name in names}
    if chosen["progressive_resizing"]:
        chosen["keep_last"] = True
    if getattr(args, "teacher", None):
        chosen["teacher_share"] = args.teacher_share
    if getattr(args, "no_augment", False):
        chosen["augment"] = False
    if getattr(args, "no_dropout", False):
        chosen["dropout"] = False
    standardize = not getattr(args, "as_published", False)
    return recipe_for(case, card, training_images, **chosen, mirror=mirror, standardize=standardize)


def split_of(args: argparse.Namespace, card: Card, load: Callable[[], Split]) -> tuple[Split, Framing]:
    """Images, labels, which are for training and which for validation; and how image files are framed like them.

    Those of `--training_dir`, or what `load()` returns; of each class as many as the flags say. `BadInput` for a
    --test_file that is not of these classes.
    """
    if args.training_dir:
        size = args.image_size or card.input_size
        folders, framed = (args.training_dir, args.validation_dir), (card.framing, size, card.input_size)
        pictures = pictures_of(args.cache, args.no_cache)
        split, framing = own_images.load_split(*folders, *framed, args.skip_unreadable, args.seed, pictures)
    else:
        split = load()
        framing = Framing(split.dataset.images.shape[1])
    if args.test_file and not traffic_signs.are_signs(split.dataset.class_names):  # not after hours of training
        raise BadInput(f"--test_file {args.test_file}: holds traffic signs, which {split.dataset.name} are not; leave "
                       "it out, and judge the run with evaluate.py --test_dir")  # fmt: skip
    return datasets.fewer(split, args.per_class, getattr(args, "validation_per_class", 0), args.seed), framing
