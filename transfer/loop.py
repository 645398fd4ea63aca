"""The training loop: plain `tf.function` steps under a `tf.distribute` strategy, an epoch at a time.

Whatever is random (order, augmentation, dropout) follows from the seed, the epoch and the image's place in its batch
alone. So a run that was stopped continues as if nothing had happened, and any number of devices or workers ends with
the weights of one.
"""

import collections
import concurrent.futures
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from common.files import BadInput
from common.rows import batches
from networks.network import Dropout
from transfer import augmentation
from transfer.averaging import Average
from transfer.classifier import Classifier
from transfer.devices import Devices
from transfer.losses import cross_entropy, training_losses
from transfer.recipe import Recipe
from transfer.schedules import image_sizes, schedule

if TYPE_CHECKING:
    from transfer.runs import Run

AHEAD = 2  # batches that are fetched while another is worked on
BATCHES_PER_CALL = 8  # of a head alone: its steps take 3 ms, and a call of its own for each would take another 2


class Examples(NamedTuple):
    """What is learned from, and which rows are for training, which for validation."""

    inputs: Any  # inputs[rows] gives a batch: features float32 (n, D), or images uint8 (n, H, W, 3)
    labels: np.ndarray  # (N,) int64
    training_rows: np.ndarray
    validation_rows: np.ndarray
    teacher: Any = None  # teacher[rows] gives a teacher's logits, float32 (n, classes)


def train(
    classifier: Classifier,
    examples: Examples,
    recipe: Recipe,
    devices: Devices,
    run: "Run | None" = None,
    report: Callable[[dict], None] | None = None,
    logdir: pathlib.Path | None = None,
    to_beat: float = np.inf,
) -> tuple[list[dict], int]:
    """Train for `recipe.epochs`, or until the validation loss has not improved for `recipe.patience` epochs.

    run keeps each epoch and may hold earlier ones. report gets each epoch's figures. logdir: for TensorBoard.
    to_beat: a validation loss, that of the head trained alone.

    Returns (history, number of the epoch whose weights are the result); without a run, the classifier then has them.
    That is the last one for a head alone without patience, or with `recipe.keep_last`; else the one with the lowest
    validation loss, 0 where none is lower than `to_beat`. With `recipe.ema`, an epoch's weights are their moving
    averages at its end: these are validated, kept, and left in the classifier. Raises BadInput for a loss that is not
    finite.
    """
    training = Training(classifier, recipe, devices, len(examples.training_rows))
    history = run.restore(training.variables, training.optimizers) if run else []
    log = summaries(logdir) if logdir and devices.chief else lambda epoch: None
    keep_best = bool(recipe.patience or classifier.lower) and not recipe.keep_last
    kept = best_epoch(history, to_beat) if keep_best else len(history)
    if history and kept == len(history):
        run.keep_result(history, training)  # a killed process may have kept its checkpoint only
    best_weights = None
    while len(history) < recipe.epochs and not out_of_patience(history, recipe.patience, to_beat):
        epoch = one_epoch(training, examples, len(history) + 1)
        if report:
            report(epoch)
        log(epoch)
        check_finite(epoch)
        history.append(epoch)
        kept = best_epoch(history, to_beat) if keep_best else len(history)
        if run:
            run.keep(history, kept, training)
        elif kept == len(history):
            with training.average.in_place():
                best_weights = [variable.numpy() for variable in classifier.variables_of_training]
    if len(history) < recipe.epochs and devices.chief:
        print(f"Stopped after epoch {len(history)} of {recipe.epochs}: no lower validation loss for {recipe.patience} "
              "epochs (--patience)\n", flush=True)  # fmt: skip
    training.average.assign()
    for variable, value in zip(classifier.variables_of_training, best_weights or []):
        variable.assign(value)
    return history, kept


def check_finite(epoch: dict) -> None:
    """`BadInput` for a loss that is not finite."""
    loss, validation_loss = epoch["loss"], epoch["validation_loss"]
    if not np.isfinite([loss, validation_loss]).all():
        raise BadInput(
            f"the loss is {loss} in training and {validation_loss} in validation after epoch {epoch['epoch']}; "
            "this epoch was not kept; try a tenth of --learning_rate"
        )


def best_epoch(history: list[dict], to_beat: float = np.inf) -> int:
    """The number of the first epoch with the lowest validation loss; 0 when `to_beat` is as low."""
    losses = [to_beat, *(epoch["validation_loss"] for epoch in history)]
    return int(np.argmin(losses))


def out_of_patience(history: list[dict], patience: int, to_beat: float = np.inf) -> bool:
    """Whether the validation loss has not improved for `patience` epochs. 0: never."""
    return bool(patience) and len(history) - best_epoch(history, to_beat) >= patience


def summaries(logdir: pathlib.Path) -> Callable[[dict], None]:
    """A function that writes an epoch's figures for TensorBoard: training and validation as two runs, in one chart."""
    writers = {name: tf.summary.create_file_writer(str(logdir / name)) for name in ("training", "validation")}

    def log(epoch: dict) -> None:
        for name, prefix in (("training", ""), ("validation", "validation_")):
            with writers[name].as_default(step=epoch["epoch"]):
                for figure in ("loss", "accuracy"):
                    tf.summary.scalar(figure, epoch[prefix + figure])
            writers[name].flush()

    return log


class Batch(NamedTuple):
    """What a training step takes, a row per image: arrays, tensors, or a replica's part of them."""

    x: Any  # (n, ...), the classifier's input
    y: Any  # (n,), labels
    chance: Any  # (n, CHANCES) for augmentation, or (n, 0)
    taught: Any  # (n, classes), a teacher's logits, or (n, 0)
    place: Any  # (n,), where in the whole batch the image stands
    weight: Any  # (n,), 1, or 0 for padding rows


class Training:
    """What one training changes, and the steps that change it: compiled once for each size of the images."""

    def __init__(self, classifier: Classifier, recipe: Recipe, devices: Devices, images: int) -> None:
        self.classifier, self.recipe, self.devices = classifier, recipe, devices
        self.optimizers = optimizers(classifier, recipe, devices, images)
        decay = recipe.ema if classifier.lower else 0.0
        self.average = Average(classifier.variables_of_training, decay, devices.strategy)
        self.variables = [*classifier.variables_of_training, *self.average.variables]  # to be kept
        self.sizes = image_sizes(classifier.network.image_size, recipe.epochs) if recipe.progressive_resizing else None
        classifiers = {size: classifier.at(size) for size in self.sizes} if self.sizes else {None: classifier}
        self._steps = {size: Steps(each, recipe, devices, self.optimizers) for size, each in classifiers.items()}

    def steps(self, epoch: int) -> "Steps":
        """Those for the size that the images have in this epoch, counted from 1."""
        return self._steps[self.sizes[epoch - 1] if self.sizes else None]


class Steps:
    """The compiled steps for images of one size: `train_step` changes the weights, `validation_step` looks at them."""

    def __init__(self, classifier: Classifier, recipe: Recipe, devices: Devices, optimizers: list) -> None:
        self.classifier, self.recipe, self.devices, self.optimizers = classifier, recipe, devices, optimizers
        # Several batches per call where they are features and one device has them all.
        self.several = classifier.network is None and devices.strategy.num_replicas_in_sync == 1
        self.rows_per_call = recipe.batch_size * (BATCHES_PER_CALL if self.several else 1)

    def train_step(self, batch: Batch, size: int, number: int) -> tf.Tensor:
        """Train on up to `rows_per_call` images: `size` of them, of which `batch` is this process's share.

        number: of the call, over all epochs. Returns the sums of losses and of right answers.
        """
        if self.several:
            return self.several_steps(batch, np.int32(number))
        return self.one_step(batch, np.float32(size), np.int32(number))

    @tf.function(reduce_retracing=True, autograph=False)
    def one_step(self, batch, size, number):  # noqa: ANN001, ANN201 - tensors
        """One batch, shared among the devices."""
        return self.added_up(self.devices.strategy.run(self.replica_step, (batch, size, number)))

    @tf.function(reduce_retracing=True)  # autograph makes the loop a part of the graph
    def several_steps(self, batches, number):  # noqa: ANN001, ANN201
        """Several batches, one after the other."""
        total = tf.zeros(2)
        for first in tf.range(0, tf.shape(batches.y)[0], self.recipe.batch_size):
            batch = Batch(*[each[first : first + self.recipe.batch_size] for each in batches])
            total += self.replica_step(batch, tf.reduce_sum(batch.weight), number)
        return total

    @tf.function(reduce_retracing=True, autograph=False)
    def validation_step(self, x, y, weight):  # noqa: ANN001, ANN201
        """The sums of losses and of right answers of a batch, shared among the devices."""
        return self.added_up(self.devices.strategy.run(self.replica_validation, (x, y, weight)))

    def replica_step(self, batch, size, number):  # noqa: ANN001, ANN201
        """A device's part of a batch of `size` images: gradients, an optimizer step, (sum of losses, right answers)."""
        classifier, recipe = self.classifier, self.recipe
        batch = self.augmented(batch) if recipe.augment else batch
        x = batch.x
        seed = np.uint32(recipe.seed).astype(np.int32)  # TensorFlow takes the same 32 bits as a signed number
        dropout = Dropout([seed, number], batch.place, recipe.batch_size) if recipe.dropout else None
        groups = [classifier.head, classifier.lower]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(groups)
            logits = classifier.logits(x, dropout)
            losses = training_losses(logits, batch.y, batch.taught, recipe)
            loss = tf.reduce_sum(losses * batch.weight) / size  # the replicas' gradients are added up
            if recipe.l2:
                replicas = self.devices.strategy.num_replicas_in_sync
                loss += recipe.l2 * tf.reduce_sum(classifier.kernel**2) / replicas
        for optimizer, gradients, variables in zip(self.optimizers, tape.gradient(loss, groups), groups):
            optimizer.apply_gradients(zip(gradients, variables))
        return sums(losses, logits, batch.y, batch.weight)

    def augmented(self, batch):  # noqa: ANN001, ANN201
        """The images as this epoch sees them, and what they then show."""
        recipe, x, chance, flipped = self.recipe, batch.x, batch.chance, None
        if recipe.mirror:
            flipped, labels = augmentation.mirrored(batch.y, chance, recipe.mirror)
            batch = batch._replace(y=labels)
            if recipe.teacher_share:
                batch = batch._replace(taught=augmentation.mirrored_logits(batch.taught, flipped, recipe.mirror))
        size = self.classifier.network.image_size
        if recipe.random_crop:
            x = augmentation.random_crops(x, chance, size, recipe.random_crop, flipped, recipe.relight)
        else:
            x = augmentation.augment(x, chance, size, flipped, recipe.relight)
        return batch._replace(x=x)

    def replica_validation(self, x, y, weight):  # noqa: ANN001, ANN201
        """A device's part of a batch."""
        logits = self.classifier.logits(x)
        return sums(cross_entropy(logits, y), logits, y, weight)

    def added_up(self, values):  # noqa: ANN001, ANN201
        """The sum over all devices."""
        return self.devices.strategy.reduce("SUM", values, axis=None)


def sums(losses: tf.Tensor, logits: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """(2,): the sum of the losses, and how many answers are right; padding rows have weight 0."""
    right = tf.cast(tf.argmax(logits, axis=1) == y, tf.float32)
    return tf.stack([tf.reduce_sum(losses * weight), tf.reduce_sum(right * weight)])


def optimizers(classifier: Classifier, recipe: Recipe, devices: Devices, images: int) -> list:
    """Adam for the head, and another, with a learning rate of its own, for the layers below it."""

    def rate(highest: float) -> Any:
        steps = -(-images // recipe.batch_size)
        return schedule(highest, steps, recipe.epochs, recipe.decay_epochs) if classifier.lower else highest

    with devices.strategy.scope():
        head = tf.keras.optimizers.Adam(rate(recipe.learning_rate))
        head.build(classifier.head)
        if not classifier.lower:
            return [head]
        lower = tf.keras.optimizers.Adam(rate(recipe.lower_learning_rate), weight_decay=recipe.weight_decay or None)
        lower.build(classifier.lower)
    return [head, lower]


def one_epoch(training: Training, examples: Examples, number: int) -> dict:
    """Train on every image once, then validate. Returns the epoch's figures, as the history keeps them."""
    start = time.perf_counter()
    loss, accuracy = train_once(training, examples, number)
    with training.average.in_place():
        validation_loss, validation_accuracy = validate(training, examples, number)
    return {
        "epoch": number, "seconds": time.perf_counter() - start, "loss": loss, "accuracy": accuracy,
        "validation_loss": validation_loss, "validation_accuracy": validation_accuracy,
    }  # fmt: skip


def train_once(training: Training, examples: Examples, epoch: int) -> list[float]:
    """Every training image once, in an order of the epoch's own. Returns the mean loss and the accuracy."""
    recipe, devices, steps = training.recipe, training.devices, training.steps(epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(examples.training_rows)
    chances = augmentation.chances(len(examples.labels), recipe.seed, epoch) if recipe.augment else None

    def fetched() -> Iterator[tuple[int, Batch]]:
        for chosen in batches(order, steps.rows_per_call):
            place = np.flatnonzero(devices.is_own(chosen)).astype(np.int32)  # in the batch
            own = chosen[place]
            nothing = np.zeros((len(own), 0), np.float32)
            batch = Batch(
                x=examples.inputs[own],
                y=examples.labels[own],
                chance=nothing if chances is None else chances[own],
                taught=examples.teacher[own] if recipe.teacher_share else nothing,
                place=place,
                weight=np.ones(len(own), np.float32),
            )
            yield len(chosen), batch

    calls, total = -(-len(order) // steps.rows_per_call), 0
    with tqdm(total=len(order), desc=f"Epoch {epoch}", unit="images", leave=False, delay=2, disable=None) as bar:
        for number, (size, batch) in enumerate(prefetched(fetched()), (epoch - 1) * calls):
            total += steps.train_step(Batch(*devices.distribute(*batch)), size, number)
            training.average.update(number, (number + 1) % calls == 0)
            bar.update(size)
    return [float(each) for each in total / len(order)]


def validate(training: Training, examples: Examples, epoch: int) -> list[float]:
    """Mean loss and accuracy on the validation images, at the epoch's size."""
    total, steps = 0, training.steps(epoch)

    def fetched() -> Iterator[tuple]:
        for own in map(training.devices.own, batches(examples.validation_rows, steps.rows_per_call)):
            yield examples.inputs[own], examples.labels[own], np.ones(len(own), np.float32)

    for x, y, weight in prefetched(fetched()):
        total += steps.validation_step(*training.devices.distribute(x, y, weight))
    return [float(each) for each in total / len(examples.validation_rows)]


def prefetched(iterator: Iterable) -> Iterator:
    """The same items; a thread fetches the next ones while the last are worked on, and ends with this generator."""
    iterator, end = iter(iterator), object()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        items = collections.deque(thread.submit(next, iterator, end) for _ in range(AHEAD))
        while (item := items.popleft().result()) is not end:
            items.append(thread.submit(next, iterator, end))
            yield item
