"""Files of Keras networks: every layout that people have, written by Keras where it still can; and what is none."""

import gzip
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, SHARED, in_one_line

from common.errors import BadInput
from weights import hdf5, keras_files

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, when it saves
CLASSIFIER = ("fc1/", "fc2/", "predictions/")
SHAPES = {  # a network in small: two convolutions, the first normalised, and a classifier
    "block1_conv1/kernel": (3, 3, 3, 4), "block1_conv1/bias": (4,),
    "block1_bn/gamma": (4,), "block1_bn/beta": (4,), "block1_bn/moving_mean": (4,), "block1_bn/moving_variance": (4,),
    "block1_conv2/kernel": (1, 1, 4, 5), "block1_conv2/bias": (5,),
    "predictions/kernel": (5, 2), "predictions/bias": (2,),
}  # fmt: skip
TRUNK = {name: shape for name, shape in SHAPES.items() if not name.startswith(CLASSIFIER)}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def equal(read, expected):
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], array, name)


def write_legacy_h5(path, arrays, rename=lambda name: name):
    """The layout of the files that `keras.applications` publishes: names in attributes, one group per layer."""
    layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer).encode() for layer in layers]
        for layer in layers:
            group = file.create_group(rename(layer))
            mine = [name for name in arrays if name.split("/")[0] == layer]
            group.attrs["weight_names"] = [f"{rename(name)}:0".encode() for name in mine]
            for name in mine:
                group[f"{rename(name)}:0"] = arrays[name]
    return path


# --- what Keras writes today


def trunk(arrays):
    """The network in small, without its classifier, by Keras."""
    layers = keras.layers
    x = image = keras.Input((6, 6, 3))
    for layer in (
        layers.Conv2D(4, 3, name="block1_conv1"), layers.BatchNormalization(name="block1_bn"), layers.ReLU(),
        layers.Conv2D(5, 1, name="block1_conv2"),
    ):  # fmt: skip
        x = layer(x)
    model = keras.Model(image, x, name="small")
    for variable, name in zip([v for layer in model.layers for v in layer.weights], TRUNK, strict=True):
        variable.assign(arrays[name])
    return model


def with_head(base, outputs, name):
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(outputs, name=name)(x))


def nested(base, depth=1):
    model = base
    for _ in range(depth):
        model = keras.Sequential([keras.Input((6, 6, 3)), model, keras.layers.Identity()])
    return keras.Sequential([model, keras.layers.Flatten(), keras.layers.Dense(7), keras.layers.Dense(3)])


def trained(model):
    """With an optimizer, whose variables are kept along."""
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def frozen(base):
    base.trainable = False
    return base


def half_frozen(base):
    base.get_layer("block1_conv1").trainable = False
    return base


MODELS = {
    "the network": lambda base: base,
    "another last layer": lambda base: with_head(base, 9, "dense"),
    "a last layer of the same name": lambda base: with_head(base, 9, "predictions"),
    "nested": nested,
    "nested twice": lambda base: nested(base, 2),
    "nested and frozen": lambda base: nested(frozen(base)),
    "nested and trained": lambda base: trained(nested(base)),
    "nested, half of it trained": lambda base: trained(nested(half_frozen(base))),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.h5"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_backbone_is_found(arrays, tmp_path, kind, suffix):
    model, path = MODELS[kind](trunk(arrays)), tmp_path / f"model{suffix}"
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    equal(keras_files.read(path, TRUNK, "VGG16", CLASSIFIER), {name: arrays[name] for name in TRUNK})
    assert "has no classifier of ImageNet" in in_one_line(keras_files.read, path, SHAPES, "VGG16", CLASSIFIER)


def test_layers_that_are_only_numbered(arrays, tmp_path):
    """As Keras 3 wrote them at first: conv2d, conv2d_1, without the names."""
    path = tmp_path / "old.weights.h5"
    nested(trunk(arrays)).save_weights(path)
    with h5py.File(path, "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    equal(keras_files.read(path, TRUNK, "VGG16", CLASSIFIER), {name: arrays[name] for name in TRUNK})


def test_numbered_layers_are_counted_not_sorted_as_words():
    """conv2d_10 comes after conv2d_2, in whatever order the file has them."""
    names = ["conv2d", *(f"conv2d_{number}" for number in range(1, 13))]
    found = keras_files._numbered(
        {name: [names.index(name)] for name in sorted(names)},
        {f"block{number}": ["kernel", "bias"] for number in range(13)},
    )
    assert found == {f"block{number}": [number] for number in range(13)}


# --- what it wrote before


def test_published_names_of_vgg_arrays(arrays, tmp_path):
    """VGG16's published file calls them block1_conv1_W_1:0 and _b_1:0; their order tells."""

    def rename(name):
        return name.replace("/kernel", "_W_1").replace("/bias", "_b_1").replace("predictions", "probs")

    equal(keras_files.read(write_legacy_h5(tmp_path / "a.h5", arrays, rename), SHAPES, "VGG16"), arrays)


OLD_RESNET = {  # from the first version of ResNet50 in Keras
    "conv1": "conv1_conv", "bn_conv1": "conv1_bn", "res2a_branch1": "conv2_block1_0_conv",
    "bn2a_branch1": "conv2_block1_0_bn", "res2a_branch2a": "conv2_block1_1_conv", "bn3d_branch2b": "conv3_block4_2_bn",
    "res4f_branch2c": "conv4_block6_3_conv", "bn5c_branch2c": "conv5_block3_3_bn", "fc1000": "predictions",
}  # fmt: skip


def test_old_names_of_resnet(tmp_path):
    rng, parts = np.random.default_rng(0), ("gamma", "beta", "moving_mean", "moving_variance")
    arrays = {
        f"{new}/{part}": rng.normal(size=(3,)).astype(np.float32)
        for old, new in OLD_RESNET.items()
        for part in (parts if old.startswith("bn") else ("kernel", "bias"))
    }
    old_names = {new: old for old, new in OLD_RESNET.items()}

    def rename(name):
        layer, _, part = name.partition("/")
        return f"{old_names[layer]}_{part}".replace("_moving_variance", "_running_std") if part else old_names[layer]

    shapes = {name: (3,) for name in arrays}
    equal(keras_files.read(write_legacy_h5(tmp_path / "resnet.h5", arrays, rename), shapes, "ResNet50"), arrays)


@pytest.mark.parametrize("order", ["red first", "as published"])
def test_vgg_of_toronto(tmp_path, order):
    """conv1_1_W, conv1_1_b ... fc8_b. Its script feeds red, green, blue; the published numbers are recognised."""
    names = {"block1_conv1": "conv1_1", "block5_conv3": "conv5_3", "fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
    rng = np.random.default_rng(0)
    arrays = {f"{layer}/{part}": rng.normal(size=(3, 3, 3, 2)).astype(np.float32)
              for layer in names for part in ("kernel", "bias")}  # fmt: skip
    first = arrays["block1_conv1/kernel"]
    if order == "as published":  # kernel[0, 0, :, 0] as `keras.applications.VGG16` has it, for blue, green, red
        first[0, 0, :, 0] = 0.42947057, 0.55037946, 0.48001540
    stored = {f"{names[name.split('/')[0]]}_{'W' if name.endswith('kernel') else 'b'}": array
              for name, array in arrays.items()}  # fmt: skip
    if order == "red first":
        stored["conv1_1_W"] = first[:, :, ::-1]
    np.savez(tmp_path / "vgg16_weights.npz", **stored)
    shapes = {name: array.shape for name, array in arrays.items()}
    equal(keras_files.read(tmp_path / "vgg16_weights.npz", shapes, "VGG16"), arrays)


@pytest.mark.parametrize("dicts", [False, True])
def test_vgg_as_npy(tmp_path, dicts):
    """A pickled {layer: [kernel, bias]}, or {layer: {"weights": kernel, "biases": bias}}; blue comes first."""
    names = {"block1_conv1": "conv1_1", "block4_conv2": "conv4_2", "fc1": "fc6", "predictions": "fc8"}
    rng, stored = np.random.default_rng(0), {}
    arrays = {f"{layer}/{part}": rng.normal(size=(3, 3, 3, 2)).astype(np.float32)
              for layer in names for part in ("kernel", "bias")}  # fmt: skip
    for layer, name in names.items():
        pair = [arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]]
        stored[name] = dict(zip(("weights", "biases"), pair)) if dicts else pair
    np.save(tmp_path / "vgg16.npy", np.array(stored, dtype=object), allow_pickle=True)
    shapes = {name: array.shape for name, array in arrays.items()}
    equal(keras_files.read(tmp_path / "vgg16.npy", shapes, "VGG16"), arrays)


# --- what is refused

WRONG = {
    "block1_conv2/bias is missing": lambda arrays: arrays.pop("block1_conv2/bias"),
    r"block1_conv2/kernel is \(1, 1, 5, 4\), expected \(1, 1, 4, 5\)": lambda arrays: arrays.update(
        {"block1_conv2/kernel": np.zeros((1, 1, 5, 4), np.float32)}
    ),
    "block1_bn/beta is int64, expected float32": lambda arrays: arrays.update({"block1_bn/beta": np.zeros(4, int)}),
    "block1_bn/beta holds NaN": lambda arrays: arrays.update({"block1_bn/beta": np.float32([0, np.nan, 0, 0])}),
    "has no classifier": lambda arrays: (arrays.pop("predictions/kernel"), arrays.pop("predictions/bias")),
    "'block1_conv3/(kernel|0)' is surplus": lambda arrays: arrays.update({"block1_conv3/kernel": np.zeros(1, "f4")}),
    "'block1_bn/(5|4|more)' is surplus": lambda arrays: arrays.update({"block1_bn/more": np.zeros(1, "f4")}),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_wrong_arrays_are_named(arrays, tmp_path, message, suffix):
    WRONG[message](arrays)
    path = tmp_path / f"wrong.{suffix}"
    np.savez(path, **arrays) if suffix == "npz" else write_legacy_h5(path, arrays)
    with pytest.raises(keras_files.BadInput, match=message):
        assert in_one_line(keras_files.read, path, SHAPES, "VGG16", CLASSIFIER).startswith(f"{path}: ")
        keras_files.read(path, SHAPES, "VGG16", CLASSIFIER)


def test_a_larger_network_is_not_this_one(tmp_path):
    """VGG19 has all of VGG16's layers, with the same shapes, and three more; ResNet101 all of ResNet50's."""
    for ours, more in (("block3_conv3", "block3_conv4"), ("conv4_block6_3_bn", "conv4_block23_3_bn")):
        arrays = {f"{layer}/kernel": np.zeros(3, np.float32) for layer in (ours, more)}
        path = write_legacy_h5(tmp_path / "larger.h5", arrays)
        assert f"'{more}/0' is surplus" in in_one_line(keras_files.read, path, {f"{ours}/kernel": (3,)}, "VGG16")


def link(path, target, kind):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        file["block1_conv1"] = h5py.ExternalLink(target.name, "block1_conv1") if kind == "link" else h5py.SoftLink("/")


def external(path, arrays):
    """Arrays whose bytes lie in another file."""
    path.with_name("secret").write_bytes(bytes(1000))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        for name in ("kernel", "bias"):
            shape = SHAPES[f"block1_conv1/{name}"]
            group.create_dataset(name, shape, "f4", external=[(str(path.with_name("secret")), 0, 1000)])


def damaged(path, arrays, how):
    content = {
        "an HTML page": b"<html></html>", "a text file": b"not found", "a Git LFS pointer":
        b"version https://git-lfs.github.com/spec/v1\n", "an empty file": b"", "a pickle": b"\x80\x03}q\x00.",
        "a gzip file": gzip.compress(b"x"), "a zip archive": b"PK\x03\x04 not really", "a PyTorch file":
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "a .caffemodel": b"\x0a\x03VGG\xa2\x06\x02\x0a\0",
    }  # fmt: skip
    if how in content:
        return path.write_bytes(content[how])
    target = write_legacy_h5(path.with_name("target.h5"), arrays)
    if how == "a .npy file":
        np.save(path.with_suffix(".npy"), np.zeros(3))
        path.with_suffix(".npy").rename(path)
    elif how.endswith(".npz"):
        more = {"more": np.array([{}], dtype=object)} if how.startswith("pickle") else {}
        np.savez(path, **arrays, **more)
    elif how in ("link", "soft link"):
        link(path, target, how)
    elif how == "bytes in another file":
        external(path, arrays)
    elif how == "another .h5":
        with h5py.File(path, "w") as file:
            file["numbers"] = [1, 2]
    else:
        target.rename(path)
    if how.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-700])


DAMAGED = {how: how for how in (
    "an HTML page", "a text file", "a Git LFS pointer", "an empty file", "a pickle", "a gzip file", "a zip archive",
    "a PyTorch file", "a .caffemodel",
)} | {
    "a .npy file": "expected a dict of layers",
    "cut .npz": "is damaged, or not", "pickle in .npz": "is damaged, or not", "cut .h5": "is damaged, or not",
    "another .h5": "block1_conv1/kernel is missing", "link": "points elsewhere", "soft link": "points elsewhere",
    "bytes in another file": "points to another file",
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_what_is_no_such_file(arrays, tmp_path, how):
    path = tmp_path / "weights.npz"
    damaged(path, arrays, how)
    message = in_one_line(keras_files.read, path, SHAPES, "VGG16")
    assert message.startswith(f"{path}: ") and DAMAGED[how] in message and "--weights" in message
    assert "delete" not in message


def test_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, found in (
        (tmp_path / "absent.h5", "No such file"),
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe"),
    ):
        assert found in in_one_line(keras_files.read, path, SHAPES, "VGG16")


@pytest.mark.parametrize("child, found", [("while True: pass", "took libhdf5 more than 2 seconds"),
                                          ("import os; os.abort()", "libhdf5 crashed")])  # fmt: skip
def test_libhdf5_hangs_or_crashes(arrays, tmp_path, monkeypatch, child, found):
    path = write_legacy_h5(tmp_path / "a.h5", arrays)
    (tmp_path / "child.py").write_text(child)
    monkeypatch.setattr(hdf5, "CHILD", tmp_path / "child.py")
    monkeypatch.setattr(hdf5, "TIME_LIMIT", 2)
    assert found in in_one_line(keras_files.read, path, SHAPES, "VGG16")


def test_libhdf5_ends_between_two_arrays(arrays, tmp_path):
    """As the system ends what takes too much memory: it is the file's fault, not that of a pipe that nobody reads."""
    path = write_legacy_h5(tmp_path / "a.h5", arrays)
    script = (
        "import os, sys; from common.program import run; from weights import hdf5; import subprocess\n"
        "def main():\n"
        "    started = []\n"
        "    class Child(subprocess.Popen):\n"
        "        def __init__(self, *all, **named): super().__init__(*all, **named); started.append(self)\n"
        "    subprocess.Popen = Child\n"
        "    with hdf5.opened(sys.argv[1], 'weights', 'get others') as layers:\n"
        "        first, second, *_ = [array for arrays in layers.values() for array in arrays]\n"
        "        first.read(); started[0].kill(); started[0].wait(); second.read()\n"
        "run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "a.h5" in done.stderr, done


def test_an_array_that_is_smaller_than_a_message_is_not_filled_with_one(tmp_path):
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as file:
        layer = file.create_group("layers/dense/vars")
        layer.attrs["name"] = "dense"
        array = layer.create_dataset("0", data=np.arange(12, dtype=np.float32), chunks=(12,), compression="gzip")
        start, size = (getattr(array.id.get_chunk_info(0), name) for name in ("byte_offset", "size"))
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(BadInput, match="'/layers/dense/vars/0' cannot be read"):
        with hdf5.opened(path, "a file of weights", "get another") as layers:
            layers["dense"][0].read()


def test_what_lies_beside_the_child_is_not_run(arrays, tmp_path, monkeypatch):
    path = write_legacy_h5(tmp_path / "a.h5", arrays)
    (tmp_path / "child.py").write_text(hdf5.CHILD.read_text())
    (tmp_path / "h5py.py").write_text("raise SystemExit")
    monkeypatch.setattr(hdf5, "CHILD", tmp_path / "child.py")
    with hdf5.opened(path, "weights", "get others") as layers:
        assert layers


@pytest.mark.skipif(not SHARED.exists(), reason="the file on which libhdf5 hangs is not here")
def test_a_file_on_which_libhdf5_hangs(monkeypatch):
    monkeypatch.setattr(hdf5, "TIME_LIMIT", 3)
    in_one_line(keras_files.read, SHARED / "cases" / "h5_hang.h5", SHAPES, "VGG16")


@pytest.mark.slow
def test_flipped_bytes_of_hdf5(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "TIME_LIMIT", 5)
    whole = write_legacy_h5(tmp_path / "whole.h5", arrays).read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "flipped.h5"
    for place in rng.integers(len(whole), size=60):
        path.write_bytes(whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :])
        try:
            keras_files.read(path, SHAPES, "VGG16")
        except keras_files.BadInput as error:
            assert "\n" not in str(error)
