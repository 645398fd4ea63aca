"""The loop: its thread that fetches ahead; runs that go on."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from googlenet import GoogLeNet
from transfer import devices, loop, runs, trained
from transfer.classifier import Classifier
from transfer.recipe import Recipe
from weights import cards, heads


def test_prefetched_gives_all_in_order_passes_errors_on_and_ends_its_thread():
    before = threading.active_count()
    assert list(loop.prefetched(iter(range(100)))) == list(range(100))
    assert list(loop.prefetched([])) == []

    def broken():
        yield 1
        raise OSError("the disk")

    items = loop.prefetched(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk"):
        next(items)

    fetched = []
    items = loop.prefetched(fetched.append(number) or number for number in range(100))
    assert next(items) == 0
    items.close()  # as when the step that uses an item fails
    assert len(fetched) <= 3
    assert threading.active_count() == before


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_prolonged_run_with_averages_ends_as_if_it_had_been_that_long_from_the_start(tmp_path):
    """Two epochs at a held rate, stopped on the way to nine, then a third in which it falls: the same bit by bit."""
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    examples = loop.Examples(images, np.arange(24) % 3, np.arange(24), np.arange(24))
    recipe = Recipe(batch_size=3, lower_learning_rate=0.001, ema=0.9, decay_epochs=1, augment=True, dropout=True,
                    random_crop=0.5, label_smoothing=0.1, keep_last=True)  # fmt: skip

    def trained_to(folder, epochs, stop_at=None):
        network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=32)
        head = heads.untrained(1024, ["a", "b", "c"])
        student = Classifier(head, 0.0, 1.0, network, "pool5", None, "inception_5b")
        run = runs.Run(folder, trained.provenance_of(network, "pool5", "random", 0), head.class_names)

        def report(epoch):
            if epoch["epoch"] == stop_at:
                raise Stopped

        history, kept = loop.train(student, examples, recipe._replace(epochs=epochs), devices.find(), run, report)
        return student, history, kept

    stopped, straight = (runs.begin("script", {}, "", "", tmp_path / name) for name in ("stopped", "straight"))
    with pytest.raises(Stopped):
        trained_to(stopped, 9, stop_at=3)
    (found, history, kept), (expected, others, _) = trained_to(stopped, 3), trained_to(straight, 3)
    for one, other in zip(found.variables_of_training, expected.variables_of_training, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for name in ("loss", "validation_loss"):
        assert [epoch[name] for epoch in history] == [epoch[name] for epoch in others]
    assert kept == 3  # the result, and what was validated, are the averages
    np.testing.assert_array_equal(heads.load(stopped).kernel, found.folded()[0])
    losses = tf.nn.softmax_cross_entropy_with_logits(np.eye(3)[examples.labels], found.logits(images))
    assert float(tf.reduce_mean(losses)) == pytest.approx(history[-1]["validation_loss"], rel=1e-4)
