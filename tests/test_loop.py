"""transfer/loop.py, steps.py: the thread that fetches ahead; runs that go on."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from googlenet import GoogLeNet
from networks.network import Dropout, pooled, pooled_size
from transfer import augmentation, devices, loop, runs, steps, trained
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


def test_a_mirrored_image_has_the_mirrored_label_and_the_teacher_s_mirrored_answer():
    """Keep right becomes keep left; the second image is left as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32).repeat(2, axis=0)
    chance = np.full((2, augmentation.CHANCES), 0.5, np.float32)  # no change, but ...
    chance[:, 6] = 0.9, 0.1  # ... the first one is mirrored
    taught = np.float32([[1, 2], [1, 2]])
    batch = steps.Batch(pixels, np.array([0, 0]), chance, taught, np.arange(2), np.ones(2, np.float32))
    sized = SimpleNamespace(network=SimpleNamespace(image_size=8))
    augmenting = steps.Steps(sized, Recipe(augment=True, mirror=(1, 0), teacher_share=0.5), devices.find(), [])
    seen = augmenting.augmented(steps.Batch(*map(tf.constant, batch)))
    assert seen.y.numpy().tolist() == [1, 0] and seen.taught.numpy().tolist() == [[2, 1], [1, 2]]
    np.testing.assert_allclose(seen.x.numpy()[0], pixels[0, :, ::-1], atol=0.01)
    np.testing.assert_allclose(seen.x.numpy()[1], pixels[1], atol=0.01)


def test_a_log_for_tensorboard_has_both_curves(tmp_path):
    epoch = {"epoch": 3, "loss": 0.5, "accuracy": 0.6, "validation_loss": 0.7, "validation_accuracy": 0.8}
    loop.summaries(tmp_path)(epoch)
    for name, figures in ("training", {"loss": 0.5, "accuracy": 0.6}), ("validation", {"loss": 0.7, "accuracy": 0.8}):
        (path,) = (tmp_path / name).iterdir()
        events = [event for event in tf.compat.v1.train.summary_iterator(str(path)) if event.summary.value]
        assert {event.step for event in events} == {3}
        found = {value.tag: tf.make_ndarray(value.tensor) for event in events for value in event.summary.value}
        assert found == pytest.approx(figures)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_prolonged_run_with_averages_ends_as_if_it_had_been_that_long_from_the_start(tmp_path):
    """Two epochs at a held rate, stopped on the way to nine, then a third in which it falls: the same bit by bit."""
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    examples = loop.Examples(images, np.arange(24) % 3, np.arange(24), np.arange(24))
    recipe = Recipe(batch_size=5, lower_learning_rate=0.001, ema=0.9, decay_epochs=1, augment=True, dropout=True,
                    random_crop=0.5, label_smoothing=0.1, keep_last=True)  # fmt: skip

    def trained_to(folder, epochs, stop_at=None):
        network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=32)
        head = heads.untrained(1024, ["a", "b", "c"])
        student = Classifier(head, 0.0, 1.0, network, "pool5", None, "inception_5b")
        run = runs.Run(folder, trained.provenance_of(network, "pool5", "random", 0), head.class_names)

        def report(epoch):
            if epoch["epoch"] == stop_at:
                raise Stopped

        history, kept = loop.train(
            student, examples, recipe._replace(epochs=epochs), devices.find(), run, report=report
        )
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


def test_dropout_keeps_the_mean():
    """0.3 of the numbers become 0, the others 1 / 0.7 as large; layers drop independently of each other."""
    x = tf.ones((64, 1000))
    dropout = Dropout([1, 2], tf.range(64), 64)
    one, again, other = (dropout(x, 0.3, layer).numpy() for layer in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert set(np.unique(one)) == {0, np.float32(1 / np.float32(0.7))}
    assert abs((one == 0).mean() - 0.3) < 0.01 and abs(one.mean() - 1) < 0.01
    assert abs(((one == 0) & (other == 0)).mean() - 0.09) < 0.01


def test_how_many_features_a_head_sees():
    """Of maps of any size: as many as TensorFlow's pooling makes."""
    for height, width in [(1, 1), (2, 5), (4, 4), (5, 9), (7, 7), (13, 13), (14, 28), (6, 3)]:
        features = pooled(tf.zeros((2, height, width, 3)))
        assert features.shape == (2, pooled_size((height, width, 3))) and features.shape[1] <= 4 * 4 * 3
    assert pooled_size((17,)) == pooled(tf.zeros((2, 17))).shape[1] == 17


def order_of_training(seed):
    """The rows that two epochs ask for, 100 for training and 20 for validation."""
    asked = []

    class Noted:
        def __getitem__(self, rows):
            asked.extend(rows)
            return np.zeros((len(rows), 3), np.float32)

    examples = loop.Examples(Noted(), np.arange(120) % 2, np.arange(100), np.arange(100, 120))
    classifier = Classifier(heads.untrained(3, ["a", "b"], 0))
    loop.train(classifier, examples, Recipe(epochs=2, batch_size=10, seed=seed), devices.find())
    return np.split(np.array(asked), 2)


def test_each_epoch_has_an_order_of_its_own():
    """Images lie in a file class by class: in that order, an epoch would end by forgetting all but the last one."""
    first, second = order_of_training(seed=0)
    for rows in first, second:
        assert sorted(rows[:100]) == list(range(100)) and rows[100:].tolist() == list(range(100, 120))
        assert np.corrcoef(rows[:100], np.arange(100))[0, 1] < 0.5
    assert first.tolist() != second.tolist()
    again, other = order_of_training(seed=0)[0], order_of_training(seed=1)[0]
    assert again.tolist() == first.tolist() != other.tolist()


def test_each_image_has_its_own_chance_and_each_step_its_own_number(monkeypatch):
    """Dropout and augmentation would else repeat themselves in every epoch, or change with the order of the images."""
    taken = []
    monkeypatch.setattr(steps, "BATCHES_PER_CALL", 1)
    monkeypatch.setattr(augmentation, "chances", lambda count, *_: np.arange(count, dtype=np.float32)[:, None])

    def noted(_, batch, size, number):
        taken.append((batch, number))
        return np.zeros(2)

    monkeypatch.setattr(steps.Steps, "train_step", noted)
    rows = np.arange(0, 40, 2)
    examples = loop.Examples(10 * np.arange(40, dtype=np.float32)[:, None], np.arange(40) % 2, rows, rows)
    classifier = Classifier(heads.untrained(1, ["a", "b"], 0))
    loop.train(classifier, examples, Recipe(epochs=2, batch_size=4, augment=True), devices.find())
    assert [number for _, number in taken] == list(range(10))
    for batch, _ in taken:
        np.testing.assert_array_equal(batch.x, 10 * batch.chance)
        np.testing.assert_array_equal(batch.place, np.arange(4))


def test_the_layers_below_the_head_have_a_rate_and_a_decay_of_their_own():
    network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=32)
    classifier = Classifier(heads.untrained(1024, ["a", "b"]), 0.0, 1.0, network, "pool5", None, "inception_5b")
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=0.01, lower_learning_rate=0.002, weight_decay=0.05)
    both = steps.optimizers(classifier, recipe, devices.find(), 33)  # two steps an epoch, so 20 in all
    assert [each.weight_decay for each in both] == [None, 0.05]
    for step, share in (2, 1.0), (11, 0.5):  # warmed up; half way down
        for optimizer in both:
            optimizer.iterations.assign(step)
        assert [float(each.learning_rate) for each in both] == pytest.approx([0.01 * share, 0.002 * share])
