"""transfer/lite.py: LiteRT gives the answers that the scripts give, on signs that nothing was trained on."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED, in_one_line

import feature_extraction
from alexnet import AlexNet
from data import cifar10, datasets, images, splits, traffic_signs
from googlenet import GoogLeNet
from networks.keras_networks import KerasNetwork
from networks.network import pooled
from transfer import calibration, exports, lite, run_files, runs, saved_model
from transfer.trained import Trained
from weights import cards, heads, reading

REAL_SIGNS, REAL_WEIGHTS = SHARED / "data/gtsrb_train.npz", SHARED / "weights/bvlc_googlenet.npz"
SIDE, LAYER = 48, "inception_3a"  # pixels; small and early, for quick tests. Signs have 32 and are enlarged
WHOLE = images.Framing(32)


def provenance(network, layer, trained_on="noise", framing=WHOLE):
    facts = {"network": network.card.name, "layer": layer, "image_size": network.image_size, "precision": "float32",
             "as_published": False, "weights": "random", "fingerprint": "0" * 16, "trained_on": trained_on}  # fmt: skip
    return heads.Provenance(**facts, seed=0, validation_accuracy=0.5, **framing._asdict())


def features_of(network, layer, batch):
    pieces = [batch[first : first + 128] for first in range(0, len(batch), 128)]
    return np.concatenate([pooled(network.activations(piece, layer=layer)).numpy() for piece in pieces])


def fitted(network, layer, batch, labels, class_names):
    """A head by ridge regression, as good as a trained one here and made in an instant."""
    x = features_of(network, layer, batch)
    mean, spread = x.mean(axis=0), x.std()
    x = (x - mean) / spread
    targets = np.eye(len(class_names), dtype=np.float32)[labels]
    kernel = x.T @ np.linalg.solve(x @ x.T + 0.003 * x.shape[1] * np.eye(len(x)), targets)
    kernel = np.float32(10 * kernel / spread)
    return heads.Head(kernel, -mean @ kernel, class_names, provenance(network, layer))


def answers(network, head, batch):
    """(N, classes), as the scripts compute them."""
    return tf.nn.softmax(head.logits(features_of(network, head.provenance.layer, batch))).numpy()


@pytest.fixture(scope="module")
def drawn():
    """(network, head on an early layer, training images, held-out images)"""
    network = GoogLeNet(reading.load(cards.GOOGLENET, "random", seed=3), image_size=SIDE)
    signs = traffic_signs.drawn(per_class=36)
    ten = np.isin(signs.labels, cifar10.DRAWN)  # that differ in shape and colour
    pictures, labels = signs.images[ten], np.repeat(np.arange(10), 36)
    training = np.arange(360) % 36 < 24
    names = [signs.class_names[label] for label in cifar10.DRAWN]
    head = fitted(network, LAYER, pictures[training], labels[training], names)
    accuracy = np.mean(answers(network, head, pictures[~training]).argmax(axis=1) == labels[~training])
    assert accuracy > 0.7  # chance is 0.1: there is something to lose
    return network, head, pictures[training], pictures[~training]


def exported(network, head, folder, shown_to=None):
    """(what was written, the path of the model)"""
    path = folder / "signs.tflite"
    return lite.export(network, head, path, folder / "signs.txt", shown_to), path


def same(path, network, head, batch, lead=0.0):
    """The share of images for which the file gives the answer that the scripts give; the largest difference.

    lead: pass over images whose two most probable classes are closer than this. Any rounding may turn those.
    """
    found, _ = lite.answers_of(path.read_bytes(), batch)
    expected = answers(network, head, batch)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second >= lead
    assert clear.mean() > 0.5
    return np.mean((found.argmax(axis=1) == expected.argmax(axis=1))[clear]), np.abs(found - expected).max()


def test_float16_answers_as_the_scripts_do(drawn, tmp_path, capsys):
    """And what is printed about it is so."""
    network, head, _, held_out = drawn
    path, labels = tmp_path / "signs.tflite", tmp_path / "signs.labels.txt"
    exports.write(Trained(network, head, tmp_path), path)
    first, given, got = capsys.readouterr().out.splitlines()
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    speed = r"\d+\.\d ms per image on one thread of this machine"
    assert re.fullmatch(f"Exported to {re.escape(str(path))}: float16, {size}, {speed}", first)
    how = "red, green, blue, upright, on white where transparent"  # as image files are read for training
    assert given == f"Input: uint8 (1, 32, 32, 3), {how}: the whole image, resized to 32 x 32 pixels"
    assert got == f"Output: probabilities (1, 10), in the order of {labels}"
    share, difference = same(path, network, head, held_out)
    print(f"{first}; {share:.4f} the same")
    assert share >= 0.99 and difference < 0.02
    assert labels.read_text(encoding="utf-8").splitlines() == head.class_names
    assert sorted(tmp_path.iterdir()) == [labels, path]
    interpreter = lite.interpreter(path.read_bytes())
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["shape"].tolist(), given["dtype"]) == ([1, 32, 32, 3], np.uint8)
    assert (got["shape"].tolist(), got["dtype"]) == ([1, 10], np.float32)


def test_int8_answers_nearly_as_the_scripts_do(drawn, tmp_path):
    network, head, shown_to, held_out = drawn
    written, path = exported(network, head, tmp_path, shown_to)
    assert written.size == path.stat().st_size and written.milliseconds > 0
    share, _ = same(path, network, head, held_out)
    print(f"int8: {written.size / 1e6:.2f} MB, {written.milliseconds:.2f} ms, {share:.4f} the same")
    assert share >= 0.97
    assert len(written.answers) == len(shown_to)
    weights = sum(variable.shape.num_elements() for variable in network.variables_between(None, LAYER))
    assert weights + head.kernel.size < written.size < 1.5 * (weights + head.kernel.size)  # about one byte each


@pytest.mark.slow
@pytest.mark.skipif(not (REAL_SIGNS.exists() and REAL_WEIGHTS.exists()), reason="real signs and weights are not here")
@pytest.mark.parametrize("layer, lead", [("pool3", 0.0), ("pool5", 0.2)])  # pool5 knows a third of the signs, barely
@pytest.mark.parametrize("kind, least", [("float16", 0.99), ("int8", 0.97)])
def test_real_signs(kind, least, layer, lead, tmp_path):
    """GoogLeNet with ImageNet's weights, 1,000 signs of held-out tracks."""
    stored = np.load(REAL_SIGNS)
    signs = datasets.Dataset(stored["features"], stored["labels"].astype(np.int64), traffic_signs.sign_names(),
                             stored["tracks"].astype(np.int64), "signs")  # fmt: skip
    parts = splits.fewer(splits.split(signs, "track", 0), 30, 24, 0)
    network = GoogLeNet(reading.load(cards.GOOGLENET, REAL_WEIGHTS), image_size=64)
    seen, labels = parts.dataset.images[parts.training], parts.dataset.labels[parts.training]
    head = fitted(network, layer, seen, labels, signs.class_names)
    held_out = parts.dataset.images[parts.validation][:1000]
    written, path = exported(network, head, tmp_path, seen[::6] if kind == "int8" else None)
    share, _ = same(path, network, head, held_out, lead)
    print(f"{layer}, {kind}: {written.size / 1e6:.2f} MB, {written.milliseconds:.2f} ms, {share:.4f} the same")
    assert share >= least


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("name, layer", [("alexnet", "pool5"), ("alexnet", "conv1"), ("googlenet", "pool5"),
                                         ("vgg", "avg_pool"), ("resnet", "avg_pool")])  # fmt: skip
def test_every_network(name, layer, kind, tmp_path):
    """Grouped convolution, local response normalisation, batch normalisation: with LiteRT's own operations."""
    card = cards.CARDS[name]
    if card.application:
        network = KerasNetwork.load(card, "random", image_size=64, features_only=True)
    else:
        network = {"alexnet": AlexNet, "googlenet": GoogLeNet}[name](reading.load(card, "random"), image_size=67)
    signs, others = traffic_signs.drawn(per_class=3), traffic_signs.drawn_test(per_class=3)
    few = signs.labels < 5
    head = fitted(network, layer, signs.images[few], signs.labels[few], signs.class_names[:5])
    _, path = exported(network, head, tmp_path, signs.images[few] if kind == "int8" else None)
    share, difference = same(path, network, head, others.images[:60], lead=0.2)  # a head that learned from 15 images
    print(f"{name}, {kind}: {share:.3f} the same, largest difference {difference:.3f}")
    assert share >= (0.99 if kind == "float16" else 0.95)


def test_what_lies_there_is_kept(drawn, tmp_path):
    network, head, *_ = drawn
    for name in "signs.tflite", "signs.txt":
        (tmp_path / name).write_text("mine")
        assert f"{name}: exists already" in in_one_line(exported, network, head, tmp_path)
        assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]
        (tmp_path / name).unlink()
    (tmp_path / "file").touch()
    assert "cannot be written" in in_one_line(exported, network, head, tmp_path / "file")


@pytest.mark.slow
def test_a_saved_model_converts(drawn, tmp_path):
    """What `--export DIR` writes has nothing in it that other tools do not know."""
    network, head, _, held_out = drawn
    head = head._replace(provenance=provenance(network, LAYER, framing=images.as_trained("squeeze", SIDE, 224)))
    saved_model.export(network, head, tmp_path / "model")
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model")).convert()
    classify = lite.interpreter(content).get_signature_runner()
    model = tf.saved_model.load(str(tmp_path / "model"))
    for height, width in (32, 32), (90, 61):
        batch = np.resize(held_out, (3, height, width, 3))
        found, expected = classify(images=batch)["probabilities"], model(batch)["probabilities"]
        np.testing.assert_allclose(found, expected, atol=0.02)  # rounded pixels may differ by 1


def test_onnx_answers_as_the_scripts_do(drawn, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from transfer import onnx_file

    network, head, _, held_out = drawn
    path = tmp_path / "signs.onnx"
    assert onnx_file.export(network, head, path) == path.stat().st_size
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {"images": ["N", *held_out.shape[1:]], "probabilities": ["N", len(head.class_names)]}
    (found,) = session.run(None, {"images": held_out})
    np.testing.assert_allclose(found, answers(network, head, held_out), atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == head.class_names
    assert "exists already" in in_one_line(onnx_file.export, network, head, path)


def test_onnx_without_the_converter(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install tf2onnx" in in_one_line(exports.check, tmp_path / "signs.onnx")


def test_a_framing_in_words():
    framings = [images.Framing(64, "squeeze", 73), images.Framing(224, "crop", 256), images.Framing(64, "squeeze", 0)]
    assert [images.described(framing) for framing in framings] == [
        "the whole image squeezed to 73 x 73 pixels, of which the middle 64 x 64 pixels; images with sides of 64 to 73 "
        "pixels are not resized, only cut",
        "the middle square of the image, resized to 256 x 256 pixels, of which the middle 224 x 224 pixels; images "
        "with sides of 224 to 256 pixels are not resized, only cut",
        "the whole image squeezed to 64 x 64 pixels",
    ]
    small = np.random.default_rng(0).integers(0, 256, (64, 73, 3), dtype=np.uint8)
    np.testing.assert_array_equal(images.frame(small, framings[0]), small[:, 4:68])


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """A function: flags -> the folder of a run that this machine began."""
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    return lambda **flags: runs.begin("train_feature_extraction", flags, "", "", tmp_path / "run")


def of_signs(head, origin):
    return head._replace(class_names=traffic_signs.sign_names(), provenance=origin)


def drawing(drawn):
    return traffic_signs.SOURCE._replace(drawn=lambda per_class=30, seed=0: drawn(seed))


def test_calibration_images_are_those_of_the_run(drawn, run_of, monkeypatch):
    network, head, *_ = drawn
    head = of_signs(head, provenance(network, LAYER, "drawn traffic signs"))
    noise = np.random.default_rng(0).integers(0, 256, (430, 32, 32, 3), dtype=np.uint8)
    signs = datasets.Dataset(noise, np.arange(430) % 43, traffic_signs.sign_names(), np.arange(430), "noise")
    signs = signs._replace(name="drawn traffic signs")
    monkeypatch.setattr(traffic_signs, "SOURCE", drawing(lambda seed: {0: signs, 5: signs}[seed]))
    training = splits.split(signs, "track", 5).training
    found = calibration.find(run_of(demo=True, seed=5, split="track"), head)
    assert found.shape == (calibration.COUNT, 32, 32, 3)
    rows = {image.tobytes() for image in noise[training]}
    assert all(image.tobytes() in rows for image in found)  # and so none that validates


def test_calibration_images_of_a_run_that_held_out_none(drawn, run_of, monkeypatch):
    network, head, *_ = drawn
    head = of_signs(head, provenance(network, LAYER, "drawn traffic signs, none held out"))
    black = np.zeros((86, 32, 32, 3), np.uint8)  # which of them show the same sign is unknown
    signs = datasets.Dataset(black, np.arange(86) % 43, traffic_signs.sign_names(), None, "black")
    monkeypatch.setattr(traffic_signs, "SOURCE", drawing(lambda seed: signs._replace(name="drawn traffic signs")))
    assert calibration.find(run_of(demo=True, seed=0, split="none"), head).shape == (86, 32, 32, 3)


def test_calibration_passes_over_what_is_no_image(drawn, tmp_path):
    """However much of it lies between the images."""
    network, head, shown_to, _ = drawn
    for number, image in enumerate(shown_to[:5]):
        images.Image.fromarray(image).save(tmp_path / f"{number}.png")
    for number in range(2 * calibration.COUNT):
        (tmp_path / f"{number}.xml").write_text("<annotation/>")
    np.testing.assert_array_equal(calibration.find(tmp_path, head, tmp_path), shown_to[:5])


def test_calibration_images_of_a_folder(drawn, run_of, tmp_path):
    """The run's own, or the one that is named; a folder that a run from elsewhere names is left alone."""
    network, head, shown_to, _ = drawn
    head = head._replace(provenance=provenance(network, LAYER, "images of animals"))
    names = ("train/frog/1.png", "train/toad/2.png", "test/frog/3.png", "train/.thumbs/4.png", "../newts/5.png")
    for name, image in zip(names, shown_to):
        path = tmp_path / "animals" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images.Image.fromarray(image).save(path)
    (tmp_path / "animals/train/frog/notes.txt").write_text("green")
    (tmp_path / "animals/train/newt").symlink_to(tmp_path / "newts")  # as in training, followed
    folder = run_of(training_dir=str(tmp_path / "animals"))
    np.testing.assert_array_equal(calibration.find(folder, head), shown_to[[0, 4, 1]])
    np.testing.assert_array_equal(calibration.find(folder, head, tmp_path / "animals/test"), shown_to[2:3])
    np.testing.assert_array_equal(calibration.find(folder, head, tmp_path / "animals/train"), shown_to[[0, 4, 1]])
    assert "--calibrate" in in_one_line(calibration.find, folder, head, tmp_path / "runs")  # holds no images
    (run_files.RUNS_DIR / run_files.KEY).write_bytes(b"another machine's")
    assert "images of animals" in in_one_line(calibration.find, folder, head)


@pytest.mark.parametrize("flags, told", [
    (["--quantize", "int8"], "--export NAME.tflite"),
    (["--quantize", "float16", "--export", "model"], "--export NAME.tflite"),
    (["--calibrate", "x", "--export", "a.tflite"], "--quantize int8"),
    (["--export", "model.keras"], "model.keras: no .keras is written; name a folder"),
    (["--export", "model.H5"], "model.H5: no .h5 is written; name a folder"),
])  # fmt: skip
def test_flags_that_do_not_fit(flags, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["feature_extraction.py", *flags])
    assert told in in_one_line(feature_extraction.main)
    assert not any(tmp_path.iterdir())
