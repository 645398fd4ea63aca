"""What a file is, whatever it is called: files that others' programs write, and beginnings typed in by hand."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from conftest import SHARED, in_one_line
from PIL import Image

from common import kinds


def written(write, *arguments, **settings):
    """What a function writes into an open file."""
    file = io.BytesIO()
    write(file, *arguments, **settings)
    return file.getvalue()


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def tarred(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(__file__, "name")


def hdf5(file, user_block=0):
    with h5py.File(file, "w", userblock_size=user_block) as content:
        content["x"] = [1]


def image(file, kind):
    Image.new("RGB", (9, 9)).save(file, kind)


PAGE = "\n<!-- a --><!-- b -->\n<!DOCTYPE html><html><title>404</title></html>"
SAMPLES = [
    ("an empty file", b""),
    ("an HTML page", PAGE.encode()),
    ("an HTML page", b"\xef\xbb\xbf<HTML>"),
    ("an HTML page", b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML">'),
    ("an XML text", b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'),
    ("a JSON text", b'{"message": "Not Found"}'),
    (
        "a Git LFS pointer, not the file itself",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    ),
    ("a gzip file", gzip.compress(b"x")),
    ("a bzip2 file", bz2.compress(b"x")),
    ("an xz file", lzma.compress(b"x")),
    ("a tar archive", written(tarred)),
    ("a .npy file", written(np.save, np.zeros(3))),
    ("a .npz file", written(np.savez, x=np.zeros(3))),
    ("a .npz file", written(np.savez_compressed, x=np.zeros(3))),
    ("an HDF5 file (.h5)", written(hdf5)),
    ("an HDF5 file (.h5)", written(hdf5, user_block=512)),
    ("a Keras model (.keras)", zipped("metadata.json", "config.json", "model.weights.h5")),
    ("a PyTorch file (.pth)", zipped("archive/data.pkl", "archive/version")),
    ("a PyTorch file (.pth)", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)),
    ("a zip archive", zipped("word/document.xml")),
    ("a zip archive", zipped()),
    ("a TensorFlow checkpoint's list of files", b'model_checkpoint_path: "model.ckpt-1"\n'),
    ("a Caffe .prototxt, a network without its weights", b'# AlexNet\nname: "AlexNet"\nlayer {\n name: "data"\n}\n'),
    ("a Caffe .prototxt, a network without its weights", b"layers {\n  type: DATA\n}\n"),
    ("a .caffemodel", b"\x0a\x07AlexNet\x12\x10\x22\x04data"),
    ("a .caffemodel", b"\x0a\x07AlexNet\xa2\x06\x10\x0a\x04data"),
    ("an ONNX model", b"\x08\x08\x12\x07pytorch\x1a\x062.13.0"),
    ("a safetensors file", (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    ("a DICOM image", bytes(128) + b"DICM\x02\0\0\0UL"),
    ("a HEIC image", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ("a HEIC image", b"\0\0\0\x18ftyphevx\0\0\0\0msf1hevx"),
    ("a video", b"\0\0\0\x18ftypisom\0\0\2\0"),
    ("a PDF file", b"%PDF-1.7\n%\xe2\xe3"),
    ("a text file", b"conv1 0.1 0.2\n"),
    ("a text file", "Straße".encode()),
    ("a text file", "ä".encode() * 3000),
    ("a text file", "Stop".encode("utf-16")),
    ("data of an unknown kind", b"\x07" * 5000),
    ("data of an unknown kind", bytes(5000)),
    *[("a pickle", pickle.dumps(value, protocol)) for protocol in range(6) for value in ({"a": 1}, [1], np.zeros(2))],
    *[(f"a {kind} image", written(image, kind)) for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP")],
    ("an icon (.ico)", written(image, "ICO")),
    ("a DDS texture", written(image, "DDS")),
    ("a QOI image", b"qoif\0\0\0\x09\0\0\0\x09\3\0" + bytes(20)),
    ("a Radiance image (.hdr)", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 9\n" + bytes(20)),
    ("a camera's raw file", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
    ("a camera's raw file", b"IIU\0\x18\0\0\0" + bytes(20)),
    ("data of an unknown kind", bytes((0, 0, 1, 0, 0, 0)) + bytes(20)),
    ("a WebP image", written(image, "WEBP")),
    ("a PNM image", written(image, "PPM")),
    ("a PNM image", b"P3\n# drawn by hand\n1 1\n255\n9 99 199\n"),
    ("a PNM image", b"P5 #\n# two comments\n  2 2 255 " + bytes(4)),
    ("a PNM image", b"Pf\n2 2\n-1.0\n" + bytes(16)),
    ("a PFM image in colour", b"PF\n2 2\n-1.0\n" + bytes(48)),
    ("a PAM image", b"P7\n# by hand\nWIDTH 2\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(16)),
    ("a text file", b"P5 is the fifth of the photos, P7 the last.\n"),
]


@pytest.mark.parametrize("expected, content", SAMPLES, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(SAMPLES)])
def test_kinds(tmp_path, expected, content):
    path = tmp_path / "weights.npy"  # the name does not matter
    path.write_bytes(content)
    assert kinds.kind_of(path) == kinds.kind_of(content) == expected


def test_a_tensorflow_1_checkpoint(tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("x", initializer=[1.0, 2.0])
        session.run(tf.compat.v1.global_variables_initializer())
        for version, name in ((1, "old.ckpt"), (2, "new.ckpt")):
            saver = tf.compat.v1.train.Saver(write_version=version)
            saver.save(session, str(tmp_path / name))
    found = {path.name: kinds.kind_of(path) for path in tmp_path.iterdir()}
    assert len(found) >= 6 and all("TensorFlow checkpoint" in kind for kind in found.values()), found
    assert kinds.kind_of((tmp_path / "old.ckpt").read_bytes()) == "a TensorFlow checkpoint"


@pytest.mark.skipif(not SHARED.exists(), reason="the real files are not here")
def test_real_files():
    for name, expected in (("lenet_iter_10000.caffemodel", "a .caffemodel"), ("vgg16_notop_fp16.npz", "a .npz file")):
        assert kinds.kind_of(SHARED / "weights" / name) == expected


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, found in (
        (tmp_path, "is a folder"), (tmp_path / "pipe", "is a pipe"), ("/dev/zero", "is a device"),
        (tmp_path / "absent", "No such file"),
    ):  # fmt: skip
        assert f"{path}: cannot be read ({found}" in in_one_line(kinds.kind_of, path)


def test_every_beginning_is_answered():
    rng = np.random.default_rng(0)
    for _, content in SAMPLES:
        for length in range(0, min(len(content), 600), 7):
            flipped = bytearray(content[:length])
            if length:
                flipped[rng.integers(length)] = rng.integers(256)
            assert kinds.kind_of(bytes(flipped)) and kinds.kind_of(content[:length])
    for text in (b"<!---->" * 600, b"#\n" * 2000, b"<!>" * 1300, b"(" * 4000, b"\n" * 4000, b"P5 " + b"#\n" * 2000):
        assert kinds.kind_of(text)
