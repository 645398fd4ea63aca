"""Reading pickles and `.npy` files: all that is plain, from any Python and numpy, and nothing else."""

import collections
import io
import os
import pickle
import struct

import numpy as np
import pytest
from conftest import SHARED, python2_dumps

from common import safe_pickle
from common.files import BadInput

RNG = np.random.default_rng(0)
ARRAY = RNG.standard_normal((3, 4, 5)).astype(np.float32)
VALUES = {
    "array": ARRAY, "fortran": np.asfortranarray(ARRAY), "turned": ARRAY.transpose(1, 0, 2), "strided": ARRAY[::2, 1:],
    "big endian": ARRAY.astype(">f8"), "half": ARRAY.astype(np.float16), "bytes": np.arange(250, dtype=np.uint8),
    "bool": np.array([True, False]), "names": np.array(["stop", "yield"]), "raw": np.array([b"ab", b"c"]),
    "complex array": ARRAY * 1j, "zero-dimensional": np.array(7), "empty": np.zeros((0, 3)),
    "objects": np.array([[1, "a"], [None, [2]]], dtype=object), "scalar": np.float32(1.5), "dtype": np.dtype("<i2"),
    "numbers": [0, -1, 2**70, 1.5, True, None, 1 + 2j], "texts": ("ä\n", b"\xff\0", b""), "sets": {1, frozenset([2])},
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]), 5: {"nested": {"deep": [ARRAY, ARRAY]}},
}  # fmt: skip


def same(got, expected):
    if isinstance(expected, (np.ndarray, np.generic)):
        assert got.dtype == expected.dtype and got.shape == expected.shape and type(got) is type(expected)
        assert got.tolist() == expected.tolist()
    elif isinstance(expected, dict):
        assert type(got) is dict and list(got) == list(expected)
        for key in expected:
            same(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(got) is type(expected) and len(got) == len(expected)
        for one, other in zip(got, expected):
            same(one, other)
    else:
        assert type(got) is type(expected) and got == expected


def loaded(data):
    return safe_pickle.load(io.BytesIO(data), name="test.p")


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(protocol, tmp_path):
    (tmp_path / "values.p").write_bytes(pickle.dumps(VALUES, protocol))
    same(safe_pickle.load(tmp_path / "values.p"), VALUES)


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_numpy_1(protocol):
    """numpy 1 called its inner package `numpy.core`, numpy 2 calls it `numpy._core`."""
    pickled = pickle.dumps(ARRAY, protocol)
    if protocol < 4:
        pickled = pickled.replace(b"numpy._core", b"numpy.core")
    else:  # a length stands before the name, and before the frame that holds it
        pickled = pickled.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
        pickled = pickled.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
        pickled = pickled[:3] + struct.pack("<Q", len(pickled) - 11) + pickled[11:]
    assert b"_core" not in pickled
    same(loaded(pickled), ARRAY)


def test_python_2():
    written = {"features": ARRAY, "labels": [1, 2], "names": [b"caf\xe9", "stop"], 3: {"deep": np.float32(2)}}
    same(loaded(python2_dumps(written)), written | {"names": [b"caf\xe9", b"stop"]})


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "in a dict", "in an array"])
def test_nothing_runs(tmp_path, protocol, place):
    evil = Evil(os.mkdir, str(tmp_path / "ran"))
    value = {"alone": evil, "in a dict": {"features": ARRAY, "x": evil}, "in an array": np.array([evil], object)}[place]
    pickled = pickle.dumps(value, protocol)
    with pytest.raises(BadInput, match=r"test.p: refers to `\w+.mkdir`.*refused, nothing was run") as error:
        loaded(pickled)
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()
    pickle.loads(pickled)  # the ordinary reader does run it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("call", [eval, exec, getattr, __import__, np.load, pickle.loads, np.frombuffer, bytearray])
def test_other_functions_are_refused(call):
    with pytest.raises(BadInput, match="refers to"):
        loaded(pickle.dumps(Evil(call, "1")))


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY_ARRAY = RECONSTRUCT + b"(cnumpy\nndarray\n(K\x00tC\x01btR"


def dtype(kind, order=b"<", names=b"N"):
    made = b"cnumpy\ndtype\n(U" + bytes([len(kind)]) + kind + b"K\x00K\x01tR"
    return made + b"(K\x03U\x01" + order + b"N" + names + b"N" + (b"J" + b"\xff" * 4) * 2 + b"K\x00tb"


def array(shape, kind=b"f4", data=b"C\x04\0\0\0\0", **options):
    """The pickle of an array whose parts need not fit each other."""
    return b"\x80\x03" + EMPTY_ARRAY + b"(K\x01" + shape + dtype(kind, **options) + b"\x89" + data + b"tb."


def test_our_crafted_array_is_right_where_its_parts_fit():
    same(loaded(array(b"(K\x01t")), np.zeros(1, np.float32))


CRAFTED = {
    "too few bytes": array(b"(K\x02t"),
    "too many bytes": array(b"(t", b"f2"),
    "huge": array(b"(" + b"\x8a\x08" + b"\xff" * 7 + b"\x7ft"),
    "huge times zero": array(b"(K\x00" + b"\x8a\x08" + b"\xff" * 7 + b"\x7ft", data=b"C\x00"),
    "negative": array(b"(J\xff\xff\xff\xffJ\xff\xff\xff\xfft"),
    "fractional": array(b"(G?\xf0\0\0\0\0\0\0t"),
    "shape is a text": array(b"X\x01\0\0\x001"),
    "33 dimensions": array(b"(" + b"K\x01" * 33 + b"t"),
    "object pointers": array(b"(K\x01t", b"O8", data=b"C\x08\x01\0\0\0\0\0\0\0"),
    "fewer objects": array(b"(K\x03t", b"O", data=b"]"),
    "a list for numbers": array(b"(K\x01t", data=b"]"),
    "a record": array(b"(K\x01t", b"V4"),
    "a date": array(b"(K\x01t", b"M8"),
    "a type as text": array(b"(K\x01t", b"f4,O"),
    "no such type": array(b"(K\x01t", b"f3"),
    "names of fields": array(b"(K\x01t", names=b"]"),
    "byte order": array(b"(K\x01t", order=b"?"),
    "no data": b"\x80\x03" + EMPTY_ARRAY + b".",
    "array as a key": b"\x80\x03}" + EMPTY_ARRAY + b"(K\x01(K\x01t" + dtype(b"f4") + b"\x89C\x04\0\0\0\0tbK\x01s.",
    "a type as an array": b"\x80\x03" + EMPTY_ARRAY + b"(K\x01(K\x01tK\x05\x89C\x04\0\0\0\0tb.",
    "scalar of pointers": b"\x80\x03cnumpy.core.multiarray\nscalar\n(" + dtype(b"O8") + b"C\x08\x01\0\0\0\0\0\0\0tR.",
    "a function": b"\x80\x03" + RECONSTRUCT + b".",
    "a changed function": b"\x80\x03" + RECONSTRUCT + b"N}X\x04\0\0\0callNs\x86b0K\x01.",
    "a zip bomb": b"\x80\x03c_codecs\nencode\n(X\x01\0\0\0xX\x03\0\0\0zlbtR.",
    "many bytes": b"\x80\x03cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR.",
    "more than there is": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f",
    "itself": b"\x80\x03]q\x00h\x00a.",
    "deep": b"\x80\x03" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "list as a key": b"\x80\x03}]K\x01s.",
    "nothing on the stack": b"\x80\x03.",
    "memo place": b"\x80\x03]r\xff\xff\xff\x7fa.",
    "changed array": pickle.dumps(ARRAY, 5)[:-1] + b"(K\x01K\x05" + dtype(b"f4") + b"\x89C\x00tb.",
    "bytearray": b"\x80\x05\x96\0\0\0\0\x04\0\0\0.",
    "persistent id": b"\x80\x03K\x01Q.",
    "extension": b"\x80\x03\x82\x01.",
    "buffer from outside": b"\x80\x05\x97.",
    "empty": b"",
    "cut off": pickle.dumps(VALUES)[:-500],
    "cut off before the end mark": pickle.dumps([1, 2], 2)[:-1],
    "text": b"features,labels\n1,2\n",
    "web page": b"<!DOCTYPE html>\n<html>",
    "zeros": bytes(100),
    "newlines in a name": b"\x80\x04\x8c\x03a\nb\x8c\x03c\nd\x93.",
}


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_and_damaged_files(case):
    with pytest.raises(BadInput) as error:
        loaded(CRAFTED[case])
    message = str(error.value)
    assert message.startswith("test.p: ") and "\n" not in message and len(message) < 250, message


def test_every_cut_and_many_flipped_bits_raise_nothing_else():
    whole = pickle.dumps({"features": ARRAY[:1, :1], "labels": np.array([1, 2]), "names": ["a"]}, 2)
    for end in range(len(whole)):
        with pytest.raises(BadInput):
            loaded(whole[:end])
    for _ in range(3000):
        damaged = bytearray(whole)
        damaged[RNG.integers(len(whole))] = RNG.integers(256)
        try:
            loaded(bytes(damaged))
        except BadInput:
            pass


def test_absent_and_folder(tmp_path):
    for path in (tmp_path / "absent.p", tmp_path):
        for reader in (safe_pickle.load, safe_pickle.load_npy):
            with pytest.raises(BadInput, match="cannot be read"):
                reader(path)


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if isinstance(value, np.ndarray)])
def test_npy(name, tmp_path):
    np.save(tmp_path / "a.npy", VALUES[name], allow_pickle=True)
    same(safe_pickle.load_npy(tmp_path / "a.npy"), VALUES[name])


def npy(tmp_path, header, data=b""):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(data)
    return tmp_path / "a.npy"


@pytest.mark.parametrize("case", ["short", "absurd", "record", "text", "empty", "header", "evil", "cut off"])
def test_bad_npy(case, tmp_path):
    path = tmp_path / "a.npy"
    if case in ("short", "absurd", "record"):
        kind, shape = {"short": ("<f4", (9,)), "absurd": ("<f4", (2**60, 9)), "record": ([("a", "O")], (1,))}[case]
        npy(tmp_path, {"descr": kind, "fortran_order": False, "shape": shape}, bytes(35))
    else:
        np.save(path, np.array({"a": Evil(os.mkdir, str(tmp_path / "ran")) if case == "evil" else 1}, dtype=object))
        whole = path.read_bytes()
        path.write_bytes({
            "text": b"not weights\n", "empty": b"", "header": b"\x93NUMPY\x01\x00\x10\x00{'descr': os}   ",
            "evil": whole, "cut off": whole[:-9],
        }[case])  # fmt: skip
    with pytest.raises(BadInput) as error:
        safe_pickle.load_npy(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_pickle_of_the_course():
    path = SHARED.parent / "real" / "train.p"
    if not path.exists():
        pytest.skip("no train.p")
    signs = safe_pickle.load(path)
    assert signs["features"].shape == (39209, 32, 32, 3) and round(signs["features"].mean(), 5) == 82.66505
