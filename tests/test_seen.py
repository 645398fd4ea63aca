"""transfer/seen.py: test images that a classifier was trained on are told, and leave no confidence interval."""

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import in_one_line
from made_archives import signs
from PIL import Image

from data import images, own_images, traffic_signs
from transfer import results, run_files, runs, seen, trained
from weights import heads
from weights.heads import Provenance

FRAMING = images.Framing(8)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A function: data set, class names, flags of a run -> (its head's path, the head)."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")

    def begun(trained_on, class_names, **flags):
        origin = Provenance(
            "alexnet", "fc7", 227, False, "float32", "random", 0, "0" * 16, trained_on, 0.5, 8, "whole", 0
        )
        head = heads.untrained(4, class_names, provenance=origin)
        folder = runs.begin("script", {name: str(value) for name, value in flags.items()}, "", "")
        heads.save(head, folder / heads.FILE)
        return folder / heads.FILE, head

    return begun


@pytest.fixture
def files(tmp_path):
    """train.p, whose last sign of each class is test.p's only one; and other.p of other signs."""
    arrays, last = signs(), np.arange(172) % 4 == 3
    part = {key: array[last] for key, array in arrays.items()}
    for name, content in ("train", arrays), ("test", part), ("other", part | {"features": 255 - part["features"]}):
        (tmp_path / f"{name}.p").write_bytes(pickle.dumps(content))
    return tmp_path


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def animals(tmp_path):
    for seed, name in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        noise(tmp_path / "animals" / name / "a.png", seed)
    return tmp_path / "animals"


def test_signs_of_the_training_file(files, begun, capsys):
    path, head = begun(traffic_signs.NAME, traffic_signs.sign_names(), training_file=files / "train.p")
    assert seen.count(path, head, traffic_signs.load_test(files / "other.p")) == 0 and not capsys.readouterr().out
    assert seen.count(path, head, traffic_signs.load_test(files / "test.p")) == 43
    told = capsys.readouterr().out
    assert told.startswith("Warning: 43 of 43 test images are in ") and "train.p, on which it was trained" in told


def test_own_images_of_the_training_folder(animals, begun, tmp_path, capsys):
    path, head = begun("images of animals/train", ["cat", "dog"], training_dir=animals)
    for name, count in ("train", 2), ("val", 0):
        test = own_images.load(animals / name, FRAMING, head.class_names, cache=tmp_path / "kept")
        assert seen.count(path, head, test, animals / name) == count
        assert ("Warning: 2 of 2 test images are in " in capsys.readouterr().out) == bool(count)
    shutil.copy(animals / "train/cat/a.png", animals / "val/cat/b.png")
    test = own_images.load(animals / "val", FRAMING, head.class_names, cache=tmp_path / "kept")
    assert seen.count(path, head, test, animals / "val") == 1


def test_what_is_gone_or_from_elsewhere_is_left_alone(files, animals, begun):
    test = traffic_signs.load_test(files / "test.p")
    path, head = begun(traffic_signs.NAME, traffic_signs.sign_names(), training_file=files / "train.p")
    (path.parent / run_files.SETTINGS).write_text(
        (path.parent / run_files.SETTINGS).read_text().replace("train.p", "test.p")
    )
    assert seen.count(path, head, test) == 0  # a path that somebody else wrote
    for change in {"training_file": files / "gone.p"}, {"training_file": files}:
        path, head = begun(traffic_signs.NAME, traffic_signs.sign_names(), **change)
        assert seen.count(path, head, test) == 0
    path, head = begun("drawn traffic signs", traffic_signs.sign_names(), training_file=files / "train.p")
    assert seen.count(path, head, test) == 0
    path, head = begun("images of gone", ["cat", "dog"], training_dir=files / "gone")
    assert seen.count(path, head, test, animals / "train") == 0


def test_signs_are_judged_with_the_weights_that_training_was_given(files, begun, monkeypatch):
    """Without them, a head from elsewhere would be refused; but layers that were trained are in the run's folder."""
    path, head = begun(traffic_signs.NAME, traffic_signs.sign_names())
    judged = []
    monkeypatch.setattr(results, "judge", lambda folder, test, weights, *_: judged.append((len(test.labels), weights)))
    results.judge_signs(path.parent, files / "other.p", "mine.npz", None)
    (path.parent / "network-3.npz").touch()
    results.judge_signs(path.parent, files / "other.p", "mine.npz", None)
    heads.save(head._replace(provenance=head.provenance._replace(weights="network-3.npz")), path)
    results.judge_signs(path.parent, files / "other.p", "mine.npz", None)
    assert [weights for _, weights in judged] == ["mine.npz", "mine.npz", None]


def test_an_evaluation_on_them_has_no_interval(files, begun, capsys, monkeypatch):
    path, _ = begun(traffic_signs.NAME, traffic_signs.sign_names(), training_file=files / "train.p")
    asked = []
    right = SimpleNamespace(folder=path.parent, network=SimpleNamespace(image_size=32))
    right.probabilities_of_many = lambda images, cache, view: asked.append(view) or np.eye(43)
    monkeypatch.setattr(trained, "load", lambda *_, **__: right)
    for name, interval in ("test", False), ("other", True):
        results.judge(path, traffic_signs.load_test(files / f"{name}.p"), None, None)
        told = capsys.readouterr().out
        assert ("95% confidence interval" in told) == interval and ("Warning" in told) != interval
    assert asked == [None, None]
    results.judge(path, traffic_signs.load_test(files / "other.p"), None, None, two_views=True)
    assert callable(asked[-1]) and "Each image seen twice, the second time 15% closer; " in capsys.readouterr().out


def test_two_views_are_averaged(monkeypatch):
    """Of a head whose logits are the features, so that their softmax can be written down."""
    monkeypatch.setattr(trained, "frozen_features", lambda network, images, *_: images.reshape(len(images), -1))
    monkeypatch.setattr(trained, "view_of_many", lambda images, view: view(images))
    images = np.log(np.float32([[[1, 3]], [[1, 1]]]))
    head = heads.Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), ["a", "b"],
                      SimpleNamespace(layer="fc7"))  # fmt: skip
    classifier = trained.Trained(None, head, None)
    one = classifier.probabilities_of_many(images, None)
    np.testing.assert_allclose(one, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-5)
    two = classifier.probabilities_of_many(images, None, lambda views: np.zeros_like(views))
    np.testing.assert_allclose(two, [[0.375, 0.625], [0.5, 0.5]], rtol=1e-5)


def test_a_run_that_cannot_be_written_is_told_before_its_network_is_asked(files, begun):
    path, _ = begun(traffic_signs.NAME, traffic_signs.sign_names())
    (path.parent / "test-per_class.csv").mkdir()  # root may write everywhere, so chmod would not do
    refusal = in_one_line(results.judge, path, traffic_signs.load_test(files / "other.p"), None, None)
    assert (
        "test-per_class.csv: cannot be written" in refusal and "copy the run, and name the copy with --head" in refusal
    )
