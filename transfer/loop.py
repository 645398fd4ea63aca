"""The training loop: plain `tf.function` steps under a `tf.distribute` strategy, an epoch at a time.

Whatever is random (order, augmentation, dropout) follows from the seed and the number of the epoch or step alone. So a
run that was stopped goes on as if nothing had happened, and several workers agree without talking about it.
"""

import collections
import concurrent.futures
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from common.files import BadInput
from transfer import augmentation
from weights.heads import batches

BATCHES_A_CALL = 8  # of a head alone: its steps take 3 ms, and a call of its own for each would take another 2
WARM_UP = 0.1  # of all steps; Adam's first steps go by few gradients, and would shake layers that know something


class Examples(NamedTuple):
    """What is learned from, and which rows are for training, which for validation."""

    inputs: object  # inputs[rows] gives a batch: features, or images
    labels: np.ndarray  # (N,)
    rows: np.ndarray
    validation_rows: np.ndarray


def train(classifier, examples, args, devices, run=None, report=None):
    """Train until `args.epochs`, or until `args.patience` epochs brought nothing better. Returns the history.

    args: epochs, batch_size, learning_rate, lower_learning_rate, l2, weight_decay, augment, flip, no_dropout, patience,
    seed. run: a `transfer.runs.Run` that keeps each epoch and may hold earlier ones. Raises BadInput for a loss that is
    no number.
    """
    step, evaluate, optimizers = compiled(classifier, args, devices, len(examples.rows))
    batch_size = args.batch_size * batches_a_call(classifier, devices)  # rows that are fetched together
    history = []
    if run:
        history = run.restore([*classifier.head, *classifier.lower], optimizers)
    writer = tf.summary.create_file_writer(str(args.logdir)) if args.logdir and devices.chief else None
    best = min((each["validation_loss"] for each in history), default=np.inf)
    while len(history) < args.epochs and not out_of_patience(history, args.patience):
        epoch, start = len(history) + 1, time.perf_counter()
        loss, accuracy = one_epoch(step, examples, args, devices, epoch, batch_size)
        validation_loss, validation_accuracy = validate(evaluate, examples, batch_size, devices)
        seconds = time.perf_counter() - start
        history.append(
            {"epoch": epoch, "seconds": seconds, "loss": loss, "accuracy": accuracy,
             "validation_loss": validation_loss, "validation_accuracy": validation_accuracy}
        )  # fmt: skip
        if report:
            report(history[-1])
        if writer:
            write_scalars(writer, history[-1])
        if not np.isfinite([loss, validation_loss]).all():
            raise BadInput(
                f"the loss is {loss} in training and {validation_loss} in validation after epoch {epoch}; "
                "this epoch was not kept; try a tenth of --learning_rate"
            )
        if run:
            better = not args.patience or validation_loss < best
            run.keep(classifier, history, better)
        best = min(best, validation_loss)
    return history


def write_scalars(writer, epoch):
    """An epoch's figures, for TensorBoard."""
    with writer.as_default(step=epoch["epoch"]):
        for name, value in epoch.items():
            if name != "epoch":
                tf.summary.scalar(name, value)
    writer.flush()


def compiled(classifier, args, devices, count):
    """The two functions that do the work, step(...) and evaluate(...), and the optimizers, one for each speed."""
    count_of_steps = args.epochs * -(-count // args.batch_size)
    with devices.strategy.scope():
        optimizers = [tf.keras.optimizers.Adam(schedule(args.learning_rate, count_of_steps, bool(classifier.lower)))]
        optimizers[0].build(classifier.head)
        if classifier.lower:
            rate = schedule(args.lower_learning_rate, count_of_steps, True)
            optimizers.append(tf.keras.optimizers.Adam(rate, weight_decay=args.weight_decay or None))
            optimizers[1].build(classifier.lower)

    def losses_and_logits(x, y, dropout_seed=None):
        logits = classifier.logits(x, dropout_seed)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), logits

    def sums(losses, logits, y, weight):
        right = tf.cast(tf.argmax(logits, axis=1) == y, tf.float32)
        return tf.stack([tf.reduce_sum(losses * weight), tf.reduce_sum(right * weight)])

    def replica_step(x, y, chance, weight, size, number):
        if args.augment:
            x = augmentation.augment(x, chance, flip=args.flip)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = None if args.no_dropout else [number, args.seed * devices.strategy.num_replicas_in_sync + replica]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*classifier.head, *classifier.lower])
            losses, logits = losses_and_logits(x, y, seed)
            loss = tf.reduce_sum(losses * weight) / size  # the replicas' gradients are added up
            if args.l2:
                loss += args.l2 * tf.reduce_sum(classifier.kernel**2) / devices.strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, [classifier.head, classifier.lower])
        for optimizer, gradient, variables in zip(optimizers, gradients, [classifier.head, classifier.lower]):
            optimizer.apply_gradients(zip(gradient, variables))
        return sums(losses, logits, y, weight)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(x, y, chance, weight, size, number):
        return added_up(devices.strategy.run(replica_step, (x, y, chance, weight, size, number)))

    @tf.function(reduce_retracing=True)  # autograph makes the loop a part of the graph
    def steps(x, y, chance, weight, _, number):
        total = tf.zeros(2)
        for first in tf.range(0, tf.shape(y)[0], args.batch_size):
            batch = [each[first : first + args.batch_size] for each in (x, y, chance, weight)]
            total += replica_step(*batch, tf.reduce_sum(batch[-1]), number)
        return total

    @tf.function(reduce_retracing=True, autograph=False)
    def evaluate(x, y, weight):
        return added_up(
            devices.strategy.run(lambda x, y, weight: sums(*losses_and_logits(x, y), y, weight), (x, y, weight))
        )

    def added_up(values):
        return devices.strategy.reduce("SUM", values, axis=None)

    return steps if batches_a_call(classifier, devices) > 1 else step, evaluate, optimizers


def batches_a_call(classifier, devices):
    """How many batches one call works on: several where they are features, not images, and one device has them."""
    return BATCHES_A_CALL if classifier.network is None and devices.strategy.num_replicas_in_sync == 1 else 1


def one_epoch(step, examples, args, devices, epoch, batch_size):
    """Every training image once, in an order of the epoch's own. Returns the mean loss and the accuracy."""
    order = np.random.default_rng([args.seed, epoch]).permutation(examples.rows)
    chances = None
    if args.augment:
        chances = augmentation.chances(len(examples.labels), args.seed, epoch)

    def fetched():
        for chosen in batches(order, batch_size):
            own = devices.own(chosen)
            chance = chances[own] if args.augment else np.zeros((len(own), 0), np.float32)
            yield len(chosen), examples.inputs[own], examples.labels[own], chance

    steps = -(-len(order) // batch_size)
    bar = tqdm(prefetched(fetched()), f"Epoch {epoch}", steps, unit="step", leave=False, delay=2, disable=None)
    sums = 0
    for number, (size, *arrays) in enumerate(bar, (epoch - 1) * steps):
        sums += step(*devices.spread(*arrays), np.float32(size), np.int32(number))
    return [float(each) for each in sums / len(order)]


def prefetched(iterator, depth=2):
    """The same items; a thread fetches the next ones while the last are worked on, and ends with this generator."""
    iterator, end = iter(iterator), object()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        items = collections.deque(thread.submit(next, iterator, end) for _ in range(depth))
        while (item := items.popleft().result()) is not end:
            items.append(thread.submit(next, iterator, end))
            yield item


def validate(evaluate, examples, batch_size, devices):
    """Mean loss and accuracy on the validation images."""
    sums = 0
    pieces = map(devices.own, batches(examples.validation_rows, batch_size))
    for inputs, labels in prefetched((examples.inputs[own], examples.labels[own]) for own in pieces):
        sums += evaluate(*devices.spread(inputs, labels))
    return [float(each) for each in sums / len(examples.validation_rows)]


def schedule(rate, steps, falls):
    """The learning rate of each step: constant for a head alone, else warmed up and then falling as a cosine to 0."""
    if not falls:
        return rate
    warm_up = int(WARM_UP * steps)
    cosine = tf.keras.optimizers.schedules.CosineDecay
    return cosine(0.0, steps - warm_up, warmup_target=rate, warmup_steps=warm_up) if warm_up else cosine(rate, steps)


def out_of_patience(history, patience):
    """Tell whether the last `patience` epochs brought no lower validation loss. 0: never."""
    losses = [each["validation_loss"] for each in history]
    return bool(patience) and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def predict(classifier, inputs, rows, batch_size=128):
    """Probabilities (len(rows), classes) of the images, or features, `inputs[rows]`."""

    @tf.function(reduce_retracing=True, autograph=False)
    def probabilities(x):
        return tf.nn.softmax(classifier.logits(x))

    return np.concatenate([probabilities(inputs[chosen]).numpy() for chosen in batches(rows, batch_size)])
