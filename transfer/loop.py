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

from common.errors import BadInput
from common.rows import batches
from transfer import augmentation
from transfer.classifier import Classifier
from transfer.devices import Devices
from transfer.recipe import Recipe
from transfer.steps import Batch, Training

if TYPE_CHECKING:
    from transfer.runs import Run

AHEAD = 2  # batches that are fetched while another is worked on


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
    *,
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
    if len(history) >= recipe.epochs > 0 and devices.chief:
        print("Nothing is left to train\n", flush=True)
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
