"""transfer/saved_model.py: what a SavedModel makes of raw images equals what training made of them."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import in_one_line

from alexnet import AlexNet
from common.writing import check_new_folder
from data import images
from googlenet import GoogLeNet
from networks.keras_networks import KerasNetwork
from networks.network import pooled
from transfer import saved_model
from weights import cards, heads, reading

RNG = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 300), (31, 7), (32, 32), (64, 64), (70, 66), (200, 230), (227, 227), (240, 256), (256, 256),
          (300, 200), (375, 500), (512, 512), (600, 90), (1000, 1333)]  # fmt: skip
FRAMINGS = [images.Framing(32), images.Framing(227), images.Framing(227, "crop", 256), images.Framing(64, "crop", 256),
            *(images.as_trained(how, size, 224) for how in ("squeeze", "crop") for size in (32, 64, 224))]  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_served_image_is_framed_as_in_training(framing):
    """But for rounding; recent Pillow resizes some tall images along the other axis first."""
    for height, width in SHAPES:
        batch = RNG.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        served = saved_model.cut(batch, framing).numpy()
        expected = np.stack([images.frame(image, framing) for image in batch])
        assert np.abs(served - expected).max() <= 2, (height, width)
        assert np.mean(served != expected) <= (0.03 if 1 < height <= width else 0.3), (height, width)


SIZE = 64  # pixels; a twelfth of the work
CLASSES = ["a", "b", "größe 花"]


def provenance(card, framing):
    facts = {"network": card.name, "layer": card.bottleneck, "image_size": SIZE, "precision": "float32", "seed": 0,
             "as_published": False, "weights": "random", "fingerprint": "0" * 16, "trained_on": "noise"}  # fmt: skip
    return heads.Provenance(**facts, validation_accuracy=0.5, **framing._asdict())


def untrained(framing):
    """An untrained head, large enough to tell images apart."""
    head = heads.untrained(1024, CLASSES, provenance=provenance(cards.GOOGLENET, framing))
    return head._replace(kernel=head.kernel * 10, bias=np.array([0.1, 0, -0.1], np.float32))


def answers(network, head, batch):
    """What the scripts answer: probabilities (N, classes)."""
    trained = head.provenance
    framing = images.Framing(trained.size, trained.how, trained.resized)
    framed = np.stack([images.frame(image, framing) for image in batch])
    features = pooled(network.activations(framed, layer=trained.layer)).numpy()
    return tf.nn.softmax(head.logits(features)).numpy()


@pytest.fixture(scope="module")
def network():
    return GoogLeNet(reading.load(cards.GOOGLENET, "random", seed=3), image_size=SIZE)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """(SavedModel, head)"""
    head = untrained(images.as_trained("squeeze", SIZE, 224))
    folder = tmp_path_factory.mktemp("export") / "model"
    saved_model.export(network, head, folder)
    return tf.saved_model.load(str(folder)), head


@pytest.mark.parametrize("height, width", [(64, 64), (70, 66), (300, 200), (31, 90)])
def test_answers_as_the_scripts_do(network, exported, height, width):
    model, head = exported
    batch = RNG.integers(0, 256, (3, height, width, 3), dtype=np.uint8) // np.array(
        [[[[1]]], [[[2]]], [[[4]]]], np.uint8
    )
    answer = model(batch)
    np.testing.assert_allclose(answer["probabilities"], answers(network, head, batch), atol=0.01)
    assert np.ptp(answer["probabilities"], axis=0).max() > 0.05  # the images are told apart
    assert [name.decode() for name in answer["class_names"].numpy()] == CLASSES
    served = model.signatures["serving_default"](images=tf.constant(batch))
    np.testing.assert_array_equal(served["probabilities"], answer["probabilities"])
    # TensorFlow Serving refuses a request for "instances" unless every output has a row per image.
    assert served["class_names"].numpy().tolist() == [[name.encode() for name in CLASSES]] * len(batch)


@pytest.mark.slow
def test_numbers_of_any_type_mean_the_same(exported):
    model, _ = exported
    batch = RNG.integers(0, 256, (2, 80, 90, 3), dtype=np.uint8)
    expected = model(batch)["probabilities"]
    for same in (batch.astype(np.int32), batch.astype(np.int64), batch.astype(np.float32), batch.astype(np.float64),
                 batch.astype(np.float16), batch.tolist(), tf.constant(batch), batch / 255, tf.constant(batch) / 255,
                 (batch / 255).astype(np.float32), batch + 0.2 * np.sin(batch)):  # fmt: skip
        np.testing.assert_allclose(model(same)["probabilities"], expected, atol=0.005)
    half = model((batch / 255).astype(np.float16))["probabilities"]
    np.testing.assert_allclose(half, expected, atol=0.02)
    black = model(np.zeros_like(batch))["probabilities"]
    assert np.abs(black - expected).max() > 0.1


@pytest.mark.parametrize("spoil", [
    lambda batch: batch / 127.5 - 1, lambda batch: batch - np.array([123.7, 116.8, 103.9]), lambda batch: batch * 257,
    lambda batch: np.where(batch == batch.max(), np.nan, batch), lambda batch: batch.astype(np.int32) - 128,
    lambda batch: batch.astype(np.int64) * 2, lambda batch: (batch / 255.0 - 0.45) / 0.225,
])  # fmt: skip
def test_other_numbers_are_refused(exported, spoil):
    """Normalised, centred or damaged: an answer would be nonsense."""
    batch = RNG.integers(0, 256, (2, 80, 90, 3), dtype=np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected RGB, 0 to 255, or floats 0 to 1"):
        exported[0](spoil(batch.astype(np.float64)))


@pytest.mark.parametrize("as_published", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_alexnet_as_in_training(alexnet_weights, as_published, tmp_path):
    """Enlarged signs; what the course subtracts in inference, it does not in training."""
    network = AlexNet(alexnet_weights, as_published=as_published)
    head = heads.untrained(4096, CLASSES, provenance=provenance(cards.ALEXNET, images.Framing(32)))
    head = head._replace(kernel=head.kernel * 10)
    saved_model.export(network, head, tmp_path / "model")
    batch = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    served = tf.saved_model.load(str(tmp_path / "model"))(batch)["probabilities"]
    np.testing.assert_allclose(served, answers(network, head, batch), atol=0.001)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_no_images_no_answers(exported, kind):
    for side in 32, 64, 300:
        assert exported[0](np.zeros((0, side, side, 3), kind))["probabilities"].shape == (0, len(CLASSES))


def test_what_lies_there_is_kept(network, tmp_path):
    head = untrained(images.Framing(32))
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    for name in "file", "full":
        assert "exists already" in in_one_line(check_new_folder, tmp_path / name, "--export")
        assert "exists already" in in_one_line(saved_model.export, network, head, tmp_path / name)
    assert "cannot be written" in in_one_line(check_new_folder, tmp_path / "file" / "model", "--export")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def pair_of_classes(count, side=256):
    """Images alike in their middle quarter of each side: left of red noise around it, or of green."""
    batch = RNG.integers(0, 100, (2 * count, side, side, 3), dtype=np.uint8)
    labels = np.arange(2 * count) % 2
    for image, label in zip(batch, labels):
        image[:, :, label] += 120
        middle = slice(side * 3 // 8, side * 5 // 8)
        image[middle, middle] = 128
    return batch, labels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "vgg"])
def test_a_pair_that_differs_everywhere_but_in_the_middle(name, network, tmp_path):
    """At 64 pixels the network must see the same share of an image as at 224, in the scripts and exported."""
    card = cards.CARDS[name]
    if name == "vgg":
        network = KerasNetwork.load(card, "random", image_size=SIZE, features_only=True)
    framing = images.as_trained(card.framing, SIZE, card.input_size)
    batch, labels = pair_of_classes(12)
    framed = np.stack([images.frame(image, framing) for image in batch])
    features = pooled(network.activations(framed, layer=card.bottleneck)).numpy().astype(np.float64)
    # A head from the means of the first half, judged on the second: the nearer mean wins.
    means = np.stack([features[:12][labels[:12] == label].mean(axis=0) for label in (0, 1)])
    kernel, spread = (means[1] - means[0]), np.linalg.norm(means[1] - means[0]) ** 2
    kernel = np.stack([-kernel, kernel], axis=1) / spread * 10
    bias = -(means.mean(axis=0) @ kernel)
    arrays = kernel.astype(np.float32), bias.astype(np.float32)
    head = heads.Head(*arrays, ["red", "green"], provenance(card, framing))
    assert (answers(network, head, batch[12:]).argmax(axis=1) == labels[12:]).all()
    saved_model.export(network, head, tmp_path / "model")
    model = tf.saved_model.load(str(tmp_path / "model"))
    assert (model(batch[12:])["probabilities"].numpy().argmax(axis=1) == labels[12:]).all()
