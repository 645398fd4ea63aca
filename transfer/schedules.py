"""What changes in the course of fine-tuning: the learning rate with each step, the size of the images with the epochs.

The rate is warmed up, then falls to 0, at once or over the last epochs only.
"""

from typing import Any

import keras
import tensorflow as tf

WARM_UP = 0.1  # of all steps; Adam's first steps rest on few gradients, and would disturb pretrained layers
LONGEST_WARM_UP = 500  # steps, and one epoch at most, where the rate is then held
GROWING = 0.7  # of the epochs; the images have their full size in the others
PIXELS = 16  # by which sizes differ


def schedule(rate: float, steps_per_epoch: int, epochs: int, decay_epochs: int = 0) -> Any:
    """Warmed up, then falling to 0 as a cosine; or, with decay_epochs, held and falling over the last ones of them."""
    steps = epochs * steps_per_epoch
    if decay_epochs:
        return Held(rate, steps, min(steps_per_epoch, LONGEST_WARM_UP), decay_epochs * steps_per_epoch)
    warm_up = int(WARM_UP * steps)
    cosine = keras.optimizers.schedules.CosineDecay
    if warm_up < 2:  # its first step, at rate 0, would be all of it
        return cosine(rate, steps)
    return cosine(0.0, steps - warm_up, warmup_target=rate, warmup_steps=warm_up)


def image_sizes(largest: int, epochs: int) -> list[int]:
    """Progressive resizing: the side of the images in each epoch, in pixels, from half of `largest` up to it.

    What things look like is learned as well from small images, which cost a quarter; the last epochs add the details.
    """
    full = GROWING * (epochs - 1)  # from this epoch on, counted from 0

    def size(epoch: int) -> int:
        return largest if epoch >= full else PIXELS * round((0.5 + 0.5 * epoch / full) * largest / PIXELS)

    return [min(size(epoch), largest) for epoch in range(epochs)]


class Held(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a straight line over `warm_up` steps, is held, and falls to 0 over the last `decay` of `steps`.

    Nothing before the fall depends on the length of the run. So a run may be prolonged, or ended, while its rate is
    held, and takes the same steps as one that was meant to be that long.
    """

    def __init__(self, rate: float, steps: int, warm_up: int, decay: int) -> None:
        self.rate, self.steps, self.warm_up, self.decay = rate, steps, warm_up, decay

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising, falling = (step + 1) / self.warm_up, (self.steps - step) / self.decay
        return self.rate * tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)
