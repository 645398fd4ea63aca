"""Runs are kept, killed, resumed and used: every program here is one of its own, as a user starts it."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import NO_NETWORK, QUICK, ROOT, lines, run

LAST_LOSS, LAST_VALIDATION_LOSS = 2.1043310, 2.1793878  # of the previous version, undisturbed
SCRIPT = "train_feature_extraction"
FINE = [*QUICK, "--train", "inception_5b", "--epochs", "3", "--head_epochs", "1", "--patience", "0"]
LONG = [*FINE, "--batch_size", "16", "--ema", "0.9", "--random_crop", "0.7", "--label_smoothing", "0.1",
        "--decay_epochs", "1", "--cache", "cache"]  # fmt: skip

# What is put before the script's own main: each kills the program, as kill -9 does, at a moment of its own.
KILL = "import os, signal\ndie = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
MOMENTS = {
    "extraction": """
        from transfer import fast
        frozen, seen = fast.frozen, []
        def stopping(*arguments):
            compute = frozen(*arguments)
            return lambda batch: die() if seen else seen.append(1) or compute(batch)
        fast.frozen = stopping
    """,
    "an epoch": """
        from transfer import loop
        validate, seen = loop.validate, []
        loop.validate = lambda *all: die() if len(seen) > 1 else seen.append(1) or validate(*all)
    """,
    "the network's writing": """
        import numpy as np
        from transfer import runs
        savez, keep, seen = np.savez, runs.Run.keep, []
        def half(file, **arrays):
            file.write(b"PK half of it")
            file.flush()
            die()
        def stopping(self, *all):
            seen.append(1)
            if len(seen) == 2:
                np.savez = half
            keep(self, *all)
        runs.Run.keep = stopping
    """,
    "the checkpoint's writing": """
        import tensorflow as tf
        def half(self, path, *_):
            if path.endswith("ckpt-2"):
                with open(path + ".data-00000-of-00001", "wb") as file:
                    file.write(b"half of it")
                die()
            return write(self, path)
        write, tf.train.Checkpoint.write = tf.train.Checkpoint.write, half
    """,
    "between the checkpoint and its hashes": """
        from transfer import checkpoints
        written_whole = checkpoints.written_whole
        checkpoints.written_whole = lambda path: die() if '"epoch": 1' in (
            path.read_text() if path.exists() else "") else written_whole(path)
    """,
}


def killed(moment, *arguments, cwd):
    """Run the training script until the moment comes."""
    import textwrap

    code = KILL + textwrap.dedent(MOMENTS[moment]) + f"import {SCRIPT} as script\nscript.run(script.main)"
    # Some moments import TensorFlow, which then no longer hears that the script switches oneDNN on for fine-tuning.
    environment = {**os.environ, **NO_NETWORK, "PYTHONPATH": str(ROOT), "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def result(folder):
    """(head, network, losses) of a finished run."""
    history = json.loads((folder / "history.json").read_text())
    assert history["ended"]
    with np.load(folder / "head.npz") as file:
        head = {name: file[name] for name in ("kernel", "bias")}
    (network,) = folder.glob("network-*.npz")
    with np.load(network) as file:
        arrays = dict(file)
    return head, arrays, [[epoch["loss"], epoch["validation_loss"]] for epoch in history["epochs"]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(f"{SCRIPT}.py", *FINE, "--out", "run", "--cache", "cache", cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return result(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_loses_nothing(moment, undisturbed, tmp_path):
    killed(moment, *FINE, "--out", "run", "--cache", "cache", cwd=tmp_path)
    settings = (tmp_path / "run" / "settings.json").read_text()
    before = list((tmp_path / "cache").glob("*.part"))
    assert bool(before) == (moment == "extraction")
    done = run(f"{SCRIPT}.py", "--resume", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "run" / "settings.json").read_text() == settings
    epochs = ["Epoch 1\n" in done.stdout.split("Trained:")[1], "Epoch 2\n" in done.stdout.split("Trained:")[1]]
    second_is_kept = moment in ("the network's writing", "between the checkpoint and its hashes")
    assert epochs == [moment == "extraction", not second_is_kept]
    for found, expected in zip(result(tmp_path / "run"), undisturbed):
        np.testing.assert_equal(found, expected)  # bit by bit
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix == ".part"]


@pytest.mark.slow
def test_a_run_that_is_ended_earlier_ends_as_if_that_had_been_meant_from_the_start(tmp_path):
    killed("an epoch", *LONG, "--epochs", 9, "--patience", 5, "--out", "run", cwd=tmp_path)
    straight = run(f"{SCRIPT}.py", *LONG, "--out", "straight", cwd=tmp_path)
    assert (straight.returncode, straight.stderr) == (0, ""), straight.stderr
    for changed in (["--epochs", 3, "--patience", 0], []):  # the second time, it remembers
        done = run(f"{SCRIPT}.py", "--resume", "run", *changed, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        for found, expected in zip(result(tmp_path / "run"), result(tmp_path / "straight")):
            np.testing.assert_equal(found, expected)  # bit by bit


def test_resuming_what_cannot_be_resumed(tmp_path, run_here):
    done = run("train_feature_extraction.py", "--resume", "nothing", cwd=tmp_path)
    assert done.returncode == 2 and "nothing: no run" in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "run").mkdir()
    for content, expected in [("{", "damaged"), ("[]", "damaged"), ('{"script": "x", "flags": {}}', "a run of x.py")]:
        (tmp_path / "run" / "settings.json").write_text(content)
        done = run_here("train_feature_extraction.py", "--resume", "run")
        assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
    flags = {"batch_size": 10}
    (tmp_path / "run" / "settings.json").write_text(json.dumps({"script": "train_feature_extraction", "flags": flags}))
    done = run_here("train_feature_extraction.py", "--resume", "run", "--batch_size", 3)
    assert done.returncode == 2 and "--batch_size 3" in done.stderr and "started with 10" in done.stderr
    done = run_here("train_feature_extraction.py", "--demo", "--out", "run")
    assert done.returncode == 2 and "holds a run already" in done.stderr


SERVE = """
import sys
import numpy as np
import tensorflow as tf
ours = ("alexnet", "transfer", "networks", "weights", "data", "common")
assert not any(name.split(".")[0] in ours for name in sys.modules)
images = np.load("images.npy")
model = tf.saved_model.load("model")
answer = model(images)
np.save("answer.npy", answer["probabilities"].numpy())
print(*[name.decode() for name in answer["class_names"].numpy()], sep="\\n")
large = np.kron(images[:2], np.ones((1, 3, 2, 1), np.uint8))
assert model(large)["probabilities"].shape == answer["probabilities"][:2].shape
"""


@pytest.mark.parametrize("train", ["head", pytest.param("inception_5a", marks=pytest.mark.slow)])
def test_trained_head_then_inference_then_saved_model(train, tmp_path, run_here, monkeypatch):
    """Held-out signs get the same answers in the training's own evaluation, from the scripts, and from TensorFlow."""
    from PIL import Image

    from data import splits, traffic_signs

    flags = [*QUICK[:-4], "--validation_per_class", "0", "--per_class", "0", "--precision", "float32", "--train", train]
    flags += ["--no_augment"] if train != "head" else []
    signs, other = traffic_signs.drawn(per_class=6, seed=0), traffic_signs.drawn(per_class=3, seed=1)
    monkeypatch.setattr(traffic_signs, "drawn", lambda per_class=0, seed=0: other if seed else signs)
    done = run_here("train_feature_extraction.py", *flags, "--epochs", 2, "--batch_size", 64, "--out", "run",
                    "--cache", "cache")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    confusion = np.genfromtxt(tmp_path / "run" / "validation-confusion.csv", delimiter=",", skip_header=1)[:, 1:]
    _, _, held_out = splits.split(signs, "track", 0)
    chosen = held_out[:: len(held_out) // 40][:40]
    for number, row in enumerate(chosen):
        Image.fromarray(signs.images[row]).save(tmp_path / f"{number:02}.png")
    names = [f"{number:02}.png" for number in range(len(chosen))]
    done = run_here("feature_extraction.py", *names, "--head", "run", "--demo", "--top", 1, "--export", "model")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Head: run, 43 classes" in done.stdout
    answers, _ = lines(done.stdout.partition("\n\n")[2])
    assert len(answers) == 40

    np.save(tmp_path / "images.npy", signs.images[held_out])
    served = subprocess.run([sys.executable, "-c", SERVE], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert served.returncode == 0, served.stderr
    assert served.stdout.splitlines() == traffic_signs.sign_names()
    probabilities = np.load(tmp_path / "answer.npy")
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    labels = probabilities.argmax(1)
    theirs = np.zeros_like(confusion)
    np.add.at(theirs, (signs.labels[held_out], labels), 1)
    assert np.abs(theirs - confusion).sum() <= 4  # two images may stand on the brink
    same = [signs.class_names[label] == name for label, name in zip(labels[:: len(held_out) // 40][:40], answers)]
    assert np.mean(same) >= 0.97
    done = run_here("evaluate.py", "--demo", "--head", "run", "--two_views", "--cache", "cache")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Each image seen twice, the second time 15% closer; probabilities averaged" in done.stdout
    assert f"drawn traffic signs, test: {43 * 3} images\nAccuracy: " in done.stdout


def test_a_run_of_the_previous_version_is_used(tmp_path, run_here):
    shutil.copytree(ROOT / "tests" / "files" / "unfinished_run", tmp_path / "run")
    done = run_here("feature_extraction.py", "--demo", "--head", "run", "--export", "model")
    assert done.returncode == 0, done.stderr
    assert (
        "Head: run, 10 classes, trained on ten drawn signs, validation accuracy 0.140 (unfinished, 2 epochs so far)"
        in done.stdout
    )


@pytest.mark.slow
def test_a_run_of_the_previous_version_is_resumed(tmp_path, run_here):
    """Killed in its third epoch by the version of 2026-11; that version's undisturbed run ended with these losses."""
    shutil.copytree(ROOT / "tests" / "files" / "unfinished_run", tmp_path / "run")
    done = run_here("train_feature_extraction_cifar10.py", "--resume", "run")
    assert done.returncode == 2 and "names --cache /elsewhere/cache; give that flag again" in done.stderr
    done = run("train_feature_extraction_cifar10.py", "--resume", "run", "--cache", "cache", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    last = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"][2]
    assert last["loss"] == pytest.approx(LAST_LOSS, abs=1e-3)
    assert last["validation_loss"] == pytest.approx(LAST_VALIDATION_LOSS, abs=1e-3)
