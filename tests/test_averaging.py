"""Moving averages of weights, against NumPy."""

import numpy as np
import tensorflow as tf

from transfer import averaging


def test_averages_equal_numpy_and_stand_in_for_the_weights():
    weights = [tf.Variable([1.0, 2.0]), tf.Variable([[3.0]])]
    average = averaging.Average(weights, 0.99, tf.distribute.get_strategy())
    expected, updates = weights[0].numpy(), 0
    for step in range(40 * averaging.EVERY):
        weights[0].assign_add([0.5, -1.0])
        average.update(step)
        if step < averaging.EVERY - 1 or (step + 1) % averaging.EVERY == 0:
            updates = step + 1 if step < averaging.EVERY - 1 else (step + 1) // averaging.EVERY
            steps = 1 if step < averaging.EVERY - 1 else averaging.EVERY
            kept = min(0.99**steps, (1 + updates) / (10 + updates))
            expected = kept * expected + (1 - kept) * weights[0].numpy()
    assert updates == 40
    latest = weights[0].numpy()
    with average.in_place():
        np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)
        assert weights[1].numpy() == [[3.0]]
    np.testing.assert_array_equal(weights[0].numpy(), latest)
    first = averaging.Average(weights, 0.99, tf.distribute.get_strategy())
    weights[0].assign_add([1.0, 1.0])
    first.update(0)  # of a training of one step, the average is no more that of the beginning
    assert not np.allclose(first.variables[0].numpy(), latest)
    weights[0].assign(latest)
    average.assign()
    np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)
    assert not averaging.Average(weights, 0.0, tf.distribute.get_strategy()).variables
