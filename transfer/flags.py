"""The flags of the training scripts, and the four cases, each a preset of three of them."""

import argparse
import pathlib

from common.files import BadInput
from imagenet_inference import add_network_flags, at_least
from transfer import feature_store, runs
from weights import cards

EARLY = {"alexnet": "pool2", "googlenet": "pool3"}  # where edges and textures end and parts of things begin
HEAD_BATCH, FINE_TUNING_BATCH = 128, 32  # images a step: small ones make the most of few images
# Of --learning_rate, the share for the layers below the head: from published weights, from scratch. AlexNet's fc6 adds up
# 9,216 inputs, so that small steps make large changes.
LOWER_SHARE = {"alexnet": (0.01, 0.1), "googlenet": (0.3, 0.3)}
FINE_TUNING_PATIENCE = 3  # epochs without a lower validation loss


def cases(network):
    """{number: the flags it stands for}: new data few or many, similar to ImageNet's images or different."""
    top, early = cards.CARDS[network].bottleneck, EARLY.get(network)
    return {
        1: {"layer": top, "train": "head", "from_scratch": False},  # few, similar: a new head
        2: {"layer": early, "train": "head", "from_scratch": False},  # few, different: a head on an early layer
        3: {"layer": top, "train": "all", "from_scratch": False},  # many, similar: fine-tuning
        4: {"layer": top, "train": "all", "from_scratch": True},  # many, different: from the beginning
    }


def add_training_flags(parser, epochs, batch_size=None):
    """The flags that every training script has."""
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=at_least(1), default=epochs, help=f"more, while the loss still falls (default {epochs})")
    add("--batch_size", type=at_least(1), default=batch_size, help="images a step (default "
        f"{batch_size or f'{HEAD_BATCH} for a head, {FINE_TUNING_BATCH} for more'})")  # fmt: skip
    add("--learning_rate", type=at_least(0, float), default=0.001,
        help="of the head; a tenth, when the loss jumps or is nan (default 0.001)")  # fmt: skip
    add("--l2", type=at_least(0, float), default=0.0, help="weight of a penalty on the head's squared kernel: 0.001, "
        "when the validation loss rises again while training goes on (default 0)")  # fmt: skip
    add("--patience", type=at_least(0), help="stop after this many epochs without a lower validation loss, and keep the "
        f"best; 0: never, and keep the last (default 0 for a head, {FINE_TUNING_PATIENCE} for more)")  # fmt: skip
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="float32, when the last digits "
        "matter (default auto: bfloat16 where the hardware multiplies it)")  # fmt: skip
    add = parser.add_argument_group("files").add_argument
    add("--training_dir", type=pathlib.Path, metavar="DIR", help="your own images: a folder per class, named like it")
    add("--validation_dir", type=pathlib.Path, metavar="DIR", help="the same classes, other images; without it a third "
        "of the training images is held out")  # fmt: skip
    add("--skip_unreadable", action="store_true", help="leave out (and name) what cannot be read, instead of stopping")
    add("--out", type=pathlib.Path, metavar="DIR", help="where to keep the run (default runs/<script>-<time>)")
    add("--resume", nargs="?", const=runs.NEWEST, metavar="DIR", help="go on with a run that was stopped: this one, or "
        "the newest of this script")  # fmt: skip
    add("--cache", type=pathlib.Path, default=feature_store.FEATURES_DIR, metavar="DIR", help="folder for the computed "
        "features, when data/ has no space; it may be emptied at any time")  # fmt: skip
    add("--no_cache", action="store_true", help="keep the features in memory only")
    add("--logdir", type=pathlib.Path, metavar="DIR", help="write the epochs for TensorBoard")
    add_network_flags(parser)
    parser.set_defaults(
        layer=None, train="head", from_scratch=False, lower_learning_rate=None, weight_decay=0.0, head_epochs=0,
        no_dropout=False, augment=False, flip=False, image_size=None, per_class=0, validation_per_class=0,
        case=None, no_augment=False, precision="auto", test_file=None, plot=False,
    )  # fmt: skip


def add_case_flags(parser):
    """The flags with which the sign and the CIFAR-10 script train more than a head on the last features."""
    add = parser.add_argument_group("the four cases, and what they are made of").add_argument
    add("--case", type=int, choices=(1, 2, 3, 4), help="few similar images (1, the default), few different ones (2), "
        "many similar (3), many different (4)")  # fmt: skip
    add("--layer", help="what the head looks at: an early layer, when ImageNet's things are none of yours (default: the "
        "case's)")  # fmt: skip
    add("--train", help="head, all, or the name of a layer: train from that one up (default: the case's)")
    add("--from_scratch", action="store_true", help="begin with random weights")
    add(
        "--per_class",
        type=at_least(0),
        default=0,
        help="training images per class, to see what few can do (default all)",
    )
    add("--validation_per_class", type=at_least(0), default=0, help="fewer validation images, to save time")
    add("--network", choices=EARLY, help="another than AlexNet (default alexnet)")
    add("--image_size", type=at_least(32), help="GoogLeNet takes smaller images too: 64 pixels cost a twelfth of 224")
    add = parser.add_argument_group("fine-tuning, when more than the head is trained").add_argument
    add("--lower_learning_rate", type=at_least(0, float), help="of the layers below the head (default: 0.01 of "
        "--learning_rate for AlexNet, 0.3 for GoogLeNet, so that they keep what they know)")  # fmt: skip
    add("--head_epochs", type=at_least(0), help="epochs for the head alone before, so that its first, wild gradients do "
        "not spoil the layers below (default 2; 0 from scratch)")  # fmt: skip
    add("--weight_decay", type=at_least(0, float), help="pulls the layers' weights towards 0 (default 0; 0.05 from "
        "scratch)")  # fmt: skip
    add("--no_augment", action="store_true", help="always the same images; the frozen layers are then run only once")
    add("--no_dropout", action="store_true", help="when the training loss stays high")
    add = parser.add_argument_group("results").add_argument
    add("--test_file", type=pathlib.Path, metavar="FILE", help="test images to judge the result by, at the end: a "
        "test.p, or GTSRB's official test folder")  # fmt: skip
    add("--plot", action="store_true", help="draw loss and accuracy, the confusion matrix, the worst mistakes and the "
        "first layer's filters into the run's folder")  # fmt: skip
    parser.set_defaults(train=None, head_epochs=None, weight_decay=None)


def parse(parser, script, settle=None):
    """Parse the command line. Returns (args, the run's folder or None); with --resume, both are those of the run."""
    args, defaults = parser.parse_args(), parser.parse_args([])
    if args.resume:
        given = [name for name, value in vars(args).items() if value != getattr(defaults, name) and name != "resume"]
        folder, flags = runs.resumed(args, given, script)
        return argparse.Namespace(**vars(defaults) | flags | {"resume": args.resume}), folder
    if args.out:
        runs.check_new(args.out)
    (settle or settle_case)(args)
    return args, None


def settle_case(args):
    """Fill in what the case and the other flags leave open; `BadInput` for flags that contradict each other."""
    card = cards.CARDS[args.network]
    preset = cases(args.network)[args.case or 1]
    args.layer, args.train = args.layer or preset["layer"], args.train or preset["train"]
    args.from_scratch = args.from_scratch or preset["from_scratch"]
    fine_tuning = args.train != "head"
    if args.from_scratch and not fine_tuning:
        raise BadInput(
            "--from_scratch: with --train head nothing would ever be learned below the head; add --train all"
        )
    if args.from_scratch and args.weights:
        raise BadInput("--from_scratch: begins without weights; leave out this or --weights")
    if args.image_size not in (None, card.input_size) and args.network == "alexnet":
        raise BadInput(f"--image_size: AlexNet's fc6 takes {card.input_size} pixels only; try --network googlenet")
    if args.validation_dir and not args.training_dir:
        raise BadInput("--validation_dir: --training_dir is missing; give both")
    args.image_size = args.image_size or card.input_size
    args.augment = fine_tuning and not args.no_augment
    args.no_dropout = args.no_dropout or not fine_tuning
    if args.lower_learning_rate is None:
        args.lower_learning_rate = args.learning_rate * LOWER_SHARE.get(args.network, (0, 0))[args.from_scratch]
    if args.head_epochs is None:
        args.head_epochs = 2 if fine_tuning and not args.from_scratch else 0
    if args.weight_decay is None:
        args.weight_decay = 0.05 if args.from_scratch else 0.0
    args.batch_size = args.batch_size or (FINE_TUNING_BATCH if fine_tuning else HEAD_BATCH)
    if args.patience is None:
        args.patience = FINE_TUNING_PATIENCE if fine_tuning else 0
