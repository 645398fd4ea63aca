"""Distillation: what a teacher says, and whom it may teach."""

import numpy as np
import pytest
from conftest import in_one_line

from data import drawn_signs
from data.datasets import Dataset
from data.splits import Split
from googlenet import GoogLeNet
from transfer import cases, devices, features, runs, teacher, trained
from transfer.recipe import Recipe
from weights import cards, heads

ROWS = np.arange(24)


@pytest.fixture(scope="module")
def signs():
    images, labels = drawn_signs.draw(per_class=8, seed=1)
    images = images.reshape(43, 8, 32, 32, 3)[[14, 17, 12]].reshape(-1, 32, 32, 3)
    return Dataset(images, np.repeat(np.arange(3), 8), ["stop", "no entry", "priority"], None, "three signs")


@pytest.fixture(scope="module")
def network():
    return GoogLeNet.load(cards.GOOGLENET, "random", image_size=32)


@pytest.fixture(scope="module")
def known(signs, network, tmp_path_factory):
    """(folder of a run on GoogLeNet with random weights, its pool5 features)."""
    folder, here = tmp_path_factory.mktemp("teacher") / "run", devices.find()
    origin = trained.provenance_of(network, "pool5", "random", 0)
    run = runs.Run(runs.begin("script", {}, "", "", folder), origin, signs.class_names)
    vectors = features.shared_features(network, signs.images, "pool5", origin, here, cache=None)
    cases.train_head(vectors, Split(signs, ROWS, ROWS), Recipe(epochs=40, learning_rate=0.01), here, run)
    return folder, vectors


def test_its_logits_are_those_of_its_head(signs, network, known):
    rows = np.array([5, 0, 17])
    found = teacher.load(known[0], Split(signs, ROWS, ROWS), devices.find(), cache=None)[rows]
    expected = heads.load(known[0]).logits(network.activations(signs.images[rows], layer="pool5").numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    assert (found.argmax(1) == signs.labels[rows]).all()


def test_it_teaches_the_same_classes_only(signs, known, tmp_path):
    others = signs._replace(class_names=["halt", *signs.class_names[1:]])
    assert "same classes" in in_one_line(teacher.load, known[0], Split(others, ROWS, ROWS), devices.find())
    assert "no such file" in in_one_line(teacher.load, tmp_path / "nowhere", Split(signs, ROWS, ROWS), devices.find())


def test_it_is_not_led_to_a_file_elsewhere(signs, known, tmp_path):
    """A head from elsewhere names its network's weights anywhere: they have to be named again."""
    head = heads.load(known[0])
    stranger = head._replace(provenance=head.provenance._replace(weights="/etc/weights.npz"))
    heads.save(stranger, tmp_path / "head.npz")
    assert "--teacher_weights" in in_one_line(teacher.load, tmp_path, Split(signs, ROWS, ROWS), devices.find())
    taught = teacher.load(tmp_path, Split(signs, ROWS, ROWS), devices.find(), cache=None, weights="random")
    assert (taught[ROWS].argmax(1) == signs.labels).all()


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_student_learns_from_it_and_from_labels(share, signs, known, capsys):
    """All labels are wrong: a student of the teacher alone answers like the teacher, one without it like the labels."""
    wrong = signs._replace(labels=(signs.labels + 1) % 3)
    here = devices.find()
    taught = teacher.load(known[0], Split(wrong, ROWS, ROWS), here, cache=None)
    assert "accuracy 0.000 of the validation images, 1.000 in its own run" in capsys.readouterr().out
    recipe = Recipe(epochs=40, learning_rate=0.01, teacher_share=share)
    outcome = cases.train_head(known[1], Split(wrong, ROWS, ROWS), recipe, here, teacher=taught)
    accuracy = outcome.history[-1]["validation_accuracy"]
    assert accuracy < 0.1 if share else accuracy > 0.9
