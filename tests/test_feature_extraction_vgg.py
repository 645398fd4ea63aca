"""Bottleneck files: made here, from the course, and wrong ones; run as a program."""

import pickle
import re
import sys

import numpy as np
import pytest
from conftest import DEMO_SAYS, SHARED, run

import feature_extraction_vgg as script
from data import bottleneck_files

RNG = np.random.default_rng(0)


def clusters(count, width=6, classes=3):
    """Features that tell their class, so that a working trainer reaches accuracy 1."""
    labels = np.arange(count) % classes
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 5
    return (centres[labels] + RNG.normal(size=(count, width))).astype(np.float32), labels


def write(path, features, labels, **more):
    path.write_bytes(pickle.dumps({"features": features, "labels": labels, **more}, protocol=2))
    return path


@pytest.mark.slow
def test_the_course_s_files_are_read(tmp_path):
    """(N, 1, 1, 6) features and (N, 1) labels, written by Python 2 where its writer is at hand."""
    features, labels = clusters(90)
    content = {"features": features.reshape(90, 1, 1, 6), "labels": labels[:, None].astype(np.uint8)}
    if (SHARED / "python2_pickle.py").exists():
        sys.path.insert(0, str(SHARED))
        import python2_pickle

        (tmp_path / "train.p").write_bytes(python2_pickle.dumps(content))
    else:
        (tmp_path / "train.p").write_bytes(pickle.dumps(content, protocol=2))
    write(tmp_path / "validation.p", *clusters(30))
    read, read_labels, count = bottleneck_files.read_both(tmp_path / "train.p", tmp_path / "validation.p")
    np.testing.assert_array_equal(read[:90], features)
    np.testing.assert_array_equal(read_labels[:90], labels)
    assert (read.shape, count, read.dtype, read_labels.dtype) == ((120, 6), 90, np.float32, np.int64)

    done = run("feature_extraction_vgg.py", "--training_file", "train.p", "--validation_file", "validation.p",
               "--learning_rate", 0.05, cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "train.p: (90, 6)\nvalidation.p: (30, 6)\n" in done.stdout
    assert re.search(r"^Epoch 50: validation loss 0\.\d{4}, validation accuracy 1\.0000$", done.stdout, re.MULTILINE)
    assert re.search(r"^Best validation accuracy: 1\.0000 \(epoch \d+\), last: 1\.0000$", done.stdout, re.MULTILINE)


def test_one_file_alone(tmp_path):
    done = run("feature_extraction_vgg.py", "--training_file", "train.p", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: --training_file and --validation_file: one is")


@pytest.mark.parametrize(
    "network", ["googlenet", *(pytest.param(each, marks=pytest.mark.slow) for each in ("alexnet", "vgg", "resnet"))]
)
def test_demo_makes_files_that_any_python_reads_and_makes_them_once(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(script.runs, "RUNS_DIR", tmp_path / "runs")
    flags = f"--demo --network {network} --per_class 2 --split track --epochs 2 --cache {tmp_path / 'features'}".split()
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", *flags])
    small = script.traffic_signs.drawn
    source = script.traffic_signs.SOURCE._replace(drawn=lambda seed: small(per_class=3, seed=seed))
    monkeypatch.setattr(script.traffic_signs, "SOURCE", source)
    script.main()
    printed = capsys.readouterr().out
    width = {"vgg": 512, "googlenet": 1024, "resnet": 2048, "alexnet": 4096}[network]
    assert f"({43 * 2}, {width})" in printed and f"({43}, {width})" in printed
    assert (DEMO_SAYS if network == "alexnet" else "Random weights") in printed
    files = sorted(tmp_path.glob("demo_*.p"))
    assert len(files) == 2
    for path in files:
        content = pickle.loads(path.read_bytes())
        assert content["features"].dtype == np.float32 and content["features"].shape[1] == width
        assert len(content["labels"]) == len(content["features"]) and np.isfinite(content["features"]).all()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[pn]*")}
    script.main()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((tmp_path / "runs").glob("demo-feature_extraction_vgg-*/head.npz"))) == 2
    assert "Features:" not in capsys.readouterr().out  # the files were good: nothing was computed
    others = script.traffic_signs.SOURCE._replace(drawn=lambda seed: darker(small(per_class=3, seed=seed)))
    monkeypatch.setattr(script.traffic_signs, "SOURCE", others)
    script.main()
    assert "Features:" in capsys.readouterr().out  # other images under the same labels


def darker(dataset):
    return dataset._replace(images=dataset.images // 2)


def test_the_course_s_files_under_their_names_need_no_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "DATA_DIR", tmp_path)
    monkeypatch.setattr(script, "load_images", lambda args: pytest.fail("no images are needed"))
    write(tmp_path / "vgg_cifar10_100_bottleneck_features_train.p", *clusters(90))
    write(tmp_path / "vgg_cifar10_bottleneck_features_validation.p", *clusters(30))
    monkeypatch.setattr(script.runs, "RUNS_DIR", tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["feature_extraction_vgg.py", "--epochs", "3"])
    script.main()
    assert "Epoch  3: " in capsys.readouterr().out
