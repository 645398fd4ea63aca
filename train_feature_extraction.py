"""Train a 43-way traffic sign classifier on AlexNet's frozen features.

    python train_feature_extraction.py            # 39,209 signs, 10 epochs
    python train_feature_extraction.py --demo     # drawn signs, random weights, nothing downloaded: half a minute

Small new data, similar pictures: of the four cases of transfer learning this is the one where the network stays as it
is and only a new last layer, the head, is trained. The network being frozen, a picture's features never change: each
picture goes through it once, and the epochs run on the stored features, in seconds.

Output: the time for the features, then per epoch its time, validation loss and validation accuracy. The head is kept
in weights/ with its class names and settings; `feature_extraction.py` uses it.
"""

import argparse
import functools
import pathlib
import time

import numpy as np

from data import datasets, feature_store, traffic_signs
from data.files import BadInput, check_writable
from data.program import run
from feature_extraction import LAYER
from imagenet_inference import add_as_published_flag, add_network_flags, at_least, load_network, shown
from weights import heads

FORWARD_BATCH = 128  # pictures at a time through the frozen layers: a few hundred MB of activations


def frozen_features(network, images, args, layer, batch_size=FORWARD_BATCH):
    """Every picture once through the frozen layers, ever: uint8 (N, H, W, 3) -> float32 (N, features), kept on disk."""
    key = heads.settings(network, args, layer)
    del key["weights"], key["seed"]  # the fingerprint says which weights they are

    @functools.cache
    def fast():  # built when the first batch comes: features that are kept already need none of it
        import fast_alexnet

        return fast_alexnet.frozen(network, images.shape[1:], layer)

    def compute(batch):
        if args.network in ("alexnet", "googlenet"):  # the same features, faster
            return fast()(batch)
        return network.activations(batch, layer=layer, training=True).numpy()

    folder = None if args.no_cache else args.cache
    start = time.perf_counter()
    features = feature_store.stored(images, compute, key, folder, batch_size, f"{layer} features")
    pictures, width = features.shape
    print(f"Features: {pictures:,} pictures x {width:,} in {time.perf_counter() - start:.1f} seconds", flush=True)
    return features


def print_epoch(epoch, seconds, loss, accuracy):
    """As the course printed it."""
    print(f"Epoch {epoch}")
    print(f"Time: {seconds:.3f} seconds")
    print(f"Validation Loss = {loss:.3f}")
    print(f"Validation Accuracy = {accuracy:.3f}\n", flush=True)


def train_head(head, features, labels, rows, validation_rows, args, report=print_epoch):
    """Softmax regression with Adam. Returns (trained head, validation accuracy after each epoch).

    It sees the features minus their mean and divided by their spread: networks differ in the scale of their features,
    and a feature that is always about 5 would drown one that varies by 0.1. The head that is returned takes features
    as they are, mean and spread being folded into it. The course (`--as_published`) trained without this.
    """
    import tensorflow as tf

    mean, spread = np.zeros(features.shape[1], np.float32), np.float32(1)
    if not args.as_published:
        mean, spread = heads.mean_and_spread(features, rows)
    kernel, bias = tf.Variable(head.kernel), tf.Variable(head.bias)
    optimizer = tf.keras.optimizers.Adam(args.learning_rate)
    optimizer.build([kernel, bias])

    def losses_and_logits(x, y):
        logits = tf.matmul((x - mean) / spread, kernel) + bias
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), logits

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses_and_logits(x, y)[0]) + args.l2 * tf.reduce_sum(kernel**2)
        optimizer.apply_gradients(zip(tape.gradient(loss, [kernel, bias]), [kernel, bias]))

    @tf.function(reduce_retracing=True)
    def evaluate(x, y):
        losses, logits = losses_and_logits(x, y)
        return tf.reduce_sum(losses), tf.math.count_nonzero(tf.argmax(logits, axis=1) == y)

    rng = np.random.default_rng(args.seed)
    accuracies = []
    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        for chosen in heads.batches(rng.permutation(rows), args.batch_size):
            train_step(features[chosen], labels[chosen])
        pieces = heads.batches(validation_rows, args.batch_size)
        sums = [evaluate(features[chosen], labels[chosen]) for chosen in pieces]
        loss, accuracy = np.sum(sums, axis=0) / len(validation_rows)
        report(epoch, time.perf_counter() - start, loss, accuracy)
        accuracies.append(float(accuracy))
        if not np.isfinite(loss):
            raise BadInput(f"the loss is {loss} after epoch {epoch}; no head was kept; try a tenth of --learning_rate")
    folded = kernel.numpy() / spread
    return head._replace(kernel=folded, bias=bias.numpy() - mean @ folded), accuracies


def train_on_frozen_features(args, dataset, rows, validation_rows, head_file):
    """From pictures to a head, kept in `head_file`; what the sign and the CIFAR-10 script share."""
    check_writable(head_file)
    network = load_network(args)
    features = frozen_features(network, dataset.images, args, LAYER)
    print(f"Training on {len(rows):,} pictures, validating on {len(validation_rows):,}\n", flush=True)
    settings = heads.settings(network, args, LAYER) | {"trained_on": dataset.name}
    head = heads.untrained(features.shape[1], dataset.class_names, args.seed, settings)
    head, accuracies = train_head(head, features, dataset.labels, rows, validation_rows, args)
    head.settings["validation_accuracy"] = accuracies[-1]
    heads.save(head, head_file)
    print(f"Kept in {shown(head_file)}")


def add_training_flags(parser, epochs, batch_size=128):
    """The flags of the training scripts."""
    parser.add_argument(
        "--epochs", type=at_least(1), default=epochs, help=f"more, while the loss still falls (default {epochs})"
    )
    parser.add_argument(
        "--batch_size", type=at_least(1), default=batch_size, help=f"pictures a step of training (default {batch_size})"
    )
    parser.add_argument(
        "--learning_rate", type=at_least(0, float), default=0.001, help="a tenth, when the loss jumps or is nan (default 0.001)"
    )
    parser.add_argument(
        "--l2", type=at_least(0, float), default=0.0, help="weight of a penalty on the head's squared kernel: 0.001, "
        "when the validation loss rises again while training goes on (default 0)"
    )  # fmt: skip
    parser.add_argument(
        "--head", type=pathlib.Path, help="where to keep the head, when the last one in weights/ shall stay"
    )
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="float32, when the features' last digits matter (default auto: bfloat16 where the hardware multiplies it)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=pathlib.Path, default=feature_store.FEATURES_DIR, metavar="DIR",
        help="folder for the computed features, when data/ has no space; it may be emptied at any time",
    )  # fmt: skip
    parser.add_argument("--no_cache", action="store_true", help="keep the features in memory only")
    add_network_flags(parser)
    parser.set_defaults(precision="auto")


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
    add_training_flags(parser, epochs=10)
    add_as_published_flag(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    dataset = traffic_signs.drawn(seed=args.seed) if args.demo else traffic_signs.load(args.training_file)
    rows, validation_rows = datasets.split(dataset, args.split, args.seed)
    head_file = args.head or heads.default_path("traffic-signs", args.demo)
    train_on_frozen_features(args, dataset, rows, validation_rows, head_file)
    flags = " --demo" * args.demo + (f" --head {shown(head_file)}" if args.head else "")
    print(f"Next: python feature_extraction.py{flags}")


if __name__ == "__main__":
    run(main)
