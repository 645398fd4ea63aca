"""Moving averages of weights, against NumPy."""

import numpy as np
import tensorflow as tf

from transfer import averaging


def test_averages_equal_numpy_and_stand_in_for_the_weights():
    weights = [tf.Variable([1.0, 2.0]), tf.Variable([[3.0]])]
    average = averaging.Average(weights, 0.99, tf.distribute.get_strategy())
    expected, moves = weights[0].numpy(), []
    for step in range(1500):
        weights[0].assign_add([0.5, -1.0])
        average.update(step, (step + 1) % 20 == 0)
        if (since := (step % 20 + 1) % 8 or 8) == 8 or step % 20 == 19:
            kept = min(0.99, (1 + step + 1) / (10 + step + 1)) ** since
            expected = kept * expected + (1 - kept) * weights[0].numpy()
            moves.append(step + 1)
    assert moves[:4] == [8, 16, 20, 28] and moves[-1] == 1500
    latest = weights[0].numpy()
    with average.in_place():
        np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)
        assert weights[1].numpy() == [[3.0]]
    np.testing.assert_array_equal(weights[0].numpy(), latest)
    first = averaging.Average(weights, 0.99, tf.distribute.get_strategy())
    weights[0].assign_add([1.0, 1.0])
    first.update(0, True)  # of a training of one step, the average is no more that of the beginning
    assert not np.allclose(first.variables[0].numpy(), latest)
    weights[0].assign(latest)
    average.assign()
    np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)
    assert not averaging.Average(weights, 0.0, tf.distribute.get_strategy()).variables
