"""Weights: the cards, every format they come in, and what is said when a file is not what it should be."""

import dataclasses
import pathlib
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from conftest import in_one_line

from common import fetching
from common.errors import BadInput
from weights import caffemodel, cards, reading

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LENET = SHARED / "weights" / "lenet_iter_10000.caffemodel"
GOOGLENET = SHARED / "weights" / "bvlc_googlenet.npz"
ALEXNET = ROOT.parent / "real" / "bvlc-alexnet.npy"
RNG = np.random.default_rng(0)

# AlexNet in small: a first convolution, one in two groups, a dense layer that reads a volume, one that does not.
SMALL = cards.Card(
    name="small", title="Small net", module="", smallest_size=9, framing="crop", early_layer="conv1",
    lower_share=(0.1, 0.1), file="small.npy", urls=("http://127.0.0.1:9/small.npy",),
    other_files=(cards.Source("small.caffemodel", ("http://127.0.0.1:9/small.caffemodel",)),), licence="",
    input_size=9, mean_bgr=(0, 0, 0), parameters=0, top1=0, top5=0, bottleneck="fc6", bottleneck_size=7,
    shapes={"conv1": (3, 3, 3, 4), "conv2": (1, 1, 2, 6), "fc6": (6 * 3 * 2, 7), "fc8": (7, 5)},
    flattened={"fc6": (6, 3, 2)}, ignored=("loss1/",),
)  # fmt: skip


def arrays_for(card):
    return {
        layer: [RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(shape[-1]).astype(np.float32)]
        for layer, shape in card.shapes.items()
    }


def save_npy(path, layers):
    np.save(path, np.array(layers, dtype=object), allow_pickle=True)
    return path


def equal(got, expected):
    assert list(got) == list(expected)
    for layer in expected:
        for one, other in zip(got[layer], expected[layer], strict=True):
            assert one.dtype == np.float32 and one.flags.c_contiguous and one.flags.aligned
            assert np.array_equal(one, other), layer


def in_caffe(layers, flattened):
    """The inverse of `caffemodel.to_tensorflow`, written index by index."""
    blobs = {}
    for layer, (kernel, bias) in layers.items():
        if kernel.ndim == 4:
            blob = np.einsum("hwio->oihw", kernel)
        else:
            blob = np.empty_like(kernel)
            channels, height, width = flattened.get(layer, (kernel.shape[0], 1, 1))
            for row in range(height):
                for column in range(width):
                    for channel in range(channels):
                        ours = (row * width + column) * channels + channel
                        blob[(channel * height + row) * width + column] = kernel[ours]
            blob = blob.T
        blobs[layer] = [blob, bias]
    return blobs


def varint(number):
    data = b""
    while number > 127:
        data, number = data + bytes([number & 127 | 128]), number >> 7
    return data + bytes([number])


def field(number, value):
    """One field of a protocol-buffer message: a varint, or bytes."""
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def blob_message(array, old, packed=True, double=False):
    if old:
        shape = b"".join(field(n + 1, side) for n, side in enumerate((1,) * (4 - array.ndim) + array.shape))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    if double:
        return shape + field(8, array.astype("<f8").tobytes())
    if packed:
        return field(5, array.astype("<f4").tobytes()) + shape
    return shape + b"".join(varint(5 * 8 + 5) + struct.pack("<f", number) for number in array.flat)


def write_caffemodel(path, blobs, old=True, name="a network", **options):
    layer_field, name_field, blobs_field = (2, 4, 6) if old else (100, 1, 7)
    with open(path, "wb") as file:
        file.write(field(1, name.encode()))
        file.write(field(layer_field, field(name_field, b"data") + field(5, 12 if old else b"Data")))
        for layer, arrays in blobs.items():
            message = field(name_field, layer.encode())
            message += b"".join(field(blobs_field, blob_message(array, old, **options)) for array in arrays)
            file.write(field(layer_field, message))
    return path


# --- cards


@pytest.mark.parametrize(("card", "total"), [(cards.ALEXNET, 60_965_224), (cards.GOOGLENET, 6_998_552)])
def test_cards(card, total):
    assert sum(int(np.prod(shape)) + shape[-1] for shape in card.shapes.values()) == total == card.parameters
    for layer, volume in card.flattened.items():
        assert np.prod(volume) == card.shapes[layer][0]


# --- the formats


@pytest.mark.parametrize("kind", ["lists", "tuples", "dicts", "keras dicts", "float16", "float64", "big endian"])
def test_npy_layouts(tmp_path, kind):
    layers = arrays_for(SMALL)
    if kind == "float16":
        layers = {layer: [array.astype(np.float16).astype(np.float32) for array in layers[layer]] for layer in layers}
    names = ("kernel", "bias") if kind == "keras dicts" else ("weights", "biases")
    dtype = {"float16": "f2", "float64": "f8", "big endian": ">f4"}.get(kind, "f4")
    stored = {layer: [array.astype(dtype) for array in layers[layer]] for layer in reversed(layers)}
    if "dicts" in kind:
        stored = {layer: dict(zip(names, arrays)) for layer, arrays in stored.items()}
    if kind == "tuples":
        stored = {layer: tuple(arrays) for layer, arrays in stored.items()}
    equal(reading.load(SMALL, save_npy(tmp_path / "w.npy", stored)), layers)


@pytest.mark.parametrize("names", [("weights", "biases"), ("kernel", "bias")])
def test_npz(tmp_path, names):
    layers = arrays_for(SMALL)
    arrays = {f"{layer}/{name}": array for layer in layers for name, array in zip(names, layers[layer])}
    np.savez_compressed(tmp_path / "w.bin", **arrays)  # the name does not matter
    equal(reading.load(SMALL, str(tmp_path / "w.bin.npz")), layers)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("options", [{}, {"packed": False}, {"double": True}])
def test_caffemodel_layouts(tmp_path, old, options):
    layers = arrays_for(SMALL)
    blobs = in_caffe(layers | {"loss1/fc": arrays_for(SMALL)["fc8"]}, SMALL.flattened)
    path = write_caffemodel(tmp_path / "weights", blobs, old, **options)
    equal(reading.load(SMALL, path), layers)
    if not options and old:
        name, read = caffemodel.read(path)
        assert name == "a network" and read["fc8"][0].shape == (1, 1, 5, 7)


@pytest.mark.skipif(not LENET.exists(), reason="no LeNet written by Caffe")
def test_lenet_as_protobuf_reads_it():
    name, layers = caffemodel.read(LENET)
    assert name == "LeNet"
    assert {layer: [array.shape for array in arrays] for layer, arrays in layers.items()} == {
        "conv1": [(20, 1, 5, 5), (20,)], "conv2": [(50, 20, 5, 5), (50,)],
        "ip1": [(500, 800), (500,)], "ip2": [(10, 500), (10,)],
    }  # fmt: skip
    message = net_parameter().FromString(LENET.read_bytes())
    expected = {layer.name: layer.blobs for layer in message.layer if layer.blobs}
    assert list(layers) == list(expected)
    for layer, blobs in expected.items():
        for array, blob in zip(layers[layer], blobs, strict=True):
            assert array.shape == tuple(blob.shape.dim)
            assert array.ravel().tolist() == list(blob.data)
    turned = caffemodel.to_tensorflow(layers, {"ip1": (50, 4, 4)})
    assert turned["conv2"][0][1, 2, 3, 4] == layers["conv2"][0][4, 3, 1, 2]
    assert turned["ip1"][0][(2 * 4 + 1) * 50 + 7, 9] == layers["ip1"][0][9, 7 * 16 + 2 * 4 + 1]
    assert turned["ip2"][0][3, 4] == layers["ip2"][0][4, 3]


def net_parameter():
    """Google's own class for the few fields of Caffe's NetParameter that matter."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    messages = {
        "BlobShape": [("dim", 1, kinds.TYPE_INT64, True)],
        "BlobProto": [("data", 5, kinds.TYPE_FLOAT, True), ("shape", 7, "BlobShape", False)],
        "LayerParameter": [("name", 1, kinds.TYPE_STRING, False), ("blobs", 7, "BlobProto", True)],
        "NetParameter": [("name", 1, kinds.TYPE_STRING, False), ("layer", 100, "LayerParameter", True)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="test", syntax="proto2")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            entry = message.field.add(name=label, number=number)
            entry.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            entry.type = kinds.TYPE_MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                entry.type_name = f".test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.NetParameter"))


@pytest.mark.skipif(not GOOGLENET.exists(), reason="no real GoogLeNet weights")
def test_real_googlenet(tmp_path):
    weights = reading.load(cards.GOOGLENET, GOOGLENET)
    assert sum(array.size for arrays in weights.values() for array in arrays) == 6_998_552
    blobs = in_caffe(weights | {"loss1/classifier": weights["conv2/3x3_reduce"]}, {})
    path = write_caffemodel(tmp_path / "bvlc_googlenet.caffemodel", blobs, name="GoogleNet")
    equal(reading.load(cards.GOOGLENET, path), weights)


@pytest.mark.skipif(not ALEXNET.exists(), reason="no bvlc-alexnet.npy")
def test_alexnet_from_npy_and_caffemodel(tmp_path):
    """244 MB in the real layouts, fc6's rows included."""
    weights = reading.load(cards.ALEXNET, ALEXNET)
    raw = np.fromfile(ALEXNET, np.uint8, count=2000)
    assert weights["conv1"][0].tobytes()[:400] in raw.tobytes()
    blobs = in_caffe(weights, cards.ALEXNET.flattened)
    path = write_caffemodel(tmp_path / "bvlc_alexnet.caffemodel", blobs, name="AlexNet")
    equal(reading.load(cards.ALEXNET, path), weights)
    path.unlink()


# --- what is refused


def broken(tmp_path, case):
    path, layers = tmp_path / "weights.npy", arrays_for(SMALL)
    if case in ("text", "page", "empty", "keras", "zip", "garbage"):
        path.write_bytes({
            "text": b"these are not weights\n", "page": b"\n<html></html>", "empty": b"", "keras": b"\x89HDF\r\n\x1a\n",
            "zip": b"PK\x03\x04 not really", "garbage": RNG.bytes(1000),
        }[case])  # fmt: skip
        return path
    if case == "npz of objects":
        np.savez(tmp_path / "w.npz", **{"conv1/weights": np.array([{}], dtype=object)})
        return tmp_path / "w.npz"
    if case.startswith("caffemodel"):
        write_caffemodel(path, in_caffe(layers, SMALL.flattened), old=False)
        whole = path.read_bytes()
        path.write_bytes({
            "caffemodel, cut off": whole[:-3],
            "caffemodel, other shape": whole.replace(b"\x0a\x02\x05\x07", b"\x0a\x02\x05\x08"),
            "caffemodel, negative": whole.replace(b"\x0a\x02\x05\x07", b"\x08\xff\xff\x7f"),
            "caffemodel, a layer twice": whole + whole, "caffemodel without layers": whole[:18],
        }[case])  # fmt: skip
        return path
    if case == "array":
        np.save(path, layers["fc8"][0])
        return path
    if case == "a pickled text":
        save_npy(path, layers)
        header = path.read_bytes()[:128]
        path.write_bytes(header + pickle.dumps("text"))
        return path
    if case == "NaN":
        layers["fc6"][0][3, 4] = np.nan
    elif case == "infinite":
        layers["fc8"][1][2] = -np.inf
    elif case == "infinity":
        layers["fc8"][1][2] = np.inf
    elif case == "missing":
        del layers["conv2"]
    elif case == "surplus":
        layers["fc9\n"] = layers["fc8"]
    elif case == "shape":
        layers["fc6"][0] = layers["fc6"][0].T
    elif case == "bias":
        layers["conv1"][1] = layers["conv1"][1][None]
    elif case == "integers":
        layers["conv1"][0] = layers["conv1"][0].astype(int)
    elif case == "text in place of an array":
        layers["conv1"] = ["a", "b"]
    elif case == "one array":
        layers["conv1"] = layers["conv1"][:1]
    elif case == "dict of others":
        layers["conv1"] = {"gamma": layers["conv1"][0], "beta": layers["conv1"][1]}
    elif case == "other network":
        layers = {f"block{n}": layers["fc8"] for n in range(40)}
    elif case == "too large for float32":
        layers["fc8"][0] = layers["fc8"][0].astype(float) * 1e300
    save_npy(path, layers)
    if case == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    return path


CASES = {
    "text": "is a text file; Small net is read from", "page": "is an HTML page", "empty": "is an empty file",
    "keras": "is an HDF5 file", "zip": "is a zip archive", "garbage": "not a .npy, .npz or whole .caffemodel",
    "npz of objects": "holds object, not plain numbers", "caffemodel, cut off": "bytes are missing",
    "caffemodel, negative": "for the shape", "caffemodel, other shape": "for the shape",
    "caffemodel, a layer twice": "two layers",
    "caffemodel without layers": "whole .caffemodel", "array": "expected a dict of layers",
    "a pickled text": "holds a str; expected a dict",
    "NaN": "fc6 holds NaN or infinite", "infinite": "fc8 holds NaN or infinite", "infinity": "fc8 holds",
    "missing": "conv2 is missing",
    "surplus": r"'fc9\\n' is surplus", "shape": r"fc6 kernel is \(7, 36\), expected \(36, 7\)",
    "bias": r"conv1 bias is \(1, 4\), expected \(4,\)", "integers": "conv1 kernel is int64, expected float32",
    "text in place of an array": "conv1 kernel is str", "one array": "conv1 does not hold a kernel and a bias",
    "dict of others": "conv1 does not hold", "other network": "fc8 is missing and 40 more",
    "too large for float32": "fc8 holds NaN or infinite", "cut off": "cut off",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named(tmp_path, case):
    path = broken(tmp_path, case)
    with pytest.raises(BadInput, match=CASES[case]) as error:
        reading.load(SMALL, path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


CAFFE_NAMES = {  # name of the network in the file -> whether it is read as AlexNet
    "AlexNet": True, "alexnet": True, "BVLC AlexNet": True, "bvlc_alexnet": True, "": True,
    "CaffeNet": False, "places205CNN": False, "AlexNet-places205": False, "FlickrStyleCaffeNet": False,
    "R-CNN-ilsvrc13": False, "GoogleNet": False,
}  # fmt: skip


@pytest.mark.parametrize("name", CAFFE_NAMES)
def test_the_name_in_a_caffemodel(tmp_path, name):
    """CaffeNet's arrays have AlexNet's shapes, but its layers have another order."""
    card, layers = dataclasses.replace(SMALL, caffe_name="AlexNet"), arrays_for(SMALL)
    path = write_caffemodel(tmp_path / "w.caffemodel", in_caffe(layers, SMALL.flattened), name=name)
    if CAFFE_NAMES[name]:
        return equal(reading.load(card, path), layers)
    assert f"holds the network {name!r}, expected 'AlexNet'" in in_one_line(reading.load, card, path)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_caffe_tensorflows_names(tmp_path, auxiliary):
    """`_` for `/`, and dicts of weights and biases."""
    weights = reading.random_weights(cards.GOOGLENET, 1)
    stored = {layer.replace("/", "_"): {"weights": kernel, "biases": bias} for layer, (kernel, bias) in weights.items()}
    assert "inception_3a_1x1" in stored
    if auxiliary:
        stored["loss1_fc"] = {"weights": np.zeros((3, 3), np.float32), "biases": np.zeros(3, np.float32)}
    equal(reading.load(cards.GOOGLENET, save_npy(tmp_path / "googlenet.npy", stored)), weights)


def bomb(path, kind):
    """A small file that unpacks, or is told, to be large."""
    if kind == "npz, large arrays" or kind == "npz, many arrays":
        shape = (4000, 10_000) if kind == "npz, large arrays" else (10, 10)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for number in range(4 if kind == "npz, large arrays" else 3000):
                with archive.open(f"layer{number}/weights.npy", "w") as member:
                    np.lib.format.write_array_header_1_0(
                        member, {"descr": "<f4", "fortran_order": False, "shape": shape}
                    )
                    for _ in range(shape[0]):
                        member.write(bytes(4 * shape[1]))
    elif kind == "npz, a header of terabytes":
        with zipfile.ZipFile(path, "w") as archive, archive.open("conv1/weights.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    else:
        blob = {
            "caffemodel, a field for each number": struct.pack("<Bf", 5 * 8 + 5, 0.5) * 1_000_000,
            "caffemodel, packs of one": field(5, struct.pack("<f", 0.5)) * 150_000,
            "caffemodel, dimensions": field(7, field(1, b"\1" * 5_000_000)),
        }.get(kind, b"")
        blobs = field(7, blob) if blob else field(7, b"") * 1_000_000  # or a million arrays of nothing
        path.write_bytes(field(1, b"AlexNet") + field(100, field(1, b"conv1") + blobs + field(7, field(5, bytes(16)))))
    return path


@pytest.mark.parametrize(
    "kind",
    ["npz, large arrays", "npz, many arrays", "npz, a header of terabytes", "caffemodel, a field for each number",
     "caffemodel, packs of one", "caffemodel, dimensions", "caffemodel, arrays of nothing"],
)  # fmt: skip
def test_memory_is_bounded(tmp_path, kind):
    """At most three times the file and 200 MB; here 30, since these files are small."""
    path = bomb(tmp_path / "w", kind)
    tracemalloc.start()
    try:
        in_one_line(reading.load, cards.ALEXNET, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + 30e6, f"{peak:,}"


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_weights_are_not_held_twice(tmp_path, kind):
    """Layer by layer the file's arrays give way to those that are kept."""
    path = tmp_path / f"w.{kind}"
    if kind == "npy":
        save_npy(path, reading.random_weights(cards.GOOGLENET))
    else:
        reading.save(reading.random_weights(cards.GOOGLENET), path)
    tracemalloc.start()
    try:
        weights = reading.load(cards.GOOGLENET, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(array.nbytes for pair in weights.values() for array in pair)
    assert peak < 1.4 * size, f"{peak / size:.2f}"


def test_numbers_in_fields_of_their_own(tmp_path):
    """A field for each number (as many as there may be), packs of several, and both mixed, are one array."""
    numbers = np.arange(150_000, dtype="<f4")
    records = np.zeros(149_000, np.dtype([("key", "u1"), ("number", "<f4")]))
    records["key"], records["number"] = 5 * 8 + 5, numbers[:149_000]
    blob = records.tobytes() + field(5, numbers[149_000:149_900].tobytes()) + field(7, field(1, len(numbers)))
    blob += field(5, numbers[149_900:].tobytes())
    path = tmp_path / "w.caffemodel"
    path.write_bytes(field(100, field(1, b"ip") + field(7, blob)))
    np.testing.assert_array_equal(caffemodel.read(path)[1]["ip"][0], numbers)


def test_folder_and_absent(tmp_path):
    for path in (tmp_path, tmp_path / "absent.npy", "/dev/zero"):
        with pytest.raises(BadInput, match="cannot be read.*give the path of a .npy, .npz or .caffemodel"):
            reading.load(SMALL, path)


def test_every_cut_and_flipped_byte_of_a_caffemodel(tmp_path):
    path = tmp_path / "w"
    whole = write_caffemodel(path, in_caffe(arrays_for(SMALL), SMALL.flattened)).read_bytes()
    for end in range(0, len(whole), 29):
        path.write_bytes(whole[:end])
        with pytest.raises(BadInput):
            reading.load(SMALL, path)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[RNG.integers(200)] = RNG.integers(256)
        path.write_bytes(damaged)
        try:
            reading.load(SMALL, path)
        except BadInput:
            pass


def test_a_caffemodel_of_millions_of_fields_is_given_up(tmp_path):
    start = field(1, b"AlexNet")
    layer = field(4, b"conv1") + field(3, 1) * 400_000
    for content in start + field(3, 1) * 400_000, start + field(2, layer), start + field(2, field(6, layer)):
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(BadInput, match="more than 300,000 fields"):
            reading.load(SMALL, tmp_path / "w")


# --- the default file, random weights, the fingerprint


def test_default_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "WEIGHTS_DIR", tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    match = "by hand.*; or small.caffemodel from http://127.*/small.caffemodel; or give --weights random"
    with pytest.raises(BadInput, match=match) as error:
        reading.load(SMALL)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
    layers = arrays_for(SMALL)
    write_caffemodel(tmp_path / "small.caffemodel", in_caffe(layers, SMALL.flattened))
    equal(reading.load(SMALL), layers)
    save_npy(tmp_path / "small.npy", other := arrays_for(SMALL))
    equal(reading.load(SMALL), other)


@pytest.mark.parametrize("network, names", [
    ("alexnet", "bvlc-alexnet.npy bvlc_alexnet.npy bvlc-alexnet.npz bvlc_alexnet.npz bvlc_alexnet.caffemodel"),
    ("googlenet", "bvlc-googlenet.npy googlenet.npy bvlc-googlenet.npz bvlc_googlenet.npz bvlc_googlenet.caffemodel"),
])  # fmt: skip
def test_files_in_weights_go_by_any_of_their_names(network, names, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "WEIGHTS_DIR", tmp_path)
    for name in names.split():
        (tmp_path / name).touch()
        assert reading.default_path(cards.CARDS[network]) == tmp_path / name
        (tmp_path / name).unlink()


def test_addresses_are_tried_in_turn(tmp_path, monkeypatch):
    asked = []

    def fetch(urls, path, sha1=None):
        asked.append((urls, path.name, sha1))
        if path.name.endswith(".npy"):
            raise BadInput("dead")
        return path

    monkeypatch.setattr(fetching, "fetch", fetch)
    monkeypatch.setattr(reading, "WEIGHTS_DIR", tmp_path)
    assert reading.default_path(cards.ALEXNET) == tmp_path / "bvlc_alexnet.caffemodel"
    assert [(len(urls), name) for urls, name, _ in asked] == [(2, "bvlc-alexnet.npy"), (2, "bvlc_alexnet.caffemodel")]
    assert asked[1][2] == "9116a64c0fbe4459d18f4bb6b56d647b63920377"


def test_a_file_that_changed_since_it_was_fetched(tmp_path):
    path = save_npy(tmp_path / "w.npy", arrays_for(SMALL))
    (tmp_path / "w.npy.sha256").write_text("0" * 64 + "  w.npy\n")
    with pytest.raises(BadInput, match="changed since"):
        reading.load(SMALL, path)


def test_lengths_of_any_size():
    """Varints of protobuf: VGG16's fc6 alone has 411 million bytes, more than four groups of seven bits hold."""
    for number in (0, 127, 128, 411_041_792, 2**35 + 5, 2**63):
        groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
        message = bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:]) + b"rest"
        assert caffemodel._varint(memoryview(message), 0) == (number, len(groups))


def test_what_the_papers_say_of_each_network():
    """Dropout: Krizhevsky and others 2012, 4.2; Szegedy and others 2014, table 1; Simonyan and Zisserman 2014, 3.1.

    How training images became square: Caffe's `convert_imageset --resize_width 256 --resize_height 256` for BVLC's
    networks; the shorter side scaled for the others.
    """
    found = {name: (card.framing, card.dropout) for name, card in cards.CARDS.items()}
    assert found == {
        "alexnet": ("squeeze", {"fc6": 0.5, "fc7": 0.5}),
        "googlenet": ("squeeze", {"pool5": 0.4}),
        "vgg": ("crop", {"fc1": 0.5, "fc2": 0.5}),
        "resnet": ("crop", {}),
    }


def test_random_weights():
    weights = reading.load(cards.GOOGLENET, "random", seed=3)
    assert {layer: kernel.shape for layer, (kernel, _) in weights.items()} == cards.GOOGLENET.shapes
    assert all(array.dtype == np.float32 for arrays in weights.values() for array in arrays)
    equal(reading.random_weights(cards.GOOGLENET, 3), weights)
    assert not np.array_equal(reading.random_weights(cards.GOOGLENET, 4)["conv2/3x3"][0], weights["conv2/3x3"][0])
    kernel = weights["inception_3a/3x3"][0]
    assert abs(kernel.std() * np.sqrt(9 * 96 / 2) - 1) < 0.02
    first, last = weights["conv1/7x7_s2"][0], weights["loss3/classifier"][0]
    assert abs(first.std() * np.sqrt(7 * 7 * 3 / 2) * reading.PIXEL_SPREAD - 1) < 0.02 and reading.PIXEL_SPREAD == 64
    assert abs(last.std() * np.sqrt(1024 / 2) * 4 - 1) < 0.02
    with pytest.raises(BadInput):
        reading.random_weights(SMALL, -1)


def test_fingerprint_sees_everything():
    layers = {layer: tuple(arrays) for layer, arrays in arrays_for(SMALL).items()}
    mark = reading.fingerprint(layers)
    assert len(mark) == 16 and mark == reading.fingerprint({layer: arrays for layer, arrays in layers.items()})
    kernel = layers["fc8"][0].copy()
    kernel[-1, -1] = np.nextafter(kernel[-1, -1], np.float32(9))
    turned = (layers["fc8"][0].T, layers["fc8"][1])
    renamed = {layer.replace("fc8", "fc9"): arrays for layer, arrays in layers.items()}
    for other in (layers | {"fc8": (kernel, layers["fc8"][1])}, layers | {"fc8": turned}, renamed):
        assert reading.fingerprint(other) != mark


def test_fetch_by_hand(tmp_path):
    """As a program, on a file that is there already."""
    code = "import sys, pathlib; from weights import reading, fetch; from common.program import run;"
    code += "reading.WEIGHTS_DIR = pathlib.Path(sys.argv.pop()); run(fetch.main)"
    arrays = reading.random_weights(cards.GOOGLENET)
    save_npy(tmp_path / "bvlc-googlenet.npy", {layer: list(pair) for layer, pair in arrays.items()})

    def run(network):
        command = [sys.executable, "-c", code, network, str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    done = run("googlenet")
    assert done.returncode == 0 and "6,998,552 parameters in 58 layers" in done.stdout and done.stderr == ""
    (tmp_path / "bvlc-googlenet.npy").write_bytes(b"damaged")
    done = run("googlenet")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr


def test_arrays_begin_where_tensorflow_takes_them_and_cannot_be_changed(tmp_path):
    made = reading.random_weights(SMALL)
    reading.save(made, tmp_path / "small.npz")
    for weights in (made, reading.load(SMALL, tmp_path / "small.npz")):
        for kernel, _ in weights.values():
            assert kernel.ctypes.data % 64 == 0 and not kernel.flags.writeable
