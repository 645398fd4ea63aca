"""Damages valid files by the thousand and reads them: run by test_fuzz.py, or by hand.

    python tests/fuzzing.py pickle head --inputs 10000 --seed 1   # these readers; all without a name

Whatever the input, a reader returns, or raises a BadInput of one printable line: within SECONDS, and within 200 MB and
three times the file of memory. Every other end is a finding: its input is kept in --keep, and the exit status is 1.
"""

import argparse
import collections
import contextlib
import dataclasses
import faulthandler
import gzip
import io
import json
import os
import pathlib
import pickle
import random
import re
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile

import h5py
import hypothesis
import numpy as np
from hypothesis import strategies as st
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common import kinds, safe_pickle
from common.errors import LONGEST_MESSAGE, BadInput
from data import bottleneck_files, cifar10, decoding, gtsrb_archive, images, own_images, traffic_signs
from transfer import feature_store, run_files
from weights import cards, heads, keras_files, reading

SECONDS = 30  # per input; a hundred times what the slowest takes on a quiet machine
MEMORY = 200_000_000  # bytes, besides three times the file
RNG = np.random.default_rng(0)
CARD = dataclasses.replace(cards.CARDS["alexnet"], shapes={"conv1": (3, 3, 3, 4), "fc8": (16, 5)}, ignored=())
SHAPES = {"conv/kernel": (3, 3, 3, 4), "conv/bias": (4,)}
FEATURES = RNG.standard_normal((6, 3)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)

TOKENS = [
    b"", b"\0" * 8, b"\xff" * 8, b"\n", b"\\", b"'", b'"', b"(", b"((((((((", b"[" * 200, b"{", b"0", b"-1", b"1e999",
    b"NaN", b"null", b"true", b"9" * 20, b"9" * 5000, b"\x1b[2J", b"\xe2\x80\xae", b"../", b"/etc/passwd", b"\x80",
    b"2\x86", b"\x94", b"h\x00", b"e.", b"cos\nsystem\n", b"O", b"<f8", b"|O", b"U0", b"(1000000000,)", b",", b";",
    b"\r\n",
]  # fmt: skip
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


class Packed:
    """A valid archive: its members can be damaged before they are packed, so that sizes and checksums are right."""

    def __init__(self, pack, members):
        self.pack, self.members = pack, members


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(file.getvalue(), 1)


def gzipped(members):
    return gzip.compress(members["tar"], 1)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(arrays):
    return Packed(zipped, {f"{name}.npy": npy(np.asarray(array)) for name, array in arrays.items()})


def pickles(value):
    return [pickle.dumps(value, protocol) for protocol in (0, 2, 4, 5)]


def encoded(mode, kind, **settings):
    file = io.BytesIO()
    Image.fromarray(PIXELS.reshape(24, 4, 3)).convert("L" if mode == "I;16" else mode).convert(mode).save(
        file, kind, **settings
    )
    return file.getvalue()


def image_files():
    kinds_and_modes = [
        ("RGB", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("L", "PNG"), ("1", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"),
        ("L", "JPEG"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "TIFF"), ("L", "TIFF"), ("RGB", "PPM"), ("L", "PPM"),
        ("RGB", "WEBP"), ("RGB", "JPEG2000"), ("I;16", "TIFF"), ("F", "TIFF"),
    ]  # fmt: skip
    for mode, kind in kinds_and_modes:
        with contextlib.suppress(KeyError, OSError):  # not every Pillow writes all of them
            yield encoded(mode, kind)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        with contextlib.suppress(KeyError, OSError):
            yield encoded("RGB", "TIFF", compression=compression)


def caffemodel():
    """Two layers in Caffe's own layout, written by hand: fields are (number, wire type), lengths before contents."""

    def field(number, content):
        return bytes([*varint(number << 3 | 2), *varint(len(content))]) + content

    def varint(value):
        while value > 127:
            yield value & 127 | 128
            value >>= 7
        yield value

    def blob(array):
        shape = field(7, field(1, b"".join(bytes(varint(side)) for side in array.shape)))
        return field(7, shape + field(5, array.astype("<f4").tobytes()))

    layers = b""
    for name, kind, shape in (("conv1", b"Convolution", (4, 3, 3, 3)), ("fc8", b"InnerProduct", (5, 16))):
        arrays = np.ones(shape), np.ones(shape[:1])
        layers += field(100, field(1, name.encode()) + field(2, kind) + b"".join(map(blob, arrays)))
    return field(1, b"AlexNet") + layers


def hdf5():
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content.attrs["layer_names"] = [b"conv"]
        group = content.create_group("conv")
        group.attrs["weight_names"] = [b"conv/kernel", b"conv/bias"]
        group["conv/kernel"], group["conv/bias"] = np.ones((3, 3, 3, 4), "f4"), np.ones(4, "f4")
    return file.getvalue()


def signs_archive():
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    members = {}
    for label in range(43):
        folder = f"GTSRB/Final_Training/Images/{label:05d}"
        members[f"{folder}/GT-{label:05d}.csv"] = f"{header}00000_00000.ppm;4;4;0;0;3;3;{label}\n".encode()
        members[f"{folder}/00000_00000.ppm"] = b"P6\n4 4\n255\n" + PIXELS[0].tobytes()
    return Packed(zipped, members)


def cifar_archive():
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3], b"filenames": [b"a.png"] * 4}
    names = [f"cifar-10-batches-py/{name}" for name in (*cifar10.TRAINING, *cifar10.TEST)]
    members = {name: pickle.dumps(batch, 2) for name in names}
    return [Packed(tarred, members), Packed(gzipped, {"tar": gzip.decompress(tarred(members))})]


PROVENANCE = {
    "network": "alexnet", "layer": "fc7", "image_size": 227, "as_published": False, "precision": "float32",
    "weights": None, "seed": 0, "fingerprint": "0" * 16, "trained_on": "signs", "validation_accuracy": 0.5, "size": 32,
    "how": "whole", "resized": 0,
}  # fmt: skip
HEAD = {"kernel": FEATURES, "bias": FEATURES[0], "class_names": ["a", "b", "停"], "provenance": json.dumps(PROVENANCE)}
PARTS = ("weights", "biases")
NETWORK = {"conv1": [np.ones((3, 3, 3, 4), "f4"), np.ones(4, "f4")], "fc8": [np.ones((16, 5), "f4"), np.ones(5, "f4")]}
ARRAYS = {f"{layer}/{part}": pair[index] for layer, pair in NETWORK.items() for index, part in enumerate(PARTS)}
VALUES = {
    "features": PIXELS, "labels": np.arange(6) % 43, "sizes": [(32, 32)] * 6, b"names": ["a", {1, 2}, None, 2**40, 1.5],
    "objects": np.array([1, "a"], dtype=object),
}  # fmt: skip
BOTTLENECK = {"features": FEATURES, "labels": [0, 1, 2] * 2}
SIGNS = {"features": np.zeros((4, 32, 32, 3), np.uint8), "labels": np.arange(4), "sizes": np.full((4, 2), 32)}
SETTINGS = {"script": "train_feature_extraction", "flags": {"network": "alexnet", "epochs": 10, "layer": None}}


def read_settings(path):
    shutil.copyfile(path, path.with_name("settings.json"))
    run_files.read_settings(path.parent)


def read_features(name):
    """One file of the store is damaged; the features are the right ones all the same."""

    def read(path):
        folder = path.with_name("features")
        stored = feature_store.stored(PIXELS, lambda _: FEATURES, {"network": "x"}, folder)
        shutil.copyfile(path, stored.path.with_suffix(name))
        with contextlib.redirect_stderr(io.StringIO()):
            again = feature_store.stored(PIXELS, lambda _: FEATURES, {"network": "x"}, folder)
        np.testing.assert_array_equal(again[:], FEATURES)
        if name == ".npy.sha256":
            stored.path.with_suffix(name).unlink()

    return read


def read_decoded(path):
    """The kept array of decoded images is damaged; the images are the right ones all the same."""
    folder, cache = path.with_name("own"), path.with_name("kept")
    if not folder.exists():
        for number, name in enumerate("ab"):
            (folder / name).mkdir(parents=True)
            Image.fromarray(PIXELS[number]).save(folder / name / "1.png")
    framing = images.Framing(4)
    expected = np.array(own_images.load(folder, framing, cache=cache).images)
    for kept in cache.glob("*.npy"):
        shutil.copyfile(path, kept)
    with contextlib.redirect_stderr(io.StringIO()):
        np.testing.assert_array_equal(own_images.load(folder, framing, cache=cache).images, expected)


@dataclasses.dataclass
class Reader:
    corpus: list
    read: object  # function of a path
    suffix: str = ""
    slow: int = 1  # so many times fewer inputs
    memory: int = MEMORY


READERS = {
    "pickle": Reader(pickles(VALUES), safe_pickle.load),
    "npy": Reader(
        [npy(array) for array in (FEATURES, PIXELS, np.array(VALUES, object), np.array(["a"]))], safe_pickle.load_npy
    ),
    "weights": Reader(
        [npy(np.array(NETWORK, object)), npz(ARRAYS), caffemodel()],
        lambda path: reading.load(CARD, path),
    ),
    "caffemodel": Reader([caffemodel()], lambda path: reading.load(CARD, path), ".caffemodel"),
    "head": Reader([npz(HEAD)], heads.load, ".npz"),
    "bottleneck": Reader(pickles(BOTTLENECK), bottleneck_files.read_features, ".p"),
    "signs": Reader(pickles(SIGNS), traffic_signs.load, ".p"),
    "signs archive": Reader([signs_archive()], gtsrb_archive.read_archive, ".zip", 20),
    "cifar": Reader(cifar_archive(), cifar10.load, ".tar.gz", 4),
    "image": Reader(list(image_files()), decoding.read, memory=2_000_000_000),  # of one decoded image: 1 GB
    "kind": Reader(
        [*image_files(), caffemodel(), hdf5(), *pickles(VALUES), b"<html>", zipped({"a": b""})], kinds.kind_of
    ),
    "settings": Reader([json.dumps(SETTINGS).encode()], read_settings, ".json"),
    "stored features": Reader([npy(FEATURES)], read_features(".npy"), slow=4),
    "stored key": Reader([b'{"key": {}}'], read_features(".json"), slow=4),
    "stored hash": Reader([b"0" * 64 + b"  x.npy\n"], read_features(".npy.sha256"), slow=4),
    "decoded images": Reader([npy(PIXELS[:2])], read_decoded, slow=10),
    "hdf5": Reader([hdf5()], lambda path: keras_files.read(path, SHAPES, "VGG16"), ".h5", 100),
}  # fmt: skip


def damaged_input(random, corpus):
    """A valid file of the corpus, damaged one to four times: as it lies there, or a member before it is packed."""
    sample = random.choice(corpus)
    if not isinstance(sample, Packed):
        return damaged(random, sample, corpus)
    if random.randrange(4):
        name = random.choice(sorted(sample.members))
        return sample.pack(sample.members | {name: damaged(random, sample.members[name], corpus)})
    return damaged(random, sample.pack(sample.members), corpus)


def damaged(random, content, corpus):
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(max(len(data), 1))
        end = min(len(data), place + random.choice([1, 2, 4, 8, 16, 100, 1000]))
        random.choice([bit, byte, number, digits, token, inserted, cut, deleted, doubled, spliced])(
            random, data, place, end, corpus
        )
    return bytes(data)


def bit(random, data, place, end, corpus):
    if data:
        data[place] ^= 1 << random.randrange(8)


def byte(random, data, place, end, corpus):
    data[place : place + 1] = random.randbytes(1)


def number(random, data, place, end, corpus):
    size, order = random.choice([1, 2, 4, 8]), random.choice(["little", "big"])
    data[place : place + size] = (random.choice(NUMBERS) % 256**size).to_bytes(size, order)


def digits(random, data, place, end, corpus):
    found = list(re.finditer(rb"\d+", data))
    if found:
        first, last = random.choice(found).span()
        data[first:last] = random.choice([b"0", b"-1", b"1", b"99999999", b"9" * 30, b"1.5"])


def token(random, data, place, end, corpus):
    new = random.choice(TOKENS)
    data[place : place + len(new)] = new


def inserted(random, data, place, end, corpus):
    data[place:place] = random.choice(TOKENS)


def cut(random, data, place, end, corpus):
    del data[place:]


def deleted(random, data, place, end, corpus):
    del data[place:end]


def doubled(random, data, place, end, corpus):
    data[place:place] = data[place:end] * random.choice([1, 10, 1000])


def spliced(random, data, place, end, corpus):
    other = random.choice(corpus)
    other = other.pack(other.members) if isinstance(other, Packed) else other
    start = random.randrange(len(other))
    data[place:end] = other[start : start + end - place]


def taken():
    """Bytes of memory that the process holds now; hypothesis lets them grow."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(name, count, seed, keep):
    """Read `count` damaged files. Returns {what became of them: how many}; findings begin with an exclamation mark."""
    reader, ends = READERS[name], collections.Counter()
    count = max(10, count // reader.slow)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzzing-"))
    path = folder / f"input{reader.suffix}"
    kept = keep / f"{name.replace(' ', '-')}{reader.suffix}"

    def finding(message, content):
        if f"! {message}" not in ends:
            kept.with_stem(f"{kept.stem}-{len(ends)}").write_bytes(content)
        ends[f"! {message}"] += 1

    def read(content):
        path.write_bytes(content)
        kept.write_bytes(content)  # stays there should the process die
        peak_before, before = peak(), taken()
        started = time.perf_counter()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            reader.read(path)
            ends["read"] += 1
        except BadInput as error:
            ends["refused"] += 1
            if not str(error).isprintable() or len(str(error)) > LONGEST_MESSAGE:
                finding(f"message {error!a:.300}", content)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            finding(f"{type(error).__name__} {error!s:.100} in {frame.filename}:{frame.lineno}", content)
        faulthandler.cancel_dump_traceback_later()
        ends["slowest ms"] = max(ends["slowest ms"], int(1000 * (time.perf_counter() - started)))
        if peak() > max(peak_before, before + reader.memory + 3 * len(content)):
            finding(f"memory {(peak() - before) // 10**8}00 MB", content)

    sample = reader.corpus[0]
    read(sample.pack(sample.members) if isinstance(sample, Packed) else sample)  # imports what it imports
    # One number for each input: drawing every choice apart takes longer than reading, and nothing is made smaller here.
    inputs = st.integers(0, 2**64 - 1).map(lambda drawn: damaged_input(random.Random(drawn), reader.corpus))
    test = hypothesis.seed(seed)(hypothesis.given(inputs)(read))
    hypothesis.settings(
        max_examples=count, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )(test)()  # fmt: skip
    kept.unlink()
    shutil.rmtree(folder)
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=1000, help="for each reader; slow ones take fewer (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = False
    for name in args.readers or READERS:
        started = time.perf_counter()
        ends = fuzz(name, args.inputs, args.seed, args.keep)
        print(f"{name}: {dict(ends)} in {time.perf_counter() - started:.0f} s", flush=True)
        found = found or any(end.startswith("!") for end in ends)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
