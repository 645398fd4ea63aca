"""data/bottleneck_files.py: files of features, the course's and our own, and what is taken for one by mistake."""

import os
import pickle

import numpy as np
import pytest
from conftest import python2_dumps, refused

from data import bottleneck_files

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 6)).astype(np.float32), np.arange(12) % 3


def dumped(path, features, labels, dumps=pickle.dumps):
    path.write_bytes(dumps({"features": features, "labels": labels}))
    return path


@pytest.mark.parametrize("dumps", [pickle.dumps, python2_dumps], ids=["Python 3", "Python 2"])
@pytest.mark.parametrize("features", [X, X.reshape(12, 1, 1, 6), X.reshape(12, 1, 2, 3), X.astype(np.float64)],
                         ids=lambda array: f"{array.dtype} {array.shape}")  # fmt: skip
def test_the_course_s_layout(tmp_path, features, dumps):
    path = dumped(tmp_path / "train.p", features, Y[:, None].astype(np.uint8), dumps)
    read, labels = bottleneck_files.read_features(path)
    np.testing.assert_array_equal(read, X)
    np.testing.assert_array_equal(labels, Y)
    assert read.dtype == np.float32 and labels.dtype == np.int64 and bottleneck_files.made_from(path) is None


def test_ours_are_read_back_and_say_how_they_were_made(tmp_path):
    how = {"network": "alexnet", "layer": "fc7", "images": "a hash"}
    bottleneck_files.write(tmp_path / "ours.p", X, Y, how)
    np.testing.assert_array_equal(bottleneck_files.read_features(tmp_path / "ours.p")[0], X)
    assert bottleneck_files.made_from(tmp_path / "ours.p") == how
    assert bottleneck_files.is_made_from(tmp_path / "ours.p", how)
    for other in ({"layer": "fc6"}, {"images": "another"}):
        assert not bottleneck_files.is_made_from(tmp_path / "ours.p", how | other)
    assert not bottleneck_files.is_made_from(tmp_path / "absent.p", how)
    assert not bottleneck_files.is_made_from(tmp_path / "ours.p", how | {"pixels": "a hash"})  # an earlier version's
    with open(tmp_path / "ours.p", "rb") as file:
        assert set(pickle.load(file)) == {"features", "labels", "made_from"}


def test_two_files_one_behind_the_other(tmp_path, capsys):
    files = dumped(tmp_path / "train.p", X, Y), dumped(tmp_path / "validation.p", X[:6] + 1, Y[:6])
    features, labels, count = bottleneck_files.read_both(*files)
    np.testing.assert_array_equal(features, np.concatenate([X, X[:6] + 1]))
    assert labels.tolist() == [*Y, *Y[:6]] and count == 12
    assert capsys.readouterr().out == "train.p: (12, 6)\nvalidation.p: (6, 6)\n\n"


NAN = np.where(np.arange(12)[:, None] == 7, np.float32(np.nan), X)
WRONG = {
    "labels of another length": (X, Y[:-1], X, Y, "train.p: labels are int64 (11,) for 12 images"),
    "labels from 1": (X, Y + 1, X, Y, "train.p: the labels are 1 to 3, 3 different ones; expected 0 to 2"),
    "a class is missing": (X, Y * 2, X, Y, "train.p: the labels are 0 to 4"),
    "labels are no numbers": (X, Y.astype(float), X, Y, "train.p: labels are float64"),
    "labels in lists of different lengths": (X, [[1], [2, 3]], X, Y, "train.p: the labels are not a plain array"),
    "nan": (NAN, Y, X, Y, "train.p: some features are nan"),
    "inf": (np.where(np.isnan(NAN), np.inf, NAN), Y, X, Y, "train.p: some features are"),
    "nan in validation": (X, Y, NAN, Y, "validation.p: some features are nan"),
    "two networks": (X, Y, X[:, :5], Y, "validation.p has 5"),
    "another class in validation": (X, Y, X, Y + 1, "validation.p: has labels that"),
    "no features": (X[:0], Y[:0], X, Y, "train.p: features are float32 (0, 6)"),
    "one feature each, not in rows": (X[:, 0], Y, X, Y, "train.p: features are float32 (12,)"),
    "features are text": (np.array(["a"] * 12), Y, X, Y, "train.p: features are <U1"),
    "features are a number": (3, Y, X, Y, "train.p: features are int64 ()"),
    "images": (np.zeros((12, 32, 32, 3), np.uint8), Y, X, Y, "train.p: holds images, uint8 (12, 32, 32, 3)"),
    "flat images": (np.zeros((12, 3072), np.uint8), Y, X, Y, "train.p: holds images, uint8 (12, 3072)"),
    "scaled images": (np.zeros((12, 32, 32, 3), np.float32), Y, X, Y, "train.p: holds images, float32"),
    "grey images": (np.zeros((12, 32, 32, 1), np.float32), Y, X, Y, "train.p: holds images, float32"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_get_one_clear_line(name, tmp_path):
    features, labels, validation_features, validation_labels, said = WRONG[name]
    files = (
        dumped(tmp_path / "train.p", features, labels),
        dumped(tmp_path / "validation.p", validation_features, validation_labels),
    )
    assert said in refused("bottleneck features", bottleneck_files.read_both, *files)


@pytest.mark.parametrize("content, said", [
    (pickle.dumps([1, 2]), "not a dict with features and labels"), (pickle.dumps({"features": X}), "not a dict with"),
    (b"<html>404</html>", "is an HTML page; expected a pickle of bottleneck features"), (b"", "is an empty file"),
    (b"\x93NUMPY\1\0", "is a .npy file"), (b"PK\3\4" + bytes(50), "is a zip archive"), (b"\x1f\x8b\x08", "a gzip file"),
    (pickle.dumps({"features": X, "labels": Y})[:-9], "cut off"), (None, "is a pipe"),
])  # fmt: skip
def test_other_files(tmp_path, content, said):
    path = tmp_path / "train.p"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    for read in bottleneck_files.read_features, bottleneck_files.made_from:
        if read is bottleneck_files.read_features or said[:3] != "not":
            assert said in refused("bottleneck features", read, path)


def test_made_from_is_a_text_or_nothing(tmp_path):
    for content in [1, 2], {"made_from": ["x"]}, {"made_from": b"x"}:
        (tmp_path / "other.p").write_bytes(pickle.dumps(content))
        assert bottleneck_files.made_from(tmp_path / "other.p") is None
