"""Splitting, extracting, training a head, keeping it; against scikit-learn and plain NumPy."""

import argparse

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import alexnet
import train_feature_extraction as script
from common.files import BadInput
from data import datasets
from data.datasets import Dataset
from transfer import devices, fast, features
from weights import heads


def tracked(tracks_per_class=6, images=30, classes=4):
    labels = np.repeat(np.arange(classes), tracks_per_class * images)
    tracks = np.repeat(np.arange(classes * tracks_per_class), images)
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Dataset(images, labels, [str(i) for i in range(classes)], tracks, "made up")


def flags(**changed):
    common = dict(weights=None, demo=False, as_published=False, seed=0, epochs=3, batch_size=4, learning_rate=0.001,
                  l2=0.0, no_cache=True, cache=None, network="alexnet", precision="float32", layer="fc7", train="head",
                  from_scratch=False, image_size=None, patience=0, augment=False, flip=False, no_dropout=True, out=None,
                  lower_learning_rate=0.0001, weight_decay=0.0, head_epochs=0, training_dir=None, test_file=None,
                  plot=False, logdir=None)  # fmt: skip
    return argparse.Namespace(**{**common, **changed})


@pytest.mark.parametrize("as_published", [False, True])
def test_head_is_as_good_as_scikit_learn(as_published, capsys):
    features, labels = load_digits(return_X_y=True)
    features = (features / 16).astype(np.float32)
    labels = labels.astype(np.int64)
    rows, held_out = np.arange(1200), np.arange(1200, len(labels))
    head = heads.untrained(64, [str(i) for i in range(10)])
    args = flags(epochs=60, batch_size=128, learning_rate=0.01, as_published=as_published)
    trained, history = script.train_head(head, features * 3 + 1, labels, rows, held_out, args)
    head = heads.Head(*trained.folded(), head.class_names, {})
    accuracy = history[-1]["validation_accuracy"]
    theirs = LogisticRegression(C=10, max_iter=2000).fit(features[rows], labels[rows])
    theirs = theirs.score(features[held_out], labels[held_out])
    assert abs(accuracy - theirs) < 0.02 and accuracy > 0.9
    logits = head.logits(features[held_out] * 3 + 1)
    assert accuracy == pytest.approx((logits.argmax(1) == labels[held_out]).mean())
    shifted = logits - logits.max(1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(held_out)), labels[held_out]]).mean()
    printed = capsys.readouterr().out
    assert printed.count("Epoch ") == 60 and printed.startswith("Epoch 1\nTime: ")
    assert f"Validation Loss = {loss:.3f}\nValidation Accuracy = {accuracy:.3f}\n" in printed


def test_a_diverging_loss_stops_with_advice():
    features = np.full((64, 4), 1e30, np.float32)
    labels = np.arange(64) % 2
    rows = np.arange(64)
    with pytest.raises(BadInput, match="--learning_rate"):
        args = flags(learning_rate=1e10, as_published=True)
        script.train_head(heads.untrained(4, ["a", "b"]), features, labels, rows, rows, args)


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


def test_frozen_is_frozen_and_every_image_runs_once(network, alexnet_weights, monkeypatch, tmp_path, capsys):
    dataset = tracked(tracks_per_class=3, images=2, classes=3)
    rng = np.random.default_rng(0)
    dataset = dataset._replace(images=rng.integers(0, 256, (len(dataset.labels), 32, 32, 3), dtype=np.uint8))
    seen, frozen = [], fast.frozen

    def counting(*arguments):
        compute = frozen(*arguments)
        return lambda batch: seen.append(batch) or compute(batch)

    monkeypatch.setattr(fast, "frozen", counting)
    monkeypatch.setattr(script, "load_network", lambda args, image_size: network)
    before = {variable.name: variable.numpy().copy() for variable in network.variables}
    _, rows, held_out = datasets.split(dataset, "track", 0)
    script.train_case(flags(out=tmp_path / "run"), None, "script", dataset, rows, held_out)
    assert len(before) == 16
    for variable in network.variables:
        np.testing.assert_array_equal(variable.numpy(), before[variable.name])
    np.testing.assert_array_equal(np.concatenate(seen), dataset.images)  # each once, in three epochs

    head = heads.load(tmp_path / "run")
    assert head.class_names == dataset.class_names and head.kernel.shape == (4096, 3)
    assert head.settings["layer"] == "fc7" and head.settings["trained_on"] == "made up"
    logits = head.logits(network.activations(dataset.images[held_out], layer="fc7").numpy())
    accuracy = (logits.argmax(1) == dataset.labels[held_out]).mean()
    assert head.settings["validation_accuracy"] == pytest.approx(accuracy)
    assert f"Validation Accuracy = {accuracy:.3f}" in capsys.readouterr().out


def test_features_do_not_depend_on_the_batch_size(network):
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    one = features.frozen_features(network, images, flags(), "fc7", batch_size=3)[:]
    two = features.frozen_features(network, images, flags(), "fc7", batch_size=7)[:]
    assert one.shape == (7, 4096) and one.dtype == np.float32
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(two).max())


def test_heads_are_kept_and_damage_is_told(tmp_path):
    settings = {"network": "vgg", "layer": "avg_pool", "image_size": 224, "as_published": False, "precision": "float32",
                "weights": None, "seed": 0, "fingerprint": "0", "trained_on": "signs", "validation_accuracy": 0.5,
                "picture_size": 32, "crop": False}  # fmt: skip
    head = heads.untrained(512, ["Halt", "Vorfahrt gewähren"], seed=3, settings=settings)
    path = tmp_path / "head.npz"
    heads.save(head, path)
    again = heads.load(path)
    np.testing.assert_array_equal(again.kernel, head.kernel)
    assert again.class_names == head.class_names and again.settings == head.settings
    assert [file.name for file in tmp_path.iterdir()] == ["head.npz"]

    whole = path.read_bytes()
    for content, expected in [
        (whole[:200], "damaged"), (b"", "damaged"), (b"text", "damaged"), (whole[:-100] + b"x" * 100, "damaged")
    ]:  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(BadInput, match=expected) as error:
            heads.load(path)
        assert "\n" not in str(error.value) and "head.npz" in str(error.value)
    for changed, expected in [
        (head._replace(bias=np.zeros(3, np.float32)), "do not belong together"),
        (head._replace(kernel=head.kernel * np.nan), "not finite"),
        (head._replace(settings={"network": "vgg"}), "does not tell how it was trained"),
        (head._replace(settings=settings | {"network": "lenet"}), "does not tell how it was trained"),
        (head._replace(settings=settings | {"image_size": "224"}), "does not tell how it was trained"),
        (head._replace(settings=["vgg"]), "does not tell how it was trained"),
    ]:
        heads.save(changed, path)
        with pytest.raises(BadInput, match=expected):
            heads.load(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no such file"):
        heads.load(tmp_path / "empty")
    with pytest.raises(BadInput, match="no such file"):
        heads.load(tmp_path / "absent.npz")
