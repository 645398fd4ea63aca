"""data/cifar10.py: the official batches from a folder or an archive, wherever they lie; ten drawn signs."""

import importlib.util
import os
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import pytest
from conftest import python2_dumps, refused
from made_archives import CIFAR_NAMES, cifar_batches, write_tar

from common.errors import BadInput
from data import cifar10, traffic_signs


def written(folder, files, dumps=pickle.dumps):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(dumps(content))
    return folder


def is_as_written(path, files):
    train, test = cifar10.load(path), cifar10.load_test(path)
    assert train.images.shape == (15, 32, 32, 3) and test.images.shape == (3, 32, 32, 3)
    first, last = files["data_batch_1"][b"data"][0], files["data_batch_5"][b"data"][2]
    for channel in range(3):  # 1024 values of red, then of green, then of blue, row by row
        assert train.images[0, 2, 5, channel] == first[1024 * channel + 2 * 32 + 5]
        assert train.images[14, 31, 0, channel] == last[1024 * channel + 31 * 32]
    assert train.labels.tolist() == sum((files[f"data_batch_{i}"][b"labels"] for i in range(1, 6)), [])
    assert test.labels.tolist() == files["test_batch"][b"labels"]
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64 and train.images.flags.c_contiguous
    assert train.class_names == [name.decode() for name in CIFAR_NAMES] and train.tracks is None


@pytest.mark.parametrize("dumps", [pickle.dumps, python2_dumps], ids=["Python 3", "Python 2"])
def test_folder(tmp_path, dumps):
    is_as_written(written(tmp_path / "batches", cifar_batches(), dumps), cifar_batches())


@pytest.fixture
def empty_data(tmp_path, monkeypatch):
    """data/ and ~/.keras without anything in them, and no network."""

    def fetch(urls, path, sha256):
        raise BadInput(f"{path}: could not be fetched; download it by hand from {urls[0]} to {path}")

    monkeypatch.setattr(cifar10, "FOLDER", tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(cifar10, "ARCHIVES", [tmp_path / "cifar-10-python.tar.gz", tmp_path / "cifar-10-python.tar"])
    keras = tmp_path / "keras"
    monkeypatch.setattr(cifar10, "KERAS_FOLDERS", [keras / "new/cifar-10-batches-py", keras / "cifar-10-batches-py"])
    monkeypatch.setattr(cifar10, "fetch", fetch)
    return tmp_path


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("folder", ["cifar-10-batches-py/", "./cifar-10-batches-py/", ""])
def test_archive_is_read_in_place(empty_data, place, mode, folder):
    """Zipped or not, under either name, and with the names that `tar -c .` writes."""
    write_tar(cifar10.ARCHIVES[place], cifar_batches(), mode, folder)
    is_as_written(cifar10.FOLDER, cifar_batches())
    assert [path.name for path in empty_data.iterdir()] == [cifar10.ARCHIVES[place].name]


def test_the_order_of_the_batches_is_that_of_their_names(empty_data):
    files = cifar_batches()
    write_tar(cifar10.ARCHIVES[0], dict(reversed(files.items())))
    is_as_written(cifar10.FOLDER, files)


def test_archive_elsewhere(tmp_path):
    is_as_written(write_tar(tmp_path / "other name", cifar_batches(), "w"), cifar_batches())


@pytest.mark.parametrize("place", [0, 1])
def test_what_keras_has_fetched(empty_data, place):
    cifar10.KERAS_FOLDERS[place].parent.mkdir(parents=True)
    written(cifar10.KERAS_FOLDERS[place], cifar_batches())
    is_as_written(cifar10.FOLDER, cifar_batches())


def test_it_is_fetched_when_absent(empty_data, monkeypatch):
    asked = []

    def fetch(urls, path, sha256):
        asked.append((urls, sha256))
        return write_tar(path, cifar_batches())

    monkeypatch.setattr(cifar10, "fetch", fetch)
    is_as_written(cifar10.FOLDER, cifar_batches())
    assert asked == [([cifar10.URL], cifar10.SHA256)]


def test_the_address_and_hash_are_those_of_keras():
    found = importlib.util.find_spec("keras")
    if found is None:
        pytest.skip("Keras is not installed")
    source = (pathlib.Path(found.origin).parent / "src/datasets/cifar10.py").read_text()
    assert cifar10.URL in source and cifar10.SHA256 in source


def test_without_a_network_the_address_is_told(empty_data):
    assert cifar10.URL in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)


def test_damaged_archives(empty_data):
    files = cifar_batches()
    del files["data_batch_4"]
    path = write_tar(cifar10.ARCHIVES[0], files)
    assert "data_batch_4 is missing" in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)
    write_tar(path, cifar_batches())
    path.write_bytes(path.read_bytes()[:20_000])
    assert path.name in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)
    os.truncate(write_tar(path, cifar_batches(), "w"), 20_000)
    assert path.name in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)
    for content, kind in (
        (b"text", "a text file"),
        (b"<html>", "an HTML page"),
        (b"PK\3\4" + bytes(40), "a zip archive"),
    ):
        path.write_bytes(content)
        assert f"is {kind}" in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)


@pytest.mark.parametrize("load", [cifar10.load, cifar10.load_test])
def test_the_end_of_an_archive_is_looked_at(empty_data, load):
    """There the checksum and the length of what was zipped stand; the batches may lie far before."""
    path = write_tar(cifar10.ARCHIVES[0], cifar_batches())
    whole = path.read_bytes()
    for missing in (1, 4, 7, 8):
        path.write_bytes(whole[:-missing])
        assert f"{path}: is damaged" in refused("CIFAR-10", load, cifar10.FOLDER)
    for end in bytes(8), whole[-8:-4] + bytes(4):  # another checksum, another length
        path.write_bytes(whole[:-8] + end)
        assert f"{path}: is damaged" in refused("CIFAR-10", load, cifar10.FOLDER)
    path.write_bytes(whole + bytes(512))  # a tape's last block
    load(cifar10.FOLDER)


def member(name, kind=tarfile.REGTYPE, size=0, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


BATCH = "cifar-10-batches-py/data_batch_1"


@pytest.mark.parametrize("extra, said", [
    ([(member(f"m{number}"), b"") for number in range(1001)], "more than 1000 members"),
    ([(member("zeros", size=62_000_000), bytes(62_000_000))], "unpacks to many times its size"),
    ([(member("pax", tarfile.XHDTYPE, 62_000_000), bytes(62_000_000))], "unpacks to many times its size"),
    ([(member(BATCH, size=3), b"abc")], "data_batch_1"),
], ids=["members", "zeros", "header", "no pickle"])  # fmt: skip
def test_hostile_archives(empty_data, extra, said):
    write_tar(cifar10.ARCHIVES[0], cifar_batches(), extra=extra)
    assert said in refused("CIFAR-10", cifar10.load, cifar10.FOLDER)


@pytest.mark.parametrize("extra", [
    (member(BATCH, tarfile.SYMTYPE, link="/etc/passwd"), b""), (member(BATCH, tarfile.FIFOTYPE), b""),
    (member(BATCH, tarfile.CHRTYPE), b""), (member("../../data_batch_1", size=3), b"abc"),
    (member("/cifar-10-batches-py/data_batch_1", size=3), b"abc"), (member(BATCH, tarfile.DIRTYPE), b""),
], ids=lambda extra: str(extra[0].type))  # fmt: skip
def test_members_that_are_no_batches_are_passed_over(empty_data, extra):
    write_tar(cifar10.ARCHIVES[0], cifar_batches(), extra=[extra])
    is_as_written(cifar10.FOLDER, cifar_batches())


@pytest.mark.parametrize("start", [b"\x80\x04\x8e", b"\x80\x05\x96"], ids=["bytes", "bytearray"])
def test_the_holes_of_a_sparse_member_are_not_filled(tmp_path, start):
    """A batch of 6 GB, of which 512 bytes are in the file: a pickle's text of 5 GB."""
    content = (start + struct.pack("<Q", 5_000_000_000)).ljust(512, b"\0")
    header = bytearray(member(BATCH, tarfile.GNUTYPE_SPARSE, 512).tobuf(tarfile.GNU_FORMAT))
    for place, number in (386, 0), (398, 512), (410, 6_000_000_000), (422, 0), (483, 6_000_000_000):
        header[place : place + 12] = b"%011o\0" % number  # where data lies and how much, twice; the whole size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "sparse.tar").write_bytes(bytes(header) + content + bytes(1024))
    with tarfile.open(tmp_path / "sparse.tar") as tar:
        assert [(each.issparse(), each.size) for each in tar] == [(True, 6_000_000_000)]
    assert "data_batch_1 is missing" in refused("CIFAR-10", cifar10.load, tmp_path / "sparse.tar")


def test_a_pipe_in_the_folder(tmp_path):
    folder = written(tmp_path / "batches", cifar_batches())
    (folder / "data_batch_2").unlink()
    os.mkfifo(folder / "data_batch_2")
    assert "data_batch_2: cannot be read (is a pipe)" in refused("CIFAR-10", cifar10.load, folder)


@pytest.mark.parametrize("name, content, said", [
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.float32), b"labels": [1, 2, 3]}, "float32"),
    ("data_batch_2", {b"data": np.zeros((3, 3071), np.uint8), b"labels": [1, 2, 3]}, "3071"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2]}, "labels (2,)"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8)}, "no data and labels"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2, 10]}, "expected 0 to 9"),
    ("data_batch_2", {b"data": np.zeros((3, 3072), np.uint8), b"labels": [[1], [2, 3], 4]}, "data_batch_2"),
    ("data_batch_2", [1], "no data and labels"),
    ("data_batch_2", None, "data_batch_2: missing; unpack cifar-10-python.tar.gz"),
])  # fmt: skip
def test_wrong_batches(tmp_path, name, content, said):
    folder = written(tmp_path / "batches", cifar_batches() | {name: content})
    if content is None:
        (folder / name).unlink()
    message = refused("CIFAR-10", cifar10.load, folder)
    assert said in message and str(folder) in message


def test_absent_folder(tmp_path):
    assert "no such file or folder" in refused("CIFAR-10", cifar10.load, tmp_path / "absent")


def test_drawn():
    train, test = cifar10.drawn(per_class=4, seed=1), cifar10.drawn_test(per_class=4, seed=1)
    assert np.bincount(train.labels).tolist() == [4] * 10 and np.bincount(test.labels).tolist() == [1] * 10
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 50
    signs = traffic_signs.drawn(per_class=5, seed=1)
    label = signs.class_names.index(train.class_names[3])
    np.testing.assert_array_equal(train.images[train.labels == 3], signs.images[signs.labels == label][:4])
