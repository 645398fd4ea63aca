"""Splitting, extracting, training a head, keeping it; against scikit-learn and plain NumPy."""

import numpy as np
import pytest
from conftest import in_one_line
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import alexnet
import train_feature_extraction as script
from common.errors import BadInput
from data import splits
from data.datasets import Dataset
from data.images import Framing
from data.splits import Split
from transfer import cases, checkpoints, devices, fast, feature_store, features, loop, results, run_files, runs, trained
from transfer.classifier import predict
from transfer.recipe import Recipe
from weights import heads


def tracked(tracks_per_class=6, images=30, classes=4):
    labels = np.repeat(np.arange(classes), tracks_per_class * images)
    tracks = np.repeat(np.arange(classes * tracks_per_class), images)
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Dataset(images, labels, [str(i) for i in range(classes)], tracks, "made up")


def made_up(labels, class_names):
    """A data set without pixels, for features that come from elsewhere."""
    return Dataset(np.empty((len(labels), 0, 0, 3), np.uint8), labels, class_names, None, "made up")


def printed(epoch):
    script.print_epoch(epoch)


@pytest.mark.parametrize("standardize", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_head_is_as_good_as_scikit_learn(standardize, capsys):
    features, labels = load_digits(return_X_y=True)
    features = (features / 16).astype(np.float32)
    labels = labels.astype(np.int64)
    rows, held_out = np.arange(1200), np.arange(1200, len(labels))
    split = Split(made_up(labels, [str(i) for i in range(10)]), rows, held_out)
    recipe = Recipe(epochs=60, learning_rate=0.01, standardize=standardize)
    outcome = cases.train_head(features * 3 + 1, split, recipe, devices.find(), report=printed)
    head = heads.Head(*outcome.classifier.folded(), split.dataset.class_names, None)
    accuracy = outcome.history[-1]["validation_accuracy"]
    theirs = LogisticRegression(C=10, max_iter=2000).fit(features[rows], labels[rows])
    theirs = theirs.score(features[held_out], labels[held_out])
    assert abs(accuracy - theirs) < 0.02 and accuracy > 0.9 and outcome.kept == 60
    assert (outcome.classifier.spread != 1) == standardize
    logits = head.logits(features[held_out] * 3 + 1)
    assert accuracy == pytest.approx((logits.argmax(1) == labels[held_out]).mean())
    shifted = logits - logits.max(1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(held_out)), labels[held_out]]).mean()
    told = capsys.readouterr().out
    assert told.count("Epoch ") == 60 and told.startswith("Epoch 1\nTime: ")
    assert f"Validation Loss = {loss:.3f}\nValidation Accuracy = {accuracy:.3f}\n" in told


def test_a_stopped_run_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    """From its checkpoint, bit by bit; a checkpoint that was changed since is refused."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    rng = np.random.default_rng(0)
    numbers, labels = rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 2, 200)
    split = Split(made_up(labels, ["a", "b"]), np.arange(100), np.arange(100, 200))
    origin = heads.Provenance(
        "googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "made up", 0.5, 32, "whole", 0
    )

    def trained_in(folder, stop_after=None):
        def report(epoch):
            if epoch["epoch"] == stop_after:
                raise KeyboardInterrupt

        run = runs.Run(folder, origin, ["a", "b"])
        outcome = cases.train_head(numbers, split, Recipe(epochs=4, batch_size=10), devices.find(), run, report=report)
        losses = [(epoch["loss"], epoch["validation_loss"]) for epoch in outcome.history]
        return outcome.classifier.kernel.numpy(), losses

    # The second one under a name that TensorFlow takes for a pattern.
    names = ("straight", "st*pp[e]d")
    straight, stopped = (runs.begin("script", {}, "", "", tmp_path / name) for name in names)
    kernel, losses = trained_in(straight)
    with pytest.raises(KeyboardInterrupt):
        trained_in(stopped, stop_after=3)
    again, again_losses = trained_in(stopped)
    np.testing.assert_array_equal(again, kernel)
    assert again_losses == losses and len(losses) == 4
    (data,) = (stopped / "checkpoint").glob("ckpt-4.data-*")
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    assert "changed after it was written" in in_one_line(trained_in, stopped)


@pytest.mark.parametrize("killed_in, losses, kept", [
    ((checkpoints, "write"), [0.6, 0.5, 0.7], 1),  # again, as in a run of another length, epoch 2 is no better
    ((heads, "save"), [0.6, 0.5], 2),  # and it is not trained again
])  # fmt: skip
def test_the_result_is_the_epoch_that_the_history_says(killed_in, losses, kept, tmp_path, monkeypatch, capsys):
    """Though the process was killed while it kept its second epoch."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    numbers, labels = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), np.arange(40) % 2
    split = Split(made_up(labels, ["a", "b"]), np.arange(40), np.arange(40))
    origin = heads.Provenance(
        "googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "made up", 0.5, 32, "whole", 0
    )
    folder, kernels, calls = runs.begin("script", {}, "", "", tmp_path / "run"), [], []
    losses, keep = iter(losses), getattr(*killed_in)

    def validate(*_):
        if (folder / heads.FILE).exists() and not kernels:
            kernels.append(heads.load(folder).kernel)  # of epoch 1
        return [next(losses), 0.5]

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        keep(*arguments)

    def trained():
        recipe = Recipe(epochs=2, batch_size=10, patience=5)
        return cases.train_head(numbers, split, recipe, devices.find(), runs.Run(folder, origin, ["a", "b"]))

    monkeypatch.setattr(loop, "validate", validate)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*killed_in, dying)
        trained()
    outcome = trained()
    assert outcome.kept == kept and not list(losses)
    assert ("Nothing is left to train" in capsys.readouterr().out) == (kept == 2)
    kernels.append(outcome.classifier.folded()[0])  # of epoch 2
    np.testing.assert_array_equal(heads.load(folder).kernel, kernels[kept - 1])
    assert not np.array_equal(*kernels)


def test_a_finished_run_that_goes_on_keeps_what_was_said_of_its_result(tmp_path, monkeypatch):
    """The accuracy on all images, and by the file's hash what is known of those of training."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    numbers, labels = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), np.arange(40) % 2
    split = Split(made_up(labels, ["a", "b"]), np.arange(40), np.arange(40))
    origin = heads.Provenance(
        "googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "made up", 0.5, 32, "whole", 0
    )
    run = runs.Run(runs.begin("script", {}, "", "", tmp_path / "run"), origin, ["a", "b"])
    recipe = Recipe(epochs=2, batch_size=10)
    cases.train_head(numbers, split, recipe, devices.find(), run)
    run.remember(0.75)
    before = (run.folder / heads.FILE).read_bytes()
    monkeypatch.setattr(loop, "one_epoch", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        cases.train_head(numbers, split, recipe._replace(epochs=3), devices.find(), run)
    assert (run.folder / heads.FILE).read_bytes() == before


@pytest.mark.parametrize("share", [pytest.param(0.003, marks=pytest.mark.slow), 0.1])
def test_the_l2_penalty_is_scikit_learn_s(share):
    """Of the mean loss: C = 1 / (2 * share * images)."""
    features, labels = load_digits(return_X_y=True)
    features, labels = (features / 16).astype(np.float32), labels.astype(np.int64)
    rows = np.arange(len(labels))
    split = Split(made_up(labels, [str(i) for i in range(10)]), rows, rows)
    recipe = Recipe(epochs=40, learning_rate=0.01, l2=share, standardize=False)
    outcome = cases.train_head(features, split, recipe, devices.find())
    theirs = LogisticRegression(C=1 / (2 * share * len(rows)), max_iter=2000).fit(features, labels)
    ours = np.linalg.norm(outcome.classifier.kernel.numpy())
    assert ours == pytest.approx(np.linalg.norm(theirs.coef_), rel=0.05)


def test_a_diverging_loss_stops_with_advice():
    features = np.full((64, 4), 1e30, np.float32)
    rows = np.arange(64)
    split = Split(made_up(rows % 2, ["a", "b"]), rows, rows)
    with pytest.raises(BadInput, match="--learning_rate"):
        cases.train_head(features, split, Recipe(learning_rate=1e10, standardize=False), devices.find())


def test_mean_and_spread_equal_numpy():
    numbers = np.random.default_rng(0).normal(5, 3, (5000, 7)).astype(np.float32) * np.arange(7, dtype=np.float32)
    rows, here = np.arange(0, 5000, 2), devices.find()
    mean, spread = features.mean_and_spread(numbers, rows, here)
    np.testing.assert_allclose(mean, numbers[rows].mean(0), rtol=1e-5)
    assert spread == pytest.approx(np.sqrt(numbers[rows].var(0).mean()), rel=1e-5)
    assert features.mean_and_spread(np.ones((4, 2), np.float32), np.arange(4), here)[1] == 1  # nothing varies


@pytest.fixture(scope="module")
def network(alexnet_weights):
    return alexnet.AlexNet(alexnet_weights)


def test_frozen_is_frozen_and_every_image_runs_once(network, monkeypatch, tmp_path):
    dataset = tracked(tracks_per_class=3, images=2, classes=3)
    rng = np.random.default_rng(0)
    dataset = dataset._replace(images=rng.integers(0, 256, (len(dataset.labels), 32, 32, 3), dtype=np.uint8))
    seen, frozen = [], fast.frozen

    def counting(*arguments):
        compute = frozen(*arguments)
        return lambda batch: seen.append(batch) or compute(batch)

    monkeypatch.setattr(fast, "frozen", counting)
    before = {variable.name: variable.numpy().copy() for variable in network.variables}
    split, here = splits.split(dataset, "track", 0), devices.find()
    origin = trained.provenance_of(network, "fc7", "random", 0, "made up", Framing(32))
    run = runs.Run(runs.begin("script", {}, "", "", tmp_path / "run"), origin, dataset.class_names)
    vectors = features.shared_features(network, dataset.images, "fc7", origin, here, cache=None)
    outcome = cases.train_head(vectors, split, Recipe(epochs=3, batch_size=4), here, run)
    run.end(outcome.history, outcome.kept)
    assert len(before) == 16
    for variable in network.variables:
        np.testing.assert_array_equal(variable.numpy(), before[variable.name])
    np.testing.assert_array_equal(np.concatenate(seen), dataset.images)  # each once, in three epochs

    head = heads.load(tmp_path / "run")
    assert head.class_names == dataset.class_names and head.kernel.shape == (4096, 3)
    assert head.provenance.layer == "fc7" and head.provenance.trained_on == "made up"
    logits = head.logits(network.activations(dataset.images[split.validation], layer="fc7").numpy())
    accuracy = (logits.argmax(1) == dataset.labels[split.validation]).mean()
    assert head.provenance.validation_accuracy == pytest.approx(accuracy)


def test_features_do_not_depend_on_the_batch_size(network):
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    origin = trained.provenance_of(network, "fc7", "random", 0)
    one = features.frozen_features(network, images, "fc7", origin, None, batch_size=3)[:]
    two = features.frozen_features(network, images, "fc7", origin, None, batch_size=7)[:]
    assert one.shape == (7, 4096) and one.dtype == np.float32
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(two).max())


def test_the_end_of_a_training_mentions_large_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    monkeypatch.setattr(feature_store, "FEATURES_DIR", tmp_path / "features")
    assert results.next_step(tmp_path / "mine", False, ["a"]).startswith("Kept in mine\nNext: python ")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "a.npy").write_bytes(bytes(3000))
    assert results.large_features() == ""
    monkeypatch.setattr(results, "MENTIONED", 2000)
    expected = "features holds 0.0 GB; python -m transfer.clean tells and deletes\nKept in mine\nNext: python "
    assert results.next_step(tmp_path / "mine", True, ["a"]).startswith(expected)


def test_without_a_run_the_classifier_ends_with_its_best_epoch_or_its_last(capsys):
    """A learning rate that diverges slowly: the first epoch is the best, and its weights are what remains."""
    rng = np.random.default_rng(0)
    numbers, labels = rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 2, 200)
    split = Split(made_up(labels, ["a", "b"]), np.arange(100), np.arange(100, 200))

    def ended(keep_last):
        recipe = Recipe(epochs=20, batch_size=10, learning_rate=0.5, patience=3, keep_last=keep_last)
        outcome = cases.train_head(numbers, split, recipe, devices.find())
        probabilities = predict(outcome.classifier, numbers, split.validation, devices.find())
        loss = -np.log(probabilities[np.arange(100), labels[100:]]).mean()
        return loss, outcome.kept, [epoch["validation_loss"] for epoch in outcome.history]

    loss, kept, losses = ended(keep_last=False)
    assert f"Stopped after epoch {len(losses)} of 20: no lower validation loss for 3 epochs" in capsys.readouterr().out
    assert kept < len(losses) and loss == pytest.approx(min(losses), rel=1e-4)
    loss, kept, losses = ended(keep_last=True)
    assert kept == len(losses) and loss == pytest.approx(losses[-1], rel=1e-4)
