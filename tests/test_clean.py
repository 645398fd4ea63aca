"""python -m transfer.clean: what it finds, what it deletes, what it spares."""

import json
import os

import numpy as np
import pytest
from conftest import in_one_line

from common.locks import exclusive
from data import bottleneck_files, pickles
from transfer import clean, run_files


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two feature files, three runs (a demo, a finished one, an unfinished one), the oldest first."""
    monkeypatch.setattr(clean, "FEATURES_DIR", tmp_path / "features")
    monkeypatch.setattr(clean, "PICTURES_DIR", tmp_path / "pictures")
    monkeypatch.setattr(clean, "DATA_DIR", tmp_path / "data")
    monkeypatch.setattr(run_files, "RUNS_DIR", tmp_path / "runs")
    monkeypatch.setattr(run_files, "MEASURED_DIR", tmp_path / "runs" / "how_much")
    (tmp_path / "features").mkdir()
    for name in "a.npy", "b.npy":
        (tmp_path / "features" / name).write_bytes(bytes(1000))
    for number, (name, ended) in enumerate((("demo-x", True), ("finished", True), ("unfinished", False))):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps({"script": "x", "flags": {}}))
        (folder / "history.json").write_text(json.dumps({"ended": ended, "epochs": []}))
        os.utime(folder / "history.json", (number, number))
    return tmp_path


def names(kind, keep=0):
    return [path.name for path in clean.find(kind, keep)]


def test_what_is_found(kept):
    assert names("features") == ["a.npy", "b.npy"] and clean.size_of(clean.find("features")) == 2000
    assert names("images") == [] and names("demo") == ["demo-x"] and names("unfinished") == ["unfinished"]
    assert names("runs") == ["demo-x", "finished", "unfinished"] and names("runs", 2) == ["demo-x"]
    assert names("runs", 5) == []


def test_a_run_in_training_is_spared(kept):
    with exclusive(kept / "runs" / "unfinished" / run_files.LOCK, "in use"):
        assert names("unfinished") == [] and names("runs") == ["demo-x", "finished"]


def test_what_a_run_in_training_reads_is_not_deleted(kept, monkeypatch):
    for kind in "features", "images", "bottleneck":
        monkeypatch.setattr("sys.argv", ["clean", "--delete", "demo", kind])
        with exclusive(kept / "runs" / "unfinished" / run_files.LOCK, "in use"):
            assert "unfinished: is being trained" in in_one_line(clean.main)
        assert (kept / "features" / "a.npy").exists() and (kept / "runs" / "demo-x").exists()


def test_what_is_being_computed_is_not_deleted(kept, monkeypatch):
    """VGG16's features are computed before there is a run, and a run with --out lies elsewhere."""
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "features"])
    lock = kept / "features" / ".vgg-pool5-0123456789abcdef.lock"
    with exclusive(lock, "in use"):
        assert "features: vgg-pool5-0123456789abcdef is being written there; wait for it" in in_one_line(clean.main)
    assert names("features") == ["a.npy", "b.npy"]
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "bottleneck"])
    with exclusive(kept / "data" / ".vgg_cifar10_100_bottleneck_features_train.p.lock", "in use"):
        assert "data: vgg_cifar10_100_bottleneck_features_train.p is being" in in_one_line(clean.main)
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "features"])
    lock.touch()  # of a process that was killed
    clean.main()
    assert names("features") == []


def test_measurements_that_were_not_finished(kept, monkeypatch):
    assert names("measurements") == []
    begun = kept / "runs" / "how_much" / "signs-3"
    (begun / "checkpoint").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "measurements"])
    with exclusive(begun.with_name(".signs-3.lock"), "in use"):
        assert "how_much: signs-3 is being written there" in in_one_line(clean.main)
    assert names("runs") == ["demo-x", "finished", "unfinished"] and begun.exists()
    clean.main()
    assert names("measurements") == []


def test_bottleneck_features_of_others_are_left_alone(kept):
    (kept / "data").mkdir()
    name = "vgg_cifar10_bottleneck_features_validation.p"
    features, labels = np.ones((2, 3), np.float32), np.arange(2)
    bottleneck_files.write(kept / "data" / f"mine_{name}", features, labels, {"network": "vgg"})
    pickles.write(kept / "data" / name, {"features": features, "labels": labels})
    (kept / "data" / f"damaged_{name}").write_bytes(b"?")
    assert names("bottleneck") == [f"mine_{name}"]


def test_a_run_whose_history_is_damaged_is_spared(kept, monkeypatch, capsys):
    """It may have finished."""
    (kept / "runs" / "finished" / "history.json").write_text("{")
    assert names("unfinished") == ["unfinished"]
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "unfinished"])
    clean.main()
    assert sorted(path.name for path in (kept / "runs").iterdir()) == ["demo-x", "finished"]
    assert "finished: its history is damaged, so it may have finished" in capsys.readouterr().out


def test_sparing_without_runs_to_spare(kept, monkeypatch):
    """It would delete all runs with --demo."""
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "demo", "--keep", "3"])
    assert "--keep 3: spares finished runs" in in_one_line(clean.main)
    assert (kept / "runs" / "demo-x").exists()


def test_only_what_is_named_is_deleted(kept, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["clean", "--delete", "features", "demo"])
    clean.main()
    assert sorted(path.name for path in (kept / "runs").iterdir()) == ["finished", "unfinished"]
    assert list((kept / "features").iterdir()) == []
    printed = capsys.readouterr().out
    assert "features            0.0 MB  computed features: deleted" in printed and printed.count("deleted") == 2
