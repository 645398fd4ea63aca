"""Heads in files: kept and read again, also those of the previous version; every value that could be wrong is named."""

import json
import os
import pathlib
import zipfile

import numpy as np
import pytest
from conftest import SHARED, in_one_line

from transfer import trained
from weights import heads, npz
from weights.heads import Head, Provenance

FILES = pathlib.Path(__file__).parent / "files"  # written by the version that kept `settings`
PROVENANCE = Provenance(
    network="googlenet", layer="pool5", image_size=64, as_published=False, precision="float32", weights=None, seed=7,
    fingerprint="0123456789abcdef", trained_on="my_images", validation_accuracy=0.875, size=64, how="squeeze",
    resized=73,
)  # fmt: skip
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
ARRAYS = {"kernel": KERNEL, "bias": np.float32([1, -1]), "class_names": np.array(["Stop", "Vorfahrt gewähren"])}


def write(path, provenance=None, save=np.savez, **others):
    """A head's file, made by NumPy itself; `provenance`: values that differ, or a text."""
    if not isinstance(provenance, str):
        provenance = json.dumps(PROVENANCE._asdict() | (provenance or {}))
    arrays = {name: array for name, array in (ARRAYS | others).items() if array is not None}
    save(path, provenance=provenance, **arrays)
    return path


def test_a_head_is_kept_as_it_is(tmp_path):
    head = Head(KERNEL, np.float32([1, -1]), ["Stop", "停"], PROVENANCE._replace(weights="network-2.npz"))
    heads.save(head, tmp_path / "head.npz")
    for path in (tmp_path, tmp_path / "head.npz"):
        read = heads.load(path)
        assert read[2:] == head[2:] and isinstance(read.provenance, Provenance)
        np.testing.assert_array_equal(read.kernel, head.kernel)
        np.testing.assert_array_equal(
            read.logits(np.float32([[1, 2, 3]])), [[1 * 0 + 2 * 2 + 3 * 4 + 1, 1 + 6 + 15 - 1]]
        )


def test_a_description_is_one_printable_line(tmp_path):
    path = write(tmp_path / "head.npz", {"trained_on": "signs\x1b]0;x\x07\nAccuracy: 0.999"})
    line = trained.description(heads.load(path), path)
    assert line.isprintable() and r"signs\x1b]0;x\x07\nAccuracy" in line


def test_an_accuracy_says_on_which_images(tmp_path):
    path = write(tmp_path / "head.npz", {"validation_accuracy": 0.9876})
    assert trained.description(heads.load(path), path).endswith(", validation accuracy 0.988")
    write(path, {"validation_accuracy": 0.9876, "trained_on": "German traffic signs, none held out"})
    assert trained.description(heads.load(path), path).endswith("accuracy 0.988 on images that it was trained on")


def test_probabilities_are_the_softmax_of_each_row():
    features = np.float32([[1, 2, 3], [-1, 0.5, 0], [100, 100, 100]])  # logits of 899: exp alone overflows
    found = Head(KERNEL, np.float32([1, -1]), ["a", "b"]).probabilities(features)
    first = 1 / (1 + np.exp(np.diff(features.astype(float) @ KERNEL + [1, -1])[:, 0]))
    np.testing.assert_allclose(found, np.stack([first, 1 - first], axis=1), rtol=1e-5, atol=1e-7)
    assert found.dtype == np.float32


def test_heads_of_the_previous_version_are_read():
    own, signs = (heads.load(FILES / f"head_{name}.npz") for name in ("own_images", "signs"))
    assert own.class_names == ["Stop", "Yield"] and own.kernel.shape == (3, 2)
    assert own.provenance == PROVENANCE._replace(weights="network-3.npz", how="crop", resized=256)
    assert signs.class_names[0] == "Speed limit (20km/h)"
    assert signs.provenance == Provenance(
        "alexnet",
        "fc7",
        227,
        True,
        "bfloat16",
        None,
        0,
        "fedcba9876543210",
        "German traffic signs",
        0.5,
        32,
        "whole",
        0,
    )
    rng = np.random.default_rng(5)  # how that version began its kernels
    np.testing.assert_array_equal(own.kernel, np.float32(0.01) * rng.standard_normal((3, 2), dtype=np.float32))


WRONG_VALUES = [
    {"network": "lenet"}, {"network": 3}, {"network": None}, {"layer": ""}, {"layer": None}, {"layer": "../fc7"},
    {"layer": "x" * 99}, {"image_size": 0}, {"image_size": 10**6}, {"image_size": 64.0}, {"image_size": True},
    {"image_size": "64"}, {"as_published": 1}, {"as_published": None}, {"as_published": True},
    {"precision": "float64"}, {"precision": []},
    {"weights": 7}, {"weights": ""}, {"weights": "a\0b"}, {"weights": "x" * 5000}, {"seed": -1}, {"seed": 2**32},
    {"seed": 0.5}, {"seed": True}, {"fingerprint": "0123"}, {"fingerprint": "0123456789ABCDEF"}, {"fingerprint": 1},
    {"trained_on": None}, {"trained_on": "x" * 5000}, {"validation_accuracy": 1.5}, {"validation_accuracy": None},
    {"validation_accuracy": float("nan")}, {"validation_accuracy": float("inf")}, {"validation_accuracy": "1"},
    {"validation_accuracy": True}, {"size": 0}, {"size": 10**6}, {"size": None}, {"how": "stretch"}, {"how": ["crop"]},
    {"resized": -1}, {"resized": 10**9}, {"resized": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("values", WRONG_VALUES, ids=[str(each)[:40] for each in WRONG_VALUES])
def test_every_value_is_checked(tmp_path, values):
    path = write(tmp_path / "head.npz", values)
    message = in_one_line(heads.load, path)
    assert message.startswith(f"{path}: ") and next(iter(values)) in message and "--head" in message


@pytest.mark.parametrize("name", Provenance._fields)
def test_every_value_must_be_there(tmp_path, name):
    values = PROVENANCE._asdict()
    del values[name]
    assert name in in_one_line(heads.load, write(tmp_path / "head.npz", json.dumps(values)))


def many(shape):
    return np.zeros(shape, np.float32)


WRONG_ARRAYS = {
    "no kernel": {"kernel": None}, "no bias": {"bias": None}, "no names": {"class_names": None},
    "a name too few": {"class_names": np.array(["Stop"])}, "bias of 3": {"bias": many(3)},
    "flat kernel": {"kernel": many(6)}, "deep kernel": {"kernel": many((3, 2, 1))}, "transposed": {"kernel": KERNEL.T},
    "no classes": {"kernel": many((3, 0)), "bias": many(0), "class_names": np.array([], str)},
    "no features": {"kernel": many((0, 2))}, "NaN": {"kernel": KERNEL * np.float32(np.nan)},
    "infinite": {"bias": np.float32([np.inf, 0])}, "float64": {"kernel": KERNEL.astype(float)},
    "integers": {"kernel": KERNEL.astype(int)}, "text": {"kernel": KERNEL.astype(str)},
    "numbered names": {"class_names": np.arange(2)}, "bytes": {"class_names": np.array([b"a", b"b"])},
    "objects": {"class_names": np.array(["a", {}], object)}, "a table": {"class_names": np.array([["a", "b"]])},
    "no characters": {"class_names": np.frombuffer(np.uint32([1 << 30, 65]).tobytes(), "<U1")},
    "huge": {"kernel": np.full((3, 2), -3e38, np.float32)},
    "half a character": {"class_names": np.array(["a", "\udcff"])},
    "no JSON": {"provenance": "{"}, "a list": {"provenance": "[1]"}, "deep": {"provenance": "[" * 100_000},
    "a huge integer": {"provenance": '{"network": "vgg", "seed": ' + "9" * 5000 + "}"},
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_every_array_is_checked(tmp_path, case):
    path = write(tmp_path / "head.npz", **WRONG_ARRAYS[case])
    message = in_one_line(heads.load, path)
    assert message.startswith(f"{path}: ") and "--head" in message


def test_what_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "head.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("kernel.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (10**5, 600)})
        for _ in range(240):
            member.write(bytes(10**6))
    with zipfile.ZipFile(path, "a") as archive:
        for name, array in (ARRAYS | {"provenance": np.array("{}")}).items():
            if name != "kernel":
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array)
    assert path.stat().st_size < 300_000
    assert "unpacks to 240,000,000 bytes" in in_one_line(heads.load, path)


def test_all_arrays_of_a_head_together_take_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "SPARE", 1_000_000)
    kernel, names = np.zeros((200_000, 1), "f4"), np.zeros(1, "U200000")
    np.savez_compressed(tmp_path / "head.npz", kernel=kernel, bias=np.zeros(1, "f4"), class_names=names, provenance="")
    assert "'class_names.npy' unpacks to 800,000 bytes, with the others too many" in in_one_line(
        heads.load, tmp_path / "head.npz"
    )


def test_what_is_no_head(tmp_path):
    (tmp_path / "page").write_text("<!doctype html>")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    np.savez(tmp_path / "others.npz", x=1)
    for name, found in {
        "absent": "no such file", "page": "is an HTML page", "empty": "is an empty file", "pipe": "is a pipe",
        "others.npz": "'kernel' is missing", "x" * 300: "no such file", "a\0b": "no such file",
    }.items():  # fmt: skip
        assert found in in_one_line(heads.load, tmp_path / name)


def test_every_flipped_byte_and_cut(tmp_path):
    """Read as it was, or refused in one line."""
    whole = write(tmp_path / "whole.npz").read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "head.npz"
    damaged = [whole[:end] for end in range(0, len(whole), 53)]
    for place in rng.integers(len(whole), size=400):
        damaged.append(whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :])
    if SHARED.exists():
        damaged += [(SHARED / "cases" / f"head_flipped_{number}.npz").read_bytes() for number in (1, 2)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            heads.load(path)
        except heads.BadInput as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > len(damaged) / 2


@pytest.mark.parametrize("layer, features", [("inception_9z", 1024), ("pool5", 1000)])
def test_a_head_that_its_network_cannot_feed(tmp_path, layer, features):
    from transfer import trained
    from weights import cards, reading

    weights = reading.random_weights(cards.GOOGLENET, 7)
    origin = PROVENANCE._replace(layer=layer, weights="random", fingerprint=reading.fingerprint(weights))
    head = heads.untrained(features, ["a", "b"], provenance=origin)
    heads.save(head, tmp_path / "head.npz")
    found = f"reads {features:,} features of {layer}, which BVLC GoogLeNet"
    assert found in in_one_line(trained.load, tmp_path)
