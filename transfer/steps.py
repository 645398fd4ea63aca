"""The steps of a training, compiled: what a batch of images changes, and what it is judged by.

Whatever is random (augmentation, dropout) follows from the seed, the epoch and the image's place in its batch alone.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from networks.network import Dropout
from transfer import augmentation
from transfer.averaging import Average
from transfer.classifier import Classifier
from transfer.devices import Devices
from transfer.losses import cross_entropy, training_losses
from transfer.recipe import Recipe
from transfer.schedules import image_sizes, schedule

BATCHES_PER_CALL = 8  # of a head alone: its steps take 3 ms, and a call of its own for each would take another 2


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
            return self.several_steps(batch)
        return self.one_step(batch, np.float32(size), np.int32(number))

    @tf.function(reduce_retracing=True, autograph=False)
    def one_step(self, batch, size, number):  # noqa: ANN001, ANN201 - tensors
        """One batch, shared among the devices."""
        return self.added_up(self.devices.strategy.run(self.replica_step, (batch, size, number)))

    @tf.function(reduce_retracing=True)  # autograph makes the loop a part of the graph
    def several_steps(self, batches):  # noqa: ANN001, ANN201
        """Several batches of features, one after the other; without dropout, the number of the step plays no part."""
        total = tf.zeros(2)
        for first in tf.range(0, tf.shape(batches.y)[0], self.recipe.batch_size):
            batch = Batch(*[each[first : first + self.recipe.batch_size] for each in batches])
            total += self.replica_step(batch, tf.reduce_sum(batch.weight), 0)
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
        head = keras.optimizers.Adam(rate(recipe.learning_rate))
        head.build(classifier.head)
        if not classifier.lower:
            return [head]
        lower = keras.optimizers.Adam(rate(recipe.lower_learning_rate), weight_decay=recipe.weight_decay or None)
        lower.build(classifier.lower)
    return [head, lower]
