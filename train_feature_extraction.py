"""Train a classifier of 43 traffic signs: the four cases of transfer learning.

    python train_feature_extraction.py            # case 1: a new head on frozen features; 39,209 signs, 10 epochs
    python train_feature_extraction.py --case 2   # a head on an early layer
    python train_feature_extraction.py --case 3   # fine-tuning: all layers, gently; hours on a CPU; see --per_class
    python train_feature_extraction.py --recipe thorough   # as well as it gets, in an hour
    python train_feature_extraction.py --recipe few --per_class 100   # the same for 10 to 100 images per class
    python train_feature_extraction.py --case 4   # all layers, from random weights
    python train_feature_extraction.py --resume   # continue a run that was stopped
    python train_feature_extraction.py --training_dir my_images      # one folder per class
    python train_feature_extraction.py --demo     # drawn signs, the small AlexNet, nothing downloaded: a minute

Which case is yours depends on how many images you have and how similar they are to ImageNet's: see the README. The
features of frozen layers never change, so each image goes through them once, and the epochs run on the stored features,
in seconds.

Output: how many images there are; when more than the head is trained, how many parameters are trained and frozen; for
each epoch its time, validation loss and validation accuracy; how good the classifier is. It is kept in a folder in
runs/, where `feature_extraction.py` and `evaluate.py` find it.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from common.program import run

from common.errors import BadInput
from common.flags import Parser
from data import splits, traffic_signs
from data.splits import Split
from transfer import command_line, devices, flags, resuming, runs
from transfer.recipe import Case, check_layers
from weights import cards
from weights.cards import Card

if TYPE_CHECKING:  # TensorFlow takes seconds to import; `--help` is answered without
    from networks.network import Network

SCRIPT = pathlib.Path(__file__).stem
THOROUGH = {  # for tens of thousands of images; the CIFAR-10 script shares it
    "network": "googlenet",
    "case": 3,
    "head_epochs": 0,  # the first steps, which are small, do what these would
    "epochs": 10,
    "batch_size": 64,
    "label_smoothing": 0.1,
    "ema": 0.998,
    "keep_last": True,  # the rates fall to 0 at its end
    "two_views": True,  # fewer mistakes, see the README
}
FEW = THOROUGH | {"epochs": 20, "batch_size": 32, "ema": 0.98}  # for 10 to 100 per class, which make few steps
SIGNS = {"image_size": 64, "relight": True}  # twice the size of the signs
RECIPES = {"thorough": THOROUGH | SIGNS, "few": FEW | SIGNS}


def load_signs(
    training_file: pathlib.Path, validation_file: pathlib.Path | None, by: str, seed: int, demo: bool
) -> Split:
    """39,209 photos of signs, or drawn ones; a third of them for validation, or those of `validation_file`.

    by: "track", "random" or "none", see `splits.split`.
    """
    signs = traffic_signs.drawn(seed=seed) if demo else traffic_signs.load(training_file)
    if validation_file:
        return splits.with_copies_shared(splits.joined(signs, traffic_signs.load_validation(validation_file)))
    return splits.split(signs, by, seed)


def train(args: argparse.Namespace, folder: pathlib.Path | None, script: str, load: Callable[[], Split]) -> None:
    """The lesson: from labelled images to a classifier that is kept. The CIFAR-10 script shares it.

    folder: of the run to resume, or None. load: gives the data set's images, where they are not the user's own.
    """
    card, cache = cards.CARDS[args.network], command_line.cache_of(args.cache, args.no_cache)
    case = command_line.case_of(args, card)
    source = "random" if case.from_scratch else command_line.source_of(args.weights, args.demo, card)
    split, framing = command_line.split_of(args, card, load)  # images uint8 (N, H, W, 3), labels (N,)
    recipe = command_line.recipe_of(
        args, case, card, len(split.training), command_line.mirror_of(args, split.dataset.class_names)
    )
    here = devices.find(case.fine_tuning)  # TensorFlow starts, once nothing is wrong with flags and images
    from transfer import cases, features, results, teacher, trained

    # 1. A network that knows ImageNet. What follows the layer `case.layer` is cut off.
    network = load_backbone(args, card, source, case, here)
    cases.describe(split, recipe)

    # 2. A folder that keeps the run: the flags, an entry per epoch, checkpoints, and the result.
    origin = trained.provenance_of(network, case.layer, source, args.seed, split.dataset.name, framing)
    taught_by = None  # another classifier to learn from
    if args.teacher:
        taught_by = teacher.load(args.teacher, split, here, cache, args.teacher_weights)
    this_run = runs.begin_or_resume(folder, script, resuming.as_kept(args), split, origin, here.chief)
    log = runs.log_folder(args.logdir, this_run, script)
    with this_run.locked():
        if taught_by:
            this_run.check_teacher(taught_by.fingerprint)
        this_run.change_flags(resuming.changeable(args))
        if not case.fine_tuning:
            # 3. Frozen layers always give the same features: compute them once, then train the head on them.
            images = split.dataset.images
            vectors = features.shared_features(network, images, case.layer, origin, here, cache=cache)  # fc7: (N, 4096)

            # 4. A new head, softmax regression: (4096, 43) weights and 43 biases.
            outcome = cases.train_head(
                vectors, split, recipe, here, this_run, report=print_epoch, logdir=log, teacher=taught_by
            )
        else:
            # 3 and 4. The new head first, then with it the layers from `case.train` up.
            outcome = cases.fine_tune(
                network, split, case, recipe, here, this_run,
                report=print_epoch, cache=cache, logdir=log, teacher=taught_by,
            )  # fmt: skip

        # 5. How good is it? Judged on images that it has not seen.
        results.conclude(this_run, outcome, split, here, args.plot, network, args.two_views)
        if here.chief and args.test_file:
            results.judge_signs(this_run.folder, args.test_file, args.weights, cache, args.plot, args.two_views)
        if here.chief:
            print(results.next_step(this_run.folder, args.demo, split.dataset.class_names))


def load_backbone(
    args: argparse.Namespace, card: Card, source: str | None, case: Case, here: devices.Devices
) -> "Network":
    """The network without its classifier, on the devices that will train it."""
    from transfer import loading

    with here.strategy.scope():
        network = loading.load_network(
            card, source, seed=args.seed, image_size=args.image_size, precision=args.precision, classifier=False,
            as_published=args.as_published, trains=case.fine_tuning, from_scratch=case.from_scratch,
        )  # fmt: skip
    check_layers(case, network.layer_names, card.title)
    if case.fine_tuning and case.train != "all":
        if not network.variables_between(network.before(case.train), case.layer):
            raise BadInput(f"--train {case.train}: has no weights, nor has any layer from there to {case.layer}; name "
                           "a lower one, or leave it at --train head")  # fmt: skip
    return network


def print_epoch(epoch: dict) -> None:
    """As the course printed it."""
    print(f"Epoch {epoch['epoch']}")
    print(f"Time: {epoch['seconds']:.3f} seconds")
    print(f"Validation Loss = {epoch['validation_loss']:.3f}")
    print(f"Validation Accuracy = {epoch['validation_accuracy']:.3f}\n", flush=True)


def parse_arguments() -> tuple[argparse.Namespace, pathlib.Path | None]:
    parser = Parser(__doc__)
    parser.add_argument(
        "--training_file",
        type=pathlib.Path,
        default=traffic_signs.TRAIN_FILE,
        help="the course's train.p, or GTSRB's training archive (.zip, or the folder it unpacks to), if it is not in "
        "data/",
    )
    parser.add_argument(
        "--validation_file", type=pathlib.Path, metavar="FILE",
        help="signs to validate on, such as the valid.p that comes with later editions of train.p",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("track", "random", "none"), default="track",
        help="how to hold out a third: whole tracks, or images at random, as the course did (flattering: see "
        "data/splits.py), or not at all, to train on all signs once the settings are chosen; default track",
    )  # fmt: skip
    flags.add_training_flags(parser, epochs=10)
    flags.add_case_flags(parser)
    told = "thorough, GoogLeNet with all layers trained for an hour on two cores; few, for 10 to 100 images per class"
    flags.add_recipe_flag(parser, RECIPES, told)
    flags.add_as_published_flag(parser)
    return command_line.parse(parser, SCRIPT, RECIPES)


def main() -> None:
    args, folder = parse_arguments()
    files = args.training_file, args.validation_file
    train(args, folder, SCRIPT, lambda: load_signs(*files, args.split, args.seed, args.demo))


if __name__ == "__main__":
    run(main)
