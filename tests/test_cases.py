"""The four cases: what is trained changes, what is frozen does not; nothing is learned from shuffled labels."""

import numpy as np
import pytest
import tensorflow as tf
from test_training import flags

import train_feature_extraction as script
from data import datasets, drawn_signs
from data.datasets import Dataset
from googlenet import GoogLeNet
from transfer import devices, pictures, runs
from transfer.flags import settle_case
from weights import cards, heads, reading

CLASSES = (14, 17, 12, 38)  # stop, no entry, priority road, keep right
SIZE = 64  # pixels: GoogLeNet at this size is quick


@pytest.fixture(scope="module")
def signs():
    images, labels = drawn_signs.draw(per_class=30, seed=1)
    images = images.reshape(43, 30, 32, 32, 3)[list(CLASSES)].reshape(-1, 32, 32, 3)
    return Dataset(images, np.repeat(np.arange(4), 30), ["stop", "no entry", "priority", "right"], None, "four signs")


def case_flags(tmp_path, **changed):
    """The flags of a quick run, settled as the command line's are."""
    args = dict(out=tmp_path / "run", weights="random", network="googlenet", image_size=SIZE, epochs=1, batch_size=16,
                case=None, layer=None, train=None, no_augment=True, no_dropout=False, patience=None, head_epochs=None,
                weight_decay=None, lower_learning_rate=None, validation_dir=None)  # fmt: skip
    args = flags(**args | changed)
    settle_case(args)
    return args


def train(args, signs, monkeypatch, labels=None):
    """Train a case; returns (network before, the same network afterwards, head)."""
    made = []

    def load_network(args, image_size):
        made.append(GoogLeNet(reading.load(cards.GOOGLENET, "random"), image_size))
        made.append({variable.name: variable.numpy() for variable in made[0].variables})
        return made[0]

    monkeypatch.setattr(script, "load_network", load_network)
    signs = signs if labels is None else signs._replace(labels=labels)
    _, rows, held_out = datasets.split(signs, "random", 0)
    script.train_case(args, None, "script", signs, rows, held_out)
    network, before = made
    return before, {variable.name: variable.numpy() for variable in network.variables}, heads.load(args.out)


FROM = {  # --train -> the layers of GoogLeNet that change; "logits" is cut off
    "head": (),
    "inception_5b": ("inception_5b",),
    "all": tuple(sorted({name.split("/")[0] for name in cards.GOOGLENET.shapes} - {"loss3"})),
}


@pytest.mark.parametrize("train_from", FROM)
def test_the_frozen_part_stays_bit_by_bit_and_the_rest_changes(train_from, signs, tmp_path, monkeypatch, capsys):
    args = case_flags(tmp_path, train=train_from)
    before, after, head = train(args, signs, monkeypatch)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split("/")[0] for name in changed} == set(FROM[train_from])
    expected = {name for name in before if name.split("/")[0] in FROM[train_from]}
    assert changed == expected  # each kernel and each bias
    printed = capsys.readouterr().out
    if train_from != "head":
        trained = sum(before[name].size for name in expected) + head.kernel.size + head.bias.size
        assert f"Trained: {trained:,} parameters ({head.kernel.size + 4:,} of them in the head)" in printed
        kept = reading.load(cards.GOOGLENET, tmp_path / "run" / head.settings["weights"])
        for name, pair in kept.items():
            np.testing.assert_array_equal(pair[0], after[f"{name}/kernel:0"])
            np.testing.assert_array_equal(pair[1], after[f"{name}/bias:0"])


@pytest.mark.parametrize("shuffled", [False, True])
def test_nothing_is_learned_from_shuffled_labels(shuffled, signs, tmp_path, monkeypatch):
    """Four classes, 40 held-out images: with true labels nearly all are right; with shuffled ones, chance."""
    labels = np.random.default_rng(5).permutation(signs.labels) if shuffled else signs.labels
    args = case_flags(tmp_path, case=2, epochs=40, learning_rate=0.003)
    _, _, head = train(args, signs, monkeypatch, labels)
    accuracy = head.settings["validation_accuracy"]
    noise = 3 * np.sqrt(0.25 * 0.75 / 40)
    assert accuracy < 0.25 + noise if shuffled else accuracy > 0.8


def test_the_presets_are_the_four_cases(tmp_path):
    def preset(number, network="alexnet"):
        args = case_flags(tmp_path, case=number, network=network, image_size=None, weights=None)
        return args.layer, args.train, args.from_scratch, args.augment

    assert [preset(number) for number in (1, 2, 3, 4)] == [
        ("fc7", "head", False, False), ("pool2", "head", False, False), ("fc7", "all", False, False),
        ("fc7", "all", True, False),
    ]  # fmt: skip
    assert preset(2, "googlenet")[0] == "pool3"
    args = case_flags(tmp_path, case=3, no_augment=False, image_size=None, learning_rate=0.002)
    assert args.augment and args.lower_learning_rate == pytest.approx(0.0006) and args.head_epochs == 2


def test_an_early_layer_is_pooled_to_a_sane_size(signs, tmp_path):
    """AlexNet's pool2: 13 x 13 x 256 -> 4 x 4 x 256, each the mean of its window, by plain NumPy."""
    from networks.network import pooled

    x = np.random.default_rng(0).normal(size=(2, 13, 13, 256)).astype(np.float32)
    found = pooled(tf.constant(x)).numpy().reshape(2, 4, 4, 256)
    edges = [0, 3, 7, 11, 13]  # 16 places for 13: SAME puts one before and two behind
    for row in range(4):
        for column in range(4):
            window = x[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            np.testing.assert_allclose(found[:, row, column], window.mean((1, 2)), rtol=0, atol=1e-5)
    assert pooled(tf.zeros((2, 4096))).shape == (2, 4096)


def test_a_frozen_part_is_run_once_without_augmentation(signs, tmp_path, monkeypatch):
    """The same end, whether the layers below are computed once or with every batch (which augmentation forces)."""
    from transfer import classifier, loop

    network = GoogLeNet(reading.load(cards.GOOGLENET, "random"), SIZE)
    head = heads.untrained(1024, signs.class_names)
    whole = classifier.Classifier(head, 0.1, 2.0, network, "pool5", None, "inception_5b")
    below = network(network.preprocess(signs.images[:8]), "inception_5a").numpy().reshape(8, -1)
    above = classifier.Classifier(head, 0.1, 2.0, network, "pool5", "inception_5a", "inception_5b")
    np.testing.assert_allclose(above.logits(below), whole.logits(signs.images[:8]), rtol=0, atol=1e-4)
    assert [v.name for v in whole.lower] == [v.name for v in above.lower] and len(whole.lower) == 12
    features = network(network.preprocess(signs.images[:8]), "pool5").numpy()
    kernel, bias = whole.folded()
    np.testing.assert_allclose(features @ kernel + bias, whole.logits(signs.images[:8]), rtol=0, atol=1e-4)
    assert loop.predict(whole, signs.images, np.arange(5)).shape == (5, 4)


def test_early_stopping_and_schedule():
    from transfer import loop

    history = [{"validation_loss": loss} for loss in (3.0, 2.0, 2.5, 2.4)]
    assert loop.out_of_patience(history, 2) and not loop.out_of_patience(history, 3)
    assert not loop.out_of_patience(history, 0) and not loop.out_of_patience(history[:2], 2)
    rate = loop.schedule(0.01, 100, True)
    rates = [float(rate(step)) for step in range(101)]
    assert rates[0] == 0 and rates[5] == pytest.approx(0.005) and max(rates) == pytest.approx(0.01)
    assert rates[10] == pytest.approx(0.01) and rates[55] == pytest.approx(0.005) and rates[100] < 1e-6


def test_few_images_of_each_class(signs):
    args = flags(training_dir=None, per_class=5, validation_per_class=3)
    _, rows, held_out = datasets.split(signs, "random", 0)
    few, train_rows, validation_rows = pictures.chosen(args, lambda args: datasets.Split(signs, rows, held_out))
    assert np.bincount(few.labels[train_rows]).tolist() == [5] * 4
    assert np.bincount(few.labels[validation_rows]).tolist() == [3] * 4
    original = {image.tobytes() for image in signs.images[held_out]}
    assert all(few.images[row].tobytes() in original for row in validation_rows)


def test_shares_of_the_work_add_up():
    """Three workers' shares of a batch are all of it, each row once; the weights say what is filled up."""
    shares = [devices.Devices(tf.distribute.get_strategy(), worker, 3) for worker in range(3)]
    rows = np.array([5, 3, 4, 9, 1])
    assert sorted(np.concatenate([each.own(rows) for each in shares])) == sorted(rows)
    assert runs.newest("no such file") is None
