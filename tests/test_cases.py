"""The four cases: what is trained changes, what is frozen does not; nothing is learned from shuffled labels."""

import functools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from data import drawn_signs, splits
from data.datasets import Dataset
from googlenet import GoogLeNet
from networks.network import pooled
from transfer import augmentation, cases, classifier, devices, features, loading, loop, results, runs, trained
from transfer.classifier import predict
from transfer.loading import load_network
from transfer.recipe import Case, Recipe, preset, recipe_for
from transfer.run_files import read_history
from weights import cards, heads, reading

CLASSES = (14, 17, 12, 38)  # stop, no entry, priority road, keep right
SIZE = 64  # pixels: GoogLeNet at this size is quick


@pytest.fixture(scope="module")
def signs():
    images, labels = drawn_signs.draw(per_class=30, seed=1)
    images = images.reshape(43, 30, 32, 32, 3)[list(CLASSES)].reshape(-1, 32, 32, 3)
    return Dataset(images, np.repeat(np.arange(4), 30), ["stop", "no entry", "priority", "right"], None, "four signs")


def train(signs, case, tmp_path, labels=None, card=cards.GOOGLENET, **changed):
    """Train a case with random weights; returns (variables before, the same afterwards, outcome, head)."""
    network = load_network(card, "random", image_size=SIZE, classifier=card is cards.GOOGLENET)
    before = {variable.name: variable.numpy() for variable in network.variables}
    split = splits.split(signs if labels is None else signs._replace(labels=labels), "random", 0)
    here, changed = devices.find(), {"epochs": 1, "batch_size": 16, "augment": False} | changed
    recipe = recipe_for(case, card, len(split.training), **changed)
    origin = trained.provenance_of(network, case.layer, "random", 0)
    folder = tmp_path / "run"
    run = runs.Run(folder if folder.exists() else runs.begin("script", {}, "", "", folder), origin, signs.class_names)
    if case.fine_tuning:
        outcome = cases.fine_tune(network, split, case, recipe, here, run, cache=None)
    else:
        vectors = features.shared_features(network, split.dataset.images, case.layer, origin, here, cache=None)
        outcome = cases.train_head(vectors, split, recipe, here, run)
    run.end(outcome.history, outcome.kept)
    after = {variable.name: variable.numpy() for variable in network.variables}
    return before, after, outcome, heads.load(tmp_path / "run")


FROM = {  # --train -> the layers of GoogLeNet that change; "logits" is cut off
    "head": (),
    "inception_5b": ("inception_5b",),
    "all": tuple(sorted({name.split("/")[0] for name in cards.GOOGLENET.shapes} - {"loss3"})),
}


@pytest.mark.parametrize("train_from", ["head", "inception_5b", pytest.param("all", marks=pytest.mark.slow)])
def test_the_frozen_part_stays_bit_by_bit_and_the_rest_changes(train_from, signs, tmp_path, capsys):
    case = Case("pool5", train_from)
    seed = 2**32 - 1  # the largest; TensorFlow's are signed
    before, after, outcome, head = train(signs, case, tmp_path, lower_learning_rate=0.001, keep_last=True, seed=seed)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split("/")[0] for name in changed} == set(FROM[train_from])
    expected = {name for name in before if name.split("/")[0] in FROM[train_from]}
    assert changed == expected  # each kernel and each bias
    printed = capsys.readouterr().out
    if case.fine_tuning:
        trained = sum(before[name].size for name in expected) + head.kernel.size + head.bias.size
        assert f"Trained: {trained:,} parameters ({head.kernel.size + 4:,} of them in the head)" in printed
        assert outcome.kept == 1
        kept = reading.load(cards.GOOGLENET, tmp_path / "run" / head.provenance.weights)
        for name, pair in kept.items():
            np.testing.assert_array_equal(pair[0], after[f"{name}/kernel:0"])
            np.testing.assert_array_equal(pair[1], after[f"{name}/bias:0"])


def test_fine_tuning_does_not_end_worse_than_its_head(signs, tmp_path):
    """A learning rate that destroys the network: the head alone is the result, on the untouched network."""
    case = Case("pool5", "inception_5b")
    _, _, outcome, head = train(signs, case, tmp_path, lower_learning_rate=1.0, epochs=2)
    assert outcome.kept == 0 and head.provenance.weights == "random"
    alone = outcome.head_history[-1]
    assert head.provenance.validation_accuracy == alone["validation_accuracy"]
    assert min(epoch["validation_loss"] for epoch in outcome.history) > alone["validation_loss"]
    history = read_history(tmp_path / "run")
    assert history["kept"] == 0 and len(history["head"]) == 2 and len(history["epochs"]) == 2
    network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=SIZE)
    rows = splits.split(signs, "random", 0).validation
    logits = head.logits(network.activations(signs.images[rows], layer="pool5").numpy())
    assert (logits.argmax(1) == signs.labels[rows]).mean() == pytest.approx(alone["validation_accuracy"], abs=0.03)


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_train_its_head_again(signs, tmp_path, monkeypatch, capsys):
    """Two epochs of the head and one of all layers; resumed, there is one left."""
    case, trained_epochs, one_epoch = Case("pool5", "inception_5b"), [], loop.one_epoch
    monkeypatch.setattr(loop, "one_epoch", lambda *all: trained_epochs.append(all[2]) or one_epoch(*all))
    *_, first, _ = train(signs, case, tmp_path, epochs=1, keep_last=True)
    *_, again, _ = train(signs, case, tmp_path, epochs=2, keep_last=True)
    assert trained_epochs == [1, 2, 1, 2] and again.head_history == first.head_history
    np.testing.assert_array_equal(again.classifier.mean, first.classifier.mean)
    assert again.classifier.spread == first.classifier.spread
    printed = capsys.readouterr().out
    assert printed.count("First the head alone") == printed.count("Continuing after epoch 1\n") == 1
    assert "Nothing is left" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("card", [cards.VGG, cards.RESNET], ids=["vgg", "resnet"])
def test_keras_networks_learn_in_case_3(card, signs, tmp_path):
    """Fine-tuned from random weights, of all things: most of 40 held-out signs of four classes, where chance is 10."""
    case = preset(3, card)
    _, _, outcome, head = train(signs, case, tmp_path, card=card, epochs=16, head_epochs=0, patience=16)
    assert outcome.kept > 0 and head.provenance.validation_accuracy > 0.6
    again = trained.load(tmp_path / "run")  # network and head from the folder
    rows = splits.split(signs, "random", 0).validation
    accuracy = (again.probabilities(signs.images[rows]).argmax(1) == signs.labels[rows]).mean()
    assert accuracy == pytest.approx(head.provenance.validation_accuracy, abs=0.03)


@pytest.mark.parametrize("shuffled", [False, True])
def test_nothing_is_learned_from_shuffled_labels(shuffled, signs, tmp_path):
    """Four classes, 40 held-out images: with true labels nearly all are right; with shuffled ones, chance."""
    labels = np.random.default_rng(5).permutation(signs.labels) if shuffled else signs.labels
    _, _, _, head = train(signs, preset(2, cards.GOOGLENET), tmp_path, labels, epochs=40, learning_rate=0.003)
    accuracy = head.provenance.validation_accuracy
    noise = 3 * np.sqrt(0.25 * 0.75 / 40)
    assert accuracy < 0.25 + noise if shuffled else accuracy > 0.8


@pytest.mark.parametrize("kept", [0, 1])
def test_filters_are_drawn_of_the_weights_that_are_kept(kept, signs, monkeypatch, tmp_path, capsys):
    """Where the head alone is kept, the network has been changed by epochs that were thrown away."""
    drawn, views, nothing = [], [], lambda *_, **__: None
    monkeypatch.setattr(results, "predict", lambda *_, second_view: views.append(second_view))
    monkeypatch.setattr(results.evaluation, "report", lambda *_: SimpleNamespace(accuracy=0.5))
    monkeypatch.setattr(results, "keep_known", nothing)
    monkeypatch.setattr(results.plots, "curves", nothing)
    monkeypatch.setattr(results.plots, "filters", lambda kernel, path: drawn.append(path.name))
    run = SimpleNamespace(end=nothing, restore_result=nothing, remember=nothing, folder=tmp_path)
    chief = SimpleNamespace(chief=True, workers=1, copy_from_chief=nothing)
    classifier = SimpleNamespace(variables_of_training=[], lower=[])
    epochs = [{"epoch": 1, "validation_loss": 1.0}]
    network = SimpleNamespace(weights={"conv1": (np.zeros((3, 3, 3, 4)),)})
    outcome = cases.Outcome(classifier, None, epochs, kept, epochs)
    results.conclude(run, outcome, splits.for_test(signs), chief, plot=True, network=network)
    assert drawn == ["filters.png"] * kept
    assert views == [None] and "seen twice" not in capsys.readouterr().out
    classifier.network = SimpleNamespace(image_size=64)
    outcome = outcome._replace(inputs=signs.images)
    results.conclude(run, outcome, splits.for_test(signs), chief, two_views=True)
    assert callable(views[1]) and "Each image seen twice, the second time 15% closer;" in capsys.readouterr().out


def test_what_is_kept_and_why():
    def told(kept, losses, lower=()):
        history = [{"validation_loss": loss} for loss in losses]
        classifier = SimpleNamespace(lower=list(lower))
        return results.choice(cases.Outcome(classifier, None, history, kept, [{"validation_loss": 0.5}]))

    assert told(2, [0.4, 0.3, 0.35]) == "Kept: epoch 2 of 3, with the lowest validation loss (0.300)"
    last = "Kept: the last epoch, 3 (validation loss 0.350; lowest 0.300, epoch 2"
    assert told(3, [0.4, 0.3, 0.35]) == f"{last}: --patience would keep that)"
    assert told(3, [0.4, 0.3, 0.35], lower=[1]) == f"{last})"
    alone = "Kept: the head as it was before fine-tuning (validation loss 0.500); no epoch of fine-tuning was better"
    assert told(0, [0.8, 0.7]) == f"{alone} (0.700)"


def test_a_view_of_many_images_is_there_once():
    """Not in pieces and once more as a whole: a test set at 224 pixels takes 1.9 GB."""
    images = np.random.default_rng(0).integers(0, 256, (1600, 16, 16, 3), np.uint8)
    enlarged = lambda some: some.repeat(4, axis=1).repeat(4, axis=2) + np.float32(0.4)  # noqa: E731
    tracemalloc.start()
    seen = trained.view_of_many(images, enlarged)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(seen, images.repeat(4, axis=1).repeat(4, axis=2))
    assert seen.dtype == np.uint8 and peak < 1.6 * seen.nbytes


def test_the_presets_are_the_four_cases():
    assert [preset(number, cards.ALEXNET) for number in (1, 2, 3, 4)] == [
        ("fc7", "head", False), ("pool2", "head", False), ("fc7", "all", False), ("fc7", "all", True)
    ]  # fmt: skip
    assert preset(2, cards.GOOGLENET).layer == "pool3"
    recipe = recipe_for(preset(3, cards.GOOGLENET), cards.GOOGLENET, 5000, learning_rate=0.002)
    assert recipe.augment and recipe.dropout and recipe.head_epochs == 2 and recipe.validated == 1250
    assert recipe.lower_learning_rate == pytest.approx(0.0006)
    assert recipe_for(preset(1, cards.GOOGLENET), cards.GOOGLENET) == Recipe()


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_bfloat16_where_the_hardware_multiplies_it(monkeypatch, fast):
    monkeypatch.setattr(loading, "_multiplies_bfloat16", lambda: fast)
    auto = tf.bfloat16 if fast else tf.float32
    for trains in True, False:
        assert load_network(cards.GOOGLENET, "random", image_size=32, precision="auto", trains=trains).dtype == auto
    assert loading.compute_dtype("bfloat16") == tf.bfloat16


def test_float32_is_not_what_gpus_make_of_it():
    tf.config.experimental.enable_tensor_float_32_execution(True)
    assert loading.compute_dtype("float32") == tf.float32
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_an_early_layer_is_pooled_to_a_sane_size(signs, tmp_path):
    """AlexNet's pool2: 13 x 13 x 256 -> 4 x 4 x 256, each the mean of its window, by plain NumPy."""
    x = np.random.default_rng(0).normal(size=(2, 13, 13, 256)).astype(np.float32)
    found = pooled(tf.constant(x)).numpy().reshape(2, 4, 4, 256)
    edges = [0, 3, 7, 11, 13]  # 16 places for 13: SAME puts one before and two behind
    for row in range(4):
        for column in range(4):
            window = x[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            np.testing.assert_allclose(found[:, row, column], window.mean((1, 2)), rtol=0, atol=1e-5)
    assert pooled(tf.zeros((2, 4096))).shape == (2, 4096)


def test_a_frozen_part_is_run_once_without_augmentation(signs):
    """The same end, whether the layers below are computed once or with every batch (which augmentation forces)."""
    network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=SIZE)
    head = heads.untrained(1024, signs.class_names)
    whole = classifier.Classifier(head, 0.1, 2.0, network, "pool5", None, "inception_5b")
    below = network(network.preprocess(signs.images[:8]), "inception_5a").numpy().reshape(8, -1)
    above = classifier.Classifier(head, 0.1, 2.0, network, "pool5", "inception_5a", "inception_5b")
    np.testing.assert_allclose(above.logits(below), whole.logits(signs.images[:8]), rtol=0, atol=1e-4)
    assert [v.name for v in whole.lower] == [v.name for v in above.lower] and len(whole.lower) == 12
    features = network(network.preprocess(signs.images[:8]), "pool5").numpy()
    kernel, bias = whole.folded()
    np.testing.assert_allclose(features @ kernel + bias, whole.logits(signs.images[:8]), rtol=0, atol=1e-4)
    one = predict(whole, signs.images, np.arange(5), devices.find())
    closer = functools.partial(augmentation.closer, size=SIZE)
    other = predict(whole, np.array(closer(signs.images[:5])), np.arange(5), devices.find())
    both = predict(whole, signs.images, np.arange(5), devices.find(), second_view=closer)
    assert one.shape == (5, 4) and abs(one - other).max() > 0.001
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)


@pytest.mark.slow
def test_progressive_resizing_begins_with_small_images(signs):
    """Its first epoch is that of a network for images half as large; its last is validated at full size."""
    split = splits.split(signs, "random", 0)
    recipe = Recipe(epochs=2, batch_size=16, lower_learning_rate=0.001, seed=3)

    def history(image_size, recipe):
        network = GoogLeNet.load(cards.GOOGLENET, "random", image_size=image_size)
        head = heads.untrained(1024, signs.class_names)
        whole = classifier.Classifier(head, network=network, layer="pool5", first="inception_5b")
        examples = loop.Examples(signs.images, signs.labels, split.training[:32], split.validation)
        epochs, _ = loop.train(whole, examples, recipe, devices.find())
        right = (
            predict(whole, signs.images, split.validation, devices.find()).argmax(1)
            == examples.labels[split.validation]
        )
        return [{**epoch, "seconds": 0} for epoch in epochs], right.mean()

    growing, accuracy = history(64, recipe._replace(progressive_resizing=True, keep_last=True))
    small, _ = history(32, recipe)
    for name in small[0]:
        assert growing[0][name] == pytest.approx(small[0][name], rel=1e-4)
    assert growing[1]["loss"] != pytest.approx(small[1]["loss"], rel=1e-3)
    assert growing[1]["validation_accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_the_head_before_progressive_resizing_sees_images_of_full_size(signs, tmp_path, capsys):
    growing = {"augment": True, "progressive_resizing": True, "keep_last": True, "head_epochs": 1}
    _, _, outcome, _ = train(signs, Case("pool5", "inception_5b"), tmp_path, epochs=2, **growing)
    assert (len(outcome.head_history), outcome.kept) == (1, 2)
    assert "Image size by epoch, in pixels: 32, 64\n" in capsys.readouterr().out


def test_early_stopping():
    history = [{"validation_loss": loss} for loss in (3.0, 2.0, 2.5, 2.4)]
    assert loop.out_of_patience(history, 2) and not loop.out_of_patience(history, 3)
    assert not loop.out_of_patience(history, 0) and not loop.out_of_patience(history[:2], 2)
    assert loop.best_epoch(history) == 2 and loop.best_epoch(history, 1.5) == 0
    assert loop.out_of_patience(history[:2], 2, 1.5) and not loop.out_of_patience(history[:1], 2, 1.5)
