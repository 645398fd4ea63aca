"""The command line, parsed and checked, and the records that it becomes: case, recipe, images."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import BadInput
from common.files import check_utf8
from common.flags import check_together, spelled
from common.writing import check_writable
from data import datasets, own_images, picture_store, splits, traffic_signs
from data.images import Framing
from data.splits import Split
from transfer import feature_store, resuming, run_files, runs
from transfer.recipe import Case, Recipe, check_decay, preset, recipe_for
from weights import reading
from weights.cards import CARDS, Card

FINE_TUNING_ONLY = (
    "random_crop", "relight", "flip", "ema", "decay_epochs", "keep_last", "two_views", "progressive_resizing",
    "lower_learning_rate", "weight_decay", "head_epochs", "no_augment", "no_dropout",
)  # fmt: skip
NEEDS = {  # {flag: another, without which it would do nothing}
    "skip_unreadable": "training_dir", "validation_dir": "training_dir",
    "teacher_share": "teacher", "temperature": "teacher", "teacher_weights": "teacher",
}  # fmt: skip
USELESS_BESIDE = {  # {flag: others that say which images are used, or that nothing is kept}
    "training_file": ("training_dir", "demo"), "validation_file": ("training_dir", "demo"),
    "dataset": ("training_dir", "training_file"), "cache": ("no_cache",),
}  # fmt: skip


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
    if folder:  # what versions before 29 November 2026 kept is not a mistake
        checks = [{name: check[name] for name in check if name in typed} for check in checks]
    check_together(args, defaults, *checks)
    if not folder:
        check_split_flag(args, defaults)
        if args.out:
            runs.check_new(args.out)
    return args, folder


def check_paths(args: argparse.Namespace) -> None:
    """`BadInput` for what would fail only after hours of training: a file that is absent, a folder that is closed."""
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
        if value and not case.fine_tuning and not args.resume:  # until 29 November 2026, a head alone kept --flip
            raise BadInput(f"{spelled(name, value)}: only the head is trained; train more (--train all), or leave out "
                           "the flag, or the --recipe that sets it")  # fmt: skip
    for name in ("random_crop", "relight", "flip", "progressive_resizing"):
        if getattr(args, name) and args.no_augment:
            raise BadInput(f"--{name}: shows other images in each epoch; leave out this or --no_augment")
    if args.teacher and not args.teacher_share and not args.resume:
        raise BadInput("--teacher_share 0: nothing would be learned from the --teacher; give more, or leave out both")
    if args.patience and (args.keep_last or args.progressive_resizing):
        raise BadInput(f"--patience {args.patience}: the last epoch is the result (--keep_last, --progressive_resizing "
                       "or a recipe), and stopping early would keep a worse one; leave out one of them")  # fmt: skip
    if not args.resume:  # such runs were begun until 29 November 2026
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
    # Until 29 November 2026, the CIFAR-10 script mirrored its drawn signs.
    if args.flip and not mirror and not args.resume:
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
    return splits.fewer(split, args.per_class, args.validation_per_class, args.seed), framing
