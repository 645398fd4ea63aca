"""images/how_much.py, images/random_or_pretrained.py: what is measured, that it is kept, and never measured twice."""

import hashlib
import json
import pathlib
import sys

import numpy as np
import pytest
from conftest import ROOT, in_one_line

from data import splits, traffic_signs
from images import how_much, measurements, random_or_pretrained
from weights import cards

QUICK = ["--dataset", "drawn", "--weights", "random", "--image_size", "32", "--per_class", "1", "2", "--seeds", "0"]


@pytest.fixture(scope="module")
def few_signs():
    """Nine of each class, of which three validate."""
    return traffic_signs.drawn(per_class=9)


@pytest.fixture
def command(few_signs, monkeypatch, tmp_path, capsys):
    """A function that starts a command with these flags, on few images and for few epochs; returns what it prints."""
    monkeypatch.setattr(traffic_signs, "drawn", lambda: few_signs)
    monkeypatch.setitem(how_much.VALIDATED, "drawn", 1)
    monkeypatch.setattr(how_much, "WORK", tmp_path / "work")
    for case in how_much.EPOCHS:
        monkeypatch.setitem(how_much.EPOCHS, case, 2)

    def started(module, *flags):
        kept = ["--out", tmp_path / "found.jsonl", "--cache", tmp_path / "features"]
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, (*flags, *kept))])
        module.main()
        return capsys.readouterr().out

    return started


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_command_that_is_stopped_measures_only_what_is_missing(command, monkeypatch, tmp_path):
    out, measured, asked = tmp_path / "found.jsonl", [], []

    def stopping(path, measurement):
        keep(path, measurement)
        measured.append(measurement)
        if len(measured) == 3:
            raise KeyboardInterrupt

    def pixels(network, images, layers, source, cache):
        asked.append((images, layers, cache))
        return {layer: np.float32(images.reshape(len(images), -1)) / 255 for layer in layers}

    keep = measurements.keep
    monkeypatch.setattr(measurements, "keep", stopping)
    monkeypatch.setattr(measurements, "features_of_layers", pixels)  # stands for the network
    monkeypatch.setattr(how_much, "load_network", lambda point, case, source: "network")
    monkeypatch.setattr(how_much, "seconds_per_image", lambda network, images, layer: 0.5)
    with pytest.raises(KeyboardInterrupt):
        command(how_much, *QUICK, "--cases", "1", "2")
    assert len(lines_of(out)) == 3
    command_again = command(how_much, *QUICK, "--cases", "1", "2")
    found = lines_of(out)
    assert found == measured and len(found) == 4  # the fourth alone was computed
    points = [(each["case"], each["per_class"], each["seed"]) for each in found]
    assert points == [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0)]
    assert found[0].keys() == how_much.KINDS.keys()
    assert {(each["network"], each["weights"], each["validated"]) for each in found} == {("googlenet", "random", 43)}
    assert [each["accuracy"] for each in found[:2]] == [each["accuracy"] for each in found[2:]]  # of the same pixels
    for each in found:
        assert each["epochs"] == 2 and each["accuracy"] > 1 / 43
        assert each["minutes"] > 43 * (each["per_class"] + 1) * 0.5 / 60
    assert "case 2, 2 images per class, seed 0: " in command_again and "case 2, 1 images" not in command_again
    (first, layers, cache), (second, *same) = asked  # the same images, whose features are in the cache
    assert first.shape == (43 * 3, 32, 32, 3) and (first == second).all()
    assert same == [layers, cache] == [["pool3", "pool5"], tmp_path / "features"]

    table = command(how_much, *QUICK, "--cases", "1", "2")
    assert table.startswith("\n| BVLC GoogLeNet (Inception v1), 32 pixels | 1 per class | 2 per class |\n")
    assert len(measured) == 4 and len(asked) == 2  # nothing to do


def test_no_point_is_begun_after_the_limit(command, tmp_path):
    assert command(how_much, *QUICK, "--cases", "1", "--minutes", "0") == ""
    assert not (tmp_path / "found.jsonl").exists()


@pytest.mark.slow
def test_all_cases(command, tmp_path):
    flags = [*QUICK[:-4], "2", "--seeds", "0"]
    printed = command(how_much, *flags)
    found = lines_of(tmp_path / "found.jsonl")
    assert [each["case"] for each in found] == [1, 2, 3, 4]
    assert all(each["minutes"] > 0 and each["epochs"] in (1, 2) for each in found)
    assert "| drawn, case 1: head on pool5 |" in printed and "| drawn, case 2: head on pool3 |" in printed
    assert "| drawn, case 3: fine-tuning |" in printed and "| drawn, case 4: from scratch |" in printed
    assert not list((tmp_path / "work").iterdir())


def test_images_are_those_of_the_scripts_and_validation_is_the_same_for_all(few_signs, monkeypatch):
    monkeypatch.setitem(how_much.VALIDATED, "drawn", 2)
    monkeypatch.setattr(traffic_signs, "drawn", lambda: few_signs)
    parts = how_much.load("drawn")
    labels, held = parts.dataset.labels, set(parts.validation)
    rows = {}
    for per_class, seed in (2, 0), (5, 0), (5, 1), (0, 0):
        point = how_much.Point("drawn", "googlenet", "random", 32, 1, per_class, seed)
        rows[per_class, seed] = how_much.chosen_rows(parts, point)
        counts = np.bincount(labels[rows[per_class, seed]])
        assert (counts == (per_class or 6)).all() and not held & set(rows[per_class, seed])
    assert set(rows[2, 0]) < set(rows[5, 0]) != set(rows[5, 1])
    # As train_feature_extraction.py does with --per_class 5 --validation_per_class 2.
    script = splits.fewer(splits.split(few_signs, "track", 0), 5, 2, seed=0)
    np.testing.assert_array_equal(script.dataset.images[script.training], parts.dataset.images[rows[5, 0]])
    np.testing.assert_array_equal(script.dataset.images[script.validation], parts.dataset.images[parts.validation])


def test_table_of_how_much():
    def found(case, per_class, seed, accuracy, minutes):
        results = {"accuracy": accuracy, "validated": 2580, "minutes": minutes, "epochs": 30}
        return how_much.Point("signs", "googlenet", "a.npz", 64, case, per_class, seed)._asdict() | results

    measured = [found(2, 0, 0, 0.9, 12.0), found(2, 10, 0, 0.5, 0.4), found(2, 10, 2, 0.62, 0.2),
                found(4, 10, 0, 0.1, 3), found(2, 10, 1, 0.6, 0.3)]  # fmt: skip
    assert how_much.table(measured, cards.GOOGLENET).splitlines() == [
        "| BVLC GoogLeNet (Inception v1), 64 pixels | 10 per class | all |",
        "| --- | --- | --- |",
        "| signs, case 2: head on pool3 | 0.600 (0.500 to 0.620) | 0.900 |",
        "| signs, case 4: from scratch | 0.100 |  |",
    ]


def test_a_point_that_two_processes_measured_counts_once(tmp_path):
    point = how_much.Point("signs", "googlenet", "a.npz", 64, 2, 10, 0)
    results = {"validated": 2580, "minutes": 1.0, "epochs": 30}
    for accuracy in 0.5, 0.6:
        measurements.keep(tmp_path / "found.jsonl", point._asdict() | results | {"accuracy": accuracy})
    (found,) = how_much.measured(tmp_path / "found.jsonl").values()
    assert found["accuracy"] == 0.6


def test_weights_of_one_name_are_told_apart(tmp_path):
    card = cards.GOOGLENET
    paths = [tmp_path / run / "network-5.npz" for run in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    names = [measurements.name_of_weights(str(path), card) for path in paths]
    assert len(set(names)) == 2 and all(name.startswith("network-5.npz-") for name in names)
    assert measurements.name_of_weights(None, card) == card.file
    assert measurements.name_of_weights("random", card) == "random"
    (tmp_path / "bvlc_googlenet.npz").touch()
    assert measurements.name_of_weights(str(tmp_path / "bvlc_googlenet.npz"), card) == card.file
    notop = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    notop.touch()
    assert measurements.name_of_weights(str(notop), cards.VGG) == cards.VGG.file


def test_all_layers_in_one_pass(tmp_path):
    from transfer import features, loading, trained

    images = traffic_signs.drawn(per_class=1).images[:9]
    network = loading.load_network(cards.ALEXNET, "random", image_size=67, classifier=False)
    found = measurements.features_of_layers(network, images, ["pool5", "pool1", "conv3"], "random", tmp_path)
    assert list(found) == ["pool1", "conv3", "pool5"]
    for layer, vectors in found.items():
        origin = trained.provenance_of(network, layer, "random", seed=0)
        alone = features.frozen_features(network, images, layer, origin, cache=None)[:]
        np.testing.assert_allclose(vectors, alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max(), err_msg=layer)


@pytest.mark.slow
def test_random_or_pretrained(command, monkeypatch, tmp_path):
    monkeypatch.setitem(random_or_pretrained.DATASETS, "drawn", ("drawn signs", 2))
    weights = tmp_path / "pretrained.npz"
    from weights import reading

    reading.save(reading.random_weights(cards.ALEXNET, seed=1), weights)
    name = f"pretrained.npz-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"  # files of one name are told apart
    printed = command(random_or_pretrained, "--dataset", "drawn", "--layers", "pool1", "fc7", "--weights", weights)
    found = lines_of(tmp_path / "found.jsonl")
    assert [(each["weights"], each["layer"]) for each in found] == [
        ("random", "pool1"), ("random", "fc7"), (name, "pool1"), (name, "fc7"),
    ]  # fmt: skip
    assert found[0]["accuracy"] != found[2]["accuracy"]
    table = printed[printed.index("| head on") :].splitlines()
    assert table[2] == f"| fc7 | {found[1]['accuracy']:.3f} against {found[3]['accuracy']:.3f} |"
    weights.unlink()
    assert command(random_or_pretrained, "--dataset", "drawn", "--layers", "fc7").count("\n") == 5  # the table alone


def test_table_of_random_or_pretrained():
    def found(dataset, weights, layer, accuracy):
        results = {"accuracy": accuracy, "trained": 860, "validated": 430, "epochs": 15}
        return random_or_pretrained.Point(dataset, weights, layer)._asdict() | results

    measured = [found("drawn", "random", "pool2", 0.3), found("drawn", "random", "fc7", 0.43),
                found("signs", "random", "fc7", 0.55), found("drawn", "small", "fc7", 0.6),
                found("drawn", "other", "fc7", 0.9)]  # fmt: skip
    assert random_or_pretrained.table(measured, ["random", "small"]).splitlines() == [
        "| head on | drawn signs (the demo's) | real signs, every 8th, by track |",
        "| --- | --- | --- |",
        "| fc7 | 0.430 against 0.600 | 0.550 |",
        "| pool2 | 0.300 |  |",
    ]


KINDS = {"dataset": str, "seed": int, "accuracy": float}
GOOD = {"dataset": "signs", "seed": 0, "accuracy": 1}


@pytest.mark.parametrize(
    "line",
    ["", "{", "[1]", "null", '{"dataset": "signs"}', "[" * 100_000]
    + [json.dumps(GOOD | change) for change in ({"seed": 1.0}, {"seed": True}, {"accuracy": "1"}, {"accuracy": True},
       {"accuracy": float("nan")}, {"dataset": None}, {"more": 1})],
)  # fmt: skip
def test_lines_of_another_kind(tmp_path, line):
    path = tmp_path / "found.jsonl"
    measurements.keep(path, GOOD)
    path.write_text(f"{path.read_text()}{line}\n" if line else path.read_text().rstrip())  # as some editors leave it
    if not line:
        measurements.keep(path, GOOD)
        assert measurements.read(path, KINDS) == [GOOD, GOOD]
    else:
        assert "found.jsonl, line 2: " in in_one_line(measurements.read, path, KINDS)


def test_the_readme_s_tables_are_what_was_measured():
    for module in how_much, random_or_pretrained:
        found = measurements.read(pathlib.Path(module.RESULTS), module.KINDS)
        assert found and all(0 < each["accuracy"] <= 1 for each in found)
    readme = (ROOT / "README.md").read_text()
    for card in cards.GOOGLENET, cards.VGG:
        found = [each for each in how_much.measured(how_much.RESULTS).values() if each["network"] == card.name]
        for row in how_much.table(found, card).splitlines():
            assert row in readme
