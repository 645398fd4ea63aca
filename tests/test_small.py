"""Small files of weights: both directions against plain NumPy, damage, and the program that makes one."""

import dataclasses
import functools
import shutil
import sys
import time

import numpy as np
import pytest
from conftest import ALEXNET_SHAPES, SMALL_FILE, SMALL_TITLE, in_one_line, lines, refused
from PIL import Image

from caffe_classes import class_names
from common import fetching
from common.errors import BadInput
from common.files import file_hash
from data import own_images
from transfer import loading, packing, shrink
from weights import cards, heads, reading, small

# AlexNet in small: a convolution, two dense layers, a classifier of which 3 of 5 classes are known.
SHAPES = {"conv1": (3, 3, 3, 4), "fc6": (108, 80), "fc7": (80, 64), "fc8": (64, 5)}
CARD = dataclasses.replace(cards.ALEXNET, title="Small net", shapes=SHAPES, flattened={}, caffe_name="")
KNOWN = np.array([0, 2, 3])


def network(seed=0, rank=3):
    """Weights of SHAPES with the known columns of fc8 alone; fc6 and fc7 have this rank, nearly."""
    rng = np.random.default_rng(seed)
    weights = {}
    for layer, shape in (SHAPES | {"fc8": (64, 3)}).items():
        kernel = rng.standard_normal(shape)
        if layer in ("fc6", "fc7"):
            kernel = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1])) + 0.01 * kernel
        weights[layer] = (kernel.astype(np.float32), rng.standard_normal(shape[-1]).astype(np.float32))
    return weights


def written(path, arrays):
    path.write_bytes(packing.archive(arrays))
    return path


def off(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.fixture
def arrays():
    return packing.pack(network(), KNOWN, 6000)


def test_expanding_is_what_the_format_says(tmp_path):
    """Against sums of outer products in float64, number by number."""
    rng = np.random.default_rng(1)
    arrays = {"small": np.int8(1), "classes": KNOWN.astype(np.int16)}
    expected = {}
    for layer, shape in (SHAPES | {"fc8": (64, 3)}).items():
        bias = rng.standard_normal(shape[-1]).astype(np.float32)
        if layer in ("fc6", "fc7"):
            left, right = (rng.integers(-127, 128, (5, side), np.int8) for side in shape)
            exponents, scale = rng.integers(0, 7, 5, np.int8), rng.random(shape[0]).astype(np.float32)
            total = sum(2.0 ** exponents[k] * np.outer(left[k].astype(int), right[k].astype(int)) for k in range(5))
            kernel = (total * scale[:, None].astype(np.float64)).astype(np.float32)
            arrays |= {f"{layer}/left": left, f"{layer}/right": right, f"{layer}/exponents": exponents}
        else:
            numbers, scale = rng.integers(-127, 128, shape, np.int8), rng.random(shape[-1]).astype(np.float32)
            kernel = (numbers * scale.astype(np.float64)).astype(np.float32)
            arrays[f"{layer}/bytes"] = numbers
        arrays |= {f"{layer}/scale": scale, f"{layer}/biases": bias}
        expected[layer] = kernel, bias
    weights = reading.load(CARD, written(tmp_path / "a.npz", arrays))
    for layer in ("conv1", "fc6", "fc7"):
        for one, other in zip(weights[layer], expected[layer]):
            assert one.dtype == np.float32 and np.array_equal(one, other)
            assert not one.flags.writeable
    kernel, bias = weights["fc8"]
    assert np.array_equal(kernel[:, KNOWN], expected["fc8"][0]) and not kernel[:, [1, 4]].any()
    assert np.array_equal(bias[KNOWN], expected["fc8"][1]) and (bias[[1, 4]] == small.UNKNOWN).all()


def test_packing_and_expanding(tmp_path, arrays):
    weights, path = network(), written(tmp_path / "a.npz", arrays)
    assert path.stat().st_size <= 6000
    expanded = reading.load(CARD, path)
    for layer in ("conv1", "fc6", "fc7"):
        assert off(expanded[layer][0], weights[layer][0]) < 0.02
        assert np.array_equal(expanded[layer][1], weights[layer][1])
    assert off(expanded["fc8"][0][:, KNOWN], weights["fc8"][0]) < 0.02


def test_fewer_bytes_cost_accuracy():
    weights = network(rank=64)
    sizes, errors = [], []
    for most in (6000, 9000, 16_000):
        arrays = packing.pack(weights, KNOWN, most)
        sizes.append(len(packing.archive(arrays)))
        errors.append(off(small.product(*(arrays[f"fc6/{part}"] for part in ("left", "right", "exponents", "scale"))),
                          weights["fc6"][0]))  # fmt: skip
        assert sizes[-1] <= most
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and errors[0] > 5 * errors[-1]
    assert "1,000 bytes: too few" in in_one_line(packing.pack, weights, KNOWN, 1000)


def test_images_show_what_matters():
    """Inputs that live in a few directions, far from 0: the same bytes then keep their outputs better."""
    weights, rng = network(rank=64), np.random.default_rng(2)
    inputs = np.maximum(rng.standard_normal((800, 4)) @ rng.standard_normal((4, 108)) + 3, 0).astype(np.float32)
    seen, others = inputs[:600], inputs[600:]

    def error(arrays):
        ours, theirs = others, others
        for layer in ("fc6", "fc7"):
            kernel = small.product(*(arrays[f"{layer}/{part}"] for part in ("left", "right", "exponents", "scale")))
            ours = np.maximum(ours @ kernel + arrays[f"{layer}/biases"], 0)
            theirs = np.maximum(theirs @ weights[layer][0] + weights[layer][1], 0)
        return off(ours, theirs)

    arrays = packing.pack(weights, KNOWN, 7000, seen)
    assert len(packing.archive(arrays)) <= 7000
    assert error(arrays) < 0.5 * error(packing.pack(weights, KNOWN, 7000))


def test_the_sums_are_exact_in_any_order(arrays):
    left, right, exponents, scale = (arrays[f"fc6/{part}"] for part in ("left", "right", "exponents", "scale"))
    kernel, order = small.product(left, right, exponents, scale), np.arange(len(left))[::-1]
    assert np.array_equal(small.product(left[order], right[order], exponents[order], scale), kernel)
    assert packing.is_exact(left, right, exponents)
    assert not packing.is_exact(np.full((1, 2), 127, np.int8), np.full((1, 2), 127, np.int8), np.array([11], np.int8))


DAMAGE = {
    "another format": {"small": np.int8(2)},
    "a format of another kind": {"small": np.array([1, 1], np.int8)},
    "float bytes": {"conv1/bytes": np.zeros((3, 3, 3, 4), np.float32)},
    "too few scales": {"conv1/scale": np.ones(3, np.float32)},
    "another kernel": {"conv1/bytes": np.zeros((3, 3, 2, 4), np.int8)},
    "no scale": {"conv1/scale": None},
    "no bias": {"fc6/biases": None},
    "no fc7": {"fc7/left": None, "fc7/right": None, "fc7/exponents": None, "fc7/scale": None, "fc7/biases": None},
    "no exponents": {"fc6/exponents": None},
    "too many exponents": {"fc6/exponents": np.zeros(9, np.int8)},
    "the wrong side": {"fc6/right": np.zeros((3, 81), np.int8)},
    "a huge rank": {"fc6/left": np.zeros((5000, 108), np.int8), "fc6/right": np.zeros((5000, 80), np.int8),
                    "fc6/exponents": np.zeros(5000, np.int8)},
    "a scale that is not finite": {"fc6/scale": np.full(108, np.nan, np.float32)},
    "a bias that is not finite": {"fc8/biases": np.full(3, np.inf, np.float32)},
    "a surplus layer": {"fc9/biases": np.zeros(3, np.float32), "fc9/scale": np.ones(3, np.float32),
                        "fc9/bytes": np.zeros((3, 3), np.int8)},
    "no classes": {"classes": None},
    "more classes than columns": {"classes": np.arange(4, dtype=np.int16)},
    "classes in disorder": {"classes": np.array([3, 0, 2], np.int16)},
    "a class twice": {"classes": np.array([0, 2, 2], np.int16)},
    "a class that is not there": {"classes": np.array([0, 2, 5], np.int16)},
    "a class below zero": {"classes": np.array([-1, 2, 3], np.int16)},
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_files_are_refused(what, tmp_path, arrays):
    changed = {name: array for name, array in (arrays | DAMAGE[what]).items() if array is not None}
    message = refused("small weights", reading.load, CARD, written(tmp_path / "a.npz", changed))
    assert "a.npz: is " in message and "--weights" in message


def test_cut_and_flipped_bytes(tmp_path, arrays):
    content, path, rng = packing.archive(arrays), tmp_path / "a.npz", np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)
        for place in rng.integers(0, len(damaged), rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            reading.load(CARD, path)
        except BadInput:
            pass


# --- the program


def test_numbers_of_classes():
    assert list(shrink.numbers_of(["goldfish, Carassius auratus", "goldfish", "TENCH", "great_white_shark"][1:])) == [
        1, 0, 2]  # fmt: skip
    assert list(shrink.numbers_of(["n01443537"], ["n01440764 tench, Tinca tinca", "n01443537 goldfish"])) == [1]
    assert list(shrink.numbers_of(class_names[:134])) == list(range(134))
    assert "none of ImageNet's classes" in in_one_line(shrink.numbers_of, ["a traffic light that talks"])
    assert "--synsets" in in_one_line(shrink.numbers_of, ["n01443537"])
    message = in_one_line(shrink.numbers_of, ["crane"])  # a bird and a machine
    assert "crane: is 2 of" in message and "give its WordNet number, with --synsets" in message
    assert "the same" in in_one_line(shrink.numbers_of, ["goldfish", "Carassius auratus"])


def test_synsets_in_another_order_would_name_every_class_wrongly(tmp_path):
    """Tiny-ImageNet's own list has 200 numbers without names, and the competition's kit another order."""
    lines = [f"n{number:08} {name}" for number, name in enumerate(class_names)]
    shrink.check_synsets(lines)
    assert "has 2 lines; expected" in in_one_line(shrink.check_synsets, ["n02124075", "n04067472"])
    assert "has 0 lines" in in_one_line(shrink.check_synsets, [])
    message = in_one_line(shrink.check_synsets, [lines[1], lines[0], *lines[2:]])
    assert "line 1 is 'n00000001 goldfish" in message and "'tench, Tinca tinca'" in message
    assert "line 1,000" in in_one_line(shrink.check_synsets, [*lines[:-1], "n00000999"])
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbftench\r\ngoldfish\r\n")  # Notepad's
    assert shrink.read_lines(tmp_path / "classes.txt") == ["tench", "goldfish"]


PROVENANCE = heads.Provenance("alexnet", "fc7", 227, False, "float32", "random", 0, "0" * 16, "photos", 0.5, 64,
                              "whole", 0)  # fmt: skip


def test_the_program(tmp_path, monkeypatch, capsys):
    """A network with a head on it as its classifier."""
    card = dataclasses.replace(CARD, shapes=SHAPES | {"fc8": (64, 1000)})
    monkeypatch.setitem(cards.CARDS, "alexnet", card)
    weights = network() | {"fc8": (np.zeros((64, 1000), np.float32), np.zeros(1000, np.float32))}
    reading.save(weights, tmp_path / "network.npz")
    names = ["weasel", "miniature poodle", "goldfish, Carassius auratus"]
    origin = PROVENANCE._replace(fingerprint=reading.fingerprint(weights))
    head = heads.untrained(64, names, provenance=origin)
    heads.save(head, tmp_path / "head.npz")
    out = tmp_path / "small.npz"
    command = ["shrink", tmp_path / "network.npz", "--head", tmp_path / "head.npz", "--out", out, "--megabytes"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "0.01"])
    shrink.main()
    printed = capsys.readouterr().out
    assert f"{out.stat().st_size:,} bytes" in printed and "3 classes; expanded in " in printed
    assert f"SHA-256 {file_hash(out, 'sha256')}" in printed
    kernel, bias = reading.load(card, out)["fc8"]
    for column, name in enumerate(names):
        number = class_names.index(next(each for each in class_names if each.startswith(name)))
        assert off(kernel[:, number], head.kernel[:, column]) < 0.01 and bias[number] == 0
    assert (bias == small.UNKNOWN).sum() == 997
    before = out.read_bytes()
    assert f"{out}: exists already" in in_one_line(shrink.main) and out.read_bytes() == before
    out.unlink()
    monkeypatch.setattr(sys, "argv", [*map(str, command), "0.001"])
    assert "too few" in in_one_line(shrink.main) and not out.exists()


def test_what_is_looked_at_is_mixed_and_not_what_validates(tmp_path, monkeypatch):
    """In the folder's order, a held-out fifth would be a fifth of the classes."""
    monkeypatch.setattr(own_images, "load", functools.partial(own_images.load, cache=None))
    for part, shade in ("train", 0), ("test", 200):
        for number in range(5):
            (tmp_path / "photos" / part / f"{number}").mkdir(parents=True)
            for image in range(24 if part == "train" else 2):
                path = tmp_path / "photos" / part / f"{number}" / f"{image}.png"
                Image.new("RGB", (8, 8), (shade + number, image, 0)).save(path)
    photos = own_images.sample(tmp_path / "photos", cards.ALEXNET.framing, cards.ALEXNET.input_size, 120, seed=0)
    classes = photos[:, 4, 4, 0]
    assert sorted(np.unique(classes)) == [0, 1, 2, 3, 4]  # none of test
    assert len(np.unique(classes[:24])) == 5 and np.bincount(classes).tolist() == [24] * 5
    shutil.rmtree(tmp_path / "photos" / "train" / "0")
    shutil.rmtree(tmp_path / "photos" / "test" / "0")
    assert "holds 96 images, expected 100 or more" in in_one_line(
        own_images.sample, tmp_path / "photos", cards.ALEXNET.framing, cards.ALEXNET.input_size, 120, 0)  # fmt: skip


def test_the_first_dense_layer_of_googlenet(photos):
    weights = reading.random_weights(cards.GOOGLENET)
    assert shrink.inputs_of_dense(weights, cards.GOOGLENET, photos).shape == (2, 1024)


def test_a_sample_of_no_images(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["shrink", "a.npz", "--out", "b.npz", "--sample", "500"])
    assert "--sample: --images is missing" in in_one_line(shrink.parse_arguments)


def test_a_head_that_was_trained_on_another_network():
    """Joined to it, its classes would be chance, and the report compares the pair with itself."""
    weights = network()
    origin = PROVENANCE._replace(fingerprint=reading.fingerprint(weights))
    others = {"layer": "conv1", "network": "googlenet", "fingerprint": "0" * 16}
    expected = [
        "--layer fc7",
        "BVLC GoogLeNet (Inception v1), expected Small net",
        "other weights (random); give those",
    ]
    for (name, value), told in zip(others.items(), expected):
        head = heads.untrained(64, ["weasel"], provenance=origin._replace(**{name: value}))
        assert told in in_one_line(shrink.with_classifier, weights, CARD, head, [], ())
    head = heads.untrained(64, ["weasel"], provenance=origin)
    assert list(shrink.with_classifier(weights, CARD, head, [], ())[1]) == [356]


def test_the_network_of_a_run_is_the_one_its_head_names(tmp_path):
    """Two may lie there for a moment, or after a kill; as text, network-9 comes after network-10."""
    card = dataclasses.replace(CARD, shapes=SHAPES | {"fc8": (64, 3)})
    for epoch in (9, 10):
        reading.save(network(seed=epoch), tmp_path / f"network-{epoch}.npz")
    for epoch in (9, 10):
        origin = PROVENANCE._replace(weights=f"network-{epoch}.npz")
        heads.save(heads.untrained(64, ["weasel"], provenance=origin), tmp_path / heads.FILE)
        np.testing.assert_array_equal(shrink.network_of(tmp_path, card)["fc8"][0], network(seed=epoch)["fc8"][0])
    for weights in ("network-11.npz", "../network.npz", "random", None):
        origin = PROVENANCE._replace(weights=weights)
        heads.save(heads.untrained(64, ["weasel"], provenance=origin), tmp_path / heads.FILE)
        assert "has no network of its own" in in_one_line(shrink.network_of, tmp_path, card)


def test_a_classifier_of_other_widths(tmp_path):
    """fc8 of a file: with all columns, of which the known are taken; with one per class; with another number."""
    card = dataclasses.replace(CARD, shapes=SHAPES | {"fc8": (64, 1000)})
    synsets = ()
    for columns in (1000, 3):
        weights = network() | {"fc8": (np.arange(64 * columns, dtype=np.float32).reshape(64, columns),
                                       np.arange(columns, dtype=np.float32))}  # fmt: skip
        reading.save(weights, tmp_path / "n.npz")
        read = shrink.network_of(tmp_path / "n.npz", card)
        packable, numbers = shrink.with_classifier(read, card, None, ["weasel", "goldfish", "tench"], synsets)
        assert list(numbers) == [0, 1, 356]
        assert list(packable["fc8"][1]) == ([0, 1, 356] if columns == 1000 else [2, 1, 0])
        assert np.array_equal(packable["fc8"][0][0], packable["fc8"][1])
        if columns == 1000:
            assert list(shrink.with_classifier(read, card, None, [], synsets)[1]) == list(range(1000))
    assert "name as many" in in_one_line(shrink.with_classifier, read, card, None, ["tench"], synsets)


# --- the small AlexNet, by name


def test_small_is_a_source_of_weights(small_alexnet, monkeypatch):
    weights = reading.load(cards.ALEXNET, "small")
    assert {layer: kernel.shape for layer, (kernel, _) in weights.items()} == ALEXNET_SHAPES
    assert reading.fingerprint(weights) == reading.fingerprint(reading.load(cards.ALEXNET, small_alexnet))
    assert reading.without_download(cards.ALEXNET) == "small"
    assert reading.without_download(cards.GOOGLENET) == "random"
    assert "of BVLC GoogLeNet (Inception v1) there is none" in in_one_line(reading.load, cards.GOOGLENET, "small")
    assert "of VGG16 there is none; leave it out" in in_one_line(loading.load_network, cards.VGG, "small")

    def fetch(urls, path, sha1=None):
        raise BadInput(f"{path}: could not be fetched")

    monkeypatch.setattr(fetching, "fetch", fetch)
    assert f"or give --weights small, the {SMALL_TITLE}, or --weights random" in in_one_line(
        reading.load, cards.ALEXNET)  # fmt: skip
    monkeypatch.setattr(reading, "file_hash", lambda *_: "0" * 64)
    card = dataclasses.replace(cards.ALEXNET, small=dataclasses.replace(cards.SMALL_ALEXNET, sha256="1" * 64))
    assert "is not the file that is part of" in in_one_line(reading.load, card, "small")
    small_alexnet.unlink()
    assert "no such file, though" in in_one_line(reading.load, cards.ALEXNET, "small")
    assert reading.without_download(cards.ALEXNET) == "random"
    assert "--weights small" not in in_one_line(reading.load, cards.ALEXNET)


def test_only_known_classes_are_named(small_alexnet, run_here):
    printed = run_here("imagenet_inference.py", "--demo", "--top", 1000).stdout
    assert printed.startswith(f"Weights: {SMALL_TITLE}\n\nImage 0: ")
    names, probabilities = lines(printed)
    assert len(names) == 400 and set(names[:200]) == set(names[200:]) == set(class_names[::5])
    assert sum(probabilities[:200]) == pytest.approx(1, abs=0.1)
    random = run_here("imagenet_inference.py", "--demo", "--weights", "random").stdout
    assert random.startswith("Random weights (seed 0)") and lines(random) != lines(printed)


@pytest.mark.slow
def test_a_head_remembers_the_small_alexnet(small_alexnet, tmp_path, run_here):
    training = ["--demo", "--layer", "pool1", "--per_class", 2, "--validation_per_class", 1, "--image_size", 67,
                "--epochs", 1, "--cache", tmp_path / "features", "--out", tmp_path / "run"]  # fmt: skip
    printed = run_here("train_feature_extraction.py", *training).stdout
    assert printed.startswith(f"Weights: {SMALL_TITLE}\n")
    assert heads.load(tmp_path / "run").provenance.weights == "small"
    use = ["feature_extraction.py", "--demo", "--head", tmp_path / "run"]
    assert f"Weights: {SMALL_TITLE}\n" in run_here(*use).stdout
    refused = run_here(*use, "--weights", "random")
    assert refused.returncode == 2 and refused.stderr.startswith("error: random: not the weights that")
    assert "which were small; name those" in refused.stderr


def test_the_file_in_the_repository():
    card = cards.SMALL_ALEXNET
    assert SMALL_FILE.name == card.file and SMALL_FILE.stat().st_size <= 10_000_000
    assert file_hash(SMALL_FILE, "sha256") == card.sha256 and card.command and card.top1
    start = time.perf_counter()
    weights = reading.load(cards.ALEXNET, "small")
    print(f"expanded in {time.perf_counter() - start:.2f} seconds")
    assert (weights["fc8"][1] > small.UNKNOWN).sum() == 200
