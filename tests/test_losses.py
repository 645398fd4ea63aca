"""What is minimised, and the learning rate of each step, against SciPy and NumPy."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from transfer.losses import training_losses
from transfer.recipe import Recipe
from transfer.schedules import image_sizes, schedule

LOGITS = np.random.default_rng(0).normal(0, 3, (5, 7)).astype(np.float32)
LABELS = np.array([0, 6, 3, 3, 1])
NOBODY = np.zeros((5, 0), np.float32)
PLAIN = -log_softmax(LOGITS, axis=1)[np.arange(5), LABELS]


def test_label_smoothing_is_cross_entropy_with_smoothed_labels():
    smoothed = 0.8 * np.eye(7)[LABELS] + 0.2 / 7
    expected = -(smoothed * log_softmax(LOGITS, axis=1)).sum(1)
    found = training_losses(LOGITS, LABELS, NOBODY, Recipe(label_smoothing=0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(training_losses(LOGITS, LABELS, NOBODY, Recipe()), PLAIN, rtol=1e-5)


def test_a_teacher_s_share_of_the_loss():
    taught = np.random.default_rng(1).normal(0, 5, (5, 7)).astype(np.float32)
    soft = -(softmax(taught / 3, axis=1) * log_softmax(LOGITS / 3, axis=1)).sum(1)
    found = training_losses(LOGITS, LABELS, taught, Recipe(teacher_share=0.6, temperature=3.0))
    np.testing.assert_allclose(found, 0.4 * PLAIN + 0.6 * 9 * soft, rtol=1e-5)


def test_a_teacher_beside_smoothed_labels():
    taught = np.random.default_rng(1).normal(0, 5, (5, 7)).astype(np.float32)
    soft = -(softmax(taught / 2, axis=1) * log_softmax(LOGITS / 2, axis=1)).sum(1)
    smoothed = -((0.9 * np.eye(7)[LABELS] + 0.1 / 7) * log_softmax(LOGITS, axis=1)).sum(1)
    found = training_losses(LOGITS, LABELS, taught, Recipe(label_smoothing=0.1, teacher_share=0.6, temperature=2.0))
    np.testing.assert_allclose(found, 0.4 * smoothed + 0.6 * 4 * soft, rtol=1e-5)


def test_a_cosine_falls_from_the_start():
    rate = schedule(0.01, 10, 10)
    rates = [float(rate(step)) for step in range(101)]
    assert rates[0] == 0 and rates[5] == pytest.approx(0.005) and max(rates) == pytest.approx(0.01)
    assert rates[10] == pytest.approx(0.01) and rates[55] == pytest.approx(0.005) and rates[100] < 1e-6


@pytest.mark.parametrize("steps, epochs", [(1, 5), (1, 15), (3, 6), (1, 30)])
def test_no_epoch_of_a_short_training_is_lost_to_the_warm_up(steps, epochs):
    """A warm-up of one step would be a step at rate 0."""
    rate = schedule(0.01, steps, epochs)
    dead = [float(rate(step)) for step in range(steps * epochs)].count(0)
    assert dead == (steps * epochs >= 20)


def test_a_held_rate_does_not_depend_on_the_length_of_the_run_before_it_falls():
    short, long = schedule(0.01, 100, 10, 1), schedule(0.01, 100, 40, 2)
    rates = np.array([float(short(step)) for step in range(1000)])
    np.testing.assert_allclose(rates[:100], 0.01 * np.arange(1, 101) / 100, rtol=1e-5)
    np.testing.assert_allclose(rates[100:901], 0.01, rtol=1e-5)
    np.testing.assert_allclose(rates[900:], 0.01 * np.arange(100, 0, -1) / 100, rtol=1e-5)
    assert [float(long(step)) for step in (50, 950, 3799, 3900)] == pytest.approx([0.0051, 0.01, 0.01, 0.005])
    assert float(schedule(0.01, 2000, 5, 1)(499)) == pytest.approx(0.01)  # warmed up in 500 steps at most


def test_images_grow_to_their_full_size_and_stay_there():
    assert image_sizes(128, 8) == [64, 80, 96, 96, 112, 128, 128, 128]
    assert image_sizes(224, 2) == [112, 224] and image_sizes(100, 1) == [100]
    for largest in range(64, 257, 12):
        for epochs in range(2, 12):
            sizes = image_sizes(largest, epochs)
            assert sizes == sorted(sizes) and sizes[-1] == largest and abs(sizes[0] - largest / 2) <= 8
            assert sizes.count(largest) >= 0.3 * epochs - 1  # the last third, about
