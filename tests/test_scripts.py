"""Every script as a user runs it, in some other folder, with --demo and with mistakes.

Most are programs of their own. What takes another way through the same script runs in this process.
"""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ALEXNET_SHAPES, DEMO_SAYS, in_one_line, lines, run
from PIL import Image

import evaluate
from data import cifar10, datasets, traffic_signs
from data.traffic_signs import sign_names
from transfer import calibration, loading
from weights import heads

SCRIPTS = [
    "imagenet_inference.py", "traffic_sign_inference.py", "feature_extraction.py",
    "train_feature_extraction.py", "train_feature_extraction_cifar10.py", "feature_extraction_vgg.py", "evaluate.py",
]  # fmt: skip


def test_training_demo_then_inference_with_its_head(tmp_path, run_here):
    folder = tmp_path / "run"
    done = run("train_feature_extraction.py", "--demo", "--per_class", 4, "--validation_per_class", 2, "--out", folder,
               "--cache", tmp_path / "cache", cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith(DEMO_SAYS)
    epoch = r"Epoch (\d+)\nTime: \d+\.\d+ seconds\nValidation Loss = \d+\.\d+\nValidation Accuracy = (\d\.\d{3})\n\n"
    epochs = re.findall(epoch, done.stdout)
    assert [int(number) for number, _ in epochs] == list(range(1, 11))
    assert float(epochs[-1][1]) > 0.23  # 43 classes, chance is 0.023; ten times that, even from random weights
    flags = json.loads((folder / "settings.json").read_text())["flags"]
    assert flags["precision"] == loading.compute_dtype("auto").name  # what auto is here; resumed elsewhere, it stays

    done = run_here("train_feature_extraction_cifar10.py", "--demo", "--per_class", 2, "--validation_per_class", 2,
                    "--teacher", folder, "--out", tmp_path / "student")  # fmt: skip
    assert done.returncode == 2 and "its 43 classes are not the 10" in done.stderr
    assert not (tmp_path / "student").exists()  # the name is free for the right command

    done = run_here("feature_extraction.py", "--demo", "--head", folder, "--top", 43)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.count(" % of known images") == 2  # how like those of training they are was kept with the head
    assert "Head: run, 43 classes, trained on drawn" in done.stdout and "not trained" not in done.stdout
    names, probabilities = lines(done.stdout)
    assert len(names) == 86 and len(set(names)) == 43
    assert sum(probabilities[:43]) == pytest.approx(1, abs=0.03)
    expected = recomputed(folder / "head.npz", labels=(25, 14))  # the drawn road work and stop sign
    for image, row in enumerate(expected):
        printed = dict(zip(names[43 * image :][:43], probabilities[43 * image :][:43]))
        assert [printed[name] for name in sign_names()] == pytest.approx(row, abs=0.006)
    assert re.search(r"^Time: \d+\.\d{3} seconds\n\Z", done.stdout, re.MULTILINE)


def recomputed(path, labels):
    """The probabilities of drawn signs that no demo trains on, under a kept head, from the definition of softmax."""
    from alexnet import AlexNet
    from data.drawn_signs import draw
    from weights import cards, reading

    with np.load(path, allow_pickle=False) as head:
        kernel, bias = head["kernel"], head["bias"]
    network = AlexNet(reading.load(cards.ALEXNET, reading.without_download(cards.ALEXNET)))
    features = network(
        network.preprocess(draw(per_class=1, seed=2**32 - 1)[0][list(labels)]), feature_extract=True
    ).numpy()
    exponentials = np.exp(features @ kernel + bias)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_other_weights_than_the_head_s_are_refused(tmp_path, run_here):
    provenance = heads.Provenance(
        "alexnet", "fc7", 227, False, "float32", "random", 0, "0" * 16, "signs", 0.9, 32, "whole", 0
    )
    heads.save(heads.untrained(4096, ["a", "b"], provenance=provenance), tmp_path / "head.npz")
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    done = run_here("feature_extraction.py", "p.png", "--demo", "--head", "head.npz")
    assert done.returncode == 2 and "not the weights that head.npz was trained on" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


def test_without_an_image_the_command_is_told_and_no_network_read(monkeypatch, tmp_path, run_here):
    """Of other classes than the signs there are no images of ours."""
    origin = heads.Provenance(
        "googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "photos", 0.9, 64, "whole", 0
    )
    heads.save(heads.untrained(4, ["a", "b"], provenance=origin), tmp_path / "my head.npz")
    monkeypatch.setattr("transfer.trained.load", lambda *_, **__: pytest.fail("read"))
    done = run_here("feature_extraction.py", "--demo", "--head", "my head.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python feature_extraction.py --demo --head 'my head.npz' YOUR_IMAGE.jpg\n" in done.stdout


@pytest.mark.slow
def test_test_images_are_of_the_head_s_classes():
    origin = SimpleNamespace(seed=3)
    for data in cifar10, traffic_signs:
        names = data.drawn_test(per_class=1).class_names
        head = SimpleNamespace(class_names=names, provenance=origin)
        assert evaluate.find_images(head, demo=True).class_names == names


def test_an_image_is_framed_as_those_that_the_head_was_trained_on(monkeypatch, tmp_path, run_here):
    seen = []
    origin = heads.Provenance(
        "googlenet", "pool5", 64, False, "float32", "random", 0, "0" * 16, "photos", 0.9, 64, "squeeze", 73
    )
    heads.save(heads.untrained(4, ["a", "b"], provenance=origin), tmp_path / "head.npz")
    photo = np.random.default_rng(0).integers(0, 256, (90, 300, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    classifier = SimpleNamespace(features=lambda images: seen.append(images) or np.zeros((1, 4), np.float32))
    monkeypatch.setattr("transfer.trained.load", lambda *_, **__: classifier)
    done = run_here("feature_extraction.py", "photo.png", "--head", "head.npz")
    assert done.returncode == 0, done.stderr
    squeezed = np.asarray(Image.fromarray(photo).resize((73, 73), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(seen[0][0] - squeezed[4:68, 4:68]).max() <= 1


@pytest.mark.parametrize("script", SCRIPTS[:2])
def test_many_images_go_through_the_network_in_batches(script, monkeypatch, tmp_path, run_here):
    from networks.network import Network

    sizes = []

    class Counting:
        in_batches = Network.in_batches

        def activations(self, images, layer):
            sizes.append(len(images))
            return SimpleNamespace(numpy=lambda: np.eye(1000)[: len(images)])

    monkeypatch.setattr(loading, "load_network", lambda *_, **__: Counting())
    for number in range(70):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:02}.png")
    done = run_here(script, "*.png", "--top", 1)
    assert sizes == [32, 32, 6]
    assert re.findall(r"^Image (\d+): (\d+)\.png$", done.stdout, re.MULTILINE) == [
        (str(n), f"{n:02}") for n in range(70)
    ]


def head_of(trained_on, class_names):
    origin = heads.Provenance(
        "googlenet", "pool5", 8, False, "float32", "random", 0, "0" * 16, trained_on, 0.5, 8, "whole", 0
    )
    kernel = np.zeros((1024, len(class_names)), np.float32)
    return heads.Head(kernel, kernel[0], class_names, origin)


def test_a_data_set_that_is_added_to_the_table_is_known_everywhere(monkeypatch, tmp_path):
    names, test = ["day", "night"], object()
    skies = datasets.Dataset(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2, names, None, "skies")
    drawn = skies._replace(class_names=["drawn day", "drawn night"], name="drawn skies")
    source = datasets.Source(
        lambda: skies, lambda: test, lambda per_class=30, seed=0: drawn, lambda seed: drawn, lambda: names,
        lambda: drawn.class_names, (0, 1), "random", lambda: True,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "skies", SimpleNamespace(SOURCE=source))
    monkeypatch.setitem(datasets.TABLE, "skies", "skies")
    head = head_of("skies", names)
    assert evaluate.find_images(head) is test
    assert calibration.find(tmp_path, head).shape == (4, 8, 8, 3)
    head = head_of("drawn skies", drawn.class_names)
    assert evaluate.find_images(head, demo=True) is drawn
    assert calibration.find(tmp_path, head).shape == (4, 8, 8, 3)
    unknown = head_of("images of dawns", ["dawn"])
    assert "trained on images of dawns, of which no test images are known" in in_one_line(evaluate.find_images, unknown)
    assert "images of dawns, which it was trained on, cannot be found" in in_one_line(
        calibration.find, tmp_path, unknown
    )


@pytest.mark.slow
def test_cifar10_demo(tmp_path):
    folder = tmp_path / "run"
    done = run("train_feature_extraction_cifar10.py", "--demo", "--per_class", 4, "--validation_per_class", 2, "--out",
               folder, "--no_cache", cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Epoch 2" in done.stdout and "Epoch 3" not in done.stdout and (folder / "head.npz").exists()


@pytest.mark.parametrize("script", SCRIPTS[:3])
def test_inference_demo(script, tmp_path, run_here):
    done = run_here(script, "--demo")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert DEMO_SAYS in done.stdout
    assert re.findall(r"^Image (\d): ", done.stdout, re.MULTILINE) == ["0", "1"]
    names, probabilities = lines(done.stdout)
    assert len(names) == 10
    assert probabilities[:5] == sorted(probabilities[:5], reverse=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", ["googlenet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_imagenet_inference_with_another_network(network, run_here):
    done = run_here("imagenet_inference.py", "--demo", "--network", network)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Random weights" in done.stdout and len(lines(done.stdout)[0]) == 10
    done = run_here("imagenet_inference.py", "--demo", "--network", network, "--as_published")
    assert done.returncode == 2 and done.stderr.startswith("error: --as_published: ") and done.stderr.count("\n") == 1


def test_real_layout_and_own_images(tmp_path, alexnet_weights, run_here):
    """Weights in the layout of bvlc-alexnet.npy, images of several kinds; no network, nothing pretended."""
    content = np.array({name: [kernel, bias] for name, (kernel, bias) in alexnet_weights.items()}, dtype=object)
    np.save(tmp_path / "w.npy", content, allow_pickle=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8)).save(tmp_path / "large.jpg")
    Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).save(tmp_path / "grey.png")
    images = ["large.jpg", "grey.png"]
    done = run_here("imagenet_inference.py", *images, "--weights", "w.npy", "--top", 2)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Random" not in done.stdout and len(lines(done.stdout)[0]) == 4
    assert "Image 0: large.jpg\n" in done.stdout and "Image 1: grey.png\n" in done.stdout
    published = run_here("traffic_sign_inference.py", *images, "--weights", "w.npy", "--as_published")
    assert published.returncode == 0, published.stderr
    ours = run_here("traffic_sign_inference.py", *images, "--weights", "w.npy")
    assert ours.returncode == 0, ours.stderr
    assert lines(ours.stdout) != lines(published.stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_at_once(script, tmp_path):
    """Without TensorFlow, which takes seconds to import, and without scikit-learn, which takes another."""
    done = run(script, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "--weights" in done.stdout and "--demo" in done.stdout
    assert not re.search(r"\| +(tensorflow|sklearn)\n", done.stderr)


MISTAKES = {
    "no such image": (["imagenet_inference.py", "absent.jpg", "--weights", "random"], "absent.jpg"),
    "a folder": (["imagenet_inference.py", ".", "--weights", "random"], "folder"),
    "text named .npy": (["imagenet_inference.py", "p.png", "--weights", "text.npy"], "text.npy"),
    "no such weights": (["imagenet_inference.py", "p.png", "--weights", "absent.npy"], "absent.npy"),
    "weights are a folder": (["imagenet_inference.py", "p.png", "--weights", "."], "folder"),
    "a layer is missing": (["imagenet_inference.py", "p.png", "--weights", "missing.npz"], "fc8"),
    "no such head": (["feature_extraction.py", "p.png", "--weights", "random", "--head", "no.npz"], "no.npz"),
    "no such training file": (["train_feature_extraction.py", "--training_file", "no.p"], "no.p"),
    "text as training file": (["train_feature_extraction.py", "--training_file", "text.npy"], "text.npy"),
    "run in no place": (["train_feature_extraction.py", "--demo", "--out", "p.png/run"], "p.png/run"),
    "a layer without weights": (
        ["train_feature_extraction.py", "--demo", "--network", "googlenet", "--image_size", "32", "--train", "pool5"],
        "--train pool5: has no weights",
    ),
    "no such layer": (["train_feature_extraction.py", "--demo", "--layer", "conv9"], "conv9"),
    "from scratch, frozen": (["train_feature_extraction.py", "--demo", "--from_scratch"], "--train all"),
    "no such images": (["train_feature_extraction.py", "--weights", "random", "--training_dir", "no"], "no"),
    "nothing trained": (["evaluate.py", "--head", "nothing"], "nothing"),
    "rate below zero": (["train_feature_extraction.py", "--learning_rate", "-1"], "--learning_rate"),
    "no number": (["train_feature_extraction.py", "--l2", "nan"], "--l2"),
    "flag out of range": (["train_feature_extraction.py", "--epochs", "0"], "--epochs"),
    "not a number": (["imagenet_inference.py", "--top", "five"], "--top"),
}


PROGRAMS = {"no such image"}  # the others run here


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_line(name, tmp_path, run_here, monkeypatch):
    few = traffic_signs.drawn(per_class=2)
    monkeypatch.setattr(traffic_signs, "drawn", lambda **_: few)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    (tmp_path / "text.npy").write_text("these are no weights\n")
    some = {layer: shape for layer, shape in ALEXNET_SHAPES.items() if layer != "fc8"}
    if name == "a layer is missing":
        kernels = {f"{key}/weights": np.zeros(shape, np.float32) for key, shape in some.items()}
        biases = {f"{key}/biases": np.zeros(shape[-1], np.float32) for key, shape in some.items()}
        np.savez(tmp_path / "missing.npz", **kernels, **biases)
    before = sorted(tmp_path.iterdir())
    (script, *arguments), expected = MISTAKES[name]
    done = run(script, *arguments, cwd=tmp_path) if name in PROGRAMS else run_here(script, *arguments)
    assert done.returncode == 2, done.stderr
    message = done.stderr.splitlines()[-1]
    assert expected in message and "Traceback" not in done.stderr
    if not message.startswith("usage") and "error: argument" not in message:  # argparse prints its usage above
        assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before
