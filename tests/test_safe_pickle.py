"""Reading pickles and `.npy` files: all that is plain, from any Python and numpy, and nothing else."""

import collections
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SHARED, python2_dumps, refused

from common import safe_pickle
from common.errors import BadInput

RNG = np.random.default_rng(0)
ARRAY = RNG.standard_normal((3, 4, 5)).astype(np.float32)
VALUES = {
    "array": ARRAY, "fortran": np.asfortranarray(ARRAY), "turned": ARRAY.transpose(1, 0, 2), "strided": ARRAY[::2, 1:],
    "big endian": ARRAY.astype(">f8"), "half": ARRAY.astype(np.float16), "bytes": np.arange(250, dtype=np.uint8),
    "bool": np.array([True, False]), "names": np.array(["stop", "yield"]), "raw": np.array([b"ab", b"c"]),
    "complex array": ARRAY * 1j, "zero-dimensional": np.array(7), "empty": np.zeros((0, 3)),
    "objects": np.array([[1, "a"], [None, [2]]], dtype=object),
    "turned objects": np.array([[1, 2, "c"], [4, None, 6]], dtype=object).T,
    "scalar": np.float32(1.5), "dtype": np.dtype("<i2"),
    "numbers": [0, -1, 2**70, 1.5, True, None, 1 + 2j],
    "texts": ("ä\n", b"\xff\0", b""), "sets": ({1, "a"}, frozenset([b"2"])),
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
    "no characters": array(b"(K\x01t", b"U1", data=b"C\x04\0\0\x11\0"),
    "no characters, swapped": array(b"(K\x01t", b"U1", data=b"C\x04\0\x11\0\0", order=b">"),
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
    "strings of no length": array(b"(J\xff\xff\xff\x7ft", b"S0", data=b"C\x00"),
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
    message = refused("pickle", loaded, CRAFTED[case])
    assert message.startswith("test.p: ") and len(message) < 250, message


def lists(depth):
    """A list that holds another twice, which holds another twice ...; each is put into the memo."""
    return b"]K\x01a\x94" + b"".join(b"](h%ch%ce\x94" % (place, place) for place in range(depth))


PAIRS = b"K\x01" + b"2\x86" * 60  # tuples that hold another twice
PROTOCOL = b"\x80\x04"
SHARED_LIST = b"](" + b"K\x01" * 100_000 + b"e\x94"  # the memo's place 0
HOSTILE = {
    "pairs 60 deep": PAIRS + b".",
    "pairs 60 deep as a key": b"}" + PAIRS + b"K\x01s.",
    "pairs 60 deep as one of several keys": b"}(" + PAIRS + b"K\x01u.",
    "pairs 60 deep as a key of protocol 0": b"(" + PAIRS + b"K\x01d.",
    "pairs 60 deep in a set": b"\x8f(" + PAIRS + b"\x90.",
    "pairs 60 deep in a frozenset": b"(" + PAIRS + b"\x91.",
    "pairs 60 deep in a set by name": b"cbuiltins\nset\n(](" + PAIRS + b"etR.",
    "pairs 60 deep in a frozenset by name": b"cbuiltins\nfrozenset\n(](" + PAIRS + b"etR.",
    "pairs 60 deep in an ordered dict": b"ccollections\nOrderedDict\n(](](" + PAIRS + b"K\x01eetR.",
    "pairs 60 deep as a shape": EMPTY_ARRAY + b"(K\x01" + PAIRS + dtype(b"f4") + b"\x89C\x00tb.",
    "pairs 60 deep as a dtype": b"cnumpy\ndtype\n(" + PAIRS + b"K\x00K\x01tR.",
    "pairs 60 deep as an encoding": b"c_codecs\nencode\n(X\x01\0\0\0x" + PAIRS + b"tR.",
    "pairs 60 deep as a function": PAIRS + b"(tR.",
    "pairs 60 deep as objects": EMPTY_ARRAY + b"(K\x01(K\x01t" + dtype(b"O") + b"\x89](" + PAIRS + b"etb.",
    "lists 28 deep": lists(28) + b".",
    "lists 28 deep as labels": lists(28) + b"0}U\x06labelsh\x1cs.",
    "dicts 40 deep": b"}" + b"".join(b"\x94}(K\x01h%cK\x02h%cu" % (i, i) for i in range(40)) + b".",
    "a long text 10,000 times": b"X\x40\x0d\x03\0" + b"x" * 200_000 + b"\x94](" + b"h\x00" * 10_000 + b"e.",
    "an array 10,000 times": array(b"(J\x40\x0d\x03\0t", b"u1", data=b"B\x40\x0d\x03\0" + bytes(200_000))[2:-1]
        + b"\x94](" + b"h\x00" * 10_000 + b"e.",
    "a long text among 10,000": b"](" + b"K\x01" * 10_000 + b"X\x40\x0d\x03\0" + b"x" * 200_000 + b"e.",
    "a frozenset in a set": b"\x8f((K\x01\x91\x90.",
    "a frozenset as a key": b"}(K\x01\x91K\x01s.",
    "a float as a key": b"}G" + bytes(8) + b"K\x01s.",
    "None as a key": b"}NK\x01s.",
    "an integer of 5,000 digits": b"\x8b\x1c\x08\0\0" + b"\x01" * 2076 + b".",
    "an integer of 5,000 digits as a key": b"}\x8b\x1c\x08\0\0" + b"\x01" * 2076 + b"K\x01s.",
    "an integer of 5,000 digits in text": b"L1" + b"0" * 5000 + b"L\n.",
    "an integer of 600 digits": b"\x8a\xff" + b"\x01" * 255 + b".",
    "an integer of 5,000 digits as a side": array(b"(\x8b\x1c\x08\0\0" + b"\x01" * 2076 + b"t")[2:],
    "lists 300,000 deep": b"]" * 300_000 + b"a" * 299_999 + b".",
    "tuples 300,000 deep": b"K\x01" + b"\x85" * 300_000 + b".",
    "tuples 300,000 deep as a key": b"}K\x01" + b"\x85" * 300_000 + b"K\x01s.",
    "tuples 300,000 deep in a set": b"\x8f(K\x01" + b"\x85" * 300_000 + b"\x90.",
    "dicts 300,000 deep": b"}K\x01" * 300_000 + b"K\x01" + b"s" * 300_000 + b".",
    "arrays 20,000 deep": (EMPTY_ARRAY + b"(K\x01(K\x01t" + dtype(b"O") + b"\x89](") * 20_000 + b"N"
        + b"etb" * 20_000 + b".",
    "101 deep, by parts that are shared": b"](K\x01\x85\x94" + b"".join(
        b"h" + bytes([i]) + b"\x85" * 60 + b"\x94" for i in range(3)) + b"e.",
    "empty sets": b"](" + b"\x8f" * 500_000 + b"e.",
    "empty lists": b"](" + b"]" * 1_700_000 + b"e.",
    "marks": b"(" * 1_700_000,
    "memo": b"N" + b"\x94" * 1_100_000 + b".",
    "copies as sets": SHARED_LIST + b"(" + b"cbuiltins\nset\n(h\x00tR" * 300 + b"l.",
    "copies as bytes": b"X\x40\x0d\x03\0" + b"x" * 200_000 + b"\x94("
        + b"c_codecs\nencode\n(h\x00U\x06latin1tR" * 3000 + b"l.",
    "copies as sets, in protocol 1": SHARED_LIST + b"(" + b"(cbuiltins\nset\nh\x00o" * 300 + b"l.",
    "copies as bytes, in protocol 0": b"X\x40\x0d\x03\0" + b"x" * 200_000 + b"\x94("
        + b"(h\x00U\x06latin1i_codecs\nencode\n" * 3000 + b"l.",
    "arrays of 100,000 arguments": SHARED_LIST + b"(" + b"cnumpy\nndarray\nh\x00R" * 300 + b"l.",
    "two arrays of the same objects": SHARED_LIST + b"(" + (
        EMPTY_ARRAY + b"(K\x01(J\xa0\x86\x01\0t" + dtype(b"O") + b"\x89h\x00tb") * 300 + b"l.",
}  # fmt: skip
LIMITED = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
from common import safe_pickle
from common.errors import BadInput
taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    resource.setrlimit(resource.RLIMIT_AS, (taken + 200_000_000 + 3 * path.stat().st_size, resource.RLIM_INFINITY))
    try:
        print(type(safe_pickle.load(path, path.name)), flush=True)
    except BadInput as error:
        print(error, flush=True)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """{case: what the reader says of it}, in one process with the memory that a file may take, and 100 s for all."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, case in enumerate(HOSTILE):
        (folder / f"{number:03d}").write_bytes(PROTOCOL + HOSTILE[case])
    command = [sys.executable, "-c", LIMITED, ROOT, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    lines = done.stdout.splitlines() + [f"{done.returncode}: {done.stderr[-1000:]}"]
    return dict(zip(HOSTILE, lines))


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs /proc and limits")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_in_bounded_memory_and_time(case, told):
    def told_again():
        raise BadInput(told[case])

    message = refused("pickle", told_again)
    assert message[3:].startswith(": is cut off, damaged or no pickle of plain values")
    assert "it asks for more memory" not in message  # refused before it did


def test_what_is_thrown_away_may_be_deep():
    assert loaded(PROTOCOL + b"K\x01" + b"\x85" * 300_000 + b"0K\x01.") == 1


CASES = SHARED / "cases"


@pytest.mark.parametrize("name", ["bigint_key", "frozenset_key", "newline_key", "sizes_bomb_28", "tuple_key_hang"])
def test_hostile_files_made_elsewhere(name):
    if not (CASES / f"{name}.p").exists():
        pytest.skip("the damaged and hostile files are not here")
    if name == "newline_key":  # plain values; the message of the kind must show them in one line
        assert isinstance(safe_pickle.load(CASES / f"{name}.p"), dict)
    else:
        refused("pickle", safe_pickle.load, CASES / f"{name}.p")


def test_much_that_is_shared_and_plain_is_read():
    """One tuple for 39,209 images of the same size, one name for each image of a class, a large array twice."""
    size, names, large = (32, 32), ["stop", "yield"], np.zeros(500_000, np.uint8)
    value = {"sizes": [size] * 39_209, "names": names * 20_000, "features": [large, large], 7: list(range(200_000))}
    for protocol in (2, 4):
        same(loaded(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_every_plain_key(protocol):
    value = {"text": 1, b"\xff": 2, 3: 4, np.int64(5): 6, True: 7}
    assert loaded(pickle.dumps(value, protocol)) == value


def test_every_cut_and_many_flipped_bits_raise_nothing_else():
    whole = pickle.dumps({"features": ARRAY[:1, :1], "labels": np.array([1, 2]), "names": ["a"]}, 2)
    for end in range(len(whole)):
        refused("pickle", loaded, whole[:end])
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


HEADERS = {
    "short": ("<f4", (9,)), "absurd": ("<f4", (2**60, 9)), "record": ([("a", "O")], (1,)),
    "no characters": ("<U1", (8,)),    "strings of no length": ("<U0", (2**60,)), "negative": ("<f4", (-1,)),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        "short",
        "absurd",
        "record",
        "no characters",
        "strings of no length",
        "negative",
        "text",
        "empty",
        "header",
        "evil",
        "cut off",
        "long header",
    ],
)
def test_bad_npy(case, tmp_path):
    path = tmp_path / "a.npy"
    if case in HEADERS:
        kind, shape = HEADERS[case]
        npy(tmp_path, {"descr": kind, "fortran_order": False, "shape": shape}, b"\x7f" * 35)
    else:
        np.save(path, np.array({"a": Evil(os.mkdir, str(tmp_path / "ran")) if case == "evil" else 1}, dtype=object))
        whole = path.read_bytes()
        path.write_bytes({
            "text": b"not weights\n", "empty": b"", "header": b"\x93NUMPY\x01\x00\x10\x00{'descr': os}   ",
            "evil": whole, "cut off": whole[:-9],
            "long header": b"\x93NUMPY\x02\x00" + (1 << 20).to_bytes(4, "little") + b" " * (1 << 20),
        }[case])  # fmt: skip
    message = refused("npy", safe_pickle.load_npy, path)
    assert message.startswith(f"{path}: ") and ("1,048,576 bytes" in message) == (case == "long header")
    assert not (tmp_path / "ran").exists()


def test_pickle_of_the_course():
    path = SHARED.parent / "real" / "train.p"
    if not path.exists():
        pytest.skip("no train.p")
    signs = safe_pickle.load(path)
    assert signs["features"].shape == (39209, 32, 32, 3) and round(signs["features"].mean(), 5) == 82.66505
