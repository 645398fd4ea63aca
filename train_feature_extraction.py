"""Train a classifier of 43 traffic signs: the four cases of transfer learning.

    python train_feature_extraction.py            # case 1: a new head on frozen features; 39,209 signs, 10 epochs
    python train_feature_extraction.py --case 2   # a head on an early layer
    python train_feature_extraction.py --case 3   # all layers, gently (fine-tuning): hours on a CPU; see --per_class
    python train_feature_extraction.py --case 4   # all layers, from random weights
    python train_feature_extraction.py --resume   # go on with a run that was stopped
    python train_feature_extraction.py --training_dir my_images    # a folder per class
    python train_feature_extraction.py --demo     # drawn signs, random weights, nothing downloaded: half a minute

Which case is yours depends on how many images you have and how much they are like ImageNet's: see the README. Layers
that stay frozen give the same features in every epoch, so each image goes through them once, and the epochs run on
the stored features, in seconds.

Output: what is trained and what is frozen; per epoch its time, validation loss and validation accuracy; how good the
classifier is. It is kept in a folder in runs/, which `feature_extraction.py` and `evaluate.py` find.
"""

import argparse
import contextlib
import pathlib

from common.files import BadInput
from common.program import run
from data import datasets, traffic_signs
from imagenet_inference import add_as_published_flag, load_network, shown
from transfer import devices, flags, pictures, runs
from transfer.features import features_of, mean_and_spread
from weights import heads

SCRIPT = pathlib.Path(__file__).stem


def train_head(head, features, labels, rows, validation_rows, args, kept=None, report=None):
    """Softmax regression on features. Returns (classifier, history).

    The head sees the features minus their mean and divided by their spread: networks differ in the scale of their
    features, and one that is always about 5 would drown another that varies by 0.1. The course (`--as_published`)
    trained without this.
    """
    from transfer import classifier, loop

    here = devices.find()
    mean, spread = (0.0, 1.0) if args.as_published else mean_and_spread(features, rows, here)
    with here.strategy.scope():
        trained = classifier.Classifier(head, mean, spread)
    examples = loop.Examples(features, labels, rows, validation_rows)
    return trained, loop.train(trained, examples, args, here, kept, report or print_epoch)


def fine_tune(network, dataset, rows, validation_rows, args, kept):
    """Train the head and the network from the layer `args.train` upwards. Returns (classifier, its input, history)."""
    from transfer import classifier, fast, loop

    here = devices.find()
    first = network.names_between(None, args.layer)[0] if args.train == "all" else args.train
    below = classifier.before(network, first)
    inputs, after = dataset.images, None
    if below and not args.augment:  # the frozen layers see the same images in every epoch
        inputs, after = features_of(network, dataset, args, below, here, pool=False), below
    head = heads.untrained(classifier.feature_count(network, args.layer), dataset.class_names, args.seed)
    mean, spread = 0.0, 1.0
    if args.head_epochs:
        print(f"First the head alone, {args.head_epochs} epochs:\n")
        alone = {"epochs": args.head_epochs, "augment": False, "no_dropout": True, "patience": 0, "logdir": None}
        features = features_of(network, dataset, args, args.layer, here)
        warm, _ = train_head(
            head, features, dataset.labels, rows, validation_rows, argparse.Namespace(**vars(args) | alone)
        )
        head = head._replace(kernel=warm.kernel.numpy(), bias=warm.bias.numpy())
        mean, spread = warm.mean, warm.spread
    with here.strategy.scope():
        trained = classifier.Classifier(head, mean, spread, network, args.layer, after, first)
    network.normalize = fast.normalize  # its gradient is faster, too
    print_parameters(trained, network, args)
    examples = loop.Examples(inputs, dataset.labels, rows, validation_rows)
    return trained, inputs, loop.train(trained, examples, args, here, kept, print_epoch)


def check_layers(network, args):
    """`BadInput` for `--layer` and `--train` that the network does not have, or not in this order."""
    names = [name for name, _ in network.layers(network.weights)][:-1]  # a head on probabilities learns nothing new
    if args.layer not in names:
        raise BadInput(f"--layer {args.layer}: {network.card.title} has no such layer; there are {', '.join(names)}")
    below = names[: names.index(args.layer) + 1]
    if args.train not in ("head", "all", *below):
        raise BadInput(f"--train {args.train}: expected head, all, or a layer up to {args.layer}: {', '.join(below)}")


def print_parameters(trained, network, args):
    """How many numbers change and how many do not."""
    sizes = [sum(int(variable.shape.num_elements()) for variable in group) for group in (
        trained.head, trained.lower, network.variables_between(None, args.layer)
    )]  # fmt: skip
    print(f"Trained: {sizes[0] + sizes[1]:,} parameters ({sizes[0]:,} of them in the head). "
          f"Frozen: {sizes[2] - sizes[1]:,} in the layers below\n", flush=True)  # fmt: skip


def print_epoch(epoch):
    """As the course printed it."""
    print(f"Epoch {epoch['epoch']}")
    print(f"Time: {epoch['seconds']:.3f} seconds")
    print(f"Validation Loss = {epoch['validation_loss']:.3f}")
    print(f"Validation Accuracy = {epoch['validation_accuracy']:.3f}\n", flush=True)


def train_case(args, folder, script, dataset, rows, validation_rows):
    """From images to a classifier in a run's folder; what the sign and the CIFAR-10 script share."""
    here = devices.find()
    with contextlib.nullcontext() if args.train == "head" else here.strategy.scope():
        network = load_network(args, image_size=args.image_size)
    check_layers(network, args)
    if here.chief:
        folder = folder or runs.begin(args, script)
    print(f"Training on {len(rows):,} images, validating on {len(validation_rows):,}\n", flush=True)
    settings = heads.settings(network, args, args.layer)
    settings |= {"trained_on": dataset.name} | pictures.framing_settings(dataset, args)
    kept = runs.Run(folder, settings, dataset.class_names, here.chief)
    if args.train == "head":
        inputs = features_of(network, dataset, args, args.layer, here)
        head = heads.untrained(inputs.shape[1], dataset.class_names, args.seed)
        trained, history = train_head(head, inputs, dataset.labels, rows, validation_rows, args, kept)
    else:
        trained, inputs, history = fine_tune(network, dataset, rows, validation_rows, args, kept)
    if here.chief:
        conclude(args, kept, network, trained, inputs, history, dataset, rows, validation_rows)


def conclude(args, kept, network, trained, inputs, history, dataset, rows, validation_rows):
    """How good the classifier is, in figures and images, and what to do with it."""
    import evaluate
    from transfer import evaluation, loop

    kept.end(history)
    if devices.find().workers == 1:  # else the features of some images are elsewhere
        kept.restore_result(trained)
        probabilities = loop.predict(trained, inputs, validation_rows)
        parts = datasets.Split(dataset, rows, validation_rows)
        evaluation.report(parts, probabilities, kept.folder, args.plot, "validation")
    if args.plot:
        from transfer import plots

        plots.curves(history, kept.folder / "curves.png")
        first_kernel = next(iter(network.weights.values()))[0].numpy()
        plots.filters(first_kernel, kept.folder / "filters.png")
    if args.test_file:
        evaluate.judge(kept.folder / heads.FILE, traffic_signs.load_test(args.test_file), args)
    print(f"Kept in {shown(kept.folder)}\nNext: python feature_extraction.py{' --demo' * args.demo}")


def load_signs(args):
    """(signs, rows for training, rows for validation): drawn ones, or those of `--training_file`."""
    signs = traffic_signs.drawn(seed=args.seed) if args.demo else traffic_signs.load(args.training_file)
    return datasets.split(signs, args.split, args.seed)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--training_file",
        type=pathlib.Path,
        default=traffic_signs.TRAIN_FILE,
        help="the course's train.p, or GTSRB's training archive (.zip, or the folder it unpacks to), when it lies "
        "elsewhere than in data/",
    )
    parser.add_argument(
        "--split", choices=("track", "random"), default="track",
        help="random, to compare with the course's accuracy (it flatters: see the function)",
    )  # fmt: skip
    flags.add_training_flags(parser, epochs=10)
    flags.add_case_flags(parser)
    add_as_published_flag(parser)
    return flags.parse(parser, SCRIPT)


def main():
    args, folder = parse_arguments()
    devices.find()
    train_case(args, folder, SCRIPT, *pictures.chosen(args, load_signs))


if __name__ == "__main__":
    run(main)
