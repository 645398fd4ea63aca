"""data/cifar10.py: the official batches from a folder, a tar.gz or Keras; ten drawn signs in their place."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from conftest import in_one_line, python2_dumps

from data import cifar10, traffic_signs

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def official(rows=3):
    """The files of the official layout in small, {name: content}."""
    rng = np.random.default_rng(0)
    files = {"batches.meta": {b"label_names": NAMES, b"num_vis": 3072}}
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]:
        data = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        files[name] = {b"data": data, b"labels": rng.integers(0, 10, rows).tolist()}
    return files


def written(folder, files, dumps=pickle.dumps):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(dumps(content))
    return folder


def is_as_written(train, test, files):
    assert train.images.shape == (15, 32, 32, 3) and test.images.shape == (3, 32, 32, 3)
    first, last = files["data_batch_1"][b"data"][0], files["data_batch_5"][b"data"][2]
    for channel in range(3):  # 1024 values of red, then of green, then of blue, row by row
        assert train.images[0, 2, 5, channel] == first[1024 * channel + 2 * 32 + 5]
        assert train.images[14, 31, 0, channel] == last[1024 * channel + 31 * 32]
    assert train.labels.tolist() == sum((files[f"data_batch_{i}"][b"labels"] for i in range(1, 6)), [])
    assert test.labels.tolist() == files["test_batch"][b"labels"]
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64 and train.images.flags.c_contiguous
    assert train.class_names == [name.decode() for name in NAMES] and train.tracks is None


@pytest.mark.parametrize("dumps", [pickle.dumps, python2_dumps], ids=["Python 3", "Python 2"])
def test_folder(tmp_path, dumps):
    is_as_written(*cifar10.load(written(tmp_path / "batches", official(), dumps)), official())


@pytest.fixture
def empty_data(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "FOLDER", tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(cifar10, "ARCHIVE", tmp_path / "cifar-10-python.tar.gz")
    return tmp_path


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            data = pickle.dumps(content)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_archive_is_read_in_place(empty_data):
    write_tar(cifar10.ARCHIVE, official())
    is_as_written(*cifar10.load(cifar10.FOLDER), official())
    assert [path.name for path in empty_data.iterdir()] == [cifar10.ARCHIVE.name]


def test_damaged_archives(empty_data):
    files = official()
    del files["data_batch_4"]
    write_tar(cifar10.ARCHIVE, files)
    assert "data_batch_4 is missing" in in_one_line(cifar10.load, cifar10.FOLDER)
    write_tar(cifar10.ARCHIVE, official())
    cifar10.ARCHIVE.write_bytes(cifar10.ARCHIVE.read_bytes()[:20_000])
    assert cifar10.ARCHIVE.name in in_one_line(cifar10.load, cifar10.FOLDER)
    cifar10.ARCHIVE.write_bytes(b"text")
    assert cifar10.ARCHIVE.name in in_one_line(cifar10.load, cifar10.FOLDER)


def test_keras(empty_data, monkeypatch, capsys):
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, (n, 1), np.uint8)) for n in (5, 4)]

    def load_data():
        print("Downloading data")
        return parts

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    for dataset, (images, labels) in zip(cifar10.load(cifar10.FOLDER), parts, strict=True):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels[:, 0])
    assert capsys.readouterr().out == ""

    def no_network():
        raise Exception("URL fetch failure on https://...:\nNone -- name resolution")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", no_network)
    message = in_one_line(cifar10.load, cifar10.FOLDER)
    assert "name resolution" in message and cifar10.ARCHIVE.name in message


@pytest.mark.parametrize("name, content, said", [
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.float32), b"labels": [1, 2, 3]}, "float32"),
    ("data_batch_2", {b"data": np.zeros((3, 3071), np.uint8), b"labels": [1, 2, 3]}, "3071"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2]}, "labels (2,)"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8)}, "no data and labels"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2, 10]}, "expected 0 to 9"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [[1], [2, 3], 4]}, "data_batch_2"),
    ("data_batch_2", [1], "no data and labels"),
    ("test_batch", None, "test_batch: missing; unpack cifar-10-python.tar.gz"),
])  # fmt: skip
def test_wrong_batches(tmp_path, name, content, said):
    folder = written(tmp_path / "batches", official() | {name: content})
    if content is None:
        (folder / name).unlink()
    message = in_one_line(cifar10.load, folder)
    assert said in message and str(folder) in message


def test_absent_folder(tmp_path):
    assert "no such folder" in in_one_line(cifar10.load, tmp_path / "absent")


def test_drawn():
    train, test = cifar10.drawn(per_class=4, seed=1)
    assert np.bincount(train.labels).tolist() == [4] * 10 and np.bincount(test.labels).tolist() == [1] * 10
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 50
    signs = traffic_signs.drawn(per_class=5, seed=1)
    label = signs.class_names.index(train.class_names[3])
    np.testing.assert_array_equal(train.images[train.labels == 3], signs.images[signs.labels == label][:4])
