"""Exponential moving averages of weights: steadier than the weights, which every batch pulls somewhere else.

    average = Average(variables, 0.998, strategy)
    average.update(step, (step + 1) % steps_per_epoch == 0)   # after each training step, counted over all epochs
    with average.in_place():            # the variables hold their averages, to validate or to keep them

An average over the last few hundred steps does much of what a falling learning rate does, at any time: a long run shows
after every epoch about how good it would be if it ended there (Polyak and Juditsky, "Acceleration of stochastic
approximation by averaging", 1992).
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

EVERY = 8  # steps from one update to the next; for 60 million weights one takes 56 ms, as long as 2 images in training


class Average:
    """The averages of `variables`. decay: the share of an average that a training step leaves; 0: there are none."""

    def __init__(self, variables: Sequence[tf.Variable], decay: float, strategy: tf.distribute.Strategy) -> None:
        self.sources, self.decay, self.strategy = list(variables) if decay else [], decay, strategy
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA  # all replicas hold the same numbers
        self.waiting = 0  # steps since the averages were moved; 0 between epochs, where a run may be stopped
        with strategy.scope():
            self.variables = [tf.Variable(each, trainable=False, aggregation=first) for each in self.sources]

    def update(self, step: int, last: bool) -> None:
        """Move the averages after the training step `step`, counted from 0 over all epochs, if it is time.

        last: of its epoch; then it always is, since the averages are about to be validated.
        """
        self.waiting += 1
        if self.sources and (self.waiting == EVERY or last):
            # The average begins as the first weights. The second term forgets them: 2/11, 3/12, 4/13 ... It is that of
            # TensorFlow 1's ExponentialMovingAverage, (1 + n) / (10 + n) in the n-th step.
            kept = min(self.decay, (2 + step) / (11 + step)) ** self.waiting
            self._update(np.float32(1 - kept))
            self.waiting = 0

    @tf.function(autograph=False)
    def _update(self, share: tf.Tensor) -> None:
        self.strategy.run(self._move, (share,))

    def _move(self, share: tf.Tensor) -> None:
        for average, source in zip(self.variables, self.sources):
            average.assign_add(share * (source - average))

    def assign(self) -> None:
        """Give the variables their averages."""
        for source, average in zip(self.sources, self.variables):
            source.assign(average.numpy())

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the variables hold their averages; afterwards what they held before."""
        latest = [source.numpy() for source in self.sources]
        self.assign()
        try:
            yield
        finally:
            for source, numbers in zip(self.sources, latest):
                source.assign(numbers)
